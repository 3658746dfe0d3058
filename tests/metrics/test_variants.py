"""Every variant against its rule written once more, a threshold at a time, and ADEval's against the package itself."""

from __future__ import annotations

import importlib
from types import SimpleNamespace
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from bench.errors import UsageError
from bench.metrics import Whole, evaluate_class, parse, rules
from bench.registry import METRICS

Maps = npt.NDArray[Any]
Masks = npt.NDArray[np.bool_]
Case = tuple[Maps, Masks]

IDS = tuple(name.replace("aupro:", "aupro@0.3:") for name in METRICS.builtin if ":" in name)


def rule(metric: str, maps: Maps, masks: Masks, limit: float) -> float | None:
    """What the metric's oracle says; see bench.metrics.rules."""
    return parse(metric.replace("@0.3", f"@{limit}")).oracle(Whole(maps, masks, masks.any(axis=(1, 2))))


# ----------------------------------------------------------------------------------------------------------- cases
def blob_case(seed: int, dtype: str = "float32", shape: tuple[int, int, int] = (5, 14, 17)) -> Case:
    rng = np.random.default_rng(seed)
    masks = np.zeros(shape, dtype=np.bool_)
    for image in range(shape[0] - 2):
        y, x = rng.integers(0, 9, 2)
        masks[image, y : y + 4, x : x + 6] = True
        masks[image, 0, 0] = True
    scores = (rng.gamma(2.0, size=shape) + masks * rng.uniform(0, 2)) * (1 if dtype.startswith("f") else 20)
    if seed % 3 == 0:
        scores = np.round(scores * 4) / 4  # ties, among them at the highest score
    return scores.astype(dtype), masks


def values(case: Case, limit: float = 0.3) -> dict[str, float | None]:
    return dict(evaluate_class(*case, metrics=[metric.replace("@0.3", f"@{limit}") for metric in IDS]))


slowly = settings(max_examples=15, deadline=None, suppress_health_check=[HealthCheck.too_slow])


@given(seed=st.integers(0, 2**32 - 1), dtype=st.sampled_from(["float32", "float64"]), limit=st.sampled_from([0.3, 0.1]))
@slowly
def test_each_variant_equals_its_rule(seed: int, dtype: str, limit: float) -> None:
    case = blob_case(seed, dtype)
    for metric, value in values(case, limit).items():
        assert value == pytest.approx(rule(metric, *case, 0.3), rel=0, abs=1e-12), metric


@pytest.mark.parametrize("dtype", ["uint8", "int32"])
def test_whole_numbers_too(dtype: str) -> None:
    maps, masks = blob_case(4, dtype)
    found = values((maps, masks))
    for metric in ("pixel/aupro@0.3:ranks100", "pixel/f1max:grid21", "pixel/ap:adeval", "pixel/aupro@0.3:adeval"):
        scores = maps.astype(np.float64) if "grid" in metric else maps
        assert found[metric] == pytest.approx(rule(metric, scores, masks, 0.3), rel=0, abs=1e-12), metric


def test_no_two_rules_are_one() -> None:
    found = values(blob_case(1, shape=(8, 20, 20)))
    exact = evaluate_class(*blob_case(1, shape=(8, 20, 20)))
    for kind in ("pixel/auroc", "pixel/ap", "pixel/f1max", "pixel/aupro"):
        numbers = [value for metric, value in (found | dict(exact)).items() if metric.startswith(kind)]
        assert len({round(value, 9) for value in numbers if value is not None}) == len(numbers), kind


def test_more_pixels_than_one_piece() -> None:
    rng = np.random.default_rng(2)
    maps = rng.normal(size=(3, 90, 91)).astype(np.float32)
    masks = np.zeros(maps.shape, dtype=np.bool_)
    masks[0, 10:20, 10:20] = masks[2, 50:55, 3:60] = True
    found = values((maps + masks, masks))
    for metric in ("pixel/f1max:grid21", "pixel/aupro@0.3:ranks100", "pixel/aupro@0.3:adeval50", "pixel/ap:adeval50"):
        assert found[metric] == pytest.approx(rule(metric, maps + masks, masks, 0.3), rel=0, abs=1e-12), metric


# ----------------------------------------------------------------------------------------------- ADEval's own code
@pytest.fixture
def package(monkeypatch: pytest.MonkeyPatch) -> Any:
    pytest.importorskip("cv2", reason="ADEval needs OpenCV: pip install --no-deps opencv-python-headless")
    monkeypatch.setattr(np, "trapz", np.trapezoid, raising=False)  # gone in NumPy 2.4
    return pytest.importorskip("adeval", reason="pip install --no-deps adeval")


@pytest.mark.parametrize("seed", range(6))
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_equals_adeval_on_arrays(package: Any, seed: int, dtype: str) -> None:
    maps, masks = blob_case(seed, dtype)
    expected = package.auroc_aupr_aupro(maps, masks.astype(np.uint8))
    found = values((maps, masks))
    ours = [found[f"pixel/{name}:adeval"] for name in ("auroc", "ap", "aupro@0.3")]
    assert ours == pytest.approx(list(expected), rel=0, abs=1e-12)


@pytest.mark.parametrize("seed", range(6))
@pytest.mark.parametrize("count", [50, 200])
def test_equals_adevals_accumulator(package: Any, monkeypatch: pytest.MonkeyPatch, seed: int, count: int) -> None:
    # its own code on the CPU: a device is written into it, and torch.histc has one formula for both
    import torch

    def histc(scores: torch.Tensor, out: torch.Tensor, **options: Any) -> None:
        out.copy_(torch.histc(scores, **options))

    def zeros(*shape: Any, device: str, **options: Any) -> torch.Tensor:
        assert device == "cuda"
        return torch.zeros(*shape, **options)

    on_cpu = SimpleNamespace(**{name: getattr(torch, name) for name in dir(torch)} | {"zeros": zeros, "histc": histc})
    monkeypatch.setattr(importlib.import_module("adeval.cuda_mem_effic"), "torch", on_cpu)
    maps, masks = blob_case(seed)
    accumulator = package.EvalAccumulatorCuda(0.0, 1.0, maps.min(), maps.max(), nstrips=count)
    accumulator.add_anomap_batch(torch.from_numpy(maps), torch.from_numpy(masks.astype(np.uint8)))
    summary = accumulator.summary()
    found = values((maps, masks))
    ours = [found[f"pixel/{name}:adeval{count}"] for name in ("auroc", "ap", "aupro@0.3")]
    assert ours == pytest.approx([summary[name] for name in ("p_auroc", "p_aupr", "p_aupro")], rel=0, abs=1e-12)


def test_points_that_lie_on_the_limit() -> None:
    # ten normal pixels, so the false-positive rate meets 0.3 exactly
    maps = np.concatenate((np.arange(10.0), [5.5, 9.5, 2.5, 10])).reshape(1, 1, 14)
    masks = np.arange(14).reshape(1, 1, 14) >= 10
    found = values((maps, masks))
    assert found["pixel/aupro@0.3:grid100"] == pytest.approx(
        rules.aupro_grid(maps, masks, 0.3, 100, rescale=True), abs=1e-12
    )
    assert found["pixel/aupro@0.3:image200"] == pytest.approx(
        rules.aupro_per_image(maps, masks, masks.any((1, 2)), 0.3, 200), abs=1e-12
    )
    # three of them share the highest score with the defect: ADEval's curve begins on the limit
    top = np.where(masks | (maps > 6), 10, maps)
    metric = "pixel/aupro@0.3:adeval"
    assert evaluate_class(top, masks, metrics=[metric])[metric] == rule(metric, top, masks, 0.3) == 0


# ------------------------------------------------------------------------------------------ where a rule breaks down
BROKEN: dict[str, Maps] = {
    "constant": np.zeros((2, 3, 4), dtype=np.float32),
    "infinite": np.where(np.arange(24).reshape(2, 3, 4) == 20, np.inf, 1.0),
    "beyond float32": np.linspace(-3e38, 3e38, 24, dtype=np.float32).reshape(2, 3, 4),
}


@pytest.mark.parametrize("name", BROKEN)
def test_undefined_where_no_grid_fits(name: str) -> None:
    masks = np.zeros((2, 3, 4), dtype=np.bool_)
    masks[0, 0, :2] = masks[1, 1, 1] = True
    scores = evaluate_class(BROKEN[name], masks, metrics=IDS)
    defined = {metric for metric, value in scores.items() if value is not None}
    # equal ranks need no range, and an image of finite scores has a range of its own
    assert defined <= {"pixel/aupro@0.3:ranks100", "pixel/aupro@0.3:image200"}
    assert scores.reasons.keys() == set(IDS) - defined
    assert all(scores.reasons.values())


def test_undefined_without_both_kinds_of_pixels() -> None:
    maps = np.arange(12.0).reshape(1, 3, 4)
    none = evaluate_class(maps, np.zeros((1, 3, 4), dtype=bool), metrics=IDS)
    assert set(none.values()) == {None}
    full = evaluate_class(maps, np.ones((1, 3, 4), dtype=bool), metrics=IDS)
    on_scaled_maps = {metric for metric in IDS if metric.endswith(("grid21", "grid7"))}
    assert {metric for metric, value in full.items() if value is not None} == on_scaled_maps


def test_no_images_and_no_masks() -> None:
    empty = evaluate_class(np.zeros((0, 4, 4)), np.zeros((0, 4, 4), dtype=bool), metrics=IDS)
    assert set(empty.values()) == {None}
    assert evaluate_class(np.zeros((1, 4, 4)), None, metrics=IDS).reasons == dict.fromkeys(IDS, "no masks given")
    assert evaluate_class(None, None, [0.5], [1], metrics=IDS).reasons == dict.fromkeys(IDS, "no anomaly maps")


def test_the_per_image_rule_names_the_image_that_breaks_it() -> None:
    maps, masks = blob_case(2)
    metric = "pixel/aupro@0.3:image200"
    labels = masks.any(axis=(1, 2))
    emptied = masks.copy()
    emptied[1] = False
    scores = evaluate_class(maps, emptied, None, labels, metrics=[metric])
    assert scores.reasons == {metric: "anomalous image 1: no anomalous pixel"}
    assert evaluate_class(maps, emptied, metrics=[metric])[metric] is not None
    assert evaluate_class(maps, masks, None, labels & False, metrics=[metric]).reasons == {metric: "no anomalous image"}


def test_strips_that_lie_on_one_side_of_the_limit_have_no_overlap_area() -> None:
    maps = np.zeros((1, 2, 5))
    maps[0, 0, :4] = 1
    masks = np.array([[[0, 0, 0, 0, 1], [0, 0, 0, 0, 1]]], dtype=bool)
    scores = evaluate_class(maps, masks, metrics=["pixel/aupro@0.3:adeval", "pixel/auroc:adeval"])
    assert "lie on one side of FPR 0.3" in scores.reasons["pixel/aupro@0.3:adeval"]
    assert scores["pixel/auroc:adeval"] is not None


# ------------------------------------------------------------------------------------------------ what records carry
def test_only_named_variants_exist() -> None:
    with pytest.raises(UsageError, match=r"Did you mean 'pixel/aupro@0.3:grid200'\? Known: grid200, grid100, image200"):
        parse("pixel/aupro@0.3:grid20O")
