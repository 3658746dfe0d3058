"""Noisy training: which anomalous images are mixed in, and what is refused."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bench.api import Sample, by_class
from bench.errors import UsageError
from bench.plan.mixing import mix, notes
from bench.setting import find, noisy


def images(cls: str, train: int, good: int, bad: int) -> tuple[list[Sample], list[Sample]]:
    def made(split: str, defect: str, count: int) -> list[Sample]:
        label = int(defect != "good")
        masks = (Path("mask"),) if label else ()
        names = (f"{cls}/{split}/{defect}/{place:03}" for place in range(count))
        return [Sample(name, cls, split, label, defect, Path("x"), masks=masks) for name in names]  # type: ignore[arg-type]

    return made("train", "good", train), made("test", "good", good) + made("test", "cut", bad)


@given(st.integers(1, 400), st.integers(1, 200), st.floats(0.001, 0.9), st.integers(0, 5), st.booleans())
def test_the_rate_is_that_of_the_training_images_or_is_refused(
    normal: int, bad: int, rate: float, seed: int, overlap: bool
) -> None:
    train, test = images("a", normal, 3, bad)
    try:
        mixed, left = mix(train, test, rate, seed, overlap=overlap)
    except UsageError:
        most = bad if overlap else bad - 1
        assert round(rate * normal / (1 - rate)) > most
        return
    noise = [sample for sample in mixed if sample.label]
    assert len(noise) == round(rate * normal / (1 - rate)) and mixed[: len(train)] == train
    # no other whole number of images is nearer to what was asked for
    assert abs(len(noise) - rate * normal / (1 - rate)) <= 0.5
    assert all(sample.split == "train" and not sample.masks for sample in noise)
    tested = {sample.id for sample in left}
    assert (tested >= {sample.id for sample in noise}) if overlap else tested.isdisjoint(s.id for s in noise)
    assert any(sample.label for sample in left), "something is left to find"
    assert [sample for sample in left if not sample.label] == [sample for sample in test if not sample.label]


def test_a_lower_rates_images_are_among_a_higher_ones_and_seeds_choose_others() -> None:
    train, test = images("a", 100, 5, 60)

    def noise(rate: float, seed: int) -> set[str]:
        return {sample.id for sample in mix(train, test, rate, seed, overlap=False)[0] if sample.label}

    assert noise(0.1, 0) < noise(0.3, 0) and noise(0.1, 0) != noise(0.1, 1)


def test_each_class_has_the_rate_and_stays_together() -> None:
    parts = [images("b", 30, 2, 9), images("a", 60, 2, 40)]
    train, test = ([sample for part in parts for sample in part[side]] for side in (0, 1))
    mixed, _ = mix(train, test, 0.2, 0, overlap=False)
    assert [sample.cls for sample in mixed] == ["b"] * 38 + ["a"] * 75
    assert list(notes(mixed)) == [
        "b: 8 of 38 training images are anomalous",
        "a: 15 of 75 training images are anomalous",
    ]
    assert list(by_class(mixed)) == ["b", "a"]


@pytest.mark.parametrize(
    ("overlap", "words"),
    [
        (False, r"0\.4 x 60 / \(1 - 0\.4\) = 40 anomalous ones, and has 30 .*one at least.*at most 0\.329, or --ov"),
        (
            True,
            r"0\.4 x 60 / \(1 - 0\.4\) = 40 anomalous ones, and has 30 to test on\. Expected a rate of at most 0\.33",
        ),
    ],
)
def test_impossible_rates_are_refused_with_the_arithmetic(overlap: bool, words: str) -> None:
    train, test = images("toothbrush", 60, 12, 30)
    with pytest.raises(UsageError, match=words) as caught:
        mix(train, test, 0.4, 0, overlap=overlap)
    highest = float(str(caught.value).split("at most ")[1].split(",")[0])
    mix(train, test, highest, 0, overlap=overlap)
    with pytest.raises(UsageError):
        mix(train, test, highest + 0.012, 0, overlap=overlap)


def test_a_class_without_anomalous_images_cannot_be_mixed() -> None:
    train, test = images("a", 10, 5, 0)
    with pytest.raises(UsageError, match="Expected more anomalous images"):
        mix(train, test, 0.1, 0, overlap=True)


@pytest.mark.parametrize(("rate", "overlap"), [(0.1, False), (0.05, True), (0.333, False), (1e-4, True)])
def test_a_setting_is_found_by_the_name_that_records_have(rate: float, overlap: bool) -> None:
    found = find(noisy(rate, overlap))
    assert found is not None and (found.rate, found.overlap) == (rate, overlap) and found.chooses
    assert f"{100 * rate:g} % of the training images anomalous" in found.title()


@pytest.mark.parametrize("name", ["noisy", "noisy-", "noisy-1", "noisy-0", "noisy-0.0", "noisy-0.1-more", "noisy-x"])
def test_other_names_are_none(name: str) -> None:
    assert find(name) is None
