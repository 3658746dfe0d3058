"""Rank tests over many classes or datasets: Friedman's, then Nemenyi's distance or Wilcoxon with Holm.

Source: Demsar, Statistical comparisons of classifiers over multiple data sets, JMLR 7 (2006). The distributions are
SciPy's. A block (a class or a dataset) counts only where every method has a score; what is left out is named.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations
from math import inf, sqrt

import numpy as np
import numpy.typing as npt

from bench.errors import UsageError

Scores = Mapping[str, Mapping[str, float | None]]
"""Method -> block -> score, higher = better."""


@dataclass(frozen=True, slots=True)
class Blocks:
    """A complete table: every method has a score in every block."""

    methods: tuple[str, ...]
    names: tuple[str, ...]
    values: npt.NDArray[np.float64]
    """Blocks x methods."""
    left_out: tuple[str, ...]
    """Blocks in which a method has no score."""


@dataclass(frozen=True, slots=True)
class Ranking:
    """Methods by mean rank over complete blocks, best first."""

    methods: tuple[str, ...]
    ranks: tuple[float, ...]
    """Mean rank of each method, 1 = best in every block; ties share the mean of their ranks."""
    blocks: int
    left_out: tuple[str, ...]
    statistic: float
    """Friedman's chi-square, corrected for ties; 0 where all methods tie everywhere."""
    p: float
    """That equally good methods would rank at least as far apart."""
    distance: float
    """Nemenyi's critical distance: mean ranks further apart than this differ at `level`."""
    level: float

    @property
    def groups(self) -> tuple[tuple[int, int], ...]:
        """Return the widest runs of methods that do not differ, as first and last place; single methods left out."""
        found: list[tuple[int, int]] = []
        for first in range(len(self.ranks)):
            last = max(place for place, rank in enumerate(self.ranks) if rank - self.ranks[first] <= self.distance)
            if last > first and (not found or last > found[-1][1]):
                found.append((first, last))
        return tuple(found)


def complete(scores: Scores) -> Blocks:
    """Return the blocks in which every method has a score, in the order of their first appearance."""
    names = tuple(dict.fromkeys(block for of_method in scores.values() for block in of_method))
    whole = tuple(name for name in names if all(of.get(name) is not None for of in scores.values()))
    values = np.array([[of[name] for of in scores.values()] for name in whole], dtype=np.float64)
    left_out = tuple(name for name in names if name not in whole)
    return Blocks(tuple(scores), whole, values.reshape(len(whole), len(scores)), left_out)


def rank_methods(scores: Scores, level: float = 0.05, decimals: int | None = None) -> Ranking:
    """Rank at least three methods over complete blocks.

    Args:
        scores: method -> block -> score.
        level: of significance, 0.05 or 0.1 as a rule.
        decimals: digits that count; scores equal to so many tie. None compares them as they are.

    Raises:
        UsageError: fewer than three methods (use `wilcoxon_holm`) or fewer than two complete blocks.
    """
    from scipy.stats import friedmanchisquare, rankdata

    blocks = _usable(scores, least=3)
    values = blocks.values if decimals is None else np.round(blocks.values, decimals)
    ranks = rankdata(-values, axis=1)
    tied = bool(np.all(ranks == ranks[0, 0]))
    statistic, p = (0.0, 1.0) if tied else friedmanchisquare(*values.T)
    means = ranks.mean(axis=0)
    order = np.argsort(means, kind="stable")
    return Ranking(
        methods=tuple(blocks.methods[place] for place in order),
        ranks=tuple(float(means[place]) for place in order),
        blocks=len(blocks.names),
        left_out=blocks.left_out,
        statistic=float(statistic),
        p=float(p),
        distance=nemenyi_distance(len(blocks.methods), len(blocks.names), level),
        level=level,
    )


def nemenyi_distance(methods: int, blocks: int, level: float = 0.05) -> float:
    """Return the difference of mean ranks from which two of `methods` differ (Demsar 2006, section 3.2.2)."""
    from scipy.stats import studentized_range

    quantile = float(studentized_range.ppf(1 - level, methods, inf)) / sqrt(2)
    return quantile * sqrt(methods * (methods + 1) / (6 * blocks))


def wilcoxon_holm(scores: Scores) -> dict[tuple[str, str], float]:
    """Return p-values of all pairs by Wilcoxon's signed-rank test, adjusted by Holm's step-down; ties split evenly.

    Raises:
        UsageError: fewer than two methods or two complete blocks.
    """
    from scipy.stats import wilcoxon

    blocks = _usable(scores, least=2)
    pairs = list(combinations(range(len(blocks.methods)), 2))
    raw = []
    for first, second in pairs:
        differences = blocks.values[:, first] - blocks.values[:, second]
        # all equal: nothing to rank, and nothing that speaks for a difference
        raw.append(float(wilcoxon(differences, zero_method="zsplit").pvalue) if np.any(differences) else 1.0)
    adjusted = holm(raw)
    return {(blocks.methods[a], blocks.methods[b]): p for (a, b), p in zip(pairs, adjusted, strict=True)}


def holm(values: Sequence[float]) -> list[float]:
    """Return p-values adjusted for their number (Holm, Scandinavian Journal of Statistics 6, 1979), order kept."""
    adjusted = [0.0] * len(values)
    highest = 0.0
    for place, index in enumerate(sorted(range(len(values)), key=lambda index: values[index])):
        highest = max(highest, min(1.0, (len(values) - place) * values[index]))
        adjusted[index] = highest
    return adjusted


def _usable(scores: Scores, least: int) -> Blocks:
    blocks = complete(scores)
    if len(blocks.methods) < least:
        raise UsageError(f"{len(blocks.methods)} methods to rank, expected at least {least}")
    if len(blocks.names) < 2:
        raise UsageError(f"{len(blocks.names)} classes that every method was scored on, expected at least 2")
    return blocks
