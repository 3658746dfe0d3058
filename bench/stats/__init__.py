"""Statistics on scores: spread over seeds, intervals over images, tests of differences, rankings over many classes.

Reading order: seeds (how far training is repeatable), intervals (how far the test images decide), delong (are two
methods apart on the same images), ranking (are methods apart over many classes).
"""

from __future__ import annotations

from bench.stats.delong import Difference, delong, mean_difference
from bench.stats.intervals import Images, Resampled, resampled
from bench.stats.ranking import Ranking, complete, nemenyi_distance, rank_methods, wilcoxon_holm
from bench.stats.seeds import Spread, spread

__all__ = [
    "Difference",
    "Images",
    "Ranking",
    "Resampled",
    "Spread",
    "complete",
    "delong",
    "mean_difference",
    "nemenyi_distance",
    "rank_methods",
    "resampled",
    "spread",
    "wilcoxon_holm",
]
