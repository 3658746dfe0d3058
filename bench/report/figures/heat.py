"""Where the maps of a gallery come from: those that were kept, or the kept model, asked for the few that are shown."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
import numpy.typing as npt

from bench.errors import BenchError
from bench.report.figures.series import FigureSeries
from bench.stats import Images
from bench.store.evidence import EvidenceFiles, Lacking
from bench.store.record import Record

if TYPE_CHECKING:
    from bench.api import Dataset, Sample
    from bench.prediction.predictor import Model

Map = npt.NDArray[Any]
"""[S, S], real numbers: the higher, the more anomalous."""
_STRIDE = 4  # of the pixels that the colour scale is taken from


class Heat(Protocol):
    """The maps of one configuration's first seed on a dataset."""

    scale: tuple[float, float]
    """Where their colours begin and end, from normal images alone."""

    def of_class(self, cls: str) -> Map | None:
        """Return all maps of a class, [N, S, S]; None where only single ones are had."""

    def of(self, cls: str, index: int) -> Map:
        """Return the map of one image."""


def heat(one: FigureSeries, dataset: str, found: Mapping[str, Images], evidence: EvidenceFiles) -> Heat:
    """Return the maps of a configuration. Raises Lacking or BenchError where there are none, and no model either."""
    owners = {cls: one.record_of(dataset, cls) for cls in found}
    if all(record.maps is None and record.model is not None and not record.is_mapless for record in owners.values()):
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
        models = [self._model(cls) for cls in owners]
        scales = [model.scale for model in models if model.scale is not None]
        if len(scales) < len(models):
            raise Lacking("the kept model has no colour scale")
        self.scale = (min(scale.low for scale in scales), max(scale.high for scale in scales))

    def _model(self, cls: str) -> Model:
        path = self._evidence.record_with_model(self._owners[cls])
        try:
            return _opened(path)
        except BenchError as error:
            raise Lacking(f"no anomaly maps were kept, and the kept model cannot make them: {error}") from error

    def of_class(self, cls: str) -> Map | None:
        return None

    def of(self, cls: str, index: int) -> Map:
        from bench.run import scoring
        from bench.run.extractor import Extractor

        model = self._model(cls)
        dataset, samples = self._evidence.samples(self._owners[cls], [self._found[cls].ids[index]])
        pixels = _Pictures(dataset, model.protocol.resize_for(model.input_size), model.input_size)
        extract = Extractor(model.method, model.encoder, pixels, model.device, lambda text: None)
        maps, _ = scoring.predictor(model, extract, model.module, 1)(samples, True, lambda done, note: None)
        if maps is None:
            raise Lacking(f"{model.method.name} gives image scores alone: there are no anomaly maps")
        map: Map = maps[0]
        return map


@lru_cache(maxsize=4)
def _opened(path: Path) -> Model:
    from bench.machine import devices
    from bench.prediction.predictor import model_of

    return model_of(path, None, devices.choose("auto"))


class _Pictures:
    """Network inputs decoded when they are asked for; see `bench.run.device_pixels.PixelSource`."""

    def __init__(self, dataset: Dataset, resize: int, crop: int) -> None:
        self._dataset, self._resize, self.crop = dataset, resize, crop

    def batch(self, samples: Sequence[Sample], out: npt.NDArray[np.uint8]) -> None:
        from bench.loading.images import to_pixels

        for row, sample in zip(out, samples, strict=True):
            row[:] = to_pixels(self._dataset.read_image(sample), self._resize, self.crop)
