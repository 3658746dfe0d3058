"""Layout of a submission: two files for each unlabelled image, in two folders.

    anomaly_images/<class>/<test set>/<image>.tiff                 its map, float16, at the image's own size
    anomaly_images_thresholded/<class>/<test set>/<image>.png      the same as 0 and 255

Source: the submission format of MVTec AD 2's server (Heckler-Kram et al., 2025, and its evaluation package's notes).
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import PurePosixPath

from bench.api import Dataset, Sample, by_class
from bench.errors import UsageError

MAPS, BINARY = "anomaly_images", "anomaly_images_thresholded"
SUFFIXES = {MAPS: ".tiff", BINARY: ".png"}


def path_in(folder: str, sample: Sample) -> PurePosixPath:
    """Return where an image's file of one of the two folders lies in the submission."""
    return PurePosixPath(folder, sample.cls, sample.image.parent.name, sample.image.stem + SUFFIXES[folder])


def wanted(dataset: Dataset) -> dict[str, Sequence[Sample]]:
    """Return the images that a submission is about: class -> its unlabelled samples.

    Raises:
        UsageError: the dataset has none, or lacks some of its classes here.
        DatasetError: it cannot be read.
    """
    found = by_class(sample for sample in dataset.samples() if sample.split == "unlabelled")
    if not found:
        raise UsageError(
            f"{dataset.card.name} at {dataset.root} has no unlabelled images, which a submission is made of. Expected "
            "a dataset with private test images, such as mvtec_ad2"
        )
    if absent := [cls for cls in dataset.card.classes if cls not in found]:
        raise UsageError(
            f"{dataset.card.name} at {dataset.root}: no unlabelled images of {', '.join(absent)}. The server takes all "
            f"{len(dataset.card.classes)} classes or nothing"
        )
    return {cls: found[cls] for cls in found}
