"""Each resample against evaluate_class on the images that were drawn, and what the intervals mean."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from bench.errors import UsageError
from bench.metrics import SEVEN, ScoreError, bootstrap_class, evaluate_class
from bench.metrics import bootstrap as module
from bench.metrics.bootstrap import multiplicities

Arrays = tuple[npt.NDArray[Any], npt.NDArray[np.bool_], npt.NDArray[Any], npt.NDArray[np.bool_]]
METRICS = (*SEVEN, "pixel/aupro@0.05", "pixel/aupro@1")


def random_class(seed: int, levels: int, dtype: str = "float32", images: int = 9) -> Arrays:
    rng = np.random.default_rng(seed)
    labels = np.arange(images) % 3 != 0
    masks = (rng.random((images, 6, 7)) < rng.choice([0.05, 0.2])) & labels[:, None, None]
    maps = (rng.integers(0, levels, masks.shape) + masks * levels // 4).astype(dtype)
    scores = (rng.integers(0, 6, images) + labels).astype(dtype)
    return maps, masks, scores, labels


def drawn_class(arrays: Arrays, times: npt.NDArray[np.float64]) -> Arrays:
    maps, masks, scores, labels = (np.repeat(array, times.astype(int), axis=0) for array in arrays)
    return maps, masks, scores, labels


def assert_equals_the_drawn_images(arrays: Arrays, resamples: int, seed: int) -> None:
    found = bootstrap_class(*arrays, metrics=METRICS, resamples=resamples, seed=seed)
    whole = evaluate_class(*arrays, metrics=METRICS)
    assert dict(found.scores) == dict(whole)
    times = multiplicities(arrays[3], resamples, seed)
    for column in range(resamples):
        expected = evaluate_class(*drawn_class(arrays, times[:, column]), metrics=METRICS)
        for metric in METRICS:
            value = None if whole[metric] is None else expected[metric]
            ours = found.samples[metric][column]
            assert np.isnan(ours) if value is None else ours == pytest.approx(value, rel=0, abs=1e-12), metric


@given(
    seed=st.integers(0, 2**32 - 1),
    levels=st.sampled_from([1, 2, 30, 10_000]),
    dtype=st.sampled_from(["float16", "float32", "float64", "int16"]),
)
@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.too_slow])
def test_each_resample_equals_evaluating_the_drawn_images(seed: int, levels: int, dtype: str) -> None:
    assert_equals_the_drawn_images(random_class(seed, levels, dtype), resamples=6, seed=seed)


def test_pieces_of_thresholds_and_of_resamples_fit_together(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_CELLS", 24)
    monkeypatch.setattr(module, "_COLUMNS", 4)
    assert_equals_the_drawn_images(random_class(5, 10_000), resamples=10, seed=1)


def test_infinities_and_zeros_of_both_signs() -> None:
    maps, masks, scores, labels = random_class(3, 30)
    maps[maps < 4], maps[maps > 27] = -np.inf, np.inf
    maps = np.where(maps == 10, -0.0, np.where(maps == 11, 0.0, maps)).astype(np.float32)
    assert_equals_the_drawn_images((maps, masks, scores, labels), resamples=8, seed=0)


def test_a_resample_that_loses_every_anomalous_pixel_has_no_value() -> None:
    maps, masks, scores, labels = random_class(7, 30)
    masks[1, 2, 3] = True
    masks[2:] = False  # one anomalous image keeps its mask, the others' vanished
    found = bootstrap_class(maps, masks, scores, labels, resamples=300)
    lost = multiplicities(labels, 300, 0)[1] == 0
    assert 0 < lost.sum() < 300
    assert np.array_equal(np.isnan(found.samples["pixel/aupro@0.3"]), lost)
    assert not np.isnan(found.samples["image/auroc"]).any()
    interval = found.interval("pixel/aupro@0.3")
    assert interval is not None and interval.resamples == 300 - lost.sum()


def test_images_are_drawn_within_their_kind_and_by_the_seed() -> None:
    labels = np.array([True] * 5 + [False] * 3)
    times = multiplicities(labels, 400, 3)
    assert times.shape == (8, 400)
    assert np.all(times[labels].sum(axis=0) == 5) and np.all(times[~labels].sum(axis=0) == 3)
    assert times.mean(axis=1).tolist() == pytest.approx([1] * 8, abs=0.2)
    # the chance that an image of five is not drawn is 0.8 ** 5, of three (2 / 3) ** 3
    assert (times[labels] == 0).mean() == pytest.approx(0.8**5, abs=0.05)
    assert (times[~labels] == 0).mean() == pytest.approx((2 / 3) ** 3, abs=0.05)
    assert np.array_equal(times, multiplicities(labels, 400, 3))
    assert not np.array_equal(times, multiplicities(labels, 400, 4))


def test_the_interval_is_the_percentile_of_the_resampled_values() -> None:
    found = bootstrap_class(*random_class(1, 40, images=30), resamples=200, seed=9)
    again = bootstrap_class(*random_class(1, 40, images=30), resamples=200, seed=9)
    for metric in SEVEN:
        values = np.sort(found.samples[metric])
        assert np.array_equal(found.samples[metric], again.samples[metric])
        interval = found.interval(metric, level=0.9)
        assert interval is not None
        # 200 values: the quantile 0.05 lies 0.95 of the way from the 10th to the 11th
        assert interval.low == pytest.approx(values[9] + 0.95 * (values[10] - values[9]), abs=1e-12)
        assert interval.high == pytest.approx(values[189] + 0.05 * (values[190] - values[189]), abs=1e-12)
        value = found.scores[metric]
        assert value is not None and interval.low <= value <= interval.high
        wide = found.interval(metric, level=0.99)
        assert wide is not None and wide.low <= interval.low and interval.high <= wide.high


def test_image_level_only_and_undefined_metrics() -> None:
    found = bootstrap_class(None, None, [0.9, 0.2, 0.6, 0.5], [1, 0, 1, 0], resamples=50)
    assert found.scores.reasons.keys() == set(SEVEN[3:])
    assert found.interval("pixel/auroc") is None
    assert found.samples["image/auroc"].tolist() == [1.0] * 50
    normal = bootstrap_class(np.zeros((2, 3, 3)), np.zeros((2, 3, 3), dtype=bool), resamples=5)
    assert all(np.isnan(values).all() for values in normal.samples.values())
    assert {normal.interval(metric) for metric in SEVEN} == {None}
    everything = bootstrap_class(np.zeros((2, 3, 3)), np.ones((2, 3, 3), dtype=bool), resamples=5)
    assert everything.samples["pixel/ap"].tolist() == [1.0] * 5
    assert everything.interval("pixel/auroc") is None


def test_misuse_is_refused() -> None:
    arrays = random_class(0, 30)
    with pytest.raises(UsageError, match=r"unknown metric id 'image/fpr95'.* Did you mean 'image/fpr@recall0.95'"):
        bootstrap_class(*arrays, metrics=["image/fpr95"])
    with pytest.raises(UsageError, match="resamples is 0"):
        bootstrap_class(*arrays, resamples=0)
    with pytest.raises(UsageError, match="neither labels nor masks"):
        bootstrap_class(arrays[0], None, metrics=["pixel/ap"])
    found = bootstrap_class(*arrays, metrics=iter(["pixel/ap"]), resamples=3)
    with pytest.raises(UsageError, match="'image/ap' was not resampled, only: pixel/ap"):
        found.interval("image/ap")
    with pytest.raises(UsageError, match="level is 95"):
        found.interval("pixel/ap", level=95)
    arrays[0][1, 2, 3] = np.nan
    with pytest.raises(ScoreError, match="image 1"):
        bootstrap_class(*arrays)
