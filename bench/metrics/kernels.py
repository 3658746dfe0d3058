"""Compiled loops of the pixel metrics; buckets.py and regions.py say what they are for.

Importing this module compiles the kernels, once for a machine: a few seconds, then they are read from a cache on disk.
Each has one explicit signature, so neither a read-only nor a strange array ever starts a second compilation. All
release the GIL and none uses numba's own threads: workers.py shares the work out, which is safe from several threads at
once and after a fork, and a serial kernel compiles several times faster than a parallel one.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar, cast

import numpy as np
import numpy.typing as npt
from numba import njit
from numba import types as numba_types
from numba.core import config

from bench.cache import cache_dir
from bench.metrics import compiled

Kernel = TypeVar("Kernel", bound=Callable[..., Any])

types: Any = numba_types  # partly typed
CELL_BITS = 16
"""At most so many low bits of a code are counted in one table: 65,536 counters stay in the second-level cache."""

_LEAST = np.int64(-(1 << 31))
_INFINITY = np.int64(0x7F800000)
"""Key of a float32 infinity; NaN lies beyond."""
_settings: Any = config


_FOLDER = cache_dir() / "kernels"
compiled.discard_damaged(_FOLDER)


def _kernel(signature: Any) -> Callable[[Kernel], Kernel]:
    """Compile for this signature; the cache lies in NUMBA_CACHE_DIR, else in bench's cache folder."""

    def kept(function: Kernel) -> Kernel:
        before = _settings.CACHE_DIR
        _settings.CACHE_DIR = before or str(_FOLDER)
        try:
            return cast(Kernel, njit(signature, cache=True, nogil=True)(function))
        except Exception:  # no folder can be written to, or it is full, or what lies there cannot be read
            return cast(Kernel, njit(signature, nogil=True)(function))
        finally:
            _settings.CACHE_DIR = before

    return kept


def _array(dtype: Any) -> Any:
    return types.Array(dtype, 1, "C")


def _given(dtype: Any) -> Any:
    return types.Array(dtype, 1, "C", readonly=True)  # a writable array is accepted for a read-only one


_bool, _int32, _int64, _uint64 = types.boolean, types.int32, types.int64, types.uint64
_bytes, _words = _given(types.uint8), _given(_uint64)
_codes = _given(types.uint32)
_cells = types.uint16


@_kernel(_int64(_bytes, _words, _int64, _int64, _int64, _int64, _array(_int64), _array(_int32)))
def label(
    marks: npt.NDArray[np.uint8],
    words: npt.NDArray[np.uint64],
    images: int,
    height: int,
    width: int,
    origin: int,
    where: npt.NDArray[np.int64],
    region: npt.NDArray[np.int32],
) -> int:
    """Find the marked pixels of some images and number their 8-connected regions; return how many there are.

    Runs of marked pixels are joined with the runs that they touch in the row above, in a union-find whose root is the
    first run: regions are numbered by their first pixel in C order.

    Args:
        marks: 0 or 1 [images * height * width].
        words: the same bytes, eight at a time; a rest of less than eight is left out.
        images: number of images.
        height: rows of an image.
        width: columns of an image.
        origin: added to the index of each pixel.
        where: gets the index of each marked pixel in C order, one entry each.
        region: gets its region, from 0.
    """
    most = (width + 1) // 2
    parent = np.empty(most * height, np.int32)
    begin, end = np.empty(most, np.int64), np.empty(most, np.int64)
    above_begin, above_end = np.empty(most, np.int64), np.empty(most, np.int64)
    found, regions = 0, 0
    for image in range(images):
        runs, above, above_first, first_pixel = 0, 0, 0, found
        for y in range(height):
            row = (image * height + y) * width
            stop = row + width
            here, here_first, nearest, i = 0, runs, 0, row
            while i < stop:
                if marks[i] == 0:
                    if i & 7 == 0 and i + 8 <= stop and words[i >> 3] == 0:
                        i += 8
                    else:
                        i += 1
                    continue
                start = i
                while i < stop and marks[i] != 0:
                    where[found] = origin + i
                    region[found] = runs
                    found += 1
                    i += 1
                left, right = start - row, i - row
                begin[here], end[here] = left, right
                parent[runs] = runs
                while nearest < above and above_end[nearest] < left:
                    nearest += 1
                touching = nearest
                while touching < above and above_begin[touching] <= right:
                    one, other = above_first + touching, runs
                    while parent[one] != one:
                        parent[one] = parent[parent[one]]
                        one = parent[one]
                    while parent[other] != other:
                        parent[other] = parent[parent[other]]
                        other = parent[other]
                    if one < other:
                        parent[other] = one
                    else:
                        parent[one] = other
                    touching += 1
                here += 1
                runs += 1
            begin, above_begin = above_begin, begin
            end, above_end = above_end, end
            above, above_first = here, here_first
        for run in range(runs):  # a parent comes before its child, so it is numbered already
            if parent[run] == run:
                parent[run] = regions
                regions += 1
            else:
                parent[run] = parent[parent[run]]
        for pixel in range(first_pixel, found):
            region[pixel] = parent[region[pixel]]
    return regions


@_kernel(types.Tuple((_array(types.uint32), _array(_int32)))(_given(_int32), _bool, _int64, _int64))
def sort(
    bits: npt.NDArray[np.int32], signed: bool, lowest: int, width: int
) -> tuple[npt.NDArray[np.uint32], npt.NDArray[np.int32]]:
    """Return the codes (key - lowest) in ascending order and the index that each had; ties keep their order.

    A radix sort by 13 bits at a time, as few as `width` (bits of the highest code, at most 32) needs. See buckets.py
    for keys and codes.
    """
    count = len(bits)
    code, other_code = np.empty(count, np.uint32), np.empty(count, np.uint32)
    index, other_index = np.empty(count, np.int32), np.empty(count, np.int32)
    for i in range(count):
        key = np.int64(bits[i])
        if signed and key < 0:
            key = _LEAST - key
        code[i] = np.uint32(key - lowest)
        index[i] = i
    passes = max(1, (width + 12) // 13)
    digit_bits = (width + passes - 1) // passes
    mask = np.uint32((1 << digit_bits) - 1)
    ends = np.empty((1 << digit_bits) + 1, np.int64)
    for number in range(passes):
        shift = np.uint32(number * digit_bits)
        ends[:] = 0
        for i in range(count):
            ends[np.uint64((code[i] >> shift) & mask) + np.uint64(1)] += 1
        for digit in range(1, len(ends)):
            ends[digit] += ends[digit - 1]
        for i in range(count):
            letter = np.uint64((code[i] >> shift) & mask)
            place = ends[letter]
            ends[letter] = place + 1
            other_code[place] = code[i]
            other_index[place] = index[i]
        code, other_code = other_code, code
        index, other_index = other_index, index
    return code, index


_scatter = _given(_int32), _bool, _int64, _int64, _uint64, _given(_int32), _array(_cells), _uint64
_scattered = _array(_uint64), _array(_int32), _array(_int64), _int64


@_kernel(types.Tuple((_int64, _int64, _bool))(*_scatter, *_scattered))
def scatter(
    bits: npt.NDArray[np.int32],
    signed: bool,
    lowest: int,
    span: int,
    cell_bits: int,
    slots: npt.NDArray[np.int32],
    pool: npt.NDArray[np.uint16],
    block_bits: int,
    cursors: npt.NDArray[np.uint64],
    owners: npt.NDArray[np.int32],
    skipped: npt.NDArray[np.int64],
    used: int,
) -> tuple[int, int, bool]:
    """Sort scores roughly: put the low bits of each code into a block of its bucket; see buckets.py.

    Args:
        bits: scores as integers.
        signed: whether they are the bits of floats, whose negative values run backwards.
        lowest: the lowest key that matters.
        span: the highest key that matters, less the lowest.
        cell_bits: number of low bits.
        slots: bucket -> its slot, or ~slot of the next slot below where no positive is in the bucket.
        pool: memory for all blocks.
        block_bits: a block has 2 ** block_bits entries.
        cursors: slot -> where its next entry goes; a multiple of the block's size where it has no open block.
        owners: block -> its slot.
        skipped: slot -> scores counted in empty buckets right above it.
        used: first free block.

    Returns:
        The first free block; the number of scores above all that matter; whether a NaN was met.
    """
    beyond, invalid = 0, False
    full = (np.uint64(1) << block_bits) - np.uint64(1)
    low = (np.uint64(1) << cell_bits) - np.uint64(1)
    width = np.uint64(span)
    for bit in bits:
        key = np.int64(bit)
        if signed and key < 0:
            key = _LEAST - key
        code = np.uint64(key - lowest)  # a lower key wraps round, beyond the width
        if code > width:
            # not by a branch: which of the two it is no processor could foresee
            beyond += int(key > lowest)
            invalid |= bool(signed & ((key > _INFINITY) | (key < -_INFINITY)))
            continue
        slot = slots[code >> cell_bits]
        if slot < 0:
            skipped[~slot] += 1
            continue
        cursor = cursors[slot]
        if cursor & full == np.uint64(0):
            cursor = np.uint64(used) << block_bits
            owners[used] = slot
            used += 1
        pool[cursor] = np.uint16(code & low)
        cursors[slot] = cursor + np.uint64(1)
    return used, beyond, invalid


_bounds = _given(_int64)
_resolve = _int64, _int64, _codes, _bounds, _uint64, _given(_cells), _uint64, _bounds, _bounds, _given(_int32), _bounds
_resolved = _bool, _array(_int64), _array(_int64), _array(_int64)


@_kernel(types.void(*_resolve, *_resolved))
def resolve(
    first: int,
    last: int,
    codes: npt.NDArray[np.uint32],
    bounds: npt.NDArray[np.int64],
    cell_bits: int,
    pool: npt.NDArray[np.uint16],
    block_bits: int,
    blocks: npt.NDArray[np.int64],
    starts: npt.NDArray[np.int64],
    filled: npt.NDArray[np.int32],
    higher: npt.NDArray[np.int64],
    again: bool,
    above: npt.NDArray[np.int64],
    at_least: npt.NDArray[np.int64],
    hits: npt.NDArray[np.int64],
) -> None:
    """Count for each positive of the slots `first` to `last` - 1 how many scores are higher and as high.

    The scattered scores hold the positives too; those are taken off.

    Args:
        first: first slot.
        last: slot after the last.
        codes: ascending codes of all positives.
        bounds: slot -> its first positive; one more entry.
        cell_bits: as in `scatter`.
        pool: as `scatter` filled it.
        block_bits: as in `scatter`.
        blocks: all blocks, by slot.
        starts: slot -> its first place in `blocks`; one more entry.
        filled: block -> number of its entries.
        higher: slot -> scores in higher slots and buckets.
        again: whether scores were counted before, to which these are added.
        above: positive -> gets the negatives that score higher.
        at_least: positive -> gets the negatives that score at least as high.
        hits: positive -> gets the positives that score at least as high.
    """
    size = np.int64(1) << np.int64(cell_bits)
    low = np.uint32(size - 1)
    few = size // 16
    cells = np.empty(size, np.uint32)
    passing, reaching = np.empty(few + 1, np.uint32), np.empty(few + 1, np.uint32)
    total = len(codes)
    for slot in range(first, last):
        begin, end = bounds[slot], bounds[slot + 1]
        entries = 0
        for place in range(starts[slot], starts[slot + 1]):
            entries += filled[blocks[place]]
        sparse = entries < few and end - begin < few
        if sparse:  # emptying and walking all cells would cost more than looking each entry up
            passing[: end - begin + 1] = 0
            reaching[: end - begin + 1] = 0
        else:
            cells[:] = 0
        for place in range(starts[slot], starts[slot + 1]):
            head = np.uint64(blocks[place]) << block_bits
            tail = head + np.uint64(filled[blocks[place]])
            if not sparse:
                for entry in range(head, tail):
                    cells[np.uint64(pool[entry])] += np.uint32(1)
                continue
            for entry in range(head, tail):
                code = np.uint32(pool[entry])
                for counts, ties in ((passing, 0), (reaching, 1)):
                    under, over = begin, end
                    while under < over:
                        middle = (under + over) >> 1
                        if np.int64(codes[middle] & low) < np.int64(code) + ties:
                            under = middle + 1
                        else:
                            over = middle
                    counts[under - begin] += np.uint32(1)
        running, next_cell = higher[slot], size
        with_ties = running
        while end > begin:
            code = codes[end - 1]
            start = end - 1
            while start > begin and codes[start - 1] == code:
                start -= 1
            if sparse:
                for positive in range(start, end):
                    running += np.int64(passing[positive + 1 - begin])
                    with_ties += np.int64(reaching[positive + 1 - begin])
            else:
                cell = np.int64(code & low)
                while next_cell > cell + 1:
                    next_cell -= 1
                    running += np.int64(cells[next_cell])
                next_cell = cell
                with_ties = running + np.int64(cells[cell])
            for positive in range(start, end):
                if again:
                    above[positive] += running
                    at_least[positive] += with_ties
                else:
                    above[positive] = running - (total - end)
                    at_least[positive] = with_ties - (total - start)
                    hits[positive] = total - start
            if not sparse:
                running = with_ties
            end = start


compiled.vouch(_FOLDER)
