"""Metric ids, `level/metric@parameter:variant`: what a recorded number means, in one word.

    image/auroc   image/ap   image/f1max
    pixel/auroc   pixel/ap   pixel/f1max   pixel/aupro@0.3   pixel/aupro@0.3:grid200   image/fpr@recall0.95

An id without a variant is the exact definition. A variant is other people's approximation, by name, so that a published
number can be put beside one computed by its own rule. Every metric has exactly one spelling, so that records made by
different people can be joined on it. What there is stands in `bench.registry.METRICS`.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable
from dataclasses import dataclass

from bench.errors import UsageError
from bench.metrics.metric import GROUPS, Metric
from bench.protocol import SEVEN
from bench.registry import METRICS

_SEE = "See: bench ls metrics"


def parse(text: str) -> Metric:
    """Return the metric that `text` names.

    Raises:
        UsageError: `text` is no metric id, or not the one spelling of it; the message suggests the nearest.
    """
    if not isinstance(text, str):
        raise UsageError(f"metric id is {text!r} ({type(text).__name__}), expected text such as '{SEVEN[0]}'")
    head, _, variant = text.partition(":")
    name, at, number = head.partition("@")
    key = f"{name}:{variant}" if variant else name
    # a variant that is not known is looked for among those of its metric, after all else was
    nearest = key if key in METRICS.targets else name if name in METRICS.targets else ""
    if not nearest and variant and _variants(name):
        raise _unknown_variant(text, name, head, variant)
    if not nearest:
        raise _unknown(text, "no such metric", near=_example(name) if _variants(name) else None)
    parameter = METRICS.load(nearest).parameter
    if parameter is not None and not at:
        raise _unknown(text, f"'{name}' needs its {parameter.what}", near=_example(name))
    if parameter is None and at:
        raise _unknown(text, f"'{name}' takes no limit", near=name)
    value = None if parameter is None else _number(text, number, parameter.prefix)
    if nearest != key:
        raise _unknown_variant(text, name, head, variant)
    parsed = METRICS.load(key)(value)
    if str(parsed) != text:
        raise UsageError(f"metric id '{text}' is not spelt the one way that records use. Did you mean '{parsed}'?")
    return parsed


def parse_all(texts: Iterable[str] | None) -> tuple[Metric, ...]:
    """Return the metrics named by `texts`, repeats dropped, order kept; None stands for the field's seven.

    Raises:
        UsageError: an id is unknown, or `texts` is a single text instead of a list.
    """
    if isinstance(texts, str):
        raise UsageError(f"metrics is the text '{texts}', expected a list of metric ids such as ['{texts}']")
    return tuple(dict.fromkeys(parse(text) for text in (SEVEN if texts is None else texts)))


@dataclass(frozen=True, slots=True)
class MetricColumn:
    """How a recorded number is shown, whether or not its metric is at hand."""

    heading: str
    group: str
    """Heading over the metrics of one level; empty where the id has none."""
    unit: str
    """Empty for a share, shown in percent."""
    higher_is_better: bool | None
    """None where the metric is not at hand, so that nobody knows."""


def known(text: str) -> Metric | None:
    """Return the metric that `text` names; None where it is not at hand, as what records hold need not be."""
    head, _, variant = text.partition(":")
    name = head.partition("@")[0]
    # looked up first: what is near a name that nobody has takes a thousand times as long to say
    if (f"{name}:{variant}" if variant else name) not in METRICS.targets:
        return None
    try:
        return parse(text)
    except UsageError:
        return None


def column(text: str, unit: str = "") -> MetricColumn:
    """Return how the metric called `text` is shown. Records may hold what no plug-in at hand computes.

    Args:
        text: an id from a record: one that `parse` knows, that of a plug-in which is not loaded, or
            `image/auroc:<family>` (see `bench.run.class_scores`).
        unit: what the record says of it, for a metric that is not at hand.
    """
    if (metric := known(text)) is not None:
        return MetricColumn(metric.shown, metric.group, metric.unit, metric.higher_is_better)
    name, _, family = text.partition(":")
    whole = known(name) if family else None
    if whole is not None and whole.level == "image":
        part = "mean of families" if family == "mean" else family
        return MetricColumn(f"{whole.shown} {part}", whole.group, whole.unit, whole.higher_is_better)
    return MetricColumn(text, GROUPS.get(text.partition("/")[0], ""), unit, None)


def example(name: str) -> Metric:
    """Return the metric that is registered as `name`, or its first variant, with the usual parameter."""
    kind = METRICS.load(name if name in METRICS.targets else f"{name}:{_variants(name)[0]}")
    return kind(kind.parameter.example if kind.parameter else None)


def _example(name: str) -> str:
    return str(example(name))


def _number(text: str, given: str, prefix: str) -> float:
    if not given.startswith(prefix):
        raise _unknown(text, f"'{given}' does not begin with '{prefix}'", near=_example(text.partition("@")[0]))
    try:
        number = float(given.removeprefix(prefix))
    except ValueError:
        raise _unknown(text, f"the limit '{given}' is not a number") from None
    if not 0 < number <= 1:
        raise _unknown(text, f"the limit {given} is outside (0, 1]")
    return number


def _variants(name: str) -> list[str]:
    """Return the variants of a metric."""
    return [key.partition(":")[2] for key in METRICS.names() if key.startswith(f"{name}:")]


def _unknown_variant(text: str, name: str, head: str, variant: str) -> UsageError:
    known = _variants(name)
    if not known:
        return _unknown(text, f"'{name}' has no variant '{variant}', nor any other", near=head)
    close = difflib.get_close_matches(variant.lower(), known, n=1, cutoff=0.5)
    hint = f" Did you mean '{head}:{close[0]}'?" if close else ""
    return UsageError(
        f"unknown metric id '{text}': '{name}' has no variant '{variant}'.{hint} Known: {', '.join(known)}. {_SEE}"
    )


def _unknown(text: str, why: str, near: str | None = None) -> UsageError:
    if near is None:
        # of what bench has itself, whole ids: a suggestion is no reason to import a plug-in
        examples = {name: _example(name) if name in METRICS.builtin else name for name in METRICS.names()}
        close = difflib.get_close_matches(text.lower(), [*examples, *examples.values()], n=1, cutoff=0.5)
        near = examples.get(close[0], close[0]) if close else None
    hint = f" Did you mean '{near}'?" if near else ""
    known = f"{', '.join(SEVEN)}, and variants such as pixel/aupro@0.3:grid200"
    return UsageError(f"unknown metric id '{text}': {why}.{hint} Known: {known}. {_SEE}")
