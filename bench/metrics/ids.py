"""Metric ids, `level/metric@limit:variant`: what a recorded number means, in one word.

    image/auroc   image/ap   image/f1max
    pixel/auroc   pixel/ap   pixel/f1max   pixel/aupro@0.3   pixel/aupro@0.3:grid200

An id without a variant is the exact definition. A variant is other people's approximation, by name (`VARIANTS`), so
that a published number can be put beside one computed by its own rule. Every metric has exactly one spelling, so that
records made by different people can be joined on it.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Literal

from bench.errors import UsageError
from bench.protocol import SEVEN

Level = Literal["image", "pixel"]

METRIC_VERSION = 1
"""Raised whenever an exact definition changes a value; records carry it. Variants have versions of their own."""

_THRESHOLD_METRICS = ("auroc", "ap", "f1max")
_SEE = "See: bench ls protocols"


@dataclass(frozen=True, slots=True)
class Variant:
    """A named rule that published tables were computed with."""

    version: int
    """Raised whenever this rule's implementation changes a value; records carry it beside the id."""
    summary: str
    """The rule in one sentence: how it differs from the exact definition."""
    source: str
    """Whose code it reproduces, and who else runs that rule."""


_ADEVAL_NUMPY = "ADEval 1.1.0, functions on NumPy arrays with their default of 1,000 strips"
_ADEVAL_ADER = "ADEval 1.1.0's EvalAccumulatorCuda with 50 strips, as ADer's configs call it (MambaAD, ViTAD, InvAD)"
_ADEVAL_INP = "ADEval 1.1.0's EvalAccumulatorCuda with 200 strips, as INP-Former calls it"
_STRIPS = "equal-width score strips between the lowest and the highest score"
_TWICE = f"{_STRIPS}; pixels at the highest score count twice"
_AUROC, _AP, _AUPRO = (
    "trapezoids under the ROC curve over",
    "trapezoids under the precision-recall curve (no step sum) over",
    "trapezoids under the overlap curve, cut at the limit by interpolation, over",
)

VARIANTS: Mapping[str, Variant] = {
    "pixel/aupro:grid200": Variant(
        1,
        "200 uniform thresholds, images pooled; points with FPR below the limit, FPR divided by the largest kept",
        "`compute_pro` of RD4AD and ReContrast, on all images of a class as in Dinomaly",
    ),
    "pixel/aupro:grid100": Variant(
        1,
        "100 uniform thresholds, images pooled; points with FPR below the limit, their FPR rescaled to [0, 1]",
        "`cal_pro_score` of ADer with its configs' 100 steps (its use_adeval=False)",
    ),
    "pixel/aupro:image200": Variant(
        1,
        "the rule of grid200 on each anomalous image alone, averaged over these images; normal images do not count",
        "RD4AD's own evaluation (ReContrast's MVTec script too), before it rounds",
    ),
    "pixel/aupro:ranks100": Variant(
        1,
        "100 thresholds at equal ranks of the normal pixels' scores; FPR from the rank, so ties are split",
        "MVTec 3D-AD's evaluation with its default of 100 thresholds (3D-ADS, open-iad)",
    ),
    "pixel/auroc:adeval": Variant(1, f"{_AUROC} 1,000 {_STRIPS}", _ADEVAL_NUMPY),
    "pixel/ap:adeval": Variant(1, f"{_AP} 1,000 {_STRIPS}", _ADEVAL_NUMPY),
    "pixel/aupro:adeval": Variant(1, f"{_AUPRO} 1,000 {_STRIPS}", _ADEVAL_NUMPY),
    "pixel/auroc:adeval200": Variant(1, f"{_AUROC} 200 {_TWICE}", _ADEVAL_INP),
    "pixel/ap:adeval200": Variant(1, f"{_AP} 200 {_TWICE}", _ADEVAL_INP),
    "pixel/aupro:adeval200": Variant(1, f"{_AUPRO} 200 {_TWICE}", _ADEVAL_INP),
    "pixel/auroc:adeval50": Variant(1, f"{_AUROC} 50 {_TWICE}", _ADEVAL_ADER),
    "pixel/ap:adeval50": Variant(1, f"{_AP} 50 {_TWICE}", _ADEVAL_ADER),
    "pixel/aupro:adeval50": Variant(1, f"{_AUPRO} 50 {_TWICE}", _ADEVAL_ADER),
    "pixel/f1max:grid21": Variant(
        1,
        "21 thresholds 0, 0.05, ..., 1 on the maps scaled to [0, 1] over the class; 1e-8 in the denominators",
        "ADer's mF1_max_px (MambaAD, ViTAD, InvAD)",
    ),
}
"""Metric without its limit, with its variant -> what the variant is."""

_EXAMPLES = (*SEVEN, *(key.replace("aupro:", "aupro@0.3:") for key in VARIANTS))


@dataclass(frozen=True, slots=True)
class MetricId:
    """A parsed metric id; `str()` gives the id back."""

    level: Level
    metric: str
    """`auroc`, `ap`, `f1max` or `aupro`."""
    limit: float | None = None
    """False-positive rate in (0, 1] up to which AUPRO integrates; None for the other metrics."""
    variant: str | None = None
    """Named approximation of other people's code; None is the exact definition."""

    def __str__(self) -> str:
        limit = "" if self.limit is None else f"@{_spell(self.limit)}"
        return f"{self.level}/{self.metric}{limit}" + (f":{self.variant}" if self.variant else "")

    @property
    def version(self) -> int:
        """Version of the definition behind this id: the variant's own, or METRIC_VERSION for the exact one."""
        return (
            METRIC_VERSION if self.variant is None else VARIANTS[f"{self.level}/{self.metric}:{self.variant}"].version
        )


def parse(text: str) -> MetricId:
    """Return the metric that `text` names.

    Raises:
        UsageError: `text` is no metric id, or not the one spelling of it; the message suggests the nearest.
    """
    if not isinstance(text, str):
        raise UsageError(f"metric id is {text!r} ({type(text).__name__}), expected text such as '{SEVEN[0]}'")
    head, _, variant = text.partition(":")
    name, at, limit_text = head.partition("@")
    level, _, metric = name.partition("/")
    if level == "pixel" and metric == "aupro":
        if not at:
            raise _unknown(text, "AUPRO needs its false-positive limit", near="pixel/aupro@0.3")
        parsed = MetricId("pixel", "aupro", _limit(text, limit_text), variant or None)
    elif metric in _THRESHOLD_METRICS and level in ("image", "pixel"):
        if at:
            raise _unknown(text, f"'{name}' takes no limit", near=name)
        parsed = MetricId("image" if level == "image" else "pixel", metric, variant=variant or None)
    else:
        raise _unknown(text, "no such metric")
    if parsed.variant is not None and f"{name}:{variant}" not in VARIANTS:
        raise _unknown_variant(text, name, head, variant)
    if str(parsed) != text:
        raise UsageError(f"metric id '{text}' is not spelt the one way that records use. Did you mean '{parsed}'?")
    return parsed


def parse_all(texts: Iterable[str] | None) -> tuple[MetricId, ...]:
    """Return the metrics named by `texts`, repeats dropped, order kept; None stands for the field's seven.

    Raises:
        UsageError: an id is unknown, or `texts` is a single text instead of a list.
    """
    if isinstance(texts, str):
        raise UsageError(f"metrics is the text '{texts}', expected a list of metric ids such as ['{texts}']")
    return tuple(dict.fromkeys(parse(text) for text in (SEVEN if texts is None else texts)))


def _limit(text: str, limit_text: str) -> float:
    try:
        limit = float(limit_text)
    except ValueError:
        raise _unknown(text, f"the limit '{limit_text}' is not a number") from None
    if not 0 < limit <= 1:
        raise _unknown(text, f"the limit {limit_text} is outside (0, 1]")
    return limit


def _spell(limit: float) -> str:
    return repr(limit).removesuffix(".0")


def _unknown_variant(text: str, name: str, head: str, variant: str) -> UsageError:
    known = [key.partition(":")[2] for key in VARIANTS if key.startswith(f"{name}:")]
    if not known:
        return _unknown(text, f"'{name}' has no variant '{variant}', nor any other", near=head)
    close = difflib.get_close_matches(variant.lower(), known, n=1, cutoff=0.5)
    hint = f" Did you mean '{head}:{close[0]}'?" if close else ""
    return UsageError(
        f"unknown metric id '{text}': '{name}' has no variant '{variant}'.{hint} Known: {', '.join(known)}. {_SEE}"
    )


def _unknown(text: str, why: str, near: str | None = None) -> UsageError:
    close = [near] if near else difflib.get_close_matches(text.lower(), _EXAMPLES, n=1, cutoff=0.5)
    hint = f" Did you mean '{close[0]}'?" if close else ""
    known = f"{', '.join(SEVEN)}, and variants such as pixel/aupro@0.3:grid200"
    return UsageError(f"unknown metric id '{text}': {why}.{hint} Known: {known}. {_SEE}")
