"""Exact anomaly-detection metrics, usable without the rest of bench and without torch.

    >>> from bench.metrics import evaluate_class, mad
    >>> scores = evaluate_class(maps, masks, image_scores, labels)
    >>> scores["pixel/aupro@0.3"], scores.reasons

Reading order: metric (what a metric is), exact and named (those that there are), ids (how they are called), inputs
(what is refused), ranks (the idea), regions (AUPRO), scores, arrays and evaluate (a class), accumulate (maps that come
in chunks). How it is fast: ranking, pieces, buckets, kernels, workers; how it stays small: large, slabs. Other people's
numbers: grids, histogram. What else falls out of the ranks: curves, hardest, spro, bootstrap. `reference` and `rules`
hold the slow definitions that the tests compare with. One Accumulator that is fed several classes gives their pooled,
class-agnostic scores; all_classes does so for the classes of a cell.

    >>> ranks, regions = rank(maps.ravel(), masks.ravel(), "pixel"), find_regions(masks)
    >>> pro_curve(ranks, regions), hardest_regions(masks, ranks, regions, count=12)
    >>> bootstrap_class(maps, masks, image_scores, labels).interval("pixel/aupro@0.3")
"""

from __future__ import annotations

from bench.errors import ScoreError
from bench.metrics.accumulate import Accumulator
from bench.metrics.bootstrap import Bootstrap, Interval, bootstrap_class
from bench.metrics.curves import BestF1, Curve, best_f1, pr_curve, pro_curve, roc_curve
from bench.metrics.evaluate import evaluate_class
from bench.metrics.hardest import RegionScore, hardest_regions, image_aupro
from bench.metrics.ids import parse
from bench.metrics.image_scores import IMAGE_SCORES
from bench.metrics.metric import METRIC_VERSION, Evidence, Metric, Parameter, Whole
from bench.metrics.ranking import rank
from bench.metrics.ranks import Ranks, Undefined
from bench.metrics.regions import Regions, find_regions
from bench.metrics.scores import Scores, mad
from bench.metrics.spro import Defect, auspro, defect_auspro, saturation_area
from bench.protocol import SEVEN

__all__ = [
    "IMAGE_SCORES",
    "METRIC_VERSION",
    "SEVEN",
    "Accumulator",
    "BestF1",
    "Bootstrap",
    "Curve",
    "Defect",
    "Evidence",
    "Interval",
    "Metric",
    "Parameter",
    "Ranks",
    "RegionScore",
    "Regions",
    "ScoreError",
    "Scores",
    "Undefined",
    "Whole",
    "auspro",
    "best_f1",
    "bootstrap_class",
    "defect_auspro",
    "evaluate_class",
    "find_regions",
    "hardest_regions",
    "image_aupro",
    "mad",
    "parse",
    "pr_curve",
    "pro_curve",
    "rank",
    "roc_curve",
    "saturation_area",
]
