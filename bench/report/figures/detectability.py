"""Detectability: how large, and how unlike its surroundings, a defect has to be to be found at few false alarms."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from bench.errors import UsageError
from bench.report.figures.curves import MAX_METHODS
from bench.report.figures.defect_regions import DefectRegions, joined, regions_of
from bench.report.figures.drawing import Figure, canvas, fitted, legend, line_style, plain_ticks
from bench.report.figures.series import FigureSeries, best_first
from bench.stats.detection import Detection, fit
from bench.store.evidence import EvidenceFiles, Lacking

if TYPE_CHECKING:
    from matplotlib.figure import Figure as Canvas

FEWEST = 10
"""Regions of which a curve says something."""
SHARE = 0.9
GROUPS = 5
"""Of regions by size, whose observed shares are drawn as dots."""
MEASURES = {
    "area": "area (% of the image)",
    "contrast": "contrast (% of the range)",
    "place": "edge (0) to middle (100)",
}
"""What regions are told apart by -> the axis's title."""
LEAST = 1e-3
"""What is shown of contrasts and distances of nothing, since a logarithm needs more."""


def detectability(chosen: Sequence[FigureSeries], dataset: str, evidence: EvidenceFiles) -> Figure:
    """Return the share of regions that are found against their area, contrast and place: a curve a configuration."""
    name, title = f"detectability-{dataset}", "Smallest defect that is found"
    found: dict[str, DefectRegions] = {}
    curves: dict[str, Detection] = {}
    reasons: dict[str, None] = {}
    shown = best_first(chosen, dataset, "pixel/aupro@0.3")
    for one in shown:
        if len(found) == MAX_METHODS:
            break
        try:
            parts = [regions_of(one, dataset, cls, evidence) for cls in one.entry(dataset).classes]
            known = [part for part in parts if part is not None and len(part.area)]
            if sum(len(part.area) for part in known) < FEWEST:
                raise Lacking(f"fewer than {FEWEST} regions in masks")
            regions = joined(known)
            curves[one.label], found[one.label] = fit(regions.area, regions.found), regions
        except Lacking as lacking:
            reasons[str(lacking)] = None
        except UsageError:
            reasons["all regions are of one size"] = None
    if not found:
        return Figure(name, title, absent="; ".join(reasons) or "no class has masks", dataset=dataset)
    caption = (
        "Share of regions with a pixel above the highest of 99 % of their class's normal test images, against the part "
        "of the image that they cover, the largest difference of a colour's mean to that of the 8 pixels around, and "
        "their distance from the edge; logistic curves with 95 % intervals. Dots: fifths of the regions. "
    ) + " ".join(f"{label}: {told(curve)}." for label, curve in curves.items())
    return Figure(
        name, title, caption, _drawing(found, {one.label: one.place for one in shown}), "", dataset, wide=True
    )


def told(curve: Detection) -> str:
    """Return in words the smallest size that is found nine times of ten."""
    size, interval = curve.size_found(SHARE), curve.size_interval(SHARE)
    if size is None or interval is None:
        return f"{curve.found} of {curve.regions} regions found, which tells of no size"
    text = f"nine of ten are found from {_percent(size)} of the image on (95 % interval {_percent(interval[0])} to "
    text += f"{_percent(interval[1])})" if interval[1] < 1 else "beyond the whole)"
    if size < curve.smallest:
        return f"{text}, which is less than any region here has"
    return f"{text}, which is more than any region here has" if size > curve.largest else text


def _percent(share: float) -> str:
    return f"{100 * share:.2g} %"


def measured(regions: DefectRegions, measure: str) -> npt.NDArray[np.float64]:
    """Return one of MEASURES of some regions, [R], positive."""
    values: npt.NDArray[np.float64] = getattr(regions, measure)
    return values if measure == "area" else np.maximum(values, LEAST)


def _drawing(found: Mapping[str, DefectRegions], places: Mapping[str, int]) -> Callable[[], Canvas]:
    def draw() -> Canvas:
        whole = canvas(9.6, 3.4)
        axes = whole.subplots(1, len(MEASURES), sharey=True)
        handles = {}
        for ax, (measure, title) in zip(axes, MEASURES.items(), strict=True):
            for label, regions in found.items():
                style = line_style(places[label])
                sizes, hits = measured(regions, measure), regions.found
                if len(np.unique(sizes)) < 2:
                    continue
                curve, along = fit(sizes, hits), np.geomspace(sizes.min(), sizes.max(), 80)
                (handles[label],) = ax.plot(100 * along, 100 * curve.probability(along), **style)
                low, high = curve.band(along)
                ax.fill_between(100 * along, 100 * low, 100 * high, color=style["color"], alpha=0.14, linewidth=0)
                for part in np.array_split(np.argsort(sizes), GROUPS):
                    middle = np.exp(np.log(sizes[part]).mean())
                    share = 100 * hits[part].mean()
                    ax.plot(100 * middle, share, "o", color=style["color"], markersize=4, clip_on=False)
            ax.axhline(100 * SHARE, linestyle=":", linewidth=0.8, color="#8b909a")
            ax.set_xscale("log")
            ax.set_xlabel(title)
            plain_ticks(ax.xaxis)
        axes[0].set_ylabel("regions found (%)")
        axes[0].set_ylim(0, 100)
        legend(whole, list(handles.values()), fitted(list(handles), whole.get_figwidth(), 2))
        return whole

    return draw
