from __future__ import annotations

import numpy as np
import pytest
from PIL import Image, ImageDraw

from bench.demo.raster import FINE, fill, shrink, stamp


@pytest.mark.parametrize(("left", "top", "width", "height"), [(3, 4, 9, 9), (5, 1, 12, 7), (0, 0, 4, 5)])
def test_an_ellipse_is_round_symmetric_and_fills_its_box(left: int, top: int, width: int, height: int) -> None:
    grid = np.zeros((40, 40), np.bool_)
    stamp(grid, left, top, left + width - 1, top + height - 1)
    inside = grid[top : top + height, left : left + width]
    assert inside.sum() == grid.sum() == pytest.approx(np.pi / 4 * width * height, rel=0.06)
    assert np.array_equal(inside, inside[::-1]) and np.array_equal(inside, inside[:, ::-1])
    assert inside.any(axis=0).all() and inside.any(axis=1).all()


def test_what_lies_beside_the_grid_is_cut_off() -> None:
    wide = np.zeros((60, 60), np.bool_)
    small = np.zeros((20, 20), np.bool_)
    for box in ((-5, -4, 3, 8), (15, 10, 30, 30), (-30, -30, -20, -20), (50, 2, 60, 9)):
        stamp(small, *box)
        stamp(wide, *(place + 20 for place in box))
    assert small.any() and np.array_equal(small, wide[20:40, 20:40])


def test_polygons_are_filled_as_pillow_fills_them() -> None:
    rng = np.random.default_rng(0)
    angles = np.sort(rng.uniform(0, 2 * np.pi, (60, 6)), axis=1)
    reach = rng.uniform(4, 30, (60, 6))
    middle = rng.uniform(-10, 110, (60, 1, 2))
    corners = (middle + np.stack([reach * np.cos(angles), reach * np.sin(angles)], 2)).astype(int)
    filled = fill(corners, 100)
    sheet = Image.new("L", (100, 100))
    for number, polygon in enumerate(corners):
        ImageDraw.Draw(sheet).polygon([(int(x), int(y)) for x, y in polygon], fill=number + 1)
    expected = np.asarray(sheet)
    # Pillow's crossings are float32, and it draws the outline of needles
    assert np.mean(filled != expected) < 0.005
    assert set(np.unique(filled)) >= set(np.unique(expected)) - {0}


def test_a_square_covers_its_points_and_a_later_one_lies_on_top() -> None:
    squares = [[(1, 1), (4, 1), (4, 4), (1, 4)], [(3, 3), (6, 3), (6, 6), (3, 6)]]
    expected = np.zeros((8, 8), int)
    expected[1:5, 1:5] = 1
    expected[3:7, 3:7] = 2
    assert np.array_equal(fill(np.array(squares), 8), expected)


def test_the_mean_of_sixteen_points_is_rounded() -> None:
    levels = np.zeros((2 * FINE, FINE, 3), np.uint8)
    levels[0, 0] = (255, 8, 7)
    levels[FINE:] = 255
    assert shrink(levels).tolist() == [[[16, 1, 0]], [[255, 255, 255]]]
