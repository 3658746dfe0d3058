"""Operating points against counting by hand: pixel by pixel, region by region, threshold by threshold."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import ndimage
from sklearn.metrics import f1_score, precision_recall_curve

from bench.run.operating import SIZES, Tally

SIDE = 64
THRESHOLDS = {"q0.95": 0.9, "max": 1.6}


def made(seed: int, normal: int = 5, anomalous: int = 6) -> tuple[np.ndarray, np.ndarray, np.ndarray, list[int]]:
    """Maps, masks, image scores and labels of a class; regions of all sizes, some of them faint."""
    rng = np.random.default_rng(seed)
    maps = rng.normal(0.3, 0.4, (normal + anomalous, SIDE, SIDE)).astype(np.float32)
    masks = np.zeros(maps.shape, dtype=bool)
    for place in range(normal, normal + anomalous):
        for side in rng.choice([1, 2, 5, 12], 3):
            top, left = rng.integers(0, SIDE - side, 2)
            masks[place, top : top + side, left : left + side] = True
        maps[place][masks[place]] += rng.uniform(0, 1.5)
    return maps, masks, maps.max(axis=(1, 2)).astype(np.float64), [0] * normal + [1] * anomalous


def best_f1(scores: np.ndarray, truth: np.ndarray) -> float:
    precision, recall, _ = precision_recall_curve(truth.ravel(), scores.ravel())
    return float(np.max(2 * precision * recall / np.maximum(precision + recall, 1e-12)))


def test_every_count_is_what_counting_gives() -> None:
    tally = Tally(THRESHOLDS, THRESHOLDS)
    classes = [made(seed) for seed in range(3)]
    for one in classes:
        tally.add(*one)
    points = tally.points(17, f1_pooled=0.5)
    maps, masks, scores = (np.concatenate([one[part] for one in classes]) for part in range(3))
    labels = np.array([label for one in classes for label in one[3]])
    assert points.images == 17 and points.hindsight.f1_pooled == 0.5
    for rule, threshold in THRESHOLDS.items():
        image, pixel = points.image[rule], points.pixel[rule]
        assert (image.false_alarms.count, image.false_alarms.of) == (int((scores[labels == 0] > threshold).sum()), 15)
        assert (image.found.count, image.found.of) == (int((scores[labels == 1] > threshold).sum()), 18)
        assert pixel.f1 == pytest.approx(f1_score(masks.ravel(), maps.ravel() > threshold), abs=1e-12)
        assert pixel.marked == pytest.approx(float((maps[labels == 0] > threshold).mean()), abs=1e-12)
        counted = {size: [0, 0] for size in SIZES}
        for one, mask in zip(maps, masks, strict=True):
            numbers, count = ndimage.label(mask, np.ones((3, 3)))
            for number in range(1, count + 1):
                region = numbers == number
                size = next(size for size, end in SIZES.items() if region.mean() < end)
                counted[size][0] += not (one[region] > threshold).any()
                counted[size][1] += 1
        assert {size: [share.count, share.of] for size, share in pixel.missed.items()} == counted
        assert all(total for _, total in counted.values()), "the test has regions of every size"
    by_image = [best_f1(one, mask) for one, mask in zip(maps, masks, strict=True) if mask.any()]
    assert points.hindsight.f1_by_image == pytest.approx(np.mean(by_image), abs=1e-12)


def test_hindsight_is_what_the_best_thresholds_give() -> None:
    _, _, scores, labels = made(3, normal=45, anomalous=33)
    tally = Tally({}, {})
    tally.add(None, None, scores, labels)
    hindsight = tally.points(1).hindsight
    normal, bad = scores[:45], scores[45:]
    for recall, share in hindsight.false_alarms_at_recall.items():
        enough = [one for one in bad if (bad >= one).mean() >= float(recall)]
        assert share.count == min(int((normal >= one).sum()) for one in enough)
    for alarms, share in hindsight.found_at_false_alarms.items():
        allowed = [one for one in bad if (normal >= one).mean() <= float(alarms)]
        assert share.count == max([int((bad >= one).sum()) for one in allowed], default=0)
    assert hindsight.f1_by_image is None and tally.points(1).pixel == {}


def test_without_anomalous_images_there_is_nothing_to_find() -> None:
    tally = Tally(THRESHOLDS, {})
    tally.add(None, None, np.array([0.1, 1.0]), [0, 0])
    points = tally.points(4)
    assert points.image["q0.95"].false_alarms.count == 1 and points.image["q0.95"].found.value is None
    assert points.image["q0.95"].found.interval is None and points.hindsight.false_alarms_at_recall == {}
