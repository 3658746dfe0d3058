"""`bench report` as users call it, and suites of variants from the run to the table."""

from __future__ import annotations

import csv
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from made_records import PAPER, made

from bench import suites
from bench.store.record import Record, write

DATA = "numbers.csv", "numbers.parquet", "tables.md"


def save(folder: Path, *records: Record) -> Path:
    for number, record in enumerate(records):
        write(record, folder / record.cell.dataset / f"{number}.json")
    return folder


def test_a_report_of_every_table(bench: Callable[..., object], tmp_path: Path) -> None:
    save(tmp_path / "results" / "runs", made(), made("vitad"))
    done = bench("report", "--format", "latex,markdown,csv,parquet")
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout == "2 records, 3 tables, 12 files in reports\n"
    out = tmp_path / "reports"
    assert all((out / name).is_file() for name in DATA)
    names = {"overview-multi", "classes-mvtec-multi", "efficiency-multi"}
    for place in ("csv/*.csv", "latex/*.tex", "latex/standalone/*.tex"):
        assert {path.stem for path in out.glob(place)} == names


def test_what_is_asked_for_and_not_there_is_said(bench: Callable[..., object], tmp_path: Path) -> None:
    save(tmp_path / "runs", made("vitad", "mvtec"))
    done = bench("report", "--results", "runs", "--methods", "dinomaly", "--format", "csv")
    assert done.returncode == 2 and "no record of method dinomaly. There: vitad. bench run makes some" in done.stderr
    assert "error: no finished record of these methods and datasets" in done.stderr
    done = bench(
        "report", "--results", "runs", "--methods", "vitad,dinomaly", "--datasets", "mvtec,visa", "--format", "csv"
    )
    assert done.returncode == 0 and "no record of method dinomaly. There: vitad" in done.stderr
    assert "no record of dataset visa. There: mvtec" in done.stderr
    done = bench("report", "--results", "runs", "--format", "html")
    assert "no pictures of mvtec in the page: the per-image scores (.parquet) are not beside the record" in done.stderr
    done = bench("compare", "vitad", "vitad", "--results", "runs", "--datasets", "visa")
    assert done.returncode == 2 and "no record of vitad on visa" in done.stderr


def test_what_cannot_be_read_is_said_and_skipped(bench: Callable[..., object], tmp_path: Path) -> None:
    folder = save(tmp_path / "runs", made())
    (folder / "broken.json").write_text("{")
    (folder / "old.json").write_text('{"schema_version": 0}')
    done = bench("report", "--results", "runs", "--format", "markdown")
    assert done.returncode == 0 and done.stdout.startswith("1 record,")
    assert "skipped: runs/broken.json is no readable record" in done.stderr
    assert "skipped: runs/old.json has record schema 0" in done.stderr


def test_failed_cells_are_said_and_have_no_row(bench: Callable[..., object], tmp_path: Path) -> None:
    error = {"type": "OutOfMemory", "message": "m", "exit_code": 1}
    failed = Record(**{**made("vitad").model_dump(), "status": "failed", "scores": {}, "error": error})
    save(tmp_path / "runs", made(), failed)
    done = bench("report", "--results", "runs", "--format", "markdown", "--no-published")
    assert done.stderr == "skipped: vitad on mvtec, multi, seed 0 failed: OutOfMemory\n"
    assert "ViTAD" not in (tmp_path / "reports" / "tables.md").read_text(encoding="utf-8")


def test_methods_datasets_and_decimals_are_chosen(bench: Callable[..., object], tmp_path: Path) -> None:
    save(tmp_path / "runs", made(), made("vitad"), made("vitad", "visa"))
    options = ("--methods", "vitad", "--datasets", "mvtec", "--decimals", "3", "--format", "csv")
    assert bench("report", "--results", "runs", *options).returncode == 0
    lines = list(csv.DictReader((tmp_path / "reports" / "csv" / "overview-multi.csv").open(encoding="utf-8")))
    assert {(line["dataset"], line["method"]) for line in lines} == {("MVTec AD", "ViTAD")}
    assert [line["I-AUROC"] for line in lines] == ["98.3", "85.000"]  # printed digits are not made up
    rows = list(csv.DictReader((tmp_path / "reports" / "numbers.csv").open(encoding="utf-8")))
    assert {row["method"] for row in rows} == {"vitad"} and {row["dataset"] for row in rows} == {"mvtec", ""}


def test_a_suite_gives_its_table_in_a_folder_of_its_own(bench: Callable[..., object], tmp_path: Path) -> None:
    save(tmp_path / "runs", made(protocol=PAPER), made("vitad"))
    done = bench("report", "--suite", "dinomaly-table1", "--results", "runs", "--format", "markdown")
    assert done.stdout == "1 record, 1 table, 1 file in reports/dinomaly-table1\n"
    text = (tmp_path / "reports" / "dinomaly-table1" / "tables.md").read_text(encoding="utf-8")
    printed, _, ours = text.partition("*Ours, protocol paper:dinomaly*")
    assert "*Published: Dinomaly, CVPR 2025*" in printed and "|  | MambaAD<sup>" in printed
    assert "| Dinomaly | 85.0 (−14.6) |" in ours and "| ViTAD | – |" in ours


def test_a_suites_table_needs_no_record(bench: Callable[..., object], tmp_path: Path) -> None:
    assert bench("report", "--suite", "vitad-table7", "--format", "latex").returncode == 0
    assert (tmp_path / "reports" / "vitad-table7" / "latex" / "vitad-table7-visa.tex").is_file()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--results", "nowhere"], "error: no folder nowhere with records"),
        (["--results", "."], "error: no finished record to report in .. Make some with: bench run --suite demo"),
        (["--format", "latx"], "error: unknown format 'latx'. Did you mean 'latex'?"),
        (["--suite", "dinomaly-tabel1"], "error: unknown suite 'dinomaly-tabel1'. Did you mean 'dinomaly-table1'?"),
        (
            ["--suite", "dinomaly-table1", "--datasets", "btad"],
            "error: unknown dataset of the suite 'btad'.",
        ),
    ],
)
def test_the_users_mistakes(bench: Callable[..., object], options: list[str], message: str) -> None:
    done = bench("report", *options)
    assert done.returncode == 2 and message in done.stderr and done.stdout == ""


def test_help_has_examples(bench: Callable[..., object]) -> None:
    done = bench("report", "--help")
    assert done.returncode == 0 and "bench report --suite dinomaly-table1" in done.stdout


def test_tables_are_made_without_torch(tmp_path: Path) -> None:
    save(tmp_path / "runs", made(), made("vitad", protocol=PAPER))
    code = """import sys
from bench.cli.main import run
assert run(["report", "--results", "runs", "--format", "latex,markdown,csv,parquet"]) == 0
assert run(["report", "--results", "runs", "--suite", "dinomaly-table3", "--format", "markdown"]) == 0
print(sorted({"torch", "matplotlib", "numba"} & set(sys.modules)))"""
    done = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[-1] == "[]"


ABLATION = """title = "Small ablation"
datasets = ["folder"]
encoder = "vit_tiny_patch8_128.bench"

[set.dinomaly]
input_size = 32
steps = 4
batch_size = 4
warmup = 2
mlp_ratio = 0.5

[[variants]]
name = "noise"
method = "dinomaly"

[[variants]]
name = "no noise"
method = "dinomaly"
set = { dropout = 0.0 }
"""


def test_a_suite_of_variants_is_run_and_reported(
    bench: Callable[..., object], tmp_path: Path, tree: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "suites"
    folder.mkdir()
    (folder / "small-ablation.toml").write_text(ABLATION, encoding="utf-8")
    monkeypatch.setattr(suites, "FOLDER", folder)
    command = ("run", "--suite", "small-ablation", "--data-root", str(tree), "--device", "cpu")
    plan = bench(*command, "--set", "dinomaly.steps=6", "--dry-run")
    assert plan.returncode == 0 and "2 cells: 2 to do" in plan.stdout
    assert "dropout=0.0" in plan.stdout  # what tells the cells apart
    assert bench(*command, "--set", "dinomaly.steps=6").returncode == 0
    again = bench(*command, "--set", "dinomaly.steps=6")
    assert again.returncode == 0 and "2 cells: 0 to do, 2 done" in again.stdout
    assert bench("report", "--suite", "small-ablation", "--format", "csv").returncode == 0
    path = tmp_path / "reports" / "small-ablation" / "csv" / "small-ablation.csv"
    lines = list(csv.DictReader(path.open(encoding="utf-8")))
    assert [(line["dataset"], line["method"], line["source"]) for line in lines] == [
        *(("Own images", "noise", "ours"), ("Own images", "no noise", "ours"))
    ]
    assert all(0 <= float(line["mAD"]) <= 100 for line in lines)
    # the row's name tells of the dropout, a note of what else was changed
    assert all("encoder = vit_tiny_patch8_128.bench" in line["notes"] for line in lines)
    assert all("steps = 6" in line["notes"] and "dropout" not in line["notes"] for line in lines)
