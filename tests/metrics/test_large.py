"""More anomalous pixels than are ranked at once: the same bits, and memory that they hardly move."""

from __future__ import annotations

import importlib
import tracemalloc
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bench.errors import ScoreError
from bench.metrics import buckets, evaluate_class, find_regions, large, pieces, pro_curve, rank, ranks, roc_curve, slabs
from bench.metrics.large import rank_large

METRICS = (
    *("pixel/auroc", "pixel/ap", "pixel/f1max", "pixel/aupro@0.3", "pixel/aupro@0.05", "pixel/aupro@1"),
    *("pixel/fpr@recall0.95", "pixel/fpr@recall0.3", "pixel/fpr@recall1", "pixel/ioumax"),
)
DTYPES = ("float16", "float32", "float64", "float64 near 1", "float64 of float32", "uint8", "int16", "uint32", "int64")


@contextmanager
def at_once(most: int, block: int = 5, worth: int = 0, step: int = 40) -> Iterator[None]:
    """Rank so many positives at once, in small blocks and pieces."""
    with pytest.MonkeyPatch.context() as patch:
        for name in ("MAX_RANKED", "MAX_RANKED_WIDE"):
            patch.setattr(large, name, most)
        for module in (large, slabs):
            patch.setattr(module, "_STEP", step)
        for module in (large, ranks):
            patch.setattr(module, "BLOCK", block)
        patch.setattr(buckets, "_WORTH", worth)
        patch.setattr(pieces, "PIECE", 50)
        yield


def some_class(seed: int, dtype: str, share: float, levels: int) -> tuple[Any, Any]:
    rng = np.random.default_rng(seed)
    masks = rng.random((5, 9, 8)) < share
    masks[2] = False
    values = np.round((rng.normal(size=masks.shape) + masks) * levels) / levels
    if seed % 3 == 0:
        values = np.minimum(values, 0.5)  # saturated: most anomalous pixels have one score
    kind = dtype.split()[0]
    if dtype == "float64 near 1":
        return 1 - 1e-9 * values, masks
    if dtype == "int64":
        return (values * 2.0**60).astype(kind), masks
    if kind.startswith("float"):
        maps = values.astype("float32" if "of" in dtype else kind).astype(kind)
        maps.flat[:4] = np.inf, -np.inf, -0.0, 0.0
        return maps, masks
    return np.clip(values * 20 + 100, 0, 250).astype(kind), masks


@given(
    seed=st.integers(0, 2**32 - 1),
    dtype=st.sampled_from(DTYPES),
    share=st.sampled_from([0.05, 0.5, 0.95, 1.0]),
    levels=st.sampled_from([1, 3, 1000]),
    most=st.sampled_from([5, 20, 60]),
    worth=st.sampled_from([0, 1 << 20]),
)
@settings(max_examples=60, deadline=None)
def test_the_same_bits_as_all_at_once(seed: int, dtype: str, share: float, levels: int, most: int, worth: int) -> None:
    maps, masks = some_class(seed, dtype, share, levels)
    with at_once(1 << 20, worth=worth):
        expected = evaluate_class(maps, masks, metrics=METRICS)
    with at_once(most, worth=worth):
        found = evaluate_class(maps, masks, metrics=METRICS)
    assert dict(found) == dict(expected) and found.reasons == expected.reasons


@pytest.mark.parametrize("dtype", DTYPES)
def test_who_asks_for_the_arrays_gets_them(dtype: str) -> None:
    maps, masks = some_class(4, dtype, 0.5, 1000)
    expected, regions = rank(maps.ravel(), masks.ravel(), "pixel"), find_regions(masks)
    with at_once(20):
        found, parts = rank_large(maps, masks)
        for name in ("order", "above", "at_least", "hits"):
            assert getattr(found, name).tolist() == getattr(expected, name).tolist()
        assert (found.positives, found.negatives) == (expected.positives, expected.negatives)
        assert parts.index.tolist() == regions.index.tolist() and parts.areas.tolist() == regions.areas.tolist()
        assert roc_curve(found).area == roc_curve(expected).area
        assert pro_curve(found, parts).area == pro_curve(expected, regions).area


@pytest.mark.parametrize("dtype", ["float16", "float32", "float64"])
@pytest.mark.parametrize("anomalous", [False, True])
def test_nan_names_the_image(dtype: str, anomalous: bool) -> None:
    maps, masks = some_class(1, dtype, 0.5, 1000)
    maps[3][masks[3] == anomalous] = np.nan
    for most in (1, 20):
        with at_once(most), pytest.raises(ScoreError, match="the map of image 3 holds NaN"):
            evaluate_class(maps, masks, metrics=METRICS)


def peak(maps: Any, masks: Any) -> int:
    tracemalloc.start()
    try:
        evaluate_class(maps, masks, metrics=METRICS[:4])
        return tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize("dtype", ["float32", "float64", "uint8"])
def test_memory_hardly_grows_with_the_anomalous_pixels(monkeypatch: pytest.MonkeyPatch, dtype: str) -> None:
    rng = np.random.default_rng(0)
    maps = (rng.random((12, 256, 256), dtype=np.float32) * 200).astype(dtype)
    if dtype == "float64":
        maps += rng.random(maps.shape) * 1e-9  # no float32 holds them
    importlib.import_module("bench.metrics.kernels")  # what loading them takes is not the metrics'
    monkeypatch.setattr(buckets, "ROUND", 1 << 17)
    monkeypatch.setattr(pieces, "PIECE", 1 << 16)
    for module in (large, slabs):
        monkeypatch.setattr(module, "_STEP", 1 << 16)
    for name in ("MAX_RANKED", "MAX_RANKED_WIDE"):
        monkeypatch.setattr(large, name, 1 << 14)
    kept = 9 if dtype == "float64" else 5
    grown = {}
    for share in (0.25, 1.0):
        masks = np.zeros(maps.shape, dtype=np.bool_)
        masks[:, : round(256 * share)] = True
        grown[share] = peak(maps, masks) - kept * int(masks.sum())
    # all at once they would take 9 and 35 MB
    assert grown[1.0] < grown[0.25] + 2_000_000 < 20_000_000
