"""Logistic curve of detection: found or missed against the logarithm of a defect's size, or of its contrast.

The fit is Firth's (Biometrika 80, 1993), whose penalty keeps it finite where all large regions are found and all small
ones missed, as for a good method they are. The size at which a share is found has Fieller's interval (J. R. Stat. Soc.
B 16, 1954). Regions are taken as independent, which several in one image are not quite.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from bench.errors import UsageError

Floats = npt.NDArray[np.float64]
STEPS, CLOSE = 100, 1e-9
Z = 1.959963984540054
"""Of a 95 % interval."""


@dataclass(frozen=True, slots=True)
class Detection:
    """P(found) = 1 / (1 + exp(-(intercept + slope * log(size))))."""

    intercept: float
    slope: float
    covariance: tuple[float, float, float]
    """Of the two: variance of the intercept, covariance, variance of the slope."""
    found: int
    regions: int
    smallest: float
    largest: float
    """Sizes that were seen."""

    def probability(self, size: npt.ArrayLike) -> Floats:
        """Return the probability that regions of these sizes are found."""
        return np.asarray(1 / (1 + np.exp(-(self.intercept + self.slope * np.log(np.asarray(size, dtype=np.float64))))))

    def band(self, size: npt.ArrayLike) -> tuple[Floats, Floats]:
        """Return the ends of the 95 % interval of that probability (Wald's, on the logit)."""
        logs = np.log(np.asarray(size, dtype=np.float64))
        first, both, second = self.covariance
        spread = Z * np.sqrt(first + 2 * both * logs + second * logs**2)
        middle = self.intercept + self.slope * logs
        return np.asarray(1 / (1 + np.exp(-(middle - spread)))), np.asarray(1 / (1 + np.exp(-(middle + spread))))

    def size_found(self, share: float = 0.9) -> float | None:
        """Return the size of which such a share is found; None where larger regions are not found more often."""
        return math.exp((_logit(share) - self.intercept) / self.slope) if self.slope > 0 else None

    def size_interval(self, share: float = 0.9) -> tuple[float, float] | None:
        """Return the 95 % interval of `size_found`; None where the regions cannot bound it."""
        first, both, second = self.covariance
        apart = self.intercept - _logit(share)
        a = self.slope**2 - Z**2 * second
        b = apart * self.slope - Z**2 * both
        c = apart**2 - Z**2 * first
        if a <= 0 or self.slope <= 0 or b * b < a * c:
            return None
        root = math.sqrt(b * b - a * c)
        return math.exp((-b - root) / a), math.exp((-b + root) / a)


def fit(sizes: npt.ArrayLike, found: npt.ArrayLike) -> Detection:
    """Return the curve of some regions.

    Args:
        sizes: of each, positive, in any unit, [R]; at least two different ones.
        found: whether each was, bool [R].

    Raises:
        UsageError: no two sizes, or a size that is not positive.
    """
    given, hits = np.asarray(sizes, dtype=np.float64), np.asarray(found, dtype=np.float64)
    if len(given) != len(hits) or len(np.unique(given)) < 2 or not (given > 0).all():
        raise UsageError(f"{len(given)} sizes of {len(hits)} regions: expected positive ones, at least two different")
    logs = np.log(given)
    # centred, so that the two parameters hardly depend on each other while they are looked for
    middle = float(logs.mean())
    rows = np.column_stack([np.ones_like(logs), logs - middle])
    beta = np.zeros(2)
    for _ in range(STEPS):
        step = _step(rows, hits, beta)
        beta += step
        if np.abs(step).max() < CLOSE:
            break
    covariance = np.linalg.inv(_information(rows, beta))
    # back to the origin that users know
    turned = np.array([[1.0, -middle], [0.0, 1.0]])
    intercept, slope = turned @ beta
    covariance = turned @ covariance @ turned.T
    return Detection(
        intercept=float(intercept),
        slope=float(slope),
        covariance=(float(covariance[0, 0]), float(covariance[0, 1]), float(covariance[1, 1])),
        found=int(hits.sum()),
        regions=len(hits),
        smallest=float(given.min()),
        largest=float(given.max()),
    )


def _step(rows: Floats, hits: Floats, beta: Floats) -> Floats:
    """Return a step of Newton's method on Firth's score, no longer than 5."""
    p = 1 / (1 + np.exp(-rows @ beta))
    weight = p * (1 - p)
    inverse = np.linalg.inv(_information(rows, beta))
    leverage = weight * np.einsum("ri,ij,rj->r", rows, inverse, rows)
    step = inverse @ (rows.T @ (hits - p + leverage * (0.5 - p)))
    return np.asarray(step * min(1.0, 5.0 / max(float(np.abs(step).max()), 1e-12)))


def _information(rows: Floats, beta: Floats) -> Floats:
    p = 1 / (1 + np.exp(-rows @ beta))
    return np.asarray((rows * (p * (1 - p))[:, None]).T @ rows + 1e-12 * np.eye(2))


def _logit(share: float) -> float:
    return math.log(share / (1 - share))
