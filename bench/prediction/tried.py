"""Scores of every picture of a task by its kept model: tested, held back for the threshold, and trained on."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import torch

from bench.api import Sample, by_class
from bench.machine.progress import Progress
from bench.plan.task import Task
from bench.prediction import predictor, threshold
from bench.prediction.loose_images import ImageGroup
from bench.prediction.predictor import Model, Seen
from bench.prediction.threshold import Threshold

SIDE = 256
"""Longest side of a picture in pixels."""

Role = Literal["test", "held", "train"]


@dataclass(frozen=True, slots=True)
class TriedPicture:
    """A picture of the task and what the model says of it."""

    sample: Sample
    role: Role
    """`held`: the threshold was set on it. Of one that was trained on the score says nothing: the model knows it."""
    seen: Seen

    @property
    def score(self) -> float | None:
        """Higher is more anomalous; None where there is none."""
        return self.seen.score


@dataclass(frozen=True)
class Asked:
    """A kept model, its thresholds and what is asked of it."""

    model: Model
    task: Task
    thresholds: Mapping[str, Threshold]
    """Class -> its own."""

    def pictures(self, progress: Progress) -> Iterator[TriedPicture]:
        """Yield every picture, class by class and those of a role together; memory is bounded by a batch."""
        roles: dict[Role, tuple[Sample, ...]] = {
            "test": self.task.test,
            "held": self.task.calibration,
            "train": self.task.train,
        }
        with progress.phase("look", sum(map(len, roles.values()))) as advance:
            for role, samples in roles.items():
                for cls, own in by_class(samples).items():
                    groups = [ImageGroup(own[0].image.parent, tuple(sample.image for sample in own))]
                    maps = self.model.scale is not None
                    found = predictor.predict(self.model, groups, cls=cls, maps=maps, side=SIDE, say=progress.say)
                    for sample, seen in zip(own, found, strict=True):
                        yield TriedPicture(sample, role, seen)
                        advance(1, cls)


def ask(path: Path, task: Task, device: torch.device, weights: Path | None = None, far: float | None = None) -> Asked:
    """Return the model of a record with a threshold for each of its classes.

    Args:
        path: of a record with calibration that kept its model.
        task: what it was trained and tested on.
        device: where to.
        weights: folder of weights, as `bench run --weights`.
        far: share of normal pictures that may be above a class's threshold; None for the usual.

    Raises:
        UsageError: too few pictures are held back for so few false alarms.
        StoreError, WeightsError: as `bench.prediction.predictor.model_of`.
    """
    model = predictor.model_of(path, weights, device)
    found = {}
    for cls in task.classes:
        limit = threshold.of_record(model.record, path, far=far, cls=cls)
        assert limit is not None, "its run held pictures back"
        found[cls] = limit
    return Asked(model, task, found)
