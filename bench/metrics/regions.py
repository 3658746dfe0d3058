"""Defect regions and the area under the per-region overlap curve (AUPRO; Bergmann et al., IJCV 2021, section 5.2).

The curve's points are (FPR, mean over regions of the covered share), one for each distinct score, joined by straight
lines from (0, 0) and cut at the limit by interpolation. One region pixel lifts the curve by 1 / area while the false
positives grow from G to E (see ranks.py); integrating each pixel's ramp by itself makes AUPRO a mean of means, so no
curve is built, nothing accumulates, and the value of each single region falls out on the way.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from bench.metrics.inputs import binary
from bench.metrics.pieces import PIECE
from bench.metrics.ranks import Ranks, require
from bench.metrics.workers import each, spans

_EIGHT_NEIGHBOURS = np.ones((3, 3), dtype=np.bool_)
_WORTH = 1 << 20
"""Fewer pixels than this are labelled sooner than the kernels are loaded."""


@dataclass(frozen=True)
class Regions:
    """The 8-connected components of each image's mask, numbered through the class."""

    index: npt.NDArray[np.signedinteger[Any]]
    """Region of each anomalous pixel, [P], pixels in the masks' C order."""
    areas: npt.NDArray[np.int64]
    """Pixels in each region, [R], all >= 1."""

    def parts(self) -> Sequence[slice]:
        """Return slices of the anomalous pixels between which no region lies."""
        return (slice(0, len(self.index)),)

    def part(self, number: int) -> Regions:
        """Return the regions of a part, numbered from 0."""
        return self


class RegionsInParts(Regions):
    """Regions that are found anew where they are asked for; their arrays are made only where somebody wants them."""

    def __init__(self, sizes: Sequence[int], find: Callable[[int], Regions]) -> None:
        """Find nothing yet.

        Args:
            sizes: anomalous pixels of each part.
            find: number of a part -> its regions, numbered from 0.
        """
        ends = np.cumsum(sizes).tolist()
        self._parts = [slice(end - size, end) for end, size in zip(ends, sizes, strict=True)]
        self._find = find

    def __getattr__(self, name: str) -> Any:
        """Put the parts together for the first of the arrays that is asked for."""
        if name not in ("index", "areas"):
            raise AttributeError(name)
        found = [self.part(number) for number in range(len(self._parts))]
        before = np.cumsum([0, *(len(one.areas) for one in found)])
        index = np.concatenate([one.index + first for one, first in zip(found, before[:-1], strict=True)])
        vars(self).update(index=index, areas=np.concatenate([one.areas for one in found]))
        return vars(self)[name]

    def parts(self) -> Sequence[slice]:
        """See Regions."""
        return self._parts

    def part(self, number: int) -> Regions:
        """See Regions."""
        return self._find(number)


@dataclass(frozen=True, slots=True)
class Marked:
    """The anomalous pixels of a class."""

    where: npt.NDArray[np.int64]
    """Index of each in the flattened masks, ascending, [P]."""
    regions: Regions


def find_regions(masks: npt.ArrayLike) -> Regions:
    """Return the regions of `masks`, [N, H, W] as in `evaluate_class`; regions never reach across images.

    Raises:
        UsageError: masks of another shape, or of more than two values.
    """
    return find_marked(binary("masks", masks, 3, "[N, H, W]")[0]).regions


def find_marked(masks: npt.NDArray[np.bool_]) -> Marked:
    """Return the anomalous pixels of `masks` (bool [N, H, W]) and their regions, in order of their first pixel."""
    found = find_some(masks, masks.size)
    assert found is not None
    return found


def find_some(masks: npt.NDArray[np.bool_], most: int) -> Marked | None:
    """Return what `find_marked` returns, or None where there are more than `most` anomalous pixels."""
    images = spans(len(masks), max(1, PIECE // (masks[0].size if len(masks) else 1)))
    # as bytes: a bool array made from 0/255 is counted wrongly, and the kernel fills exactly what is counted here
    counts = each(lambda part: int(np.count_nonzero(masks[part].view(np.uint8))), images)
    if sum(counts) > most:
        return None
    ends = np.cumsum(counts, dtype=np.int64)
    where = np.empty(sum(counts), dtype=np.int64)
    index = np.empty(sum(counts), dtype=np.int32)
    label = _label_by_scipy if masks.size < _WORTH else _label_by_kernel

    def mark(number: int) -> npt.NDArray[np.int64]:
        """Mark a piece; return the areas of its regions, which are numbered from 0."""
        part = slice(ends[number] - counts[number], ends[number])
        label(masks[images[number]], images[number].start * masks[0].size, where[part], index[part])
        return np.bincount(index[part]).astype(np.int64, copy=False)

    marked = [number for number, count in enumerate(counts) if count]
    areas = each(mark, marked)
    before = 0
    for number, found in zip(marked, areas, strict=True):
        index[ends[number] - counts[number] : ends[number]] += before
        before += len(found)
    return Marked(where, Regions(index, np.concatenate(areas) if areas else np.zeros(0, dtype=np.int64)))


def gather(maps: npt.NDArray[Any], marked: Marked) -> npt.NDArray[Any]:
    """Return the scores of the anomalous pixels, [P], from `maps` [N, H, W]."""
    chosen = np.empty(len(marked.where), dtype=maps.dtype)
    images = spans(len(maps), max(1, PIECE // (maps[0].size if len(maps) else 1)))

    def take(part: slice) -> None:
        ends = np.array([part.start, part.stop]) * maps[0].size
        first, last = np.searchsorted(marked.where, ends)
        if last > first:
            chosen[first:last] = maps[part].reshape(-1)[marked.where[first:last] - ends[0]]

    each(take, images)
    return chosen


def _label_by_kernel(
    masks: npt.NDArray[np.bool_], origin: int, where: npt.NDArray[np.int64], index: npt.NDArray[np.int32]
) -> None:
    from bench.metrics import kernels

    marks = np.ascontiguousarray(masks).reshape(-1).view(np.uint8)
    if marks.ctypes.data % 8:
        marks = marks.copy()
    images, height, width = masks.shape
    kernels.label(marks, marks[: marks.size // 8 * 8].view(np.uint64), images, height, width, origin, where, index)


def _label_by_scipy(
    masks: npt.NDArray[np.bool_], origin: int, where: npt.NDArray[np.int64], index: npt.NDArray[np.int32]
) -> None:
    from scipy import ndimage  # as slow to load as all that a name is refused with

    where[:] = np.flatnonzero(masks) + origin
    count = done = 0
    for mask in masks[masks.any(axis=(1, 2))]:
        labelled, new = ndimage.label(mask, structure=_EIGHT_NEIGHBOURS)
        found = labelled[mask]
        index[done : done + len(found)] = found + (count - 1)
        count += new
        done += len(found)


def region_aupro(ranks: Ranks, regions: Regions, limit: float) -> npt.NDArray[np.float64]:
    """Return the area of each region's own curve up to FPR `limit` in (0, 1], over `limit`: float64 [R] in [0, 1].

    Raises:
        Undefined: no anomalous or no normal pixel.
    """
    require(ranks.positives, ranks.negatives, ranks.unit)
    worth, parts = ranks.worth(limit * ranks.negatives), regions.parts()

    def mean(number: int) -> npt.NDArray[np.float64]:
        own = regions.part(number)
        sums = np.bincount(own.index, weights=worth(parts[number]), minlength=len(own.areas))
        return np.asarray(sums / own.areas, dtype=np.float64)

    return np.concatenate(each(mean, range(len(parts))))


def aupro(ranks: Ranks, regions: Regions, limit: float) -> float:
    """Return the exact AUPRO up to FPR `limit` in (0, 1], normalised by the limit: in [0, 1].

    Raises:
        Undefined: no anomalous or no normal pixel.
    """
    return float(np.mean(region_aupro(ranks, regions, limit)))
