"""Hardest defects and images of a method: AUPRO falls apart into its regions, with nothing to add.

Every value uses the false-positive rate of the whole class, so the mean over regions is the class's AUPRO exactly.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from bench.metrics.inputs import binary
from bench.metrics.ranks import Ranks
from bench.metrics.regions import Regions, region_aupro

Floats = npt.NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class RegionScore:
    """One defect region and how well it is found."""

    image: int
    """Index of the image in its class."""
    top: int
    left: int
    bottom: int
    right: int
    """Bounding box in pixels of the map; bottom and right are the first row and column beyond it."""
    area: int
    """Pixels."""
    aupro: float
    """Area under this region's own curve up to the limit, over the limit; in [0, 1]."""


def hardest_regions(
    masks: npt.ArrayLike, ranks: Ranks, regions: Regions, limit: float = 0.3, count: int | None = None
) -> list[RegionScore]:
    """Return the regions that are found worst, worst first, larger before smaller where equal; all of them for None.

    Args:
        masks: [N, H, W] as in `evaluate_class`, those of `ranks` and `regions`.
        ranks: of the anomalous pixels.
        regions: of the masks.
        limit: false-positive rate in (0, 1].
        count: how many to return.

    Raises:
        Undefined: no anomalous or no normal pixel.
    """
    values = region_aupro(ranks, regions, limit)
    image, y, x = np.nonzero(binary("masks", masks, 3, "[N, H, W]")[0])
    order = np.argsort(regions.index, kind="stable")
    starts = np.cumsum(regions.areas) - regions.areas
    # pixels lie region by region now, each region's in C order
    rows, columns = y[order], x[order]
    tops, lefts = np.minimum.reduceat(rows, starts), np.minimum.reduceat(columns, starts)
    bottoms, rights = np.maximum.reduceat(rows, starts) + 1, np.maximum.reduceat(columns, starts) + 1
    images = image[order][starts]
    worst = np.lexsort((-regions.areas, values))[:count]
    return [
        RegionScore(
            image=int(images[place]),
            top=int(tops[place]),
            left=int(lefts[place]),
            bottom=int(bottoms[place]),
            right=int(rights[place]),
            area=int(regions.areas[place]),
            aupro=float(values[place]),
        )
        for place in worst
    ]


def image_aupro(masks: npt.ArrayLike, ranks: Ranks, regions: Regions, limit: float = 0.3) -> Floats:
    """Return the mean over each image's regions of the region's AUPRO: float64 [N], NaN for an image without regions.

    Args:
        masks: [N, H, W] as in `evaluate_class`, those of `ranks` and `regions`.
        ranks: of the anomalous pixels.
        regions: of the masks.
        limit: false-positive rate in (0, 1].

    Raises:
        Undefined: no anomalous or no normal pixel.
    """
    values = region_aupro(ranks, regions, limit)
    marked, _ = binary("masks", masks, 3, "[N, H, W]")
    images = image_of_region(marked, regions)
    totals = np.bincount(images, weights=values, minlength=len(marked))
    counts = np.bincount(images, minlength=len(marked))
    means: Floats = np.divide(totals, counts, out=np.full(len(marked), np.nan), where=counts > 0)
    return means


def image_of_region(masks: npt.NDArray[np.bool_], regions: Regions) -> npt.NDArray[Any]:
    """Return the index of the image that each region lies in, int64 [R]."""
    images = np.repeat(np.arange(len(masks)), np.count_nonzero(masks, axis=(1, 2)))
    found = np.empty(len(regions.areas), dtype=np.int64)
    found[regions.index] = images
    return found
