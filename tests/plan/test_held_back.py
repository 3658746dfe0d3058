"""Which images are held back for thresholds."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
from layouts import write_loco
from plan.test_settings import source

from bench.api import Sample, by_class
from bench.errors import UsageError
from bench.plan.held_back import hold_back, note
from bench.plan.settings import tasks
from bench.plan.task import index


def images(cls: str, count: int, unit: int = 0) -> list[Sample]:
    made = [Sample(f"{cls}/train/{place:03}", cls, "train", 0, "good", Path("x")) for place in range(count)]
    return [replace(one, unit=f"{cls}/{place // unit}") for place, one in enumerate(made)] if unit else made


def test_a_share_of_each_class_whatever_the_order_and_the_others() -> None:
    train = [*images("a", 40), *images("b", 10)]
    kept, held = hold_back(train, [], 0.25)
    assert {cls: len(own) for cls, own in by_class(held).items()} == {"a": 10, "b": 2}
    assert sorted([*kept, *held], key=lambda one: one.id) == train
    _, turned = hold_back(train[::-1], [], 0.25)
    assert {one.id for one in turned} == {one.id for one in held}
    assert [one for one in held if one.cls == "b"] == hold_back(images("b", 10), [], 0.25)[1]
    more = hold_back(train, [], 0.5)[1]
    assert {one.id for one in held} < {one.id for one in more}, "a larger share holds the same ones and others"


@pytest.mark.parametrize(("share", "held"), [(0.01, 1), (0.99, 3)])
def test_some_are_left_on_both_sides(share: float, held: int) -> None:
    assert len(hold_back(images("a", 4), [], share)[1]) == held


def test_views_of_one_object_stay_together() -> None:
    kept, held = hold_back(images("a", 50, unit=5), [], 0.3)
    assert len(held) == 15 and not {one.unit for one in held} & {one.unit for one in kept}


def test_a_single_image_cannot_be_both() -> None:
    with pytest.raises(UsageError, match="class 'a' has a single training image"):
        hold_back(images("a", 1), [], 0.5)


def test_validation_images_serve_where_there_are_some(tmp_path: Path) -> None:
    write_loco(tmp_path)
    found = index("mvtec_loco", tmp_path, (), validation=True)
    (task,) = tasks(found, "multi", share=0.5)
    (plain,) = tasks(index("mvtec_loco", tmp_path, ()), "multi")
    assert task.train == plain.train and task.test == plain.test
    assert task.calibration and {one.split for one in task.calibration} == {"val"}
    assert note(task.calibration, task.train).endswith("for thresholds") and "training" not in note(
        task.calibration, task.train
    )


def test_few_shots_are_held_back_of_the_shots() -> None:
    (task,) = tasks(source("industrial"), "few-shot", shots=4, seed=3, share=0.25)
    (shots,) = tasks(source("industrial"), "few-shot", shots=4, seed=3)
    assert {one.id for one in (*task.train, *task.calibration)} == {one.id for one in shots.train}
    assert [len(own) for own in by_class(task.calibration).values()] == [1, 1, 1, 1]


def test_a_half_split_holds_back_of_its_normal_classes() -> None:
    task, *_ = tasks(source(), "multi", share=0.25)
    assert {one.cls for one in task.calibration} == {"A"} and len(task.calibration) == 3
    assert not {one.id for one in task.calibration} & {one.id for one in task.train}
