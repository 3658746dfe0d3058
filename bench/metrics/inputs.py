"""Input checks of the metrics: what would silently give a wrong number is refused here, once."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from bench.errors import ScoreError, UsageError
from bench.metrics.workers import each

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
    marks: Mapping[str, float]
    """`masks` and `labels` -> the number that stood for anomalous in them; 0 where nothing was."""


def check(
    maps: npt.ArrayLike | None,
    masks: npt.ArrayLike | None,
    image_scores: npt.ArrayLike | None,
    labels: npt.ArrayLike | None,
    *,
    before: int = 0,
) -> ClassInputs:
    """Return the inputs of `evaluate_class` as arrays that can be ranked without further thought.

    Nothing is ever narrowed, and nothing copied that need not be: of the masks and labels, what is neither bool nor
    bytes of 0 and 1. Labels default to "the mask has an anomalous pixel".

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
    map_array = None if maps is None else numbers("maps", maps, 3, "[N, H, W]")
    score_array = None if image_scores is None else numbers("image_scores", image_scores, 1, "[N]")
    mask_array, mask_mark = (None, 0.0) if masks is None else binary("masks", masks, 3, "[N, H, W]")
    label_array, label_mark = (None, 0.0) if labels is None else binary("labels", labels, 1, "[N]")
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
    marks = {"masks": mask_mark, "labels": label_mark}
    return ClassInputs(map_array, mask_array, score_array, label_array, marks)


def numbers(name: str, given: npt.ArrayLike, ndim: int, shape: str) -> Array:
    """Return scores that can be ranked: float of up to 64 bits or integer, native byte order; yes and no as 1 and 0.

    Args:
        name: what messages call them.
        given: any real dtype.
        ndim: how many dimensions there must be.
        shape: the same in words.

    Raises:
        UsageError: another dtype or shape, or values that are masked out.
    """
    array = _array(name, given, ndim, shape)
    if array.dtype.kind == "b":
        # a comparison, since the bytes of a bool array made elsewhere need not be 0 and 1
        return np.not_equal(array.view(np.uint8), 0).view(np.uint8)
    if array.dtype.kind not in "fiu" or array.dtype.itemsize > 8:
        raise UsageError(
            f"{name} have dtype {array.dtype}, expected float16, float32, float64, an integer type or bool"
        )
    return array


def binary(name: str, given: npt.ArrayLike, ndim: int, shape: str) -> tuple[Bools, float]:
    """Return what is anomalous, bool, and the number that stood for it: 1, 255 or 65535, or 0 where nothing is.

    Two values can mean one thing only where one is 0 and the other 1 or the highest of 8 or 16 bits, whatever dtype
    holds them. All else (class numbers, soft edges, -1) is refused.

    Args:
        name: what messages call them.
        given: bool, integer or float.
        ndim: how many dimensions there must be.
        shape: the same in words.

    Raises:
        UsageError: another dtype, shape or value, or values that are masked out.
    """
    array = _array(name, given, ndim, shape)
    if array.size == 0:
        return np.zeros(array.shape, dtype=np.bool_), 0.0
    if array.dtype.kind not in "biuf":
        raise UsageError(f"{name} have dtype {array.dtype}, expected bool, or 0 and 1 (or 255) of any real dtype")
    if array.dtype.kind == "b":
        return array, float(array.any())
    mark = float(array.max())
    # piece by piece, since a comparison takes a byte a value
    pieces = array if array.ndim > 1 else array[None]
    strange = (piece for piece in pieces if mark not in _MARKS or not ((piece == 0) | (piece == mark)).all())
    if not (array.dtype.kind in "iu" and mark <= 1 and array.min() >= 0) and (found := _first(strange)) is not None:
        values = _shown(np.append(found, [array.min(), array.max()]))
        raise UsageError(
            f"{name} hold {values}, expected 0 (normal) and one other value, 1 or 255 (anomalous); threshold "
            f"soft {name}, and choose which class numbers count as anomalous"
        )
    # bytes that are 0 and 1 are what a bool is made of
    return array.view(np.bool_) if array.dtype.itemsize == 1 and mark <= 1 else array != 0, mark


_WHOLE = 2**53
"""Up to here float64 holds every whole number."""
_MARKS = (0.0, 1.0, 255.0, 65535.0)
_MOST_SHOWN = 4


def _first(arrays: Iterator[Array]) -> Array | None:
    """Return the first of `arrays` that is not all zero, else the first; None if there are none."""
    first = next(arrays, None)
    return next((array for array in arrays if array.any()), first) if first is not None and not first.any() else first


def _shown(found: Array) -> str:
    values = np.unique(found)
    more = len(values) - _MOST_SHOWN
    *others, last = [f"{value:g}" for value in values[:_MOST_SHOWN].tolist()]
    if more > 0:
        return f"{', '.join([*others, last])} and {more} more values up to {values[-1]:g}"
    return f"{', '.join(others)} and {last}" if others else f"only {last}"


def _array(name: str, given: npt.ArrayLike, ndim: int, shape: str) -> Array:
    refuse_masked(name, given)
    try:
        array = np.asarray(_readable(given))
    except (TypeError, ValueError, RuntimeError) as error:
        raise UsageError(
            f"{name} cannot be read as one array ({error}), expected {shape}; a tensor must be detached and on the CPU"
        ) from error
    _refuse_merged(name, given, array)
    if array.ndim != ndim:
        raise UsageError(f"{name} are {list(array.shape)}, expected {shape}")
    if 0 in array.shape[1:]:
        raise UsageError(f"{name} are {list(array.shape)}: images without pixels, expected {shape} with H, W >= 1")
    # swapped bytes would be compared one call at a time, and not be recognised as float16
    return array.astype(array.dtype.newbyteorder("="), copy=False)


def _refuse_merged(name: str, given: object, array: Array) -> None:
    """Refuse whole numbers of a list that NumPy, finding several types in it, turned into equal floats."""
    if not isinstance(given, list | tuple) or array.dtype.kind != "f" or not (np.abs(array) >= _WHOLE).any():
        return
    for part in given:
        one = np.asarray(_readable(part))
        if one.dtype.kind in "iu" and one.size and (int(one.min()) < -_WHOLE or int(one.max()) > _WHOLE):
            raise UsageError(
                f"{name} are a list of several types with whole numbers beyond 2^53, of which float64 makes some "
                "equal, expected an array of one type"
            )
        _refuse_merged(name, part, one)


def refuse_masked(name: str, given: object) -> None:
    """Raise UsageError if an array (or tensor) with a mask of its own hides a value: nobody said what it is worth."""
    if hidden := _hidden(given):
        raise UsageError(
            f"{name} are a masked array that hides {hidden:,} of its values, expected a score or truth for each; give "
            f"them a value with .filled(...), or leave whole images out"
        )


def _hidden(given: object) -> int:
    if isinstance(given, np.ma.MaskedArray):
        return int(np.count_nonzero(np.ma.getmaskarray(given)))
    if hasattr(given, "get_mask"):  # torch's MaskedTensor
        return int((~given.get_mask()).sum())
    return sum(map(_hidden, given)) if isinstance(given, list | tuple) else 0


def _readable(given: Any) -> Any:
    """Return a tensor of floats that NumPy does not have (bfloat16, 8 bits) as float32, which holds them exactly."""
    torch = sys.modules.get("torch")
    if torch is None or not isinstance(given, torch.Tensor) or not given.is_floating_point():
        return given
    return given if given.dtype in (torch.float16, torch.float32, torch.float64) else given.float()


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
        peaks = scores if scores.ndim == 1 else np.array(each(lambda image: scores[image].max(), range(len(scores))))
    bad = np.flatnonzero(np.isnan(peaks)) + before
    if bad.size:
        raise ScoreError(
            f"{what} of image {bad[0]} holds NaN ({bad.size} of {before + len(scores)} images do), expected numbers "
            "only: check the training loss, and reduced precision, of the model that made it",
            image=int(bad[0]),
        )
