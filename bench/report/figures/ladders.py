"""Ladders as figures: from a recorded number over what each rule moves to the published one."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from bench.names import harmless
from bench.report.figures.drawing import COLOURS, FAINT, Figure, canvas
from bench.report.figures.series import FigureSeries
from bench.report.tables.names import heading
from bench.store.evidence import EvidenceFiles
from bench.store.explained import NAMES, Explained, Explanation

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure as Canvas

UP, DOWN, ENDS, REST = COLOURS[2], COLOURS[1], COLOURS[0], FAINT
ROW = 4
"""Metrics beside each other."""


def ladders(chosen: Sequence[FigureSeries], dataset: str, evidence: EvidenceFiles) -> list[Figure]:
    """Return a figure for each explanation that lies beside the first seed of a configuration."""
    found = []
    for one in chosen:
        for record in one.entry(dataset).rows[0].records:
            for kept in evidence.explained(record):
                name = f"explained-{dataset}-{one.place}-{kept.paper}"
                title = f"Why {one.label} differs from {harmless(kept.paper)}"
                found.append(Figure(name, title, _caption(kept), _drawing(kept), "", dataset, wide=True))
    return found


def rungs(one: Explanation) -> list[tuple[str, float, float]]:
    """Return (what, from, to) of each bar, in percent: ours, the rules, what is unexplained, the published number."""
    at, found = 100 * one.ours, [("ours", 0.0, 100 * one.ours)]
    for step in one.steps:
        found.append((NAMES[step.rule], at, at + 100 * step.moved))
        at += 100 * step.moved
    if one.published is not None:
        found += [("unexplained", at, 100 * one.published), ("published", 0.0, 100 * one.published)]
    else:
        found.append(("by their rules", 0.0, at))
    return found


def _caption(kept: Explained) -> str:
    steps = [step for one in kept.ladders for step in one.steps if step.rule != "metric"]
    moved = dict.fromkeys(f"{NAMES[step.rule]}: {step.ours} -> {step.theirs}" for step in steps)
    text = "What each rule moves, averaged over the orders of changing them; unexplained is what none does: "
    text += f"training, weights, which checkpoint is printed. {'; '.join(moved)}{'.' if moved else ''}"
    return f"{text} Not to be told from a record: {kept.beside}." if kept.beside else text


def _drawing(kept: Explained) -> Callable[[], Canvas]:
    def draw() -> Canvas:
        rows = -(-len(kept.ladders) // ROW)
        whole = canvas(2.5 * min(ROW, len(kept.ladders)) + 0.4, 2.3 * rows)
        axes = whole.subplots(rows, min(ROW, len(kept.ladders)), squeeze=False).ravel()
        for ax in axes[len(kept.ladders) :]:
            ax.set_axis_off()
        for ax, one in zip(axes, kept.ladders, strict=False):
            _ladder(ax, one)
        return whole

    return draw


def _ladder(ax: Axes, one: Explanation) -> None:
    bars = rungs(one)
    for place, (what, start, end) in enumerate(bars):
        whole = start == 0.0 and what in ("ours", "published", "by their rules")
        colour = ENDS if whole else REST if what == "unexplained" else UP if end >= start else DOWN
        ax.barh(-place, end - start, left=start, color=colour, height=0.62)
        text = f"{end:.1f}" if whole else f"{end - start:+.2f}"
        ax.annotate(text, (max(start, end), -place), xytext=(3, 0), textcoords="offset points", va="center", fontsize=7)
    edges = [edge for _, start, end in bars for edge in (start, end) if edge]
    room = max(1.0, max(edges) - min(edges))
    ax.set_xlim(min(edges) - 0.25 * room, max(edges) + 0.45 * room)
    ax.set_xticks([tick for tick in ax.get_xticks() if min(edges) - 0.25 * room <= tick <= 100])
    ax.set_yticks([-place for place in range(len(bars))], [what for what, *_ in bars], fontsize=7)
    ax.set_title(f"{heading(one.metric)} (%)")
