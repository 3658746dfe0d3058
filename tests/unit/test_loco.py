from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest
from layouts import area, mask, write_loco
from PIL import Image

from bench.api import Counts, Finding, by_class
from bench.datasets.mvtec_loco import MVTecLoco
from bench.errors import DatasetError
from bench.loading.verify import verify


@pytest.fixture
def loco(tmp_path: Path) -> MVTecLoco:
    write_loco(tmp_path / "mvtec_loco_anomaly_detection")
    return MVTecLoco(MVTecLoco.locate(tmp_path))


def layout_findings(loco: MVTecLoco) -> list[tuple[str, str]]:
    return [(finding.kind, finding.where) for finding in loco.inspect()[1]]


def test_masks_are_the_union_of_all_files_whatever_their_values(loco: MVTecLoco) -> None:
    sample = next(s for s in loco.samples() if len(s.masks) == 2)
    assert [path.name for path in sample.masks] == ["000.png", "001.png"]
    assert np.unique(np.asarray(Image.open(sample.masks[1]))).tolist() == [0, 7]
    assert np.array_equal(loco.read_mask(sample), area(6, 20) | area(25, 2))


def test_families_part_the_anomalous_images_only(loco: MVTecLoco) -> None:
    for found in by_class(loco.samples()).values():
        assert sorted(s.family for s in found if s.label) == ["logical"] * 2 + ["structural"] * 2
        assert {s.family for s in found if not s.label} == {""}


def test_validation_images_are_neither_trained_on_nor_tested(loco: MVTecLoco) -> None:
    report = verify(loco)
    assert set(report.seen.values()) == {Counts(train=3, good=2, bad=4, val=2)}
    assert {finding.kind for finding in report.findings} == {"count"}
    assert {sample.split for sample in loco.samples() if "/validation/" in str(sample.image)} == {"val"}


def test_an_image_whose_masks_are_gone_is_found(loco: MVTecLoco) -> None:
    truth = loco.root / "juice_bottle/ground_truth/structural_anomalies"
    shutil.rmtree(truth / "001")
    (truth / "000/000.png").unlink()
    (truth / "000/notes.txt").write_text("no mask")
    wanted = [("missing-mask", f"juice_bottle/test/structural_anomalies/00{number}.png") for number in (0, 1)]
    assert layout_findings(loco) == wanted
    with pytest.raises(DatasetError, match=r"Expected .*structural_anomalies/000/000\.png.*and 1 more"):
        loco.samples()


def test_masks_of_no_image_are_found_one_by_one(loco: MVTecLoco) -> None:
    mask(loco.root / "juice_bottle/ground_truth/logical_anomalies/007/000.png")
    mask(loco.root / "juice_bottle/ground_truth/logical_anomalies/007/001.png")
    mask(loco.root / "juice_bottle/ground_truth/scratches/000/000.png")
    findings: tuple[Finding, ...] = loco.inspect()[1]
    assert [(finding.kind, finding.where.rpartition("ground_truth/")[2]) for finding in findings] == [
        ("orphan-mask", "logical_anomalies/007/000.png"),
        ("orphan-mask", "logical_anomalies/007/001.png"),
        ("orphan-mask", "scratches"),
    ]
    assert "test/logical_anomalies/007.*" in findings[0].text


def test_the_card_holds_the_distributed_counts_and_tells_the_papers() -> None:
    counts = MVTecLoco.card.counts.values()
    assert [sum(getattr(c, part) for c in counts) for part in ("train", "val", "good", "bad")] == [
        1778,
        305,
        575,
        561 + 432,
    ]
    assert any("1,772" in note and "304" in note for note in MVTecLoco.card.notes)
