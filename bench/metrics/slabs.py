"""Slabs: ranges of scores that hold at most so many, found by counting and not by sorting.

A score's key is an unsigned integer of the same order. Keys are counted by their first 16 bits that differ; a count
that is too high is looked at by the next 16, until one key is left, which may come any number of times.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from bench.metrics.workers import each, spans, thread_count

Array = npt.NDArray[Any]

MOST_SLABS = 50
"""However many scores there are, not many times more slabs than this; they grow instead."""
_DIGIT = 16
"""Bits of a key by which scores are counted."""
_STEP = 1 << 18
"""Scores that a thread looks at together."""


@dataclass(frozen=True, slots=True)
class Slab:
    """Scores between two."""

    single: bool
    """Whether all are one score; only then may there be too many."""
    count: int
    higher: int
    """Scores in the slabs above."""


def part_by_score(scores: Array, limit: int) -> tuple[Array, list[Slab]]:
    """Part scores into slabs of at most `limit`, or of one score each.

    Args:
        scores: 32 or 64 bits wide, without NaN, [M], M >= 1.
        limit: scores in a slab; more where there would be very many slabs.

    Returns:
        The slab of each, [M], and the slabs by ascending score.
    """
    limit = max(limit, len(scores) // MOST_SLABS)
    base, width = span(scores)
    groups = _grouped(scores, limit, base, width)
    counts = [count for _, count, _ in groups]
    higher = (len(scores) - np.cumsum(counts)).tolist()
    slabs = [Slab(single, count, up) for (_, count, single), up in zip(groups, higher, strict=True)]
    # most keys are told by their first digit alone, in a table
    starts = np.array([start - base for start, _, _ in groups], dtype=np.uint64)
    shift = max(0, width - _DIGIT)
    heads = np.arange(1 << _DIGIT, dtype=np.uint64) << np.uint64(shift)
    lowest = np.searchsorted(starts, heads, side="right") - 1
    mixed = lowest != np.searchsorted(starts, heads + np.uint64((1 << shift) - 1), side="right") - 1
    slab_of = np.empty(len(scores), dtype=np.min_scalar_type(len(slabs)))
    table = lowest.astype(slab_of.dtype)

    def fill(part: slice) -> None:
        keys = _keys(scores[part], base)
        head = keys >> keys.dtype.type(shift)
        slab_of[part] = table[head]
        if (unclear := np.flatnonzero(mixed[head])).size:
            slab_of[part][unclear] = np.searchsorted(starts, keys[unclear], side="right") - 1

    each(fill, spans(len(scores), _STEP))
    return slab_of, slabs


def span(scores: Array) -> tuple[int, int]:
    """Return the lowest key, and in how many bits keys differ."""
    base, last = _keys(np.array([scores.min(), scores.max()])).tolist()
    return base, (last - base).bit_length()


def _grouped(scores: Array, limit: int, base: int, width: int) -> list[tuple[int, int, bool]]:
    """Return (lowest key, number of scores, whether these are one key) of groups of at most `limit`, or of one key.

    Args:
        scores: all.
        limit: scores in a group.
        base: keys lower than this are left out.
        width: and those that are higher by this many bits or more.
    """
    shift = max(0, width - _DIGIT)

    def counted(part: slice) -> npt.NDArray[np.int64]:
        # lower keys come out at the top, beyond the width
        keys = _keys(scores[part], base)
        digits = keys[keys <= (1 << width) - 1] >> keys.dtype.type(shift)
        return np.bincount(digits.astype(np.int64), minlength=1 << _DIGIT)

    # a few at a time, since each gives half a megabyte
    counts = np.zeros(1 << _DIGIT, dtype=np.int64)
    parts = spans(len(scores), _STEP)
    for some in spans(len(parts), thread_count()):
        counts += np.sum(each(counted, parts[some]), axis=0)
    groups: list[tuple[int, int, bool]] = []
    open_group = False
    for digit in np.flatnonzero(counts).tolist():
        start, count = base + (digit << shift), int(counts[digit])
        if count > limit:
            groups += _grouped(scores, limit, start, shift) if shift else [(start, count, True)]
            open_group = False
        elif open_group and groups[-1][1] + count <= limit:
            groups[-1] = (groups[-1][0], groups[-1][1] + count, False)
        else:
            groups.append((start, count, False))
            open_group = True
    return groups


def _keys(scores: Array, base: int = 0) -> Array:
    """Return unsigned integers in the scores' order, less `base`; -0.0 is like +0.0."""
    words = np.dtype(f"u{scores.itemsize}")
    sign = words.type(1 << (8 * scores.itemsize - 1))
    if scores.dtype.kind == "u":
        keys = scores
    elif scores.dtype.kind == "i":
        keys = scores.view(words) ^ sign
    else:
        bits = (scores + scores.dtype.type(0)).view(words)
        keys = np.where(bits & sign, ~bits, bits | sign)
    shifted: Array = keys - words.type(base)
    return shifted
