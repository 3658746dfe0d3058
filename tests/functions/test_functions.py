"""The commands as Python functions: their docstrings' examples run, and what they return is what the files hold."""

from __future__ import annotations

import csv
import doctest
import io
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from conftest import ENCODER, REPO, write_tree
from made_records import made

import bench
from bench import functions
from bench.cli.main import run as main
from bench.datasets.folder import Folder
from bench.errors import DatasetError, StoreError, SweepError, TrainingError, UsageError
from bench.registry import METHODS
from bench.report.formats import long_csv
from bench.store import record as records

PAGE = (REPO / "docs" / "python.md").read_text(encoding="utf-8")


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty working folder but for two records, a folder of parts, and another program's maps of these."""
    monkeypatch.chdir(tmp_path)
    write_tree(Path("parts"))
    rng = np.random.default_rng(0)
    for sample in Folder(Path("parts")).samples():
        if sample.split == "test":
            file = Path("maps") / f"{sample.id}.npy"
            file.parent.mkdir(parents=True, exist_ok=True)
            np.save(file, rng.random((48, 48)).astype(np.float32))
    for record in (made("dinomaly", "visa", {"a": 0.9}), made("rd4ad", "visa", {"a": 0.8})):
        records.write(record, Path("results/runs") / record.cell.file)
    return tmp_path


def examples(function: object) -> Iterator[doctest.DocTest]:
    found = doctest.DocTestFinder(recurse=False).find(function, globs={})
    yield from (example for example in found if example.examples)


def test_every_function_has_an_example_that_runs(folder: Path) -> None:
    runner = doctest.DocTestRunner(optionflags=doctest.NORMALIZE_WHITESPACE)
    for name in bench.__all__:
        (example,) = examples(getattr(functions, name))
        assert runner.run(example).failed == 0, name


def test_the_page_on_python_runs_from_top_to_bottom(folder: Path) -> None:
    blocks = re.findall(r"```python\n(.*?)```", PAGE, re.DOTALL)
    assert len(blocks) == 5
    known: dict[str, Any] = {
        "maps": np.random.default_rng(0).random((4, 8, 8), np.float32),
        "masks": np.stack([np.zeros((8, 8), np.uint8), np.eye(8, dtype=np.uint8)] * 2),
        "image_scores": np.arange(4.0),
        "labels": np.array([0, 1, 0, 1]),
    }
    for block in blocks:
        exec(block, known)
    assert len(known["ours"]) == 2 and known["theirs"][0].cell.method == "mine"
    assert set(known["means"]["method"]) == {"dinomaly", "rd4ad", "knn", "mine"}
    assert len(known["seen"]) == 5 and any(file.suffix == ".tex" for file in known["files"])


def test_importing_the_package_loads_nothing_heavy() -> None:
    code = "import bench, sys; bench.frame; print({'torch', 'pandas', 'numpy'} & set(sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "set()\n"


def test_an_unknown_name_is_no_attribute() -> None:
    with pytest.raises(AttributeError, match="has no attribute 'fraem'"):
        bench.fraem  # noqa: B018


# ------------------------------------------------------------------------------------------------------------- frame
def test_a_frame_has_one_number_a_row_with_types() -> None:
    record = made(levels={"a": 1 / 3, "b": 2 / 3}, seed=3)
    found = bench.frame(record)
    assert list(found.columns) == list(long_csv.COLUMNS)
    assert {str(found[name].dtype) for name in ("shots", "seed", "metric_version")} == {"Int64"}
    assert found["value"].dtype == "float64"
    classes = found[found["of"] == "class"]
    assert len(classes) == sum(len(scores.values) for scores in record.scores.values())
    one = classes[(classes["class"] == "a") & (classes["metric"] == "image/auroc")]
    assert one["value"].tolist() == [record.scores["a"].values["image/auroc"]]
    assert one["record"].tolist() == [record.cell.fingerprint] and one["seed"].tolist() == [3]


def test_files_folders_and_records_give_the_same_frame(folder: Path) -> None:
    paths = sorted(Path("results/runs").rglob("*.json"))
    want = bench.frame()
    assert set(want["method"]) == {"dinomaly", "rd4ad"}
    pd.testing.assert_frame_equal(bench.frame(paths), want)
    pd.testing.assert_frame_equal(bench.frame([str(paths[0]), records.read(paths[1])]), want)


def test_published_numbers_of_the_same_datasets_follow(folder: Path) -> None:
    found = bench.frame("results/runs/visa/dinomaly", published=True)
    printed = found[found["source"] == "published"]
    assert {"dinomaly", "vitad"} < set(printed["method"]) and set(printed["dataset"].replace("", "visa")) == {"visa"}
    assert set(found[found["source"] == "ours"]["method"]) == {"dinomaly"}
    assert printed["seed"].isna().all() and (printed["paper"] != "").all()


def test_a_frame_without_a_number_keeps_its_columns(folder: Path) -> None:
    (folder / "empty").mkdir()
    found = bench.frame("empty")
    assert found.empty and list(found.columns) == list(long_csv.COLUMNS)
    assert long_csv.text(found) == ",".join(long_csv.COLUMNS) + "\n"


def test_what_is_no_record_is_warned_of_in_a_folder_and_refused_by_name(folder: Path) -> None:
    Path("results/runs/other.json").write_text("{}")
    with pytest.warns(UserWarning, match=r"skipped: .*other\.json"):
        assert len(bench.frame()) > 0
    with pytest.raises(StoreError, match=r"other\.json"):
        bench.frame("results/runs/other.json")
    with pytest.raises(StoreError, match="nowhere: no such file or folder"):
        bench.frame("nowhere")


def test_the_csv_of_a_frame_reads_back_as_the_same_bits() -> None:
    found = bench.frame([made(levels={"=a": 1 / 3, "b": 2 / 3})])
    lines = list(csv.DictReader(io.StringIO(long_csv.text(found))))
    assert [float(line["value"]) for line in lines if line["value"]] == found["value"].dropna().tolist()
    assert {line["class"] for line in lines} == {"'=a", "b", ""}


# --------------------------------------------------------------------------------------------------------------- run
QUICK: dict[str, Any] = {"encoder": ENCODER, "device": "cpu"}


def test_a_run_is_that_of_the_command_and_is_done_once(folder: Path, capfd: pytest.CaptureFixture[str]) -> None:
    found = bench.run("knn", "./parts", seeds=[0, 1], results="out", **QUICK)
    assert [record.cell.seed for record in found] == [0, 1] and capfd.readouterr() == ("", "")
    paths = [Path("out") / record.cell.file for record in found]
    assert [records.read(path) for path in paths] == found
    written = [path.stat().st_mtime_ns for path in paths]
    options = ["--encoder", ENCODER, "--device", "cpu", "--seeds", "0,1", "--results", "out"]
    assert main(["run", "--methods", "knn", "--datasets", "./parts", *options]) == 0
    assert bench.run("knn", folder / "parts", seeds=(0, 1), results="out", **QUICK) == found
    assert [path.stat().st_mtime_ns for path in paths] == written
    assert set(bench.frame(found)["seed"].dropna()) == {0, 1}


def test_a_package_that_is_called_stays_a_package(folder: Path) -> None:
    from bench.run import sweep

    assert bench.run.sweep is sweep and callable(bench.run)


def test_mistakes_are_raised_as_the_command_says_them(folder: Path) -> None:
    cases: dict[str, dict[str, Any]] = {
        "nothing to run": {},
        "unknown method 'knnn'. Did you mean 'knn'": {"methods": "knnn", "datasets": "./parts"},
        "nowhere": {"methods": "knn", "datasets": "./nowhere"},
        "--seeds -1: expected numbers": {"methods": "knn", "datasets": "./parts", "seeds": -1},
        "only these were asked for: knn": {"methods": "knn", "datasets": "./parts", "set": {"patchcore": {}}},
        "unknown method 'patchcoer'": {"methods": "knn", "datasets": "./parts", "set": {"patchcoer": {}}},
        "expected auto, cpu, cuda": {"methods": "knn", "datasets": "./parts", "device": "tpu"},
        "expected one of fp32, tf32, bf16": {"methods": "knn", "datasets": "./parts", "precision": "fp16"},
        "unknown suite 'dmo'": {"suite": "dmo"},
        "unknown executor 'dask'": {"methods": "knn", "datasets": "./parts", "executor": "dask"},
        "unknown store 'cloud'": {"methods": "knn", "datasets": "./parts", "store": "cloud"},
        "jobs=0: expected 1 or more": {"methods": "knn", "datasets": "./parts", "jobs": 0},
        "--address: --executor local has none": {"methods": "knn", "datasets": "./parts", "address": "auto"},
        "--slurm: --executor local has none": {"methods": "knn", "datasets": "./parts", "slurm": {"time": 5}},
    }
    for message, arguments in cases.items():
        with pytest.raises(UsageError, match=re.escape(message)):
            bench.run(**arguments)
    with pytest.raises(DatasetError, match=r"mvtec is not at .*: found folders good"):
        bench.run("knn", "mvtec", data_root={"mvtec": "parts/dots/train"})


def test_a_failed_cell_is_raised_once_all_others_have_run(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fails(*given: object) -> None:
        raise TrainingError("no neighbours")

    monkeypatch.setattr(METHODS.load("knn"), "fit", fails)
    with pytest.raises(SweepError, match=r"1 of 2 cells have no scores: knn on parts.*TrainingError: no neighbours"):
        bench.run(["knn", "patchcore"], "./parts", set={"patchcore": {"input_size": 128}}, results="out", **QUICK)
    found = [records.read(path) for path in Path("out").rglob("s0-*.json")]
    assert {record.cell.method: record.status for record in found} == {"knn": "failed", "patchcore": "done"}


# ------------------------------------------------------------------------------------------------------------ report
def test_a_report_is_that_of_the_command(folder: Path, recwarn: pytest.WarningsRecorder) -> None:
    files = bench.report("results/runs", "here", formats=["markdown", "csv", "latex"], methods="dinomaly", decimals=2)
    options = ["--out", "there", "--format", "markdown,csv,latex", "--methods", "dinomaly", "--decimals", "2"]
    assert main(["report", *options]) == 0
    assert files and all(isinstance(file, Path) for file in files)
    there = {path.relative_to("there"): path.read_bytes() for path in Path("there").rglob("*") if path.is_file()}
    assert {path.relative_to("here"): path.read_bytes() for path in files} == there


def test_the_written_numbers_are_the_frame(folder: Path) -> None:
    (file,) = bench.report(formats="parquet")
    want = bench.frame(published=True)
    assert pq.read_table(file).to_pylist() == pa.Table.from_pandas(want, preserve_index=False).to_pylist()


def test_a_report_of_what_is_not_there_is_refused(folder: Path) -> None:
    for message, arguments in {
        "unknown format 'latx'. Did you mean 'latex'": {"formats": "latx"},
        "no folder nowhere with records": {"results": "nowhere"},
        "decimals=7: expected 0 to 6": {"decimals": 7},
        "--tables: no table 'x'": {"tables": "x"},
        "unknown layout 'triple'. Did you mean 'triples'": {"layout": "triple"},
        "unknown place of notes 'nowhere'": {"notes": "nowhere"},
    }.items():
        with pytest.raises(UsageError, match=re.escape(message)):
            bench.report(**arguments)
    assert not Path("reports").exists()


# ------------------------------------------------------------------------------------------------- predict and score
def test_predictions_are_those_of_the_command(folder: Path) -> None:
    how = {**QUICK, "set": {"patchcore": {"input_size": 32}}}
    (record,) = bench.run("patchcore", "./parts", results="out", keep_model=True, **how)
    Path("parts/dots/test/good/broken.png").write_bytes(b"no picture")
    assert main(["predict", "out", "parts/dots/test", "--threshold", "1", "--maps", "--device", "cpu"]) == 1
    with Path("predictions/scores.csv").open(newline="") as file:
        want = list(csv.DictReader(file))
    seen = bench.predict(Path("out") / record.cell.file, ["parts/dots/test"], threshold=1, maps=True, device="cpu")
    assert seen["image"].tolist() == [line["image"] for line in want]
    assert seen["verdict"].tolist() == [line["verdict"] for line in want]
    assert seen["score"].dropna().tolist() == [float(line["score"]) for line in want if line["score"]]
    (lost,) = seen[seen["score"].isna()].to_dict("records")
    assert lost["verdict"] == "unreadable" and "broken.png" in lost["trouble"] and lost["map"] is None
    whole = seen[seen["score"].notna()]
    assert (whole["trouble"] == "").all()
    for image, found in zip(whole["image"], whole["map"], strict=True):
        name = Path(image).relative_to("parts/dots/test")
        np.testing.assert_array_equal(found, np.load(Path("predictions/maps") / f"{name}.npy"))


def test_another_programs_maps_get_the_scores_of_the_command(folder: Path) -> None:
    (found,) = bench.score("mine", "folder", data_root="parts", maps="maps", results="here")
    options = ["--data-root", "parts", "--maps", "maps", "--results", "there"]
    assert main(["score", "--method", "mine", "--datasets", "folder", *options]) == 0
    assert records.read(Path("here") / found.cell.file) == found
    assert records.read(Path("there") / found.cell.file).scores == found.scores
    for place in ("./parts", folder / "parts"):
        (own,) = bench.score("mine", place, maps="maps", results="own")
        assert own.cell.dataset == "parts" and own.scores == found.scores


def test_where_cells_run_and_features_lie_is_chosen_as_in_the_command(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from bench.run import sweep

    asked: list[Any] = []
    monkeypatch.setattr(sweep, "run", lambda planned, options, progress, finished, executor: asked.append(executor))
    monkeypatch.setattr(sweep, "prepare", lambda request, options, *rest, **more: asked.append(options) or [])
    bench.run("knn", "./parts", jobs=2, store="none", store_budget_gib=1.5, results="out", **QUICK)
    options, executor = asked
    assert (options.store, options.store_budget_gib, executor.jobs) == ("none", 1.5, 2)


def test_what_cannot_be_scored_or_predicted_is_raised(folder: Path) -> None:
    for message, arguments in {
        "nothing to score": {},
        "--map-size 0: expected 1 to 8192": {"maps": "maps", "map_size": 0},
        "--seed -1: expected 0 or more": {"maps": "maps", "seed": -1},
        "--maps nowhere: no such folder": {"maps": "nowhere"},
    }.items():
        with pytest.raises(UsageError, match=re.escape(message)):
            bench.score("mine", "folder", data_root="parts", **arguments)
    with pytest.raises(UsageError, match="no record in it kept its model"):
        bench.predict("results/runs", "parts")
    with pytest.raises(UsageError, match="nowhere: no such file or folder"):
        bench.predict("results/runs", "nowhere")
