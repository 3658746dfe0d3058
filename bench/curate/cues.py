"""Leakage cues: what tells a class's test images apart without any look at the defects (`bench data cues`).

Where normal and anomalous test images were taken under different light, a number as plain as the mean grey value
separates them, and every method that sees light is helped or pushed below chance by it. A score on such a class says
less than it seems to.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from PIL import Image

from bench.api import Dataset, Sample, by_class
from bench.errors import UsageError
from bench.machine.threads import cores
from bench.metrics import evaluate_class

CUES = ("brightness", "contrast", "sharpness")
"""Mean grey value, its standard deviation, and the mean absolute difference of neighbours, of the image at SIDE."""
SIDE = 128
"""Images are reduced to SIDE x SIDE by area, so that sensor noise counts little."""
STRONG = 0.4
"""Distance of an AUROC from 0.5 at which a cue is called strong."""


@dataclass(frozen=True, slots=True)
class Cue:
    """How far one number an image separates the test images of one class."""

    cls: str
    name: str
    auroc: float
    """Image AUROC of the number itself; 0 separates as well as 1."""
    distance_auroc: float
    """Image AUROC of its distance from the training images' mean. Near 0, normal test images lie farther from the
    training images than anomalous ones: a detector that sees the cue falls below chance."""
    normal: float
    """Mean of the normal test images, in standard deviations of the training images from their mean."""
    anomalous: float

    @property
    def strong(self) -> bool:
        """Whether either AUROC is at least STRONG away from 0.5."""
        return max(abs(self.auroc - 0.5), abs(self.distance_auroc - 0.5)) >= STRONG


def cues(
    dataset: Dataset, classes: Sequence[str] = (), progress: Callable[[int, int], None] = lambda done, total: None
) -> tuple[Cue, ...]:
    """Measure every cue of every class that has training, normal and anomalous test images.

    Args:
        dataset: located and intact.
        classes: only these; empty for all.
        progress: called as progress(done, total) after each image, from the calling thread.

    Raises:
        UsageError: a semantic dataset, a class that it does not have, or no class with all three kinds of images.
        DatasetError: an image cannot be read.
    """
    if dataset.card.kind == "semantic":
        raise UsageError(
            f"{dataset.card.name}: its images are normal or not only by the split that is chosen. "
            "Expected a dataset of defects; see: bench ls datasets"
        )
    found = by_class([sample for sample in dataset.samples() if sample.split in ("train", "test")])
    for cls in classes:
        if cls not in found:
            raise UsageError(f"--classes: {dataset.card.name} has no '{cls}' here. It has: {', '.join(found)}")
    groups = {cls: own for cls, own in found.items() if (not classes or cls in classes) and complete(own)}
    if not groups:
        raise UsageError(
            f"{dataset.card.name} at {dataset.root}: no class with training, normal and anomalous test images. "
            f"See: bench data verify {dataset.card.name} --root DIR"
        )
    total, done = sum(map(len, groups.values())), 0
    measured: list[Cue] = []
    with ThreadPoolExecutor(min(8, cores())) as pool:
        for cls, samples in groups.items():
            rows = []
            for row in pool.map(lambda sample: measure(dataset.read_image(sample)), samples):
                rows.append(row)
                done += 1
                progress(done, total)
            measured += separate(cls, samples, np.array(rows))
    return tuple(measured)


def complete(samples: Sequence[Sample]) -> bool:
    """Return whether a class has training, normal and anomalous test images, without which it has no cues."""
    kinds = {(sample.split, sample.label) for sample in samples}
    return {("train", 0), ("test", 0), ("test", 1)} <= kinds


def measure(image: Image.Image) -> tuple[float, float, float]:
    """Return brightness, contrast and sharpness of an image in mode RGB, each in [0, 1]; see CUES."""
    grey = image.convert("L").resize((SIDE, SIDE), Image.Resampling.BOX)
    values = np.asarray(grey, dtype=np.float64) / 255
    steps = np.abs(np.diff(values, axis=0)).mean() + np.abs(np.diff(values, axis=1)).mean()
    return float(values.mean()), float(values.std()), float(steps / 2)


def separate(cls: str, samples: Sequence[Sample], rows: npt.NDArray[np.float64]) -> list[Cue]:
    """Return every cue of one class.

    Args:
        cls: its name.
        samples: its training and test images, of which there are all three kinds; see `complete`.
        rows: what `measure` gave of each, float64 [N, 3].
    """
    train = np.array([sample.split == "train" for sample in samples])
    labels = np.array([sample.label for sample in samples])[~train]
    found = []
    for name, column in zip(CUES, rows.T, strict=True):
        centre, spread = column[train].mean(), max(column[train].std(), 1e-9)
        test = (column[~train] - centre) / spread
        found.append(
            Cue(
                cls=cls,
                name=name,
                auroc=_auroc(test, labels),
                distance_auroc=_auroc(np.abs(test), labels),
                normal=float(test[labels == 0].mean()),
                anomalous=float(test[labels == 1].mean()),
            )
        )
    return found


def _auroc(scores: npt.NDArray[np.float64], labels: npt.NDArray[np.int64]) -> float:
    value = evaluate_class(None, None, scores, labels, metrics=("image/auroc",))["image/auroc"]
    assert value is not None  # both labels are there, see _complete
    return value
