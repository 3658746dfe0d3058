"""One class in, its metrics out."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping
from functools import cached_property
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from bench.metrics.ids import MetricId, parse_all
from bench.metrics.inputs import ClassInputs, check, refuse_nan
from bench.metrics.pieces import ArrayPieces
from bench.metrics.ranks import (
    NanScore,
    Ranks,
    Undefined,
    auroc,
    average_precision,
    f1_max,
    rank,
    rank_pieces,
)
from bench.metrics.regions import Regions, aupro, find_marked, find_regions, gather
from bench.metrics.variants import Variants
from bench.protocol import SEVEN

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


def evaluate_class(
    maps: npt.ArrayLike | None,
    masks: npt.ArrayLike | None,
    image_scores: npt.ArrayLike | None = None,
    labels: npt.ArrayLike | None = None,
    *,
    metrics: Iterable[str] | None = None,
) -> Scores:
    """Return the metrics of one class, pooled over its test images, good images included. Exact unless named otherwise.

    Only the order of the scores counts, in the dtype they come in. Every distinct score is a threshold, ties enter
    together, -0.0 equals +0.0, infinities rank as tied extremes. Regions are 8-connected.

    Args:
        maps: [N, H, W], any range, higher = more anomalous; None without maps. NumPy arrays, nested lists or torch
            tensors of float16, bfloat16, float32, float64, any integer type or bool (yes is 1).
        masks: [N, H, W], anomalous pixels True, 1 or 255 (65535 with 16 bits) and all others 0, of any real dtype; None
            where the dataset has none.
        image_scores: as `maps`, but [N], one score an image; None without them.
        labels: as `masks`, but [N]; None takes "the mask has an anomalous pixel".
        metrics: metric ids (see bench.metrics.ids); None stands for the field's seven.

    Returns:
        A value for each metric asked for. Undefined ones are None with a reason, never 0: AUROC and AUPRO without
        both kinds of pixels (images), AP and F1-max without an anomalous one, and whatever lacks its input. Without
        a normal pixel (image) AP and F1-max are 1.

    Raises:
        UsageError: unknown metric id; wrong dtype, shape or number of images; masks or labels that do not say one thing
            only (class numbers, soft edges, -1); arrays with a mask of their own (numpy.ma) that hides a value.
        ScoreError: a score is NaN; the message names the image.
    """
    from bench.metrics.tensors import evaluate_tensors, on_accelerator  # made of what is below

    if any(map(on_accelerator, (maps, masks, image_scores, labels))):
        return evaluate_tensors(maps, masks, image_scores, labels, metrics=metrics)
    wanted = parse_all(metrics)
    given = check(maps, masks, image_scores, labels)
    if not any(metric.level == "pixel" and metric.variant is None for metric in wanted) or given.masks is None:
        refuse_nan("the map", given.maps)  # nothing below looks at every pixel, or not for NaN
    return collect(wanted, ImageEvidence(given.image_scores, given.labels), _Pixels(given))


def mad(scores: Mapping[str, float | None]) -> float | None:
    """Return mAD, the unweighted mean of the field's seven metrics; None unless all seven have a value."""
    values = [scores.get(metric) for metric in SEVEN]
    numbers = [value for value in values if value is not None]
    return math.fsum(numbers) / len(SEVEN) if len(numbers) == len(SEVEN) else None


class Evidence(Protocol):
    """What the metrics of one level are computed from; each part may raise Undefined, with the reason."""

    @property
    def ranks(self) -> Ranks:
        """Of the positives of that level."""
        ...

    @property
    def regions(self) -> Regions:
        """Of the masks."""
        ...

    @property
    def variants(self) -> Variants:
        """Computes metrics that are named after somebody's code."""
        ...


def collect(wanted: Iterable[MetricId], image: Evidence, pixel: Evidence) -> Scores:
    """Return the metrics of one class from the evidence of its two levels."""
    values: dict[str, float | None] = {}
    reasons: dict[str, str] = {}
    # exact metrics first: their pass over the pixels finds NaN, which variants take as absent
    for metric in sorted(wanted, key=lambda metric: metric.variant is not None):
        try:
            values[str(metric)] = _value(metric, image if metric.level == "image" else pixel)
        except Undefined as why:
            values[str(metric)] = None
            reasons[str(metric)] = str(why)
    asked = [str(metric) for metric in wanted]
    return Scores({name: values[name] for name in asked}, {name: reasons[name] for name in asked if name in reasons})


def _value(metric: MetricId, evidence: Evidence) -> float:
    match metric.metric, metric.variant:
        case "auroc", None:
            return auroc(evidence.ranks)
        case "ap", None:
            return average_precision(evidence.ranks)
        case "f1max", None:
            return f1_max(evidence.ranks)
        case "aupro", None if metric.limit is not None:
            return aupro(evidence.ranks, evidence.regions, metric.limit)
        case _, str():
            return evidence.variants.value(metric)
    raise AssertionError(f"{metric} is parsed but not computed")


class ImageEvidence:
    """The image side of a class, ranked when the first metric asks."""

    def __init__(self, scores: Array | None, labels: npt.NDArray[np.bool_] | None) -> None:
        """Take checked image scores and labels, [N]; None where there are none."""
        self._scores, self._labels = scores, labels

    @cached_property
    def ranks(self) -> Ranks:
        """Of the anomalous images."""
        if self._scores is None or self._labels is None:
            raise Undefined("no image scores given")
        return rank(self._scores, self._labels, "image")

    @property
    def regions(self) -> Regions:
        """Images have none."""
        raise AssertionError("no image metric asks for regions")

    @property
    def variants(self) -> Variants:
        """Images have none."""
        raise AssertionError("no image metric has a variant")


class _Pixels:
    """The pixel side of a class whose maps are in memory."""

    def __init__(self, given: ClassInputs) -> None:
        self._given = given
        self._regions: Regions | None = None

    @cached_property
    def ranks(self) -> Ranks:
        maps, masks = self._both
        marked = find_marked(masks)
        self._regions = marked.regions
        chosen = gather(maps, marked)
        del marked  # eight bytes a positive
        try:
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
    def variants(self) -> Variants:
        maps, masks = self._both
        assert self._given.labels is not None
        return Variants(maps, masks, self._given.labels, self.regions)

    @property
    def _both(self) -> tuple[Array, npt.NDArray[np.bool_]]:
        if self._given.maps is None:
            raise Undefined("no maps given")
        if self._given.masks is None:
            raise Undefined("no masks given")
        return self._given.maps, self._given.masks
