"""Named variants: approximations that published tables were computed with, each equal to what the named code returns.

They are for putting a number beside a published one. They move with the range of the scores, so one outlier changes
them, and they have no value on cases where the exact metric does.
"""

from __future__ import annotations

from collections.abc import Callable
from statistics import fmean
from typing import ClassVar

from bench.metrics import grids, rules
from bench.metrics.histogram import Strips, strips
from bench.metrics.metric import Evidence, Metric, Parameter, Whole

_LIMIT = Parameter("false-positive limit", 0.3, usual=0.3)
_RANGE = "without both kinds of pixels, and where the scores are constant or their range is not finite"
_UNSCALED = "without an anomalous pixel, and where the scores are constant or their range is not finite"


class _Named(Metric):
    needs = "scores"

    @property
    def limit(self) -> float:
        """Return the false-positive limit."""
        assert self.at is not None
        return self.at


# ------------------------------------------------------------------------------------------------ grids of AUPRO
class AuproGrid200(_Named):
    """AUPRO by RD4AD's rule of 200 thresholds, images pooled.

    The steps are those of the code under NumPy 2 and later, see `grids.uniform_thresholds`.
    """

    id, heading = "pixel/aupro:grid200", "AUPRO"
    definition = (
        "200 uniform thresholds, images pooled; points with FPR below the limit, FPR divided by the largest kept"
    )
    source = "`compute_pro` of RD4AD and ReContrast, on all images of a class as in Dinomaly"
    undefined, parameter = f"{_RANGE}; without two points between FPR 0 and the limit", _LIMIT

    def compute(self, evidence: Evidence) -> float:
        """Return it from sorted pieces of the scores."""
        data = evidence.whole
        return grids.aupro_grid(data.scores.ravel(), data.truth.ravel(), evidence.regions, self.limit, steps=200)

    def oracle(self, data: Whole) -> float | None:
        """Walk over the thresholds."""
        return rules.aupro_grid(data.scores, data.truth, self.limit, 200, rescale=False)


class AuproGrid100(_Named):
    """AUPRO by ADer's rule of 100 thresholds, images pooled."""

    id, heading = "pixel/aupro:grid100", "AUPRO"
    definition = "100 uniform thresholds, images pooled; points with FPR below the limit, their FPR rescaled to [0, 1]"
    source = "`cal_pro_score` of ADer with its configs' 100 steps (its use_adeval=False)"
    undefined, parameter = f"{_RANGE}; without two different FPRs below the limit", _LIMIT

    def compute(self, evidence: Evidence) -> float:
        """Return it from sorted pieces of the scores."""
        data, regions = evidence.whole, evidence.regions
        pooled = data.scores.ravel(), data.truth.ravel()
        return grids.aupro_grid(*pooled, regions, self.limit, steps=100, rescale=True)

    def oracle(self, data: Whole) -> float | None:
        """Walk over the thresholds."""
        return rules.aupro_grid(data.scores, data.truth, self.limit, 100, rescale=True)


class AuproImage200(_Named):
    """AUPRO of each anomalous image alone by RD4AD's rule of 200 thresholds, averaged."""

    id, heading = "pixel/aupro:image200", "AUPRO"
    definition = (
        "the rule of grid200 on each anomalous image alone, averaged over these images; normal images do not count"
    )
    source = "RD4AD's own evaluation (ReContrast's MVTec script too), before it rounds"
    undefined, parameter = "where grid200 has no value on one of the anomalous images, and without one", _LIMIT

    def compute(self, evidence: Evidence) -> float:
        """Return the mean over the anomalous images."""
        data = evidence.whole
        return grids.aupro_grid_per_image(data.scores, data.truth, data.labels, self.limit, steps=200)

    def oracle(self, data: Whole) -> float | None:
        """Walk over each image's thresholds."""
        return rules.aupro_per_image(data.scores, data.truth, data.labels, self.limit, 200)


class AuproRanks100(_Named):
    """AUPRO by MVTec 3D-AD's rule of 100 thresholds at equal ranks."""

    id, heading = "pixel/aupro:ranks100", "AUPRO"
    definition = "100 thresholds at equal ranks of the normal pixels' scores; FPR from the rank, so ties are split"
    source = "MVTec 3D-AD's evaluation with its default of 100 thresholds (3D-ADS, open-iad)"
    undefined, parameter = "without both kinds of pixels", _LIMIT

    def compute(self, evidence: Evidence) -> float:
        """Return it from the partitioned scores of normal pixels."""
        data = evidence.whole
        pooled = data.scores.ravel(), data.truth.ravel()
        return grids.aupro_equal_ranks(*pooled, evidence.regions, self.limit, thresholds=100)

    def oracle(self, data: Whole) -> float | None:
        """Walk over the thresholds."""
        return rules.aupro_at_ranks(data.scores, data.truth, self.limit, 100)


# -------------------------------------------------------------------------------------------------- ADEval's strips
class _Strips(_Named):
    count: ClassVar[int]
    accumulator: ClassVar[bool] = True
    undefined = f"{_RANGE} in float32"

    def counted(self, evidence: Evidence) -> Strips:
        """Return the strips, which three metrics share."""
        data, regions = evidence.whole, evidence.regions

        def count() -> Strips:
            pooled = data.scores.ravel(), data.truth.ravel()
            return strips(*pooled, regions, self.count, accumulator=self.accumulator)

        return data.once(("strips", self.count, self.accumulator), count)


class _StripsAuroc(_Strips):
    heading = "P-AUROC"

    def compute(self, evidence: Evidence) -> float:
        return self.counted(evidence).auroc()

    def oracle(self, data: Whole) -> float | None:
        return rules.adeval_auroc(data.scores, data.truth, self.count, accumulator=self.accumulator)


class _StripsAp(_Strips):
    heading = "P-AP"

    def compute(self, evidence: Evidence) -> float:
        return self.counted(evidence).ap()

    def oracle(self, data: Whole) -> float | None:
        return rules.adeval_ap(data.scores, data.truth, self.count, accumulator=self.accumulator)


class _StripsAupro(_Strips):
    heading, parameter = "AUPRO", _LIMIT
    undefined = f"{_RANGE} in float32; where all points of the curve lie on one side of the limit"

    def compute(self, evidence: Evidence) -> float:
        return self.counted(evidence).aupro(self.limit)

    def oracle(self, data: Whole) -> float | None:
        return rules.adeval_aupro(data.scores, data.truth, self.limit, self.count, accumulator=self.accumulator)


_NUMPY = "ADEval 1.1.0, functions on NumPy arrays with their default of 1,000 strips"
_ADER = "ADEval 1.1.0's EvalAccumulatorCuda with 50 strips, as ADer's configs call it (MambaAD, ViTAD, InvAD)"
_INP = "ADEval 1.1.0's EvalAccumulatorCuda with 200 strips, as INP-Former calls it"
_WIDTH = "equal-width score strips between the lowest and the highest score"
_TWICE = f"{_WIDTH}; pixels at the highest score count twice"
_AUROC, _AP, _AUPRO = (
    "trapezoids under the ROC curve over",
    "trapezoids under the precision-recall curve (no step sum) over",
    "trapezoids under the overlap curve, cut at the limit by interpolation, over",
)


class AurocAdeval(_StripsAuroc):
    """Pixel AUROC by ADEval's 1,000 strips."""

    id, count, accumulator = "pixel/auroc:adeval", 1000, False
    definition, source = f"{_AUROC} 1,000 {_WIDTH}", _NUMPY


class ApAdeval(_StripsAp):
    """Pixel AP by ADEval's 1,000 strips."""

    id, count, accumulator = "pixel/ap:adeval", 1000, False
    definition, source = f"{_AP} 1,000 {_WIDTH}", _NUMPY


class AuproAdeval(_StripsAupro):
    """AUPRO by ADEval's 1,000 strips."""

    id, count, accumulator = "pixel/aupro:adeval", 1000, False
    definition, source = f"{_AUPRO} 1,000 {_WIDTH}", _NUMPY


class AurocAdeval200(_StripsAuroc):
    """Pixel AUROC by ADEval's accumulator with 200 strips."""

    id, count = "pixel/auroc:adeval200", 200
    definition, source = f"{_AUROC} 200 {_TWICE}", _INP


class ApAdeval200(_StripsAp):
    """Pixel AP by ADEval's accumulator with 200 strips."""

    id, count = "pixel/ap:adeval200", 200
    definition, source = f"{_AP} 200 {_TWICE}", _INP


class AuproAdeval200(_StripsAupro):
    """AUPRO by ADEval's accumulator with 200 strips."""

    id, count = "pixel/aupro:adeval200", 200
    definition, source = f"{_AUPRO} 200 {_TWICE}", _INP


class AurocAdeval50(_StripsAuroc):
    """Pixel AUROC by ADEval's accumulator with 50 strips."""

    id, count = "pixel/auroc:adeval50", 50
    definition, source = f"{_AUROC} 50 {_TWICE}", _ADER


class ApAdeval50(_StripsAp):
    """Pixel AP by ADEval's accumulator with 50 strips."""

    id, count = "pixel/ap:adeval50", 50
    definition, source = f"{_AP} 50 {_TWICE}", _ADER


class AuproAdeval50(_StripsAupro):
    """AUPRO by ADEval's accumulator with 50 strips."""

    id, count = "pixel/aupro:adeval50", 50
    definition, source = f"{_AUPRO} 50 {_TWICE}", _ADER


# ------------------------------------------------------------------------------- ADer's thresholds on scaled maps
class _Scaled(_Named):
    thresholds: ClassVar[tuple[float, float, float]] = (0.2, 0.8, 0.1)
    """First, last, step."""
    undefined = _UNSCALED

    def counted(self, evidence: Evidence) -> grids.ScaledCounts:
        """Return the counts, which metrics of the same thresholds share."""
        data = evidence.whole
        return data.once(
            ("scaled", self.thresholds),
            lambda: grids.scaled_counts(data.scores.ravel(), data.truth.ravel(), *self.thresholds),
        )

    def rates(self, data: Whole, rate: Callable[[int, int, int], float]) -> list[float] | None:
        """Return a rate at each threshold by the slow rule; None where maps cannot be scaled."""
        counts = rules.counts_on_a_grid(data.scores, data.truth, *self.thresholds)
        return None if counts is None else [rate(*one, int(data.truth.sum())) for one in counts]


_SCALED = "on the maps scaled to [0, 1] over the class; score > threshold, 1e-8 in the denominators"
_SEVEN = f"mean over the 7 thresholds 0.2, 0.3, ..., 0.8 {_SCALED}"
_TWENTY_ONE = f"21 thresholds 0, 0.05, ..., 1 {_SCALED}"


class F1MaxGrid21(_Scaled):
    """Highest pixel F1 by ADer's 21 thresholds."""

    id, heading, thresholds = "pixel/f1max:grid21", "P-F1max", (0.0, 1.0, 0.05)
    definition = "21 thresholds 0, 0.05, ..., 1 on the maps scaled to [0, 1] over the class; 1e-8 in the denominators"
    source = "ADer's mF1_max_px (MambaAD, ViTAD, InvAD)"

    def compute(self, evidence: Evidence) -> float:
        """Return the best threshold's."""
        return float(self.counted(evidence).f1().max())

    def oracle(self, data: Whole) -> float | None:
        """Walk over the thresholds."""
        found = self.rates(data, rules.f1)
        return None if found is None else max(found)


class IouMaxGrid21(_Scaled):
    """Highest pixel intersection over union by ADer's 21 thresholds."""

    id, heading, thresholds = "pixel/ioumax:grid21", "P-IoUmax", (0.0, 1.0, 0.05)
    definition, source = f"highest TP / (FP + P) over {_TWENTY_ONE}", "ADer's mIoU_max_px"

    def compute(self, evidence: Evidence) -> float:
        """Return the best threshold's."""
        return float(self.counted(evidence).iou().max())

    def oracle(self, data: Whole) -> float | None:
        """Walk over the thresholds."""
        found = self.rates(data, rules.iou)
        return None if found is None else max(found)


class F1Grid7(_Scaled):
    """Mean pixel F1 over ADer's 7 thresholds."""

    id, heading = "pixel/f1:grid7", "P-F1"
    definition, source = f"F1, {_SEVEN}", "ADer's mF1_px_0.2_0.8_0.1"

    def compute(self, evidence: Evidence) -> float:
        """Return the mean over thresholds."""
        return float(self.counted(evidence).f1().mean())

    def oracle(self, data: Whole) -> float | None:
        """Walk over the thresholds."""
        found = self.rates(data, rules.f1)
        return None if found is None else fmean(found)


class AccGrid7(_Scaled):
    """Mean share of the anomalous pixels that is found, over ADer's 7 thresholds (its Acc)."""

    id, heading = "pixel/acc:grid7", "P-Acc"
    definition, source = f"TP / P, {_SEVEN}; no accuracy in the usual sense", "ADer's mAcc_px_0.2_0.8_0.1"

    def compute(self, evidence: Evidence) -> float:
        """Return the mean over thresholds."""
        return float(self.counted(evidence).accuracy().mean())

    def oracle(self, data: Whole) -> float | None:
        """Walk over the thresholds."""
        found = self.rates(data, rules.accuracy)
        return None if found is None else fmean(found)


class IouGrid7(_Scaled):
    """Mean pixel intersection over union over ADer's 7 thresholds."""

    id, heading = "pixel/iou:grid7", "P-IoU"
    definition, source = f"TP / (FP + P), {_SEVEN}", "ADer's mIoU_px_0.2_0.8_0.1"

    def compute(self, evidence: Evidence) -> float:
        """Return the mean over thresholds."""
        return float(self.counted(evidence).iou().mean())

    def oracle(self, data: Whole) -> float | None:
        """Walk over the thresholds."""
        found = self.rates(data, rules.iou)
        return None if found is None else fmean(found)
