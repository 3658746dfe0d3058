"""What figures are made of: lines of ours with a label and a place of their own, the same in every figure."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from bench.report.evidence import Evidence
from bench.report.ours import Entry, OurLine
from bench.stats import Images
from bench.store.record import Record


@dataclass(frozen=True, slots=True)
class Series:
    """A method under one configuration, as every figure calls and colours it."""

    line: OurLine
    label: str
    place: int
    """Gives its colour and line style."""

    def entry(self, dataset: str) -> Entry:
        """Return all seeds on a dataset."""
        return self.line.entries[dataset]

    def images(self, dataset: str, evidence: Evidence) -> dict[str, Images]:
        """Return the first seed's per-image scores by class or part. Raises Lacking."""
        found: dict[str, Images] = {}
        for record in self.entry(dataset).rows[0].records:
            found |= {cls: images for cls, images in evidence.images(record).items() if cls in record.scores}
        return found

    def record_of(self, dataset: str, cls: str) -> Record:
        """Return the first seed's record that scored a class or part."""
        return next(record for record in self.entry(dataset).rows[0].records if cls in record.scores)


def series(lines: Sequence[OurLine]) -> list[Series]:
    """Return lines with labels that tell them apart."""
    return [Series(line, label, place) for place, (line, label) in enumerate(zip(lines, labels(lines), strict=True))]


def labels(lines: Sequence[OurLine]) -> list[str]:
    """Return a label a line: the method's title and, where several lines share it, what differs between these."""
    found = []
    for line in lines:
        alike = [other for other in lines if other.title == line.title]
        facts = [_facts(other) for other in alike]
        own = _facts(line)
        keys = dict.fromkeys(key for one in facts for key in one)
        differing = [key for key in keys if len({one.get(key, "") for one in facts}) > 1]
        # a few words tell most configurations apart; the table has all of them
        chosen = _fewest(facts, differing)
        words = [f"{key} {own[key]}" if key not in _BARE else own[key] for key in chosen if own.get(key)]
        found.append(f"{line.title} ({', '.join(words)})" if words else line.title)
    repeated = {label for label in found if found.count(label) > 1}
    seen: dict[str, int] = {}
    for place, label in enumerate(found):
        if label in repeated:
            seen[label] = seen.get(label, 0) + 1
            found[place] = f"{label} #{seen[label]}"
    return found


_BARE = ("setting", "protocol", "encoder", "precision")


def _facts(line: OurLine) -> Mapping[str, str]:
    record = line.heads[0]
    cell = record.cell
    facts = {
        "setting": f"{cell.setting} {cell.shots}" if cell.shots else cell.setting,
        "protocol": record.protocol.name,
        "encoder": record.encoder.name,
        "input": str(record.encoder.input_size),
        "precision": record.environment.precision,
    }
    rest = {key: value for key, value in record.config.items() if key not in ("encoder", "input_size")}
    return facts | {key: value if isinstance(value, str) else json.dumps(value) for key, value in rest.items()}


def _fewest(facts: Sequence[Mapping[str, str]], keys: Sequence[str]) -> list[str]:
    """Return the first keys that raise the number of lines told apart, until all are."""
    chosen: list[str] = []
    apart = 1
    for key in keys:
        found = len({tuple(one.get(name, "") for name in (*chosen, key)) for one in facts})
        if found > apart:
            chosen.append(key)
            apart = found
    return chosen


def best_first(chosen: Iterable[Series], dataset: str, metric: str) -> list[Series]:
    """Return series by their mean of a metric on a dataset, highest first, those without a value last."""

    def key(one: Series) -> tuple[bool, float]:
        value = one.line.cell(dataset, "", metric).value
        return value is None, -(value or 0.0)

    return sorted(chosen, key=key)
