"""What commands print for scripts is what docs/json.md says, and nothing else is on stdout."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

from builders.documented_json import DOCUMENTED, same


def test_a_run_and_what_is_made_of_it(bench: Callable[..., Any], tree: Path, small: Callable[..., list[str]]) -> None:
    run = [*small(steps=2), "--data-root", str(tree), "--results", "runs", "--json"]
    planned = same("run", bench(*run, "--dry-run").stdout)
    assert [cell["status"] for cell in planned["cells"]] == [None]
    done = bench(*run)
    (cell,) = same("run", done.stdout)["cells"]
    assert done.returncode == 0 and (cell["planned"], cell["status"]) == ("new", "done") and "decode" in done.stderr
    assert Path(cell["record"]).is_file() and 0 <= cell["mean"]["image/auroc"] <= 1

    assert bench("check", "--record", "--results", "runs", "--baselines", "base").returncode == 0
    done = bench("check", "--results", "runs", "--baselines", "base", "--json")
    assert done.returncode == 0 and same("check", done.stdout)["failed"] is False

    # against itself: the same in every line
    done = bench("compare", cell["record"], cell["record"], "--json")
    (pair,) = same("compare", done.stdout)["pairs"]
    assert {line["difference"] for line in pair["lines"] if line["metric"] == "image/auroc"} == {0.0}


def test_what_a_kept_model_says(bench: Callable[..., Any], tree: Path, small: Callable[..., list[str]]) -> None:
    run = [
        *small(steps=2),
        "--data-root",
        str(tree),
        "--results",
        "runs",
        "--keep-model",
        "--quiet",
        "--calibrate",
        "0.4",
    ]
    assert bench(*run).returncode == 0
    done = bench("predict", "runs", str(tree / "dots" / "test"), "--rule", "max", "--json", "--quiet")
    assert done.returncode == 0 and done.stderr == ""
    found = same("predict", done.stdout)
    for image in found["images"]:
        assert image["verdict"] == ("anomalous" if image["score"] > found["threshold"] else "normal")
    assert len(found["images"]) == 5 and found["calibration"]["images"] == 4
    done = bench("predict", "runs", str(tree / "dots" / "test"), "--threshold", "0", "--json", "--quiet")
    assert json.loads(done.stdout)["calibration"] is None


def test_data_and_machine(bench: Callable[..., Any], tree: Path) -> None:
    (tree / "dots" / "ground_truth" / "square" / "001_mask.png").unlink()
    done = bench("data", "verify", "folder", "--root", str(tree), "--json")
    found = same("data verify", done.stdout)
    assert done.returncode == 1 and not found["clean"] and found["classes"]["dots"]["train"] == 5
    assert len(same("ls", bench("ls", "methods", "--json").stdout)["methods"]) >= 6
    done = bench("doctor", "--json", "--results", "runs")
    same("doctor", done.stdout)


def test_a_table_of_results(bench: Callable[..., Any], tmp_path: Path) -> None:
    table = tmp_path / "table.md"
    table.write_text(
        "| Class | Method | I-F1max | Speed |\n|--|--|--|--|\n| Macaroni2 | Mine | 59.7 | 12.0 |\n", encoding="utf-8"
    )
    done = bench("claims", str(table), "--dataset", "visa", "--json")
    (verdict,) = same("claims", done.stdout)["verdicts"]
    assert done.returncode == 1 and verdict["kind"] == "impossible"


def test_every_command_of_the_page_is_put_to_the_test() -> None:
    assert set(DOCUMENTED) == {
        "ls",
        "run",
        "score",
        "predict",
        "check",
        "claims",
        "compare",
        "doctor",
        "data verify",
        "data audit",
        "explain",
        "reproduce",
    }


def test_another_programs_maps(bench: Callable[..., Any], tree: Path, tmp_path: Path) -> None:
    from bench.datasets.folder import Folder

    tests = [sample for sample in Folder(tree).samples() if sample.split == "test"]
    lines = [f"{sample.id},{place}" for place, sample in enumerate(tests)]
    (tmp_path / "scores.csv").write_text("\n".join(["id,score", *lines]))
    given = ["--method", "mine", "--datasets", "folder", "--data-root", str(tree), "--scores", "scores.csv"]
    done = bench("score", *given, "--results", "runs", "--json")
    assert done.returncode == 0, done.stderr
    (record,) = same("score", done.stdout)["records"]
    assert Path(record["record"]).is_file() and 0 < record["pooled"]["image/auroc"] < 1
