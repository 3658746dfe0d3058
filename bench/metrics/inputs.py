"""What the metrics accept: everything that would silently give a wrong number is refused here, once."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from bench.errors import ScoreError, UsageError

Array = npt.NDArray[Any]
Bools = npt.NDArray[np.bool_]


@dataclass(frozen=True, slots=True)
class ClassInputs:
    """One class's checked inputs; all arrays agree on the number of images N."""

    maps: Array | None
    """Float of up to 64 bits or integer [N, H, W], native byte order; NaN is left to find, see `refuse_nan`."""
    masks: Bools | None
    """bool [N, H, W]."""
    image_scores: Array | None
    """Float of up to 64 bits or integer [N], native byte order, without NaN."""
    labels: Bools | None
    """bool [N], True = anomalous."""


def check(
    maps: npt.ArrayLike | None,
    masks: npt.ArrayLike | None,
    image_scores: npt.ArrayLike | None,
    labels: npt.ArrayLike | None,
    *,
    before: int = 0,
) -> ClassInputs:
    """Return the inputs of `evaluate_class` as arrays that can be ranked without further thought.

    Nothing is ever narrowed, and nothing copied that need not be. Labels default to "the mask has an anomalous pixel".

    Args:
        maps: as in `evaluate_class`, and so for the rest.
        masks: [N, H, W].
        image_scores: [N].
        labels: [N].
        before: images of the class that came before these, for messages.

    Raises:
        UsageError: a dtype, shape or value that cannot be what the caller meant.
        ScoreError: an image score is NaN. Maps are not searched: the pass that ranks them meets every NaN anyway.
    """
    map_array = None if maps is None else _scores("maps", maps, 3, "[N, H, W]")
    score_array = None if image_scores is None else _scores("image_scores", image_scores, 1, "[N]")
    mask_array = None if masks is None else _binary("masks", masks, 3, "[N, H, W]")
    label_array = None if labels is None else _binary("labels", labels, 1, "[N]")
    if map_array is None and score_array is None:
        raise UsageError("found neither maps nor image_scores, expected at least one of them: nothing to evaluate")
    if map_array is not None and mask_array is not None and map_array.shape != mask_array.shape:
        raise UsageError(
            f"maps are {list(map_array.shape)} but masks are {list(mask_array.shape)}, expected one shape [N, H, W]: "
            "resize both to the protocol's eval_size first"
        )
    if label_array is None and mask_array is not None:
        label_array = np.fromiter((mask.any() for mask in mask_array), dtype=np.bool_, count=len(mask_array))
    if score_array is not None and label_array is None:
        raise UsageError("found image_scores but neither labels nor masks, expected labels: 0 or 1 for each image")
    named = {"maps": map_array, "masks": mask_array, "image_scores": score_array, "labels": label_array}
    lengths = {name: len(array) for name, array in named.items() if array is not None}
    if len(set(lengths.values())) > 1:
        found = ", ".join(f"{count} {name}" for name, count in lengths.items())
        raise UsageError(f"found {found}, expected one of each for every image of the class")
    refuse_nan("the image score", score_array, before)
    return ClassInputs(map_array, mask_array, score_array, label_array)


def _array(name: str, given: npt.ArrayLike, ndim: int, shape: str) -> Array:
    try:
        array = np.asarray(given)
    except (TypeError, ValueError, RuntimeError) as error:
        raise UsageError(
            f"{name} cannot be read as one array ({error}), expected {shape}; a tensor must be detached and on the CPU"
        ) from error
    if array.ndim != ndim:
        raise UsageError(f"{name} are {list(array.shape)}, expected {shape}")
    if 0 in array.shape[1:]:
        raise UsageError(f"{name} are {list(array.shape)}: images without pixels, expected {shape} with H, W >= 1")
    # swapped bytes would be compared one call at a time, and not be recognised as float16
    return array.astype(array.dtype.newbyteorder("="), copy=False)


def _scores(name: str, given: npt.ArrayLike, ndim: int, shape: str) -> Array:
    array = _array(name, given, ndim, shape)
    if array.dtype.kind not in "fiu" or array.dtype.itemsize > 8:
        # bool is refused too: it is far more often masks passed as maps than a detector that says yes or no
        raise UsageError(
            f"{name} have dtype {array.dtype}, expected float16, float32, float64 or an integer type; "
            "cast yes/no scores with .astype('uint8')"
        )
    return array


def _binary(name: str, given: npt.ArrayLike, ndim: int, shape: str) -> Bools:
    array = _array(name, given, ndim, shape)
    if array.size == 0:
        return np.zeros(array.shape, dtype=np.bool_)
    if array.dtype.kind not in "biu":
        raise UsageError(f"{name} have dtype {array.dtype}, expected bool or integer 0/1; threshold them first")
    # bytes that are 0 or 1 already are what a bool is made of
    whole = array.view(np.uint8) if array.dtype.itemsize == 1 and array.flags.c_contiguous else array
    if array.dtype.kind != "b" and (whole.max() > 1 or whole.min() < 0):
        raise UsageError(
            f"{name} hold values from {array.min()} to {array.max()}, expected only 0 (normal) and 1 (anomalous); "
            f"for 0/255 pass {name} > 0"
        )
    return whole.view(np.bool_) if whole.dtype == np.uint8 else array.astype(np.bool_, copy=False)


def refuse_nan(what: str, scores: Array | None, before: int = 0) -> None:
    """Raise ScoreError if `scores` ([N] or [N, H, W], or None) hold NaN, naming the first image that does.

    Args:
        what: what a score is, for the message.
        scores: any real dtype.
        before: images of the class that came before these.
    """
    if scores is None or scores.dtype.kind != "f" or scores.size == 0:
        return
    with np.errstate(invalid="ignore"):
        # a maximum is NaN as soon as one value is
        peaks = np.array([part.max() for part in scores])
    bad = np.flatnonzero(np.isnan(peaks)) + before
    if bad.size:
        raise ScoreError(
            f"{what} of image {bad[0]} holds NaN ({bad.size} of {before + len(scores)} images do), expected numbers "
            "only: check the training loss, and reduced precision, of the model that made it",
            image=int(bad[0]),
        )
