"""Detectability: how large a defect has to be to be found, at one false alarm in a hundred normal images."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from bench.errors import UsageError
from bench.metrics import find_regions
from bench.metrics.thresholds import Normals
from bench.report.figures.curves import MAX_METHODS
from bench.report.figures.drawing import Figure, canvas, fitted, legend, line_style, plain_ticks
from bench.report.figures.series import FigureSeries, best_first
from bench.stats.detection import Detection, fit
from bench.store.evidence import EvidenceFiles, Lacking

if TYPE_CHECKING:
    from matplotlib.figure import Figure as Canvas

RULE = "q0.99"
"""Of the highest pixels of normal test images: one in a hundred is a false alarm at most."""
FEWEST = 10
"""Regions of which a curve says something."""
SHARE = 0.9
GROUPS = 5
"""Of regions by size, whose observed shares are drawn as dots."""

Regions = tuple[npt.NDArray[np.float64], npt.NDArray[np.bool_]]
"""Areas as shares of their image, and whether each was found."""


def detectability(chosen: Sequence[FigureSeries], dataset: str, evidence: EvidenceFiles) -> Figure:
    """Return a curve a configuration: the share of regions that are found against their area, with its interval."""
    name, title = f"detectability-{dataset}", "Smallest defect that is found"
    found: dict[str, tuple[Detection, Regions]] = {}
    reasons: dict[str, None] = {}
    shown = best_first(chosen, dataset, "pixel/aupro@0.3")
    for one in shown:
        if len(found) == MAX_METHODS:
            break
        try:
            parts = [_regions(one, dataset, cls, evidence) for cls in one.entry(dataset).classes]
            areas = np.concatenate([part[0] for part in parts if part is not None] or [np.empty(0)])
            hits = np.concatenate([part[1] for part in parts if part is not None] or [np.empty(0, bool)])
            if len(areas) < FEWEST:
                raise Lacking(f"fewer than {FEWEST} regions in masks")
            found[one.label] = fit(areas, hits), (areas, hits)
        except Lacking as lacking:
            reasons[str(lacking)] = None
        except UsageError:
            reasons["all regions are of one size"] = None
    if not found:
        return Figure(name, title, absent="; ".join(reasons) or "no class has masks", dataset=dataset)
    caption = (
        "Share of regions with a pixel above the highest of 99 % of their class's normal test images, against the part "
        "of the image that they cover; a logistic curve with its 95 % interval. Dots: fifths of the regions by size. "
    ) + " ".join(f"{label}: {told(curve)}." for label, (curve, _) in found.items())
    return Figure(name, title, caption, _drawing(found, {one.label: one.place for one in shown}), "", dataset)


def told(curve: Detection) -> str:
    """Return in words the smallest size that is found nine times of ten."""
    size, interval = curve.size_found(SHARE), curve.size_interval(SHARE)
    if size is None or interval is None:
        return f"{curve.found} of {curve.regions} regions found, which tells of no size"
    text = f"nine of ten are found from {_percent(size)} of the image on (95 % interval {_percent(interval[0])} to "
    text += f"{_percent(interval[1])})"
    if size < curve.smallest:
        return f"{text}, which is less than any region here has"
    return f"{text}, which is more than any region here has" if size > curve.largest else text


def _percent(share: float) -> str:
    return f"{100 * share:.2g} %"


def _regions(one: FigureSeries, dataset: str, cls: str, evidence: EvidenceFiles) -> Regions | None:
    """Return the regions of a class; None where it has no masks or no normal image."""
    record = one.record_of(dataset, cls)
    if record.scores[cls].values.get("pixel/auroc") is None:
        return None
    maps, masks = np.asarray(evidence.maps(record, cls)), evidence.masks(record, cls)
    normal = maps[~evidence.images(record)[cls].labels]
    if not len(normal) or maps.shape != masks.shape:
        return None
    highest = normal.reshape(len(normal), -1).max(axis=1)
    normals = Normals(len(highest))
    normals.add(highest)
    regions = find_regions(masks)
    hottest = np.full(len(regions.areas), -np.inf)
    np.maximum.at(hottest, regions.index, maps[masks])
    return regions.areas / masks[0].size, hottest > normals.thresholds()[RULE]


def _drawing(found: Mapping[str, tuple[Detection, Regions]], places: Mapping[str, int]) -> Callable[[], Canvas]:
    def draw() -> Canvas:
        whole = canvas(6.4, 3.4)
        ax = whole.subplots()
        handles = {}
        for label, (curve, (areas, hits)) in found.items():
            style = line_style(places[label])
            sizes = np.geomspace(areas.min(), areas.max(), 80)
            (handles[label],) = ax.plot(100 * sizes, 100 * curve.probability(sizes), **style)
            low, high = curve.band(sizes)
            ax.fill_between(100 * sizes, 100 * low, 100 * high, color=style["color"], alpha=0.14, linewidth=0)
            order = np.argsort(areas)
            for part in np.array_split(order, GROUPS):
                middle = np.exp(np.log(areas[part]).mean())
                ax.plot(100 * middle, 100 * hits[part].mean(), "o", color=style["color"], markersize=4, clip_on=False)
        ax.axhline(100 * SHARE, linestyle=":", linewidth=0.8, color="#8b909a")
        ax.set_xscale("log")
        ax.set_xlabel("area of the region (% of the image)")
        ax.set_ylabel("regions found (%)")
        ax.set_ylim(0, 100)
        plain_ticks(ax.xaxis)
        legend(whole, list(handles.values()), fitted(list(handles), whole.get_figwidth(), 2))
        return whole

    return draw
