"""Rows of results: all that one configuration scored on one dataset with one seed, from its records.

In most settings that is one record. Where a setting makes several models of a dataset (one a class, one a half-split),
it is one record a part, and the row's mean is over the parts; a mean over some of them is never given.
"""

from __future__ import annotations

import json
from collections.abc import Hashable, Iterable
from dataclasses import dataclass
from functools import cached_property

from bench.combined import groups
from bench.setting import is_each
from bench.store.agreement import mean
from bench.store.facts import AUTHORS, ClassScores
from bench.store.record import Record


@dataclass(frozen=True)
class Row:
    """Records of one row, at least one, all done and all of the same configuration."""

    records: tuple[Record, ...]

    @property
    def head(self) -> Record:
        """Return the first record: what does not differ between parts may be read from it."""
        return self.records[0]

    @property
    def title(self) -> str:
        """Return a short name without part and seed: `dinomaly on fmnist, multi`."""
        title = self.head.cell.model_copy(update={"part": ""}).title
        return title if self.head.imported is None else f"{title}, {AUTHORS}"

    @property
    def run(self) -> str:
        """Return the title with the seed, where there is one: `dinomaly on fmnist, multi, seed 0`."""
        return self.title if self.head.imported is not None else f"{self.title}, {self.head.run}"

    @cached_property
    def lines(self) -> dict[str, ClassScores]:
        """Return the scores by class or part."""
        return {name: scores for record in self.records for name, scores in record.scores.items()}

    @cached_property
    def groups(self) -> dict[str, list[str]]:
        """Return the lines by dataset where one model is of several; nothing else."""
        return groups(self.head.cell.dataset, [*self.lines])

    def mean_of(self, lines: Iterable[str], metric: str) -> float | None:
        """Return the mean over some of the lines; None where one has no value."""
        return mean(value(self.lines[name], metric) for name in lines)

    @property
    def unit(self) -> str:
        """Return what the lines are: `classes`, or `splits` of a semantic set."""
        halves = self.head.dataset.kind == "semantic" and not is_each(self.head.cell.setting)
        return "splits" if halves else "classes"

    @property
    def missing(self) -> str:
        """Return an empty string for a complete row, and `3/4 splits` for one whose other parts are not there."""
        found, known = len(self.records), self.head.dataset.parts_known
        return f"{found}/{known} {self.unit}" if found < known else ""

    @cached_property
    def metrics(self) -> tuple[str, ...]:
        """Return what was measured of any part, and then the extra metrics that any line has."""
        own = (metric for record in self.records for metric in record.protocol.metrics)
        extra = (metric for scores in self.lines.values() for metric in scores.extra)
        return tuple(dict.fromkeys((*own, *extra)))

    def mean(self, metric: str) -> float | None:
        """Return the mean over all classes or parts; None for an incomplete row or where one has no value."""
        if self.missing:
            return None
        if metric not in self._means:
            self._means[metric] = mean(value(scores, metric) for scores in self.lines.values())
        return self._means[metric]

    @property
    def relabelled_note(self) -> str | None:
        """Return what a table says of images that are not scored by the dataset's label; None where all are."""
        counts = {name: count for record in self.records for name, count in record.dataset.relabelled.items()}
        if not counts:
            return None
        shown = ", ".join(f"{name} {count}" for name, count in counts.items())
        return f"anomalous images scored as normal, their masks being empty once resized: {shown}"

    @cached_property
    def _means(self) -> dict[str, float | None]:
        # several tables and rankings ask for the same ones
        return {}


def value(scores: ClassScores, metric: str) -> float | None:
    """Return a metric of the protocol or an extra one; None where the class does not have it."""
    return scores.values.get(metric, scores.extra.get(metric))


def rows(records: Iterable[Record]) -> list[Row]:
    """Group done records into rows, in the order in which each row and each part first appears.

    Of several records of one part (its data changed, for example) the newest counts.
    """
    found: dict[Hashable, dict[str, Record]] = {}
    for record in records:
        if record.status != "done":
            continue
        parts = found.setdefault(_row_of(record), {})
        known = parts.get(record.cell.part)
        if known is None or record.created >= known.created:
            parts[record.cell.part] = record
    return [Row(tuple(parts.values())) for parts in found.values()]


def configuration(record: Record) -> Hashable:
    """Return what is equal for two records exactly when they are to differ in nothing but seed, part and data."""
    cell = record.cell
    return (
        *(cell.dataset, cell.method, cell.setting, cell.shots),
        *(record.protocol.hash, record.metric_version, json.dumps(record.config, sort_keys=True)),
        *(record.encoder_id[1], record.environment.precision, record.reduced.get("train")),
        record.calibration.share if record.calibration is not None else None,
        # each part has a file of its own
        None if record.imported is None else "" if cell.part else record.imported.sha256,
    )


def _row_of(record: Record) -> Hashable:
    """Return what is equal for two records exactly when they are parts of one row, or the same cell run twice."""
    cell, shared = record.cell, (configuration(record), record.cell.seed)
    # each part has images of its own, so their fingerprint tells rows apart only where there are no parts
    return (*shared, "parts") if cell.part else (*shared, cell.classes, record.dataset.fingerprint)
