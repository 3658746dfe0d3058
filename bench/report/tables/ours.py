"""Measured lines of tables: a method under one configuration, on any number of datasets.

records -> rows (bench.store.rows) -> Entry: all seeds of a row -> Line: the entries of all datasets
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable, Collection, Hashable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from bench.report.tables.line import Line, Origin, Unmarked
from bench.report.tables.names import method_title
from bench.report.tables.seeds_of import Seeds, protocol_title, spelt
from bench.report.tables.table import Source, TableCell
from bench.store.apart import apart
from bench.store.facts import AUTHORS
from bench.store.record import Record
from bench.store.rows import Row, configuration, rows


@dataclass
class OurLine(Line):
    """A method under one configuration: its entries by dataset."""

    method: str
    title: str
    """With what tells it from other configurations of its name: `Dinomaly (dropout 0.4)`."""
    entries: dict[str, Seeds] = field(default_factory=dict)
    expected: frozenset[str] = frozenset()
    """Settings whose change the title tells."""
    source: Source = field(default="ours", init=False)
    name: str = field(init=False)
    """What it shares with the other configurations of the method, or of the suite's row."""

    def __post_init__(self) -> None:
        self.name = self.title

    def cell(self, dataset: str, cls: str, metric: str) -> TableCell:
        """Return a number, see Entry.cell."""
        return self.entries[dataset].cell(cls, metric) if dataset in self.entries else TableCell()

    def notes(self, dataset: str, unmarked: Unmarked) -> tuple[str, ...]:
        """Return what a reader has to know, see Entry.notes."""
        return self.entries[dataset].notes(unmarked, self.expected) if dataset in self.entries else ()

    def comparable(self, dataset: str, metric: str) -> Hashable:
        """Return the key of numbers that compare, see Entry.comparable."""
        return self.entries[dataset].comparable(metric) if dataset in self.entries else None

    def pooled(self, dataset: str, metric: str) -> TableCell:
        """Return the score of all classes ranked together, see Entry.pooled."""
        return self.entries[dataset].pooled(metric) if dataset in self.entries else TableCell()

    def machine(self, dataset: str) -> tuple[str, ...]:
        """Return what was changed and where the costs were measured, see Entry.machine."""
        return self.entries[dataset].machine if dataset in self.entries else ()

    def origin(self, dataset: str = "") -> Origin:
        """Return the protocol, and on one dataset the images too."""
        entries = [self.entries[dataset]] if dataset in self.entries else list(self.entries.values())
        heads = [entry.head for entry in entries]
        rules = {(head.protocol.name, head.protocol.version, head.metric_version) for head in heads}
        names = ", ".join(sorted({name for name, _, _ in rules}))
        # an incomplete row has other images for that reason alone
        images = entries[0].images if dataset and not entries[0].missing else ""
        return Origin("ours", tuple(sorted(rules)), f"Ours, protocol {names}", images)

    @property
    def datasets(self) -> tuple[str, ...]:
        """Return the datasets with an entry."""
        return tuple(self.entries)

    def classes(self, dataset: str) -> tuple[str, ...]:
        """Return the classes or splits that have scores."""
        return self.entries[dataset].classes if dataset in self.entries else ()

    def extra(self, dataset: str) -> tuple[str, ...]:
        """Return metrics beside the seven, see Entry.extra."""
        return self.entries[dataset].extra if dataset in self.entries else ()

    def units(self, dataset: str) -> Mapping[str, str]:
        """Return the unit of each metric that is no share."""
        return self.entries[dataset].units if dataset in self.entries else {}

    @property
    def heads(self) -> tuple[Record, ...]:
        """Return a record an entry."""
        return tuple(entry.head for entry in self.entries.values())


def group(records: Iterable[Record]) -> list[Seeds]:
    """Group records into entries, in the order in which each first appears; seeds ascend."""
    found: dict[Hashable, list[Row]] = {}
    for row in rows(records):
        found.setdefault((configuration(row.head), _images(row.head)), []).append(row)
    return [Seeds(tuple(sorted(seeds, key=lambda row: row.head.cell.seed))) for seeds in found.values()]


def lines(
    entries: Iterable[Seeds], say: Callable[[str], None] = lambda text: None, name: str = "", told: Collection[str] = ()
) -> list[OurLine]:
    """Join the entries of one configuration into lines whose titles tell them apart.

    Where one configuration has several entries of a dataset (some classes, or images that changed since), the one with
    all classes counts, then the newest; the others are said.

    Args:
        entries: of any methods and datasets.
        say: told what is left out.
        name: what all lines are called; empty for the names of their methods.
        told: settings whose change the name tells.
    """
    found: dict[Hashable, list[OurLine]] = {}
    for entry in entries:
        cell = entry.head.cell
        alike = found.setdefault(_across_datasets(entry.head), [])
        line = next((line for line in alike if _same_protocol(line, entry.head)), None)
        if line is None:
            line = OurLine(cell.method, _named(entry.head, name), expected=frozenset(told))
            alike.append(line)
        known = line.entries.get(cell.dataset)
        if known is None:
            line.entries[cell.dataset] = entry
            continue
        better, other = sorted((known, entry), key=lambda one: (not one.missing, one.head.created), reverse=True)
        line.entries[cell.dataset] = better
        why = f"it has {other.missing}" if other.missing else "other images or classes, and older"
        say(f"left out: {other.rows[0].title}, {other.head.cell.fingerprint}: {why}")
    made = [line for alike in found.values() for line in alike]
    for shared in {line.name: None for line in made}:
        _tell_apart([line for line in made if line.name == shared])
    return made


_BARE = ("method", "setting", "protocol", "encoder", "precision")
"""Facts that are understood without their names."""


def _tell_apart(alike: Sequence[OurLine]) -> None:
    heads = [line.heads[0] for line in alike]
    hashes, weights = Counter[str](), Counter[str]()
    hashes.update(name for name, _ in {(head.protocol.name, head.protocol.hash) for head in heads})
    weights.update(name for name, _ in {head.encoder_id for head in heads})
    facts = []
    for head in heads:
        cell, protocol, (encoder, digest) = head.cell, head.protocol, head.encoder_id
        read = "" if weights[encoder] == 1 else f" {digest[:8]}"
        facts.append(
            {
                "method": cell.method,
                "setting": f"{cell.setting} {cell.shots}" if cell.shots else cell.setting,
                "protocol": protocol.name if hashes[protocol.name] == 1 else protocol_title(head),
                "encoder": f"{encoder}{read}",
                "input": head.input_size,
                "precision": head.environment.precision,
                "metrics": f"v{head.metric_version}",
                "held back": f"{head.calibration.share:g}" if head.calibration is not None else "none",
                **{key: head.config.get(key) for key in head.changed if key not in ("encoder", "input_size")},
            }
        )
    for line, own in zip(alike, apart(facts), strict=True):
        words = [spelt(value) if key in _BARE else f"{key} {spelt(value)}" for key, value in own.items()]
        line.title = f"{line.name} ({', '.join(words)})" if words else line.name


def _images(record: Record) -> Hashable:
    # parts, and seeds that choose images, have images of their own
    return () if record.cell.part or record.cell.chooses else (record.cell.classes, record.dataset.fingerprint)


def _across_datasets(record: Record) -> Hashable:
    # a paper's settings differ by dataset, so what tells configurations apart is what departs from them
    changes = {name: record.config.get(name) for name in record.changed}
    return (_identity(record), json.dumps(changes, sort_keys=True))


def _same_protocol(line: OurLine, head: Record) -> bool:
    """Return whether a record's protocol is the line's; a paper's may be another on datasets of another kind."""
    kind = head.dataset.kind
    return all(known.protocol.hash == head.protocol.hash for known in line.heads if known.dataset.kind == kind)


def _identity(record: Record) -> Hashable:
    cell = record.cell
    return (
        *(cell.method, cell.setting, cell.shots, record.protocol.name, record.metric_version),
        *(record.encoder_id[1], record.environment.precision),
        record.calibration.share if record.calibration is not None else None,
        record.imported is not None,
    )


def _named(record: Record, name: str) -> str:
    shown = name or method_title(record.cell.method)
    return shown if record.imported is None else f"{shown}, {AUTHORS}"
