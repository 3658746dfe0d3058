"""Ranking by counting: millions of pixels without sorting them.

A score's bits, read as an integer, order like the score once the negative floats are turned round: its key. Less the
lowest key of a positive it is its code, and scores whose code is outside of the positives' range matter only as a
number. The rest are treated like letters in two steps. The high bits of the code name a bucket, and the low 16 are
put into that bucket's blocks of memory; then each bucket counts its entries in 65,536 cells that fit the processor's
cache, and reads off at its positives how many lie higher. Both steps are exact for every score: nothing is rounded, no
range is assumed, and one pass over the maps takes two bytes a pixel, which are used again after ROUND pixels.

All pixels are counted, the positives too, as that needs no look at the masks; positives are then taken off.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from bench.metrics.pieces import Narrowed, Pieces, narrow
from bench.metrics.ranks import NanScore, Ranks, Unit
from bench.metrics.workers import each, spans, thread_count

Array = npt.NDArray[Any]

_INT64 = np.iinfo(np.int64)

ROUND = 1 << 26
"""Most scores that are scattered before they are counted: bounds the memory, 150 MB here."""

_WORTH = 1 << 20
"""Fewer scores than this are sorted sooner than the kernels are loaded."""

_SMALL = 1 << 23
"""Fewer scores than this are counted in one round; their memory is some 20 MB."""

_BLOCK_BITS = range(3, 13)
_WIDEST = (1 << 31) - 3
"""Most that the keys of 64-bit positives may differ by to be counted: with what lies beside, they fit 32 bits."""
_GROUPS = 8  # shares of the counting for each thread, so that none waits long for another


def rank_by_counting(chosen: Array, pieces: Pieces, unit: Unit) -> Ranks | None:
    """Return what `ranking.rank_pieces` returns, or None where sorting is the better way.

    That is with few scores, and with positives too far apart for 32 bits: float64 that float32 cannot hold, and 64-bit
    integers of vast range.

    Args:
        chosen: scores of the positives [P], any real dtype.
        pieces: all scores, those of the positives too, in the same dtype.
        unit: what a score belongs to.

    Raises:
        NanScore: a score is NaN.
    """
    if len(chosen) == 0 or sum(pieces.sizes) < _WORTH or len(chosen) > np.iinfo(np.int32).max:
        return None
    ends = np.array([chosen.min(), chosen.max()])
    if chosen.dtype.kind == "f" and np.isnan(ends[0]):  # a minimum is NaN as soon as one value is
        raise NanScore
    low = high = 0
    if chosen.dtype.itemsize == 8:
        low, high = _wide_keys(ends).tolist()
        if high - low > _WIDEST:
            if chosen.dtype == np.float64 and fits_float32(pieces):
                return rank_by_counting(narrow(chosen), Narrowed(pieces), unit)
            return None
    return _Counting(_Bits(chosen.dtype, low, high), chosen, ends, pieces).ranks(unit)


class _Bits:
    """From scores to 32-bit integers that order alike among the positives' scores."""

    def __init__(self, dtype: np.dtype[Any], low: int, high: int) -> None:
        """Take the dtype of the scores, and the wide keys of the lowest and highest positive if that has 64 bits."""
        self.signed = dtype.kind == "f" and dtype.itemsize < 8
        """Whether the integers are a float32's bits: sign and magnitude, so that negative ones run backwards."""
        self._low, self._high = low, high

    def of(self, scores: Array) -> npt.NDArray[np.int32]:
        """Return the integers, [size], of scores, [size].

        Raises:
            NanScore: a float64 is NaN; NaN of narrower floats is left to the kernels.
        """
        if scores.dtype.itemsize == 8:
            # what is outside of the positives' range goes right beside it
            below, above = max(self._low - 1, _INT64.min), min(self._high + 1, _INT64.max)
            return (np.clip(_wide_keys(scores), below, above) - self._low).astype(np.int32)
        if scores.dtype.kind == "f":
            return scores.astype(np.float32, copy=False).view(np.int32)
        if scores.dtype == np.uint32:
            return (scores ^ np.uint32(1 << 31)).view(np.int32)
        return scores.astype(np.int32, copy=False)

    def key(self, score: Array) -> int:
        """Return the key of one score, [1]."""
        bits = int(self.of(score)[0])
        return -(1 << 31) - bits if self.signed and bits < 0 else bits


def _wide_keys(scores: Array) -> npt.NDArray[np.int64]:
    if scores.dtype == np.uint64:
        return (scores ^ np.uint64(1 << 63)).view(np.int64)
    if scores.dtype.kind != "f":
        return scores
    if len(scores) and np.isnan(scores.max()):
        raise NanScore
    bits = scores.view(np.int64)
    return np.where(bits < 0, _INT64.min - bits, bits)


def fits_float32(pieces: Pieces) -> bool:
    """Return whether float32 holds every one of float64 scores."""

    def fits(number: int) -> bool:
        scores = pieces.read(number)
        return bool((narrow(scores) == scores).all())

    # the first piece settles it nearly always
    return fits(0) and all(each(fits, range(1, len(pieces.sizes))))


class _Counting:
    """The ranking of one class: what the kernels share."""

    def __init__(self, bits: _Bits, chosen: Array, ends: Array, pieces: Pieces) -> None:
        from bench.metrics import kernels

        self._kernels = kernels
        self._bits = bits
        self._pieces = pieces
        self._lowest = bits.key(ends[:1])
        self._span = span = bits.key(ends[1:]) - self._lowest
        self._codes, self._order = kernels.sort(bits.of(chosen), bits.signed, self._lowest, span.bit_length())
        # at least 256 buckets where there are as many scores, to share out among the threads
        self._cell_bits = min(kernels.CELL_BITS, max(0, span.bit_length() - 8))
        buckets = self._codes >> np.uint32(self._cell_bits)
        firsts = np.flatnonzero(np.concatenate(([True], buckets[1:] != buckets[:-1])))
        self._bounds = np.append(firsts, len(buckets)).astype(np.int64)
        occupied = buckets[firsts].astype(np.int64)
        below = np.repeat(np.arange(len(occupied)), np.diff(occupied, append=(span >> self._cell_bits) + 1))
        self._slots = (~below).astype(np.int32)
        self._slots[occupied] = np.arange(len(occupied))

    def ranks(self, unit: Unit) -> Ranks:
        """Return the ranking, round by round."""
        positives = len(self._codes)
        above, at_least, hits = (np.empty(positives, dtype=np.int64) for _ in range(3))
        pool = np.empty(0, dtype=np.uint16)
        for number, pieces in enumerate(self._rounds()):
            pool = self._count(pieces, pool, number > 0, (above, at_least, hits))
        return Ranks(
            order=self._order,
            above=above,
            at_least=at_least,
            hits=hits,
            positives=positives,
            negatives=sum(self._pieces.sizes) - positives,
            unit=unit,
        )

    def _rounds(self) -> list[list[int]]:
        # two rounds at least, for the second uses the first one's memory again; not worth its time in a small class
        total = sum(self._pieces.sizes)
        most = min(ROUND, total if total < _SMALL else -(-total // 2))
        rounds: list[list[int]] = []
        room = 0
        for number, size in enumerate(self._pieces.sizes):
            if not rounds or size > room:
                rounds.append([])
                room = most
            rounds[-1].append(number)
            room -= size
        return rounds

    def _count(
        self, pieces: list[int], pool: npt.NDArray[np.uint16], again: bool, results: tuple[Array, Array, Array]
    ) -> npt.NDArray[np.uint16]:
        """Count one round of pieces; return the memory that it took, for the next."""
        sizes = self._pieces.sizes
        threads = min(thread_count(), len(pieces))
        shares = [pieces[number::threads] for number in range(threads)]
        slots = len(self._bounds) - 1
        # each thread may leave a block of each slot nearly empty: keep that below a sixteenth of the pool
        room = sum(sizes[piece] for piece in pieces) // (16 * threads * slots)
        block_bits = min(max(room.bit_length() - 1, _BLOCK_BITS[0]), _BLOCK_BITS[-1])
        block = 1 << block_bits
        most = slots + max(sum(sizes[piece] for piece in share) for share in shares) // block
        if len(pool) < threads * most * block:
            pool = np.empty(threads * most * block, dtype=np.uint16)
        owners = np.full(threads * most, slots, dtype=np.int32)  # a free block sorts behind all slots
        cursors = np.zeros((threads, slots), dtype=np.uint64)
        skipped = np.zeros((threads, slots), dtype=np.int64)

        def scatter(thread: int) -> int:
            used, beyond = thread * most, 0
            for piece in shares[thread]:
                used, more, invalid = self._kernels.scatter(
                    self._bits.of(self._pieces.read(piece)),
                    self._bits.signed,
                    self._lowest,
                    self._span,
                    self._cell_bits,
                    self._slots,
                    pool,
                    block_bits,
                    cursors[thread],
                    owners,
                    skipped[thread],
                    used,
                )
                if invalid:
                    raise NanScore
                beyond += more
            return beyond

        beyond = sum(each(scatter, range(threads)))
        filled = np.full(len(owners), block, dtype=np.int32)
        ends = cursors[cursors > 0].astype(np.int64)
        last = (ends - 1) >> block_bits
        filled[last] = ends - (last << block_bits)
        blocks = np.argsort(owners, kind="stable").astype(np.int64, copy=False)
        starts = np.searchsorted(owners[blocks], np.arange(slots + 1)).astype(np.int64, copy=False)
        entries = np.concatenate(([0], np.cumsum(filled[blocks], dtype=np.int64)))[starts]
        inside, gaps = np.diff(entries), skipped.sum(axis=0)
        higher = beyond + np.cumsum((inside + gaps)[::-1])[::-1] - inside

        def resolve(part: slice) -> None:
            self._kernels.resolve(
                part.start,
                part.stop,
                self._codes,
                self._bounds,
                self._cell_bits,
                pool,
                block_bits,
                blocks,
                starts,
                filled,
                higher,
                again,
                *results,
            )

        each(resolve, spans(slots, -(-slots // (_GROUPS * threads))))
        return pool
