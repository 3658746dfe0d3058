"""Methods and datasets from elsewhere: from one file, from the template, from an installed package."""

from __future__ import annotations

import csv
import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from bench import plugins, templates
from bench.errors import UsageError
from bench.registry import DATASETS, METHODS

REPO = Path(__file__).resolve().parents[2]
EXAMPLE = REPO / "docs" / "example-plugin"
ENCODER = "vit_tiny_patch8_128.bench"
CONTRACTS = ("tests/contract/test_methods.py", "tests/contract/test_datasets.py")
EXAMPLES = ("mean_patch", "draem_lite", "destseg_lite")


@pytest.fixture(autouse=True)
def forget() -> Iterator[None]:
    """What a test registers is gone after it."""
    before = [(registry, dict(registry.targets), dict(registry._loaded)) for registry in (METHODS, DATASETS)]
    yield
    for registry, targets, loaded in before:
        registry.targets.clear()
        registry.targets.update(targets)
        registry._loaded.clear()
        registry._loaded.update(loaded)


def test_the_template_is_listed_shown_and_run(bench: Callable, tree: Path, tmp_path: Path) -> None:
    done = bench("new", "method", "my_method", "--out", "mine")
    assert done.returncode == 0 and "bench --plugin mine/my_method.py run" in done.stdout
    plugin = ("--plugin", "mine/my_method.py")
    assert re.search(r"^  my_method +ViT +my_method: say in one line", bench(*plugin, "ls", "methods").stdout, re.M)
    assert "MyMethod" in (tmp_path / "mine" / "my_method.py").read_text()
    # the option may also stand at the end
    shown = bench("show", "my_method", "--json", "--plugin=mine/my_method.py")
    assert json.loads(shown.stdout)["settings"]["steps"]["value"] == 2000
    sets = ("--set", "my_method.input_size=32", "--set", "my_method.steps=3")
    data = ("--datasets", "folder", "--data-root", str(tree), "--encoder", ENCODER, "--results", "out")
    done = bench(*plugin, "run", "--methods", "my_method", *data, *sets)
    assert done.returncode == 0 and "my_method on folder" in done.stdout, done.stdout + done.stderr


@pytest.fixture(scope="module")
def contract(tmp_path_factory: pytest.TempPathFactory) -> str:
    """What pytest prints of the contract tests of the template, of the examples' methods and dataset, a line a test."""
    path = tmp_path_factory.mktemp("contract") / "from_template.py"
    path.write_text(templates.method("from_template"))
    files = [path, *(EXAMPLE / "bench_example" / f"{name}.py" for name in EXAMPLES)]
    files.append(EXAMPLE / "bench_example" / "labelled.py")
    command = [Path(sys.executable).with_name("pytest"), *CONTRACTS, "-v", "--color=no"]
    command += ["-p", "no:cacheprovider", *(part for file in files for part in ("--plugin", str(file)))]
    # one process for all: starting torch anew costs seconds
    command += ["-k", f"({' or '.join(file.stem for file in files)}) and not whole_cell and not uncached"]
    done = subprocess.run(command, cwd=REPO, capture_output=True, text=True)
    return done.stdout + done.stderr


@pytest.mark.parametrize("method", ["from_template", *EXAMPLES, "labelled"])
def test_the_template_and_the_examples_pass_the_contract_tests(method: str, contract: str) -> None:
    outcomes = re.findall(rf"^\S+::\S+\[(?:\S+-)?{method}(?:-\S+)?\] (\w+)", contract, re.M)
    assert len(outcomes) >= 10 and set(outcomes) == {"PASSED"}, contract


@pytest.mark.parametrize("method", EXAMPLES)
def test_the_examples_methods_are_short(method: str) -> None:
    assert len((EXAMPLE / "bench_example" / f"{method}.py").read_text().splitlines()) < 90


def test_new_refuses_names_that_cannot_be_and_overwrites_nothing(bench: Callable, tmp_path: Path) -> None:
    for name in ("My-Method", "../x", "", "1st", "é"):
        done = bench("new", "method", name)
        assert done.returncode == 2 and "expected lower-case letters" in done.stderr
    assert "is there already" in bench("new", "method", "dinomaly").stderr
    (tmp_path / "mine.py").write_text("precious")
    done = bench("new", "method", "mine")
    assert done.returncode == 2 and "not overwritten" in done.stderr
    assert (tmp_path / "mine.py").read_text() == "precious"


@pytest.mark.parametrize(
    ("text", "word"),
    [
        (None, "no such file"),
        ("x = 1\n", "no subclass of bench.api.Method"),
        ("def broken(:\n", "SyntaxError"),
        ("import nowhere_to_be_found\n", "nowhere_to_be_found"),
        ("from bench.api import Method\n", "no subclass"),
        ("from bench.api import Method\nclass Mine(Method):\n    pass\n", "class Mine has no name"),
        ("from bench.api import Method\nclass Mine(Method):\n    name = 'dinomaly'\n", "is there already"),
        ("from bench.api import Dataset\nclass Mine(Dataset):\n    card = None\n", "class Mine has no name"),
        ("raise SystemExit(3)\n", "SystemExit"),
        ("\x00", "cannot be imported"),
    ],
)
def test_a_file_that_is_no_plug_in_is_refused(bench: Callable, tmp_path: Path, text: str | None, word: str) -> None:
    if text is not None:
        (tmp_path / "mine.py").write_text(text)
    done = bench("ls", "methods", "--plugin", "mine.py")
    assert done.returncode == 2 and word in done.stderr and "Traceback (" not in done.stderr, done.stderr


def test_the_option_is_read_wherever_it_stands_but_not_behind_the_dashes() -> None:
    assert plugins.split(["run", "--plugin", "a.py", "--plugin=b.py", "x"]) == (
        ["run", "x"],
        [Path("a.py"), Path("b.py")],
    )
    assert plugins.split(["check", "--", "--plugin", "a.py"]) == (["check", "--", "--plugin", "a.py"], [])
    with pytest.raises(UsageError, match="without a file"):
        plugins.split(["ls", "--plugin"])


def test_an_installed_package_is_found_by_its_entry_points(tree: Path, tmp_path: Path) -> None:
    source, site = tmp_path / "source", tmp_path / "site"
    # a copy, since a build leaves files behind
    shutil.copytree(EXAMPLE, source, ignore=shutil.ignore_patterns("__pycache__", "build", "*.egg-info"))
    pip = [sys.executable, "-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--no-index", "--no-deps"]
    done = subprocess.run([*pip, "--no-build-isolation", "--target", site, source], capture_output=True, text=True)
    if done.returncode and "setuptools" in done.stderr:
        pytest.skip("building a package offline needs setuptools 77 or newer in this environment")
    assert done.returncode == 0, done.stderr
    _label(tree)

    def call(*arguments: str) -> str:
        environment = {**os.environ, "PYTHONPATH": str(site)}
        command = [sys.executable, "-m", "bench", *arguments]
        done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True)
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    assert re.search(r"^  mean_patch +ViT +Mean patch: ", call("ls", "methods"), re.M)
    assert re.search(r"^labelled +Labelled: ", call("ls", "datasets"), re.M)
    assert re.search(r"^pixel/pointing +Share of the anomalous images", call("ls", "metrics"), re.M)
    options = ("--encoder", ENCODER, "--set", "mean_patch.input_size=32", "--results", "out", "--device", "cpu")
    out = call(
        "run",
        "--methods",
        "mean_patch",
        "--datasets",
        "labelled",
        "--data-root",
        str(tree),
        *options,
        "--metrics",
        "pixel/pointing",
    )
    assert "Pointing" in out and "mean_patch on labelled" in out and "mean of 2" in out
    (path,) = (tmp_path / "out").rglob("s*.json")
    record = json.loads(path.read_text())
    assert record["dataset"]["test_bad"] == {"dots": 3, "lines": 3} and record["mean"]["pixel/auroc"] is not None


def test_the_page_names_what_there_is() -> None:
    page = (REPO / "docs" / "plugins.md").read_text()
    for target in re.findall(r"\]\(([^)]+)\)", page):
        assert (REPO / "docs" / target).exists(), target
    assert (EXAMPLE / "pyproject.toml").read_text().count("bench_example.") == page.count('= "bench_example.')


def _label(tree: Path) -> None:
    """Write the table of the example's dataset for a tree in MVTec's layout."""
    from bench.datasets.folder import Folder

    with (tree / "labels.csv").open("w", newline="") as file:
        table = csv.writer(file)
        table.writerow(("file", "class", "split", "defect", "mask"))
        for sample in Folder(tree).samples():
            mask = sample.masks[0].relative_to(tree) if sample.masks else ""
            table.writerow((sample.image.relative_to(tree), sample.cls, sample.split, sample.defect, mask))
