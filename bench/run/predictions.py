"""Collector of predictions: anomaly scores and maps, batch by batch, one of each for every image.

A tensor of another shape would be spread over the batch, and one of another type narrowed: images, or pixels, become
equal that the method told apart, and what is recorded is chance.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from bench.errors import UsageError

_WHOLE = 2**53
"""Up to here float64 holds every whole number."""


class Collected:
    """What a method said of the images of one class."""

    def __init__(self, method: str, images: int, side: int, pinned: bool) -> None:
        """Make room.

        Args:
            method: its name, for messages.
            images: how many there are.
            side: of the maps, in pixels.
            pinned: whether a copy from the device need not be waited for.
        """
        self._method, self._side, self._pinned = method, side, pinned
        self.scores = torch.empty(images, dtype=torch.float64, pin_memory=pinned)
        """float64 [N]."""
        self.maps: Tensor | None = None
        """[N, side, side] of the method's own type, at least float32; None where it gave none."""

    def take_scores(self, rows: slice, given: Tensor) -> None:
        """Take the image scores of some rows. Raises UsageError unless they are a number for each."""
        fitting = self._fitting("scores", given, (rows.stop - rows.start,))
        if not fitting.is_floating_point() and ((fitting > _WHOLE) | (fitting < -_WHOLE)).any():
            raise UsageError(
                f"{self._method}.anomaly gave scores beyond 2^53, of which float64 makes some equal. Expected float32"
            )
        self.scores[rows].copy_(fitting.double(), non_blocking=True)

    def take_maps(self, rows: slice, given: Tensor) -> None:
        """Take the maps of some rows. Raises UsageError unless they are [B, side, side], of one type in all batches."""
        fitting = self._fitting("maps", given, (rows.stop - rows.start, self._side, self._side))
        if self.maps is None:
            shape = (len(self.scores), self._side, self._side)
            self.maps = torch.empty(shape, dtype=fitting.dtype, pin_memory=self._pinned)
        if fitting.dtype != self.maps.dtype:
            raise UsageError(
                f"{self._method}.anomaly gave maps of {_name(given)} after {_name(self.maps)}. Expected one type"
            )
        self.maps[rows].copy_(fitting, non_blocking=True)

    def _fitting(self, what: str, given: Tensor, shape: Sequence[int]) -> Tensor:
        """Return a tensor in its shape and a type that NumPy has; axes of length 1 may be there or not."""
        sides = [side for side in given.shape if side != 1]
        if sides != [side for side in shape if side != 1] or given.is_complex():
            raise UsageError(
                f"{self._method}.anomaly gave {what} {_name(given)} {list(given.shape)}. Expected real numbers "
                f"{list(shape)}, {'one for each image' if what == 'scores' else 'a map for each image'}"
            )
        fitting = given.reshape(*shape)
        if fitting.dtype == torch.bool:
            return fitting.byte()
        return fitting.float() if fitting.is_floating_point() and fitting.element_size() < 4 else fitting


def _name(tensor: Tensor) -> str:
    return str(tensor.dtype).removeprefix("torch.")
