"""Defect regions and the area under the per-region overlap curve (AUPRO; Bergmann et al., IJCV 2021, section 5.2).

The curve's points are (FPR, mean over regions of the covered share), one for each distinct score, joined by straight
lines from (0, 0) and cut at the limit by interpolation. One region pixel lifts the curve by 1 / area while the false
positives grow from G to E (see ranks.py); integrating each pixel's ramp by itself makes AUPRO a mean of means, so no
curve is built, nothing accumulates, and the value of each single region falls out on the way.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy import ndimage

from bench.metrics.ranks import Ranks, require

_EIGHT_NEIGHBOURS = np.ones((3, 3), dtype=np.bool_)


@dataclass(frozen=True, slots=True)
class Regions:
    """The 8-connected components of each image's mask, numbered through the class."""

    index: npt.NDArray[np.int64]
    """Region of each anomalous pixel, [P], pixels in the masks' C order."""
    areas: npt.NDArray[np.int64]
    """Pixels in each region, [R], all >= 1."""


def find_regions(masks: npt.NDArray[np.bool_]) -> Regions:
    """Return the regions of `masks` (bool [N, H, W]); regions never reach across images."""
    found: list[npt.NDArray[np.int64]] = []
    count = 0
    for mask in masks[masks.any(axis=(1, 2))]:
        labelled, new = ndimage.label(mask, structure=_EIGHT_NEIGHBOURS)
        found.append(labelled[mask].astype(np.int64) + (count - 1))
        count += new
    index = np.concatenate(found) if found else np.zeros(0, dtype=np.int64)
    return Regions(index, np.bincount(index, minlength=count).astype(np.int64, copy=False))


def region_aupro(ranks: Ranks, regions: Regions, limit: float) -> npt.NDArray[np.float64]:
    """Return the area of each region's own curve up to FPR `limit` in (0, 1], over `limit`: float64 [R] in [0, 1].

    Raises:
        Undefined: no anomalous or no normal pixel.
    """
    require(ranks.positives, ranks.negatives, ranks.unit)
    cut = limit * ranks.negatives
    above, at_least = ranks.above, ranks.at_least
    with np.errstate(over="ignore"):  # a limit near the smallest float; what overflows is replaced below
        share = 1 - (above + at_least) / (2 * cut)
    # a pixel whose ramp the limit cuts keeps the triangle to the left of the cut
    inside = (above < cut) & (cut < at_least)
    room = cut - above[inside]
    share[inside] = (room / cut) * (room / (2 * (at_least[inside] - above[inside])))
    share[above >= cut] = 0
    return np.bincount(regions.index[ranks.order], weights=share, minlength=len(regions.areas)) / regions.areas


def aupro(ranks: Ranks, regions: Regions, limit: float) -> float:
    """Return the exact AUPRO up to FPR `limit` in (0, 1], normalised by the limit: in [0, 1].

    Raises:
        Undefined: no anomalous or no normal pixel.
    """
    return float(np.mean(region_aupro(ranks, regions, limit)))
