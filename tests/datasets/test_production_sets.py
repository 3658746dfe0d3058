"""AutoVI, VAD, BMAD and their like: what differs from MVTec AD's layout."""

from __future__ import annotations

from pathlib import Path

import pytest
from layouts import picture, write_autovi, write_bmad, write_goodsad, write_vad

from bench.curate.verify import verify
from bench.datasets.autovi import AutoVI
from bench.datasets.bmad import BMAD
from bench.datasets.goodsad import GoodsAD
from bench.datasets.threecad import ThreeCAD
from bench.datasets.vad import VAD
from bench.errors import DatasetError


def test_autovi_is_scored_by_saturated_overlap_where_a_class_says_how_much_is_enough(tmp_path: Path) -> None:
    write_autovi(tmp_path)
    autovi = AutoVI(AutoVI.locate(tmp_path))
    assert "pixel/auspro@0.05" in autovi.metrics
    found = {sample.cls: autovi.read_defects(sample) for sample in autovi.samples() if sample.label}
    assert found["pipe_clip"] is None and found["tank_screw"] is not None
    (single,) = found["tank_screw"]
    assert single.saturation == single.mask.sum() == 64


def test_anomalous_training_images_of_vad_are_used_by_none_and_told(tmp_path: Path) -> None:
    write_vad(tmp_path)
    vad = VAD(VAD.locate(tmp_path))
    assert not any("/train/bad/" in str(sample.image) for sample in vad.samples())
    assert vad.notes == (("vad", "3 anomalous images of train/bad are left out: no method trains on them"),)
    assert not verify(vad).findings


def test_anomalous_training_images_of_others_stop_a_run(tmp_path: Path) -> None:
    write_goodsad(tmp_path)
    picture(tmp_path / "food_box/train/bad/000.jpg")
    with pytest.raises(DatasetError, match=r"train.bad.*images to train on\. Expected only normal ones"):
        GoodsAD(GoodsAD.locate(tmp_path)).samples()


def test_bmad_has_masks_beside_its_images_and_thresholds_from_its_validation_images(tmp_path: Path) -> None:
    write_bmad(tmp_path)
    bmad = BMAD(BMAD.locate(tmp_path))
    samples = bmad.samples()
    assert {sample.masks[0].parent.name for sample in samples if sample.masks} == {"label"}
    assert {(sample.cls, sample.defect) for sample in samples if sample.split == "val"} == {
        ("Brain", "good"),
        ("Chest", "good"),
    }
    assert [note for _, note in bmad.notes] == [
        "2 anomalous images of valid/Ungood are left out: thresholds are set on normal ones"
    ] * 2
    # normal test images have black masks, which is no defect of the set
    assert not verify(bmad).findings


def test_a_mask_of_bmad_without_its_image_is_named(tmp_path: Path) -> None:
    write_bmad(tmp_path)
    (tmp_path / "BMAD/Brain/test/Ungood/img/00001_61.png").unlink()
    with pytest.raises(DatasetError, match=r"label/00001_61.png: mask without an image"):
        BMAD(BMAD.locate(tmp_path)).samples()


@pytest.mark.parametrize(
    ("kind", "totals"), [(AutoVI, (1530, 1533, 887)), (GoodsAD, (3136, 1328, 1660)), (ThreeCAD, (10493, 5084, 11462))]
)
def test_counts_add_up_to_the_published_totals(
    kind: type[AutoVI | GoodsAD | ThreeCAD], totals: tuple[int, int, int]
) -> None:
    stated = [kind.card.totals] if kind.card.totals else list(kind.card.counts.values())
    assert tuple(sum(getattr(one, part) for one in stated) for part in ("train", "good", "bad")) == totals
