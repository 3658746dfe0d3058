"""The same bits as the one-shot call, in any chunking, with bounded memory."""

from __future__ import annotations

import importlib
import itertools
import tempfile
import tracemalloc
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bench.errors import ScoreError, StoreError, UsageError
from bench.metrics import SEVEN, Accumulator, Scores, accumulate, buckets, evaluate_class, regions

Array = npt.NDArray[Any]
METRICS = (*SEVEN, "pixel/aupro@0.05", "pixel/aupro@1")


@pytest.fixture(scope="module", autouse=True, params=["sorting", "counting"])
def engine(request: pytest.FixtureRequest) -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        if request.param == "counting":
            patch.setattr(buckets, "_WORTH", 0)
            patch.setattr(buckets, "ROUND", 5000)
            patch.setattr(regions, "_WORTH", 0)
        patch.setattr(accumulate, "PIECE", 700)
        yield


def some_class(seed: int, dtype: str = "float32", images: int = 12) -> tuple[Array, Array, Array]:
    rng = np.random.default_rng(seed)
    masks = rng.random((images, 20, 30)) < 0.06 * rng.integers(0, 2, (images, 1, 1))
    maps = (rng.gamma(2.0, size=masks.shape) * 20 + masks * 15).astype(dtype)
    return maps, masks, maps.reshape(images, -1).max(axis=1)


def streamed(cuts: list[int], *arrays: Array | None, buffer: int = 10_000) -> Scores:
    accumulator = Accumulator(METRICS, buffer=buffer)
    length = max(len(array) for array in arrays if array is not None)
    for start, stop in itertools.pairwise([0, *sorted(cuts), length]):
        accumulator.update(*(None if array is None else array[start:stop] for array in arrays))
    return accumulator.compute()


def assert_same_bits(found: Scores, expected: Scores) -> None:
    assert dict(found) == dict(expected)
    assert found.reasons == expected.reasons


@given(
    seed=st.integers(0, 2**32 - 1),
    dtype=st.sampled_from(("float16", "float32", "float64", "uint8", "int32", "uint64", "bool")),
    cuts=st.lists(st.integers(0, 12), max_size=6),
    buffer=st.sampled_from((0, 3000, 10_000, 1 << 20)),
)
@settings(max_examples=60, deadline=None)
def test_any_chunking_gives_the_bits_of_one_call(seed: int, dtype: str, cuts: list[int], buffer: int) -> None:
    data = some_class(seed, dtype)
    assert_same_bits(streamed(cuts, *data, buffer=buffer), evaluate_class(*data, metrics=METRICS))


@pytest.mark.parametrize("spread", ["every exponent", "one outlier", "float64 that float32 merges", "infinities"])
@pytest.mark.parametrize("buffer", [0, 20_000])
def test_no_range_of_scores_makes_it_inexact(spread: str, buffer: int) -> None:
    maps, masks, _ = some_class(1, "float64")
    rng = np.random.default_rng(0)
    if spread == "every exponent":
        maps = (np.exp2(rng.uniform(-140, 126, maps.shape)) * rng.choice([-1, 1], maps.shape)).astype(np.float32)
    elif spread == "one outlier":
        maps[0, 0, 0] = 1e300
    elif spread == "infinities":
        maps[3, :2], maps[4, :2] = np.inf, -np.inf
    else:
        maps = 1 + maps * 1e-14
    data = maps, masks, maps.max(axis=(1, 2))
    assert_same_bits(streamed([1, 5], *data, buffer=buffer), evaluate_class(*data, metrics=METRICS))


@pytest.mark.parametrize(
    "without", [("maps",), ("masks",), ("image_scores",), ("maps", "masks"), ("image_scores", "labels")]
)
def test_what_is_missing_is_undefined_as_in_one_call(without: tuple[str, ...]) -> None:
    maps, masks, scores = some_class(2)
    given = {"maps": maps, "masks": masks, "image_scores": scores, "labels": masks.any(axis=(1, 2))}
    data = [None if name in without else array for name, array in given.items()]
    assert_same_bits(streamed([4], *data), evaluate_class(*data, metrics=METRICS))


@pytest.mark.parametrize("value", [False, True])
def test_a_class_of_one_kind_is_undefined_as_in_one_call(value: bool) -> None:
    maps, masks, scores = some_class(2)
    data = maps, np.full_like(masks, value), scores
    assert_same_bits(streamed([4], *data), evaluate_class(*data, metrics=METRICS))


def test_empty_chunks_add_nothing_and_an_empty_class_has_no_values() -> None:
    data = some_class(3)
    assert_same_bits(streamed([0, 0, 5, 5, 12], *data), evaluate_class(*data, metrics=METRICS))
    empty = tuple(array[:0] for array in data)
    assert_same_bits(streamed([], *empty), evaluate_class(*empty, metrics=METRICS))


def test_more_may_be_added_after_computing() -> None:
    maps, masks, scores = some_class(4)
    accumulator = Accumulator(METRICS, buffer=5000)
    for stop in range(1, len(maps) + 1):
        accumulator.update(maps[stop - 1 : stop], masks[stop - 1 : stop], scores[stop - 1 : stop])
        assert_same_bits(
            accumulator.compute(), evaluate_class(maps[:stop], masks[:stop], scores[:stop], metrics=METRICS)
        )
        assert dict(accumulator.compute()) == dict(accumulator.compute())


def test_what_was_passed_may_be_overwritten() -> None:
    maps, masks, scores = some_class(5)
    expected = evaluate_class(maps, masks, scores, metrics=METRICS)
    accumulator = Accumulator(METRICS)
    accumulator.update(maps, masks, scores)
    maps[:], masks[:], scores[:] = 0, False, 0
    assert_same_bits(accumulator.compute(), expected)


def test_images_may_differ_in_size() -> None:
    maps, masks, _ = some_class(6)
    whole = Accumulator(SEVEN[3:])
    whole.update(maps, masks)
    halves = Accumulator(SEVEN[3:])
    for rows, columns in ((slice(0, 20), slice(0, 13)), (slice(0, 9), slice(13, 30)), (slice(9, 20), slice(13, 30))):
        halves.update(maps[:, rows, columns], masks[:, rows, columns])
    # cut into parts the regions differ, the pixels do not
    assert [halves.compute()[metric] for metric in SEVEN[3:6]] == [whole.compute()[metric] for metric in SEVEN[3:6]]


def test_nan_names_the_image_and_leaves_the_chunk_out() -> None:
    maps, masks, scores = some_class(7)
    accumulator = Accumulator(METRICS)
    accumulator.update(maps[:5], masks[:5], scores[:5])
    bad = maps[5:].copy()
    bad[2, 0, 0] = np.nan
    with pytest.raises(ScoreError, match="the map of image 7 holds NaN") as caught:
        accumulator.update(bad, masks[5:], scores[5:])
    assert caught.value.image == 7
    with pytest.raises(ScoreError, match="the image score of image 6"):
        accumulator.update(maps[5:], masks[5:], np.where(np.arange(7) == 1, np.nan, scores[5:]))
    accumulator.update(maps[5:], masks[5:], scores[5:])
    assert_same_bits(accumulator.compute(), evaluate_class(maps, masks, scores, metrics=METRICS))


def test_misuse_is_refused() -> None:
    maps, masks, scores = some_class(8)
    with pytest.raises(UsageError, match=r"found no images, expected an update\(\)"):
        Accumulator().compute()
    with pytest.raises(UsageError, match=r"found pixel/aupro@0.3:grid200, expected exact metrics"):
        Accumulator(["pixel/ap", "pixel/aupro@0.3:grid200"])
    accumulator = Accumulator()
    accumulator.update(maps, masks, scores)
    with pytest.raises(UsageError, match=r"maps \(float64\).*first update\(\) gave: maps \(float32\)"):
        accumulator.update(maps.astype(np.float64), masks, scores)
    with pytest.raises(UsageError, match=r"found maps \(float32\), masks \(bool\), labels"):
        accumulator.update(maps, masks)
    with pytest.raises(UsageError, match="masks are"):
        accumulator.update(maps, masks[:, :5], scores)
    with pytest.raises(UsageError, match="maps are a masked array that hides"):
        accumulator.update(np.ma.masked_greater(maps, maps.mean()), masks, scores)
    # all at once they would hold 0, 1 and 255
    with pytest.raises(UsageError, match=r"masks of 0 and 255, expected 0 and 1 as in an earlier update\(\)"):
        accumulator.update(maps, masks * np.uint8(255), scores)


def test_masks_may_come_in_any_form_that_says_one_thing() -> None:
    maps, masks, scores = some_class(8)
    accumulator = Accumulator(METRICS)
    for start in range(0, len(maps), 5):
        part = slice(start, start + 5)
        accumulator.update(maps[part], masks[part] * np.float32(255), scores[part])
    assert_same_bits(accumulator.compute(), evaluate_class(maps, masks, scores, metrics=METRICS))


def test_a_full_disk_is_reported(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "missing"))
    with pytest.raises(StoreError, match=r"no room for the scores of a class.*TMPDIR"):
        Accumulator(buffer=0).update(*some_class(9))


def test_state_does_not_grow_with_normal_pixels(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    monkeypatch.setattr(accumulate, "PIECE", 1 << 16)
    monkeypatch.setattr(buckets, "ROUND", 1 << 17)
    rng = np.random.default_rng(0)
    maps = rng.random((4, 256, 256), dtype=np.float32)
    masks = np.zeros(maps.shape, dtype=np.bool_)
    masks[0, :10, :10] = True
    accumulator = Accumulator(SEVEN[3:], buffer=1 << 19)
    accumulator.update(maps, masks)
    masks[:] = False
    importlib.import_module("bench.metrics.kernels")  # what loading them takes is not state
    tracemalloc.start()
    try:
        for _ in range(12):
            accumulator.update(maps, masks)
        grown, _ = tracemalloc.get_traced_memory()
        tracemalloc.reset_peak()
        scores = accumulator.compute()
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    # 12.6 MB of scores went to the file, which has no name
    assert grown < 200_000
    assert peak - grown < 2_000_000
    assert not list(tmp_path.iterdir())
    assert scores["pixel/auroc"] is not None
