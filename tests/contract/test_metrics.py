"""What every metric promises, those of plug-ins too: `pytest tests/contract/test_metrics.py --plugin my_metric.py`."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from slow_scores import slow_scores

from bench.errors import UsageError
from bench.metrics import Accumulator, Defect, Metric, bootstrap_class, evaluate_class, parse
from bench.metrics.accumulate import streams
from bench.metrics.bootstrap import multiplicities
from bench.registry import METRICS

DTYPES = ("float16", "float32", "float64", "uint8", "int32")
some = settings(max_examples=25, deadline=None, suppress_health_check=list(HealthCheck))


def example(name: str) -> Metric:
    kind = METRICS.load(name)
    return kind(kind.parameter.example if kind.parameter else None)


NAMES = METRICS.names()


def drawn(seed: int, dtype: str, images: int = 6) -> dict[str, Any]:
    """A class of small images: ties, images without a mask, regions that touch corners, objects, single defects."""
    rng = np.random.default_rng(seed)
    labels = np.arange(images) % 3 != 0
    masks = (rng.random((images, 8, 9)) < rng.choice([0.03, 0.3])) & labels[:, None, None]
    levels = int(rng.choice([2, 30, 10_000]))
    maps = (rng.integers(0, levels, masks.shape) + masks * (levels // 3)).astype(dtype)
    return {
        "maps": maps,
        "masks": masks,
        "image_scores": (rng.integers(0, 8, images) + 2 * labels).astype(dtype),
        "labels": labels,
        # the first shows nothing but normal images, the second a normal and an anomalous one
        "objects": ["abbacd"[place % 6] for place in range(images)],
        "defects": defects_of(masks, rng),
    }


def defects_of(masks: npt.NDArray[np.bool_], rng: np.random.Generator) -> list[Defect]:
    """Each image's mask as two defects that overlap, with saturation areas."""
    found = []
    for image, mask in enumerate(masks):
        for part in (mask, mask & (np.arange(mask.size).reshape(mask.shape) % 2 == 0)):
            if part.any():
                found.append(Defect(image, part, float(rng.uniform(1, part.sum()))))
    return found


def value(metric: Metric, case: dict[str, Any]) -> float | None:
    return evaluate_class(**case, metrics=[str(metric)])[str(metric)]


@pytest.mark.parametrize("name", NAMES)
def test_it_says_what_it_is(name: str) -> None:
    metric = example(name)
    assert parse(str(metric)) == metric and metric.id == name
    assert all((metric.heading, metric.title, metric.definition, metric.undefined, metric.source, metric.shown))
    assert not metric.title.endswith(".") and "\n" not in metric.heading
    assert metric.version is None or metric.version >= 1
    assert metric.level in ("image", "pixel", "sample") or metric.parts


@pytest.mark.parametrize("name", [name for name in NAMES if not example(name).parts])
@given(seed=st.integers(0, 2**32 - 1), dtype=st.sampled_from(DTYPES))
@some
def test_it_equals_its_slow_definition(name: str, seed: int, dtype: str) -> None:
    metric, case = example(name), drawn(seed, dtype)
    expected = slow_scores(**case, metrics=[str(metric)])[str(metric)]
    found = value(metric, case)
    assert found == (None if expected is None else pytest.approx(expected, rel=1e-12, abs=1e-12))


HARD: dict[str, Any] = {
    "constant": lambda case: {**case, "maps": case["maps"] * 0, "image_scores": case["image_scores"] * 0},
    "perfect": lambda case: {
        **case,
        "maps": case["masks"].astype(np.float32),
        "image_scores": case["labels"].astype(np.float32),
    },
    "all wrong": lambda case: {
        **case,
        "maps": -case["masks"].astype(np.float32),
        "image_scores": -case["labels"].astype(np.float32),
    },
    "infinite": lambda case: {
        **case,
        "maps": np.where(case["maps"] > np.median(case["maps"]), np.inf, case["maps"]).astype(np.float32),
        "image_scores": np.where(case["image_scores"] > 5, np.inf, -np.inf),
    },
    "nothing anomalous": lambda case: {
        **case,
        "masks": case["masks"] & False,
        "labels": case["labels"] & False,
        "defects": [],
    },
    "nothing normal": lambda case: {
        **case,
        "masks": case["masks"] | True,
        "labels": case["labels"] | True,
        "defects": [Defect(place, mask | True, 3) for place, mask in enumerate(case["masks"])],
    },
    "one image": lambda case: {
        name: part[1:2] if name != "defects" else [Defect(0, d.mask, d.saturation) for d in part if d.image == 1]
        for name, part in case.items()
    },
}


@pytest.mark.parametrize("hard", HARD)
@pytest.mark.parametrize("name", [name for name in NAMES if not example(name).parts])
def test_hard_cases_are_as_defined_and_a_missing_value_has_a_reason(name: str, hard: str) -> None:
    metric, case = example(name), HARD[hard](drawn(5, "float32"))
    found = evaluate_class(**case, metrics=[str(metric)])
    expected = slow_scores(**case, metrics=[str(metric)])[str(metric)]
    assert found[str(metric)] == (None if expected is None else pytest.approx(expected, rel=1e-12, abs=1e-12))
    assert bool(found.reasons.get(str(metric))) == (found[str(metric)] is None)


@pytest.mark.parametrize("name", NAMES)
def test_what_it_lacks_is_a_reason_and_no_error(name: str) -> None:
    metric = example(name)
    found = evaluate_class(np.zeros((2, 4, 4)), None, metrics=[str(metric)])
    assert found[str(metric)] is None and found.reasons[str(metric)]
    found = evaluate_class(np.zeros((0, 4, 4)), np.zeros((0, 4, 4), bool), [], metrics=[str(metric)], objects=[])
    assert found[str(metric)] is None and found.reasons[str(metric)]


@pytest.mark.parametrize("name", NAMES)
def test_a_share_lies_in_its_range(name: str) -> None:
    metric = example(name)
    if metric.unit:
        pytest.skip(f"measured in {metric.unit}")
    found = [one for seed in range(5) if (one := value(metric, drawn(seed, "float32"))) is not None]
    assert found and all(0 <= one <= 1 + 1e-9 for one in found)


@pytest.mark.parametrize("name", NAMES)
def test_the_order_of_the_images_does_not_count(name: str) -> None:
    metric, defined = example(name), 0
    for seed in range(8):
        case = drawn(seed, "float64")
        order = np.random.default_rng(seed).permutation(len(case["labels"]))
        places = np.argsort(order)
        turned: dict[str, Any] = {part: case[part][order] for part in ("maps", "masks", "image_scores", "labels")}
        turned["objects"] = [case["objects"][place] for place in order]
        turned["defects"] = [Defect(int(places[one.image]), one.mask, one.saturation) for one in case["defects"]]
        before, after = value(metric, case), value(metric, turned)
        assert after == (None if before is None else pytest.approx(before, rel=0, abs=1e-12))
        defined += before is not None
    assert defined


@pytest.mark.parametrize("name", NAMES)
def test_the_accumulator_gives_the_same_bits_or_refuses(name: str) -> None:
    metric, case = example(name), drawn(4, "float32")
    if not streams(metric):
        with pytest.raises(UsageError, match="expected exact metrics"):
            Accumulator([str(metric)])
        return
    accumulator = Accumulator([str(metric)])
    for part in (slice(0, 2), slice(2, 6)):
        accumulator.update(*(case[name][part] for name in ("maps", "masks", "image_scores", "labels")))
    whole = evaluate_class(**{**case, "objects": None}, metrics=[str(metric)])
    assert dict(accumulator.compute()) == dict(whole)


@pytest.mark.parametrize("name", NAMES)
def test_each_resample_equals_evaluating_the_drawn_images(name: str) -> None:
    metric, case = example(name), drawn(9, "float32")
    found = bootstrap_class(**case, metrics=[str(metric)], resamples=4, seed=1)
    whole = value(metric, case)
    assert found.scores[str(metric)] == whole
    times = multiplicities(case["labels"], 4, 1).astype(int)
    for column in range(4):
        picks = np.repeat(np.arange(len(times)), times[:, column])
        again: dict[str, Any] = {name: case[name][picks] for name in ("maps", "masks", "image_scores", "labels")}
        again["objects"] = [case["objects"][place] for place in picks]
        again["defects"] = [
            Defect(place, one.mask, one.saturation)
            for place, pick in enumerate(picks)
            for one in case["defects"]
            if one.image == pick
        ]
        expected = None if whole is None else value(metric, again)
        ours = found.samples[str(metric)][column]
        assert np.isnan(ours) if expected is None else ours == pytest.approx(expected, rel=0, abs=1e-12)
    assert whole is None or found.interval(str(metric)) is not None
