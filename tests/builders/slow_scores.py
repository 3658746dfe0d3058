"""Scores by the slow definitions, metric by metric: what the engine's are compared with."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from bench.metrics import Defect, Whole, parse
from bench.metrics.objects import grouped


def slow_scores(
    maps: npt.NDArray[Any],
    masks: npt.NDArray[np.bool_],
    image_scores: npt.NDArray[Any],
    labels: npt.NDArray[np.bool_],
    metrics: Iterable[str],
    *,
    objects: Sequence[str] | None = None,
    defects: Sequence[Defect] | None = None,
) -> dict[str, float | None]:
    """What every metric's oracle says of one class."""
    of_objects, are_bad = grouped(image_scores, labels, objects or [str(place) for place in range(len(labels))])
    assert of_objects is not None and are_bad is not None
    data = {
        "image": Whole(image_scores, labels, labels),
        "sample": Whole(of_objects, are_bad, are_bad),
        "pixel": Whole(maps, masks, labels, defects),
    }
    return {str(metric): metric.oracle(data[metric.level]) for metric in map(parse, metrics)}
