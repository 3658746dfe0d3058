"""Hard cases by name; each has made some published implementation raise or return another number."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from slow_scores import slow_scores

from bench.metrics import SEVEN, evaluate_class, pieces, regions

Maps = npt.NDArray[Any]
SHAPE = (5, 9, 11)
METRICS = (*SEVEN, "pixel/aupro@0.3:grid200")


pytestmark = pytest.mark.usefixtures("engine")


def blobs() -> npt.NDArray[np.bool_]:
    masks = np.zeros(SHAPE, dtype=np.bool_)
    masks[0, 1:4, 2:5] = True
    masks[0, 6:8, 7:11] = True
    masks[1, 4, 4] = True
    masks[3, 0:2, 0:9] = True
    return masks


def noise() -> Maps:
    scores = np.random.default_rng(3).gamma(2.0, size=SHAPE)
    return scores + blobs() * 0.8


def one_huge_negative() -> Maps:
    scores = noise()
    scores[2, 5, 5] = 1000
    return scores


def with_infinities() -> Maps:
    scores = noise()
    scores[0, 1, 2:5] = scores[2, 0, 0:4] = np.inf
    scores[1, 4, 4] = scores[2, 8, 0:4] = -np.inf
    return scores


def frozen(scores: Maps) -> Maps:
    scores.flags.writeable = False
    return scores


SCORES: dict[str, Callable[[], Maps]] = {
    "constant": lambda: np.full(SHAPE, 0.25, dtype=np.float32),
    "uint8": lambda: (noise() * 20).astype(np.uint8),
    "three levels": lambda: np.digitize(noise(), [1.0, 3.0]).astype(np.float32) / 2,
    "0-1 scores": lambda: (noise() > 2).astype(np.int8),
    "negative only": lambda: -noise() - 1,
    "near 90": lambda: (90 + noise() * 0.01).astype(np.float32),
    "float16 over its range": lambda: (noise() * 6000 - 20000).astype(np.float16),
    "float32 subnormals": lambda: np.round(noise() * 50).astype(np.float32) * np.float32(1e-45),
    "float64 subnormals": lambda: np.round(noise() * 50) * 5e-324,
    "up to 3e38": lambda: (np.clip(noise() - 2, -1, 1) * 3e38).astype(np.float32),
    "one huge negative": one_huge_negative,
    "float64 that float32 merges": lambda: 1 + noise() * 1e-12,
    "int64 that float64 merges": lambda: 2**62 + (noise() * 20).astype(np.int64),
    "uint64 above int64": lambda: np.uint64(2**63) + (noise() * 20).astype(np.uint64),
    "infinities": with_infinities,
    "positives in the first image only": lambda: noise() + (np.arange(5) == 0)[:, None, None] * 3.0,
    "one huge positive": lambda: np.where(np.arange(495).reshape(SHAPE) == 14, 1e30, noise()),
    "one lowest int64": lambda: np.where(noise() > 6, np.iinfo(np.int64).min, (noise() * 20).astype(np.int64)),
    "int64 from end to end": lambda: np.where(noise() > 2, np.iinfo(np.int64).max, np.iinfo(np.int64).min),
    "uint64 from end to end": lambda: np.where(noise() > 2, np.uint64(2**64 - 1), (noise() * 9).astype(np.uint64)),
    "int32 from end to end": lambda: np.where(noise() > 2, 2**31 - 1, -(2**31)).astype(np.int32),
    "uint32 above int32": lambda: np.uint32(2**31 - 30) + (noise() * 20).astype(np.uint32),
    "float64 of float32 values": lambda: noise().astype(np.float32).astype(np.float64),
    "float64 beyond float32": lambda: noise() * 1e200,
    "read-only": lambda: frozen(noise().astype(np.float32)),
    "signed zeros": lambda: np.where(noise() > 2, 0.0, -0.0) * 1.0,
    "big-endian float16": lambda: (noise() * 6000 - 20000).astype(">f2"),
    "big-endian": lambda: noise().astype(">f8"),
    "not contiguous": lambda: np.repeat(noise(), 2, axis=2)[:, :, ::2],
}


def checkerboard(step: int) -> npt.NDArray[np.bool_]:
    _, y, x = np.indices(SHAPE)
    return (y + x) % 2 == 0 if step == 1 else (y % step == 0) & (x % step == 0)


def all_but(value: bool, spared: int) -> npt.NDArray[np.bool_]:
    masks = np.full(SHAPE, value)
    masks.reshape(-1)[:spared] = not value
    return masks


def fully_masked_image() -> npt.NDArray[np.bool_]:
    masks = blobs()
    masks[2] = True
    return masks


def corner_touching() -> npt.NDArray[np.bool_]:
    masks = np.zeros(SHAPE, dtype=np.bool_)
    masks[0, 0:3, 0:3] = masks[0, 3:6, 3:6] = True
    masks[0, 0, 8] = masks[0, 1, 7] = masks[0, 2, 8] = True
    return masks


MASKS: dict[str, Callable[[], npt.NDArray[np.bool_]]] = {
    "blobs": blobs,
    "corner-touching": corner_touching,
    "checkerboard": lambda: checkerboard(1),
    "dots": lambda: checkerboard(2),
    "fully masked image": fully_masked_image,
    "one background pixel": lambda: all_but(True, 1),
    "one anomalous pixel": lambda: all_but(False, 1),
    "no anomalous pixel": lambda: all_but(False, 0),
    "no normal pixel": lambda: all_but(True, 0),
}


def assert_equals_reference(maps: Maps, masks: npt.NDArray[np.bool_]) -> None:
    images, labels = maps.max(axis=(1, 2)), masks.any(axis=(1, 2))
    found = evaluate_class(maps, masks, images, metrics=METRICS)
    expected = slow_scores(maps, masks, images, labels, METRICS)
    for metric in METRICS:
        value = expected[metric]
        assert found[metric] == (None if value is None else pytest.approx(value, rel=0, abs=1e-12)), metric


@pytest.mark.parametrize("name", SCORES)
def test_hard_scores(name: str) -> None:
    assert_equals_reference(SCORES[name](), blobs())


@pytest.mark.parametrize("name", MASKS)
@pytest.mark.parametrize("scores", ["uint8", "infinities", "constant"])
def test_hard_masks(name: str, scores: str) -> None:
    assert_equals_reference(SCORES[scores](), MASKS[name]())


@pytest.mark.parametrize("shape", [(1, 1, 1), (3, 1, 1), (40, 1, 1), (2, 1, 30), (2, 30, 1), (1, 3, 17)])
@pytest.mark.parametrize("levels", [1, 2, 1000])
def test_small_and_flat_shapes(shape: tuple[int, int, int], levels: int) -> None:
    rng = np.random.default_rng(7)
    assert_equals_reference(rng.integers(0, levels, shape) / 3, rng.random(shape) < 0.4)


def test_constant_scores_have_the_values_of_chance() -> None:
    masks = blobs()
    p = masks.mean()
    scores = evaluate_class(np.zeros(SHAPE), masks, metrics=SEVEN[3:])
    expected = {"pixel/auroc": 0.5, "pixel/ap": p, "pixel/f1max": 2 * p / (1 + p), "pixel/aupro@0.3": 0.15}
    assert dict(scores) == pytest.approx(expected, abs=1e-12)


def test_a_perfect_detector_has_one_everywhere_and_its_negation_loses_every_pair() -> None:
    masks = blobs()
    images = masks.any(axis=(1, 2)).astype(float)
    assert set(evaluate_class(masks.astype(float), masks, images).values()) == {1.0}
    worst = evaluate_class(-masks.astype(float), masks, -images)
    zero = ("image/auroc", "pixel/auroc", "pixel/aupro@0.3")
    assert [worst[metric] for metric in zero] == [0.0, 0.0, 0.0]


def test_limit_inside_the_first_tie() -> None:
    # four of five negatives share the top score with half of the region: FPR 0.3 lies on the first ramp
    maps = np.array([[[2, 2, 1, 1, 2, 2, 2, 2, 0]]])
    masks = np.array([[[1, 1, 1, 1, 0, 0, 0, 0, 0]]])
    expected = 0.5 * (0.3 / 0.8) / 2
    assert evaluate_class(maps, masks)["pixel/aupro@0.3"] == pytest.approx(expected, abs=1e-12)


def test_diagonal_neighbours_are_one_region_and_images_are_apart() -> None:
    maps = np.zeros((2, 3, 3))
    masks = np.zeros((2, 3, 3), dtype=np.bool_)
    masks[0, 2, 2] = masks[0, 1, 1] = masks[1, 0, 0] = True
    maps[0, 1, 1] = maps[1, 0, 0] = 1
    maps[0, 2, 2] = -1
    # the diagonal pair is half found, the lone pixel of the next image wholly; three regions would give 2/3
    assert evaluate_class(maps, masks)["pixel/aupro@0.3"] == pytest.approx((1 / 2 + 1) / 2, abs=1e-12)


def test_negative_zero_equals_zero() -> None:
    maps = np.array([[[0.0, -0.0, 0.0, -0.0]]], dtype=np.float32)
    masks = np.array([[[1, 0, 0, 1]]])
    assert evaluate_class(maps, masks, metrics=SEVEN[3:6]) == {
        "pixel/auroc": 0.5,
        "pixel/ap": 0.5,
        "pixel/f1max": 2 / 3,
    }


def test_more_regions_than_sixteen_bits_count(monkeypatch: pytest.MonkeyPatch) -> None:
    # many pieces still, yet not one for each few pixels
    monkeypatch.setattr(regions, "PIECE", 5_000)
    monkeypatch.setattr(pieces, "PIECE", 2_000)
    masks = np.zeros((1, 514, 514), dtype=np.bool_)
    masks[:, ::2, ::2] = True
    assert masks.sum() > 65_535
    maps = np.random.default_rng(1).integers(0, 5000, masks.shape, dtype=np.uint16) + masks * np.uint16(900)
    scores = evaluate_class(maps, masks, metrics=["pixel/auroc", "pixel/aupro@1"])
    # when every region is one pixel, both are the share of pairs in order
    assert scores["pixel/aupro@1"] == pytest.approx(scores["pixel/auroc"], abs=1e-12)


def test_float64_is_not_ranked_as_float32() -> None:
    maps = 1 + np.arange(6).reshape(1, 2, 3) * np.finfo(np.float64).eps
    masks = np.array([[[0, 0, 0], [1, 1, 1]]])
    assert evaluate_class(maps, masks)["pixel/auroc"] == 1.0
    assert evaluate_class(maps.astype(np.float32), masks)["pixel/auroc"] == 0.5


def test_no_images_give_no_values() -> None:
    scores = evaluate_class(np.zeros((0, 4, 4)), np.zeros((0, 4, 4), dtype=bool), np.zeros(0), np.zeros(0, dtype=int))
    assert list(scores) == list(SEVEN)
    assert set(scores.values()) == {None}
