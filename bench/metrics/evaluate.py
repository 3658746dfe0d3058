"""One class in, its metrics out."""

from __future__ import annotations

from collections.abc import Hashable, Iterable, Iterator, Mapping, Sequence
from functools import cached_property
from typing import Any

import numpy as np
import numpy.typing as npt

from bench.metrics import large
from bench.metrics.ids import parse, parse_all
from bench.metrics.inputs import ClassInputs, check, refuse_nan
from bench.metrics.metric import Evidence, Metric, Whole, expanded
from bench.metrics.objects import grouped
from bench.metrics.pieces import ArrayPieces
from bench.metrics.ranks import MISSING, NanScore, Ranks, Undefined, Unit, rank, rank_pieces
from bench.metrics.regions import Regions, find_regions, find_some, gather
from bench.metrics.spro import Defect

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
    objects: Sequence[Hashable] | None = None,
    defects: Sequence[Defect] | None = None,
) -> Scores:
    """Return the metrics of one class, pooled over its test images, good images included. Exact unless named otherwise.

    Only the order of the scores counts, in the dtype they come in. Every distinct score is a threshold, ties enter
    together, -0.0 equals +0.0, infinities rank as tied extremes. Regions are 8-connected.

    Memory beside the arguments, whatever the share of anomalous pixels: 300 MB and 5 bytes an anomalous pixel (9 of
    64-bit scores); where 64-bit scores have to be sorted, 150 MB a thread in place of the 300. Metrics that need all
    scores at once (named variants, saturated overlap) take up to 40 bytes an anomalous pixel more, and so do those of a
    plug-in that ask for the arrays of ranks. Masks that are neither bool nor bytes of 0 and 1 are copied.

    Args:
        maps: [N, H, W], any range, higher = more anomalous; None without maps. NumPy arrays, nested lists or torch
            tensors of float16, bfloat16, float32, float64, any integer type or bool (yes is 1).
        masks: [N, H, W], anomalous pixels True, 1 or 255 (65535 with 16 bits) and all others 0, of any real dtype; None
            where the dataset has none.
        image_scores: as `maps`, but [N], one score an image; None without them.
        labels: as `masks`, but [N]; None takes "the mask has an anomalous pixel".
        metrics: metric ids (see bench.metrics.ids); None stands for the field's seven.
        objects: which object each image shows, [N]; for sample metrics. None where images are objects.
        defects: each annotated defect of the class with its saturation area; for pixel/auspro@LIMIT.

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
        return evaluate_tensors(maps, masks, image_scores, labels, metrics=metrics, objects=objects, defects=defects)
    wanted = parse_all(metrics)
    given = check(maps, masks, image_scores, labels)
    if given.masks is None or not any(
        metric.level == "pixel" and metric.needs == "ranks" for metric in expanded(wanted, parse)
    ):
        refuse_nan("the map", given.maps)  # nothing below looks at every pixel, or not for NaN
    return collect(wanted, sides(given, objects, _Pixels(given, defects)))


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


def pixel_evidence(maps: npt.ArrayLike, masks: npt.ArrayLike) -> Evidence:
    """Return the pixel evidence of a class, arrays as `evaluate_class` takes them. Raises UsageError as it does."""
    return _Pixels(check(maps, masks, None, None), None)


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


class _Pixels:
    """The pixel side of a class whose maps are in memory."""

    def __init__(self, given: ClassInputs, defects: Sequence[Defect] | None) -> None:
        self._given, self._defects = given, defects
        self._regions: Regions | None = None

    @cached_property
    def ranks(self) -> Ranks:
        maps, masks = self._both
        marked = find_some(masks, large.most(maps.dtype))
        try:
            if marked is None:
                ranks, self._regions = large.rank_large(maps, masks)
                return ranks
            self._regions = marked.regions
            chosen = gather(maps, marked)
            del marked  # eight bytes a positive
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
    def whole(self) -> Whole:
        maps, masks = self._both
        assert self._given.labels is not None
        return Whole(maps, masks, self._given.labels, self._defects)

    @property
    def _both(self) -> tuple[Array, npt.NDArray[np.bool_]]:
        if self._given.maps is None:
            raise Undefined(MISSING["maps"])
        if self._given.masks is None:
            raise Undefined(MISSING["masks"])
        return self._given.maps, self._given.masks
