from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image
from pydantic import ValidationError

from bench.cli import main
from bench.errors import StoreError
from bench.protocol import COMMON, SEVEN
from bench.store import record as records
from bench.store.evidence import EvidenceFiles, Lacking
from bench.store.facts import Latency
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


def test_a_missing_file_or_a_folder_is_refused_and_nobody_is_told_to_delete_it(tmp_path: Path) -> None:
    for path, why in ((tmp_path / "none.json", "no such file"), (tmp_path, "no readable record: Is a directory")):
        with pytest.raises(StoreError, match=why) as caught:
            records.read(path)
        assert "Delete" not in str(caught.value)


def test_a_missing_record_is_said_to_be_missing_by_every_command_that_takes_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    Image.new("RGB", (8, 8)).save(tmp_path / "x.png")
    (tmp_path / "there.json").write_text("{}")
    for command in (
        ["predict", "~/none.json", "~/x.png", "--device", "cpu"],
        ["show", "~/none.json"],
        ["compare", "~/none.json", "~/there.json"],
        ["check", "--results", "~/none.json"],
    ):
        assert main.run(command) == 2, command
        said = capsys.readouterr().err
        assert "no such file" in said and "Delete" not in said, (command, said)
        assert command[0] == "compare" or str(tmp_path / "none.json") in said, (command, said)
    records.write(Record(**facts()), tmp_path / "own.json")
    assert main.run(["show", "~/own.json"]) == 0
    assert "dinomaly on demo" in capsys.readouterr().out


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


SHARE = SEVEN[0]


@pytest.mark.parametrize(
    ("path", "value", "why"),
    [
        (("mean", SHARE), 0.9, r"mean: image/auroc is 0\.9, the classes' values give 0\.5"),
        (("mean", SHARE), 0.5 + 2e-9, "the classes' values give"),
        (("mean", SHARE), None, r"mean: image/auroc is null, the classes' values give 0\.5"),
        (("mean", SEVEN[1]), 0.5, r"mean: image/ap is 0\.5, the classes' values give null"),
        (("mean", SHARE), True, "True is no number"),
        (("scores", "a", "values", SHARE), True, "True is no number"),
        (("scores", "a", "values", SHARE), "0.25", r"'0\.25' is no number"),
        (("scores", "a", "extra"), {"x": False}, "False is no number"),
        (("units",), {SHARE: "%"}, "units: image/auroc in '%', expected a share"),
        (("units",), {"pixel/aupro@0.3": "px"}, r"units: pixel/aupro@0\.3 in 'px', expected a share"),
        (("units",), {"pixel/aupro@0.3:grid200": "%"}, "grid200 in '%', expected a share"),
        (("efficiency", "seconds", "train"), -1.5, r"efficiency\.seconds\.train: .*greater than or equal to 0"),
        (("efficiency", "peak_memory_mib"), -1, "greater than or equal to 0"),
        (("efficiency", "seconds", "train"), "1.5", "is no number"),
        (("cell", "seed"), -1, r"cell\.seed: .*greater than or equal to 0"),
        (("cell", "seed"), True, "True is no number"),
        (("dataset", "train", "a"), -3, "greater than or equal to 0"),
    ],
)
def test_scores_that_contradict_each_other_and_numbers_that_are_none_are_refused(
    tmp_path: Path, path: tuple[str, ...], value: Any, why: str
) -> None:
    data = agreeing()
    records.read(save(tmp_path, data))
    put(data, path, value)
    with pytest.raises(StoreError, match=why):
        records.read(save(tmp_path, data))


def agreeing() -> dict[str, Any]:
    """A record's fields in which both classes have image AUROC, and so has the mean."""
    data = whole()
    for cls, value in (("a", 0.25), ("b", 0.75)):
        data["scores"][cls]["values"][SHARE] = value
    data["mean"][SHARE] = 0.5
    return data


def test_a_mean_may_differ_by_rounding_and_metrics_of_an_absent_plugin_have_their_units(tmp_path: Path) -> None:
    data = agreeing()
    data["mean"][SHARE] += 1e-10
    for cls, value in (("a", 1e6), ("b", 3e6)):
        data["scores"][cls]["values"]["image/distance"] = value
    data["mean"]["image/distance"] = 2e6 + 1e-4
    data["units"] = {"image/distance": "px"}
    assert records.read(save(tmp_path, data)).units == {"image/distance": "px"}


def test_every_record_that_is_kept_in_the_repository_is_read() -> None:
    repo = Path(__file__).resolve().parents[2]
    kept = [*(repo / "results" / "baselines").glob("*.json"), *(repo / "tests" / "golden" / "records").glob("*.json")]
    assert len(kept) >= 8
    for path in kept:
        records.read(path)


@pytest.mark.parametrize("reason", ["no anomaly maps", "no maps given"])
def test_a_record_without_maps_in_every_class_is_of_a_method_that_gives_none(tmp_path: Path, reason: str) -> None:
    data = facts()
    assert not Record(**data).is_mapless and not Record(**{**data, "scores": {}, "mean": {}}).is_mapless
    for scores in data["scores"].values():
        scores["values"][SEVEN[3]], scores["undefined"][SEVEN[3]] = None, reason
    record = Record(**data)
    assert record.is_mapless
    with pytest.raises(Lacking, match="dinomaly gives image scores alone: there are no anomaly maps"):
        EvidenceFiles([tmp_path]).maps(record, "a")


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


@pytest.mark.parametrize(
    ("count", "p50", "p95", "p99"), [(1, 1, None, None), (20, 10, 19, None), (99, 50, 95, None), (200, 100, 190, 198)]
)
def test_percentiles_are_of_as_many_images_as_show_them(count: int, p50: int, p95: Any, p99: Any) -> None:
    found = Latency.of([float(one) for one in range(count, 0, -1)])
    assert (found.images, found.p50, found.p95, found.p99) == (count, p50, p95, p99)
