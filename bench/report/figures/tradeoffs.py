"""Accuracy against throughput, and accuracy by input size and encoder."""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from typing import TYPE_CHECKING

from bench.names import harmless
from bench.report.figures.drawing import COLOURS, FAINT, Figure, canvas, fitted, legend, line_style, plain_ticks
from bench.report.figures.series import FigureSeries
from bench.report.tables.names import COLUMNS, MAD, heading

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure as Canvas

RATE = "cost/images_per_second"


def throughput(chosen: Sequence[FigureSeries], dataset: str) -> Figure:
    """Return a point a configuration: images a second at inference against the mean score."""
    name, title = f"throughput-{dataset}", "Accuracy against throughput"
    metric = _metric(chosen, dataset)
    groups: dict[Hashable, list[tuple[FigureSeries, float, float]]] = {}
    for one in chosen:
        rate, score = one.line.cell(dataset, "", RATE).value, one.line.cell(dataset, "", metric).value
        if rate and score is not None:
            groups.setdefault(one.line.comparable(dataset, RATE), []).append((one, rate, score))
    if not groups:
        return Figure(name, title, absent="no record has both a complete mean and a throughput", dataset=dataset)
    points = max(groups.values(), key=len)
    others = sum(len(group) for group in groups.values()) - len(points)
    where = points[0][0].entry(dataset).head.environment
    caption = f"Rates compare on one machine only, here {where.device}, {where.processor}."
    if others:
        caption += f" Left out, measured on other machines: {others}."

    def draw() -> Canvas:
        whole = canvas(6.4, 3.6)
        ax = whole.subplots()
        handles = {}
        for one, rate, score in points:
            colour = COLOURS[one.place % len(COLOURS)]
            marker = "osD^vP*X"[one.place // len(COLOURS) % 8]
            handles[one.label] = ax.scatter(
                [rate], [100 * score], s=46, color=colour, marker=marker, zorder=3, clip_on=False
            )
        front = _front([(rate, 100 * score) for _, rate, score in points])
        ax.plot(*zip(*front, strict=True), color=FAINT, linewidth=0.9, linestyle=":", zorder=1)
        ax.set_xscale("log")
        ax.set_xlim(*_room([rate for _, rate, _ in points]))
        ax.set_xlabel("images a second, inference with the encoder")
        ax.set_ylabel(f"{heading(metric)} (%)")
        ax.margins(y=0.15)
        _at_most_100(ax)
        plain_ticks(ax.xaxis)
        legend(whole, list(handles.values()), fitted(list(handles), whole.get_figwidth(), 2))
        return whole

    return Figure(name, title, f"{caption} Dotted: no other is both faster and better.", draw, "", dataset)


def scaling(chosen: Sequence[FigureSeries], dataset: str) -> Figure:
    """Return the mean score by input size, a line a method and encoder."""
    name, title = f"scaling-{dataset}", "Input size and encoder"
    metric = _metric(chosen, dataset)
    lines: dict[tuple[str, str], list[tuple[int, float]]] = {}
    for one in chosen:
        head, score = one.entry(dataset).head, one.line.cell(dataset, "", metric).value
        if score is not None:
            key = (one.line.name, head.encoder_id[0])
            lines.setdefault(key, []).append((head.input_size, score))
    methods = {method for method, _ in lines}
    varied = [
        method
        for method in methods
        if len({(key[1], size) for key, points in lines.items() if key[0] == method for size, _ in points}) > 1
    ]
    if not varied:
        why = "no method was run with several input sizes or encoders"
        return Figure(name, title, absent=why, dataset=dataset)
    drawn = {key: sorted(points) for key, points in lines.items() if key[0] in varied}

    def draw() -> Canvas:
        whole = canvas(6.4, 3.4)
        ax = whole.subplots()
        handles = {}
        for place, ((method, encoder), points) in enumerate(drawn.items()):
            best = {size: max(score for other, score in points if other == size) for size, _ in points}
            style, label = {**line_style(place), "clip_on": False}, harmless(f"{method}, {encoder}")
            percents = [100 * score for score in best.values()]
            (handles[label],) = ax.plot(list(best), percents, marker="o", markersize=5, **style)
            rest = [(size, 100 * score) for size, score in points if score != best[size]]
            rings = {**style, "markerfacecolor": "none", "markeredgecolor": style["color"], "linestyle": "none"}
            ax.plot([size for size, _ in rest], [score for _, score in rest], marker="o", markersize=5, **rings)
        ax.set_xlabel("input side (pixels)")
        ax.set_ylabel(f"{heading(metric)} (%)")
        ax.set_xticks(sorted({size for points in drawn.values() for size, _ in points}))
        ax.margins(0.1, 0.15)
        _at_most_100(ax)
        legend(whole, list(handles.values()), fitted(list(handles), whole.get_figwidth(), 2))
        return whole

    caption = "The line joins the best configuration of each size; rings are others, which differ in other settings."
    return Figure(name, title, caption, draw, "", dataset)


def _at_most_100(ax: Axes) -> None:
    """End the axis of a percentage at 100, where the margin would go beyond; nothing is cut off there."""
    low, high = ax.get_ylim()
    ax.set_ylim(max(low, 0.0), min(high, 100.0))


def _room(values: Sequence[float]) -> tuple[float, float]:
    """Return the ends of a logarithmic axis with a margin around the values, and with two ticks of 1, 2, 5 at least."""
    low, high = min(values), max(values)
    margin = max((high / low) ** 0.12, (5 * low / high) ** 0.5)
    return low / margin, high * margin


def _metric(chosen: Sequence[FigureSeries], dataset: str) -> str:
    """Return mAD where a line has it, else the first of the seven that one has."""
    for metric in (MAD, *COLUMNS):
        if any(one.line.cell(dataset, "", metric).value is not None for one in chosen):
            return metric
    return MAD


def _front(points: Sequence[tuple[float, float]]) -> list[tuple[float, float]]:
    """Return the points that no other beats in both, by rate."""
    return sorted(p for p in points if not any(q != p and q[0] >= p[0] and q[1] >= p[1] for q in points))
