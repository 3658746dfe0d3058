"""Recomputation of a pack's numbers, without images, weights or maps."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from bench.curate.archives import unpack
from bench.errors import BenchError, DatasetError, StoreError, UsageError
from bench.metrics.ids import known
from bench.metrics.metric import Evidence as MetricEvidence
from bench.metrics.ranks import Undefined
from bench.metrics.scores import ImageEvidence
from bench.packs.pixel_ranks import PackedPixels
from bench.packs.write import name_of, ranks_file
from bench.stats import Images
from bench.store.agreement import mean
from bench.store.evidence import EvidenceFiles, Lacking
from bench.store.folder import find
from bench.store.record import Record

AGREES = 1e-12
"""Sums in another order differ by less."""
MOST_UNPACKED = 64 << 30


@dataclass(frozen=True, slots=True)
class Number:
    """One recorded number and what came out."""

    cell: str
    line: str
    """A class, `pooled` or `mean`."""
    metric: str
    recorded: float | None
    computed: float | None
    why_not: str = ""
    """Why it cannot be recomputed from the pack; empty where it was."""

    @property
    def same(self) -> bool:
        """Return whether it came out as recorded, undefined ones too."""
        if self.recorded is None or self.computed is None:
            return self.recorded is self.computed
        return abs(self.recorded - self.computed) <= AGREES


def reproduce(pack: Path) -> list[Number]:
    """Recompute every number of a pack's records.

    Raises:
        UsageError: no zip, or one that no folder can be made of (see `bench.curate.archives`).
        StoreError: a record or its ranks cannot be read, or it holds no record.
    """
    with tempfile.TemporaryDirectory(prefix="reproduce-") as name:
        folder = Path(name)
        try:
            unpack(pack, folder, "zip", MOST_UNPACKED)
        except DatasetError as error:
            raise UsageError(f"{pack}: {error}. Expected a pack, as bench pack writes them") from error
        found = find([folder])
        if found.unreadable:
            raise StoreError(f"{pack}: {found.unreadable[0].replace(f'{folder}/', '')}")
        if not found.records:
            raise StoreError(f"{pack}: no record in it. Expected a pack, as bench pack writes them")
        evidence = EvidenceFiles([folder])
        return [number for path, record in found.records.items() for number in _record(path, record, evidence)]


def _record(path: Path, record: Record, evidence: EvidenceFiles) -> Iterator[Number]:
    try:
        images = evidence.images(record)
    except Lacking as why:
        raise StoreError(f"{name_of(record)}: {why}. Was the pack changed?") from why
    computed: dict[str, dict[str, float | None]] = {}
    lacking: dict[str, str] = {}
    for cls, scores in record.scores.items():
        of = images[cls]
        sides: dict[str, MetricEvidence] = {"image": ImageEvidence(of.scores, of.labels)}
        if ranks_file(path, cls).is_file():
            sides["pixel"] = PackedPixels(ranks_file(path, cls))
        values = computed[cls] = {}
        for metric in _in_order(scores.values):
            try:
                values[metric] = _value(metric, sides, values)
            except _NotInPack as why:
                lacking[metric] = str(why)
                values.pop(metric, None)
        for metric, recorded in scores.values.items():
            why_not = "" if metric in values else lacking.get(metric, "")
            yield Number(name_of(record), cls, metric, recorded, values.get(metric), why_not)
    yield from _pooled(record, [images[cls] for cls in record.scores])
    for metric, recorded in record.mean.items():
        if metric in lacking:
            yield Number(name_of(record), "mean", metric, recorded, None, lacking[metric])
        else:
            yield Number(name_of(record), "mean", metric, recorded, mean(one[metric] for one in computed.values()))


def _pooled(record: Record, images: Sequence[Images]) -> Iterator[Number]:
    """Yield what all classes ranked together give."""
    if record.pooled is None:
        return
    scores, labels = (np.concatenate([getattr(one, name) for one in images]) for name in ("scores", "labels"))
    sides: dict[str, MetricEvidence] = {"image": ImageEvidence(scores, labels)}
    for metric, recorded in record.pooled.values.items():
        try:
            yield Number(name_of(record), "pooled", metric, recorded, _value(metric, sides, {}))
        except _NotInPack:
            why = "ranks over all classes are not in a pack"
            yield Number(name_of(record), "pooled", metric, recorded, None, why)


class _NotInPack(Exception):
    """What a metric needs is not in the pack; the text says what."""


def _in_order(metrics: dict[str, float | None]) -> list[str]:
    """Return metric ids, means of others last."""
    return sorted(metrics, key=lambda metric: bool((found := known(metric)) and found.parts))


def _value(metric: str, sides: dict[str, MetricEvidence], values: dict[str, float | None]) -> float | None:
    found = known(metric)
    if found is None:
        raise _NotInPack("no such metric here: is its plug-in named?")
    if found.parts:
        if absent := [part for part in found.parts if part not in values]:
            raise _NotInPack(f"needs {absent[0]}")
        return found.mean(values)
    if found.level not in sides:
        raise _NotInPack("pixel ranks are not in the pack" if found.level == "pixel" else "objects are not in the pack")
    if found.level == "pixel" and found.needs != "ranks":
        raise _NotInPack("needs the maps themselves")
    try:
        return found.compute(sides[found.level])
    except Undefined:
        return None
    except BenchError as error:
        raise _NotInPack(str(error)) from error
