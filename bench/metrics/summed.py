"""Resampled metrics as sums over thresholds, a column a resample: what the bootstrap is fast by.

A metric that is a sum (or a maximum) over the distinct scores of positives says what one block of them adds. All
others are computed anew from each resample's ranks.
"""

from __future__ import annotations

from abc import abstractmethod
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from bench.metrics.metric import Metric

Floats = npt.NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Totals:
    """What each resample holds; whole numbers, float64 [R]."""

    positives: Floats
    negatives: Floats
    regions: Floats


@dataclass(frozen=True, slots=True)
class ScoreBlock:
    """Some distinct scores of positives, descending, a row each; a column a resample. Float64 [T, R]."""

    new: Floats
    """Positives with exactly this score."""
    hits: Floats
    """Positives with at least this score."""
    at_least: Floats
    """Negatives with at least this score."""
    tied: Floats
    """Negatives with exactly this score."""
    predicted: Floats
    """Hits and negatives with at least this score, and 1 where there are none: a divisor."""
    covered: Any
    """Call for the positives with exactly this score, each worth 1 / area of its region."""
    totals: Totals


class Summed(Metric):
    """A metric that is summed over thresholds, all resamples beside each other."""

    @abstractmethod
    def add(self, value: Floats, block: ScoreBlock) -> None:
        """Add to `value`, [R], in place, what a block of thresholds contributes. Blocks come from the highest score."""

    @abstractmethod
    def total(self, value: Floats, totals: Totals) -> Floats:
        """Return the metric, [R], from the sum; NaN where a resample leaves it undefined."""


def over(value: Floats, divisor: Floats) -> Floats:
    """Return the quotient, NaN where the divisor is 0."""
    return np.divide(value, divisor, out=np.full_like(value, np.nan), where=divisor > 0)


def ramps(at_least: Floats, tied: Floats, cut: Floats) -> Floats:
    """Return the share of the area left of the cut that each positive's ramp from G to E leaves under it, [T, R]."""
    above = at_least - tied
    with np.errstate(divide="ignore", invalid="ignore"):
        share = 1 - (at_least - tied / 2) / cut
        inside = at_least > cut
        if inside.any():
            room = np.maximum(cut - above, 0)
            share = np.where(inside, room / cut * (room / (2 * np.maximum(tied, 1))), share)
    return share
