"""Published scores as tidy rows: one number of a paper's table each, as printed. Light: the standard library alone.

A CSV file a table, `<paper>/table<number>.csv`; papers and their tables are described in papers.toml, protocols in
protocols.toml. `python -m bench.claims.check` proves the transcription.
"""

from __future__ import annotations

import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, field
from decimal import Decimal, InvalidOperation
from functools import cache
from pathlib import Path
from typing import Any

from bench.errors import UsageError
from bench.loading.tables import CsvRow, TableError, read_table
from bench.published.corrections import Correction, correction_of

FOLDER = Path(__file__).parent
DIGITS = 12
"""Numbers with more before the point are neither scores nor costs."""
MEAN = "mean"
"""What stands in place of a class for a mean that the paper prints."""
IMPOSSIBLE = "impossible: "
"""How the note of a number begins that no run can have given; the proof follows, see bench.claims."""
HEADER = (
    "method",
    "dataset",
    "class",
    "setting",
    "variant",
    "label",
    "metric",
    "value",
    "std",
    "paper",
    "table",
    "protocol",
    "note",
)
"""Columns of every file; the order is that of Score's fields."""


@dataclass(frozen=True, slots=True)
class Score:
    """One printed number and what it is about."""

    method: str
    dataset: str
    """Empty for costs, which belong to no dataset."""
    cls: str
    """A class, a half-split (`A` to `D`), `mean` for a printed mean over them, or empty (costs)."""
    setting: str
    """`multi` or `single`, see bench.setting."""
    variant: str
    """What differs from the method's default, such as `input=280`; empty for the method as its authors propose it."""
    label: str
    """How the paper heads the number's row (in a table by class, its column), citation marks left out."""
    metric: str
    """A metric id of bench.metrics, `mad`, or `cost/...` with its unit in the name: what the paper calls the number.
    Variants are a matter of the protocol, see `computed_as`."""
    value: str
    """As printed. Scores are percent."""
    std: str
    """As printed behind the plus-minus sign; empty where there is none."""
    paper: str
    table: str
    protocol: str
    """How the number was computed, a key of protocols.toml."""
    note: str
    """What a reader of this one number has to know; empty for nearly all."""

    @property
    def correction(self) -> Correction | None:
        """Return what is used in place of the printed digits; None for nearly all."""
        return correction_of(self)

    @property
    def number(self) -> Decimal:
        """Return the printed value: percent for scores, the metric's unit for costs."""
        return Decimal(self.value.replace(",", ""))

    @property
    def used(self) -> str:
        """Return the digits to show and compare: the printed ones unless corrected; empty where none can be used."""
        return self.value if self.correction is None else self.correction.value

    @property
    def remark(self) -> str:
        """Return what a reader has to know: the note, or what was printed and why something else is used."""
        if self.correction is None:
            doubt = "; used as printed" if self.note.startswith(("misprint:", "doubtful:", IMPOSSIBLE)) else ""
            return f"{self.note}{doubt}"
        used = f"{self.used} is used here" if self.used else "compared with nothing"
        return f"printed {self.value}; {self.correction.reason}; {used}"

    @property
    def is_cost(self) -> bool:
        """Return whether this is a cost and no score."""
        return self.metric.startswith("cost/")

    @property
    def amount(self) -> float | None:
        """Return what is used, as records hold it: a score in [0, 1], a cost in its unit; None where none can be."""
        if not self.used:
            return None
        used = Decimal(self.used.replace(",", ""))
        return float(used if self.is_cost else used / 100)

    @property
    def computed_as(self) -> str:
        """Return the metric id with the variant by which the number was computed; empty where that is not known."""
        return protocols()[self.protocol].metrics.get(self.metric, "")

    @property
    def where(self) -> str:
        """Return paper and table: `vitad table 5`."""
        return f"{self.paper} {self.table if self.table == 'text' else f'table {self.table}'}"


def files() -> list[Path]:
    """Return the files of all tables, sorted by paper and name."""
    return sorted(FOLDER.glob("*/*.csv"))


def read(path: Path) -> tuple[Score, ...]:
    """Return the rows of one file in the paper's order.

    Raises:
        UsageError: no such table (see `bench.loading.tables`), or a value that is no number.
    """
    try:
        return tuple(_score(path, row) for row in read_table(path, HEADER))
    except TableError as error:
        raise UsageError(f"{path}: {error}. {_SEE}") from error


_SEE = "Check with: python -m bench.claims.check"


def _score(path: Path, row: CsvRow) -> Score:
    where = f"{path}, line {row.line}"
    if row.fault:
        raise UsageError(f"{where}: {row.fault}. {_SEE}")
    score = Score(*(row.cells[column] for column in HEADER))
    try:
        finite = all(
            number.is_finite() and number.adjusted() < DIGITS for number in (score.number, Decimal(score.std or 0))
        )
    except InvalidOperation:
        finite = False
    if not finite:
        raise UsageError(f"{where}: value '{score.value}', std '{score.std}', expected numbers. {_SEE}")
    return score


@cache
def scores() -> tuple[Score, ...]:
    """Return every published number, table by table."""
    return tuple(score for path in files() for score in read(path))


@cache
def _index() -> dict[tuple[str, str, str, str], tuple[Score, ...]]:
    found: dict[tuple[str, str, str, str], list[Score]] = {}
    for score in scores():
        found.setdefault((score.method, score.dataset, score.cls, score.metric), []).append(score)
    return {key: tuple(rows) for key, rows in found.items()}


def lookup(
    method: str, dataset: str, cls: str, metric: str, *, setting: str | None = "multi", variant: str | None = ""
) -> tuple[Score, ...]:
    """Return every publication of one number; empty where no paper prints it. Several papers may, and may disagree.

    Args:
        method: as in bench, for example `rd4ad`.
        dataset: as in bench; empty for costs.
        cls: a class, a half-split, or MEAN; empty for costs.
        metric: as in Score.
        setting: None for every setting.
        variant: empty for the method's default; None for every variant.
    """
    return tuple(
        score
        for score in _index().get((method, dataset, cls, metric), ())
        if (setting is None or score.setting == setting) and (variant is None or score.variant == variant)
    )


@dataclass(frozen=True, slots=True)
class PaperTable:
    """What papers.toml says of a table, apart from its numbers."""

    title: str
    blocks: tuple[tuple[int, ...], ...]
    """The table's shape: the cells of each block of it, as factors (classes, methods, metrics)."""
    total: Decimal
    """Sum of all values and stds of the file, so that no digit changes unnoticed."""
    blank: int = 0
    """Cells that the paper leaves empty or marks as not available."""


@dataclass(frozen=True, slots=True)
class Paper:
    """A source of numbers. `absent` says what of its tables is not here, and why."""

    method: str
    """What it proposes; its reference is this one's, see bench.published.references. Empty where it compares methods
    of others alone."""
    title: str
    authors: str
    venue: str
    """Where and when it appeared, as far as this version of it goes."""
    arxiv: str
    absent: str
    tables: dict[str, PaperTable]
    short: str = ""
    """What it is called where it proposes no method."""

    @property
    def name(self) -> str:
        """Return a short name: `Dinomaly, CVPR 2025`."""
        return f"{self.short or method_names()[self.method]}, {self.venue}"

    @property
    def url(self) -> str:
        """Return the address of the preprint."""
        return f"https://arxiv.org/abs/{self.arxiv}"


@dataclass(frozen=True, slots=True)
class Computed:
    """How the numbers under a protocol tag were computed, as far as their paper and its code tell."""

    summary: str
    metrics: dict[str, str]
    """Metric id as in Score -> the id with its variant by which bench computes the same."""
    source: str
    rules: Mapping[str, Any] = field(default_factory=dict)
    """Rules that differ between papers, see protocols.toml; empty where they are not known."""


@cache
def papers() -> dict[str, Paper]:
    """Return all papers by id."""
    found = {}
    for name, values in _toml("papers").items():
        tables = {
            number: PaperTable(
                title=table["title"],
                blocks=tuple(tuple(block) for block in table["blocks"]),
                total=Decimal(table["total"]),
                blank=table.get("blank", 0),
            )
            for number, table in values.pop("tables").items()
        }
        found[name] = Paper(**values, tables=tables)
    return found


@cache
def protocols() -> dict[str, Computed]:
    """Return what each protocol tag stands for."""
    return {name: Computed(**values) for name, values in _toml("protocols").items()}


@cache
def method_names() -> dict[str, str]:
    """Return the name of each method as papers print it: `rd4ad` -> `RD4AD`."""
    return dict(_toml("methods"))


def _toml(name: str) -> dict[str, Any]:
    return tomllib.loads((FOLDER / f"{name}.toml").read_text(encoding="utf-8"))
