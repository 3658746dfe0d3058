"""What single datasets are scored by beside the protocol's metrics; nothing for the others.

`image/auroc:<family>`: the anomalous images of one family of defects against all normal ones; `image/auroc:mean`: the
mean over the families, as MVTec LOCO's authors report (Bergmann et al., IJCV 2022). `image/auroc` itself pools them.
`sample/<metric>`: physical objects shown by several images, scored by the highest of their images' scores and anomalous
if one of these is, as Real-IAD's authors report (Wang et al., CVPR 2024).
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from bench.api import Sample
from bench.metrics import Scores, evaluate_class
from bench.store.rows import mean


def extra_scores(samples: Sequence[Sample], image_scores: npt.NDArray[np.float64]) -> Scores:
    """Return the extra scores of one class.

    Args:
        samples: its test images.
        image_scores: float64 [N], in their order.
    """
    values: dict[str, float | None] = {}
    reasons: dict[str, str] = {}
    for found in (_families(samples, image_scores), _objects(samples, image_scores)):
        values |= found
        reasons |= found.reasons
    return Scores(values, reasons)


def _families(samples: Sequence[Sample], image_scores: npt.NDArray[np.float64]) -> Scores:
    values: dict[str, float | None] = {}
    reasons: dict[str, str] = {}
    for family in sorted({sample.family for sample in samples if sample.family}):
        picked = [index for index, sample in enumerate(samples) if not sample.label or sample.family == family]
        labels = [samples[index].label for index in picked]
        found = evaluate_class(None, None, image_scores[picked], labels, metrics=["image/auroc"])
        values[f"image/auroc:{family}"] = found["image/auroc"]
        reasons |= {f"image/auroc:{family}": reason for reason in found.reasons.values()}
    if values:
        values["image/auroc:mean"] = mean(list(values.values()))
    if reasons:
        reasons["image/auroc:mean"] = "not every family has a value"
    return Scores(values, reasons)


def _objects(samples: Sequence[Sample], image_scores: npt.NDArray[np.float64]) -> Scores:
    if not any(sample.unit for sample in samples):
        return Scores({}, {})
    highest: dict[str, float] = {}
    labels: dict[str, int] = {}
    for sample, score in zip(samples, image_scores.tolist(), strict=True):
        unit = sample.unit or sample.id
        highest[unit] = max(score, highest.get(unit, score))
        labels[unit] = max(sample.label, labels.get(unit, 0))
    metrics = ("image/auroc", "image/ap", "image/f1max")
    found = evaluate_class(None, None, list(highest.values()), list(labels.values()), metrics=metrics)
    return Scores(
        {metric.replace("image/", "sample/"): value for metric, value in found.items()},
        {metric.replace("image/", "sample/"): reason for metric, reason in found.reasons.items()},
    )
