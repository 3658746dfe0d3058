"""Thresholds in a record: the normal images that they were set on, and what they are worth on the test images.

A threshold is set on images that were not trained on, never on a test image; an image, or a pixel, is called anomalous
where its score is above it. What thresholds chosen on the test images would give stands apart, in `hindsight`.
"""

from __future__ import annotations

from typing import Self

from pydantic import model_validator

from bench.stats.proportions import clopper_pearson
from bench.store.fields import Count, Number, RecordPart

OPERATING = {"image/false_alarms": False, "image/found": True, "pixel/segf1": True}
"""What an operating point is worth, `image/found@q0.95` with its threshold's rule -> whether higher is better."""


class Share(RecordPart):
    """So many of so many images, or regions."""

    count: Count
    of: Count

    @property
    def value(self) -> float | None:
        """As a fraction; None of nothing."""
        return self.count / self.of if self.of else None

    @property
    def interval(self) -> tuple[float, float] | None:
        """Return the 95 % Clopper-Pearson interval; None of nothing."""
        return clopper_pearson(self.count, self.of) if self.of else None

    @model_validator(mode="after")
    def _is_a_share(self) -> Self:
        if self.count > self.of:
            raise ValueError(f"{self.count} of {self.of}: more than there are")
        return self


class ImagePoint(RecordPart):
    """What a threshold on image scores is worth."""

    threshold: Number
    """One for each class's images; of one for all classes the same for all."""
    false_alarms: Share
    """Normal test images above it."""
    found: Share
    """Anomalous test images above it."""


class PixelPoint(RecordPart):
    """What a threshold on maps is worth; of images with masks, at the evaluation size."""

    threshold: Number
    f1: Number | None
    """SegF1: F1 of the binary maps' pixels, all test images of the class (or of all classes) together; null without an
    anomalous pixel."""
    marked: Number | None
    """Share of the pixels of normal test images above it: neighbours are alike, so that there is no interval."""
    missed: dict[str, Share]
    """Size of a region (8-connected) -> regions without a pixel above it; see `bench.run.operating.SIZES`."""


class Hindsight(RecordPart):
    """What thresholds would give that are chosen on the test images themselves: nobody could set them."""

    false_alarms_at_recall: dict[str, Share]
    """Recall (0.95, 1) -> normal images at least as high as the highest threshold that finds so many anomalous ones."""
    found_at_false_alarms: dict[str, Share]
    """Share of false alarms (0.01, 0.05) -> anomalous images that the lowest threshold with no more finds."""
    f1_pooled: Number | None = None
    """Highest SegF1 of one threshold for all test images (pixel/f1max)."""
    f1_by_image: Number | None = None
    """Mean over anomalous images of each one's highest F1, by a threshold of its own."""


class OperatingPoints(RecordPart):
    """Of a class, or of all classes with one threshold."""

    images: Count
    """Normal images that the thresholds were set on."""
    image: dict[str, ImagePoint]
    """Rule -> what it gives, see `bench.metrics.thresholds.RULES`; rules that the images are too few for are absent."""
    pixel: dict[str, PixelPoint] = {}
    """The same of maps; empty without masks or maps."""
    hindsight: Hindsight

    @property
    def worth(self) -> dict[str, float | None]:
        """Return the fractions of OPERATING by rule: `image/found@q0.95`; None of no images."""
        found: dict[str, float | None] = {}
        for rule, point in self.image.items():
            found |= {f"image/false_alarms@{rule}": point.false_alarms.value, f"image/found@{rule}": point.found.value}
        return found | {f"pixel/segf1@{rule}": point.f1 for rule, point in self.pixel.items()}


class Calibration(RecordPart):
    """Normal images that were held back for thresholds, and the operating points that came of them."""

    share: Number
    """Of the training images of a class, as asked for."""
    validation: tuple[str, ...] = ()
    """Classes of which the dataset's own validation images were taken instead."""
    scores: dict[str, dict[str, Number]]
    """Class -> id of each image that was held back -> its score."""
    classes: dict[str, OperatingPoints]
    pooled: OperatingPoints | None = None
    """One threshold for all classes; of cells of several."""

    @model_validator(mode="after")
    def _agrees(self) -> Self:
        if not 0 < self.share < 1:
            raise ValueError(f"share is {self.share}, expected within (0, 1)")
        if set(self.scores) != set(self.classes):
            raise ValueError("scores and classes name other classes")
        for cls, points in self.classes.items():
            if points.images != len(self.scores[cls]):
                raise ValueError(f"{cls}: {points.images} images, and scores of {len(self.scores[cls])}")
        return self

    def of(self, cls: str) -> tuple[OperatingPoints, list[float]] | None:
        """Return a class's operating points and calibration scores, ascending.

        An empty name stands for the only class, or for one threshold for all classes; None of a class that is not here.
        """
        if not cls and len(self.classes) > 1:
            every = [score for own in self.scores.values() for score in own.values()]
            return (self.pooled, sorted(every)) if self.pooled is not None else None
        name = cls or next(iter(self.classes))
        return (self.classes[name], sorted(self.scores[name].values())) if name in self.classes else None
