"""Records of every age: real ones, kept as they were written, and what may not be read."""

from __future__ import annotations

import json
import os
import resource
import shutil
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from bench.errors import StoreError
from bench.protocol import COMMON
from bench.store import record as records
from bench.store.rows import configuration

HISTORIC = sorted((Path(__file__).resolve().parents[1] / "golden" / "records").glob("schema1-*.json"))
CHECKED = next(path for path in HISTORIC if path.stem == "schema1-checksum")
FIRST = next(path for path in HISTORIC if path.stem == "schema1-first")


def save(folder: Path, data: Any) -> Path:
    path = folder / "record.json"
    path.write_text(json.dumps(data), encoding="utf-8")
    return path


def resigned(data: dict[str, Any]) -> dict[str, Any]:
    fields = {name: value for name, value in data.items() if name != "sha256"}
    return {**fields, "sha256": records.checksum(fields)}


@pytest.mark.parametrize("path", HISTORIC, ids=lambda path: path.stem)
def test_every_historic_record_is_read_with_its_scores_to_the_last_bit(path: Path, tmp_path: Path) -> None:
    written, record = json.loads(path.read_text(encoding="utf-8")), records.read(path)
    assert {cls: one.values for cls, one in record.scores.items()} == {
        cls: one["values"] for cls, one in written["scores"].items()
    }
    assert record.schema_version == 2 and record.cell.fingerprint == written["cell"]["fingerprint"]
    assert record.encoder is not None and record.encoder.name == written["encoder"]["name"]
    assert record.input_size == written["encoder"]["input_size"]
    assert list(record.protocol.metrics) == written["protocol"]["fields"]["metrics"]
    assert record.protocol.hash == COMMON.hash(), "it compares with what is recorded today"
    records.write(record, tmp_path / "again.json")
    assert records.read(tmp_path / "again.json") == record


def test_records_of_one_configuration_stay_of_one_configuration() -> None:
    baselines = sorted((Path(__file__).resolve().parents[2] / "results" / "baselines").glob("demo-dinomaly-*.json"))
    assert len(baselines) == 5
    assert len({configuration(records.read(path)) for path in baselines}) == 1


def test_a_cell_that_was_finished_under_schema_1_is_done(tmp_path: Path) -> None:
    from bench.plan.cells import Cell
    from bench.plan.planned import look_up

    record = records.read(CHECKED)
    facts = record.cell
    config = SimpleNamespace(model_dump=lambda mode: record.config)
    cell = Cell(
        method=SimpleNamespace(name=facts.method, config=config, revision=""),  # type: ignore[arg-type]
        task=SimpleNamespace(
            name=facts.dataset,
            fingerprint=record.dataset.fingerprint,
            setting=facts.setting,
            classes=facts.classes,
            part="",
            shots=None,
            calibration_fingerprint="",
        ),  # type: ignore[arg-type]
        seed=facts.seed,
        protocol=COMMON,
        encoder=None,  # type: ignore[arg-type]
        weights=tmp_path,
        weights_sha256=record.encoder_id[1],
        precision=record.environment.precision,
        changed=(),
    )
    path = cell.path(tmp_path)
    assert path.stem == f"s0-{json.loads(CHECKED.read_text(encoding='utf-8'))['cell']['fingerprint']}"
    path.parent.mkdir(parents=True)
    shutil.copy(CHECKED, path)
    (planned,) = look_up([cell], tmp_path)
    assert planned.state == "done" and planned.record == record


@pytest.mark.parametrize("path", HISTORIC, ids=lambda path: path.stem)
def test_only_records_of_before_checksums_are_read_without_one_and_say_so(path: Path) -> None:
    record = records.read(path)
    assert record.unchecked == (path != CHECKED)


@pytest.mark.parametrize("score", [7.5, -0.25, 1.001])
def test_a_score_that_is_no_share_is_refused_whatever_the_records_age(tmp_path: Path, score: float) -> None:
    for path in HISTORIC:
        data = json.loads(path.read_text(encoding="utf-8"))
        data["scores"]["fabric"]["values"]["image/ap"] = score
        edited = resigned(data) if "sha256" in data else data
        with pytest.raises(StoreError, match=rf"schema 1: .*scores\.fabric: image/ap is {score}, expected a share"):
            records.read(save(tmp_path, edited))


def test_a_mean_and_a_pooled_score_are_shares_too(tmp_path: Path) -> None:
    for place in (("mean",), ("pooled", "values"), ("scores", "fabric", "extra")):
        data = json.loads(CHECKED.read_text(encoding="utf-8"))
        part = data
        for name in place:
            part = part[name]
        part["image/auroc"] = 1.5
        with pytest.raises(StoreError, match=r"image/auroc is 1\.5, expected a share"):
            records.read(save(tmp_path, resigned(data)))


def test_a_metric_with_a_unit_is_no_share(tmp_path: Path) -> None:
    data = json.loads(records.read(CHECKED).model_dump_json())
    data["scores"]["fabric"]["values"]["image/distance"] = 7.5
    with pytest.raises(StoreError, match=r"image/distance is 7\.5"):
        records.read(save(tmp_path, resigned(data)))
    data["units"] = {"image/distance": "px"}
    assert records.read(save(tmp_path, resigned(data))).scores["fabric"].values["image/distance"] == 7.5


def test_a_null_without_a_reason_is_refused(tmp_path: Path) -> None:
    for path in HISTORIC:
        data = json.loads(path.read_text(encoding="utf-8"))
        data["scores"]["fabric"]["values"]["image/ap"] = data["mean"]["image/ap"] = None
        with pytest.raises(StoreError, match="image/ap is null without a reason"):
            records.read(save(tmp_path, resigned(data) if "sha256" in data else data))
        data["scores"]["fabric"]["undefined"]["image/ap"] = "why"
        assert records.read(save(tmp_path, resigned(data) if "sha256" in data else data)).status == "done"


def test_a_checksum_that_is_gone_is_missed(tmp_path: Path) -> None:
    old = json.loads(CHECKED.read_text(encoding="utf-8"))
    new = json.loads(records.read(CHECKED).model_dump_json())
    for data, schema in ((old, 1), (new, 2)):
        data.pop("sha256", None)
        with pytest.raises(StoreError, match=f"has lost its sha256, which every record of schema {schema}"):
            records.read(save(tmp_path, data))
    # a current record does not become an old one by its number
    with pytest.raises(StoreError, match="has lost its sha256"):
        records.read(save(tmp_path, {**new, "schema_version": 1}))


@pytest.mark.parametrize(
    ("change", "named"),
    [
        (lambda data: data["encoder"].pop("input_size"), r"encoder\.input_size"),
        (lambda data: data["protocol"]["fields"].pop("metrics"), r"protocol\.hash"),
        (lambda data: data["protocol"]["fields"].update(crop=0.5), r"protocol\.hash: found '6bcc1835d585'"),
        (lambda data: data["protocol"].update(fields=[]), r"protocol\.fields: expected an object"),
        (lambda data: data.update(encoder=None), "encoder: expected an object"),
        (lambda data: data.pop("protocol"), "protocol: expected an object"),
        (lambda data: data["encoder"].update(input_size="wide"), "input_size"),
    ],
)
def test_what_does_not_fit_schema_1_is_named(tmp_path: Path, change: Any, named: str) -> None:
    data = json.loads(FIRST.read_text(encoding="utf-8"))
    change(data)
    with pytest.raises(StoreError, match=f"does not fit record schema 1: {named}"):
        records.read(save(tmp_path, data))


def test_a_file_that_is_too_long_is_refused_before_it_is_read(tmp_path: Path) -> None:
    path = tmp_path / "record.json"
    with path.open("wb") as file:
        file.truncate(4 << 30)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    with pytest.raises(StoreError, match=r"it has 4,294,967,296 bytes, expected at most 16,777,216"):
        records.read(path)
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 64 << 10


def test_a_pipe_or_a_device_is_refused_and_not_waited_for(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe.json")
    (tmp_path / "zero.json").symlink_to("/dev/zero")
    for name in ("pipe.json", "zero.json"):
        with pytest.raises(StoreError, match="no regular file"):
            records.read(tmp_path / name)
