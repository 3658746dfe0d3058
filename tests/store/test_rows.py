from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from bench.store import record as records
from bench.store.agreement import mean
from bench.store.record import Record
from bench.store.rows import Row, rows

BASELINE = Path(__file__).resolve().parents[2] / "results" / "baselines" / "demo-dinomaly-multi-s0.json"


def record(part: str = "", score: float | None = 0.5, **changes: Any) -> Record:
    """The committed record, made a part of a semantic row; `cell__seed=1` changes a field of a field."""
    data = json.loads(records.read(BASELINE).model_dump_json())
    metrics = data["protocol"]["metrics"]
    undefined = {} if score is not None else dict.fromkeys(metrics, "why")
    if part:
        data["cell"] |= {"part": part, "classes": [part]}
        data["dataset"] |= {"kind": "semantic", "parts_known": 4}
        data["scores"] = {part: {"values": dict.fromkeys(metrics, score), "undefined": undefined}}
        data["mean"] = dict.fromkeys(metrics, score)
    for key, new in changes.items():
        *path, last = key.split("__")
        place = data
        for step in path:
            place = place[step]
        place[last] = new
    return Record(**data)


@pytest.mark.parametrize(
    ("values", "want"), [([], None), ([0.25, 0.75], 0.5), ([0.5, None], None), ([None], None), ([0.0], 0.0)]
)
def test_a_mean_lacks_nothing(values: list[float | None], want: float | None) -> None:
    assert mean(values) == want


def test_a_record_without_parts_is_a_row() -> None:
    made = record()
    (row,) = rows([made])
    assert row == Row((made,)) and row.missing == "" and row.unit == "classes"
    assert {metric: row.mean(metric) for metric in row.metrics} == pytest.approx(made.mean, rel=1e-12)
    assert list(row.lines) == list(made.cell.classes)


def test_parts_of_one_configuration_are_one_row_and_a_mean_needs_all() -> None:
    found = [record(part, score) for part, score in zip("ABCD", (0.1, 0.2, 0.3, 0.8), strict=True)]
    (row,) = rows(found)
    assert row.records == tuple(found) and row.unit == "splits" and row.missing == ""
    assert row.mean("image/auroc") == pytest.approx(0.35)
    (row,) = rows(found[:3])
    assert row.missing == "3/4 splits" and row.mean("image/auroc") is None


def test_an_undefined_part_leaves_the_row_without_a_mean() -> None:
    (row,) = rows([record(part, None if part == "B" else 0.5) for part in "ABCD"])
    assert row.missing == "" and row.mean("image/auroc") is None


def test_a_failed_part_is_a_missing_part() -> None:
    failed = record("B", status="failed", scores={}, mean={})
    (row,) = rows([record("A"), failed, record("C"), record("D")])
    assert row.missing == "3/4 splits" and list(row.lines) == ["A", "C", "D"]
    assert rows([failed]) == []


@pytest.mark.parametrize(
    "change",
    [
        {"cell__dataset": "other"},
        {"cell__method": "other"},
        {"cell__setting": "few-shot"},
        {"cell__shots": 4},
        {"cell__seed": 1},
        {"protocol__hash": "other"},
        {"metric_version": 99},
        {"config__steps": 7},
        {"encoder__weights_sha256": "other"},
        {"environment__precision": "bf16"},
    ],
)
def test_what_is_not_comparable_is_another_row(change: dict[str, Any]) -> None:
    assert [row.missing for row in rows([record("A"), record("B", **change)])] == ["1/4 splits", "1/4 splits"]
    assert len(rows([record(), record(**change)])) == 2


def test_without_parts_other_classes_or_other_data_are_another_row() -> None:
    assert len(rows([record(), record(cell__classes=["wood"]), record(dataset__fingerprint="other")])) == 3


def test_of_two_records_of_a_part_the_newest_counts() -> None:
    old = record("A", 0.1, created="2026-01-01T00:00:00+00:00", dataset__fingerprint="before")
    new = record("A", 0.9, created="2026-02-01T00:00:00+00:00", dataset__fingerprint="after")
    for order in ([old, record("B"), new], [new, record("B"), old]):
        (row,) = rows(order)
        assert list(row.lines) == ["A", "B"] and row.lines["A"].values["image/auroc"] == 0.9


def test_a_class_a_model_counts_classes() -> None:
    parts = [record(name, cell__setting="single", dataset__kind="industrial") for name in ("wood", "board")]
    (row,) = rows(parts)
    assert row.missing == "2/4 classes"
    assert row.title == "dinomaly on demo, single"
