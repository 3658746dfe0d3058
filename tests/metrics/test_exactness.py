"""The engine against the slow definitions, and properties that any exact metric has."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from slow_scores import slow_scores

from bench.metrics import SEVEN, evaluate_class, reference

DTYPES = ("float16", "float32", "float64", ">f2", ">f4", "uint8", "int8", "int16", "int32", "int64", "uint64")
LIMITS = (0.3, 0.05, 0.5, 1.0)
TOLERANCE = 1e-12

exact = settings(max_examples=600, deadline=None, suppress_health_check=[HealthCheck.too_slow])
fewer = settings(exact, max_examples=100)


pytestmark = pytest.mark.usefixtures("engine")


@dataclass(frozen=True)
class Case:
    maps: npt.NDArray[Any]
    masks: npt.NDArray[np.bool_]
    image_scores: npt.NDArray[Any]
    labels: npt.NDArray[np.bool_]


@st.composite
def level_values(draw: st.DrawFn, dtype: np.dtype[Any]) -> npt.NDArray[Any]:
    """One to eight values that scores are picked from, so that most cases are full of ties."""
    if dtype.kind == "f":
        info = np.finfo(dtype)
        nasty = (0.0, -0.0, np.inf, -np.inf, float(info.max), float(info.min), float(info.smallest_subnormal), 90.0)
        width = dtype.itemsize * 8
        value = st.sampled_from(nasty) | st.floats(width=width, allow_nan=False) | st.floats(0, 1, width=width)
    else:
        limits = np.iinfo(dtype)
        value = st.integers(int(limits.min), int(limits.max)) | st.integers(0, 3)
    values = np.array(draw(st.lists(value, min_size=1, max_size=8)), dtype=dtype)
    if dtype == np.float64 and draw(st.booleans()):
        # neighbours that float32 cannot tell apart
        values = 1 + np.arange(len(values)) * np.finfo(np.float64).eps
    return values


@st.composite
def cases(draw: st.DrawFn) -> Case:
    n, h, w = draw(st.integers(1, 4)), draw(st.integers(1, 7)), draw(st.integers(1, 7))
    values = draw(level_values(np.dtype(draw(st.sampled_from(DTYPES)))))
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    density = draw(st.sampled_from((0.0, 0.05, 0.3, 0.6, 0.95, 1.0)))
    maps = values[rng.integers(0, len(values), (n, h, w))]
    masks = rng.random((n, h, w)) < density
    image_values = draw(level_values(np.dtype(draw(st.sampled_from(DTYPES)))))
    image_scores = draw(
        hnp.arrays(image_values.dtype, n, elements=st.sampled_from(list(image_values)), fill=st.nothing())
    )
    labels = draw(hnp.arrays(np.bool_, n, fill=st.nothing()))
    return Case(maps, masks, image_scores, labels)


def ids_at(limit: float) -> tuple[str, ...]:
    limit_text = repr(limit).removesuffix(".0")
    return (*SEVEN[:6], f"pixel/aupro@{limit_text}", f"pixel/aupro@{limit_text}:grid200")


def values_of(case: Case, limit: float = 0.3) -> dict[str, float | None]:
    return dict(evaluate_class(case.maps, case.masks, case.image_scores, case.labels, metrics=ids_at(limit)))


def assert_same(found: dict[str, float | None], expected: dict[str, float | None]) -> None:
    assert found.keys() == expected.keys()
    for metric, value in expected.items():
        assert found[metric] == (None if value is None else pytest.approx(value, rel=0, abs=TOLERANCE)), metric


@given(case=cases(), limit=st.sampled_from(LIMITS))
@exact
def test_equals_the_definitions(case: Case, limit: float) -> None:
    expected = slow_scores(case.maps, case.masks, case.image_scores, case.labels, ids_at(limit))
    assert_same(values_of(case, limit), expected)


@given(case=cases(), limit=st.floats(1e-6, 1.0))
@fewer
def test_every_limit_equals_the_definition(case: Case, limit: float) -> None:
    metric = ids_at(limit)[6]
    found = evaluate_class(case.maps, case.masks, metrics=[metric])
    assert_same(dict(found), {metric: reference.aupro(case.maps, case.masks, limit)})


@given(case=cases())
@fewer
def test_values_are_fractions_and_missing_ones_have_a_reason(case: Case) -> None:
    scores = evaluate_class(case.maps, case.masks, case.image_scores, case.labels, metrics=ids_at(0.3))
    assert scores.reasons.keys() == {metric for metric, value in scores.items() if value is None}
    assert all(scores.reasons.values())
    exact_values = [value for metric, value in scores.items() if value is not None and "grid" not in metric]
    assert all(type(value) is float and 0 <= value <= 1 for value in exact_values)


@given(case=cases(), seed=st.integers(0, 2**32 - 1))
@fewer
def test_only_the_order_of_the_scores_counts(case: Case, seed: int) -> None:
    steps = np.random.default_rng(seed).integers(1, 1000, case.maps.size).cumsum() - 10_000
    stretched = steps[reference.dense_ranks(case.maps).astype(int)]
    found = evaluate_class(stretched, case.masks)
    assert_same(dict(found), dict(evaluate_class(case.maps, case.masks)))


@given(case=cases(), seed=st.integers(0, 2**32 - 1))
@fewer
def test_the_order_of_the_images_does_not_count(case: Case, seed: int) -> None:
    order = np.random.default_rng(seed).permutation(len(case.maps))
    shuffled = Case(case.maps[order], case.masks[order], case.image_scores[order], case.labels[order])
    assert_same(values_of(shuffled), values_of(case))


@given(case=cases(), seed=st.integers(0, 2**32 - 1))
@fewer
def test_where_a_pixel_lies_counts_for_aupro_only(case: Case, seed: int) -> None:
    order = np.random.default_rng(seed).permutation(case.maps.size)
    maps = case.maps.ravel()[order].reshape(case.maps.shape)
    masks = case.masks.ravel()[order].reshape(case.masks.shape)
    metrics = SEVEN[3:6]
    assert_same(
        dict(evaluate_class(maps, masks, metrics=metrics)),
        dict(evaluate_class(case.maps, case.masks, metrics=metrics)),
    )


@given(case=cases())
@fewer
def test_mirroring_changes_nothing(case: Case) -> None:
    mirrored = Case(case.maps[:, ::-1, ::-1], case.masks[:, ::-1, ::-1], case.image_scores, case.labels)
    turned = Case(case.maps.swapaxes(1, 2), case.masks.swapaxes(1, 2), case.image_scores, case.labels)
    assert_same(values_of(mirrored), values_of(case))
    assert_same(values_of(turned), values_of(case))


@given(case=cases())
@fewer
def test_the_inputs_are_left_as_they_were(case: Case) -> None:
    before = case.maps.tobytes(), case.masks.tobytes(), case.image_scores.tobytes(), case.labels.tobytes()
    values_of(case)
    assert before == (case.maps.tobytes(), case.masks.tobytes(), case.image_scores.tobytes(), case.labels.tobytes())


def test_a_case_worked_by_hand() -> None:
    maps, masks = np.array([[[0.9, 0.8, 0.3, 0.1]]]), np.array([[[1, 0, 1, 0]]])
    expected = {
        "pixel/auroc": 3 / 4,
        "pixel/ap": 1 / 2 + 1 / 2 * 2 / 3,
        "pixel/f1max": 4 / 5,
        "pixel/aupro@1": 3 / 4,
        "pixel/aupro@0.3": 1 / 2,
    }
    assert_same(dict(evaluate_class(maps, masks, metrics=list(expected))), expected)
    # the oracles themselves are held to the same numbers
    positive = masks == 1
    oracle = slow_scores(maps, positive, maps.ravel(), positive.ravel(), list(expected))
    assert oracle == pytest.approx(expected)


def test_a_region_of_several_pixels_worked_by_hand() -> None:
    # one region of 2 and one of 1; negatives 4; the limit 0.5 cuts the ramp from FPR 1/4 to 3/4 in its middle
    maps = np.array([[[9, 5, 0, 5, 5, 7, 0]]], dtype=np.uint8)
    masks = np.array([[[1, 1, 0, 0, 0, 0, 1]]])
    # region one: 1/2 covered from FPR 0 on, the other half enters between FPR 1/4 and 3/4; region two enters last
    one = (0.5 * 0.25 + (0.5 + 0.75) / 2 * 0.25) / 0.5
    assert evaluate_class(maps, masks, metrics=["pixel/aupro@0.5"])["pixel/aupro@0.5"] == pytest.approx(one / 2)
