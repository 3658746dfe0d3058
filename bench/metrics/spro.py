"""Saturated per-region overlap (sPRO) of MVTec LOCO AD (Bergmann et al., IJCV 2022, section 4).

A logical defect has no sharp extent: where a screw is missing, marking any patch of a screw's size inside the empty
compartment is as good as marking all of it. So each defect has a saturation area, its overlap counts in pixels found
over that area, and never more than 1. Defects are annotated one by one and may overlap; a false positive is a pixel in
none of them. With the saturation area at the full area and one defect a region it is PRO.

The official code thresholds at chosen scores and refines the choice; here every distinct score is a threshold, as in
AUPRO: each score's share of the saturated overlap rises while the false positives go from G to E (see regions.py).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from bench.errors import UsageError
from bench.metrics.inputs import binary, check, refuse_nan
from bench.metrics.ranking import rank_pieces
from bench.metrics.ranks import Ranks, Undefined
from bench.metrics.regions import Regions, region_aupro

LIMIT = 0.05
"""False-positive rate up to which MVTec LOCO's tables integrate."""


@dataclass(frozen=True, slots=True)
class Defect:
    """One annotated defect: one mask file of MVTec LOCO."""

    image: int
    """Index of the map that it lies in."""
    mask: npt.NDArray[Any]
    """[H, W], bool or as the masks of `evaluate_class`."""
    saturation: float
    """Pixels that are enough to find it, >= 1; `saturation_area` derives it from LOCO's defects_config.json."""


def saturation_area(area: int, threshold: float, relative: bool) -> float:
    """Return the pixels that are enough for a defect of `area` pixels by LOCO's defects_config.json.

    Args:
        area: pixels of the defect.
        threshold: its `saturation_threshold`: a share of the area, or a number of pixels.
        relative: its `relative_saturation`.
    """
    return math.floor(threshold * area) if relative else min(threshold, area)


class _Scores:
    """Scores of all defects' pixels, a pixel of two defects twice, then those of each image's background."""

    def __init__(self, positives: npt.NDArray[Any], maps: npt.NDArray[Any], background: npt.NDArray[np.bool_]) -> None:
        self._positives, self._maps, self._background = positives, maps, background
        self.dtype = maps.dtype
        normal = np.count_nonzero(background, axis=(1, 2))
        self._images = np.flatnonzero(normal)
        self.sizes = [len(positives), *normal[self._images].tolist()]

    def read(self, number: int) -> npt.NDArray[Any]:
        """Return a piece, see Pieces."""
        if number == 0:
            return self._positives
        image = self._images[number - 1]
        return np.asarray(self._maps[image][self._background[image]])


def defect_auspro(maps: npt.ArrayLike, defects: Sequence[Defect], limit: float = LIMIT) -> npt.NDArray[np.float64]:
    """Return the area under each defect's own saturated curve up to FPR `limit`, over `limit`: float64 [D] in [0, 1].

    Args:
        maps: float or integer [N, H, W] as in `evaluate_class`, higher = more anomalous, all images of a class.
        defects: the annotated defects; images without one are normal.
        limit: false-positive rate in (0, 1].

    Raises:
        UsageError: wrong dtype or shape; a defect does not fit the maps, or saturates below one pixel or above its own.
        ScoreError: a score is NaN; the message names the image.
        Undefined: no defect, or no pixel outside all defects.
    """
    scores = check(maps, None, None, None).maps
    assert scores is not None
    refuse_nan("the map", scores)
    if not 0 < limit <= 1:
        raise UsageError(f"limit is {limit}, expected a false-positive rate in (0, 1] such as {LIMIT}")
    background = np.ones(scores.shape, dtype=np.bool_)
    if not defects:
        raise Undefined("no anomalous pixel")
    marked = [_checked(number, defect, scores) for number, defect in enumerate(defects)]
    for defect, mask in zip(defects, marked, strict=True):
        background[defect.image] &= ~mask
    found = [scores[defect.image][mask] for defect, mask in zip(defects, marked, strict=True)]
    areas = np.array([len(pixels) for pixels in found], dtype=np.int64)
    positives = np.concatenate(found)
    ranks = rank_pieces(positives, _Scores(positives, scores, background), "pixel")
    # as a region of its own, each pixel gives the area under its own ramp
    worth = region_aupro(ranks, Regions(np.arange(len(positives)), np.ones(len(positives), dtype=np.int64)), limit)
    owner = np.repeat(np.arange(len(areas)), areas)
    saturations = np.array([defect.saturation for defect in defects], dtype=np.float64)
    weights = worth * _gains(ranks, owner, areas, saturations)
    return np.asarray(np.bincount(owner, weights=weights, minlength=len(areas)), dtype=np.float64)


def auspro(maps: npt.ArrayLike, defects: Sequence[Defect], limit: float = LIMIT) -> float:
    """Return AU-sPRO: the mean over defects of `defect_auspro`, in [0, 1].

    Raises:
        UsageError: wrong dtype or shape; a defect does not fit the maps, or saturates below one pixel or above its own.
        ScoreError: a score is NaN; the message names the image.
        Undefined: no defect, or no pixel outside all defects.
    """
    return float(np.mean(defect_auspro(maps, defects, limit)))


def _gains(
    ranks: Ranks, owner: npt.NDArray[np.int64], areas: npt.NDArray[np.int64], saturations: npt.NDArray[np.float64]
) -> npt.NDArray[np.float64]:
    """Return what each pixel adds to its defect's saturated overlap, [P] in the given order; sums to 1 a defect.

    Pixels add by descending score until the defect is saturated; those that tie share what their score adds.
    """
    hits = np.empty(len(owner), dtype=np.int64)
    hits[ranks.order] = ranks.hits
    order = np.lexsort((hits, owner))
    place = np.arange(len(order)) - (np.cumsum(areas) - areas)[owner[order]]
    new = (np.diff(hits[order], prepend=-1) != 0) | (np.diff(owner[order], prepend=-1) != 0)
    starts = np.flatnonzero(new)
    sizes = np.diff(starts, append=len(order))
    full = saturations[owner[order][starts]]
    added = np.minimum(place[starts] + sizes, full) - np.minimum(place[starts], full)
    gains = np.empty(len(order), dtype=np.float64)
    gains[order] = np.repeat(added / sizes / full, sizes)
    return gains


def _checked(number: int, defect: Defect, maps: npt.NDArray[Any]) -> npt.NDArray[np.bool_]:
    """Return the defect's mask as bool."""
    mask, _ = binary(f"the mask of defect {number}", defect.mask, 2, "[H, W]")
    if maps.ndim != 3 or not 0 <= defect.image < len(maps) or mask.shape != maps.shape[1:]:
        raise UsageError(
            f"defect {number} is {list(mask.shape)} in image {defect.image}, expected the size and number of the maps, "
            f"which are {list(maps.shape)}"
        )
    area = int(np.count_nonzero(mask))
    if not 1 <= defect.saturation <= area:
        raise UsageError(
            f"defect {number} has {area} pixels and saturates at {defect.saturation}, expected a saturation area from "
            "1 to its number of pixels; see saturation_area"
        )
    return mask
