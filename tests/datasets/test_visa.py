from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest
from layouts import area, repack_visa, write_visa
from PIL import Image

from bench.api import Counts, Sample
from bench.datasets._split_csv import read_split
from bench.datasets.visa import VisA
from bench.errors import DatasetError


@pytest.fixture
def visa(tmp_path: Path) -> VisA:
    write_visa(tmp_path / "VisA")
    return VisA(VisA.locate(tmp_path))


def without_files(sample: Sample) -> tuple[object, ...]:
    return sample.id, sample.cls, sample.split, sample.label, sample.defect, sample.image.name, len(sample.masks)


def test_index_masks_that_look_black_are_read(visa: VisA) -> None:
    bad = [sample for sample in visa.samples() if sample.label]
    values = {tuple(np.unique(np.asarray(Image.open(sample.masks[0])))) for sample in bad}
    assert values == {(0, 1), (0, 9)}
    assert all(np.array_equal(visa.read_mask(sample), area(6, 20)) for sample in bad)


@pytest.mark.parametrize("where", ["", "VisA_pytorch", "VisA_pytorch/1cls"])
def test_the_repacked_tree_gives_the_same_samples(visa: VisA, tmp_path: Path, where: str) -> None:
    repack_visa(visa.root, tmp_path / "other/VisA_pytorch/1cls")
    packed = VisA(VisA.locate(tmp_path / "other" / where))
    assert packed.root == tmp_path / "other/VisA_pytorch/1cls"
    assert [without_files(s) for s in packed.samples()] == [without_files(s) for s in visa.samples()]
    for ours, theirs in zip(packed.samples(), visa.samples(), strict=True):
        assert ours.image.read_bytes() == theirs.image.read_bytes()
        assert np.array_equal(packed.read_mask(ours), visa.read_mask(theirs))


def test_the_official_files_count_where_both_lie_side_by_side(visa: VisA, tmp_path: Path) -> None:
    repack_visa(visa.root, tmp_path / "VisA_pytorch/1cls")
    assert VisA.locate(tmp_path) == visa.root


def test_classes_that_are_not_there_are_left_out(visa: VisA) -> None:
    shutil.rmtree(visa.root / "pcb1")
    assert {sample.cls for sample in visa.samples()} == {"candle"}
    shutil.rmtree(visa.root / "candle")
    with pytest.raises(DatasetError, match=r"split_csv/1cls\.csv: no image of pcb1, .*pipe_fryum is here"):
        visa.samples()


def test_class_folders_without_the_split_file_are_told_apart(visa: VisA, tmp_path: Path) -> None:
    shutil.rmtree(visa.root / "split_csv")
    assert VisA.locate(tmp_path) == visa.root
    with pytest.raises(DatasetError, match=r"visa at .*: no split_csv/1cls\.csv beside .*candle, pcb1\. Expected it"):
        visa.samples()


def test_a_split_for_two_classes_is_refused(visa: VisA) -> None:
    path = visa.root / "split_csv/1cls.csv"
    path.write_text(path.read_text().replace("pcb1,test,anomaly", "pcb1,train,anomaly", 1))
    with pytest.raises(DatasetError, match=r"1cls\.csv:\d+: 'pcb1/.*' is anomalous, yet to be trained on"):
        visa.samples()


def test_the_official_list_has_the_cards_counts(shared: Path) -> None:
    groups, findings = read_split(shared / "data/visa", VisA.card.classes)
    assert not findings
    assert set(groups) == set(VisA.card.classes)
    for cls, entries in groups.items():
        kinds = [(entry.split, entry.defect) for entry in entries]
        seen = [kinds.count(kind) for kind in (("train", "good"), ("test", "good"), ("test", "anomaly"))]
        assert Counts(*seen) == VisA.card.counts[cls], cls
        assert all(bool(entry.mask) == (entry.defect == "anomaly") for entry in entries)
    totals = [sum(getattr(c, part) for c in VisA.card.counts.values()) for part in ("train", "good", "bad")]
    assert totals == [8659, 962, 1200]


def test_the_official_list_without_images_is_said_to_be_that(shared: Path) -> None:
    with pytest.raises(DatasetError, match="no image of pcb1"):
        VisA(VisA.locate(shared / "data")).samples()
