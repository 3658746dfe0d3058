"""The scores of one class: its metrics collected from the evidence of each level, and why some have no value."""

from __future__ import annotations

from collections.abc import Hashable, Iterator, Mapping, Sequence
from functools import cached_property
from typing import Any

import numpy as np
import numpy.typing as npt

from bench.metrics.ids import parse
from bench.metrics.inputs import ClassInputs
from bench.metrics.metric import Evidence, Metric, Whole, expanded
from bench.metrics.objects import grouped
from bench.metrics.ranking import rank
from bench.metrics.ranks import Ranks, Undefined, Unit
from bench.metrics.regions import Regions

Array = npt.NDArray[Any]


class Scores(Mapping[str, float | None]):
    """Metric id -> fraction in [0, 1], or None where the metric is undefined and `reasons` says why."""

    def __init__(self, values: Mapping[str, float | None], reasons: Mapping[str, str]) -> None:
        self._values = dict(values)
        self.reasons: dict[str, str] = dict(reasons)
        """Metric id -> why it has no value; exactly the ids whose value is None."""

    def __getitem__(self, metric: str) -> float | None:
        return self._values[metric]

    def __iter__(self) -> Iterator[str]:
        return iter(self._values)

    def __len__(self) -> int:
        return len(self._values)

    def __repr__(self) -> str:
        return f"Scores({self._values!r}, reasons={self.reasons!r})"


def mad(scores: Mapping[str, float | None]) -> float | None:
    """Return mAD, the unweighted mean of the field's seven metrics; None unless all seven have a value."""
    return parse("mad").mean(scores)


def sides(given: ClassInputs, objects: Sequence[Hashable] | None, pixel: Evidence) -> dict[str, Evidence]:
    """Return the evidence of each level of a class.

    Args:
        given: checked inputs.
        objects: which object each image shows, [N]; None where that is not known.
        pixel: evidence of the pixels.

    Raises:
        UsageError: `objects` are not one an image.
    """
    of_objects = grouped(given.image_scores, given.labels, objects)
    return {
        "image": ImageEvidence(given.image_scores, given.labels),
        "pixel": pixel,
        "sample": ImageEvidence(*of_objects, unit="object", lacking="no objects shown by several images"),
    }


def collect(wanted: Sequence[Metric], evidence: Mapping[str, Evidence]) -> Scores:
    """Return the metrics of one class from the evidence of its levels."""
    values: dict[str, float | None] = {}
    reasons: dict[str, str] = {}
    # ranks first: their pass over the pixels finds NaN, which other metrics take as absent
    for metric in sorted(expanded(wanted, parse), key=lambda metric: metric.needs != "ranks"):
        try:
            values[str(metric)] = metric.compute(evidence[metric.level])
        except Undefined as why:
            values[str(metric)] = None
            reasons[str(metric)] = str(why)
    for metric in (metric for metric in wanted if metric.parts):
        values[str(metric)] = metric.mean(values)
        if values[str(metric)] is None:
            lacking = [part for part in metric.parts if values[part] is None]
            reasons[str(metric)] = f"no value of {', '.join(lacking)}: {reasons[lacking[0]]}"
    asked = [str(metric) for metric in wanted]
    return Scores({name: values[name] for name in asked}, {name: reasons[name] for name in asked if name in reasons})


class ImageEvidence:
    """The image side of a class, or its objects, ranked when the first metric asks."""

    def __init__(
        self,
        scores: Array | None,
        labels: npt.NDArray[np.bool_] | None,
        unit: Unit = "image",
        lacking: str = "no image scores given",
    ) -> None:
        """Take checked scores and labels, [N]; None where there are none, for the reason `lacking`."""
        self._scores, self._labels, self._unit, self._lacking = scores, labels, unit, lacking

    @cached_property
    def ranks(self) -> Ranks:
        """Of the anomalous images."""
        return rank(*self._both, self._unit)

    @property
    def regions(self) -> Regions:
        """Images have none."""
        raise Undefined("images have no regions")

    @cached_property
    def whole(self) -> Whole:
        """Their scores and labels."""
        scores, labels = self._both
        return Whole(scores, labels, labels)

    @property
    def _both(self) -> tuple[Array, npt.NDArray[np.bool_]]:
        if self._scores is None or self._labels is None:
            raise Undefined(self._lacking)
        return self._scores, self._labels
