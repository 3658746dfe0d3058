"""The page of metrics, made from their registry: definitions, variants, undefined cases, sources."""

from __future__ import annotations

from functools import cache
from typing import Any

from bench.registry import METRICS

from .markdown import table
from .shown import listed, show

HEAD = """# Metrics

Exact over every distinct score, unless a name has a variant behind a colon: other people's approximation, so that a
published number can be put beside one computed by its own rule. `bench show METRIC` prints the same."""


@cache
def pages() -> dict[str, str]:
    """Return the section's pages: path in the site -> Markdown."""
    names = [row["name"] for row in listed("metrics") if row["name"] in METRICS.builtin]
    # a variant of a metric that has no exact form stands by itself
    heads = [name for name in names if name.partition(":")[0] not in names or ":" not in name]
    return {"metrics/index.md": "\n\n".join([HEAD, _overview(heads), *map(_definition, heads)])}


def _overview(names: list[str]) -> str:
    rows = [(f"[`{facts['name']}`](#{_anchor(name)})", facts["heading"], facts["title"]) for name, facts in _all(names)]
    return table(("id", "column", "what"), rows)


def _all(names: list[str]) -> list[tuple[str, dict[str, Any]]]:
    return [(name, show(name)) for name in names]


def _anchor(name: str) -> str:
    return name.replace("/", "-").replace(":", "-")


def _definition(name: str) -> str:
    facts = show(name)
    variants = [(f"`{variant}`", show(variant)["definition"], show(variant)["source"]) for variant in facts["variants"]]
    lines = [
        f"## {facts['heading']} {{ #{_anchor(name)} }}\n\n`{facts['name']}`: {facts['title']}.",
        f"{facts['definition'][:1].upper()}{facts['definition'][1:]}.",
        table(
            ("", ""),
            [
                ("unit", f"{facts['unit']}, {facts['better']} is better"),
                ("undefined", facts["undefined"]),
                *([("after @", facts["parameter"])] if facts["parameter"] else []),
                *([("mean of", ", ".join(facts["mean_of"]))] if facts["mean_of"] else []),
                ("source", facts["source"]),
                ("code", f"`{facts['code']}`, version {facts['version']}"),
            ],
        ),
        table(("variant", "what is other", "whose"), variants),
    ]
    return "\n\n".join(filter(None, lines))
