"""A metric from elsewhere: one file and its oracle, and it is in the terminal, every table, bootstrap and check."""

from __future__ import annotations

import csv
import json
import re
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from bench import templates
from bench.metrics import bootstrap_class
from bench.registry import METRICS

REPO = Path(__file__).resolve().parents[2]
ID = "image/my_metric"


@pytest.fixture(autouse=True)
def forget() -> Iterator[None]:
    """What a test registers is gone after it."""
    targets, loaded, modules = dict(METRICS.targets), dict(METRICS._loaded), set(sys.modules)
    yield
    # what stays there is sent to every worker
    for name in [name for name in sys.modules if name.startswith("bench_plugin_") and name not in modules]:
        del sys.modules[name]
    for known, before in ((METRICS.targets, targets), (METRICS._loaded, loaded)):
        known.clear()
        known.update(before)  # type: ignore[arg-type]


@pytest.fixture
def plugin(bench: Callable, tmp_path: Path) -> tuple[str, str]:
    done = bench("new", "metric", "my_metric", "--out", "mine")
    assert done.returncode == 0 and "bench --plugin mine/my_metric.py run --suite demo" in done.stdout, done.stderr
    return ("--plugin", "mine/my_metric.py")


def test_one_file_is_seen_everywhere(
    bench: Callable, tree: Path, tmp_path: Path, small: Callable, plugin: tuple[str, str]
) -> None:
    assert re.search(rf"^{ID} +Highest balanced accuracy of image scores", bench(*plugin, "ls", "metrics").stdout, re.M)
    shown = bench(*plugin, "show", ID)
    assert "mean of recall and specificity" in shown.stdout and "without an anomalous image" in shown.stdout

    command = [*small(), "--data-root", str(tree), "--results", "out"]
    assert bench(*command).returncode == 0, "finished without it"
    done = bench(*plugin, *command, "--metrics", ID)
    assert f"done, {ID} not measured" in done.stdout and f"no {ID} measured" in done.stdout
    done = bench(*plugin, *command, "--metrics", ID, "--again")
    assert done.returncode == 0 and "my_metric" in done.stdout, done.stdout + done.stderr
    (path,) = (tmp_path / "out").rglob("s0-*.json")
    record = json.loads(path.read_text())
    assert record["protocol"]["metrics"][-1] == ID and record["variant_versions"] == {ID: 1}
    values = [scores["values"][ID] for scores in record["scores"].values()]
    assert all(0.5 <= value <= 1 for value in values) and record["pooled"]["values"][ID] is not None

    done = bench(*plugin, "report", "--results", "out", "--no-published", "--format", "html,latex,markdown,csv")
    assert done.returncode == 0, done.stderr
    percent = f"{100 * sum(values) / len(values):.1f}"
    reports = tmp_path / "reports"
    places = ("report.html", "tables.md", "csv/overview-multi.csv", "latex/overview-multi.tex")
    for name in places:
        text = (reports / name).read_text().replace("\\_", "_")
        assert "my_metric" in text and percent in text, name
    with (reports / "numbers.csv").open() as file:
        means = [row["value"] for row in csv.DictReader(file) if (row["of"], row["metric"]) == ("mean", ID)]
    assert [float(mean) for mean in means] == [pytest.approx(sum(values) / len(values))]

    # without the plug-in the number stays, under its id
    for entry in (METRICS.targets, METRICS._loaded):
        entry.pop(ID, None)
    assert bench("report", "--results", "out", "--no-published", "--format", "markdown").returncode == 0
    assert ID in (reports / "tables.md").read_text().replace("\\_", "_")

    base = ("--baselines", "base", "--results", "out")
    assert bench("check", "--record", *base).returncode == 0
    checked = bench(*plugin, "check", *base, "--all", "--tolerance", f"{ID}=0.02")
    assert checked.returncode == 0 and ID in checked.stdout, checked.stdout + checked.stderr
    compared = bench(*plugin, "compare", str(path), str(path), "--metrics", ID)
    assert ID in compared.stdout, compared.stdout + compared.stderr
    for other in ("image/my_metrics", "image/my_metric@0.3"):
        done = bench(*plugin, *command, "--metrics", other)
        assert done.returncode == 2 and f"Did you mean '{ID}'" in done.stderr


def test_it_is_resampled(bench: Callable, plugin: tuple[str, str]) -> None:
    assert bench(*plugin, "ls", "metrics").returncode == 0
    rng = np.random.default_rng(0)
    labels = np.arange(40) % 2 == 0
    found = bootstrap_class(None, None, rng.normal(size=40) + labels, labels, metrics=[ID], resamples=50)
    interval = found.interval(ID)
    value = found.scores[ID]
    assert interval is not None and value is not None and interval.low <= value <= interval.high


def test_other_programs_maps_are_measured_by_it_too(
    bench: Callable, tree: Path, tmp_path: Path, plugin: tuple[str, str]
) -> None:
    from bench.plan.task import index

    samples = [sample for sample in index("folder", tree, ()).samples if sample.split == "test"]
    lines = [f"{sample.id},{place / 100}" for place, sample in enumerate(samples)]
    (tmp_path / "scores.csv").write_text("\n".join(["id,score", *lines]) + "\n")
    data = ("--datasets", "folder", "--data-root", str(tree), "--scores", "scores.csv", "--results", "out")
    done = bench(*plugin, "score", "--method", "theirs", *data, "--metrics", f"{ID},image/fpr@recall0.95")
    assert done.returncode == 0 and "my_metric" in done.stdout and "I-FPR@recall0.95" in done.stdout, done.stderr


def test_the_template_and_the_packages_example_pass_the_contract_tests(tmp_path: Path) -> None:
    path = tmp_path / "from_template.py"
    path.write_text(templates.metric("from_template"))
    example = REPO / "docs" / "example-plugin" / "bench_example" / "pointing.py"
    assert len(example.read_text().splitlines()) < 50
    command = [
        Path(sys.executable).with_name("pytest"),
        "tests/contract/test_metrics.py",
        "-q",
        "-p",
        "no:cacheprovider",
    ]
    command += ["--plugin", str(path), "--plugin", str(example), "-k", "from_template or pointing"]
    done = subprocess.run(command, cwd=REPO, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    assert int(re.search(r"(\d+) passed", done.stdout)[1]) >= 28 and "skipped" not in done.stdout  # type: ignore[index]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (("image/mine", "picture/mine"), "expected image/name, pixel/name or sample/name"),
        (("image/mine", "image/mine@0.3"), "expected image/name, pixel/name or sample/name, and no @"),
        (("image/mine", "image/auroc"), "metric 'image/auroc' is there already"),
        (('    source = "Brodersen', '    sauce = "Brodersen'), "metric image/mine: no source"),
    ],
)
def test_a_metric_that_says_too_little_is_refused(
    bench: Callable, tmp_path: Path, change: tuple[str, str], message: str
) -> None:
    source = templates.metric("mine")
    assert change[0] in source
    (tmp_path / "mine.py").write_text(source.replace(*change))
    done: Any = bench("--plugin", "mine.py", "ls", "metrics")
    assert done.returncode == 2 and message in done.stderr, done.stderr


def test_new_refuses_names_that_are_taken(bench: Callable) -> None:
    assert "is there already" in bench("new", "metric", "auroc").stderr
    assert "expected lower-case letters" in bench("new", "metric", "image/x").stderr
