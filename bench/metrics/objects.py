"""Objects shown by several images: scored by the highest of their images' scores, anomalous if one of these is."""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from bench.errors import UsageError

Array = npt.NDArray[Any]
Bools = npt.NDArray[np.bool_]


def grouped(
    scores: Array | None, labels: Bools | None, objects: Sequence[Hashable] | None
) -> tuple[Array | None, Bools | None]:
    """Return score and label of each object, [O] in order of first appearance; None where something is not known.

    Args:
        scores: of the images, [N], any real dtype without NaN.
        labels: bool [N].
        objects: which one each image shows, [N].

    Raises:
        UsageError: `objects` are not one an image.
    """
    if scores is None or labels is None or objects is None:
        return None, None
    if len(objects) != len(scores):
        raise UsageError(f"found {len(objects)} objects and {len(scores)} image_scores, expected one for every image")
    places = {name: place for place, name in enumerate(dict.fromkeys(objects))}
    index = np.array([places[name] for name in objects], dtype=np.int64)
    order = np.argsort(index, kind="stable")
    starts = np.flatnonzero(np.diff(index[order], prepend=-1))
    if len(starts) == 0:
        return scores, labels
    return np.maximum.reduceat(scores[order], starts), np.logical_or.reduceat(labels[order], starts)
