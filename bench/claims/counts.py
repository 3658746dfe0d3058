"""Image scores that a test set's counts allow: F1-max, AUROC and AP of any ranking of its images.

With P anomalous and N normal images every one of these is a ratio of small whole numbers, and each limits the others.
A printed number is the interval that rounds to it.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from decimal import Decimal
from fractions import Fraction
from functools import lru_cache
from math import ceil, floor

import numpy as np
import numpy.typing as npt

MULTIPLIERS = 64
"""Slopes at which the least AP is bounded; more make the bound tighter, and each bound holds by itself."""
ROUNDING = 1e-9
"""By which computed bounds may be off."""


@dataclass(frozen=True, slots=True)
class PrintedInterval:
    """Shares in [0, 1] that are printed alike, ends included."""

    low: Fraction
    high: Fraction

    @classmethod
    def of(cls, percent: Decimal, unit: Decimal) -> PrintedInterval:
        """Return what rounds to `percent` where the last printed digit is worth `unit`; clipped to [0, 1]."""
        middle, half = Fraction(percent) / 100, Fraction(unit) / 200
        return cls(max(middle - half, Fraction(0)), min(middle + half, Fraction(1)))

    def meets(self, low: Fraction | float, high: Fraction | float) -> bool:
        """Return whether some number of the interval lies from `low` to `high`."""
        return self.low <= high and low <= self.high


@dataclass(frozen=True, slots=True)
class TestSet:
    """Test images of a class."""

    __test__ = False  # no test of pytest's
    normal: int
    anomalous: int

    @property
    def pairs(self) -> int:
        """Return the pairs of a normal and an anomalous image, which AUROC is the share of ordered ones of."""
        return self.normal * self.anomalous

    @property
    def all_called(self) -> Fraction:
        """Return the F1 of calling every image anomalous: no F1-max is below it."""
        return Fraction(2 * self.anomalous, 2 * self.anomalous + self.normal)

    def confusions(self, f1: PrintedInterval) -> Iterator[tuple[int, int]]:
        """Yield the true and false positives (TP, FP) whose F1 = 2 TP / (P + TP + FP) lies in the interval."""
        for found in range(1, self.anomalous + 1):
            most = floor(2 * found / f1.low - self.anomalous - found) if f1.low else self.normal
            least = ceil(2 * found / f1.high - self.anomalous - found) if f1.high else self.normal + 1
            yield from ((found, false) for false in range(max(least, 0), min(most, self.normal) + 1))

    def nearest_f1(self, percent: Decimal) -> tuple[Fraction, Fraction]:
        """Return the attainable F1 next below and next above; 0 and 1 where there is none."""
        wanted, below, above = Fraction(percent) / 100, Fraction(0), Fraction(1)
        for found in range(1, self.anomalous + 1):
            false = 2 * found / wanted - self.anomalous - found if wanted else Fraction(self.normal)
            for one in (floor(false), floor(false) + 1):
                f1 = Fraction(2 * found, self.anomalous + found + min(max(one, 0), self.normal))
                below, above = (max(below, f1), above) if f1 <= wanted else (below, min(above, f1))
        return below, above

    def auroc_steps(self, auroc: PrintedInterval, ties: bool) -> bool:
        """Return whether an AUROC in the interval exists: k / (P N), or k / (2 P N) where images may score equal."""
        steps = self.pairs * (2 if ties else 1)
        return ceil(auroc.low * steps) <= floor(auroc.high * steps)

    def auroc_at(self, found: int, false: int) -> tuple[float, float]:
        """Return the AUROC that rankings can have whose F1-max is reached at these true and false positives.

        The curve passes (FP, TP), so it encloses at least TP (N - FP) pairs; and no point of it lies above the line
        TP = F (P + FP) / (2 - F) on which F1 equals its maximum F.
        """
        f1 = 2 * found / (self.anomalous + found + false)
        slope = f1 / (2 - f1)
        full = min(self.anomalous / slope - self.anomalous, self.normal)
        under_line = slope * (self.anomalous * full + full * full / 2)
        most = (under_line + self.anomalous * (self.normal - full)) / self.pairs
        return found * (self.normal - false) / self.pairs - ROUNDING, most + ROUNDING

    def ap_beside(self, auroc: PrintedInterval, ties: bool) -> tuple[float, float]:
        """Return bounds, nearly reached, between which AP lies beside an AUROC.

        AP = 1/P sum over the anomalous images of k / (k + normal images above the k-th). Where images score equal, AP
        counts the normal ones of them as above, which AUROC counts half, so up to twice as many pairs are misordered
        for AP; and all anomalous ones of them as the last of these, which is at most the P-th.
        """
        most, least = (float((1 - end) * self.pairs) for end in (auroc.low, auroc.high))
        most = min(most * (2 if ties else 1), float(self.pairs))
        slopes, low, high, high_tied = _dual(self.normal, self.anomalous)
        lowest = float((low - slopes * most).max()) / self.anomalous
        highest = float(((high_tied if ties else high) + slopes * -least).min()) / self.anomalous
        return lowest - ROUNDING, highest + ROUNDING


@lru_cache(maxsize=256)
def _dual(normal: int, anomalous: int) -> tuple[npt.NDArray[np.float64], ...]:
    """Return multipliers with the least and the most of P AP + multiplier * misordered pairs; see `ap_beside`.

    By weak duality each gives a bound for any number of misordered pairs. A ranking is how many normal images stand
    above the k-th anomalous one, which does not fall with k: one pass over k with a running extreme.
    """
    slopes = np.concatenate([[0.0], np.geomspace(1e-6, 1.0, MULTIPLIERS - 1)])
    above = np.arange(normal + 1)
    least, most, tied = (np.zeros((len(slopes), normal + 1)) for _ in range(3))
    cost = slopes[:, None] * above
    for k in range(1, anomalous + 1):
        least = np.minimum.accumulate(least, axis=1) + k / (k + above) + cost
        most = np.maximum.accumulate(most, axis=1) + k / (k + above) + cost
        tied = np.maximum.accumulate(tied, axis=1) + anomalous / (anomalous + above) + cost
    return slopes, least.min(axis=1), most.max(axis=1), tied.max(axis=1)
