"""The exact metrics: every distinct score is a threshold, ties enter together, nothing is binned.

The field's seven, AUPRO at any limit, the false-positive rate at a recall, the best IoU, saturated overlap, and means.
"""

from __future__ import annotations

import numpy as np

from bench.metrics import ranks, reference, regions, spro
from bench.metrics.metric import Evidence, Metric, Parameter, Whole
from bench.metrics.ranks import Undefined
from bench.metrics.summed import Floats, ScoreBlock, Summed, Totals, over, ramps
from bench.protocol import SEVEN

_BOTH = "without an anomalous one, and without a normal one"
_SOME = "without an anomalous one; without a normal one it is 1"
_ROC = "scikit-learn's roc_auc_score; Fawcett, An introduction to ROC analysis, 2006"


class _Auroc(Summed):
    definition = "P(s+ > s-) + P(s+ = s-) / 2 over all pairs of an anomalous and a normal one"
    undefined, source, version = _BOTH, _ROC, None

    def compute(self, evidence: Evidence) -> float:
        return ranks.auroc(evidence.ranks)

    def oracle(self, data: Whole) -> float | None:
        return reference.auroc(data.scores, data.truth)

    def add(self, value: Floats, block: ScoreBlock) -> None:
        # pairs in the wrong order, twice, to be taken from all pairs
        value -= 2 * np.einsum("tr,tr->r", block.new, block.at_least) - np.einsum("tr,tr->r", block.new, block.tied)

    def total(self, value: Floats, totals: Totals) -> Floats:
        pairs = 2 * totals.positives * totals.negatives
        return over(value + pairs, pairs)


class _Ap(Summed):
    definition = "sum over thresholds of (recall gained) x precision: a step sum, not trapezoids under the curve"
    undefined, version = _SOME, None
    source = "scikit-learn's average_precision_score"

    def compute(self, evidence: Evidence) -> float:
        return ranks.average_precision(evidence.ranks)

    def oracle(self, data: Whole) -> float | None:
        return reference.average_precision(data.scores, data.truth)

    def add(self, value: Floats, block: ScoreBlock) -> None:
        value += np.einsum("tr,tr->r", block.new, block.hits / block.predicted)

    def total(self, value: Floats, totals: Totals) -> Floats:
        return over(value, totals.positives)


class _F1Max(Summed):
    definition = "highest 2TP / (TP + FP + P) over all thresholds; no grid, no epsilon"
    undefined, version = _SOME, None
    source = "the maximum over scikit-learn's precision_recall_curve"

    def compute(self, evidence: Evidence) -> float:
        return ranks.f1_max(evidence.ranks)

    def oracle(self, data: Whole) -> float | None:
        return reference.f1_max(data.scores, data.truth)

    def add(self, value: Floats, block: ScoreBlock) -> None:
        best = np.max(block.hits / (block.predicted + block.totals.positives), axis=0)
        np.maximum(value, 2 * best, out=value)

    def total(self, value: Floats, totals: Totals) -> Floats:
        return np.where(totals.positives > 0, value, np.nan)


class _Fpr(Metric):
    definition = (
        "false-positive rate at the highest threshold (a distinct score, s >= t) that at least this share of the "
        "anomalous ones reach"
    )
    undefined = _BOTH
    source = "FPR at 95 % TPR as Liang et al. (ODIN, ICLR 2018) report it; here without interpolation"
    higher_is_better = False
    parameter = Parameter("recall", 0.95, prefix="recall")

    def compute(self, evidence: Evidence) -> float:
        assert self.at is not None
        return ranks.fpr_at_recall(evidence.ranks, self.at)

    def oracle(self, data: Whole) -> float | None:
        assert self.at is not None
        return reference.fpr_at_recall(data.scores, data.truth, self.at)


class ImageAuroc(_Auroc):
    """Area under the ROC curve of image scores."""

    id, heading = "image/auroc", "I-AUROC"


class ImageAp(_Ap):
    """Average precision of image scores."""

    id, heading = "image/ap", "I-AP"


class ImageF1Max(_F1Max):
    """Highest F1 of image scores over all thresholds."""

    id, heading = "image/f1max", "I-F1max"


class PixelAuroc(_Auroc):
    """Area under the ROC curve of pixel scores, all images of a class pooled."""

    id, heading = "pixel/auroc", "P-AUROC"


class PixelAp(_Ap):
    """Average precision of pixel scores, all images of a class pooled."""

    id, heading = "pixel/ap", "P-AP"


class PixelF1Max(_F1Max):
    """Highest F1 of pixel scores over all thresholds, all images of a class pooled."""

    id, heading = "pixel/f1max", "P-F1max"


class SampleAuroc(_Auroc):
    """Area under the ROC curve of objects, each scored by the highest of its images' scores."""

    id, heading = "sample/auroc", "S-AUROC"


class SampleAp(_Ap):
    """Average precision of objects, each scored by the highest of its images' scores."""

    id, heading = "sample/ap", "S-AP"


class SampleF1Max(_F1Max):
    """Highest F1 of objects, each scored by the highest of its images' scores."""

    id, heading = "sample/f1max", "S-F1max"


class Aupro(Summed):
    """Area under the per-region overlap curve up to a false-positive rate, over that rate."""

    id, heading = "pixel/aupro", "AUPRO"
    definition = (
        "straight lines from (0, 0) through (false-positive rate over all normal pixels, mean over 8-connected regions "
        "of the covered share), a point a distinct score; cut at the limit by interpolation, area / limit"
    )
    undefined, version = _BOTH, None
    source = "Bergmann et al., The MVTec Anomaly Detection Dataset, IJCV 2021, section 5.2; MVTec's evaluation code"
    parameter = Parameter("false-positive limit", 0.3, usual=0.3)

    def compute(self, evidence: Evidence) -> float:
        """Return the mean over regions of the mean over their pixels' ramps, see `regions`."""
        assert self.at is not None
        return regions.aupro(evidence.ranks, evidence.regions, self.at)

    def oracle(self, data: Whole) -> float | None:
        """Walk over every threshold."""
        assert self.at is not None
        return reference.aupro(data.scores, data.truth, self.at)

    def add(self, value: Floats, block: ScoreBlock) -> None:
        """Add each positive's ramp, worth 1 / area of its region."""
        assert self.at is not None
        cut = self.at * block.totals.negatives
        if np.any(block.at_least[0] - block.tied[0] < cut):
            value += np.einsum("tr,tr->r", block.covered(), ramps(block.at_least, block.tied, cut))

    def total(self, value: Floats, totals: Totals) -> Floats:
        """Return the mean over regions."""
        return np.where(totals.positives * totals.negatives > 0, over(value, totals.regions), np.nan)


class Auspro(Metric):
    """Area under the saturated per-region overlap curve (sPRO) up to a false-positive rate, over that rate."""

    id, heading = "pixel/auspro", "AUsPRO"
    definition = (
        "as AUPRO, but a defect is found once as many of its pixels are as its saturation area says: its overlap is "
        "min(1, pixels found / saturation area), defects are annotated one by one and may overlap, and a false "
        "positive is a pixel in none of them"
    )
    undefined = "without a defect that has a saturation area, and without a normal pixel"
    source = "Bergmann et al., Beyond Dents and Scratches, IJCV 2022, section 4 (MVTec LOCO)"
    needs = "defects"
    parameter = Parameter("false-positive limit", 0.05)

    def compute(self, evidence: Evidence) -> float:
        """Return the mean over defects, see `spro`."""
        assert self.at is not None
        data = evidence.whole
        if data.defects is None:
            raise Undefined("no defects with saturation areas")
        worth = data.once(
            ("auspro", self.at), lambda: spro.defect_auspro(data.scores, data.defects or (), self.at or 0)
        )
        return float(np.mean(worth))

    def oracle(self, data: Whole) -> float | None:
        """Walk over every threshold."""
        assert self.at is not None
        return None if data.defects is None else reference.auspro(data.scores, data.defects, self.at)


class ImageFpr(_Fpr):
    """False-positive rate of image scores where a share of the anomalous images is found."""

    id, heading = "image/fpr", "I-FPR"


class PixelFpr(_Fpr):
    """False-positive rate of pixel scores where a share of the anomalous pixels is found."""

    id, heading = "pixel/fpr", "P-FPR"


class SampleFpr(_Fpr):
    """False-positive rate of objects where a share of the anomalous objects is found."""

    id, heading = "sample/fpr", "S-FPR"


class PixelIouMax(Metric):
    """Highest intersection over union of pixels over all thresholds, all images of a class pooled."""

    id, heading = "pixel/ioumax", "P-IoUmax"
    definition = "highest TP / (FP + P) over all thresholds; equals F1-max / (2 - F1-max)"
    undefined, source = _SOME, "the Jaccard index, as PASCAL VOC scores segmentations (Everingham et al., IJCV 2010)"

    def compute(self, evidence: Evidence) -> float:
        """Return it from F1-max, of which it is a rising function."""
        best = ranks.f1_max(evidence.ranks)
        return best / (2 - best)

    def oracle(self, data: Whole) -> float | None:
        """Walk over every threshold."""
        return reference.iou_max(data.scores, data.truth)


class _Mean(Metric):
    undefined = "where one of its metrics has no value"
    source = "mAD as ViTAD and ADer print it"

    def compute(self, evidence: Evidence) -> float:
        raise AssertionError(f"{self} is the mean of its parts")

    def oracle(self, data: Whole) -> float | None:
        raise AssertionError(f"{self} is the mean of its parts")


class Mad(_Mean):
    """Mean of the field's seven metrics (mAD)."""

    id, heading, parts, version = "mad", "mAD", SEVEN, None
    definition = f"unweighted mean of {', '.join(SEVEN)}"


class ImageMad(_Mean):
    """Mean of the three image metrics (mAD of the image level)."""

    id, heading, parts, version = "image/mad", "I-mAD", SEVEN[:3], None
    definition = f"unweighted mean of {', '.join(SEVEN[:3])}"


class PixelMad(_Mean):
    """Mean of the four pixel metrics (mAD of the pixel level)."""

    id, heading, parts, version = "pixel/mad", "P-mAD", SEVEN[3:], None
    definition = f"unweighted mean of {', '.join(SEVEN[3:])}"
