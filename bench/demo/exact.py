"""Bit-exact arithmetic: the same bits on every machine.

The sines, exponentials and powers of NumPy and of the C library differ in their last bits between processors and
versions, and so do sums whose order is theirs; now and then a last bit moves a grey level. What stands here uses only
operations that IEEE 754 rounds in one way (+ - * / and square roots), a call each, so that no compiler fuses two.

Whatever reaches a pixel comes from these functions, from `Chance`, or from such functions of NumPy and SciPy as compute
in integers or do one operation that is rounded in one way. A test keeps the list of those.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Sequence
from itertools import accumulate
from math import factorial, pi, sqrt
from typing import Any, TypeVar

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]
Real = TypeVar("Real", float, npt.NDArray[np.floating[Any]])
"""A number or an array of float32 or float64; the result is of the kind that was given."""
T = TypeVar("T")

_SINE = [(1 - 2 * (k % 2)) / factorial(2 * k + 1) for k in range(9)]
_EXPONENTIAL = [1 / factorial(k) for k in range(10)]
_HALVINGS = 8
_TAIL = 3.6541528853610088
"""Where the tail of NumPy's normal distribution begins; `ziggurat_nor_r` in its source."""


def cos(angle: Real) -> Real:
    """Return the cosine of an angle in radians, in error by 1e-10 at most for up to a thousand turns."""
    return _wave(angle, 0.0)


def sin(angle: Real) -> Real:
    """Return the sine of an angle in radians, in error by 1e-10 at most for up to a thousand turns."""
    return _wave(angle, 0.25)


def exp(exponent: Real) -> Real:
    """Return e to the power of `exponent`, -40..40, in error by a share of 1e-10 at most."""
    value = _series(_EXPONENTIAL, np.asarray(exponent, np.float64) / (1 << _HALVINGS))
    for _ in range(_HALVINGS):
        value = value * value
    return _like(exponent, value)


def hypot(x: Real, y: Real) -> Real:
    """Return the length of (x, y)."""
    square = x * x + y * y
    length: Real = sqrt(square) if isinstance(square, float) else np.sqrt(square)
    return length


def power(base: Real, exponent: int) -> Real:
    """Return `exponent` factors `base`, one at least, multiplied."""
    if exponent == 1:
        return base
    half = power(base, exponent // 2)
    return half * half * base if exponent % 2 else half * half


def _wave(angle: Real, behind: float) -> Real:
    turns = np.asarray(angle, np.float64) * (0.5 / pi) - behind
    # a quarter turn where the cosine is 1, none where it is 0: its sine is the cosine, and the series is short
    arc = (0.25 - np.abs(turns - np.rint(turns))) * (2 * pi)
    return _like(angle, arc * _series(_SINE, arc * arc))


def _series(coefficients: Sequence[float], x: Floats) -> Floats:
    total = x * coefficients[-1]
    for coefficient in coefficients[-2:0:-1]:
        total = (total + coefficient) * x
    return total + coefficients[0]


def _like(given: Real, found: Floats) -> Real:
    return float(found) if isinstance(given, float | int) else found.astype(given.dtype, copy=False)


def seeds(key: Sequence[int], count: int) -> list[np.random.SeedSequence]:
    """Return seeds of so many independent `Chance`s, made of some whole numbers."""
    return np.random.SeedSequence(key).spawn(count)


class Chance:
    """Random numbers from a seed: those of NumPy's `Generator` over PCG64, where they are the same on every machine."""

    def __init__(self, seed: int | np.random.SeedSequence) -> None:
        self._source = np.random.Generator(np.random.PCG64(seed))

    def uniform(self, low: float = 0.0, high: float = 1.0) -> float:
        """Return a number of [low, high)."""
        return low + (high - low) * self._source.random()

    def uniforms(self, low: npt.ArrayLike, high: npt.ArrayLike, shape: int | tuple[int, ...]) -> Floats:
        """Return numbers of [low, high); bounds may differ along the last axis."""
        start = np.asarray(low, np.float64)
        return start + (np.asarray(high, np.float64) - start) * self._source.random(shape)

    def normal(self, mean: float = 0.0, deviation: float = 1.0) -> float:
        """Return a normally distributed number, see `normals`."""
        return mean + deviation * max(-_TAIL, min(_TAIL, self._source.standard_normal()))

    def normals(self, shape: int | tuple[int, ...]) -> Floats:
        """Return normally distributed numbers of mean 0 and deviation 1, cut at 3.65.

        NumPy makes each by one multiplication; but the one in 4,000 that would lie further out by a logarithm.
        """
        return np.clip(self._source.standard_normal(shape), -_TAIL, _TAIL)

    def integer(self, low: int, high: int) -> int:
        """Return a whole number of low..high - 1."""
        return int(self._source.integers(low, high))

    def choice(self, options: Sequence[T], shares: Sequence[float] | None = None) -> T:
        """Return one of the options, each as likely as its share, or all alike."""
        if shares is None:
            return options[self.integer(0, len(options))]
        reached = list(accumulate(shares))
        return options[bisect_right(reached, self.uniform() * reached[-1], hi=len(options) - 1)]

    def sample(self, options: Sequence[T], count: int) -> list[T]:
        """Return `count` different ones of the options, in any order."""
        return [options[place] for place in self._source.choice(len(options), count, replace=False)]
