"""Scores by family of defects (MVTec LOCO: logical, structural), beside the protocol's metrics.

Metrics that a dataset's authors report (`Dataset.metrics`) are measured with every run. So are `sample/<metric>` where
several images show one physical object, as Real-IAD's authors report (Wang et al., CVPR 2024), and
`image/auroc:<family>`: the anomalous images of one family of defects against all normal ones; `image/auroc:mean` is the
mean over the families, as MVTec LOCO's authors report (Bergmann et al., IJCV 2022), and `image/auroc` pools them.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from bench.api import Dataset, Sample, labels_of
from bench.metrics import Scores, evaluate_class
from bench.store.agreement import mean

OF_OBJECTS = ("sample/auroc", "sample/ap", "sample/f1max")


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
