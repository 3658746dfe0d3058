"""Pixel ranks of a class as a file: all that its pixel metrics follow from, without maps or masks.

Of each anomalous pixel it has how many normal ones score higher and how many at least as high (`bench.metrics.ranks`),
and which region it lies in. Scores themselves, normal pixels and places in the image are not in it.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from bench.errors import StoreError
from bench.loading.arrays import Npz, read_array
from bench.metrics.ranks import Ranks, Undefined
from bench.metrics.regions import Regions

MOST_PIXELS = 1 << 31
"""Anomalous ones of a class; more are no ranks of anything that bench evaluates."""
SUFFIX = ".ranks.npz"


def save(path: Path, ranks: Ranks, regions: Regions) -> None:
    """Write the ranks and regions of a class.

    Pixels are put by ascending score: counts of normal pixels fall along them, so that differences are small and
    deflate well, and pixels of a region lie near each other.
    """
    new = np.concatenate(([True], ranks.hits[1:] != ranks.hits[:-1])) if len(ranks.hits) else np.zeros(0, bool)
    np.savez_compressed(
        path,
        region=_smallest(regions.index[ranks.order]),
        above=_smallest(-np.diff(ranks.above, prepend=ranks.negatives)),
        equal=_smallest(ranks.at_least - ranks.above),
        new=np.packbits(new),
        negatives=np.array([ranks.negatives], np.int64),
    )


def _smallest(values: npt.NDArray[Any]) -> npt.NDArray[Any]:
    return values.astype(np.min_scalar_type(int(values.max(initial=0))))


def read(path: Path) -> tuple[Ranks, Regions]:
    """Read what `save` wrote.

    Raises:
        StoreError: it cannot be read, or is not the ranks of any maps.
    """
    try:
        file = Npz(path)
        parts: dict[str, npt.NDArray[Any]] = {}
        for name in ("region", "above", "equal", "new", "negatives"):
            with file.opened(name) as array:
                parts[name] = read_array(array, MOST_PIXELS)
    except Exception as error:  # zipfile and NumPy's reader of headers raise a dozen kinds on bad bytes
        raise StoreError(f"{path.name}: no pixel ranks ({error})") from error
    if why := _why_not(parts):
        raise StoreError(f"{path.name}: {why}, which are no ranks of any maps. Was the pack changed?")
    positives, negatives = len(parts["region"]), int(parts["negatives"][0])
    new = np.unpackbits(parts["new"], count=positives).astype(bool)
    starts = np.maximum.accumulate(np.where(new, np.arange(positives), 0))
    above = negatives - np.cumsum(parts["above"].astype(np.int64))
    ranks = Ranks(
        order=np.arange(positives),
        above=above,
        at_least=above + parts["equal"].astype(np.int64),
        hits=positives - starts,
        positives=positives,
        negatives=negatives,
        unit="pixel",
    )
    if (ranks.above < 0).any() or (ranks.at_least > negatives).any() or (np.diff(ranks.at_least) > 0).any():
        raise StoreError(f"{path.name}: counts out of order, which are no ranks of any maps. Was the pack changed?")
    region = parts["region"].astype(np.int64)
    return ranks, Regions(region, np.bincount(region))


def _why_not(parts: dict[str, npt.NDArray[Any]]) -> str:
    """Return what is wrong with the arrays; empty where nothing is."""
    if any(part.ndim != 1 or part.dtype.kind not in "ui" for part in parts.values()):
        return "arrays of another kind"
    region, positives = parts["region"], len(parts["region"])
    if {len(parts["above"]), len(parts["equal"])} != {positives} or len(parts["negatives"]) != 1:
        return "arrays of different lengths"
    if len(parts["new"]) != (positives + 7) // 8 or int(parts["negatives"][0]) < 0:
        return "arrays of different lengths"
    # numbers are checked before they size an array
    if int(region.max(initial=0)) >= max(positives, 1) or (region.astype(np.int64) < 0).any():
        return "regions without a pixel"
    if positives and not np.bincount(region).all():
        return "regions without a pixel"
    return ""


class PackedPixels:
    """The pixel evidence of a class from a pack; see `bench.metrics.metric.Evidence`."""

    def __init__(self, path: Path) -> None:
        """Read the class's ranks. Raises StoreError as `read`."""
        self.ranks, self.regions = read(path)

    @property
    def whole(self) -> Any:
        """All scores, which a pack does not have."""
        raise Undefined("a pack has no maps")
