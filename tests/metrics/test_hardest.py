from __future__ import annotations

import numpy as np
import pytest

from bench.metrics import evaluate_class
from bench.metrics.hardest import hardest_regions, image_aupro, image_of_region
from bench.metrics.ranking import rank
from bench.metrics.ranks import Undefined
from bench.metrics.reference import flood_regions
from bench.metrics.regions import find_regions


def ranked(maps: np.ndarray, masks: np.ndarray) -> tuple:
    return rank(maps.ravel(), masks.ravel(), "pixel"), find_regions(masks)


def random_case(seed: int) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    masks = rng.random((5, 9, 11)) < 0.12
    masks[3] = False
    return rng.integers(0, 40, masks.shape) + masks * 6, masks


@pytest.mark.parametrize("seed", range(5))
def test_regions_and_images_average_to_the_class(seed: int) -> None:
    maps, masks = random_case(seed)
    whole = evaluate_class(maps, masks, metrics=["pixel/aupro@0.2"])["pixel/aupro@0.2"]
    found = hardest_regions(masks, *ranked(maps, masks), limit=0.2)
    assert np.mean([region.aupro for region in found]) == pytest.approx(whole, abs=1e-12)
    images = image_aupro(masks, *ranked(maps, masks), limit=0.2)
    assert np.isnan(images).tolist() == (~masks.any(axis=(1, 2))).tolist()
    counts = np.bincount([region.image for region in found], minlength=5)
    assert np.nansum(images * counts) / counts.sum() == pytest.approx(whole, abs=1e-12)


@pytest.mark.parametrize("seed", range(5))
def test_each_region_is_where_it_says_and_as_large(seed: int) -> None:
    maps, masks = random_case(seed)
    found = hardest_regions(masks, *ranked(maps, masks))
    expected = []
    for region in flood_regions(masks):
        image, y, x = np.nonzero(region)
        assert len(set(image)) == 1
        expected.append((image[0], y.min(), x.min(), y.max() + 1, x.max() + 1, len(y)))
    assert sorted((r.image, r.top, r.left, r.bottom, r.right, r.area) for r in found) == sorted(expected)


def test_a_region_alone_has_the_value_of_its_own_curve() -> None:
    maps, masks = random_case(1)
    worst = hardest_regions(masks, *ranked(maps, masks), count=1)[0]
    lone = np.zeros_like(masks)
    box = np.s_[worst.image, worst.top : worst.bottom, worst.left : worst.right]
    regions = [region for region in flood_regions(masks) if region[box].sum() == worst.area == region.sum()]
    lone = regions[0]
    # every other defect leaves the maps, so that the normal pixels stay what they were
    keep = lone | ~masks
    flat = evaluate_class(maps[keep][None, None], lone[keep][None, None], metrics=["pixel/auroc"])
    assert flat["pixel/auroc"] is not None
    total = [1.0 * (maps[~masks] > score).sum() + 0.5 * (maps[~masks] == score).sum() for score in maps[lone]]
    one = hardest_regions(masks, *ranked(maps, masks), limit=1.0)
    match = [r for r in one if (r.image, r.top, r.left, r.area) == (worst.image, worst.top, worst.left, worst.area)]
    assert match[0].aupro == pytest.approx(1 - np.mean(total) / (~masks).sum(), abs=1e-12)
    assert match[0].aupro == pytest.approx(flat["pixel/auroc"], abs=1e-12)


def test_worst_first_and_the_larger_of_equals() -> None:
    masks = np.zeros((2, 3, 9), dtype=bool)
    masks[0, 1, 1] = masks[0, 1, 4:6] = masks[1, 1, 7] = True
    maps = np.where(masks, 0.0, 0.5)
    maps[1, 1, 7] = 0.9
    found = hardest_regions(masks, *ranked(maps, masks))
    assert [(region.image, region.left, region.area) for region in found] == [(0, 4, 2), (0, 1, 1), (1, 7, 1)]
    assert [region.aupro for region in found] == [0, 0, 1]
    assert hardest_regions(masks, *ranked(maps, masks), count=2) == found[:2]
    assert image_of_region(masks, find_regions(masks)).tolist() == [0, 0, 1]


def test_undefined_without_defects() -> None:
    masks = np.zeros((1, 3, 3), dtype=bool)
    for call in (hardest_regions, image_aupro):
        with pytest.raises(Undefined, match="no anomalous pixel"):
            call(masks, *ranked(np.zeros((1, 3, 3)), masks))
