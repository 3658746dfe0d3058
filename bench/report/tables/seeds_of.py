"""Seeds of one configuration on one dataset: mean and spread of its numbers, and what a reader has to know."""

from __future__ import annotations

import json
from collections.abc import Collection, Hashable, Iterable
from dataclasses import dataclass
from functools import cached_property
from statistics import fmean

from bench.combined import INSIDE
from bench.report.tables.costs import COUNTS, cost
from bench.report.tables.line import Unmarked
from bench.report.tables.names import COLUMNS, base, heading, parts
from bench.report.tables.table import TableCell
from bench.stats import spread
from bench.store.record import UNCHECKED, Record
from bench.store.rows import Row, value


@dataclass(frozen=True)
class Seeds:
    """All seeds of one configuration on one dataset: a row each, at least one."""

    rows: tuple[Row, ...]

    @property
    def head(self) -> Record:
        """Return the first record."""
        return self.rows[0].head

    @property
    def records(self) -> tuple[Record, ...]:
        """Return the records of all seeds and parts."""
        return tuple(record for row in self.rows for record in row.records)

    @cached_property
    def classes(self) -> tuple[str, ...]:
        """Return the classes or splits that have scores; of several models in the order of their names."""
        names = tuple(dict.fromkeys(name for row in self.rows for name in row.lines))
        return tuple(sorted(names)) if self.head.cell.part else names

    @cached_property
    def missing(self) -> str:
        """Return an empty string where all classes or parts are there, else how many are: `14/15 classes`."""
        for row in self.rows:
            found, known = len(row.lines), row.head.dataset.classes_known
            if row.missing:
                return row.missing
            if not row.head.cell.part and found < known:
                return f"{found}/{known} classes"
        return ""

    @cached_property
    def extra(self) -> tuple[str, ...]:
        """Return the ids of metrics that have a column of their own beside the field's seven."""
        shown = {self.metric(name) for name in COLUMNS}
        return tuple(dict.fromkeys(name for row in self.rows for name in row.metrics if name not in shown))

    @cached_property
    def units(self) -> dict[str, str]:
        """Return the unit of each metric that is no share."""
        return {metric: unit for record in self.records for metric, unit in record.units.items()}

    def metric(self, wanted: str) -> str:
        """Return the id by which this entry has a metric, its variant included; empty where it has none."""
        return self._own.get(wanted, "")

    @cached_property
    def _own(self) -> dict[str, str]:
        names = [name for row in self.rows for name in row.metrics]
        # where a protocol has a variant in the place of a metric, the variant stands in the metric's column
        stand_ins = {base(name): name for name in reversed(self.head.protocol.metrics) if base(name) not in names}
        return stand_ins | {name: name for name in names}

    def cell(self, cls: str, metric: str) -> TableCell:
        """Return a number as a cell: the mean over seeds, with their standard deviation where there are several.

        Args:
            cls: a class or split; empty for the mean over all.
            metric: a metric id without its variant, `mad`, or `cost/...`.
        """
        found = [_number(self, row, cls, metric) for row in self.rows]
        numbers = [number for number in found if number is not None]
        if len(numbers) < len(found):
            return self._lacking(cls, metric)
        seeds = spread(numbers)
        std = None if metric.startswith("cost/") else seeds.std
        return TableCell(seeds.mean, std=std, records=self._fingerprints)

    @cached_property
    def _fingerprints(self) -> tuple[str, ...]:
        return tuple(record.cell.fingerprint for record in self.records)

    def _lacking(self, cls: str, metric: str) -> TableCell:
        """Return what stands in place of a number: how many classes have one, or why none has."""
        of = () if self.metric(metric) else parts(metric)
        if metric.startswith("cost/") or of:
            partly = metric == "cost/train_hours" or (bool(of) and all(map(self._any, of)))
            return TableCell(text=self.missing.partition(" ")[0] if partly and not cls else "")
        if not cls and self.missing and self._any(metric):
            return TableCell(text=self.missing.partition(" ")[0])
        exact = self.metric(metric)
        for row in self.rows:
            lines = {name: scores for name, scores in row.lines.items() if not cls or name == cls}
            absent = [name for name, scores in lines.items() if value(scores, exact) is None]
            if absent and exact:
                reasons = dict.fromkeys(lines[name].undefined.get(exact, "no value") for name in absent)
                where = "" if cls or len(absent) == len(lines) else f" ({', '.join(absent)})"
                text = f"{len(lines) - len(absent)}/{len(lines)}" if 0 < len(absent) < len(lines) else ""
                return TableCell(text=text, notes=(f"{'; '.join(reasons)}{where}",))
        return TableCell()

    def _any(self, metric: str) -> bool:
        """Return whether any class has a value of a metric."""
        exact = self.metric(metric)
        return any(value(scores, exact) is not None for row in self.rows for scores in row.lines.values())

    def changed(self, expected: Collection[str] = ()) -> str:
        """Return what is not as the method's paper has it: `steps = 1000, dropout = 0.0`; empty for nothing else."""
        # the encoder first: it changes most
        names = sorted(set(self.head.changed) - set(expected), key=lambda name: (name != "encoder", name))
        return ", ".join(f"{name} = {spelt(self.head.config.get(name))}" for name in names)

    @property
    def images(self) -> str:
        """Return the fingerprint of the images; empty where parts, or seeds that choose images, have their own."""
        head = self.head
        return "" if head.cell.part or head.cell.chooses else head.dataset.fingerprint

    def pooled(self, metric: str) -> TableCell:
        """Return the score of all classes ranked together as a cell: the mean over seeds; empty where one has none."""
        exact = self.metric(metric)
        pools = [record.pooled for record in self.records if record.pooled is not None]
        found = [pool.values.get(exact) for pool in pools]
        numbers = [number for number in found if number is not None]
        if numbers and len(numbers) == len(self.records):
            seeds = spread(numbers)
            return TableCell(seeds.mean, std=seeds.std, records=self._fingerprints)
        return TableCell(notes=tuple(dict.fromkeys(pool.undefined[exact] for pool in pools if exact in pool.undefined)))

    @property
    def machine(self) -> tuple[str, ...]:
        """Return what was changed and where the costs were measured."""
        changed = self.changed()
        places = (record.environment for record in self.records)
        found = [f"on {one.device}, {one.processor}, {one.precision}" for one in places]
        trained = [record.training for record in self.records if record.training is not None]
        if any(training.resumed_at for training in trained):
            found.append("training was interrupted and taken up again; all attempts count")
        return tuple(dict.fromkeys([*([f"not the paper's settings: {changed}"] if changed else []), *found]))

    def notes(self, unmarked: Unmarked, expected: Collection[str] = ()) -> tuple[str, ...]:
        """Return what a reader has to know of this entry.

        Args:
            unmarked: what is not noted.
            expected: settings whose change the row's title tells.
        """
        head = self.head
        found = [origin.note for origin in (head.external, head.imported) if origin is not None]
        if changed := self.changed(expected):
            found.append(f"not the paper's settings: {changed}")
        if head.reduced_note is not None:
            found.append(head.reduced_note)
        if head.protocol.hash != unmarked.protocol:
            found.append(f"protocol {protocol_title(head)}")
            found += variants(head.protocol.metrics)
        if head.metric_version != unmarked.metric_version:
            found.append(f"version {head.metric_version} of the metric code")
        if (relabelled := self.rows[0].relabelled_note) is not None:
            found.append(relabelled)
        if self.images not in ("", unmarked.data.get(head.cell.dataset)) and not self.missing:
            found.append(f"other images than the rows without this mark (data {self.images})")
        if len(self.rows) > 1:
            seeds = ", ".join(str(row.head.cell.seed) for row in self.rows)
            found.append(f"mean ± standard deviation over {len(self.rows)} seeds ({seeds})")
        if head.environment.precision != "fp32":
            found.append(f"trained in {head.environment.precision}")
        found += dict.fromkeys(note for record in self.records for note in record.dataset.notes)
        if any(record.unchecked for record in self.records):
            found.append(UNCHECKED)
        if self.missing:
            found.append(f"{self.missing}; no mean over fewer is given")
        return tuple(found)

    def comparable(self, metric: str) -> Hashable:
        """Return a key that two entries share exactly when their numbers compare; None for incomplete ones."""
        head = self.head
        if metric.startswith("cost/"):
            where = head.environment
            return "count" if metric in COUNTS else (where.device, where.cpu, where.threads, where.precision)
        if self.missing:
            return None
        cell = head.cell
        return (cell.setting, cell.shots, head.protocol.hash, head.metric_version, self.images, self.metric(metric))


def protocol_title(record: Record) -> str:
    """Return a protocol's name, version and hash, as records carry them."""
    return f"{record.protocol.name} v{record.protocol.version} ({record.protocol.hash})"


def variants(metrics: Iterable[str]) -> list[str]:
    """Return a sentence for each metric that is another people's variant and not the exact definition."""
    found = []
    for metric in metrics:
        if ":" in metric:
            from bench.registry import METRICS

            name, _, rule = metric.partition(":")
            key = f"{name.partition('@')[0]}:{rule}"
            known = f": {METRICS.load(key).definition}" if key in METRICS.targets else ""
            found.append(f"{heading(name)} by the rule {rule}{known}")
    return found


def spelt(setting: object) -> str:
    """Return a setting's value as notes and titles spell it."""
    return setting if isinstance(setting, str) else json.dumps(setting)


def _number(entry: Seeds, row: Row, cls: str, metric: str) -> float | None:
    if metric.startswith("cost/"):
        # a sum over some of the models is no price of all
        return cost(row.records, metric) if metric != "cost/train_hours" or not row.missing else None
    if not cls and entry.missing:
        return None
    exact = entry.metric(metric)
    if not exact:
        values = [_number(entry, row, cls, one) for one in parts(metric)]
        known = [value for value in values if value is not None]
        return fmean(known) if values and len(known) == len(values) else None
    if cls.endswith(INSIDE):
        return row.mean_of(row.groups.get(cls.removesuffix(INSIDE), ()), exact)
    return row.mean(exact) if not cls else value(row.lines[cls], exact) if cls in row.lines else None
