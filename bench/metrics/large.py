"""Ranking in bounded memory: more anomalous pixels than fit at once, a range of scores at a time.

Ranking takes 50 bytes a positive. So positives are parted by score into slabs of at most so many; each is ranked among
all scores, and what the exact metrics need of it is taken before the next one comes. AUROC, average precision and
F1-max are sums (a maximum) by ascending score, in which slabs follow each other; AUPRO sums pixels region by region,
and needs of each only G + E (see ranks.py), which is written over the pixel's score. The values have the same bits as
those of all positives ranked at once.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from bench.metrics.buckets import fits_float32
from bench.metrics.pieces import ArrayPieces, Narrowed, Pieces
from bench.metrics.ranking import rank_pieces
from bench.metrics.ranks import BLOCK, NanScore, Ranks, Unit, highest_f1, passed, precision
from bench.metrics.regions import Regions, RegionsInParts, find_marked
from bench.metrics.slabs import Slab, part_by_score, span
from bench.metrics.workers import each, spans

Array = npt.NDArray[Any]
Floats = npt.NDArray[np.float64]

MAX_RANKED = 1 << 22
"""Positives of up to 32 bits that are ranked at once: 50 bytes each, 200 MB."""
MAX_RANKED_WIDE = 1 << 21
"""The same of 64 bits, which may have to be sorted: 60 bytes each in every thread, 120 MB."""
_COUNTED = 30
"""Bits in which keys of 64 bits differ at most where ranking counts and does not sort, see buckets.py."""
_STEP = 1 << 18
"""Pixels that a thread looks at together."""


def most(dtype: np.dtype[Any], scores: Array | None = None) -> int:
    """Return how many positives of a dtype, and with these scores if they are known, are ranked at once."""
    near = scores is not None and span(scores)[1] <= _COUNTED
    return MAX_RANKED_WIDE if dtype.itemsize == 8 and not near else MAX_RANKED


def rank_large(maps: Array, masks: npt.NDArray[np.bool_]) -> tuple[Ranks, Regions]:
    """Return where the anomalous pixels stand, and their regions.

    Args:
        maps: any real dtype [N, H, W].
        masks: bool [N, H, W], with a marked pixel.

    Raises:
        NanScore: a score is NaN.
    """
    positives = _Marked(maps, masks)
    regions = RegionsInParts(positives.sizes, lambda number: find_marked(positives.masks(number)).regions)
    return LargeRanks(positives, ArrayPieces(maps), "pixel"), regions


class _Marked:
    """Scores of the anomalous pixels, see Pieces; a piece is that of a few images."""

    def __init__(self, maps: Array, masks: npt.NDArray[np.bool_]) -> None:
        self.dtype = maps.dtype
        self._maps, self._masks = maps, masks
        self._images = spans(len(maps), max(1, _STEP // maps[0].size))
        self.sizes = each(lambda part: int(np.count_nonzero(masks[part].view(np.uint8))), self._images)

    def masks(self, number: int) -> npt.NDArray[np.bool_]:
        # a comparison, since the bytes of a bool array made elsewhere need not be 0 and 1
        return np.not_equal(self._masks[self._images[number]].view(np.uint8), 0)

    def read(self, number: int) -> Array:
        return self._maps[self._images[number]][self.masks(number)]


class LargeRanks(Ranks):
    """Ranks whose arrays are made only where somebody asks for them; the exact metrics do not.

    Keeps 5 bytes a positive, 9 of 64-bit scores. While it is made, what ranking MAX_RANKED of them takes comes on top.
    """

    def __init__(self, positives: Pieces, pieces: Pieces, unit: Unit) -> None:
        """Rank, slab by slab.

        Args:
            positives: their scores, at least one, in the order in which AUPRO wants them.
            pieces: all scores, those of the positives too, in the same dtype.
            unit: what a score belongs to.

        Raises:
            NanScore: a score is NaN.
        """
        if pieces.dtype == np.float64 and fits_float32(pieces):
            positives, pieces = Narrowed(positives), Narrowed(pieces)
        self._positives, self._pieces = positives, pieces
        count = sum(positives.sizes)
        vars(self).update(positives=count, negatives=sum(pieces.sizes) - count, unit=unit)
        ends = np.cumsum(positives.sizes).tolist()
        self._parts = [slice(end - size, end) for end, size in zip(ends, positives.sizes, strict=True)]
        kept = self._gathered()
        self._slab, self._slabs = part_by_score(kept, most(pieces.dtype, kept))
        # G + E of each positive takes the place of its score once that has been ranked
        self._both = kept.view(f"u{kept.itemsize}")
        fold = _Fold(count)
        for number, slab in enumerate(self._slabs):
            (self._take_one if slab.single else self._take)(number, slab, kept, fold)
        self._passed, self._precision, self._best_f1 = fold.close()

    def __getattr__(self, name: str) -> Any:
        """Rank all at once for the first of the arrays that is asked for; 50 bytes a positive."""
        if name not in ("order", "above", "at_least", "hits"):
            raise AttributeError(name)
        chosen = np.concatenate([self._positives.read(number) for number in range(len(self._parts))])
        ranks = rank_pieces(chosen, self._pieces, self.unit)
        vars(self).update(order=ranks.order, above=ranks.above, at_least=ranks.at_least, hits=ranks.hits)
        return getattr(ranks, name)

    def passed(self) -> int:
        """See Ranks."""
        return self._passed

    def precision(self) -> float:
        """See Ranks."""
        return self._precision

    def best_f1(self) -> float:
        """See Ranks."""
        return self._best_f1

    def alarms(self, hits: int) -> int:
        """See Ranks."""
        number = next(place for place, slab in enumerate(self._slabs) if slab.higher < hits)
        found = [
            self._positives.read(piece)[chosen]
            for piece, part in enumerate(self._parts)
            if (chosen := self._slab[part] == number).any()
        ]
        scores = np.concatenate(found)
        place = len(scores) - (hits - self._slabs[number].higher)
        return self._negatives(np.partition(scores, place)[place])[1]

    def worth(self, cut: float) -> Callable[[slice], Floats]:
        """See Ranks."""
        across = self._across(cut)

        def of(part: slice) -> Floats:
            both = self._both[part]
            with np.errstate(over="ignore"):
                share: Floats = 1 - both / (2 * cut)
            share[both >= 2 * cut] = 0
            if across is not None:
                above, at_least = across
                room = cut - above
                share[both == above + at_least] = (room / cut) * (room / (2 * (at_least - above)))
            return share

        return of

    def _across(self, cut: float) -> tuple[int, int] | None:
        """Return G and E of the one score with G < cut < E; None without one.

        Scores above it have G + E of at most 2 cut and those below it of at least that, so it is next to 2 cut.
        """
        parts, highest = spans(self.positives, _STEP), np.iinfo(self._both.dtype).max

        def nearest(part: slice) -> tuple[int, int]:
            both = self._both[part]
            lower, upper = both <= 2 * cut, both >= 2 * cut
            return int(np.max(both, where=lower, initial=0)), int(np.min(both, where=upper, initial=highest))

        lowers, uppers = zip(*each(nearest, parts), strict=True)
        for both in {max(lowers), min(uppers)}:
            place = next(
                (part.start + int(np.argmax(self._both[part] == both)) for part in parts if both in self._both[part]),
                None,
            )
            if place is not None:
                above, at_least = self._negatives(self._score(place))
                if above < cut < at_least:
                    return above, at_least
        return None

    def _score(self, place: int) -> Any:
        """Return the score of a positive."""
        number = next(number for number, part in enumerate(self._parts) if place < part.stop)
        return self._positives.read(number)[place - self._parts[number].start]

    def _negatives(self, score: Any) -> tuple[int, int]:
        """Return G and E of a score."""
        (above, at_least), (higher, hits) = _counted(self._pieces, score), _counted(self._positives, score)
        return above - higher, at_least - hits

    def _gathered(self) -> Array:
        """Return the positives' scores in a type whose memory holds G + E as well."""
        dtype = self._pieces.dtype
        size = 8 if dtype.itemsize == 8 or 2 * self.negatives >= 1 << 32 else 4
        # what is unsigned and shorter fits the signed type
        kind = "i" if dtype.kind == "u" and dtype.itemsize < size else dtype.kind
        kept = np.empty(self.positives, dtype=f"{kind}{size}")

        def fill(number: int) -> None:
            scores = self._positives.read(number)
            if dtype.kind == "f" and len(scores) and np.isnan(scores.max()):
                raise NanScore
            kept[self._parts[number]] = scores

        each(fill, range(len(self._parts)))
        return kept

    def _take(self, number: int, slab: Slab, kept: Array, fold: _Fold) -> None:
        """Rank a slab, hand it to the fold, and put G + E in the scores' place."""
        parts = spans(self.positives, _STEP)
        where = np.concatenate(each(lambda part: np.flatnonzero(self._slab[part] == number) + part.start, parts))
        ranks = rank_pieces(kept[where].astype(self._pieces.dtype), self._pieces, self.unit)
        # of the other slabs' positives it took the higher ones for negatives
        above, at_least, hits = ranks.above, ranks.at_least, ranks.hits
        above -= slab.higher
        at_least -= slab.higher
        hits += slab.higher
        fold.add(above, at_least, hits)
        both = np.empty(slab.count, dtype=self._both.dtype)
        both[ranks.order] = above + at_least
        self._both[where] = both

    def _take_one(self, number: int, slab: Slab, kept: Array, fold: _Fold) -> None:
        """Do what `_take` does with a slab of one score, however often that comes."""
        parts = spans(self.positives, _STEP)
        first = next(part for part in parts if (self._slab[part] == number).any())
        score = kept[first][self._slab[first] == number][:1].astype(self._pieces.dtype)[0]
        above, at_least = _counted(self._pieces, score)
        columns = above - slab.higher, at_least - slab.higher - slab.count, slab.higher + slab.count
        for part in spans(slab.count, 1 << 20):
            fold.add(*(np.full(part.stop - part.start, column, dtype=np.int64) for column in columns))
        for part in parts:
            self._both[part][self._slab[part] == number] = columns[0] + columns[1]


def _counted(pieces: Pieces, score: Any) -> tuple[int, int]:
    """Return how many scores are higher, and at least as high."""

    def count(number: int) -> tuple[int, int]:
        scores = pieces.read(number)
        if scores.dtype.kind == "f" and len(scores) and np.isnan(scores.max()):
            raise NanScore
        return int(np.count_nonzero(scores > score)), int(np.count_nonzero(scores >= score))

    above, at_least = zip(*each(count, range(len(pieces.sizes))), strict=True)
    return sum(above), sum(at_least)


class _Fold:
    """What AUROC, average precision and F1-max sum up, in blocks of BLOCK positives by ascending score."""

    def __init__(self, positives: int) -> None:
        self._positives = positives
        self._rest: list[tuple[Array, ...]] = []
        self._passed = 0
        self._precisions: list[float] = []
        self._best = 0.0

    def add(self, *columns: Array) -> None:
        """Add above, at_least and hits of the positives that follow by score."""
        start, length = 0, len(columns[0])
        waiting = sum(len(rest[0]) for rest in self._rest)
        if waiting:
            start = min(BLOCK - waiting, length)
            self._rest.append(tuple(column[:start].copy() for column in columns))
            if waiting + start < BLOCK:
                return
            self._close()
        stop = start + (length - start) // BLOCK * BLOCK
        self._sum([tuple(column[start:stop][part] for column in columns) for part in spans(stop - start, BLOCK)])
        if stop < length:
            self._rest.append(tuple(column[stop:].copy() for column in columns))

    def close(self) -> tuple[int, float, float]:
        """Return the three sums."""
        if self._rest:
            self._close()
        return self._passed, sum(self._precisions), self._best

    def _close(self) -> None:
        self._sum([tuple(map(np.concatenate, zip(*self._rest, strict=True)))])
        self._rest = []

    def _sum(self, blocks: Sequence[tuple[Array, ...]]) -> None:
        def look(block: tuple[Array, ...]) -> tuple[int, float, float]:
            above, at_least, hits = block
            return passed(above, at_least), precision(hits, at_least), highest_f1(hits, at_least, self._positives)

        for behind, sharp, best in each(look, blocks):
            self._passed += behind
            self._precisions.append(sharp)
            self._best = max(self._best, best)
