"""A page a method: what it is, its settings and their sources, its size, published and recorded scores."""

from __future__ import annotations

import json
from collections import defaultdict
from functools import cache
from pathlib import Path
from typing import Any

import bench
from bench.families import FAMILIES, needed
from bench.metrics.ids import parse
from bench.protocol import SEVEN
from bench.published import MEAN, Score, papers, scores
from bench.registry import METHODS

from .markdown import as_markdown, code, table
from .shown import listed, show

REPO = Path(__file__).resolve().parents[2]
RECORDS = ("results/baselines", "results/example")
"""Folders of records that are committed."""
DOCUMENTED = "Differences from the official code"
"""What every method's file says; the rest of the page is made from the class."""


@cache
def pages() -> dict[str, str]:
    """Return the section's pages: path in the site -> Markdown."""
    rows = [row for row in listed("methods") if row["name"] in METHODS.builtin]
    return {"methods/index.md": _overview(rows), **{f"methods/{row['name']}.md": _page(row) for row in rows}}


def _overview(rows: list[dict[str, Any]]) -> str:
    parts = ["# Methods\n\nEach is one file in `methods/`. `bench show NAME` prints what its page says.\n"]
    for family, meaning in FAMILIES.items():
        members = [row for row in rows if row["family"] == family]
        lines = [(f"[{row['name']}]({row['name']}.md)", row["summary"], _needs(row)) for row in members]
        if lines:
            parts.append(f"## {family.capitalize()}\n\n{meaning.capitalize()}.\n")
            parts.append(table(("name", "what", "needs"), lines))
    return "\n".join(parts)


def _needs(row: dict[str, Any]) -> str:
    return needed(row["encoders"], row["needs"]) or "nothing"


def _page(row: dict[str, Any]) -> str:
    name, facts = row["name"], show(row["name"])
    title, _, told = METHODS.docstring(name).partition("\n")
    origin = METHODS.origin(name).relative_to(REPO).as_posix()
    tests = f"tests/methods/test_{name}.py"
    encoder, cost = facts["encoder"], facts["cost"]
    size = [
        ("family", row["family"]),
        ("needs", _needs(row)),
        ("encoder", f"`{encoder['name']}`, blocks {encoder['blocks']}" if encoder else "none"),
        ("input", f"{encoder['input_size']} px" if encoder else "–"),
        ("parameters", f"{cost['params_total']:,}, of which {cost['params_trainable']:,} are trained"),
        ("multiply-accumulates an image", f"{cost['macs'] / 1e9:.1f} G in convolutions and linear layers"),
        *(("papers print", f"{one['printed']} ({one['where']}) {one['variant']}") for one in facts["published_cost"]),
        ("file", f"`{origin}`"),
        ("proofs", f"`{tests}`, `tests/contract/`" if (REPO / tests).exists() else "`tests/contract/`"),
    ]
    settings = [
        (code(key), code(json.dumps(one["default"])), one["help"], one["source"])
        for key, one in facts["settings"].items()
    ]
    overrides = [
        (where, ", ".join(f"`{k}={json.dumps(v)}`" for k, v in some.items()))
        for where, some in facts["dataset_overrides"].items()
    ]
    counts = sorted(facts["steps"].items())
    steps = (
        ([dataset for dataset, _ in counts], [[f"{count:,}" for _, count in counts]])
        if any(facts["steps"].values())
        else None
    )
    return "\n\n".join(
        filter(
            None,
            [
                f"# {name}\n\n**{title}**",
                as_markdown(told).replace(f"\n{DOCUMENTED}", f"\n## {DOCUMENTED}\n\n{DOCUMENTED}", 1),
                "## In short\n\n" + table(("", ""), size),
                f"## Settings\n\n`--set {name}.KEY=VALUE` changes one.\n\n"
                + table(("key", "default", "what", "source of the default"), settings),
                "### By dataset and setting\n\n" + table(("where", "other defaults"), overrides) if overrides else "",
                "### Steps of one model for all classes\n\n" + table(*steps) if steps else "",
                "## Published scores\n\n" + (_published(name) or "None in the transcribed tables."),
                "## Recorded scores\n\n" + (_recorded(name) or "No committed record."),
            ],
        )
    )


def _published(name: str) -> str:
    """Return the means that papers print of the method as its authors propose it, in percent, as printed."""
    lines: dict[tuple[str, ...], dict[str, Score]] = defaultdict(dict)
    for score in scores():
        if score.method == name and score.cls == MEAN and not score.is_cost:
            lines[score.where, score.dataset, score.setting, score.variant].setdefault(score.metric, score)
    metrics = [metric for metric in SEVEN if any(_plain(metric) in line for line in lines.values())]
    rows = [
        (dataset, setting, variant, *(_digits(line.get(_plain(metric))) for metric in metrics), where)
        for (where, dataset, setting, variant), line in sorted(lines.items(), key=lambda item: item[0][1:])
        if any(_plain(metric) in line for metric in metrics)
    ]
    if not rows:
        return ""
    cited = {where.split(" ")[0] for *_, where in rows}
    titles = "\n".join(f"- `{key}`: {paper.title}, {paper.venue}" for key, paper in papers().items() if key in cited)
    heads = ("dataset", "setting", "variant", *(parse(metric).shown for metric in metrics), "where")
    text = "Means over classes in percent, as printed; protocols differ between papers, see `bench report`.\n\n"
    return f"{text}{table(heads, rows)}\n{titles}"


def _plain(metric: str) -> str:
    return metric.partition("@")[0]


def _digits(score: Score | None) -> str:
    return "" if score is None else score.used or f"{score.value} (not used: see `bench claims`)"


def _recorded(name: str) -> str:
    """Return the means of the committed records, in percent."""
    frame = _frame()
    frame = frame[(frame["method"] == name) & (frame["of"] == "mean") & frame["metric"].isin(SEVEN)]
    if frame.empty:
        return ""
    rows = []
    for (dataset, setting, seed), some in frame.groupby(["dataset", "setting", "seed"]):
        values = dict(zip(some["metric"], some["value"], strict=True))
        rows.append((dataset, setting, seed, *(_percent(values.get(metric)) for metric in SEVEN)))
    heads = ("dataset", "setting", "seed", *(parse(metric).shown for metric in SEVEN))
    which = ", ".join(f"`{folder}`" for folder in RECORDS)
    return f"Records in {which}, not at the paper's size: see their settings.\n\n{table(heads, rows)}"


def _percent(value: float | None) -> str:
    return "" if value is None or value != value else f"{100 * value:.1f}"


@cache
def _frame() -> Any:
    return bench.frame([str(REPO / folder) for folder in RECORDS])
