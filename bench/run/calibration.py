"""Calibration: thresholds from normal images that were held back, scored by the trained model before any test image."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from bench.api import Sample, by_class
from bench.errors import ScoreError
from bench.machine.progress import Progress
from bench.metrics.thresholds import Normals
from bench.plan.task import Task
from bench.run.operating import Array, Tally
from bench.run.scoring import Predict, Scored
from bench.store.calibration import Calibration


@dataclass
class Calibrated:
    """Thresholds of a trained model, and what the test images showed of them so far."""

    share: float
    samples: Mapping[str, Sequence[Sample]]
    """Class -> normal images that were not trained on."""
    scores: dict[str, npt.NDArray[np.float64]]
    of_class: dict[str, Tally]
    of_all: Tally | None
    """One threshold for all classes; None where there is one class."""
    total: int = field(init=False)

    def __post_init__(self) -> None:
        self.total = sum(map(len, self.scores.values()))

    def add(
        self, cls: str, maps: Array | None, truth: npt.NDArray[np.bool_] | None, scores: Array, labels: Sequence[int]
    ) -> None:
        """Take the test images of a class, as `Tally.add`."""
        for tally in (self.of_class.get(cls), self.of_all):
            if tally is not None:
                tally.add(maps, truth, scores, labels)

    def facts(self, scored: Scored) -> Calibration:
        """Return what a record holds of it, once every class was added."""
        best = "pixel/f1max"
        return Calibration(
            share=self.share,
            validation=tuple(cls for cls, own in self.samples.items() if any(one.split == "val" for one in own)),
            scores={
                cls: dict(zip((one.id for one in own), self.scores[cls].tolist(), strict=True))
                for cls, own in self.samples.items()
            },
            classes={
                cls: tally.points(len(self.scores[cls]), scored.scores[cls].get(best))
                for cls, tally in self.of_class.items()
            },
            pooled=self.of_all.points(self.total, scored.pooled.get(best) if scored.pooled is not None else None)
            if self.of_all is not None
            else None,
        )


def calibrate(predict: Predict, task: Task, progress: Progress) -> Calibrated | None:
    """Return the thresholds of a trained model; None where no images were held back.

    Memory is bounded by one class's maps and the highest twentieth of all pixels.

    Args:
        predict: what the model says of images.
        task: gives them.
        progress: told of the images done.

    Raises:
        ScoreError: a score or a map holds what is no finite number.
    """
    if task.calibration_share is None:
        return None
    samples, masks = by_class(task.calibration), task.has_masks
    side: int | None = None
    scores: dict[str, npt.NDArray[np.float64]] = {}
    of_class: dict[str, Tally] = {}
    every = Normals(len(task.calibration))
    every_pixel: Normals | None = None
    mapped = sum(len(own) for cls, own in samples.items() if masks[cls])
    with progress.phase("calibrate", len(task.calibration)) as advance:
        for cls, own in samples.items():
            maps, scores[cls] = predict(own, masks[cls], advance)
            _check(scores[cls], maps, own)
            pixel: dict[str, float] = {}
            if maps is not None and masks[cls]:
                side = maps.shape[-1]
                every_pixel = every_pixel or Normals(mapped * side * side)
                every_pixel.add(maps)
                pixel = _thresholds(maps)
            every.add(scores[cls])
            of_class[cls] = Tally(_thresholds(scores[cls]), pixel)
    of_all = None
    if len(samples) > 1:
        of_all = Tally(every.thresholds(), every_pixel.thresholds() if every_pixel is not None else {})
    return Calibrated(task.calibration_share, samples, scores, of_class, of_all)


def _thresholds(values: Array) -> dict[str, float]:
    normals = Normals(values.size)
    normals.add(values)
    return normals.thresholds()


def _check(scores: npt.NDArray[np.float64], maps: Array | None, samples: Sequence[Sample]) -> None:
    for place, sample in enumerate(samples):
        found = scores[place]
        if not math.isfinite(found) or (maps is not None and not np.isfinite(maps[place]).all()):
            what = "its map holds what is no finite number" if math.isfinite(found) else f"its score is {found}"
            raise ScoreError(f"{sample.id}, held back for thresholds: {what}. Expected finite numbers", place)
