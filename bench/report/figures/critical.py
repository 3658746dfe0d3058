"""Critical-difference diagram: methods on a line by mean rank, those that do not differ joined by a bar."""

from __future__ import annotations

from typing import TYPE_CHECKING

from bench.report.figures.drawing import FAINT, INK, Figure, canvas
from bench.stats import Ranking

if TYPE_CHECKING:
    from matplotlib.figure import Figure as Canvas


def critical(ranking: Ranking, name: str, title: str, caption: str) -> Figure:
    """Return the diagram of Demsar (JMLR 2006): best at the left, Nemenyi's distance above."""
    return Figure(name, title, caption, lambda: _draw(ranking))


def _draw(ranking: Ranking) -> Canvas:
    count = len(ranking.methods)
    left = -(-count // 2)
    rows = max(left, count - left)
    bars = ranking.groups
    depth = 0.45 + 0.13 * len(bars) + 0.24 * rows
    whole = canvas(6.8, depth + 0.3)
    ax = whole.subplots()
    ax.set_axis_off()
    span = count - 1
    margin = max(1.1, 0.62 * span)
    ax.set_xlim(1 - margin, count + margin)
    ax.set_ylim(depth, -0.55)
    ax.plot([1, count], [0, 0], color=INK, linewidth=1.2)
    for rank in range(1, count + 1):
        ax.plot([rank, rank], [-0.06, 0.0], color=INK, linewidth=1)
        ax.text(rank, -0.1, str(rank), ha="center", va="bottom", fontsize=8)
    end = min(1 + ranking.distance, float(count))
    ax.plot([1, end], [-0.4, -0.4], color=FAINT, linewidth=1.6)
    wider = " (wider than the axis)" if 1 + ranking.distance > count else ""
    ax.text(end + 0.05 * span, -0.4, f"critical distance {ranking.distance:.2f}{wider}", va="center", fontsize=8)
    for place, (first, last) in enumerate(bars):
        height = 0.13 + 0.13 * place
        ends = [ranking.ranks[first] - 0.02 * span, ranking.ranks[last] + 0.02 * span]
        ax.plot(ends, [height, height], color=INK, linewidth=3, solid_capstyle="butt")
    top = 0.3 + 0.13 * len(bars)
    for place, (method, mean) in enumerate(zip(ranking.methods, ranking.ranks, strict=True)):
        at_left = place < left
        y = top + 0.24 * (place if at_left else count - 1 - place)
        edge = 1 - 0.06 * span if at_left else count + 0.06 * span
        ax.plot([mean, mean, edge], [0, y, y], color=FAINT, linewidth=0.8)
        text = f"{method}  {mean:.2f}" if at_left else f"{mean:.2f}  {method}"
        beside = edge + (-0.03 if at_left else 0.03) * span
        ax.text(beside, y, text, ha="right" if at_left else "left", va="center")
    return whole
