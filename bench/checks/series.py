"""A series: the rows of one configuration, one a seed. What a baseline is, and what is compared with it."""

from __future__ import annotations

from collections.abc import Hashable, Iterable
from dataclasses import dataclass
from statistics import fmean

from bench.metrics.ids import column
from bench.store.calibration import OPERATING
from bench.store.record import Record
from bench.store.rows import Row, configuration, rows, value

MEAN = "mean"
"""Name of the line that holds the means over classes or parts."""

Subject = tuple[str, str, str, int | None]
"""What is measured: dataset, method, setting, shots."""


def subject(record: Record) -> Subject:
    """Return what two records share when they measure the same, be it by other rules."""
    cell = record.cell
    return cell.dataset, cell.method, cell.setting, cell.shots


def identity(record: Record) -> tuple[Subject, str]:
    """Return what two records share when one is a newer try at the other: subject and protocol name."""
    return subject(record), record.cell.protocol


@dataclass(frozen=True, slots=True)
class Series:
    """Rows that differ in their seed alone, at least one, by ascending seed."""

    rows: tuple[Row, ...]

    @property
    def head(self) -> Record:
        """Return a record to read from what all share."""
        return self.rows[0].head

    @property
    def seeds(self) -> tuple[int, ...]:
        """Return the seeds."""
        return tuple(row.head.cell.seed for row in self.rows)

    @property
    def records(self) -> tuple[Record, ...]:
        """Return the records of all seeds and parts."""
        return tuple(record for row in self.rows for record in row.records)

    @property
    def title(self) -> str:
        """Return a short name: `dinomaly on mvtec, multi, protocol common`."""
        return f"{self.rows[0].title}, protocol {self.head.cell.protocol}"

    @property
    def lines(self) -> tuple[str, ...]:
        """Return the classes or parts that any seed has, then the mean over them."""
        return (*dict.fromkeys(name for row in self.rows for name in row.lines), MEAN)

    @property
    def metrics(self) -> tuple[str, ...]:
        """Return the metrics that any seed has, and what its operating points are worth."""
        measured = [metric for row in self.rows for metric in row.metrics]
        held = [record.calibration for record in self.records if record.calibration is not None]
        return tuple(
            dict.fromkeys([*measured, *(name for one in held for at in one.classes.values() for name in at.worth)])
        )

    def values(self, line: str, metric: str) -> list[float]:
        """Return the fractions of one line and metric, a seed each; seeds without a value are left out."""
        found = [of(row, line, metric) for row in self.rows]
        return [number for number in found if number is not None]


def of(row: Row, line: str, metric: str) -> float | None:
    """Return the fraction of one line of a row, which may be the mean; None where there is none."""
    if metric.partition("@")[0] in OPERATING:
        found = _worth(row, metric)
        if line != MEAN:
            return found.get(line)
        known = [number for number in found.values() if number is not None]
        return fmean(known) if len(known) == len(row.lines) and not row.missing else None
    if line == MEAN:
        return row.mean(metric)
    return value(row.lines[line], metric) if line in row.lines else None


def _worth(row: Row, metric: str) -> dict[str, float | None]:
    held = [record.calibration for record in row.records if record.calibration is not None]
    return {cls: points.worth.get(metric) for one in held for cls, points in one.classes.items()}


def higher_is_better(metric: str) -> bool | None:
    """Return which way is better; None of a metric that is not at hand."""
    name = metric.partition("@")[0]
    return OPERATING[name] if name in OPERATING else column(metric).higher_is_better


def series(records: Iterable[Record]) -> list[Series]:
    """Group done records into series, in the order in which each first appears. Of one seed the newest row counts."""
    found: dict[Hashable, dict[int, Row]] = {}
    for row in rows(records):
        cell = row.head.cell
        # where seeds choose training images their data differs; parts differ within a row
        data = None if cell.part or cell.chooses else (cell.classes, row.head.dataset.fingerprint)
        seeds = found.setdefault((configuration(row.head), data), {})
        known = seeds.get(cell.seed)
        if known is None or row.head.created >= known.head.created:
            seeds[cell.seed] = row
    return [Series(tuple(seeds[seed] for seed in sorted(seeds))) for seeds in found.values()]
