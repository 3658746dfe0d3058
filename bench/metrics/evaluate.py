"""Metrics of one class: the front door, for arrays in memory and for tensors on a device."""

from __future__ import annotations

from collections.abc import Hashable, Iterable, Sequence

import numpy.typing as npt

from bench.metrics.arrays import evaluate_arrays
from bench.metrics.scores import Scores
from bench.metrics.spro import Defect
from bench.metrics.tensors import evaluate_tensors, on_accelerator


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
    on_device = any(map(on_accelerator, (maps, masks, image_scores, labels)))
    evaluate = evaluate_tensors if on_device else evaluate_arrays
    return evaluate(maps, masks, image_scores, labels, metrics=metrics, objects=objects, defects=defects)
