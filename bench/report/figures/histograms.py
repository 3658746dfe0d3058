"""Histograms of image scores, normal above and anomalous below, a panel a class."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from bench.report.evidence import Evidence, Lacking
from bench.report.figures.drawing import COLOURS, FAINT, Figure, legend, panels
from bench.report.figures.series import Series
from bench.stats import Images

if TYPE_CHECKING:
    from matplotlib.figure import Figure as Canvas

BINS = 24


def histograms(one: Series, dataset: str, evidence: Evidence) -> Figure:
    """Return how far one method keeps the scores of normal and anomalous images apart."""
    name = f"scores-{dataset}-{one.place}"
    title = f"Image scores, {one.label}"
    try:
        found = one.images(dataset, evidence)
    except Lacking as lacking:
        return Figure(name, title, absent=str(lacking), dataset=dataset)

    def draw() -> Canvas:
        whole, axes = panels(len(found), height=1.5)
        handles = {}
        for (cls, images), ax in zip(found.items(), axes, strict=True):
            ax.set_title(cls)
            handles = _draw_class(ax, images)
            ax.set_yticks([])
            ax.grid(False)
            ax.spines["left"].set_visible(False)
            ax.locator_params(axis="x", nbins=4)
        legend(whole, list(handles.values()), list(handles))
        return whole

    return Figure(name, title, "Share of normal images upwards, of anomalous ones downwards.", draw, "", dataset)


def _draw_class(ax: object, images: Images) -> dict[str, object]:
    from matplotlib.axes import Axes

    assert isinstance(ax, Axes)
    finite = images.scores[np.isfinite(images.scores)]
    low, high = (float(finite.min()), float(finite.max())) if len(finite) else (0.0, 1.0)
    edges = np.linspace(low, high if high > low else low + 1, BINS + 1)
    handles: dict[str, object] = {}
    for label, wanted, sign, colour in (("normal", False, 1, COLOURS[0]), ("anomalous", True, -1, COLOURS[1])):
        counts, _ = np.histogram(finite[images.labels[np.isfinite(images.scores)] == wanted], edges)
        shares = counts / max(1, counts.sum())
        handles[label] = ax.stairs(sign * shares, edges, fill=True, color=colour, alpha=0.85)
    ax.axhline(0, color=FAINT, linewidth=0.7)
    return handles
