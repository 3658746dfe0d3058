"""Metric ids, `level/metric@limit:variant`: what a recorded number means, in one word.

    image/auroc   image/ap   image/f1max
    pixel/auroc   pixel/ap   pixel/f1max   pixel/aupro@0.3   pixel/aupro@0.3:grid200

An id without a variant is the exact definition. Every metric has exactly one spelling, so that records made by
different people can be joined on it.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal

from bench.errors import UsageError
from bench.protocol import SEVEN

Level = Literal["image", "pixel"]

METRIC_VERSION = 1
"""Raised whenever a definition below changes a value; records carry it."""

_THRESHOLD_METRICS = ("auroc", "ap", "f1max")
_VARIANTS = ("grid200",)
_EXAMPLES = (*SEVEN, "pixel/aupro@0.3:grid200")
_SEE = "See: bench ls protocols"


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
        if parsed.variant is not None and parsed.variant not in _VARIANTS:
            raise _unknown(text, f"unknown variant '{parsed.variant}', known: {', '.join(_VARIANTS)}")
    elif metric in _THRESHOLD_METRICS and level in ("image", "pixel"):
        if at or ":" in text:
            raise _unknown(text, f"'{name}' takes no limit and has no variant")
        parsed = MetricId("image" if level == "image" else "pixel", metric)
    else:
        raise _unknown(text, "no such metric")
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


def _unknown(text: str, why: str, near: str | None = None) -> UsageError:
    close = [near] if near else difflib.get_close_matches(text.lower(), _EXAMPLES, n=1, cutoff=0.5)
    hint = f" Did you mean '{close[0]}'?" if close else ""
    return UsageError(f"unknown metric id '{text}': {why}.{hint} Known: {', '.join(_EXAMPLES)}. {_SEE}")
