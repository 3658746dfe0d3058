"""Filled discs and polygons on a grid of points four times finer than the picture, in integers.

Corners and boxes are whole points; no shape's outline hangs on how a quotient was rounded.
"""

from __future__ import annotations

from functools import cache

import numpy as np
import numpy.typing as npt

FINE = 4
"""Points a pixel, down and across."""

Points = npt.NDArray[np.bool_]
Levels = npt.NDArray[np.uint8]


def stamp(grid: Points, left: int, top: int, right: int, bottom: int) -> None:
    """Fill the ellipse that reaches from point `left` to `right` and from `top` to `bottom`, as far as it is on `grid`.

    Args:
        grid: bool [rows, columns], changed in place.
        left: first column.
        top: first row.
        right: last column.
        bottom: last row.
    """
    rows, columns = grid.shape
    down, across = slice(max(top, 0), min(bottom + 1, rows)), slice(max(left, 0), min(right + 1, columns))
    if down.start < down.stop and across.start < across.stop:
        shape = _ellipse(right - left + 1, bottom - top + 1)
        grid[down, across] |= shape[down.start - top : down.stop - top, across.start - left : across.stop - left]


@cache
def _ellipse(width: int, height: int) -> Points:
    """Return which points of a box lie in its ellipse, a fifth of a point narrower than the box."""
    wide, high = 5 * width - 1, 5 * height - 1
    x = 5 * np.arange(1 - width, width, 2) * high
    y = 5 * np.arange(1 - height, height, 2) * wide
    inside: Points = x * x + (y * y)[:, None] <= wide * wide * high * high
    return inside


def fill(polygons: npt.NDArray[np.int64], side: int) -> npt.NDArray[np.int64]:
    """Fill polygons, one over the other.

    Args:
        polygons: corners as (x, y), [N, corners, 2].
        side: of the grid.

    Returns:
        int64 [side, side]: 1 + the number of the last polygon that covers the point, 0 where there is none.
    """
    start, end = polygons, np.roll(polygons, -1, axis=1)
    downwards = start[..., 1:] < end[..., 1:]
    upper, lower = np.where(downwards, start, end), np.where(downwards, end, start)
    # the row at an edge's lower end belongs to the next edge; the polygon's last row has no next
    last = polygons[..., 1].max(axis=1, keepdims=True)
    drop = lower[..., 1] - upper[..., 1]
    rows = np.where(drop > 0, drop + (lower[..., 1] == last), 0)
    edge, below = _count_up(rows.ravel())
    number = edge // polygons.shape[1]
    x, y = upper.reshape(-1, 2)[edge].T
    drop, run = drop.ravel()[edge], (lower - upper)[..., 0].ravel()[edge]
    # the crossing's column rounded up plus the same rounded down: they differ where it lies midway between two points
    double = 2 * x + (2 * below * run + drop) // (2 * drop) - (drop - 2 * below * run) // (2 * drop)
    y = y + below
    order = np.lexsort((double, y, number))
    opening, closing = order[::2], order[1::2]
    left, right = np.maximum((double[opening] + 1) // 2, 0), np.minimum(double[closing] // 2, side - 1)
    row = y[opening]
    span, along = _count_up(np.where((row >= 0) & (row < side), np.maximum(right - left + 1, 0), 0))
    grid = np.zeros(side * side, np.int64)
    grid[(row * side + left)[span] + along] = number[opening][span] + 1
    return grid.reshape(side, side)


def _count_up(lengths: npt.NDArray[np.int64]) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]:
    """Return, for runs of these lengths laid end to end, the number of each place's run and its place within that."""
    run = np.repeat(np.arange(len(lengths)), lengths)
    return run, np.arange(len(run)) - (np.cumsum(lengths) - lengths)[run]


def shrink(levels: Levels) -> Levels:
    """Return the mean of each `FINE` x `FINE` points, rounded; uint8, rows and columns first."""
    down = levels[::FINE].astype(np.uint16)
    for k in range(1, FINE):
        down += levels[k::FINE]
    total = down[:, ::FINE].copy()
    for k in range(1, FINE):
        total += down[:, k::FINE]
    return ((total + FINE * FINE // 2) // (FINE * FINE)).astype(np.uint8)
