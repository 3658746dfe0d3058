"""Published lines of tables: a method as one paper has it, on any number of datasets."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Hashable, Iterable, Sequence
from dataclasses import dataclass, field
from statistics import fmean

from bench.errors import UsageError
from bench.published import MEAN, Score, papers, protocols, scores
from bench.registry import did_you_mean
from bench.report.tables.line import Line, Origin, Unmarked
from bench.report.tables.names import base, heading, method_title, parts
from bench.report.tables.subset import ALL, Scopes, printed
from bench.report.tables.table import Source, TableCell

SHOTS = "shots="
"""How the variant of a few-shot row begins; the number of training images a class follows."""
Place = tuple[str, str, str]
"""Dataset, class (empty for a printed mean) and metric."""


@dataclass
class PrintedLine(Line):
    """A method as a paper prints it."""

    method: str
    title: str
    variant: str = ""
    """What differs from the method's default, see bench.published.Score."""
    setting: str = "multi"
    scores: dict[Place, Score] = field(default_factory=dict)
    source: Source = field(default="published", init=False)

    def cell(self, dataset: str, cls: str, metric: str) -> TableCell:
        """Return a printed number; a mean over metrics is computed where it is not printed and all of them are."""
        found = self.scores.get((dataset, cls, metric)) or self.scores.get(("", "", metric))
        if found is None and base(metric) != metric:
            # papers do not name the variant that their code computes
            found = self.scores.get((dataset, cls, base(metric)))
            found = found if found is not None and found.computed_as == metric else None
        if found is not None:
            notes = (found.remark,) if found.remark else ()
            if found.amount is None:
                return TableCell(text=found.value, notes=notes, where=found.where)
            spread = float(found.std) / (1 if found.is_cost else 100) if found.std else None
            return TableCell(found.amount, std=spread, printed=found.used, notes=notes, where=found.where)
        of = parts(metric)
        known = [score for score in (self.scores.get((dataset, cls, one)) for one in of) if score is not None]
        amounts = [score.amount for score in known if score.amount is not None]
        if not of or len(amounts) < len(of):
            return TableCell()
        remarks = tuple(dict.fromkeys(score.remark for score in known if score.remark))
        return TableCell(fmean(amounts), notes=remarks, where=", ".join(dict.fromkeys(score.where for score in known)))

    def notes(self, dataset: str, unmarked: Unmarked) -> tuple[str, ...]:
        """Return how the numbers were computed, protocol by protocol."""
        chosen = [score for (name, _, _), score in self.scores.items() if name == dataset]
        tags = dict.fromkeys(score.protocol for score in chosen if not score.is_cost)
        return tuple(_computed(tag) for tag in tags)

    def comparable(self, dataset: str, metric: str) -> Hashable:
        """Return the key of numbers that a paper itself compares: those of its tables."""
        wanted = (metric, base(metric), *parts(metric))
        found = {
            score.paper for (name, _, one), score in self.scores.items() if name in (dataset, "") and one in wanted
        }
        return ("published", *sorted(found))

    def origin(self, dataset: str = "") -> Origin:
        """Return the papers that print it."""
        own = {
            score.paper for (name, _, _), score in self.scores.items() if name == dataset or (name and not dataset)
        } or {score.paper for score in self.scores.values()}
        named = "; ".join(papers()[paper].name for paper in papers() if paper in own)
        return Origin("published", tuple(sorted(own)), f"Published: {named}")

    @property
    def datasets(self) -> tuple[str, ...]:
        """Return the datasets with a printed number."""
        return tuple(dict.fromkeys(dataset for dataset, _, _ in self.scores if dataset))

    def classes(self, dataset: str) -> tuple[str, ...]:
        """Return the classes or splits with a printed number."""
        return tuple(dict.fromkeys(cls for name, cls, _ in self.scores if name == dataset and cls))


def _computed(tag: str) -> str:
    known = protocols()[tag]
    rules = [
        f"{heading(metric)} by the rule {exact.partition(':')[2]}"
        for metric, exact in known.metrics.items()
        if ":" in exact
    ]
    return " ".join([known.summary, *([f"{', '.join(rules)}."] if rules else [])])


def of_tables(names: Sequence[str], scopes: Scopes = ALL) -> list[PrintedLine]:
    """Return the lines of some papers' tables in the paper's order; lines of one method and variant are joined.

    Args:
        names: `dinomaly_cvpr2025 1` and the like.
        scopes: datasets whose means are over some classes. Numbers of these are recomputed, of the same paper where it
            has them by class, else of another.

    Raises:
        UsageError: no such paper or table.
    """
    found: dict[Hashable, PrintedLine] = {}
    for name in names:
        for score in _table(name):
            key = (score.method, score.variant, score.setting)
            _add(
                found.setdefault(key, PrintedLine(score.method, _plain(score.label), score.variant, score.setting)),
                score,
            )
    lines = list(found.values())
    own = {name.partition(" ")[0] for name in names}
    for dataset, scope in scopes.items():
        choices = _by_method(printed(dataset, scope), own)
        for line in lines:
            asked = {place: score for place, score in line.scores.items() if place[0] != dataset}
            if len(asked) < len(line.scores):
                line.scores = asked
                for score in choices.get((line.method, line.variant, line.setting), ()):
                    _add(line, score)
    _entitle(lines)
    return [line for line in lines if line.scores]


def _by_method(found: Iterable[Score], own: Collection[str]) -> dict[Hashable, list[Score]]:
    """Return the numbers of each method, variant and setting: of one paper and protocol, one of `own` before others."""
    choices: dict[Hashable, dict[tuple[str, str], list[Score]]] = {}
    for score in found:
        by_paper = choices.setdefault((score.method, score.variant, score.setting), {})
        by_paper.setdefault((score.paper, score.protocol), []).append(score)
    return {
        about: by_paper[max(by_paper, key=lambda of, by_paper=by_paper: (of[0] in own, _rank(of, by_paper[of])))]  # type: ignore[misc]
        for about, by_paper in choices.items()
    }


def _rank(of: tuple[str, str], found: Sequence[Score]) -> tuple[int, bool, int]:
    """Return what makes one paper and protocol a better choice than another: numbers, a stated recipe, its place."""
    numbers = len({(score.cls, score.metric) for score in found})
    return (numbers, not of[1].startswith("unstated"), -list(papers()).index(of[0]))


def beside(
    methods: Iterable[str], datasets: Collection[str], setting: str, shots: int | None = None, scopes: Scopes = ALL
) -> list[PrintedLine]:
    """Return a line a method with what papers print of it on some datasets and of its costs, for a table of our own.

    All numbers of one dataset come from one paper and protocol: the one that prints most of them, a stated protocol
    before an unstated one, then the paper that stands first in papers.toml. Means are recomputed on datasets in
    `scopes`.
    """
    pools = {dataset: printed(dataset, scope) for dataset, scope in scopes.items() if dataset in datasets}
    # costs are of no dataset
    whole = [score for score in scores() if score.dataset in (*datasets, "") and score.dataset not in pools]
    by_dataset: dict[str, list[Score]] = {}
    for score in (*whole, *(score for pool in pools.values() for score in pool)):
        by_dataset.setdefault(score.dataset, []).append(score)
    choices = [_by_method(found, ()) for found in by_dataset.values()]
    lines = []
    for method in methods:
        line = PrintedLine(method, method_title(method), setting=setting)
        for chosen in choices:
            for score in chosen.get((method, of_shots(shots), setting), ()):
                _add(line, score)
        if line.scores:
            lines.append(line)
    return lines


def of_shots(shots: int | None) -> str:
    """Return the variant that published rows of so many training images a class are; empty for all images."""
    return "" if shots is None else f"{SHOTS}{shots}"


def metrics_of(lines: Iterable[PrintedLine]) -> tuple[str, ...]:
    """Return the metrics of some lines in the order of their first appearance."""
    return tuple(dict.fromkeys(metric for line in lines for _, _, metric in line.scores))


def _add(line: PrintedLine, score: Score) -> None:
    cls = "" if score.cls == MEAN else score.cls
    # of several tables that print a number, the first counts
    line.scores.setdefault((score.dataset, cls, score.metric), score)


def _table(name: str) -> list[Score]:
    paper, _, number = name.partition(" ")
    known = papers()
    if paper not in known:
        raise UsageError(f"published '{name}': unknown paper.{did_you_mean(paper, known)} Known: {', '.join(known)}")
    if number not in known[paper].tables:
        raise UsageError(
            f"published '{name}': {paper} has no table '{number}'. It has: {', '.join(known[paper].tables)}"
        )
    return [score for score in scores() if score.paper == paper and score.table == number]


def _plain(label: str) -> str:
    """Return a paper's label without the marks that only its own caption explains."""
    return label.removesuffix("(Ours)").rstrip(" †∗")


def _entitle(lines: Sequence[PrintedLine]) -> None:
    """Name lines as a reader of one table tells them apart: by method, by label, or by both where labels repeat."""
    of_method = Counter(line.method for line in lines)
    shared = len({line.title for line in lines}) < len(lines)
    for line in lines:
        if shared:
            line.title = f"{method_title(line.method)}, {line.title}"
        elif len(of_method) > 1 and of_method[line.method] == 1:
            line.title = method_title(line.method)
