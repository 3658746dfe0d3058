"""Histograms of image scores, normal above and anomalous below, a panel a class."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from bench.report.figures import panels
from bench.report.figures.drawing import COLOURS, Figure
from bench.report.figures.panels import FEW, Numbers, Panel
from bench.report.figures.series import FigureSeries
from bench.stats import Images
from bench.store.evidence import EvidenceFiles, Lacking

if TYPE_CHECKING:
    from matplotlib.figure import Figure as Canvas

BINS = 24
SHOWN = ("normal", "anomalous")


def histograms(one: FigureSeries, dataset: str, evidence: EvidenceFiles) -> Figure:
    """Return how far one method keeps the scores of normal and anomalous images apart."""
    name = f"scores-{dataset}-{one.place}"
    title = f"Image scores, {one.label}"
    try:
        found = one.images(dataset, evidence)
    except Lacking as lacking:
        return Figure(name, title, absent=str(lacking), dataset=dataset)

    def draw() -> Canvas:
        styles = {label: {"color": colour, "linestyle": "-"} for label, colour in zip(SHOWN, COLOURS, strict=False)}
        return panels.draw([_panel(cls, images) for cls, images in found.items()], styles, 1.0)

    caption = "Share of normal images upwards, of anomalous ones downwards."
    return Figure(name, title, caption, draw, "", dataset, len(found) > FEW)


def _panel(cls: str, images: Images) -> Panel:
    from matplotlib.ticker import MaxNLocator

    finite = images.scores[np.isfinite(images.scores)]
    low, high = (float(finite.min()), float(finite.max())) if len(finite) else (0.0, 1.0)
    edges = np.linspace(low, high if high > low else low + 1, BINS + 1)
    areas: dict[str, tuple[Numbers, Numbers]] = {}
    for label, wanted, sign in zip(SHOWN, (False, True), (1, -1), strict=True):
        counts, _ = np.histogram(finite[images.labels[np.isfinite(images.scores)] == wanted], edges)
        shares = sign * counts / max(1, counts.sum())
        # along the upper edge of the bars, from the zero line and back to it
        areas[label] = (np.repeat(edges, 2), np.concatenate([[0.0], np.repeat(shares, 2), [0.0]]))
    top, lowest = (float(extreme(areas[label][1])) for label, extreme in zip(SHOWN, (np.max, np.min), strict=True))
    ticks = [tick for tick in MaxNLocator(4).tick_values(edges[0], edges[-1]) if edges[0] <= tick <= edges[-1]]
    y = (lowest - 0.03, max(top, 0.0) + 0.03)
    return Panel(cls, (float(edges[0]), float(edges[-1])), y, ticks, areas=areas, level=0.0)
