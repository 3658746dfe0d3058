"""Training curves: the loss of each configuration on one dataset."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from bench.report.figures.drawing import Figure, canvas, fitted, legend, line_style, plain_ticks
from bench.report.figures.series import FigureSeries

if TYPE_CHECKING:
    from matplotlib.figure import Figure as Canvas


MAX_CONFIGURATIONS = 8
"""Configurations in one figure; more cannot be told apart."""


def training(chosen: Sequence[FigureSeries], dataset: str) -> Figure:
    """Return the mean loss since the previous point, from the records; a thin line a seed and part."""
    name, title = f"training-{dataset}", "Training loss"
    curves: list[tuple[FigureSeries, list[tuple[tuple[int, float], ...]]]] = []
    for one in chosen:
        if len(curves) == MAX_CONFIGURATIONS:
            break
        trained = [record.training for record in one.entry(dataset).records if record.training is not None]
        if found := [training.loss_curve for training in trained if len(training.loss_curve) > 1]:
            curves.append((one, found))
    if not curves:
        return Figure(name, title, absent="no method here trains by steps", dataset=dataset)

    def draw() -> Canvas:
        whole = canvas(6.4, 3.3)
        ax = whole.subplots()
        handles = {}
        positive = all(loss > 0 for _, found in curves for curve in found for _, loss in curve)
        for one, found in curves:
            for curve in found:
                steps, losses = zip(*curve, strict=True)
                style = {**line_style(one.place), "linewidth": 1.5 if len(found) == 1 else 0.9}
                (handles[one.label],) = ax.plot(steps, losses, **style)
        if positive:
            ax.set_yscale("log")
            plain_ticks(ax.yaxis)
        ax.set_xlabel("iteration")
        ax.set_ylabel("loss")
        ax.set_xlim(0, None)
        legend(whole, list(handles.values()), fitted(list(handles), whole.get_figwidth(), 2))
        return whole

    caption = "Losses of different methods measure different things and do not compare; their shapes do. A line a seed."
    return Figure(name, title, caption, draw, "", dataset)
