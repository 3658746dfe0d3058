"""ROC, precision-recall and overlap curves, a small panel a class, a line a method."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np

from bench.metrics import Curve, Undefined, find_regions, pr_curve, pro_curve, rank, roc_curve
from bench.report.figures import panels
from bench.report.figures.drawing import Figure, line_style
from bench.report.figures.panels import FEW, Panel
from bench.report.figures.series import FigureSeries, best_first
from bench.stats import Images
from bench.store.evidence import EvidenceFiles, Lacking

if TYPE_CHECKING:
    from matplotlib.figure import Figure as Canvas

POINTS = 64
"""Of a curve; its area stays that of the full one."""
MAX_METHODS = 6
"""Methods in one panel; more cannot be told apart."""
LIMIT = 0.3
"""False-positive rate up to which overlap curves go."""

Curves = Mapping[str, Mapping[str, Curve]]
"""Label -> class -> curve."""


def roc(chosen: Sequence[FigureSeries], dataset: str, evidence: EvidenceFiles) -> Figure:
    """Return ROC curves of the image scores."""
    return _by_image(chosen, dataset, evidence, "roc", "ROC, image level", _image_roc)


def precision_recall(chosen: Sequence[FigureSeries], dataset: str, evidence: EvidenceFiles) -> Figure:
    """Return precision-recall curves of the image scores."""
    return _by_image(chosen, dataset, evidence, "pr", "Precision and recall, image level", _image_pr)


def overlap(chosen: Sequence[FigureSeries], dataset: str, evidence: EvidenceFiles) -> Figure:
    """Return curves of the mean region overlap against the pixels' false-positive rate, up to 0.3."""
    name, title = f"pro-{dataset}", "Region overlap (PRO)"
    found: dict[str, dict[str, Curve]] = {}
    reasons: dict[str, None] = {}
    shown = best_first(chosen, dataset, "pixel/aupro@0.3")
    for one in shown:
        if len(found) == MAX_METHODS:
            break
        try:
            curves = {cls: _pro(one, dataset, cls, evidence) for cls in one.entry(dataset).classes}
        except Lacking as lacking:
            reasons[str(lacking)] = None
            continue
        found[one.label] = {cls: curve for cls, curve in curves.items() if curve is not None}
    if not any(found.values()):
        return Figure(name, title, absent="; ".join(reasons) or "no class has masks", dataset=dataset)
    caption = "Mean share of each defect region that is found, against the share of normal pixels that are reported."
    caption, wide = f"{caption} {_left_out(shown, found)}".strip(), _panels(found) > FEW
    return Figure(name, title, caption, _drawing(found, shown, "pro"), "", dataset, wide)


def _by_image(
    chosen: Sequence[FigureSeries],
    dataset: str,
    evidence: EvidenceFiles,
    kind: str,
    title: str,
    curve: Callable[[Images], Curve | None],
) -> Figure:
    name = f"{kind}-{dataset}"
    found: dict[str, dict[str, Curve]] = {}
    reasons: dict[str, None] = {}
    shown = best_first(chosen, dataset, "image/auroc" if kind == "roc" else "image/ap")
    for one in shown:
        if len(found) == MAX_METHODS:
            break
        try:
            curves = {cls: curve(images) for cls, images in one.images(dataset, evidence).items()}
        except Lacking as lacking:
            reasons[str(lacking)] = None
            continue
        found[one.label] = {cls: drawn for cls, drawn in curves.items() if drawn is not None}
    if not any(found.values()):
        why = "; ".join(reasons) or "no class has both normal and anomalous images"
        return Figure(name, title, absent=why, dataset=dataset)
    wide = _panels(found) > FEW
    return Figure(name, title, _left_out(shown, found), _drawing(found, shown, kind), "", dataset, wide)


def _panels(found: Curves) -> int:
    return len({cls for curves in found.values() for cls in curves})


def _left_out(shown: Sequence[FigureSeries], found: Curves) -> str:
    seeds = max(len(entry.rows) for one in shown for entry in one.line.entries.values())
    several = "The first seed of each. " if seeds > 1 else ""
    if len(found) < len(shown):
        return f"{several}{len(found)} of {len(shown)} configurations are drawn: the best of those with stored scores."
    return several.strip()


def _image_roc(images: Images) -> Curve | None:
    try:
        return roc_curve(rank(images.scores, images.labels, "image"), POINTS)
    except Undefined:
        return None


def _image_pr(images: Images) -> Curve | None:
    try:
        return pr_curve(rank(images.scores, images.labels, "image"), POINTS)
    except Undefined:
        return None


def _pro(one: FigureSeries, dataset: str, cls: str, evidence: EvidenceFiles) -> Curve | None:
    record = one.record_of(dataset, cls)
    if record.scores[cls].values.get("pixel/auroc") is None:
        return None
    maps, masks = evidence.maps(record, cls), evidence.masks(record, cls)
    if maps.shape != masks.shape:
        raise Lacking(f"the kept maps of {cls} are {maps.shape}, its masks {masks.shape}")
    try:
        ranks = rank(np.asarray(maps).ravel(), masks.ravel(), "pixel")
        return pro_curve(ranks, find_regions(masks), LIMIT, POINTS)
    except Undefined:
        return None


def _drawing(found: Curves, shown: Sequence[FigureSeries], kind: str) -> Callable[[], Canvas]:
    axis = {"roc": ("false-positive rate", "true-positive rate"), "pr": ("recall", "precision")}
    names = axis.get(kind, ("false-positive rate", "region overlap"))
    places = {one.label: one.place for one in shown}

    def draw() -> Canvas:
        pictures = [
            Panel(
                title=cls,
                x=(0, LIMIT if kind == "pro" else 1),
                y=(0, 1),
                x_ticks=(0, 0.1, 0.2, 0.3) if kind == "pro" else (0, 0.5, 1),
                y_ticks=(0, 0.5, 1),
                lines={label: (curves[cls].x, curves[cls].y) for label, curves in found.items() if cls in curves},
                diagonal=kind == "roc",
            )
            for cls in dict.fromkeys(cls for curves in found.values() for cls in curves)
        ]
        styles = {label: line_style(places[label]) for label, curves in found.items() if curves}
        return panels.draw(pictures, styles, 1.35, *names)

    return draw
