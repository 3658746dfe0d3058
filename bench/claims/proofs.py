"""Proofs of the published scores: what has to hold, a function a check, each yielding what does not.

Print rounds, so a mean of printed numbers is known up to half a unit of the last digit, and so is the printed mean it
is compared with. What lies within both is agreement; everything else is a finding.
"""

from __future__ import annotations

import re
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from decimal import Decimal
from itertools import pairwise
from math import prod

from bench.claims.numbers import Claim
from bench.claims.verdicts import attainable as judged
from bench.errors import UsageError
from bench.metrics.ids import parse
from bench.protocol import SEVEN
from bench.published.corrections import corrections
from bench.published.read import IMPOSSIBLE, MEAN, Paper, Score, method_names, protocols
from bench.published.references import ARXIV, arxiv_faults, references
from bench.registry import METHODS
from bench.setting import SETTINGS

MAD = "mad"
COSTS = ("params_m", "macs_g", "latency_ms", "images_per_second", "train_memory_mb", "train_hours")
SEEDS_MEAN = "seed=mean of 5"


@dataclass(frozen=True, slots=True)
class Violation:
    """Something that does not hold. `about` are the numbers concerned; empty where it is a whole table."""

    check: str
    text: str
    about: tuple[Score, ...] = ()

    def __str__(self) -> str:
        return f"{self.check}: {self.text}"


class Tables:
    """All rows by (paper, table), and how precisely each table prints; counts the comparisons that held."""

    def __init__(self, by_table: dict[tuple[str, str], tuple[Score, ...]]) -> None:
        self.by_table = by_table
        self.held: dict[str, int] = defaultdict(int)
        self._places: dict[tuple[str, str, str], int] = defaultdict(int)
        for score in self.rows():
            key = (score.paper, score.table, score.metric)
            self._places[key] = max(self._places[key], places(score.value))

    def rows(self) -> Iterator[Score]:
        """Yield every number."""
        for rows in self.by_table.values():
            yield from rows

    def unit(self, score: Score) -> Decimal:
        """Return what the last printed digit is worth: 0.1 for `100` and `100.` too where the others are `99.9`."""
        return Decimal(1).scaleb(-self._places[score.paper, score.table, score.metric])

    def compare(self, check: str, name: str, printed: Score, parts: Sequence[Score]) -> Iterator[Violation]:
        """Yield a finding if the mean of `parts` cannot have been rounded to what is printed."""
        mean = sum((part.number for part in parts), Decimal(0)) / len(parts)
        inexact = sum((self.unit(part) for part in parts), Decimal(0)) / len(parts) / 2
        if abs(mean - printed.number) <= inexact + self.unit(printed) / 2:
            self.held[check] += 1
        else:
            text = f"{spot(printed)}: printed {printed.value}, {name} give {mean:.3f}"
            yield Violation(check, text, (printed, *parts))


def places(value: str) -> int:
    """Return the number of digits behind the point."""
    return len(value.partition(".")[2])


def spot(score: Score) -> str:
    """Return what a number is about, and where it stands."""
    what = (score.method, score.variant, score.dataset, score.cls, score.setting, score.metric)
    return f"{', '.join(part for part in what if part)} ({score.where})"


def rows(tables: Tables) -> Iterator[Violation]:
    """Names are known, the paper and table are the file's own, and no number stands twice in a table."""
    for place, found in tables.by_table.items():
        seen: set[tuple[str, ...]] = set()
        for score in found:
            wrong = [
                f"unknown {kind} '{value}'"
                for kind, value, known in (
                    ("method", score.method, method_names()),
                    ("protocol", score.protocol, protocols()),
                    ("setting", score.setting, SETTINGS),
                )
                if value not in known
            ]
            wrong += [] if _is_metric(score.metric) else [f"unknown metric '{score.metric}'"]
            wrong += [] if (score.paper, score.table) == place else [f"stands in the file of {' table '.join(place)}"]
            wrong += (
                [] if bool(score.dataset and score.cls) != score.is_cost else ["costs alone have no dataset and class"]
            )
            key = (score.method, score.dataset, score.cls, score.setting, score.variant, score.label, score.metric)
            wrong += ["stands twice"] if key in seen else []
            seen.add(key)
            tables.held["rows"] += not wrong
            yield from (Violation("rows", f"{spot(score)}: {text}", (score,)) for text in wrong)


def _is_metric(metric: str) -> bool:
    if metric == MAD or metric in {f"cost/{cost}" for cost in COSTS}:
        return True
    try:
        parse(metric)
    except UsageError:
        return False
    return True


def in_range(tables: Tables) -> Iterator[Violation]:
    """Scores lie in 0 to 100, costs and stds are positive; a metric has equally many digits throughout a table."""
    for score in tables.rows():
        whole = score.number == 100 or score.is_cost
        good = score.number > 0 and (score.is_cost or score.number <= 100) and Decimal(score.std or 1) > 0
        if good and (whole or Decimal(1).scaleb(-places(score.value)) == tables.unit(score)):
            tables.held["range"] += 1
        else:
            yield Violation("range", f"{spot(score)}: {score.value}{score.std and ' ± '}{score.std}", (score,))


def shape(tables: Tables, papers: dict[str, Paper]) -> Iterator[Violation]:
    """Each table has as many numbers as its shape has cells, and they add up to its control total."""
    known = {(paper, number): table for paper, about in papers.items() for number, table in about.tables.items()}
    for place in sorted(known.keys() | tables.by_table.keys()):
        name = " table ".join(place)
        if place not in known or place not in tables.by_table:
            yield Violation("shape", f"{name} is {'not in papers.toml' if place in tables.by_table else 'missing'}")
            continue
        found, table = tables.by_table[place], known[place]
        cells = sum(prod(block) for block in table.blocks) - table.blank
        total = sum((score.number + Decimal(score.std or 0) for score in found), Decimal(0))
        if len(found) != cells:
            yield Violation("shape", f"{name} has {len(found)} numbers, its shape {table.blocks} has {cells}")
        elif total != table.total:
            yield Violation("shape", f"{name} adds up to {total}, its control total is {table.total}")
        else:
            tables.held["shape"] += 1


def means(tables: Tables) -> Iterator[Violation]:
    """A printed mean is the mean of its classes, half-splits or seeds; one that was corrected is so for certain."""
    for found in tables.by_table.values():
        classes: dict[tuple[str, ...], list[Score]] = defaultdict(list)
        seeds: dict[tuple[str, ...], list[Score]] = defaultdict(list)
        for score in found:
            if score.cls not in (MEAN, ""):
                classes[_line(score)].append(score)
            if score.label.startswith("seed="):
                seeds[score.method, score.dataset, score.metric].append(score)
        for score in found:
            if score.cls == MEAN and (parts := classes[_line(score)]):
                name = f"its {len(parts)} classes or splits"
                yield from tables.compare("means", name, score, parts)
                if score.correction is not None and score.used:
                    yield from tables.compare("corrections", name, replace(score, value=score.used), parts)
            if score.variant == SEEDS_MEAN:
                parts = seeds[score.method, score.dataset, score.metric]
                yield from tables.compare("means", f"its {len(parts)} seeds", score, parts)


def _line(score: Score) -> tuple[str, ...]:
    return score.method, score.dataset, score.setting, score.variant, score.label, score.metric


def mad(tables: Tables) -> Iterator[Violation]:
    """A printed mAD is the mean of the seven metrics, those of its own table first, then of the paper's others."""
    lines: dict[tuple[str, ...], list[Score]] = defaultdict(list)
    for score in tables.rows():
        if score.cls == MEAN:
            lines[score.paper, score.method, score.dataset, score.setting, score.variant].append(score)
    for line in lines.values():
        for printed in line:
            if printed.metric == MAD:
                near = sorted(line, key=lambda score: (score.table, score.label) != (printed.table, printed.label))
                first = {score.metric: score for score in reversed(near)}
                parts = [first[metric] for metric in SEVEN if metric in first]
                if len(parts) == len(SEVEN):
                    yield from tables.compare("mad", "its seven metrics", printed, parts)
                else:
                    yield Violation("mad", f"{spot(printed)}: its seven metrics are not all printed", (printed,))


def agreement(tables: Tables) -> Iterator[Violation]:
    """A number that stands in several tables is the same in all, as far as they print digits."""
    same: dict[tuple[str, ...], list[Score]] = defaultdict(list)
    for score in tables.rows():
        key = (score.method, score.dataset, score.cls, score.setting, score.variant, score.metric)
        same[key].append(score)
    for group in same.values():
        group.sort(key=tables.unit)
        apart = [pair for pair in pairwise(group) if not _agree(tables, *pair)]
        if apart:
            values = ", ".join(f"{score.value} in {score.where}" for score in group)
            yield Violation("agreement", f"{spot(group[0])}: {values}", tuple(group))
        elif len({score.where for score in group}) > 1:
            tables.held["agreement"] += 1


def _agree(tables: Tables, fine: Score, coarse: Score) -> bool:
    if tables.unit(fine) == tables.unit(coarse):
        return fine.number == coarse.number
    return abs(fine.number - coarse.number) <= tables.unit(coarse) / 2


def doubts(tables: Tables) -> Iterator[Violation]:
    """No number is known or feared to be printed wrongly where no sum and no other table tells; its note says so."""
    for score in tables.rows():
        if score.note.startswith(("misprint:", "doubtful:")):
            yield Violation("print", f"{spot(score)}: {score.value}, {score.note}", (score,))


def attainable(tables: Tables) -> Iterator[Violation]:
    """Image scores are ones that the official test images can give; what is not is noted so at the number."""
    by_row: dict[tuple[str, ...], dict[Claim, Score]] = defaultdict(dict)
    for score in tables.rows():
        if score.metric.startswith("image/"):
            row = (score.paper, score.table, score.setting, score.variant, score.label)
            by_row[row][Claim.of(score, tables.unit(score))] = score
    for line in by_row.values():
        proofs: dict[Score, list[str]] = defaultdict(list)
        for verdict in judged(line):
            if verdict.kind == "impossible":
                proofs[line[verdict.claims[0]]].append(verdict.proof)
                about = tuple(line[claim] for claim in verdict.claims)
                yield Violation("attainable", f"{spot(about[0])}: {about[0].value}, {verdict.proof}", about)
        for score in line.values():
            noted = score.note.removeprefix(IMPOSSIBLE) if score.note.startswith(IMPOSSIBLE) else ""
            if noted != "; ".join(proofs[score]):
                proven = "; ".join(proofs[score]) or "nothing wrong"
                yield Violation("notes", f"{spot(score)}: noted '{noted}', the counts prove '{proven}'", (score,))
            tables.held["attainable"] += not proofs[score]


def corrected(tables: Tables) -> Iterator[Violation]:
    """Each correction is about as many printed numbers as it says, and changes them."""
    for correction in corrections():
        about = tuple(score for score in tables.rows() if correction.names(score))
        changed = all(score.value != score.used for score in about)
        if len(about) == correction.count and changed:
            tables.held["corrections"] += 1
        else:
            what = f"is about {len(about)} numbers, expected {correction.count}" if changed else "changes nothing"
            yield Violation("corrections", f"'{correction}' {what}", about)


def addresses(tables: Tables, papers: dict[str, Paper]) -> Iterator[Violation]:
    """Every method has a reference of well-formed key and addresses, with which papers and the methods' files agree.

    Each number stands in two places, so that one that was mistyped or mistaken for another paper's is not believed.
    """
    found = references()
    for name in sorted(method_names().keys() ^ found.keys()):
        yield Violation("addresses", f"{name} is {'not in methods.toml' if name in found else 'without a reference'}")
    for kind in ("key", "arxiv", "doi", "title"):
        seen = Counter(getattr(reference, kind) for reference in found.values())
        yield from (Violation("addresses", f"{kind} {one} stands twice") for one, n in seen.items() if one and n > 1)
    for name, reference in found.items():
        wrong = [*reference.faults()]
        cited = _cited(name)
        if reference.arxiv and cited and cited != reference.arxiv:
            wrong.append(f"arXiv {reference.arxiv}, but the method's own file says {cited}")
        tables.held["addresses"] += not wrong
        yield from (Violation("addresses", f"reference {name}: {text}") for text in wrong)
    for name, paper in papers.items():
        wrong = [*arxiv_faults(paper.arxiv, int(paper.venue.rpartition(" ")[2]))]
        if paper.method:
            reference = found[paper.method]
            wrong += [] if paper.arxiv == reference.arxiv else [f"arXiv {paper.arxiv}, its reference {reference.arxiv}"]
            families = [author.split()[-1] for author in paper.authors.split(", ")]
            if families != [author.split()[-1] for author in reference.authors]:
                wrong.append(f"authors {paper.authors}, its reference {', '.join(reference.authors)}")
        tables.held["addresses"] += not wrong
        yield from (Violation("addresses", f"{name}: {text}") for text in wrong)


def _cited(method: str) -> str:
    """Return the first arXiv number in the head of the method's own file; empty where bench has no such file."""
    if method not in METHODS.builtin:
        return ""
    head = METHODS.docstring(method).partition("\n\n")[2].partition("\n\n")[0]
    cited = re.search(rf"arXiv ({ARXIV.pattern})", head)
    return cited[1] if cited else ""


def every(tables: Tables, papers: dict[str, Paper]) -> Iterable[Violation]:
    """Yield the findings of all checks."""
    yield from rows(tables)
    yield from in_range(tables)
    yield from shape(tables, papers)
    yield from means(tables)
    yield from mad(tables)
    yield from agreement(tables)
    yield from doubts(tables)
    yield from attainable(tables)
    yield from corrected(tables)
    yield from addresses(tables, papers)
