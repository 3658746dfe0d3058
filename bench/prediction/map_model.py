"""Maps of single test images, made again by a kept model: what a report shows of a record whose maps were not kept."""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from bench.errors import StoreError, WeightsError

if TYPE_CHECKING:
    from bench.api import Dataset, Sample
    from bench.prediction.predictor import Model


@lru_cache(maxsize=4)
def opened(path: Path) -> MapModel:
    """Return the kept model of a record, given by the record's file. Loads torch, and raises as `model_of` does.

    Weights that are not here are not fetched: whoever asks for a report waits for no download.
    """
    from bench.encoders import weights
    from bench.machine import devices
    from bench.prediction.predictor import model_of
    from bench.store import record as records

    encoder = records.read(path).encoder
    if encoder is not None and weights.at_hand(encoder.name) is None:
        raise WeightsError(f"weights of {encoder.name} are not here; name their folder in {weights.ENVIRONMENT}")
    return MapModel(model_of(path, None, devices.choose("auto")))


class MapModel:
    """A kept model that is asked for one map at a time; see `bench.store.evidence.MapMaker`."""

    def __init__(self, model: Model) -> None:
        self._model = model
        self.scale = None if model.scale is None else (model.scale.low, model.scale.high)

    def map_of(self, dataset: Dataset, sample: Sample) -> npt.NDArray[Any]:
        """Return the anomaly map of a test image, [S, S]. Raises StoreError where the method makes none."""
        from bench.run import scoring
        from bench.run.extractor import Extractor

        model = self._model
        pixels = _Pictures(dataset, model.protocol.resize_for(model.input_size), model.input_size)
        extract = Extractor(model.method, model.encoder, pixels, model.device, lambda text: None)
        maps, _ = scoring.predictor(model, extract, model.module, 1)([sample], True, lambda done, note: None)
        if maps is None:
            raise StoreError(f"{model.method.name} gives image scores alone: there are no anomaly maps")
        map: npt.NDArray[Any] = maps[0]
        return map


class _Pictures:
    """Network inputs decoded when they are asked for; see `bench.run.device_pixels.PixelSource`."""

    def __init__(self, dataset: Dataset, resize: int, crop: int) -> None:
        self._dataset, self._resize, self.crop = dataset, resize, crop

    def batch(self, samples: Sequence[Sample], out: npt.NDArray[np.uint8]) -> None:
        from bench.loading.images import to_pixels

        for row, sample in zip(out, samples, strict=True):
            row[:] = to_pixels(self._dataset.read_image(sample), self._resize, self.crop)
