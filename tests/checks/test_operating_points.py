"""Operating points are checked, compared and framed like every other number."""

from __future__ import annotations

from pathlib import Path

import pytest
from builders.calibrated_records import calibrated

import bench
from bench.checks.paired import compare
from bench.checks.series import MEAN, series
from bench.checks.tolerance import Tolerances, parse_tolerances
from bench.checks.verdicts import check
from bench.store.evidence import EvidenceFiles
from bench.store.record import Record


def with_alarms(alarms: int) -> Record:
    """The made record with so many false alarms of 20 normal images of bottle at every threshold."""
    record = calibrated()
    assert record.calibration is not None
    bottle = record.calibration.classes["bottle"]
    moved = {
        rule: point.model_copy(update={"false_alarms": point.false_alarms.model_copy(update={"count": alarms})})
        for rule, point in bottle.image.items()
    }
    classes = {**record.calibration.classes, "bottle": bottle.model_copy(update={"image": moved})}
    return record.model_copy(update={"calibration": record.calibration.model_copy(update={"classes": classes})})


def test_more_false_alarms_are_worse_and_fewer_are_better() -> None:
    for alarms, verdict in ((1, "same"), (4, "worse"), (0, "better")):
        (found,) = check(series([calibrated()]), [with_alarms(alarms)], Tolerances())
        told = {(one.line, one.metric): one for one in found.findings}
        assert told["bottle", "image/false_alarms@q0.95"].verdict == verdict
        assert told["bottle", "image/found@q0.95"].verdict == "same"
        assert told[MEAN, "pixel/segf1@max"].current == pytest.approx((0.3 + 0.5) / 2)
        assert found.failed == (verdict == "worse")
    wide = parse_tolerances(["image/false_alarms@q0.95=0.5", "image/false_alarms@max=0.5"], 5.0)
    (found,) = check(series([calibrated()]), [with_alarms(4)], wide)
    assert not found.failed


def test_a_record_without_thresholds_lacks_what_the_baseline_has() -> None:
    (found,) = check(series([calibrated()]), [calibrated().model_copy(update={"calibration": None})], Tolerances())
    assert {one.verdict for one in found.findings if one.metric.startswith("image/found")} == {"missing"}


def test_two_methods_are_compared_at_their_thresholds(tmp_path: Path) -> None:
    (first,), (second,) = series([calibrated()]), series([with_alarms(5)])
    lines = {one.metric: one for one in compare(first, second, ["image/auroc"], EvidenceFiles([tmp_path])).lines}
    line = lines["image/false_alarms@q0.95"]
    assert line.line == MEAN and line.difference == pytest.approx((1 - 5) / 20 / 2)


def test_the_frame_has_them_with_the_number_of_images_held_back() -> None:
    frame = bench.frame([calibrated()])
    found = frame[(frame["metric"] == "image/false_alarms@q0.95") & (frame["of"] == "class")]
    assert dict(zip(found["class"], found["value"], strict=True)) == {"bottle": 1 / 20, "screw": 3 / 20}
    assert found["note"].tolist()[0] == "at a threshold of 10 normal images held back"
    pooled = frame[(frame["metric"] == "image/found@max") & (frame["of"] == "pooled")]
    assert pooled["value"].tolist() == [39 / 40]
