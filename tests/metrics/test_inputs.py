"""What is refused, what is accepted in another form, and what stays undefined with a reason."""

from __future__ import annotations

import subprocess
import sys
from typing import Any

import numpy as np
import pytest

from bench.errors import BenchError, UsageError
from bench.metrics import (
    IMAGE_SCORES,
    SEVEN,
    Defect,
    ScoreError,
    auspro,
    evaluate_class,
    find_regions,
    hardest_regions,
    image_aupro,
    mad,
    rank,
    roc_curve,
)

MAPS = np.random.default_rng(0).random((4, 5, 6)).astype(np.float32)
MASKS = np.zeros(MAPS.shape, dtype=np.bool_)
MASKS[1, 1:3, 1:4] = MASKS[3, 0, 0] = True
IMAGES = MAPS.max(axis=(1, 2))
IMAGE_IDS, PIXEL_IDS = SEVEN[:3], SEVEN[3:]
MIXED = MASKS.astype(np.uint8)
MIXED[1] *= 255

REFUSED: dict[str, tuple[dict[str, Any], str]] = {
    "nothing": ({"maps": None, "image_scores": None}, "neither maps nor image_scores"),
    "masks of another size": ({"masks": MASKS[:, :, :5]}, r"maps are \[4, 5, 6\] but masks are \[4, 5, 5\]"),
    "transposed masks": ({"masks": MASKS.swapaxes(1, 2)}, r"masks are \[4, 6, 5\]"),
    "fewer masks": ({"masks": MASKS[:3]}, r"masks are \[3, 5, 6\]"),
    "channel axis": ({"maps": MAPS[:, None]}, r"maps are \[4, 1, 5, 6\], expected \[N, H, W\]"),
    "one flat map": ({"maps": MAPS[0]}, r"maps are \[5, 6\], expected \[N, H, W\]"),
    "no pixels": ({"maps": MAPS[:, :0], "masks": MASKS[:, :0]}, "without pixels"),
    "masks 0/2": ({"masks": MASKS.astype(np.uint8) * 2}, "masks hold 0 and 2, expected 0 .* 1 or 255"),
    "masks 0/1/255": ({"masks": MIXED}, "masks hold 0, 1 and 255"),
    "masks -1": ({"masks": -MASKS.astype(np.int8)}, "masks hold -1 and 0"),
    "masks 254": ({"masks": np.where(MASKS, 255, 254).astype(np.uint8)}, "hold 254 and 255"),
    "soft masks": ({"masks": MASKS * np.float32(0.5)}, "masks hold 0 and 0.5"),
    "softer masks": ({"masks": np.where(MASKS, 1, MAPS)}, "masks hold .* and 27 more values up to 1,"),
    "masks with NaN": ({"masks": np.where(MASKS, np.nan, 0)}, "masks hold 0 and nan"),
    "maps and masks swapped": ({"maps": MASKS, "masks": MAPS}, "masks hold .* and 26 more values"),
    "masks of text": ({"masks": MASKS.astype(str)}, "masks have dtype <U5"),
    "maps that hide": ({"maps": np.ma.array(MAPS, mask=MASKS)}, "maps are a masked array that hides 7 of its values"),
    "masks that hide": ({"masks": np.ma.array(MASKS, mask=MASKS)}, "masks are a masked array that hides 7"),
    "a map that hides": ({"maps": [*MAPS[:3], np.ma.masked_less(MAPS[3], 0.5)]}, "maps are a masked array"),
    "image scores that hide": ({"image_scores": np.ma.masked_equal(IMAGES, IMAGES[1])}, "image_scores .* hides 1"),
    "labels that hide": ({"labels": [0, np.ma.masked, 0, 1]}, "labels are a masked array that hides 1"),
    "complex maps": ({"maps": MAPS.astype(np.complex64)}, "complex64"),
    "long double maps": ({"maps": MAPS.astype(np.longdouble)}, "expected float16, float32, float64"),
    "text": ({"maps": [[["high"]]], "masks": [[[1]]]}, "dtype <U4"),
    "ragged": ({"maps": [[[1, 2]], [[1]]]}, "cannot be read as one array"),
    "labels 2": ({"labels": [0, 1, 2, 1]}, "labels hold 0, 1 and 2, expected 0 .* which class numbers"),
    "labels +-1": ({"labels": [-1, 1, 1, 1]}, "labels hold -1 and 1"),
    "soft labels": ({"labels": [0.0, 1.0, 0.0, 0.9]}, "labels hold 0, 0.9 and 1"),
    "fewer labels": ({"labels": [0, 1, 1]}, "4 maps, 4 masks, 4 image_scores, 3 labels"),
    "more image scores": ({"image_scores": np.zeros(5)}, "5 image_scores"),
    "image scores [N, 1]": ({"image_scores": IMAGES[:, None]}, r"image_scores are \[4, 1\], expected \[N\]"),
    "image scores without labels": ({"masks": None}, "neither labels nor masks"),
    "whole numbers beside others": ({"image_scores": [2**60, 2**60 + 1, 2**60 + 2, 0.5]}, "beyond 2.53, of which"),
    "maps of two types": ({"maps": [*MAPS[:3], np.full((5, 6), 2**53 + 1)]}, "maps are a list of several types"),
    "one metric as text": ({"metrics": "pixel/auroc"}, "expected a list"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_misuse_is_refused(name: str) -> None:
    changed, message = REFUSED[name]
    with pytest.raises(UsageError, match=message):
        evaluate_class(**{"maps": MAPS, "masks": MASKS, "image_scores": IMAGES} | changed)


@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64])
def test_nan_in_a_map_names_the_image(dtype: type) -> None:
    maps = MAPS.astype(dtype)
    maps[2, 4, 5] = maps[3, 0, 0] = np.nan
    with pytest.raises(ScoreError, match=r"the map of image 2 holds NaN \(2 of 4 images") as caught:
        evaluate_class(maps, MASKS)
    assert caught.value.image == 2
    assert isinstance(caught.value, BenchError)
    assert caught.value.exit_code == 1


def test_nan_beside_infinity_is_still_found() -> None:
    maps = MAPS.copy()
    maps[1, 0, :3] = np.inf, np.nan, -np.inf
    with pytest.raises(ScoreError, match="image 1"):
        evaluate_class(maps, MASKS)


def test_nan_image_score_names_the_image() -> None:
    with pytest.raises(ScoreError, match="the image score of image 3"):
        evaluate_class(None, None, [0.1, 0.2, 0.3, float("nan")], [0, 1, 0, 1])


@pytest.mark.parametrize(
    "metrics", [SEVEN, SEVEN[:3], ["pixel/aupro@0.3:grid200"], ["pixel/aupro@0.3:grid200", *SEVEN]]
)
@pytest.mark.parametrize("masks", [MASKS, None, np.zeros_like(MASKS)])
def test_nan_is_found_whatever_is_asked_for(metrics: list[str], masks: Any) -> None:
    maps = MAPS.copy()
    maps[2, 0, 0] = np.nan
    with pytest.raises(ScoreError, match="the map of image 2"):
        evaluate_class(maps, masks, IMAGES, [0, 1, 0, 1], metrics=metrics)


def test_a_bool_array_made_of_other_bytes_counts_as_true() -> None:
    odd = (MASKS.astype(np.uint8) * 255).view(np.bool_)
    assert dict(evaluate_class(MAPS, odd, IMAGES)) == dict(evaluate_class(MAPS, MASKS, IMAGES))


def test_mask_and_label_types_do_not_matter() -> None:
    expected = dict(evaluate_class(MAPS, MASKS, IMAGES))
    for dtype in (np.uint8, np.int8, np.int64, np.uint32):
        labels = MASKS.any(axis=(1, 2)).astype(dtype)
        assert dict(evaluate_class(MAPS, MASKS.astype(dtype), IMAGES, labels)) == expected
    assert dict(evaluate_class(MAPS.tolist(), MASKS.tolist(), IMAGES.tolist())) == pytest.approx(expected, abs=1e-12)


@pytest.mark.parametrize("dtype", ["float16", "float32", "float64", ">f4", "uint8", "int16", "uint16", "int64"])
@pytest.mark.parametrize("mark", [1, 255, 65535])
def test_two_values_that_can_mean_one_thing_only_are_taken(dtype: str, mark: int) -> None:
    mark = min(mark, 2 ** (8 * np.dtype(dtype).itemsize) - 1) if dtype.startswith("u") else min(mark, 255)
    masks = MASKS.astype(dtype) * np.array(mark, dtype)
    labels = masks.max(axis=(1, 2))
    expected = dict(evaluate_class(MAPS, MASKS, IMAGES))
    assert dict(evaluate_class(MAPS, masks, IMAGES)) == expected
    assert dict(evaluate_class(MAPS, np.asfortranarray(masks), IMAGES, labels.tolist())) == expected
    assert dict(evaluate_class(MAPS, masks[:, :, ::-1], IMAGES)) == dict(
        evaluate_class(MAPS, MASKS[:, :, ::-1], IMAGES)
    )
    # what is anomalous is not changed in the caller's hands
    assert masks.max() == mark


def test_yes_and_no_are_scores_of_two_values() -> None:
    yes = MAPS > 0.6
    numbers = yes.astype(np.uint8)
    expected = evaluate_class(numbers, MASKS, numbers.max(axis=(1, 2)))
    assert 0.5 < expected["pixel/auroc"] < 1  # type: ignore[operator]
    assert dict(evaluate_class(yes, MASKS, yes.any(axis=(1, 2)))) == dict(expected)
    # bools that are made of other bytes than 0 and 1
    assert dict(evaluate_class((numbers * 255).view(np.bool_), MASKS, yes.any(axis=(1, 2)).tolist())) == dict(expected)


def test_a_masked_array_that_hides_nothing_is_one_like_any_other() -> None:
    given = np.ma.array(MAPS), np.ma.array(MASKS, mask=False), np.ma.array(IMAGES)
    assert dict(evaluate_class(*given)) == dict(evaluate_class(MAPS, MASKS, IMAGES))


def test_parts_of_the_engine_take_the_same_truth_as_the_whole() -> None:
    expected = rank(MAPS.ravel(), MASKS.ravel(), "pixel"), find_regions(MASKS)
    worst = hardest_regions(MASKS, *expected)
    for masks in (MASKS.astype(np.uint8), MASKS.astype(np.uint8) * 255, MASKS.astype(np.float32)):
        ranks, regions = rank(MAPS.ravel(), masks.ravel(), "pixel"), find_regions(masks)
        assert regions.index.tolist() == expected[1].index.tolist()
        assert roc_curve(ranks).area == roc_curve(expected[0]).area
        assert hardest_regions(masks, ranks, regions) == worst
        assert np.nanmean(image_aupro(masks, ranks, regions)) == np.nanmean(image_aupro(MASKS, *expected))
        whole = [Defect(3, masks[3], 1)]
        assert auspro(MAPS, whole) == auspro(MAPS, [Defect(3, MASKS[3], 1)])
    with pytest.raises(UsageError, match="positive hold 0, 1 and 255"):
        rank(MAPS.ravel(), MIXED.ravel(), "pixel")
    with pytest.raises(UsageError, match="120 scores and 90 marks"):
        rank(MAPS.ravel(), MASKS[:3].ravel(), "pixel")


def test_image_scores_are_not_taken_from_maps_that_hide_pixels() -> None:
    for rule in IMAGE_SCORES.values():
        maps = MAPS.repeat(4, axis=1).repeat(4, axis=2)
        assert rule(np.ma.array(maps)).tolist() == rule(maps).tolist()
        assert rule(maps > 0.5).tolist() == rule((maps > 0.5).astype(np.uint8)).tolist()
        with pytest.raises(UsageError, match="maps are a masked array that hides"):
            rule(np.ma.masked_greater(maps, 0.5))


def test_given_labels_outrank_the_masks() -> None:
    # the dataset calls image 0 anomalous although nothing of its mask is left
    labels = [1, 0, 0, 0]
    alone = evaluate_class(None, None, IMAGES, labels, metrics=IMAGE_IDS)
    assert dict(evaluate_class(MAPS, MASKS, IMAGES, labels, metrics=IMAGE_IDS)) == dict(alone)
    assert dict(evaluate_class(MAPS, MASKS, IMAGES, metrics=IMAGE_IDS)) != dict(alone)


def test_image_level_only() -> None:
    scores = evaluate_class(None, None, [0.9, 0.1, 0.4], [1, 0, 0])
    assert [scores[metric] for metric in IMAGE_IDS] == [1.0, 1.0, 1.0]
    assert scores.reasons == dict.fromkeys(PIXEL_IDS, "no anomaly maps")
    assert mad(scores) is None


def test_a_printed_result_shows_values_and_reasons() -> None:
    scores = evaluate_class(None, None, [0.9, 0.1], [0, 0], metrics=["image/ap"])
    assert repr(scores) == "Scores({'image/ap': None}, reasons={'image/ap': 'no anomalous image'})"


def test_maps_without_masks_or_image_scores() -> None:
    assert evaluate_class(MAPS, None, IMAGES, [0, 1, 0, 1]).reasons == dict.fromkeys(PIXEL_IDS, "no masks given")
    assert evaluate_class(MAPS, MASKS).reasons == dict.fromkeys(IMAGE_IDS, "no image scores given")


def test_undefined_without_anomalies() -> None:
    scores = evaluate_class(MAPS, np.zeros_like(MASKS), IMAGES)
    assert scores.reasons == dict.fromkeys(IMAGE_IDS, "no anomalous image") | dict.fromkeys(
        PIXEL_IDS, "no anomalous pixel"
    )
    assert set(scores.values()) == {None}


def test_undefined_without_normals_but_precision_is_one() -> None:
    scores = evaluate_class(MAPS, np.ones_like(MASKS), IMAGES)
    assert {metric: scores[metric] for metric in scores if scores[metric] is not None} == {
        "image/ap": 1.0,
        "image/f1max": 1.0,
        "pixel/ap": 1.0,
        "pixel/f1max": 1.0,
    }
    assert scores.reasons == {
        "image/auroc": "no normal image",
        "pixel/auroc": "no normal pixel",
        "pixel/aupro@0.3": "no normal pixel",
    }


def test_mad_is_the_plain_mean_of_the_seven_and_nothing_less() -> None:
    scores = evaluate_class(MAPS, MASKS, IMAGES, metrics=[*SEVEN, "pixel/aupro@0.1"])
    assert mad(scores) == pytest.approx(np.mean([scores[metric] for metric in SEVEN]), abs=1e-15)
    assert mad(evaluate_class(MAPS, MASKS, IMAGES, metrics=SEVEN[1:])) is None
    assert mad({**dict(scores), "pixel/ap": None}) is None


def test_only_what_is_asked_for_is_returned_in_that_order() -> None:
    asked = ["pixel/aupro@0.05", "image/ap", "pixel/ap", "image/ap"]
    assert list(evaluate_class(MAPS, MASKS, IMAGES, metrics=asked)) == asked[:3]
    assert dict(evaluate_class(MAPS, MASKS, metrics=iter(asked[2:3]))).keys() == {"pixel/ap"}


def test_a_tensor_is_read_like_an_array_and_one_with_a_gradient_is_refused() -> None:
    torch = pytest.importorskip("torch")
    tensors = torch.from_numpy(MAPS), torch.from_numpy(MASKS), torch.from_numpy(IMAGES)
    assert dict(evaluate_class(*tensors)) == dict(evaluate_class(MAPS, MASKS, IMAGES))
    with pytest.raises(UsageError, match="detached"):
        evaluate_class(tensors[0].clone().requires_grad_(), MASKS)


def test_floats_that_numpy_does_not_have_are_taken_from_tensors() -> None:
    torch = pytest.importorskip("torch")
    for dtype in (torch.bfloat16, torch.float8_e5m2):
        maps, images = torch.from_numpy(MAPS).to(dtype), torch.from_numpy(IMAGES).to(dtype)
        expected = evaluate_class(maps.float(), MASKS, images.float())
        assert dict(evaluate_class(maps, torch.from_numpy(MASKS).to(dtype), images)) == dict(expected)


def test_metrics_load_no_torch_and_no_scikit_learn() -> None:
    code = "import sys, bench.metrics; sys.exit(bool({'torch', 'sklearn'} & sys.modules.keys()))"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
