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

    Anomalous pixels are put in the order of their regions, so that areas alone say which pixel belongs where; counts
    of normal pixels fall along ascending scores, so that differences are small and deflate well.
    """
    by_region = np.argsort(regions.index, kind="stable")
    place = np.empty_like(by_region)
    place[by_region] = np.arange(len(by_region))
    new = np.concatenate(([True], ranks.hits[1:] != ranks.hits[:-1])) if len(ranks.hits) else np.zeros(0, bool)
    np.savez_compressed(
        path,
        order=_smallest(place[ranks.order]),
        above=_smallest(_steps(ranks.above, ranks.negatives)),
        at_least=_smallest(_steps(ranks.at_least, ranks.negatives)),
        new=np.packbits(new),
        areas=_smallest(regions.areas),
        negatives=np.array([ranks.negatives], np.int64),
    )


def _steps(falling: npt.NDArray[np.int64], start: int) -> npt.NDArray[np.int64]:
    return -np.diff(falling, prepend=start)


def _smallest(values: npt.NDArray[Any]) -> npt.NDArray[Any]:
    kind = np.uint32 if not len(values) or int(values.max()) < 1 << 32 else np.uint64
    return values.astype(kind)


def read(path: Path) -> tuple[Ranks, Regions]:
    """Read what `save` wrote.

    Raises:
        StoreError: it cannot be read, or is not the ranks of any maps.
    """
    try:
        file = Npz(path)
        parts: dict[str, npt.NDArray[Any]] = {}
        for name in ("order", "above", "at_least", "new", "areas", "negatives"):
            with file.opened(name) as array:
                parts[name] = read_array(array, MOST_PIXELS)
    except Exception as error:  # zipfile and NumPy's reader of headers raise a dozen kinds on bad bytes
        raise StoreError(f"{path.name}: no pixel ranks ({error})") from error
    if why := _why_not(parts):
        raise StoreError(f"{path.name}: {why}, which are no ranks of any maps. Was the pack changed?")
    positives, negatives = len(parts["order"]), int(parts["negatives"][0])
    new = np.unpackbits(parts["new"], count=positives).astype(bool)
    starts = np.maximum.accumulate(np.where(new, np.arange(positives), 0))
    ranks = Ranks(
        order=parts["order"].astype(np.int64),
        above=_counts(parts["above"], negatives),
        at_least=_counts(parts["at_least"], negatives),
        hits=positives - starts,
        positives=positives,
        negatives=negatives,
        unit="pixel",
    )
    if (ranks.above < 0).any() or (ranks.above > ranks.at_least).any():
        raise StoreError(f"{path.name}: negative counts, which are no ranks of any maps. Was the pack changed?")
    areas = parts["areas"].astype(np.int64)
    return ranks, Regions(np.repeat(np.arange(len(areas)), areas), areas)


def _counts(steps: npt.NDArray[Any], start: int) -> npt.NDArray[np.int64]:
    return start - np.cumsum(steps.astype(np.int64))


def _why_not(parts: dict[str, npt.NDArray[Any]]) -> str:
    """Return what is wrong with the arrays; empty where nothing is."""
    positives = len(parts["order"]) if parts["order"].ndim == 1 else -1
    if any(part.ndim != 1 or part.dtype.kind not in "ui" for part in parts.values()):
        return "arrays of another kind"
    if len(parts["above"]) != positives or len(parts["at_least"]) != positives or len(parts["negatives"]) != 1:
        return "arrays of different lengths"
    if len(parts["new"]) != (positives + 7) // 8 or int(parts["negatives"][0]) < 0:
        return "arrays of different lengths"
    if (parts["areas"] < 1).any() or int(parts["areas"].sum()) != positives:
        return "areas that are not those of the pixels"
    if positives and not np.array_equal(np.bincount(parts["order"], minlength=positives), np.ones(positives)):
        return "places that come twice"
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
