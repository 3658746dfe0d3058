"""Exports: every recorded number arrives where a tracker shows it, once, and a failed record is none."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import jsonschema
import pytest
import yaml
from builders.made_records import made
from conftest import REPO

from bench.cli.main import run
from bench.exports.flat import flat
from bench.store import record as records
from bench.store.schema import schema


@pytest.fixture
def results(tmp_path: Path) -> Path:
    for seed, level in ((0, 0.9), (1, 0.92)):
        one = made(levels={"bottle": level, "screw": 0.8}, seed=seed)
        one = one.model_copy(update={"mean": {"image/auroc": (level + 0.8) / 2}})
        records.write(one, tmp_path / "runs" / one.cell.file)
    return tmp_path / "runs"


class Tracking:
    """Stands in for MLflow's client: keeps what it is told."""

    runs: dict[str, dict[str, Any]]

    def __init__(self, tracking_uri: str | None) -> None:
        self.uri = tracking_uri

    def get_experiment_by_name(self, name: str) -> Any:
        return None

    def create_experiment(self, name: str) -> str:
        return name

    def search_runs(self, where: list[str], filter_string: str, max_results: int) -> list[Any]:
        fingerprint, seed = filter_string.split("'")[1::2]
        found = [
            key
            for key, one in self.runs.items()
            if one["tags"]["bench/fingerprint"] == fingerprint and str(one["params"]["seed"]) == seed
        ]
        return [SimpleNamespace(info=SimpleNamespace(run_id=key)) for key in found[:max_results]]

    def create_run(self, where: str, start_time: int, run_name: str, tags: dict[str, str]) -> Any:
        key = str(len(self.runs))
        self.runs[key] = {"name": run_name, "tags": tags, "params": {}, "metrics": {}, "files": []}
        return SimpleNamespace(info=SimpleNamespace(run_id=key))

    def log_param(self, key: str, name: str, value: Any) -> None:
        self.runs[key]["params"][name] = value

    def log_metric(self, key: str, name: str, value: float, timestamp: int) -> None:
        self.runs[key]["metrics"][name] = value

    def log_artifact(self, key: str, path: str) -> None:
        self.runs[key]["files"].append(path)

    def set_terminated(self, key: str, end_time: int) -> None:
        self.runs[key]["ended"] = True


def test_flat_names_every_number() -> None:
    one = made(levels={"bottle": 0.9, "screw": 0.8}).model_copy(update={"mean": {"image/auroc": 0.85, "mad": None}})
    found = flat(one)
    assert found.metrics["bottle/image/auroc"] == 0.9
    assert found.metrics["mean/image/auroc"] == 0.85 and "mean/mad" not in found.metrics
    assert found.metrics["screw/pixel/aupro_0.3"] == one.scores["screw"].values["pixel/aupro@0.3"]
    values = sum(
        value is not None for line in (one.mean, *(s.values for s in one.scores.values())) for value in line.values()
    )
    assert sum(key.split("/")[0] in ("mean", "bottle", "screw") for key in found.metrics) == values


def test_mlflow_gets_each_record_once(results: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    Tracking.runs = {}
    monkeypatch.setitem(sys.modules, "mlflow", SimpleNamespace())
    monkeypatch.setitem(sys.modules, "mlflow.tracking", SimpleNamespace(MlflowClient=Tracking))
    assert run(["export", "mlflow", str(results), "--experiment", "e"]) == 0
    assert run(["export", "mlflow", str(results), "--experiment", "e"]) == 0
    assert sorted(one["params"]["seed"] for one in Tracking.runs.values()) == [0, 1]
    first = next(one for one in Tracking.runs.values() if one["params"]["seed"] == 0)
    assert first["metrics"]["bottle/image/auroc"] == 0.9 and first["files"] and first["ended"]


def test_wandb_gets_a_summary_under_the_fingerprint(results: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    made_runs: dict[str, Any] = {}

    def init(**given: Any) -> Any:
        made_runs[given["id"]] = one = SimpleNamespace(summary={}, finish=lambda: None, given=given)
        return one

    monkeypatch.setitem(sys.modules, "wandb", SimpleNamespace(init=init))
    for _ in range(2):
        assert run(["export", "wandb", str(results), "--offline"]) == 0
    assert len(made_runs) == 2
    assert {one.given["mode"] for one in made_runs.values()} == {"offline"}
    assert {one.summary["bottle/image/auroc"] for one in made_runs.values()} == {0.9, 0.92}


@pytest.mark.parametrize("name", ["mlflow", "wandb"])
def test_what_is_not_installed_is_named(
    results: Path, name: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    for module in (name, f"{name}.tracking"):
        monkeypatch.setitem(sys.modules, module, None)
    assert run(["export", name, str(results)]) == 2
    assert f"pip install {name}" in capsys.readouterr().err


def test_a_model_card_has_means_over_seeds(results: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "README.md"
    command = ["export", "huggingface", str(results), "--model", "mine", "--out", str(out)]
    assert run(command) == 0
    head = yaml.safe_load(out.read_text(encoding="utf-8").split("---")[1])
    (index,) = head["model-index"]
    found = {one["type"]: one["value"] for result in index["results"] for one in result["metrics"]}
    assert index["name"] == "mine" and found["image/auroc"] == pytest.approx(85.5)
    assert run(command) == 2
    assert "is there already" in capsys.readouterr().err


def test_the_published_schema_is_that_of_records_and_fits_committed_ones() -> None:
    published = (REPO / "docs" / "record.schema.json").read_text(encoding="utf-8")
    assert published == schema(), "python -m bench.store.schema > docs/record.schema.json"
    check = jsonschema.Draft202012Validator(json.loads(published))
    committed = [path for path in (REPO / "results" / "baselines").glob("*.json")]
    assert committed
    for path in committed:
        data = json.loads(path.read_text(encoding="utf-8"))
        check.validate(data)
        assert not check.is_valid({**data, "cell": {}})
        assert not check.is_valid({**data, "invented": 1})
