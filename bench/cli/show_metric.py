"""`bench show METRIC`: what a metric is, where it comes from, and where it has no value."""

from __future__ import annotations

from typing import Any

from bench.registry import METRICS

LEVELS = ("image/", "pixel/", "sample/")


def is_metric(name: str) -> bool:
    """Return whether a name can be a metric's and nothing else's."""
    return name in METRICS.targets or (name.startswith(LEVELS) and not name.endswith(".json"))


def facts_of(name: str) -> dict[str, Any]:
    """Return what there is to say of a metric; without its parameter, with the usual one. Raises UsageError."""
    from bench.metrics.ids import example, parse
    from bench.metrics.metric import METRIC_VERSION

    metric = example(name) if name in METRICS.targets else parse(name)
    return {
        "name": str(metric),
        "title": metric.title,
        "heading": metric.shown,
        "level": metric.level,
        "unit": metric.unit or "share in [0, 1], shown in percent",
        "better": "higher" if metric.higher_is_better else "lower",
        "definition": metric.definition,
        "undefined": metric.undefined,
        "source": metric.source,
        "parameter": metric.parameter.what if metric.parameter else None,
        "computed_from": metric.needs,
        "mean_of": list(metric.parts),
        "version": METRIC_VERSION if metric.version is None else metric.version,
        "variants": [key for key in METRICS.names() if key.startswith(f"{metric.id}:")],
        "code": METRICS.targets[metric.id],
    }


def print_metric(facts: dict[str, Any]) -> None:
    """Print a metric for people."""
    from bench.cli.terminal import say
    from bench.machine.terminal import console

    out = console()
    say(out, f"{facts['name']}  {facts['title']}")
    whence = f"{facts['computed_from']}, {facts['code']}, version {facts['version']}"
    for key, text in {
        "column": f"{facts['heading']}, {facts['unit']}, {facts['better']} is better",
        "is": facts["definition"],
        "undefined": facts["undefined"],
        "source": facts["source"],
        "after @": facts["parameter"],
        "from": f"the mean of {', '.join(facts['mean_of'])}" if facts["mean_of"] else whence,
        "variants": ", ".join(facts["variants"]),
    }.items():
        if text:
            say(out, f"{key:9} {text}")
