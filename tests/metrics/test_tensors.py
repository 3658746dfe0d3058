"""The torch path on the CPU: the same ranks and values as from arrays."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bench.errors import UsageError
from bench.metrics import SEVEN, ScoreError, Scores, evaluate_class, rank
from bench.metrics import tensors as module
from bench.metrics.tensors import evaluate_tensors, on_accelerator, rank_tensor

torch = pytest.importorskip("torch")
METRICS = (*SEVEN, "pixel/aupro@0.05", "pixel/aupro@0.3:grid200", "pixel/ap:adeval")
DTYPES = (
    *("float16", "float32", "float64", "uint8", "int8", "int16", "int32", "int64", "uint16", "uint32", "uint64"),
    "bool",
)


def random_class(seed: int, dtype: str, levels: int = 90) -> tuple[Any, Any, Any]:
    rng = np.random.default_rng(seed)
    masks = rng.random((4, 9, 8)) < rng.choice([0.02, 0.2, 0.8])
    masks[2] = False
    maps = rng.integers(0, levels, masks.shape) + masks * rng.integers(0, 30)
    return maps.astype(dtype), masks, maps.max(axis=(1, 2)).astype(dtype)


def assert_same(found: Scores, expected: Scores) -> None:
    assert list(found) == list(expected)
    assert found.reasons == expected.reasons
    for metric, value in expected.items():
        assert found[metric] == (None if value is None else pytest.approx(value, rel=0, abs=1e-14)), metric


@given(
    seed=st.integers(0, 2**32 - 1),
    dtype=st.sampled_from(DTYPES),
    levels=st.sampled_from([1, 3, 90]),
    piece=st.sampled_from([7, 1 << 20]),
)
@settings(max_examples=60, deadline=None)
def test_equals_the_array_path(seed: int, dtype: str, levels: int, piece: int) -> None:
    arrays = random_class(seed, dtype, levels)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(module, "_PIECE", piece)
        found = evaluate_tensors(*map(torch.from_numpy, arrays), metrics=METRICS)
    assert_same(found, evaluate_class(*arrays, metrics=METRICS))


@pytest.mark.parametrize("dtype", DTYPES)
def test_the_ranks_are_the_same_numbers(dtype: str) -> None:
    maps, masks, _ = random_class(1, dtype)
    ours = rank_tensor(torch.from_numpy(maps).flatten(), torch.from_numpy(masks).flatten(), "pixel")
    theirs = rank(maps.ravel(), masks.ravel(), "pixel")
    for name in ("above", "at_least", "hits"):
        assert getattr(ours, name).dtype == np.int64
        assert getattr(ours, name).tolist() == getattr(theirs, name).tolist()
    assert ours.order.tolist() == theirs.order.tolist()
    assert (ours.positives, ours.negatives, ours.unit) == (theirs.positives, theirs.negatives, theirs.unit)


def test_hard_scores() -> None:
    maps = np.array([[[np.inf, 0.0, -0.0, -np.inf, 1e-45, np.inf, 5, 1 + 2**-23]]], dtype=np.float32)
    masks = np.array([[[1, 1, 0, 0, 0, 0, 1, 0]]], dtype=bool)
    for dtype in (np.float32, np.float64):
        found = evaluate_tensors(torch.from_numpy(maps.astype(dtype)), masks)
        assert dict(found) == dict(evaluate_class(maps.astype(dtype), masks))
    close = 1 + np.arange(6).reshape(1, 2, 3) * np.finfo(np.float64).eps
    truth = np.array([[[0, 0, 0], [1, 1, 1]]])
    assert evaluate_tensors(torch.from_numpy(close), truth, metrics=["pixel/auroc"])["pixel/auroc"] == 1
    # neighbours that float64 merges, on both sides of what 63 bits hold
    for large in (2**62 + np.arange(6), 2**63 - 3 + np.arange(6, dtype=np.uint64)):
        maps = torch.from_numpy(large.reshape(1, 2, 3))
        assert evaluate_tensors(maps, truth, metrics=["pixel/auroc"])["pixel/auroc"] == 1


def test_bfloat16_keeps_its_values() -> None:
    maps, masks, scores = random_class(3, "float32")
    tensors = torch.from_numpy(maps).bfloat16(), torch.from_numpy(masks), torch.from_numpy(scores).bfloat16()
    rounded = tensors[0].float().numpy(), masks, tensors[2].float().numpy()
    assert dict(evaluate_tensors(*tensors, metrics=METRICS)) == dict(evaluate_class(*rounded, metrics=METRICS))


def test_masks_scores_and_labels_of_any_kind() -> None:
    maps, masks, scores = random_class(5, "float32")
    labels = masks.any(axis=(1, 2))
    expected = dict(evaluate_class(maps, masks, scores, labels))
    for form in (lambda x: x, torch.from_numpy, lambda x: x.tolist()):
        assert dict(evaluate_tensors(torch.from_numpy(maps), form(masks), form(scores), form(labels))) == pytest.approx(
            expected, abs=1e-14
        )
    integers = torch.from_numpy(masks).to(torch.uint8)
    assert dict(evaluate_tensors(torch.from_numpy(maps), integers, scores, labels)) == expected


def test_missing_and_undefined_have_the_same_reasons() -> None:
    maps, masks, scores = random_class(5, "float32")
    tensor = torch.from_numpy(maps)
    cases: list[tuple[Any, ...]] = [
        (None, scores, [0, 1, 0, 1]),
        (masks,),
        (masks & False, scores),
        (masks | True, scores),
    ]
    for rest in cases:
        assert_same(evaluate_tensors(tensor, *rest, metrics=METRICS), evaluate_class(maps, *rest, metrics=METRICS))
    nothing = evaluate_tensors(torch.zeros(0, 4, 4), np.zeros((0, 4, 4), dtype=bool))
    assert set(nothing.values()) == {None}


def test_misuse_is_refused_as_for_arrays() -> None:
    maps, masks, _ = random_class(5, "float32")
    tensor = torch.from_numpy(maps)
    with pytest.raises(UsageError, match=r"maps are \[4, 9, 8\] but masks are \[4, 9, 7\]"):
        evaluate_tensors(tensor, masks[:, :, :7])
    with pytest.raises(UsageError, match=r"maps are \[9, 8\], expected \[N, H, W\]"):
        evaluate_tensors(tensor[0], masks[0])
    with pytest.raises(UsageError, match=r"dtype torch.complex64"):
        evaluate_tensors(tensor.to(torch.complex64), masks)
    with pytest.raises(UsageError, match=r"masks hold 0, 1 and 2"):
        evaluate_tensors(tensor, torch.from_numpy(masks).int() * torch.tensor([1, 2, 1, 1])[:, None, None])
    with pytest.raises(UsageError, match="detached"):
        evaluate_tensors(tensor.clone().requires_grad_(), masks)
    for dtype in (torch.float16, torch.bfloat16, torch.float32):
        broken = tensor.to(dtype).clone()
        broken[1, 2, 3] = broken[3, 0, 0] = float("nan")
        with pytest.raises(ScoreError, match=r"the map of image 1 holds NaN \(2 of 4") as caught:
            evaluate_tensors(broken, masks)
        assert caught.value.image == 1


def test_only_other_devices_take_this_path() -> None:
    assert not on_accelerator(np.zeros(3)) and not on_accelerator(None) and not on_accelerator(torch.zeros(3))
    assert on_accelerator(torch.zeros(3, device="meta"))


def test_evaluate_class_hands_tensors_on_a_device_over(monkeypatch: pytest.MonkeyPatch) -> None:
    maps, masks, scores = random_class(5, "float32")
    ranked = []
    monkeypatch.setattr("bench.metrics.evaluate.on_accelerator", lambda given: isinstance(given, torch.Tensor))
    monkeypatch.setattr(module, "rank_tensor", lambda *given: ranked.append(given) or rank_tensor(*given))
    found = evaluate_class(torch.from_numpy(maps), masks, scores, metrics=METRICS)
    assert len(ranked) == 1
    monkeypatch.undo()
    assert_same(found, evaluate_class(maps, masks, scores, metrics=METRICS))


def test_arrays_beside_tensors_go_to_the_host() -> None:
    maps, masks, scores = random_class(5, "float32")
    expected = evaluate_class(maps, masks, scores)
    assert_same(evaluate_tensors(maps, torch.from_numpy(masks), torch.from_numpy(scores)), expected)
    image = evaluate_tensors(None, None, torch.from_numpy(scores), torch.from_numpy(masks.any(axis=(1, 2))))
    assert image["image/auroc"] == expected["image/auroc"]


@pytest.mark.cuda
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
def test_on_a_gpu() -> None:
    for dtype in ("float16", "float32", "float64", "uint8", "int32"):
        arrays = random_class(2, dtype)
        on_device = [torch.from_numpy(array).cuda() for array in arrays]
        found = evaluate_class(*on_device, metrics=METRICS)
        assert_same(found, evaluate_class(*arrays, metrics=METRICS))
