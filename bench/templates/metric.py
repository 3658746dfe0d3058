"""template_metric: say in one line what it measures.

As it stands: balanced accuracy of image scores at the threshold that is best for it (half of Youden's J, plus a half).
"""

from __future__ import annotations

import numpy as np

from bench.metrics import Evidence, Metric, Undefined, Whole


class TemplateMetric(Metric):
    """Highest balanced accuracy of image scores over all thresholds."""

    id = "image/template_metric"  # image/..., pixel/... or sample/...; bench run --metrics image/template_metric
    heading = "template_metric"
    definition = "highest mean of recall and specificity over all thresholds, a distinct score each, s >= t"
    undefined = "without an anomalous image, and without a normal one"
    source = "Brodersen et al., The balanced accuracy and its posterior distribution, ICPR 2010"
    higher_is_better = True
    version = 1  # raise it whenever a value changes: records carry it

    def compute(self, evidence: Evidence) -> float:
        """Return the value from the ranks of the anomalous images: nothing else has to be looked at one by one."""
        ranks = evidence.ranks
        if ranks.positives == 0 or ranks.negatives == 0:
            raise Undefined(f"no {'anomalous' if ranks.positives == 0 else 'normal'} {ranks.unit}")
        recall = ranks.hits / ranks.positives
        specificity = 1 - ranks.at_least / ranks.negatives
        # a threshold above all scores finds nothing and alarms nobody: one half
        return max(0.5, float(np.max(recall + specificity)) / 2)

    def oracle(self, data: Whole) -> float | None:
        """Return the same, slowly and without `compute`'s ideas: tests hold the two together."""
        if data.truth.all() or not data.truth.any():
            return None
        found = [0.5]
        for threshold in np.unique(data.scores):
            alarm = data.scores >= threshold
            found.append((float(alarm[data.truth].mean()) + float((~alarm[~data.truth]).mean())) / 2)
        return max(found)
