from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from layouts import area, mask, write_loco
from PIL import Image

from bench.api import Counts, Finding, Sample, by_class
from bench.curate.verify import verify
from bench.datasets.mvtec_loco import MVTecLoco
from bench.errors import DatasetError
from bench.machine.progress import Silent
from bench.machine.timing import Stopwatch
from bench.metrics import auspro
from bench.plan.settings import tasks
from bench.plan.task import hashed, index
from bench.protocol import COMMON
from bench.run import scoring
from bench.run.single_defects import read_defects


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


def anomalous(loco: MVTecLoco, masks: int) -> Sample:
    return next(sample for sample in loco.samples() if sample.label and len(sample.masks) == masks)


def test_defects_come_one_by_one_with_the_area_that_suffices(loco: MVTecLoco) -> None:
    sample = anomalous(loco, 2)
    found = loco.read_defects(sample)
    assert found is not None and [int(one.mask.sum()) for one in found] == [64, 64]
    # kind 241: half of the area; kind 7: three pixels
    assert [one.saturation for one in found] == [32, 3]
    assert np.array_equal(found[0].mask | found[1].mask, loco.read_mask(sample))


def test_without_the_file_of_saturation_areas_there_are_no_single_defects(loco: MVTecLoco) -> None:
    (loco.root / "juice_bottle" / "defects_config.json").unlink()
    for sample in loco.samples():
        if sample.label:
            assert (loco.read_defects(sample) is None) == (sample.cls == "juice_bottle")


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("{", "JSONDecodeError"),
        ("[[]]", "TypeError"),
        ('[{"pixel_value": 241}]', "KeyError: 'saturation_threshold'"),
        ('[{"pixel_value": 241, "saturation_threshold": 0, "relative_saturation": true}]', "no positive number"),
        ('[{"pixel_value": 1, "saturation_threshold": 1, "relative_saturation": true}]', "kind of defect 241"),
    ],
)
def test_a_file_of_saturation_areas_that_does_not_fit_is_named(loco: MVTecLoco, content: str, message: str) -> None:
    (loco.root / "juice_bottle" / "defects_config.json").write_text(content)
    sample = next(one for one in loco.samples() if one.label and one.cls == "juice_bottle")
    with pytest.raises(DatasetError, match=rf"defects_config\.json.*{message}|{message}.*defects_config\.json"):
        loco.read_defects(sample)


def test_a_mask_of_two_kinds_is_refused(loco: MVTecLoco) -> None:
    sample = anomalous(loco, 1)
    values = np.asarray(Image.open(sample.masks[0])).copy()
    values[0, 0] = 7
    Image.fromarray(values).save(sample.masks[0])
    with pytest.raises(DatasetError, match="found 7, 241, expected one value above 0"):
        loco.read_defects(sample)


def test_saturated_overlap_is_measured_by_default_at_the_authors_limits(loco: MVTecLoco) -> None:
    (task,) = tasks(hashed(index("mvtec_loco", loco.root, ()), Silent()), "multi")
    masks = scoring.read_masks(task, COMMON, 256)
    defects = read_defects(task, COMMON, 256, (*COMMON.metrics, *loco.metrics))
    assert {cls: len(own) for cls, own in defects.items()} == {"breakfast_box": 5, "juice_bottle": 5}
    maps = np.random.default_rng(0).random((6, 256, 256)).astype(np.float32)

    def predict(samples: Any, map_wanted: bool, advance: Any) -> Any:
        return maps[: len(samples)], maps[: len(samples)].max((1, 2)).astype(np.float64)

    found = scoring.score(task, COMMON, predict, masks, Stopwatch(), Silent(), defects=defects, keep_maps=None)
    for cls, own in defects.items():
        single = [one.unpacked(256) for one in own]
        for limit in (0.01, 0.05, 0.1, 0.3, 1):
            assert found.extra[cls][f"pixel/auspro@{limit}"] == auspro(maps, single, limit)
        # half of the larger defects' area is enough at any size
        assert single[0].saturation == pytest.approx(single[0].mask.sum() / 2, rel=0.02)
    assert "image/auroc:logical" in found.extra["juice_bottle"]
    without = scoring.score(task, COMMON, predict, masks, Stopwatch(), Silent(), keep_maps=None)
    assert without.extra["juice_bottle"].reasons["pixel/auspro@0.05"] == "no defects with saturation areas"
