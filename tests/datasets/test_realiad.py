from __future__ import annotations

import json
import shutil
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from layouts import area, picture, write_mvtec, write_realiad, write_realiad_challenge, write_realiad_variety
from PIL import Image

from bench.api import Counts
from bench.cli.main import run
from bench.curate.verify import verify
from bench.datasets.realiad import RealIAD
from bench.datasets.realiad_challenge import RealIADChallenge
from bench.datasets.realiad_splits import Noisy40, SingleView
from bench.datasets.realiad_variety import RealIADVariety
from bench.errors import DatasetError


@pytest.fixture
def realiad(tmp_path: Path) -> RealIAD:
    write_realiad(tmp_path / "Real-IAD")
    return RealIAD(RealIAD.locate(tmp_path))


def split_file(realiad: RealIAD, cls: str = "zipper") -> Path:
    return realiad.root.parent / "realiad_jsons/realiad_jsons" / f"{cls}.json"


def change(realiad: RealIAD, part: str, index: int, **values: Any) -> None:
    path = split_file(realiad)
    content = json.loads(path.read_text())
    content[part][index].update(values)
    path.write_text(json.dumps(content))


def refuses(realiad: RealIAD, *parts: str) -> None:
    with pytest.raises(DatasetError) as caught:
        realiad.samples()
    for part in (*parts, "bench data verify realiad"):
        assert part in str(caught.value)


def test_views_are_images_of_one_object_each_with_its_own_label(realiad: RealIAD) -> None:
    found = [sample for sample in realiad.samples() if sample.unit == "zipper/NG/HS/S0003"]
    assert [(sample.label, sample.defect, len(sample.masks)) for sample in found] == [
        (1, "HS", 1),
        (1, "HS", 1),
        (0, "good", 0),
        (1, "HS", 1),
        (0, "good", 0),
    ]
    assert set(Counter(sample.unit for sample in realiad.samples()).values()) == {5}
    assert len({sample.unit for sample in realiad.samples()}) == 8


def test_a_mask_does_not_make_an_image_anomalous(realiad: RealIAD) -> None:
    before = realiad.samples()
    change(realiad, "test", 7, mask_path="NG/HS/S0003/zipper_0003_HS_C1_20231021.png")
    assert realiad.samples() == before


@pytest.mark.parametrize("size", ["realiad_256", "realiad_512", "realiad_raw"])
def test_other_sizes_are_read_and_named_alike(realiad: RealIAD, size: str) -> None:
    ids = [sample.id for sample in realiad.samples()]
    shutil.copytree(realiad.root, realiad.root.parent / size)
    assert RealIAD.locate(realiad.root.parent) == realiad.root, "1024 goes first, as in the papers"
    other = RealIAD(RealIAD.locate(realiad.root.parent / size))
    assert [sample.id for sample in other.samples()] == ids
    assert all(size in sample.image.parts for sample in other.samples())


@pytest.mark.parametrize("inside", ["realiad_jsons/realiad_jsons", "realiad_jsons", "."])
def test_split_files_may_lie_among_the_classes(realiad: RealIAD, tmp_path: Path, inside: str) -> None:
    ids = [sample.id for sample in realiad.samples()]
    flat = tmp_path / "flat/realiad"
    shutil.copytree(realiad.root, flat)
    shutil.copytree(split_file(realiad).parent, flat / inside, dirs_exist_ok=True)
    assert [sample.id for sample in RealIAD(RealIAD.locate(tmp_path / "flat")).samples()] == ids


def test_a_class_may_be_missing_but_not_its_split_file(realiad: RealIAD) -> None:
    shutil.rmtree(realiad.root / "audiojack")
    assert {sample.cls for sample in realiad.samples()} == {"zipper"}
    split_file(realiad).unlink()
    refuses(realiad, "no split file zipper.json", f"Expected {split_file(realiad)}")


def test_a_missing_image_is_named(realiad: RealIAD) -> None:
    sample = next(s for s in realiad.samples() if s.cls == "zipper")
    sample.image.unlink()
    refuses(realiad, str(sample.image), "zipper.json test[")


def test_mvtec_shares_class_names_and_is_not_mistaken(tmp_path: Path) -> None:
    write_mvtec(tmp_path)
    (tmp_path / "carpet").rename(tmp_path / "zipper")
    with pytest.raises(DatasetError, match="realiad is not at"):
        RealIAD.locate(tmp_path)


def test_noisy_training_data_is_refused(realiad: RealIAD) -> None:
    noisy = realiad.root.parent / "realiad_jsons/realiad_jsons_fuiad_0.4/zipper.json"
    shutil.copy(noisy, split_file(realiad))
    refuses(realiad, "train[5]", "is anomalous, yet to be trained on")


def test_masks_are_needed(realiad: RealIAD) -> None:
    change(realiad, "test", 5, mask_path=None)
    refuses(realiad, "test[5]", "zipper_0003_HS_C1_20231021.jpg is anomalous, but no mask is named")


@pytest.mark.parametrize(
    ("values", "told"),
    [
        ({"image_path": "../audiojack/OK/S0001/audiojack_0001_OK_C1_20231021.jpg"}, "points outside its folder"),
        ({"image_path": "/etc/passwd"}, "points outside its folder"),
        ({"image_path": "C:/windows/a.jpg"}, "points outside its folder"),
        ({"image_path": "OK\\S0001\\a.jpg"}, "names no object's folder"),
        ({"image_path": "OK/S0001/\x00.jpg"}, "is no usable path"),
        ({"image_path": "OK/S0001/a.json"}, "is no image"),
        ({"image_path": "a.jpg"}, "names no object's folder"),
        ({"image_path": "./a.jpg"}, "names no object's folder"),
        ({"mask_path": "../../outside.png"}, "mask '../../outside.png' points outside"),
        ({"category": "toy"}, "category 'toy'. Expected zipper"),
        ({"anomaly_class": ""}, "anomaly_class ''"),
        ({"anomaly_class": "good"}, "anomaly_class 'good'. Expected OK or a defect's name"),
        ({"anomaly_class": None}, "test.5.anomaly_class: Input should be a valid string"),
    ],
)
def test_hostile_entries_are_refused_and_named(realiad: RealIAD, values: dict[str, Any], told: str) -> None:
    change(realiad, "test", 5, **values)
    refuses(realiad, "zipper.json", told)
    samples, findings = realiad.inspect()
    assert {finding.cls for finding in findings} == {"zipper"}
    assert {"audiojack"} <= {sample.cls for sample in samples}, "the other class is read all the same"


def test_an_entry_given_twice_is_refused(realiad: RealIAD) -> None:
    first = json.loads(split_file(realiad).read_text())["train"][0]
    change(realiad, "test", 0, **first)
    refuses(realiad, "test[0]", "was named in", "train[0] already")


@pytest.mark.parametrize(
    ("content", "told"),
    [
        (b"", "Invalid JSON"),
        (b"[1, 2", "Invalid JSON"),
        (b"\xff\xfe\x00", "Invalid JSON"),
        (b'{"meta": {}, "train": [], "test": ["\\ud800"]}', "Invalid JSON"),
        (b"[" * 100_000, "Invalid JSON"),
        (b"[]", "Expected Real-IAD's JSON"),
        (b'{"meta": {"normal_class": "HS"}, "train": [], "test": []}', "meta.normal_class: Input should be 'OK'"),
        (b'{"meta": {}, "train": []}', "test: Field required"),
        (b'{"meta": {}, "train": {}, "test": []}', "train: Input should be a valid array"),
    ],
)
def test_broken_split_files_are_refused_and_named(realiad: RealIAD, content: bytes, told: str) -> None:
    split_file(realiad).write_bytes(content)
    refuses(realiad, "zipper.json", told)


def test_the_card_tells_the_totals_and_invents_no_class_counts() -> None:
    card = RealIAD.card
    assert len(card.classes) == 30
    assert not card.counts
    assert card.totals == Counts(36465, 63256, 51329)


def test_a_split_file_larger_than_one_may_be_is_not_read(realiad: RealIAD) -> None:
    with split_file(realiad).open("ab") as file:
        file.truncate(100 << 20)
    refuses(realiad, "zipper.json: cannot be read (it has 104,857,600 bytes, expected at most 67,108,864)")


def test_the_single_view_split_has_one_view_an_object(realiad: RealIAD) -> None:
    single = SingleView(SingleView.locate(realiad.root.parent))
    assert set(Counter(sample.unit for sample in single.samples()).values()) == {1}
    assert single.card.name == "realiad_sv" and single.card.totals is None


def test_anomalous_training_images_of_the_noisy_splits_are_trained_on_and_told(
    realiad: RealIAD, tmp_path: Path, small: Callable
) -> None:
    noisy = Noisy40(Noisy40.locate(realiad.root.parent))
    bad = [sample for sample in noisy.samples() if sample.split == "train" and sample.label]
    assert len(bad) == 2 * 4 and not any(sample.masks for sample in bad)
    assert {counts.train for counts in verify(noisy).seen.values()} == {5 + 4}
    command = [*small("realiad_fuiad_0.4", steps=2), "--data-root", str(realiad.root.parent), "-q"]
    assert run([*command, "--results", str(tmp_path / "out")]) == 0
    (path,) = (tmp_path / "out").rglob("s0-*.json")
    facts = json.loads(path.read_text())["dataset"]
    assert "audiojack: 4 of 9 training images are anomalous" in facts["notes"]
    assert len(facts["chosen"]) == 8


def test_views_of_variety_without_a_mask_are_normal_and_others_of_realiad_are_refused(tmp_path: Path) -> None:
    write_realiad_variety(tmp_path)
    variety = RealIADVariety(RealIADVariety.locate(tmp_path))
    object_ = [sample for sample in variety.samples() if sample.unit == "adapter/NG/AK/S0003"]
    assert [(sample.label, sample.defect) for sample in object_] == [(1, "AK")] * 2 + [(0, "good")] * 3
    assert not verify(variety).findings
    with pytest.raises(DatasetError, match="no class found"):
        RealIAD(variety.root).samples()


def test_a_split_whose_files_are_missing_is_refused_by_name(realiad: RealIAD) -> None:
    shutil.rmtree(realiad.root.parent / "realiad_jsons/realiad_jsons_fuiad_0.4")
    with pytest.raises(DatasetError, match=r"no split file audiojack\.json.*realiad_jsons_fuiad_0\.4"):
        Noisy40(Noisy40.locate(realiad.root.parent)).samples()


@pytest.fixture
def challenge(tmp_path: Path) -> RealIADChallenge:
    write_realiad_challenge(tmp_path)
    return RealIADChallenge(RealIADChallenge.locate(tmp_path))


def test_the_challenge_s_labels_are_objects_and_masks_stand_for_the_whole_image(challenge: RealIADChallenge) -> None:
    found = {sample.id: sample for sample in challenge.samples()}
    views = [found[f"DVD_switch/test/Test_A/S0001/{view}"] for view in range(5)]
    assert [one.label for one in views] == [1] * 5 and len({one.unit for one in views}) == 1
    # half as large as the image, and the same area of it
    whole = challenge.read_mask(views[1])
    assert Image.open(views[1].masks[0]).size == (whole.shape[1] // 2, whole.shape[0] // 2)
    assert np.array_equal(whole, area(6, 20))
    assert {one.split for one in found.values() if "Test_B" in one.id} == {"unlabelled"}
    assert not any(one.cls == "only_tested" for one in found.values())
    assert not verify(challenge).findings
    Image.new("L", (24, 20)).save(views[0].masks[0])
    assert [one.kind for one in verify(challenge).findings] == ["empty-mask"]


@pytest.mark.parametrize("place", ["Test_A", "standard", "."])
def test_answers_may_lie_elsewhere(challenge: RealIADChallenge, place: str) -> None:
    before = challenge.samples()
    shutil.rmtree(challenge.root / "Test_B")
    (challenge.root / place).mkdir(exist_ok=True)
    for path in (challenge.root / "standard_A").iterdir():
        shutil.move(path, challenge.root / place / path.name)
    after = challenge.samples()
    assert [(one.id, one.label) for one in after] == [(one.id, one.label) for one in before if "Test_B" not in one.id]


def test_a_challenge_without_answers_is_unlabelled(challenge: RealIADChallenge) -> None:
    shutil.rmtree(challenge.root / "standard_A")
    samples = challenge.samples()
    assert {one.label for one in samples if one.split != "train"} == {None}
    assert sum(one.split == "unlabelled" for one in samples) == 2 * 3 * 5


@pytest.mark.parametrize(
    ("line", "told"),
    [
        ("DVD_switch/S0001,2", "label '2'. Expected 0 of a normal object or 1"),
        ("DVD_switch/S0001,", "label ''"),
        ("DVD_switch,1", "group_folder 'DVD_switch'. Expected <class>/<object>"),
        ("../DVD_switch/S0001,1", "points outside"),
        ("DVD_switch/S0009,1", "object DVD_switch/S0009 has no image"),
        ("DVD_switch/S0002,1", "DVD_switch/S0002 was named in standard_A/ground_truth.csv:5 already"),
        ("DVD_switch/S0001", "1 field. Expected 2"),
    ],
)
def test_hostile_answers_are_refused_and_named(challenge: RealIADChallenge, line: str, told: str) -> None:
    table = challenge.root / "standard_A/ground_truth.csv"
    table.write_text(table.read_text(encoding="utf-8") + line + "\n", encoding="utf-8")
    with pytest.raises(DatasetError) as caught:
        challenge.samples()
    assert told in str(caught.value) and "ground_truth.csv:6" in str(caught.value)


def test_an_object_that_the_answers_do_not_name_is_refused(challenge: RealIADChallenge) -> None:
    picture(challenge.root / "Test_A/3_adapter/S0003/0.png")
    assert [(one.kind, one.where) for one in challenge.inspect()[1]] == [("layout", "Test_A/3_adapter/S0003")]


def test_a_challenge_is_run_and_its_objects_are_scored(
    challenge: RealIADChallenge, tmp_path: Path, small: Callable
) -> None:
    command = [*small("realiad_challenge", steps=2), "--data-root", str(challenge.root.parent), "-q"]
    assert run([*command, "--results", str(tmp_path / "out"), "--metrics", "sample/auroc"]) == 0
    (path,) = (tmp_path / "out").rglob("s0-*.json")
    record = json.loads(path.read_text())
    assert record["dataset"]["test_bad"] == {"3_adapter": 5, "DVD_switch": 5}
    assert record["scores"]["DVD_switch"]["values"]["sample/auroc"] in (0.0, 0.5, 1.0), "of two objects"
