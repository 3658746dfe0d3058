from __future__ import annotations

import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from bench.api import Card, Dataset, Sample, Split, by_class
from bench.errors import UsageError
from bench.plan.settings import check, choose, tasks
from bench.plan.task import IndexedDataset

CLASSES = tuple("abcd")
HALVES = {"A": ("a", "b"), "B": ("c", "d"), "C": ("a", "c"), "D": ("b", "d")}


def card(kind: Any = "semantic", name: str = "letters", **changes: Any) -> Card:
    facts: dict[str, Any] = {"title": "", "counts": {}, "masks": "none", "licence": "", "citation": "", "source": ""}
    splits = HALVES if kind == "semantic" else {}
    return Card(**{**facts, "name": name, "kind": kind, "classes": CLASSES, "splits": splits, **changes})


def samples(train: int = 6, test: int = 3, classes: tuple[str, ...] = CLASSES, bad: bool = False) -> list[Sample]:
    made = []
    parts: list[tuple[Split, int]] = [("train", train), ("test", test)]
    for cls in classes:
        for split, count in parts:
            for index in range(count):
                label = int(bad and split == "test" and index > 0)
                name = f"{cls}/{split}/{index:05}"
                made.append(
                    Sample(name, cls, split, label, "scratch" if label else "good", Path("all"), member=str(index))
                )
    return made


def source(
    kind: Any = "semantic", classes: tuple[str, ...] = CLASSES, found: list[Sample] | None = None
) -> IndexedDataset:
    class Letters(Dataset):
        card = card(kind)

        @classmethod
        def locate(cls, data_root: Path | None) -> Path:
            return Path()

        def samples(self) -> tuple[Sample, ...]:
            return ()

    given = samples(bad=kind == "industrial") if found is None else found
    return IndexedDataset("letters", Letters(Path()), classes, len(CLASSES), tuple(given), {Path("all"): "0"})


def test_thresholds_are_set_on_normal_images_where_owners_mix_anomalous_ones_in() -> None:
    found = [replace(one, label=int(one.split == "train" and one.member in "12")) for one in samples()]
    (task,) = tasks(source("industrial", found=found), "multi", share=0.5)
    assert not any(sample.label for sample in task.calibration) and len(task.calibration) == 2 * len(CLASSES)
    assert sum(sample.label == 1 for sample in task.train) == 2 * len(CLASSES)


def test_one_model_for_all_classes_of_an_industrial_set() -> None:
    (task,) = tasks(source("industrial"), "multi")
    assert (task.part, task.parts_known, task.classes, task.normal) == ("", 1, CLASSES, ())
    assert task.train == tuple(s for s in samples(bad=True) if s.split == "train")
    assert task.test == tuple(s for s in samples(bad=True) if s.split == "test")


def test_a_model_a_class_of_an_industrial_set() -> None:
    made = tasks(source("industrial", classes=("b", "d")), "single")
    assert [(task.part, task.classes, task.parts_known) for task in made] == [("b", ("b",), 4), ("d", ("d",), 4)]
    for task in made:
        own = [sample for sample in samples(bad=True) if sample.cls == task.part]
        assert [*task.train, *task.test] == own


def test_a_half_split_is_tested_on_the_whole_test_split() -> None:
    made = tasks(source(), "multi")
    assert [(task.part, task.normal, task.parts_known) for task in made] == [(k, v, 4) for k, v in HALVES.items()]
    for task in made:
        assert task.classes == (task.part,)
        assert {sample.id[0] for sample in task.train} == set(task.normal) and len(task.train) == 12
        assert [sample.id for sample in task.test] == [s.id for s in samples() if s.split == "test"]
        for sample in (*task.train, *task.test):
            true = sample.id[0]
            assert sample.cls == task.part and sample.label == int(true not in task.normal)
            assert sample.defect == ("good" if true in task.normal else true)


def test_only_the_splits_asked_for() -> None:
    assert [task.part for task in tasks(source(), "multi", splits=("D", "A"))] == ["A", "D"], "in the card's order"
    assert {task.parts_known for task in tasks(source(), "multi", splits=("A",))} == {4}


def test_one_against_the_rest() -> None:
    made = tasks(source(classes=("a", "c")), "single")
    assert [(task.part, task.normal, task.parts_known) for task in made] == [("a", ("a",), 4), ("c", ("c",), 4)]
    for task in made:
        assert {sample.id[0] for sample in task.train} == {task.part}
        assert len(task.test) == 12 and sum(sample.label for sample in task.test) == 9


@pytest.mark.parametrize("kind", ["industrial", "semantic"])
def test_validation_images_are_nowhere(kind: Any) -> None:
    mixed = [replace(s, split="val") if index % 2 else s for index, s in enumerate(samples())]
    for setting, shots in (("multi", None), ("single", None), ("few-shot", 1), ("few-shot-single", 1)):
        for task in tasks(source(kind, found=mixed), setting, shots=shots):
            assert {sample.split for sample in task.train} == {"train"}
            assert {sample.split for sample in task.test} == {"test"}


@pytest.mark.parametrize("kind", ["industrial", "semantic"])
@pytest.mark.parametrize(("setting", "like"), [("few-shot", "multi"), ("few-shot-single", "single")])
def test_few_shots_are_k_images_a_class_of_the_same_models(setting: str, like: str, kind: Any) -> None:
    few_shot = tasks(source(kind), setting, shots=2, seed=1)
    for few, whole in zip(few_shot, tasks(source(kind), like), strict=True):
        assert few.setting == setting
        assert (few.part, few.classes, few.test, few.shots) == (whole.part, whole.classes, whole.test, 2)
        assert set(few.train) < set(whole.train)
        for cls in few.normal or few.classes:
            assert sum(sample.id[0] == cls for sample in few.train) == 2


def test_a_model_a_class_sees_the_images_that_one_for_all_sees_of_it() -> None:
    (together,) = tasks(source("industrial"), "few-shot", shots=2, seed=3)
    alone = tasks(source("industrial"), "few-shot-single", shots=2, seed=3)
    assert [task.part for task in alone] == list(CLASSES)
    assert tuple(sample for task in alone for sample in task.train) == together.train


def test_the_choice_is_the_seeds_and_no_one_elses() -> None:
    found = samples(train=40, test=0)
    one = choose(found, 4, seed=1)
    assert one == choose(list(reversed(found)), 4, seed=1)[::-1], "the order of the files does not count"
    assert one != choose(found, 4, seed=2)
    assert [s for s in one if s.cls == "b"] == choose([s for s in found if s.cls == "b"], 4, seed=1)
    assert set(choose(found, 3, seed=1)) < set(one), "fewer shots are a part of more"
    assert [s.id for s in choose(samples(train=5, test=0, classes=("a",)), 2, seed=0)] == [
        "a/train/00000",
        "a/train/00003",
    ], "the choice differs from the one recorded before"
    assert choose(found, 40, seed=3) == found


def test_every_image_is_chosen_by_some_seed_and_about_as_often() -> None:
    found = samples(train=10, test=0, classes=("a",))
    counts = dict.fromkeys((sample.id for sample in found), 0)
    for seed in range(300):
        for sample in choose(found, 3, seed):
            counts[sample.id] += 1
    # 300 draws of 3 in 10: 90 each, with a standard deviation of 8
    assert all(55 < count < 125 for count in counts.values())


def test_more_shots_than_images_are_refused() -> None:
    with pytest.raises(UsageError, match=r"--shots 7: class 'a' has 6 training images"):
        tasks(source("industrial"), "few-shot", shots=7)


def test_fingerprints_follow_labels_images_and_members() -> None:
    prints = [task.fingerprint for setting in ("multi", "single") for task in tasks(source(), setting)]
    prints += [tasks(source(), "few-shot", shots=2, seed=seed)[0].fingerprint for seed in (0, 1)]
    assert len(set(prints)) == len(prints)
    again = tasks(source(), "multi")[0]
    assert again.fingerprint == prints[0]
    moved = replace(again, test=(replace(again.test[0], member="other"), *again.test[1:]))
    assert moved.fingerprint != again.fingerprint


def test_seventy_thousand_images_are_no_work(tmp_path: Path) -> None:
    big = source(found=samples(train=15_000, test=2_500))
    before = time.process_time()
    for setting in ("multi", "single"):
        assert len({task.fingerprint for task in tasks(big, setting)}) == 4
    assert all(task.has_masks == {task.part: False} for task in tasks(big, "multi"))
    # quadratic work would take an hour; this bound is for catching it, not for measuring
    assert time.process_time() - before < 120


@pytest.mark.parametrize(
    ("given", "message"),
    [
        (
            {"settings": ["mutli"]},
            r"unknown setting 'mutli'. Did you mean 'multi'\? Known: multi, single, few-shot, few-shot-single",
        ),
        ({"settings": ["few-shot"]}, r"--setting few-shot: how many training images a class\? Expected --shots K"),
        ({"settings": ["single", "few-shot-single"]}, r"--setting few-shot-single: how many training images a class\?"),
        ({"classes": ["a"], "settings": ["few-shot"], "shots": 1}, "or --setting few-shot-single"),
        (
            {"splits": ["A"], "settings": ["few-shot-single"], "shots": 1},
            "--splits A: letters has none in setting few-",
        ),
        ({"settings": ["multi", "single"], "shots": 3}, "--shots 3: setting multi, single has none"),
        ({"classes": ["a"]}, r"--classes a: .*half-splits of letters.*--splits A,B,C,D or some of them, or --setting"),
        ({"classes": ["a"], "settings": ["single", "few-shot"], "shots": 1}, "--classes a: in setting few-shot"),
        ({"splits": ["E"]}, "letters has no split 'E'.*Known: A, B, C, D"),
        ({"splits": ["A"], "settings": ["single"]}, "--splits A: letters has none in setting single"),
        ({"splits": ["A"], "cards": [card(), card("industrial", "parts")]}, "--splits A: parts has none"),
        ({"cards": [card(splits={})]}, "letters has no half-splits for setting multi. Expected --setting single"),
    ],
)
def test_what_means_nothing_is_refused(given: dict[str, Any], message: str) -> None:
    defaults = {"cards": [card()], "settings": ["multi"], "classes": [], "splits": [], "shots": None}
    with pytest.raises(UsageError, match=message):
        check(**{**defaults, **given})


def test_what_means_something_passes() -> None:
    industrial = card("industrial", "parts")
    check([card(), industrial], ["multi", "single"], [], [], None)
    check([card(), industrial], ["multi", "few-shot"], [], [], 4)
    check([card(), industrial], ["single"], ["a"], [], None)
    check([industrial], ["multi", "single"], ["a"], [], None)
    check([card(), industrial], ["few-shot-single"], ["a"], [], 1)
    check([card()], ["multi", "few-shot"], [], ["A", "D"], 1)


def test_groups_of_the_pipeline_are_the_parts() -> None:
    for task in (*tasks(source(), "multi"), *tasks(source("industrial"), "single")):
        assert list(by_class(task.test)) == list(by_class(task.train)) == [task.part] == list(task.classes)
