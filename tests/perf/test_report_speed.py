"""Seconds for the page of a thousand records, from reading them to the file, in a process of its own.

Run with: pytest tests/perf/test_report_speed.py --benchmark-enable
"""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from made_records import made
from pytest_benchmark.fixture import BenchmarkFixture

from bench.registry import DATASETS
from bench.store.record import write

METHODS = ("dinomaly", "dual_student", "vitad", "rd4ad", "patchcore", "my_method")
SETS = ("mvtec", "visa", "realiad", "mpdd", "btad")
SEEDS = 11
DROPOUTS = (0.1, 0.2, 0.4)


def test_a_thousand_records(benchmark: BenchmarkFixture, tmp_path: Path, timed: bool) -> None:
    count = 0
    for dataset in SETS:
        classes = DATASETS.load(dataset).card.classes
        for rank, method in enumerate(METHODS):
            for dropout in DROPOUTS:
                for seed in range(SEEDS if timed else 1):
                    levels = {cls: 0.95 - rank / 50 - place / 1000 + seed / 2000 for place, cls in enumerate(classes)}
                    record = made(method, dataset, levels, seed=seed, known=len(classes), config={"dropout": dropout})
                    write(record, tmp_path / "runs" / dataset / method / f"{dropout}-{seed}.json")
                    count += 1
    assert count == (990 if timed else 90)
    command = [sys.executable, "-m", "bench", "report", "--results", "runs", "--format", "html"]
    benchmark.pedantic(lambda: subprocess.run(command, cwd=tmp_path, check=True), rounds=3)
    page = (tmp_path / "reports" / "report.html").read_text(encoding="utf-8")
    assert f"{count} records" in page and "my_method" in page
