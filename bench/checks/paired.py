"""Paired comparison of two methods or runs, per class and in the mean, with intervals and significance.

Where the interval comes from depends on what there is, in this order: `DeLong` for image AUROC of one seed each;
`images`, a paired bootstrap over test images (both sides draw the same ones), for image metrics from the per-image
scores, for pixel metrics from kept maps and the dataset; `seeds`, Student's t over the seeds that both sides have. The
first two say how far the test images decide, the last how far the seeds do. Without any there is no interval.

A difference is significant when its interval excludes zero at a level of 1 - 0.05/k, k being the number of lines
(Bonferroni): in a table of many classes none is then taken for a finding by chance. It is so `alone` when only its own
one does.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from statistics import fmean
from typing import Literal, Protocol

from bench.checks import differences
from bench.checks.series import MEAN, Series, of, series
from bench.errors import BenchError
from bench.metrics import parse
from bench.metrics.ids import known
from bench.metrics.summed import Summed
from bench.stats import Images, Resampled, delong, mean_difference, resampled, spread
from bench.stats.intervals import mean_of
from bench.store.evidence import EvidenceFiles, Lacking
from bench.store.record import Record

Holds = Literal["yes", "alone", "no", ""]
RESAMPLES = 2000
LEVEL = 0.95


class _Interval(Protocol):
    def interval(self, level: float = ..., /) -> tuple[float, float] | None: ...


@dataclass(frozen=True, slots=True)
class PairedLine:
    """One class, part or mean, in one metric; fractions."""

    line: str
    metric: str
    first: float | None
    second: float | None
    interval: tuple[float, float] | None = None
    """Of the difference at LEVEL; None where none can be had, or no resample differs."""
    by: str = ""
    """`DeLong`, `images` or `seeds`; empty without an interval."""
    holds: Holds = ""
    """Whether the difference is significant; empty without an interval."""
    unit: str = ""
    """Empty for a share."""

    @property
    def difference(self) -> float | None:
        """Return first minus second."""
        return None if self.first is None or self.second is None else self.first - self.second


@dataclass(frozen=True, slots=True)
class Compared:
    """Two series on the same images."""

    first: Series
    second: Series
    lines: tuple[PairedLine, ...]
    notes: tuple[str, ...]
    """How the methods differ, and why there are no intervals where there are none."""
    obstacles: tuple[str, ...] = ()
    """Why the scores mean different things; there are no lines then."""


def pairs(first: Iterable[Record], second: Iterable[Record]) -> list[tuple[Series, Series]]:
    """Return what both sides have: the same dataset, setting, shots and protocol name. Of several the newest counts."""

    def newest(records: Iterable[Record]) -> dict[tuple[object, ...], Series]:
        found: dict[tuple[object, ...], Series] = {}
        for one in sorted(series(records), key=lambda one: max(record.created for record in one.records)):
            cell = one.head.cell
            found[cell.dataset, cell.setting, cell.shots, cell.protocol] = one
        return found

    left, right = newest(first), newest(second)
    return [(left[key], right[key]) for key in left if key in right]


def compare(first: Series, second: Series, metrics: Sequence[str], evidence: EvidenceFiles) -> Compared:
    """Compare two series.

    Args:
        first: what is counted as plus.
        second: what it is compared with.
        metrics: those that get intervals, per class; of all others the means are given.
        evidence: finds per-image scores and maps beside the records.
    """
    if obstacles := differences.evaluation(first.rows[0], second.rows[0]):
        return Compared(first, second, (), (), tuple(obstacles))
    names = [line for line in first.lines if line != MEAN and line in second.lines]
    lines: list[PairedLine] = []
    lacking: dict[str, None] = {}
    for metric in (metric for metric in first.metrics if metric in second.metrics):
        if metric in metrics:
            found, why = _with_intervals(first, second, names, metric, evidence)
            lines += found
            lacking |= dict.fromkeys(why)
        else:
            lines.append(_plain(first, second, MEAN, metric))
    changes = differences.method(first.head, second.head) if first.head.cell.method == second.head.cell.method else []
    return Compared(first, second, tuple(lines), (*changes, *lacking))


def _plain(first: Series, second: Series, line: str, metric: str) -> PairedLine:
    left, right = first.values(line, metric), second.values(line, metric)
    unit = next((record.units[metric] for record in first.records if metric in record.units), "")
    return PairedLine(line, metric, fmean(left) if left else None, fmean(right) if right else None, unit=unit)


def _with_intervals(
    first: Series, second: Series, names: Sequence[str], metric: str, evidence: EvidenceFiles
) -> tuple[list[PairedLine], list[str]]:
    """Return the lines of one metric, and why some have no interval over images."""
    sources: dict[str, tuple[str, _Interval]] = {}
    why: list[str] = []
    try:
        sources = _over_images(first, second, names, metric, evidence)
    except (Lacking, BenchError) as error:
        why.append(f"{metric}: no interval over images, {error}")
    for name in (*names, MEAN):
        if name not in sources and (over := _over_seeds(first, second, name, metric)) is not None:
            sources[name] = ("seeds", over)
    lines = []
    for name in (*names, MEAN):
        plain = _plain(first, second, name, metric)
        if name not in sources or plain.difference is None:
            lines.append(plain)
            continue
        by, source = sources[name]
        found, strict = source.interval(LEVEL), source.interval(1 - (1 - LEVEL) / (len(names) + 1))
        holds: Holds = "" if found is None or strict is None else "no"
        if found is not None and strict is not None:
            holds = "yes" if _apart(strict) else "alone" if _apart(found) else "no"
        lines.append(replace(plain, interval=found, by=by if found else "", holds=holds))
    return lines, why


def _apart(interval: tuple[float, float]) -> bool:
    return interval[0] > 0 or interval[1] < 0


def _over_images(
    first: Series, second: Series, names: Sequence[str], metric: str, evidence: EvidenceFiles
) -> dict[str, tuple[str, _Interval]]:
    """Return name -> how the difference was computed, and its interval; raises Lacking where files are missing."""
    if not resamples_fast(metric):
        raise Lacking("which only exact metrics of images and pixels have")
    single = metric == "image/auroc" and len(first.rows) == len(second.rows) == 1
    found: dict[str, tuple[str, _Interval]] = {}
    exact, drawn = [], []
    for name in names:
        if not (first.values(name, metric) and second.values(name, metric)):
            continue
        if single:
            left, right = (_aligned(evidence.images(_record(one, 0, name))[name]) for one in (first, second))
            if left.ids != right.ids:
                raise Lacking(f"the two sides scored different images of {name}")
            exact.append(delong(left.labels, left.scores, right.scores))
            found[name] = ("DeLong", exact[-1])
        else:
            left_drawn, right_drawn = (_drawn(one, name, metric, evidence) for one in (first, second))
            drawn.append(Resampled(left_drawn.value - right_drawn.value, left_drawn.samples - right_drawn.samples))
            found[name] = ("images", drawn[-1])
    if len(found) == len(names) and names:
        found[MEAN] = ("DeLong", mean_difference(exact)) if single else ("images", mean_of(drawn))
    return found


def _drawn(one: Series, name: str, metric: str, evidence: EvidenceFiles) -> Resampled:
    """Return a line's score, mean over the seeds, with its resamples; each seed draws the same images."""
    parts = []
    for place in range(len(one.rows)):
        record = _record(one, place, name)
        images = evidence.images(record)[name]
        pixels = parse(metric).level == "pixel"
        maps, masks = (evidence.maps(record, name), evidence.masks(record, name)) if pixels else (None, None)
        found = resampled(name, images, maps, masks, [metric], RESAMPLES)
        if metric not in found:
            raise Lacking(f"{name} has no value to resample")
        parts.append(found[metric])
    return mean_of(parts)


def _over_seeds(first: Series, second: Series, name: str, metric: str) -> _Interval | None:
    """Return the spread of the differences over shared seeds; None for fewer than two."""
    left = {row.head.cell.seed: of(row, name, metric) for row in first.rows}
    right = {row.head.cell.seed: of(row, name, metric) for row in second.rows}
    found = [a - b for seed, a in left.items() if a is not None and (b := right.get(seed)) is not None]
    # the mean of the shared seeds' differences is the difference that is shown only where all seeds are shared
    return spread(found) if len(found) > 1 and left.keys() == right.keys() else None


def resamples_fast(metric: str) -> bool:
    """Return whether a metric can be resampled thousands of times: of images any, of pixels where sums do."""
    one = known(metric)
    return one is not None and (one.level == "image" or (one.level == "pixel" and isinstance(one, Summed)))


def _record(one: Series, place: int, name: str) -> Record:
    return next(record for record in one.rows[place].records if name in record.scores)


def _aligned(images: Images) -> Images:
    order = sorted(range(len(images.ids)), key=images.ids.__getitem__)
    return Images(tuple(images.ids[place] for place in order), images.labels[order], images.scores[order])
