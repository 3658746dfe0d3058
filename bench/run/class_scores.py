"""Scores of one class: by the protocol's metrics, at one size or at the images' own, and by family of defects.

Metrics that a dataset's authors report (`Dataset.metrics`) are measured with every run. So are `sample/<metric>` where
several images show one physical object, as Real-IAD's authors report (Wang et al., CVPR 2024), and
`image/auroc:<family>`: the anomalous images of one family of defects against all normal ones; `image/auroc:mean` is the
mean over the families, as MVTec LOCO's authors report (Bergmann et al., IJCV 2022), and `image/auroc` pools them.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from bench.api import Dataset, Sample, labels_of
from bench.loading.decoding import peek_size
from bench.loading.own_size import to_own_size
from bench.metrics import Defect, Scores, evaluate_class, parse
from bench.metrics.accumulate import Accumulator, streams
from bench.metrics.metric import expanded
from bench.store.agreement import mean

OF_OBJECTS = ("sample/auroc", "sample/ap", "sample/f1max")


WHY_NOT = "not measured at the images' own sizes: it takes all maps at once"

Own = Callable[[npt.NDArray[np.float32], npt.NDArray[np.bool_], int], None]
"""Told of an image: its map and mask [1, H, W], and its place in the class."""


def of_authors(dataset: Dataset, samples: Sequence[Sample]) -> tuple[str, ...]:
    """Return the metrics that the dataset's authors report, and those of objects where samples are views of some."""
    objects = OF_OBJECTS if any(sample.unit for sample in samples) else ()
    return tuple(dict.fromkeys((*dataset.metrics, *objects)))


def by_family(samples: Sequence[Sample], image_scores: npt.NDArray[np.float64]) -> Scores:
    """Return image AUROC of each family of defects of one class, and their mean.

    Args:
        samples: its test images.
        image_scores: float64 [N], in their order.
    """
    values: dict[str, float | None] = {}
    reasons: dict[str, str] = {}
    for family in sorted({sample.family for sample in samples if sample.family}):
        picked = [index for index, sample in enumerate(samples) if not sample.label or sample.family == family]
        labels = labels_of(samples[index] for index in picked)
        found = evaluate_class(None, None, image_scores[picked], labels, metrics=["image/auroc"])
        values[f"image/auroc:{family}"] = found["image/auroc"]
        reasons |= {f"image/auroc:{family}": reason for reason in found.reasons.values()}
    if values:
        values["image/auroc:mean"] = mean(list(values.values()))
    if reasons:
        reasons["image/auroc:mean"] = "not every family has a value"
    return Scores(values, reasons)


def measure(
    samples: Sequence[Sample],
    maps: npt.NDArray[Any] | None,
    image_scores: npt.NDArray[np.float64],
    masks: npt.NDArray[np.bool_] | None,
    labels: Sequence[int],
    metrics: Sequence[str],
    defects: Sequence[Defect] | None,
) -> Scores:
    """Return the metrics of a class whose maps and masks are of one size.

    Args:
        samples: its test images.
        maps: [N, S, S]; None without maps.
        image_scores: [N].
        masks: [N, S, S]; None without masks.
        labels: 0 or 1, [N].
        metrics: ids.
        defects: one by one, where the dataset has them so.
    """
    # the objects that images show, where the dataset says so
    objects = [sample.unit or sample.id for sample in samples] if any(s.unit for s in samples) else None
    found = evaluate_class(maps, masks, image_scores, labels, metrics=metrics, objects=objects, defects=defects)
    if masks is not None:
        return found
    # maps are not even kept without masks, but it is the masks that are missing
    reasons = {metric: "no masks" if metric.startswith("pixel/") else why for metric, why in found.reasons.items()}
    return Scores(found, reasons)


def chosen(scores: Scores, metrics: Sequence[str]) -> Scores:
    """Return some of the metrics of a class, with their reasons."""
    reasons = {metric: scores.reasons[metric] for metric in metrics if metric in scores.reasons}
    return Scores({metric: scores[metric] for metric in metrics}, reasons)


def can_measure(metric: str) -> bool:
    """Whether a metric can be measured at the images' own sizes: those that are computed image after image."""
    return all(streams(one) for one in expanded([parse(metric)], parse))


def measure_own(
    dataset: Dataset,
    samples: Sequence[Sample],
    maps: npt.NDArray[Any],
    scores: npt.NDArray[np.float64],
    labels: Sequence[int],
    metrics: Sequence[str],
    seen: Own | None = None,
) -> Scores:
    """Return a class's metrics; memory is bounded by the accumulator's buffer and one image.

    Args:
        dataset: reads the masks.
        samples: test images of the class.
        maps: [N, S, S], of the whole images.
        scores: of the images, [N].
        labels: 0 or 1, [N].
        metrics: ids; those that take all maps at once are undefined.
        seen: told of every image.

    Raises:
        DatasetError: a mask cannot be read, or has another size than its image.
    """
    wanted = [metric for metric in metrics if can_measure(metric)]
    found = Accumulator(wanted)
    for place, (sample, anomaly) in enumerate(zip(samples, maps, strict=True)):
        width, height = peek_size(sample.image)
        own = to_own_size(anomaly, (width, height))[None]
        mask = dataset.read_mask(sample)[None] if sample.label else np.zeros((1, height, width), dtype=np.bool_)
        found.update(own, mask, scores[place : place + 1], [labels[place]])
        if seen is not None:
            seen(own, mask, place)
    measured = found.compute()
    others = [metric for metric in metrics if metric not in wanted]
    reasons = {**measured.reasons, **dict.fromkeys(others, WHY_NOT)}
    return Scores({metric: measured.get(metric) for metric in metrics}, reasons)
