"""Numbers of a table with what they claim: method, dataset, class and metric, read off the words around each."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from decimal import Decimal
from functools import cache

from bench.claims.counts import TestSet
from bench.claims.grids import Grid
from bench.errors import UsageError
from bench.metrics import ids
from bench.published.read import MEAN, Score, method_names
from bench.registry import DATASETS

_NUMBER = re.compile(r"[-–]?\s*(\d{1,3}(?:\.\d*)?|\.\d+)\s*%?\s*((?:±|\+-|\+/-|\().*)?[*†‡§]*")
_DASHES = frozenset({"", "-", "--", "---", "–", "—", "n/a", "na", "nan", "×"})
_LEVELS = {
    "image": ("image", "img", "i", "detection", "det", "classification", "cls", "sample", "sp"),
    "pixel": ("pixel", "pix", "px", "p", "localization", "localisation", "loc", "segmentation", "seg"),
}
_KINDS = {
    "auroc": ("auroc", "auc", "rocauc", "aucroc", "roc"),
    "ap": ("ap", "aupr", "averageprecision", "auprc"),
    "f1max": ("f1max", "f1", "maxf1", "f1score"),
    "aupro@0.3": ("aupro", "pro", "aupro30", "aupro03"),
}
_SLASHED = re.compile(r"[\w@.-]+(?:\s*/\s*[\w@.-]+)+")
_MEANS = frozenset({"mean", "average", "avg", "total", "overall", "mean±std"})


@dataclass(frozen=True, slots=True)
class Claim:
    """One printed number and what it is said to be."""

    method: str
    """As printed, or bench's name of it where that is the same method."""
    dataset: str
    cls: str
    """A class, or `mean` over those of the dataset."""
    metric: str
    """A metric id."""
    text: str
    """As printed, without a point that ends it."""
    value: Decimal
    """Percent."""
    unit: Decimal
    """What the last printed digit is worth, percent."""
    averaged: bool
    """Whether it is a mean over several runs, which no single confusion matrix gives."""
    where: str

    @property
    def test(self) -> TestSet | None:
        """Return the official test images of its class; None for a mean, and where the card does not count them."""
        found = counts(self.dataset).get(self.cls)
        return found if found is not None and found.pairs else None

    @classmethod
    def of(cls, score: Score, unit: Decimal) -> Claim:
        """Return what a transcribed number claims."""
        averaged = bool(score.std) or score.variant.startswith("seed=mean")
        text = score.value.rstrip(".")
        return cls(
            score.method, score.dataset, score.cls, score.metric, text, score.number, unit, averaged, score.where
        )

    def __str__(self) -> str:
        return f"{self.method}, {self.dataset} {self.cls}, {self.metric} {self.text}"


@cache
def counts(dataset: str) -> Mapping[str, TestSet]:
    """Return the official test images by class; empty where the dataset's card does not have them."""
    if dataset not in DATASETS.targets:
        return {}
    card = DATASETS.load(dataset).card
    return {name: TestSet(one.good, one.bad) for name, one in card.counts.items()} if not card.splits else {}


@dataclass
class Unread:
    """Numbers that no claim could be made of."""

    lacking: dict[str, int]
    """What is not said of them (`dataset`, `metric`, ...), and of how many."""


def claims(grid: Grid, dataset: str | None, metric: str | None, averaged: bool) -> tuple[list[Claim], Unread]:
    """Read a table.

    Args:
        grid: it.
        dataset: what it is about, where it does not say so.
        metric: likewise, a metric id.
        averaged: whether all of its numbers are means over several runs.

    Returns:
        The claims in the table's order, and what could not be understood.

    Raises:
        UsageError: it is a table with one number a line that lacks a column.
    """
    first = next((row for row, cells in enumerate(grid.rows) if _numbers(cells)), len(grid.rows))
    heads, body = grid.rows[:first], grid.rows[first:]
    if not body:
        return [], Unread({})
    titles = [_key(cell) for cell in heads[-1]] if heads else []
    long = {"metric", "value"} <= set(titles)
    if long and "method" not in titles:
        raise UsageError(f"{grid.file}: columns metric and value, but no method. Expected method, class, metric, value")
    found: list[Claim] = []
    lacking: dict[str, int] = defaultdict(int)
    for words, cell, metrics in _cells(grid, heads, body, titles if long else []):
        for part, one_metric in metrics or [(cell, "")]:
            number = _NUMBER.fullmatch(part.strip())
            if number is None:
                continue
            said = _said(words, grid.caption, dataset, one_metric or metric)
            if isinstance(said, str):
                lacking[said] += 1
                continue
            value = Decimal(number[1])
            found.append(Claim(*said, part.strip(), value, Decimal(0), averaged or bool(number[2]), _where(grid)))
    return _scaled(found), Unread(dict(lacking))


def _where(grid: Grid) -> str:
    return f"{grid.file.name}, table at {grid.place}"


def _cells(
    grid: Grid, heads: Sequence[Sequence[str]], body: Sequence[Sequence[str]], titles: Sequence[str]
) -> Iterator[tuple[list[str], str, list[tuple[str, str]]]]:
    """Yield the words that a number stands under and beside, its cell, and the cell's parts with their metrics."""
    above: list[list[str]] = [[] for _ in grid.rows[0]]
    for head in heads:
        carried = ""
        for column, cell in enumerate(head):
            carried = cell or carried
            above[column].append(carried)
    group, beside_last = "", [""] * len(grid.rows[0])
    for row in body:
        filled = [cell for cell in row if cell]
        if not _numbers(row):
            group = filled[0] if len(set(filled)) == 1 else group
            continue
        first = 0 if titles else next(column for column, cell in enumerate(row) if _is_number(cell))
        # a first column that names several rows is printed once
        beside = [cell or last for cell, last in zip(row[:first], beside_last, strict=False)]
        beside_last[: len(beside)] = beside
        if titles:
            named = dict(zip(titles, row, strict=False))
            yield [named.get(title, "") for title in ("method", "dataset", "class", "metric")], named["value"], []
            continue
        for column in range(first, len(row)):
            words = [*above[column], *beside, group]
            yield words, row[column], _triple(row[column], [*words, *_SLASHED.findall(grid.caption)])


def _numbers(cells: Sequence[str]) -> bool:
    return sum(map(_is_number, cells)) > 0


def _is_number(cell: str) -> bool:
    return any(_NUMBER.fullmatch(part.strip()) for part in cell.split("/")) and not _is_class_like(cell)


def _is_class_like(cell: str) -> bool:
    # an input size or a year in front of a row is no score
    return bool(re.fullmatch(r"\d{3,}", cell.strip())) and cell.strip() != "100"


def _triple(cell: str, words: Sequence[str]) -> list[tuple[str, str]]:
    """Return the parts of `99.6/99.9/98.4` with their metrics, named likewise in the head: `AUROC/AP/F1`."""
    parts = cell.split("/")
    for word in words if len(parts) > 1 else ():
        kinds = re.split(r"\s*/\s*", word)
        if len(kinds) == len(parts):
            found = [_metric([kind, *words]) for kind in kinds]
            if all(found):
                return [(part, one) for part, one in zip(parts, found, strict=True) if one]
    return []


def _said(
    words: Sequence[str], caption: str, dataset: str | None, metric: str | None
) -> tuple[str, str, str, str] | str:
    """Return method, dataset, class and metric; or which of these is not said."""
    rest = [word for word in words if word]
    set_words = {word: name for word in rest if (name := _datasets().get(_key(word)))}
    where = next(iter(set_words.values()), "") or dataset or _in_caption(caption)
    if not where:
        return "dataset"
    metric = metric or _metric(rest)
    if metric is None:
        return "metric"
    classes = {_key(name): name for name in counts(where)}
    cls = next((classes[_key(word)] for word in rest if _key(word) in classes), "")
    cls = cls or (MEAN if any(_key(word) in _MEANS for word in rest) or not _other_class(rest, where) else "")
    if not cls:
        return "class"
    left = [
        word
        for word in rest
        if word not in set_words and _key(word) not in (*classes, *_MEANS) and _metric([word], partly=True) is None
    ]
    method = next((known for word in left if (known := _methods().get(_key(word)))), left[-1] if left else "")
    return (method, where, cls, metric) if method else "method"


def _other_class(words: Sequence[str], dataset: str) -> bool:
    """Return whether a word names a class of another dataset, so that the number is no mean over this one's."""
    others = {_key(name) for one in ("mvtec", "visa") if one != dataset for name in counts(one)}
    return any(_key(word) in others for word in words)


def _metric(words: Sequence[str], partly: bool = False) -> str | None:
    """Return the metric that words name together; with `partly`, also where they name a level or a kind alone."""
    level = kind = ""
    for word in words:
        known = ids.known(word.strip())
        if known is not None:
            return str(known)
        key = _key(word)
        for name, spellings in _KINDS.items():
            for spelt in spellings:
                if not (key.endswith(spelt) or key.startswith(spelt)):
                    continue
                lead = key.removesuffix(spelt) if key.endswith(spelt) else key.removeprefix(spelt)
                lead = lead.removesuffix("level").removesuffix("wise").removeprefix("m")
                if lead in ("", *_LEVELS["image"], *_LEVELS["pixel"]):
                    kind = kind or name
                    level = level or next((one for one, known in _LEVELS.items() if lead in known), "")
        lead = key.removesuffix("level").removesuffix("wise").removesuffix("metrics")
        level = level or next((one for one, known in _LEVELS.items() if lead in known), "")
    if partly:
        return kind or level or None
    if kind == "aupro@0.3":
        return f"pixel/{kind}"
    return f"{level}/{kind}" if level and kind else None


def _key(word: str) -> str:
    return re.sub(r"[^a-z0-9±+]", "", word.lower().replace("æ", "ae"))


@cache
def _datasets() -> dict[str, str]:
    found: dict[str, str] = {}
    for name in DATASETS.builtin:
        loaded = DATASETS.load(name)
        for word in (name, loaded.card.title, *getattr(loaded, "aliases", ())):
            found.setdefault(_key(word), name)
    return found


def _in_caption(caption: str) -> str:
    key = _key(caption)
    named = {name for word, name in _datasets().items() if len(word) > 3 and word in key}
    return named.pop() if len(named) == 1 else ""


@cache
def _methods() -> dict[str, str]:
    return {_key(word): name for name, title in method_names().items() for word in (name, title)}


def _scaled(found: Sequence[Claim]) -> list[Claim]:
    """Bring fractions to percent, and say what a last digit is worth: as many as the metric's column has at most."""
    fractions = bool(found) and max(claim.value for claim in found) <= 1
    factor = Decimal(100 if fractions else 1)
    places: dict[str, int] = defaultdict(int)
    for claim in found:
        digits = _NUMBER.fullmatch(claim.text)
        places[claim.metric] = max(places[claim.metric], len(digits[1].partition(".")[2]) if digits else 0)
    return [
        replace(claim, value=claim.value * factor, unit=factor * Decimal(1).scaleb(-places[claim.metric]))
        for claim in found
    ]
