"""DeLong's paired test of two image AUROCs on the same images: without resampling, exact with ties.

Source: DeLong, DeLong and Clarke-Pearson, Biometrics 44 (1988), equations 4 to 6. A positive's placement is the share
of negatives below it (ties count half), a negative's the share of positives above it; their mean is AUROC, and the
covariance of the placements gives that of two AUROCs. Placements follow from midranks in O(n log n), as in Sun and Xu,
IEEE Signal Processing Letters 21 (2014).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import sqrt

import numpy as np
import numpy.typing as npt

from bench.errors import UsageError

Floats = npt.NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Difference:
    """A paired difference of AUROCs, first minus second, as fractions."""

    first: float
    second: float
    variance: float
    """Of the difference, estimated."""

    @property
    def value(self) -> float:
        """Return first minus second."""
        return self.first - self.second

    @property
    def p(self) -> float | None:
        """Return the two-sided p-value; None where the placements do not vary (both perfect, or the same ranking)."""
        from scipy.stats import norm

        return float(2 * norm.sf(abs(self.value) / sqrt(self.variance))) if self.variance > 0 else None

    def interval(self, level: float = 0.95) -> tuple[float, float] | None:
        """Return the normal interval of the difference; None where `p` is.

        Raises:
            UsageError: `level` is outside (0, 1).
        """
        if not 0 < level < 1:
            raise UsageError(f"level is {level}, expected a share in (0, 1) such as 0.95")
        if self.variance <= 0:
            return None
        from scipy.stats import norm

        half = float(norm.ppf((1 + level) / 2)) * sqrt(self.variance)
        return self.value - half, self.value + half


def delong(labels: npt.ArrayLike, first: npt.ArrayLike, second: npt.ArrayLike) -> Difference:
    """Return the difference in AUROC of two methods on the images of one class.

    Args:
        labels: bool or 0/1 [N], 1 = anomalous.
        first: scores of the first method [N], higher = more anomalous.
        second: scores of the second method on the same images in the same order [N].

    Raises:
        UsageError: lengths differ, a score is NaN, or fewer than two images of either kind (no variance then).
    """
    anomalous = np.asarray(labels).astype(bool)
    scores = [np.asarray(values, dtype=np.float64) for values in (first, second)]
    if any(values.shape != anomalous.shape for values in scores) or anomalous.ndim != 1:
        raise UsageError(f"{len(anomalous)} labels with {len(scores[0])} and {len(scores[1])} scores, expected as many")
    if any(np.isnan(values).any() for values in scores):
        raise UsageError("a score is NaN, expected scores that can be ranked")
    positives, negatives = int(anomalous.sum()), int((~anomalous).sum())
    if min(positives, negatives) < 2:
        raise UsageError(f"{positives} anomalous and {negatives} normal images, expected at least two of each")
    (up_first, down_first), (up_second, down_second) = (_placements(values, anomalous) for values in scores)
    variance = float(np.var(up_first - up_second, ddof=1)) / positives
    variance += float(np.var(down_first - down_second, ddof=1)) / negatives
    # what rounding leaves of equal rankings is no variance
    return Difference(float(up_first.mean()), float(up_second.mean()), variance if variance > 1e-20 else 0.0)


def mean_difference(classes: Sequence[Difference]) -> Difference:
    """Return the difference of mean AUROC over classes, whose images are independent of one another.

    Raises:
        UsageError: no class.
    """
    if not classes:
        raise UsageError("no class to take a mean over, expected at least one")
    count = len(classes)
    return Difference(
        sum(one.first for one in classes) / count,
        sum(one.second for one in classes) / count,
        sum(one.variance for one in classes) / count**2,
    )


def _placements(scores: Floats, anomalous: npt.NDArray[np.bool_]) -> tuple[Floats, Floats]:
    """Return each positive's share of negatives below it [P] and each negative's share of positives above it [N]."""
    from scipy.stats import rankdata

    ranks = rankdata(scores)
    positives, negatives = int(anomalous.sum()), int((~anomalous).sum())
    up = (ranks[anomalous] - rankdata(scores[anomalous])) / negatives
    down = 1 - (ranks[~anomalous] - rankdata(scores[~anomalous])) / positives
    return up, down
