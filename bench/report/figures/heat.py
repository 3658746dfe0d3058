"""Maps of a gallery: kept ones, or those that the kept model makes of the few images that are shown."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from bench.report.figures.series import FigureSeries
from bench.stats import Images
from bench.store.evidence import EvidenceFiles, Lacking
from bench.store.record import Record

Map = npt.NDArray[Any]
"""[S, S], real numbers: the higher, the more anomalous."""
_STRIDE = 4  # of the pixels that the colour scale is taken from


class Heat(Protocol):
    """The maps of one configuration's first seed on a dataset."""

    scale: tuple[float, float]
    """Where their colours begin and end, from normal images alone."""

    def of_class(self, cls: str) -> Map | None:
        """Return all maps of a class, [N, S, S]; None where only single ones can be made."""

    def of(self, cls: str, index: int) -> Map:
        """Return the map of one image."""


def heat(one: FigureSeries, dataset: str, found: Mapping[str, Images], evidence: EvidenceFiles) -> Heat:
    """Return the maps of a configuration. Raises Lacking or BenchError where there are none, and no model either."""
    owners = {cls: one.record_of(dataset, cls) for cls in found}
    made = [record.maps is None and record.model is not None and not record.is_mapless for record in owners.values()]
    if evidence.asks_models and all(made):
        return _ByModel(owners, found, evidence)
    return _Kept({cls: evidence.maps(record, cls) for cls, record in owners.items()}, found)


class _Kept:
    """Maps that lie beside the record."""

    def __init__(self, maps: Mapping[str, Map], found: Mapping[str, Images]) -> None:
        self._maps = maps
        normal = [maps[cls][~images.labels, ::_STRIDE, ::_STRIDE].ravel() for cls, images in found.items()]
        values = np.concatenate(normal) if normal else np.zeros(0)
        if len(values) == 0:
            raise Lacking("no normal image to take the colour scale from")
        low, usual = (float(value) for value in np.quantile(values, [0.5, 0.999]))
        self.scale = (low, low + 2 * (usual - low) if usual > low else low + 1)

    def of_class(self, cls: str) -> Map | None:
        return self._maps[cls]

    def of(self, cls: str, index: int) -> Map:
        map: Map = self._maps[cls][index]
        return map


class _ByModel:
    """Maps that the kept model makes again; a record's own colour scale lies in its model."""

    def __init__(self, owners: Mapping[str, Record], found: Mapping[str, Images], evidence: EvidenceFiles) -> None:
        self._owners, self._found, self._evidence = owners, found, evidence
        self._models = {cls: evidence.map_maker(record) for cls, record in owners.items()}
        scales = [model.scale for model in self._models.values() if model.scale is not None]
        if len(scales) < len(self._models):
            raise Lacking("the kept model has no colour scale")
        self.scale = (min(low for low, _ in scales), max(high for _, high in scales))

    def of_class(self, cls: str) -> Map | None:
        return None

    def of(self, cls: str, index: int) -> Map:
        dataset, (sample,) = self._evidence.samples(self._owners[cls], [self._found[cls].ids[index]])
        return self._models[cls].map_of(dataset, sample)
