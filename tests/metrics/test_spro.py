"""sPRO against its definition: every threshold, every defect's own saturated overlap."""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bench.errors import UsageError
from bench.metrics import evaluate_class, reference
from bench.metrics.ranks import Undefined
from bench.metrics.spro import Defect, auspro, defect_auspro, saturation_area

Maps = npt.NDArray[Any]


def by_definition(maps: Maps, defects: list[Defect], limit: float) -> list[float]:
    background = np.ones(maps.shape, dtype=bool)
    for defect in defects:
        background[defect.image] &= ~defect.mask
    points = [(0.0, np.zeros(len(defects)))]
    for threshold in np.unique(maps)[::-1]:
        found = [int((maps[d.image][d.mask] >= threshold).sum()) / d.saturation for d in defects]
        points.append((float((maps[background] >= threshold).mean()), np.minimum(found, 1)))
    area = np.zeros(len(defects))
    for (x0, y0), (x1, y1) in pairwise(points):
        end = min(x1, limit)
        if end > x0:
            area += (end - x0) * (2 * y0 + (y1 - y0) * (end - x0) / (x1 - x0)) / 2
    return [float(value) for value in area / limit]


def random_defects(seed: int) -> tuple[Maps, list[Defect]]:
    """Boxes that overlap, several an image, none in the last; saturation areas from one pixel to all, fractions too."""
    rng = np.random.default_rng(seed)
    maps = rng.integers(0, 30, (4, 10, 12)).astype(rng.choice(["float32", "float64", "int16"]))
    defects = []
    for image in (0, 0, 0, 1, 2, 2):
        mask = np.zeros((10, 12), dtype=bool)
        y, x = rng.integers(0, 8, 2)
        mask[y : y + rng.integers(1, 7), x : x + rng.integers(1, 5)] = True
        maps[image][mask] += rng.integers(0, 12)
        area = int(mask.sum())
        defects.append(Defect(image, mask, float(rng.choice([1, area, rng.uniform(1, area)]))))
    return maps, defects


@given(seed=st.integers(0, 2**32 - 1), limit=st.sampled_from([0.05, 0.3, 1.0]))
@settings(max_examples=60, deadline=None)
def test_equals_the_definition(seed: int, limit: float) -> None:
    maps, defects = random_defects(seed)
    expected = by_definition(maps, defects, limit)
    assert defect_auspro(maps, defects, limit).tolist() == pytest.approx(expected, rel=0, abs=1e-12)
    assert auspro(maps, defects, limit) == pytest.approx(np.mean(expected), rel=0, abs=1e-12)


@pytest.mark.parametrize("seed", range(4))
def test_without_saturation_and_overlap_it_is_aupro(seed: int) -> None:
    rng = np.random.default_rng(seed)
    masks = rng.random((3, 9, 9)) < 0.15
    maps = rng.integers(0, 50, masks.shape) + 9 * masks
    defects = [
        Defect(int(np.argmax(r.any(axis=(1, 2)))), r.any(axis=0), int(r.sum())) for r in reference.flood_regions(masks)
    ]
    expected = evaluate_class(maps, masks, metrics=["pixel/aupro@0.1"])["pixel/aupro@0.1"]
    assert auspro(maps, defects, 0.1) == pytest.approx(expected, rel=0, abs=1e-12)


def test_worked_by_hand() -> None:
    # four defect pixels of which two suffice; one of ten normal pixels lies between the first and the second
    maps = np.zeros((1, 2, 7))
    mask = np.zeros((2, 7), dtype=bool)
    mask[0, :4] = True
    maps[0, 0, :4] = 9, 7, 0.5, 0.5
    maps[0, 1, 0] = 8
    # half found up to FPR 0.1, saturated from there on
    assert auspro(maps, [Defect(0, mask, 2)], 0.2) == pytest.approx((0.1 * 0.5 + 0.1 * 1) / 0.2, abs=1e-12)
    assert auspro(maps, [Defect(0, mask, 4)], 0.2) == pytest.approx((0.1 * 0.25 + 0.1 * (0.5 + 0.5)) / 0.2, abs=1e-12)


def test_a_pixel_of_another_defect_is_no_false_positive() -> None:
    maps = np.array([[[5.0, 4, 3, 2, 1]]])
    left, right = np.array([[True, True, False, False, False]]), np.array([[False, True, True, False, False]])
    assert auspro(maps, [Defect(0, left, 2), Defect(0, right, 2)]) == 1.0


def test_saturation_areas_as_the_dataset_states_them() -> None:
    assert saturation_area(1000, 0.25, relative=True) == 250
    assert saturation_area(7, 0.5, relative=True) == 3
    assert saturation_area(1000, 300, relative=False) == 300
    assert saturation_area(100, 300, relative=False) == 100


def test_misuse_and_undefined() -> None:
    maps, mask = np.zeros((2, 3, 4)), np.ones((3, 4), dtype=bool)
    with pytest.raises(UsageError, match=r"defect 0 is \[3, 4\] in image 2, .* maps, which are \[2, 3, 4\]"):
        auspro(maps, [Defect(2, mask, 1)])
    with pytest.raises(UsageError, match=r"defect 0 is \[2, 4\]"):
        auspro(maps, [Defect(0, mask[:2], 1)])
    for saturation in (0, 0.5, 13, float("nan")):
        with pytest.raises(UsageError, match=r"defect 0 has 12 pixels .* saturates at"):
            auspro(maps, [Defect(0, mask, saturation)])
    with pytest.raises(UsageError, match="limit is 5"):
        auspro(maps, [Defect(0, mask, 1)], 5)
    with pytest.raises(Undefined, match="no anomalous pixel"):
        auspro(maps, [])
    with pytest.raises(Undefined, match="no normal pixel"):
        auspro(maps, [Defect(0, mask, 1), Defect(1, mask, 1)])
