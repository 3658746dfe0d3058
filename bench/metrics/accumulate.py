"""Streaming metrics of a class whose maps are never in memory together, with the same bits as all at once.

Ranking needs the scores of all positives before it can count the others, so scores are kept as they came: BUFFER bytes
of them in memory, what is more in a temporary file that is read back piece by piece. Nothing is binned, so no range of
scores and no dtype can make the result inexact.
"""

from __future__ import annotations

import tempfile
import threading
import weakref
from collections.abc import Iterable
from typing import IO, Any

import numpy as np
import numpy.typing as npt

from bench.errors import StoreError, UsageError
from bench.metrics.ids import parse, parse_all
from bench.metrics.inputs import ClassInputs, check, refuse_nan
from bench.metrics.metric import Metric, Whole, expanded
from bench.metrics.pieces import PIECE
from bench.metrics.ranking import rank_pieces
from bench.metrics.ranks import MISSING, Ranks, Undefined
from bench.metrics.regions import Regions, find_marked, gather
from bench.metrics.scores import Scores, collect, sides
from bench.metrics.workers import each, spans

Array = npt.NDArray[Any]

BUFFER = 512 << 20
"""Bytes of scores kept in memory by default: 2,048 float32 maps of 256 x 256, which is most classes."""


def streams(metric: Metric) -> bool:
    """Return whether a metric can be computed of maps that are never in memory together."""
    return all(part.level != "pixel" or part.needs == "ranks" for part in expanded([metric], parse))


class Accumulator:
    """Takes a class in chunks of images; `compute` returns what `evaluate_class` returns for all of them.

    The values are bit-equal to the one-shot call's, however the images are cut into chunks. Memory: `buffer` bytes of
    scores, 4 bytes and its score a positive pixel, and 9 bytes an image; while computing 160 MB and 50 bytes a positive
    pixel more (60 in each thread where 64-bit scores have to be sorted). Nothing grows with the normal pixels. Scores
    past the buffer take their own size in a temporary file, in the folder that `tempfile` chooses (see TMPDIR); it has
    no name and goes with the accumulator.

        >>> accumulator = Accumulator()
        >>> for maps, masks, image_scores in chunks:
        ...     accumulator.update(maps, masks, image_scores)
        >>> scores = accumulator.compute()
    """

    def __init__(self, metrics: Iterable[str] | None = None, *, buffer: int = BUFFER) -> None:
        """Start with nothing.

        Args:
            metrics: as in `evaluate_class`, but of pixels only those that are computed from ranks.
            buffer: bytes of scores kept in memory; 0 puts all of them into the file.

        Raises:
            UsageError: an unknown metric, or one that needs all maps at once, as variants do.
        """
        self._wanted = parse_all(metrics)
        if others := [str(metric) for metric in expanded(self._wanted, parse) if not streams(metric)]:
            raise UsageError(
                f"found {', '.join(others)}, expected exact metrics: a variant's thresholds depend on all maps, "
                "so use evaluate_class for it"
            )
        self._given: dict[str, np.dtype[Any]] = {}
        self._marks: dict[str, float] = {}
        self._images = 0
        self._image_scores: list[Array] = []
        self._labels: list[npt.NDArray[np.bool_]] = []
        self._pixels = _StoredPixels(buffer)

    def update(
        self,
        maps: npt.ArrayLike | None,
        masks: npt.ArrayLike | None,
        image_scores: npt.ArrayLike | None = None,
        labels: npt.ArrayLike | None = None,
    ) -> None:
        """Add images: any number of them, of any size. What is passed is copied.

        Args:
            maps: as in `evaluate_class`, for the images of this chunk; and so for the rest.
            masks: [n, H, W]; what stands for anomalous is the same number in every chunk.
            image_scores: [n].
            labels: [n], likewise.

        Raises:
            UsageError: as in `evaluate_class`; or this chunk has other arguments or dtypes than the first.
            ScoreError: a score is NaN; the message names the image, counted from the first chunk. The chunk is left
                out as a whole.
            StoreError: the temporary file cannot be written.
        """
        chunk = check(maps, masks, image_scores, labels, before=self._images)
        refuse_nan("the map", chunk.maps, self._images)
        self._agree(chunk)
        if chunk.maps is not None and chunk.masks is not None:
            self._pixels.add(chunk.maps, chunk.masks)
        if chunk.image_scores is not None:
            self._image_scores.append(chunk.image_scores.copy())
        if chunk.labels is not None:
            self._labels.append(chunk.labels.copy())
        self._images += next(len(part) for part in (chunk.maps, chunk.image_scores) if part is not None)

    def compute(self) -> Scores:
        """Return the metrics of all images so far; more may be added afterwards.

        Raises:
            UsageError: nothing was added.
        """
        if not self._given:
            raise UsageError("found no images, expected an update() before compute(): nothing to evaluate")
        self._pixels.missing = next((why for name, why in MISSING.items() if name not in self._given), None)
        scores = np.concatenate(self._image_scores) if self._image_scores else None
        labels = np.concatenate(self._labels) if self._labels else None
        return collect(self._wanted, sides(ClassInputs(None, None, scores, labels, self._marks), None, self._pixels))

    def _agree(self, chunk: ClassInputs) -> None:
        """Refuse a chunk that is not of the first one's kind: scores of two dtypes have no common order."""
        named = {name: getattr(chunk, name) for name in ("maps", "masks", "image_scores", "labels")}
        kinds = {name: array.dtype for name, array in named.items() if array is not None}
        if self._given and kinds != self._given:
            raise UsageError(f"found {_listed(kinds)}, expected what the first update() gave: {_listed(self._given)}")
        for name, mark in chunk.marks.items():
            known = self._marks.get(name) or mark
            if mark and mark != known:
                raise UsageError(f"found {name} of 0 and {mark:g}, expected 0 and {known:g} as in an earlier update()")
        self._given = kinds
        self._marks = {name: self._marks.get(name) or mark for name, mark in chunk.marks.items()}


class _StoredPixels:
    """The pixel side of a class: anomalous pixels at hand, the scores of all pixels in pieces somewhere."""

    def __init__(self, buffer: int) -> None:
        self.missing: str | None = None
        self._chosen: list[Array] = []
        self._index: list[npt.NDArray[np.int32]] = []
        self._areas: list[npt.NDArray[np.int64]] = []
        self._count = 0
        self._pieces = _StoredPieces(buffer)
        self._ranks: Ranks | None = None

    def add(self, maps: Array, masks: npt.NDArray[np.bool_]) -> None:
        marked = find_marked(masks)
        self._pieces.add(maps)
        self._chosen.append(gather(maps, marked))
        self._index.append((marked.regions.index + self._count).astype(np.int32, copy=False))
        self._areas.append(marked.regions.areas)
        self._count += len(marked.regions.areas)
        self._ranks = None

    @property
    def ranks(self) -> Ranks:
        if self.missing:
            raise Undefined(self.missing)
        if self._ranks is None:
            self._ranks = rank_pieces(np.concatenate(self._chosen), self._pieces, "pixel")
        return self._ranks

    @property
    def regions(self) -> Regions:
        return Regions(np.concatenate(self._index), np.concatenate(self._areas))

    @property
    def whole(self) -> Whole:
        raise AssertionError("the accumulator refuses what needs all maps at once")


class _StoredPieces:
    """Pieces (see pieces.py) that are kept in memory as long as they fit the buffer, and in a file after that."""

    def __init__(self, buffer: int) -> None:
        self.dtype = np.dtype(np.float32)
        self.sizes: list[int] = []
        self._room = buffer
        self._kept: list[Array | int] = []
        """Scores, or where they start in the file."""
        self._file: IO[bytes] | None = None
        self._reading = threading.Lock()

    def add(self, scores: Array) -> None:
        self.dtype = scores.dtype
        flat = scores.reshape(-1)
        pieces = [flat[part] for part in spans(len(flat), PIECE)]
        fitting = int(np.searchsorted(np.cumsum([piece.nbytes for piece in pieces]), self._room, side="right"))
        copies = each(np.copy, pieces[:fitting])
        self._room -= sum(copy.nbytes for copy in copies)
        self._kept += [*copies, *map(self._write, pieces[fitting:])]
        self.sizes += map(len, pieces)

    def read(self, number: int) -> Array:
        kept = self._kept[number]
        if isinstance(kept, np.ndarray):
            return kept
        assert self._file is not None
        piece = np.empty(self.sizes[number], dtype=self.dtype)
        with self._reading:
            self._file.seek(kept)
            self._file.readinto(piece.data)  # type: ignore[attr-defined]
        return piece

    def _write(self, piece: Array) -> int:
        try:
            if self._file is None:
                self._file = tempfile.TemporaryFile(prefix="bench-scores-")  # noqa: SIM115
                weakref.finalize(self, self._file.close)
            start = self._file.seek(0, 2)
            self._file.write(piece.data)
            self._file.flush()
        except OSError as error:
            raise StoreError(
                f"{tempfile.gettempdir()}: no room for the scores of a class ({error}), expected a folder that takes "
                "them all. Choose another by TMPDIR=..., or give Accumulator a larger buffer"
            ) from error
        return start


def _listed(kinds: dict[str, np.dtype[Any]]) -> str:
    return ", ".join(f"{name} ({dtype})" for name, dtype in kinds.items())
