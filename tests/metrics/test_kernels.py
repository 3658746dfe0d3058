"""The fast way of ranking and of finding regions against the plain one: the same integers, bit for bit."""

from __future__ import annotations

import os
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import ndimage

from bench.errors import ScoreError
from bench.metrics import buckets, evaluate_class, pieces, regions, workers
from bench.metrics.ranking import rank_by_sorting, rank_pieces
from bench.metrics.ranks import NanScore, Ranks
from bench.metrics.regions import find_marked, gather

Array = npt.NDArray[Any]
DTYPES = ("float16", "float32", "float64", "uint8", "int16", "uint16", "int32", "uint32", "int64", "uint64")


@pytest.fixture(autouse=True)
def small_steps(monkeypatch: pytest.MonkeyPatch) -> None:
    """Use the kernels for everything, in two threads, many pieces and several rounds."""
    monkeypatch.setattr(buckets, "_WORTH", 0)
    monkeypatch.setattr(buckets, "ROUND", 1 << 14)
    monkeypatch.setattr(regions, "_WORTH", 0)
    monkeypatch.setattr(regions, "PIECE", 1 << 12)
    monkeypatch.setattr(pieces, "PIECE", 1 << 12)
    monkeypatch.setattr(workers, "thread_count", lambda: 2)
    monkeypatch.setattr(buckets, "thread_count", lambda: 2)


def counted(maps: Array, masks: Array) -> Ranks | None:
    return buckets.rank_by_counting(gather(maps, find_marked(masks)), pieces.ArrayPieces(maps), "pixel")


def assert_equal(found: Ranks | None, expected: Ranks) -> None:
    assert found is not None
    for name in ("order", "above", "at_least", "hits"):
        np.testing.assert_array_equal(getattr(found, name), getattr(expected, name), err_msg=name)
    assert (found.positives, found.negatives) == (expected.positives, expected.negatives)


def maps_of(kind: str, rng: np.random.Generator, shape: tuple[int, ...]) -> Array:
    """Scores in float64 whose spread makes buckets dense, sparse, few or many."""
    match kind:
        case "gamma":
            return rng.gamma(2.0, size=shape)
        case "around zero":
            return rng.normal(size=shape)
        case "every exponent":
            return rng.choice([-1.0, 1.0], shape) * np.exp2(rng.uniform(-140, 126, shape))
        case "ties":
            return rng.integers(0, 5, shape) / 4
        case "narrow":
            return 90 + rng.random(shape) * 1e-4
    raise AssertionError(kind)


KINDS = ("gamma", "around zero", "every exponent", "ties", "narrow")


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("density", [1e-3, 0.03, 0.7])
def test_counting_equals_sorting(kind: str, density: float) -> None:
    rng = np.random.default_rng(5)
    maps = maps_of(kind, rng, (12, 64, 64)).astype(np.float32)
    masks = rng.random(maps.shape) < density
    assert_equal(counted(maps, masks), rank_by_sorting(maps[masks], pieces.ArrayPieces(maps), "pixel"))


@pytest.mark.parametrize("separation", [0.0, 3.0, 50.0])
def test_counting_in_one_round_of_many_scores_equals_sorting(
    separation: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(buckets, "ROUND", 1 << 26)
    monkeypatch.setattr(pieces, "PIECE", 1 << 20)
    rng = np.random.default_rng(5)
    maps = rng.gamma(2.0, size=(20, 300, 301)).astype(np.float32)
    masks = ndimage.uniform_filter(rng.random(maps.shape), (0, 9, 9)) > 0.54
    maps[masks] += separation
    assert 0.001 < masks.mean() < 0.2
    assert_equal(counted(maps, masks), rank_by_sorting(maps[masks], pieces.ArrayPieces(maps), "pixel"))


@given(
    dtype=st.sampled_from(DTYPES),
    seed=st.integers(0, 2**32 - 1),
    shape=st.tuples(st.integers(1, 5), st.integers(1, 40), st.integers(1, 40)),
    scale=st.sampled_from((1.0, 50.0, 1e4)),
    density=st.sampled_from((0.01, 0.2, 1.0)),
    kind=st.sampled_from(KINDS),
)
@settings(max_examples=300, deadline=None)
def test_every_dtype_and_shape(
    dtype: str, seed: int, shape: tuple[int, int, int], scale: float, density: float, kind: str
) -> None:
    rng = np.random.default_rng(seed)
    exact = maps_of(kind, rng, shape) * scale
    with np.errstate(over="ignore"):
        maps = (exact if dtype.startswith("f") else np.clip(exact, 0, 200)).astype(dtype)
    masks = rng.random(shape) < density
    expected = rank_by_sorting(maps[masks], pieces.ArrayPieces(maps), "pixel")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(buckets, "_WORTH", 0)
        found = counted(maps, masks)
    if found is None:  # left to sorting, which these may be
        assert not masks.any() or (maps.dtype == np.float64 and (maps != maps.astype(np.float32)).any())
    else:
        assert_equal(found, expected)


@pytest.mark.parametrize("dtype", ["int32", "uint32", "int64", "uint64"])
@pytest.mark.parametrize("end", ["min", "max"])
def test_integers_at_the_ends_of_their_range(dtype: str, end: str) -> None:
    rng = np.random.default_rng(2)
    limits = np.iinfo(dtype)
    low = limits.min if end == "min" else limits.max - 9
    maps = (low + rng.integers(0, 10, (4, 20, 20)).astype(object)).astype(dtype)
    masks = rng.random(maps.shape) < 0.2
    maps[~masks & (rng.random(maps.shape) < 0.3)] = limits.min
    maps[~masks & (rng.random(maps.shape) < 0.3)] = limits.max
    assert_equal(counted(maps, masks), rank_by_sorting(maps[masks], pieces.ArrayPieces(maps), "pixel"))


@pytest.mark.parametrize("way", ["reversed", "transposed", "strided", "read-only"])
def test_memory_layout_does_not_matter(way: str) -> None:
    rng = np.random.default_rng(3)
    plain = rng.gamma(2.0, size=(9, 50, 40)).astype(np.float32)
    marks = rng.random(plain.shape) < 0.05
    wide = np.repeat(plain, 2, axis=2)
    other, masks = {
        "reversed": (plain[::-1, :, ::-1], marks[::-1, :, ::-1]),
        "transposed": (plain.transpose(0, 2, 1), marks.transpose(0, 2, 1)),
        "strided": (wide[:, :, ::2], marks),
        "read-only": (np.frombuffer(plain.tobytes(), np.float32).reshape(plain.shape), marks),
    }[way]
    copy, copied_masks = np.ascontiguousarray(other), np.ascontiguousarray(masks)
    expected = rank_by_sorting(copy[copied_masks], pieces.ArrayPieces(copy), "pixel")
    assert_equal(counted(other, masks), expected)
    assert_equal(counted(copy, copied_masks), expected)


@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64])
@pytest.mark.parametrize("sign", [1.0, -1.0])
@pytest.mark.parametrize("positive", [False, True])
def test_nan_is_met_wherever_it_is(dtype: type, sign: float, positive: bool) -> None:
    rng = np.random.default_rng(4)
    maps = rng.gamma(2.0, size=(6, 30, 30)).astype(np.float32).astype(dtype)
    masks = rng.random(maps.shape) < 0.1
    maps[tuple(np.argwhere(masks == positive)[-1])] = np.copysign(np.nan, sign)
    with pytest.raises(NanScore):
        rank_pieces(gather(maps, find_marked(masks)), pieces.ArrayPieces(maps), "pixel")
    with pytest.raises(NanScore):
        rank_by_sorting(maps[masks], pieces.ArrayPieces(maps), "pixel")


def test_infinities_are_not_nan() -> None:
    rng = np.random.default_rng(4)
    maps = rng.choice(np.array([-np.inf, -1, 0, 1, np.inf], dtype=np.float32), (6, 30, 30))
    masks = rng.random(maps.shape) < 0.1
    assert_equal(counted(maps, masks), rank_by_sorting(maps[masks], pieces.ArrayPieces(maps), "pixel"))


def assert_regions_as_scipy(masks: Array) -> None:
    found = find_marked(masks)
    np.testing.assert_array_equal(found.where, np.flatnonzero(masks))
    index: list[int] = []
    count = 0
    for mask in masks:
        labelled, new = ndimage.label(mask, structure=np.ones((3, 3)))
        index.extend(labelled[mask] - 1 + count)
        count += new
    assert len(found.regions.areas) == count
    areas = np.bincount(np.array(index, dtype=np.int64), minlength=count)
    # the numbers of two regions may be swapped, their pixels may not
    pairs = np.unique(np.stack([found.regions.index, index]), axis=1) if index else np.zeros((2, 0), dtype=int)
    assert pairs.shape[1] == count
    np.testing.assert_array_equal(found.regions.areas[pairs[0]], areas[pairs[1]])


@given(
    seed=st.integers(0, 2**32 - 1),
    shape=st.tuples(st.integers(1, 4), st.integers(1, 33), st.integers(1, 33)),
    density=st.sampled_from((0.0, 0.02, 0.2, 0.4, 0.6, 0.9, 1.0)),
)
@settings(max_examples=300, deadline=None)
def test_regions_equal_those_of_scipy(seed: int, shape: tuple[int, int, int], density: float) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(regions, "_WORTH", 0)
        patch.setattr(regions, "PIECE", 300)
        assert_regions_as_scipy(np.random.default_rng(seed).random(shape) < density)


def spiral(size: int) -> Array:
    mask = np.zeros((size, size), dtype=np.bool_)
    y, x, dy, dx = 0, 0, 0, 1
    for length in [size - 1, *(step for inner in range(size - 1, 1, -2) for step in (inner, inner)), 1]:
        for _ in range(length):
            mask[y % size, x % size] = True
            y, x = y + dy, x + dx
        dy, dx = dx, -dy
    return mask


@pytest.mark.parametrize("name", ["spiral", "comb", "comb upside down", "checkerboard", "dots", "diagonals"])
def test_tangled_regions(name: str) -> None:
    y, x = np.indices((64, 64))
    comb = (x % 2 == 0) | (y == 63)
    mask = {
        "spiral": spiral(64),
        "comb": comb,
        "comb upside down": comb[::-1],
        "checkerboard": (x + y) % 2 == 0,
        "dots": (x % 2 == 0) & (y % 2 == 0),
        "diagonals": (x + y) % 7 == 0,
    }[name]
    assert_regions_as_scipy(np.stack([mask, mask.T, mask[:, ::-1]]))


def test_masks_at_an_odd_address() -> None:
    memory = np.zeros(3 * 16 * 16 + 1, dtype=np.bool_)
    masks = memory[1:].reshape(3, 16, 16)
    masks[1, 2:5, 3:6] = True
    assert_regions_as_scipy(masks)


def some_class(seed: int) -> tuple[Array, Array, Array]:
    rng = np.random.default_rng(seed)
    maps = rng.gamma(2.0, size=(10, 40, 40)).astype(np.float32)
    return maps, rng.random(maps.shape) < 0.05, maps.max(axis=(1, 2))


def test_several_threads_may_evaluate_at_once() -> None:
    expected = [dict(evaluate_class(*some_class(seed))) for seed in range(6)]
    with ThreadPoolExecutor(6) as pool:
        for _ in range(5):
            assert list(pool.map(lambda seed: dict(evaluate_class(*some_class(seed))), range(6))) == expected


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system does not fork")
@pytest.mark.filterwarnings("ignore:.*fork:DeprecationWarning")
def test_a_forked_process_may_evaluate() -> None:
    expected = dict(evaluate_class(*some_class(1)))
    child = os.fork()
    if child == 0:
        os._exit(0 if dict(evaluate_class(*some_class(1))) == expected else 1)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0


def test_a_nan_is_named_by_the_fast_way_too() -> None:
    maps, masks, scores = some_class(1)
    maps[7, 3, 3] = np.nan
    with pytest.raises(ScoreError, match="the map of image 7"):
        evaluate_class(maps, masks, scores)


def test_compiled_kernels_lie_in_the_cache_folder_and_need_no_torch(tmp_path: Path) -> None:
    code = (
        "import sys, numpy as np\n"
        "from bench.metrics import evaluate_class\n"
        "assert 'numba' not in sys.modules\n"
        "maps = np.random.default_rng(0).random((17, 256, 256))\n"
        "masks = maps > 0.99\n"
        "assert evaluate_class(maps.astype(np.float32), masks)['pixel/auroc'] == 1\n"
        "assert 'numba' in sys.modules and 'torch' not in sys.modules\n"
        "from numba.core import config; assert not config.CACHE_DIR\n"
    )
    environment = {name: value for name, value in os.environ.items() if not name.startswith("NUMBA_CACHE")}
    run = {"check": True, "cwd": tmp_path, "env": {**environment, "BENCH_CACHE": str(tmp_path / "cache")}}
    subprocess.run([sys.executable, "-c", code], **run)
    compiled = {path: path.stat().st_mtime_ns for path in (tmp_path / "cache" / "kernels").rglob("*.nbc")}
    assert len(compiled) >= 4
    package = Path(buckets.__file__).parent
    assert not list(package.rglob("*.nbc"))
    subprocess.run([sys.executable, "-c", code], **run)
    assert {path: path.stat().st_mtime_ns for path in (tmp_path / "cache" / "kernels").rglob("*.nbc")} == compiled


@pytest.mark.parametrize(("chosen", "most"), [("1", 1), ("3", 3), ("", 16), ("0", 1), ("many", 16)])
def test_the_number_of_threads_can_be_chosen(chosen: str, most: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.undo()
    monkeypatch.setenv("NUMBA_NUM_THREADS", chosen)
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    assert workers.thread_count() == min(most, cores)
