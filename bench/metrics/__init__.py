"""Exact anomaly-detection metrics, usable without the rest of bench and without torch.

    >>> from bench.metrics import evaluate_class, mad
    >>> scores = evaluate_class(maps, masks, image_scores, labels)
    >>> scores["pixel/aupro@0.3"], scores.reasons

Reading order: ids (what is measured), inputs (what is refused), ranks (the idea), regions (AUPRO), variants (other
people's numbers), evaluate. `reference` holds the slow definitions that the tests compare with.
"""

from __future__ import annotations

from bench.errors import ScoreError
from bench.metrics.evaluate import Scores, evaluate_class, mad
from bench.metrics.ids import METRIC_VERSION, MetricId, parse
from bench.protocol import SEVEN

__all__ = ["METRIC_VERSION", "SEVEN", "MetricId", "ScoreError", "Scores", "evaluate_class", "mad", "parse"]
