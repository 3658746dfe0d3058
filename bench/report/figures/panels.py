"""Panels: small plots side by side, one a class.

All are drawn in one pair of axes that measures inches: axes of their own would cost several times what is in them.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from bench.names import harmless
from bench.report.figures.drawing import FAINT, fitted, legend

if TYPE_CHECKING:
    from matplotlib.figure import Figure as Canvas

FEW = 6
"""Panels that fit beside another figure."""
WIDTH, GAP = 1.72, 0.26
LEFT, RIGHT, ABOVE, BELOW = 0.52, 0.12, 0.26, 0.42
ENTRY = 0.2
"""Height of a line of the legend; all in inches."""

Numbers = Sequence[float] | npt.NDArray[np.float64]


@dataclass
class Panel:
    """One picture: what is drawn in it, in its own units."""

    title: str
    x: tuple[float, float]
    y: tuple[float, float]
    x_ticks: Sequence[float]
    y_ticks: Sequence[float] = ()
    lines: dict[str, tuple[Numbers, Numbers]] = field(default_factory=dict)
    """Label of the legend -> x and y."""
    areas: dict[str, tuple[Numbers, Numbers]] = field(default_factory=dict)
    """Label of the legend -> the corners of a filled shape."""
    level: float | None = None
    """Height of a faint line."""
    diagonal: bool = False


def draw(
    panels: Sequence[Panel],
    styles: dict[str, dict[str, Any]],
    height: float,
    x_label: str = "",
    y_label: str = "",
) -> Canvas:
    """Return panels three in a row, of more than FEW six in a row, above one legend.

    Args:
        panels: at least one.
        styles: label -> `color` and `linestyle` of its lines and areas, in the legend's order.
        height: of a picture, in inches.
        x_label: below the lowest of each column.
        y_label: left of each row.
    """
    from matplotlib.collections import LineCollection, PolyCollection
    from matplotlib.figure import Figure as Canvas
    from matplotlib.lines import Line2D
    from matplotlib.patches import Patch

    across = min(3 if len(panels) <= FEW else 6, len(panels))
    down = -(-len(panels) // across)
    width = max(LEFT + across * (WIDTH + GAP) - GAP + RIGHT, 3.4)
    names = fitted(list(styles), width, 3 if across <= 3 else 6)
    foot = BELOW + ENTRY * names.lines + 0.12
    pitch = height + ABOVE + 0.2
    whole = Canvas(figsize=(width, down * pitch + foot - 0.2))
    ax = whole.add_axes((0, 0, 1, 1))
    ax.set_axis_off()
    ax.set_xlim(0, whole.get_figwidth())
    ax.set_ylim(0, whole.get_figheight())
    frames: list[Any] = []
    grid: list[Any] = []
    faint: list[Any] = []
    lines: dict[str, list[Any]] = {label: [] for label in styles}
    areas: dict[str, list[Any]] = {label: [] for label in styles}
    for place, panel in enumerate(panels):
        row, column = divmod(place, across)
        left, bottom = LEFT + column * (WIDTH + GAP), foot + (down - 1 - row) * pitch

        def at(x: Numbers, y: Numbers, panel: Panel = panel, left: float = left, bottom: float = bottom) -> Any:
            (x0, x1), (y0, y1) = panel.x, panel.y
            across = left + (np.asarray(x) - x0) / (x1 - x0) * WIDTH
            return np.column_stack([across, bottom + (np.asarray(y) - y0) / (y1 - y0) * height])

        frames.append(at([panel.x[0], panel.x[1]], [panel.y[0]] * 2))
        ax.text(left, bottom + height + 0.06, harmless(panel.title), weight="bold")
        for tick in panel.x_ticks:
            grid += [at([tick, tick], panel.y)] if panel.y_ticks else []
            (point,) = at([tick], [panel.y[0]])
            frames.append([point, (point[0], point[1] - 0.04)])
            ax.text(point[0], bottom - 0.07, f"{tick:g}", ha="center", va="top", size=8)
        for tick in panel.y_ticks:
            grid.append(at(panel.x, [tick, tick]))
            if column == 0:
                ax.text(left - 0.06, at([panel.x[0]], [tick])[0][1], f"{tick:g}", ha="right", va="center", size=8)
        if panel.y_ticks:
            frames.append(at([panel.x[0]] * 2, panel.y))
        if panel.level is not None:
            frames.append(at(panel.x, [panel.level] * 2))
        if panel.diagonal:
            faint.append(at(panel.x, panel.y))
        for found, into in ((panel.lines, lines), (panel.areas, areas)):
            for label, (x, y) in found.items():
                into[label].append(at(x, y))
        if place + across >= len(panels):
            ax.text(left + WIDTH / 2, bottom - 0.34, x_label, ha="center", va="center")
        if column == 0:
            ax.text(0.1, bottom + height / 2, y_label, rotation=90, ha="center", va="center")
    ax.add_collection(LineCollection(grid, colors=FAINT, linewidths=0.6, alpha=0.25), autolim=False)
    ax.add_collection(LineCollection(faint, colors=FAINT, linewidths=0.7, linestyles=":"), autolim=False)
    handles: list[Any] = []
    for label, style in styles.items():
        if areas[label]:
            ax.add_collection(PolyCollection(areas[label], facecolors=style["color"], alpha=0.85), autolim=False)
            handles.append(Patch(facecolor=style["color"], alpha=0.85))
        else:
            drawn = LineCollection(lines[label], colors=style["color"], linestyles=style["linestyle"], linewidths=1.5)
            ax.add_collection(drawn, autolim=False)
            handles.append(Line2D([], [], **style))
    ax.add_collection(LineCollection(frames, colors=FAINT, linewidths=0.7), autolim=False)
    legend(whole, handles, names, where="lower center")
    return whole
