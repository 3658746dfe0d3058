"""Scores in pieces: what ranking reads, wherever the scores lie."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

PIECE = 1 << 20
"""Scores in a piece, about: small enough to convert or copy without much memory, large enough for one task."""


class Pieces(Protocol):
    """All scores of a class or of its images, in pieces that several threads may read at once."""

    @property
    def dtype(self) -> np.dtype[Any]:
        """Of all scores."""
        ...

    @property
    def sizes(self) -> Sequence[int]:
        """Scores in each piece."""
        ...

    def read(self, number: int) -> npt.NDArray[Any]:
        """Return a piece: [size], contiguous, in memory that is not written to while it is in use."""
        ...


class ArrayPieces:
    """The pieces of an array of any shape; no copy is made of a contiguous one."""

    def __init__(self, scores: npt.NDArray[Any]) -> None:
        self.dtype = scores.dtype
        # only what cannot be flattened without a copy is cut between images
        self._scores = scores.reshape(-1) if scores.flags.c_contiguous else scores
        length = len(self._scores)
        entry = self._scores.size // length if length else 1
        step = max(1, PIECE // entry)
        self._parts = [slice(start, min(start + step, length)) for start in range(0, length, step)]
        self.sizes = [(part.stop - part.start) * entry for part in self._parts]

    def read(self, number: int) -> npt.NDArray[Any]:
        """Return a piece, see Pieces."""
        return np.ascontiguousarray(self._scores[self._parts[number]]).reshape(-1)


class Narrowed:
    """Pieces of float64 whose values are all those of a float32, as float32."""

    def __init__(self, pieces: Pieces) -> None:
        self._pieces = pieces
        self.dtype = np.dtype(np.float32)
        self.sizes = pieces.sizes

    def read(self, number: int) -> npt.NDArray[Any]:
        """Return a piece, see Pieces."""
        return narrow(self._pieces.read(number))


def narrow(scores: npt.NDArray[Any]) -> npt.NDArray[np.float32]:
    """Return float64 `scores` as float32; what is too large becomes infinite."""
    with np.errstate(over="ignore", under="ignore"):
        return scores.astype(np.float32)
