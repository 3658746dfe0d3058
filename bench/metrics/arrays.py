"""The metrics of a class whose maps and masks are arrays in memory."""

from __future__ import annotations

from collections.abc import Hashable, Iterable, Sequence
from functools import cached_property
from typing import Any

import numpy as np
import numpy.typing as npt

from bench.metrics import large
from bench.metrics.ids import parse, parse_all
from bench.metrics.inputs import ClassInputs, check, refuse_nan
from bench.metrics.metric import Evidence, Whole, expanded
from bench.metrics.pieces import ArrayPieces
from bench.metrics.ranking import rank_pieces
from bench.metrics.ranks import MISSING, NanScore, Ranks, Undefined
from bench.metrics.regions import Regions, find_regions, find_some, gather
from bench.metrics.scores import Scores, collect, sides
from bench.metrics.spro import Defect

Array = npt.NDArray[Any]


def evaluate_arrays(
    maps: npt.ArrayLike | None,
    masks: npt.ArrayLike | None,
    image_scores: npt.ArrayLike | None = None,
    labels: npt.ArrayLike | None = None,
    *,
    metrics: Iterable[str] | None = None,
    objects: Sequence[Hashable] | None = None,
    defects: Sequence[Defect] | None = None,
) -> Scores:
    """Return what `evaluate_class` returns, of NumPy arrays, nested lists or tensors in the host's memory."""
    wanted = parse_all(metrics)
    given = check(maps, masks, image_scores, labels)
    if given.masks is None or not any(
        metric.level == "pixel" and metric.needs == "ranks" for metric in expanded(wanted, parse)
    ):
        refuse_nan("the map", given.maps)  # nothing below looks at every pixel, or not for NaN
    return collect(wanted, sides(given, objects, _ArrayPixels(given, defects)))


def pixel_evidence(maps: npt.ArrayLike, masks: npt.ArrayLike) -> Evidence:
    """Return the pixel evidence of a class, arrays as `evaluate_class` takes them. Raises UsageError as it does."""
    return _ArrayPixels(check(maps, masks, None, None), None)


class _ArrayPixels:
    """The pixel side of a class whose maps are in memory."""

    def __init__(self, given: ClassInputs, defects: Sequence[Defect] | None) -> None:
        self._given, self._defects = given, defects
        self._regions: Regions | None = None

    @cached_property
    def ranks(self) -> Ranks:
        maps, masks = self._both
        marked = find_some(masks, large.most(maps.dtype))
        try:
            if marked is None:
                ranks, self._regions = large.rank_large(maps, masks)
                return ranks
            self._regions = marked.regions
            chosen = gather(maps, marked)
            del marked  # eight bytes a positive
            return rank_pieces(chosen, ArrayPieces(maps), "pixel")
        except NanScore:
            refuse_nan("the map", maps)
            raise

    @property
    def regions(self) -> Regions:
        if self._regions is None:
            self._regions = find_regions(self._both[1])
        return self._regions

    @cached_property
    def whole(self) -> Whole:
        maps, masks = self._both
        assert self._given.labels is not None
        return Whole(maps, masks, self._given.labels, self._defects)

    @property
    def _both(self) -> tuple[Array, npt.NDArray[np.bool_]]:
        if self._given.maps is None:
            raise Undefined(MISSING["maps"])
        if self._given.masks is None:
            raise Undefined(MISSING["masks"])
        return self._given.maps, self._given.masks
