from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from bench.errors import StoreError
from bench.protocol import COMMON, SEVEN
from bench.store import record as records
from bench.store.record import Record


def facts() -> dict[str, Any]:
    """A record with every optional part present."""
    return {
        "status": "done",
        "created": "2026-01-02T03:04:05+00:00",
        "command": ["bench", "run"],
        "cell": {
            "method": "dinomaly",
            "dataset": "demo",
            "setting": "multi",
            "seed": 0,
            "protocol": "common",
            "classes": ["a", "b"],
            "fingerprint": "0123456789ab",
        },
        "protocol": {
            "name": "common",
            "version": 1,
            "hash": COMMON.hash(),
            "rules": COMMON.rules(),
            "metrics": list(SEVEN),
        },
        "metric_version": 1,
        "config": {"steps": 10, "betas": [0.9, 0.999], "encoder": "x", "layers": None},
        "changed": ["steps"],
        "dataset": {
            "fingerprint": "f" * 16,
            "kind": "industrial",
            "classes_known": 15,
            "train": {"a": 3, "b": 4},
            "test_good": {"a": 1, "b": 1},
            "test_bad": {"a": 2, "b": 2},
            "masks_vanished": {"a": 1},
        },
        "encoder": {
            "name": "x",
            "weights_sha256": "0" * 64,
            "blocks": [2, 3],
            "position": "timm",
            "grid": [16, 16],
        },
        "input_size": 128,
        "scores": {
            "a": {"values": dict.fromkeys(SEVEN, 0.1 + 0.2), "undefined": {}},
            "b": {"values": dict.fromkeys(SEVEN, None), "undefined": dict.fromkeys(SEVEN, "no masks")},
        },
        "mean": dict.fromkeys(SEVEN, None),
        "training": {
            "steps": 10,
            "batch_size": 4,
            "store": "memory",
            "resumed_at": [5],
            "loss_curve": [[0, 1.0], [9, 0.25]],
        },
        "efficiency": {
            "seconds": {"train": 1.5},
            "train_images_per_second": 10.0,
            "inference_images_per_second": None,
            "peak_memory_mib": 100.0,
            "peak_device_memory_mib": None,
            "params_total": 10,
            "params_trainable": 5,
            "macs": 10**12,
        },
        "environment": {
            "python": "3.11.7",
            "packages": {"torch": "2.4.0"},
            "commit": None,
            "platform": "Linux x86_64",
            "cpu": "some",
            "cores": 2,
            "memory_gib": 8.0,
            "device": "cpu",
            "precision": "fp32",
            "threads": 2,
        },
        "error": {"type": "TrainingError", "message": "loss is nan", "exit_code": 1},
        "predictions": "s0.parquet",
        "maps": None,
    }


def paths_of(value: Any, here: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    children = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    return [*([here] if here else []), *(path for key, child in children for path in paths_of(child, (*here, key)))]


def put(value: Any, path: tuple[Any, ...], new: Any) -> None:
    for key in path[:-1]:
        value = value[key]
    value[path[-1]] = new


def whole() -> dict[str, Any]:
    return {"schema_version": 2, **facts()}


def save(folder: Path, data: Any) -> Path:
    """Write a record's fields with the checksum that they have."""
    path = folder / "record.json"
    signed = {**data, "sha256": records.checksum(data)} if isinstance(data, dict) else data
    path.write_text(json.dumps(signed), encoding="utf-8")
    return path


def test_records_without_what_came_later_still_load() -> None:
    older = facts()
    for part, fields in later_fields().items():
        assert not fields.keys() & (older[part] if part else older).keys(), "the older record has none of these"
    record = Record(**older)
    assert (record.cell.part, record.cell.shots, record.dataset.parts_known, record.pooled) == ("", None, 1, None)
    assert record.scores["a"].extra == {} and record.dataset.chosen == record.dataset.normal == ()


def later_fields() -> dict[str, dict[str, Any]]:
    """Optional fields by part of the record ("" for the record itself) that the first records do not have."""
    return {
        "": {
            "pooled": {"values": {"image/auroc": 0.5}, "undefined": {"image/ap": "why"}},
            "variant_versions": {"pixel/aupro@0.3:grid200": 1},
            "model": {"file": "s0.safetensors", "sha256": "0" * 64},
            "units": {"image/distance": "px"},
        },
        "cell": {"part": "A", "shots": 4},
        "dataset": {
            "parts_known": 4,
            "normal": ["a"],
            "chosen": ["a/train/1"],
            "relabelled": {"a": 2},
            "notes": ["one image is missing"],
        },
    }


def test_what_came_later_comes_back_as_it_was_written(tmp_path: Path) -> None:
    data = facts()
    for part, fields in later_fields().items():
        (data[part] if part else data).update(fields)
    data["scores"]["a"]["extra"] = {"image/auroc:logical": 0.1 + 0.2, "image/auroc:mean": None}
    data["scores"]["a"]["undefined"] = {"image/auroc:mean": "no structural anomaly"}
    record = Record(**data)
    records.write(record, tmp_path / "s0.json")
    assert records.read(tmp_path / "s0.json") == record
    assert record.cell.title == "dinomaly on demo A, multi (4)"


def test_a_record_comes_back_as_it_was_written(tmp_path: Path) -> None:
    record = Record(**facts())
    path = tmp_path / "deep" / "s0.json"
    records.write(record, path)
    assert records.read(path) == record
    assert records.read(path).scores["a"].values["image/auroc"] == 0.1 + 0.2, "floats are kept to the last bit"
    text = path.read_text(encoding="utf-8")
    assert json.loads(text)["schema_version"] == records.SCHEMA_VERSION
    records.write(records.read(path), path)
    assert path.read_text(encoding="utf-8") == text


@pytest.mark.parametrize(
    "content",
    [b"", b"{", json.dumps(facts()).encode()[:-40], b"\xff\xfe\x00", bytes(range(256)), b"[" * 100_000, b"9" * 5000],
    ids=["empty", "brace", "truncated", "not utf-8", "binary", "deep", "long number"],
)
def test_what_is_no_json_is_refused_with_advice(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "record.json"
    path.write_bytes(content)
    with pytest.raises(StoreError, match=r"record\.json is no readable record: .*run the cell again"):
        records.read(path)


def test_a_missing_file_or_a_folder_is_refused(tmp_path: Path) -> None:
    for path in (tmp_path / "none.json", tmp_path):
        with pytest.raises(StoreError, match="no readable record"):
            records.read(path)


@pytest.mark.parametrize("version", [0, 3, "2", 2.0, None, True, [2]])
def test_another_schema_version_is_refused(tmp_path: Path, version: Any) -> None:
    with pytest.raises(StoreError, match=r"has record schema .*reads schemas 1 to 2"):
        records.read(save(tmp_path, {**facts(), "schema_version": version}))


@pytest.mark.parametrize("data", [[], 3, "text", None, {}])
def test_json_that_is_no_record_is_refused(tmp_path: Path, data: Any) -> None:
    with pytest.raises(StoreError, match="has record schema None"):
        records.read(save(tmp_path, data))


@pytest.mark.parametrize(
    ("path", "value"),
    [
        (("extra",), 1),
        (("cell", "extra"), 1),
        (("status",), "almost"),
        (("cell", "seed"), "first"),
        (("scores", "a", "values", "image/auroc"), "high"),
        (("environment",), None),
    ],
)
def test_fields_that_do_not_fit_are_named(tmp_path: Path, path: tuple[str, ...], value: Any) -> None:
    data = whole()
    put(data, path, value)
    with pytest.raises(StoreError, match=f"does not fit record schema 2: {'.'.join(path)}"):
        records.read(save(tmp_path, data))


@pytest.mark.parametrize("name", ["../../x", "/etc/passwd", "a/b", "", ".", "..", "x\0y", "x" * 256])
@pytest.mark.parametrize("field", ["predictions", "maps", "model"])
def test_what_lies_beside_a_record_is_named_by_a_plain_file_name(tmp_path: Path, field: str, name: str) -> None:
    data = whole() | {field: {"file": name, "sha256": "0" * 64} if field == "model" else name}
    with pytest.raises(StoreError, match="is no name of a file beside the record"):
        records.read(save(tmp_path, data))


def test_a_missing_field_is_named(tmp_path: Path) -> None:
    data = whole()
    del data["encoder"]["weights_sha256"]
    with pytest.raises(StoreError, match=r"encoder\.weights_sha256"):
        records.read(save(tmp_path, data))


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
def test_a_number_that_json_lacks_is_refused_on_both_ways(tmp_path: Path, value: float) -> None:
    data = whole()
    data["scores"]["a"]["values"]["image/auroc"] = value
    with pytest.raises(ValidationError, match="finite"):
        Record(**data)
    with pytest.raises(StoreError, match="is no JSON"):
        records.read(save(tmp_path, data))


def test_paths_that_are_not_utf8_do_not_cost_the_record(tmp_path: Path) -> None:
    odd = b"caf\xe9".decode("utf-8", "surrogateescape")
    data = facts()
    data["command"].append(odd)
    data["error"]["message"] = f"{odd} is missing"
    path = tmp_path / "record.json"
    records.write(Record(**data), path)
    assert records.read(path).command[-1] == "caf\\udce9"


def test_an_unreadable_place_is_a_store_error(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(StoreError, match="cannot write"):
        records.write(Record(**facts()), tmp_path / "file" / "record.json")


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=6,
)


@settings(max_examples=250, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    mutations=st.lists(st.tuples(st.sampled_from(paths_of(whole())), json_values), min_size=1, max_size=3),
)
def test_any_damaged_record_is_read_or_refused(tmp_path: Path, mutations: list[tuple[tuple[Any, ...], Any]]) -> None:
    data = whole()
    for path, value in mutations:
        # an earlier mutation may have taken the place away that a later one aims at
        try:
            put(data, path, value)
        except (KeyError, IndexError, TypeError):
            continue
    path = save(tmp_path, data)
    try:
        record = records.read(path)
    except StoreError as error:
        assert str(path) in str(error)
    else:
        records.write(record, path)
        assert records.read(path) == record


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_any_damaged_bytes_are_read_or_refused(tmp_path: Path, data: st.DataObject) -> None:
    content = bytearray(json.dumps(whole()).encode())
    for _ in range(data.draw(st.integers(1, 4))):
        content[data.draw(st.integers(0, len(content) - 1))] = data.draw(st.integers(0, 255))
    path = tmp_path / "record.json"
    path.write_bytes(content)
    try:
        records.read(path)
    except StoreError as error:
        assert str(path) in str(error)


def test_every_field_of_the_schema_has_a_type_and_parts_are_closed() -> None:
    schema = Record.model_json_schema()
    free = []
    for name, part in {"Record": schema, **schema["$defs"]}.items():
        assert part["additionalProperties"] is False, name
        assert part["description"], name
        for field, kind in part["properties"].items():
            assert kind.keys() & {"type", "$ref", "anyOf", "const"}, f"{name}.{field}"
            if kind.get("additionalProperties") is True:
                free.append(f"{name}.{field}")
    assert sorted(free) == ["ProtocolFacts.rules", "Record.config"], "only these may hold anything"


def test_predictions_are_parquet_with_their_columns(tmp_path: Path) -> None:
    import pyarrow.parquet as pq

    rows: dict[str, list[Any]] = {"id": ["a/1", "a/2"], "class": ["a", "a"], "label": [0, 1], "score": [0.1, 2.0]}
    records.write_predictions(tmp_path / "p.parquet", rows)
    assert pq.read_table(tmp_path / "p.parquet").to_pydict() == rows
