"""Intervals over test images, for one class and for means over classes, seeds and metrics.

Classes are independent, so each draws its own images; the seeds of a method and the methods of a table draw the same
images of a class, so that a mean or a difference can be taken resample by resample.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from zlib import crc32

import numpy as np
import numpy.typing as npt

from bench.errors import UsageError
from bench.metrics import SEVEN, bootstrap_class

Floats = npt.NDArray[np.float64]
IMAGE_METRICS = tuple(metric for metric in SEVEN if metric.startswith("image/"))
RESAMPLES = 1000


@dataclass(frozen=True, slots=True)
class Images:
    """What one method said of the test images of one class; arrays in one order."""

    ids: tuple[str, ...]
    labels: npt.NDArray[np.bool_]
    """True = anomalous, [N]."""
    scores: Floats
    """Higher = more anomalous, [N]."""
    defects: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Resampled:
    """A score and its values on resamples of the images, float64 [R]; NaN where a resample leaves it undefined."""

    value: float
    samples: Floats

    def interval(self, level: float = 0.95) -> tuple[float, float] | None:
        """Return the percentile interval; None where no two resamples differ, as for a perfect score.

        The images then hold no mistake that a resample could draw twice, and a width of zero would claim certainty.

        Raises:
            UsageError: `level` is outside (0, 1).
        """
        if not 0 < level < 1:
            raise UsageError(f"level is {level}, expected a share in (0, 1) such as 0.95")
        known = self.samples[~np.isnan(self.samples)]
        if len(known) == 0 or known.min() == known.max():
            return None
        low, high = np.quantile(known, [(1 - level) / 2, (1 + level) / 2])
        return float(low), float(high)


def resampled(
    cls: str,
    images: Images,
    maps: npt.ArrayLike | None = None,
    masks: npt.ArrayLike | None = None,
    metrics: Sequence[str] = IMAGE_METRICS,
    resamples: int = RESAMPLES,
) -> dict[str, Resampled]:
    """Return the metrics of one class that have a value, with their resamples.

    Args:
        cls: names the class; the same class draws the same images, whatever the method.
        images: per-image scores and labels.
        maps: float [N, H, W] in the order of `images`; needed for pixel metrics alone.
        masks: bool [N, H, W].
        metrics: exact metric ids.
        resamples: R.

    Raises:
        UsageError: as in `bench.metrics.bootstrap_class`.
        ScoreError: a score is NaN.
    """
    # in the order of ids: two methods that read the images in different orders draw the same ones
    order = np.argsort(np.array(images.ids), kind="stable")
    found = bootstrap_class(
        None if maps is None else np.asarray(maps)[order],
        None if masks is None else np.asarray(masks)[order],
        images.scores[order],
        images.labels[order],
        metrics=metrics,
        resamples=resamples,
        seed=crc32(cls.encode("utf-8", "surrogateescape")),
    )
    values = {metric: found.scores[metric] for metric in found.samples}
    return {metric: Resampled(value, found.samples[metric]) for metric, value in values.items() if value is not None}


def mean_of(parts: Sequence[Resampled]) -> Resampled:
    """Return the mean of scores, resample by resample.

    Raises:
        UsageError: no score, or different numbers of resamples.
    """
    if not parts or len({len(part.samples) for part in parts}) != 1:
        raise UsageError(f"{len(parts)} scores for a mean, expected at least one, all of equally many resamples")
    return Resampled(
        math.fsum(part.value for part in parts) / len(parts), np.mean([part.samples for part in parts], axis=0)
    )


def mean_over_classes(classes: Mapping[str, Mapping[str, Resampled]]) -> dict[str, Resampled]:
    """Return the means over classes of the metrics that every class has: metric id -> mean."""
    if not classes:
        return {}
    first, *others = classes.values()
    shared = [metric for metric in first if all(metric in other for other in others)]
    return {metric: mean_of([scores[metric] for scores in classes.values()]) for metric in shared}
