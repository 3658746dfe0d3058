"""A dataset of one's own in one file: begun by `bench new dataset`, verified, and put to the contract tests."""

from __future__ import annotations

import re
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from bench import plugins, templates
from bench.registry import DATASETS

REPO = Path(__file__).resolve().parents[2]


@pytest.fixture(autouse=True)
def forget() -> Iterator[None]:
    """What a test registers is gone after it."""
    targets, loaded = dict(DATASETS.targets), dict(DATASETS._loaded)
    yield
    for now, before in ((DATASETS.targets, targets), (DATASETS._loaded, loaded)):
        now.clear()
        now.update(before)


def test_a_new_dataset_reads_its_layout_and_names_what_is_wrong(bench: Callable, tmp_path: Path) -> None:
    done = bench("new", "dataset", "my_dataset", "--out", "mine")
    assert done.returncode == 0 and "bench --plugin mine/my_dataset.py data verify my_dataset" in done.stdout
    plugin = ("--plugin", "mine/my_dataset.py")
    assert re.search(r"^my_dataset +my_dataset: say in one line", bench(*plugin, "ls", "datasets").stdout, re.M)
    sys.modules[DATASETS.load("my_dataset").__module__].miniature(tmp_path / "data")
    assert bench(*plugin, "data", "verify", "my_dataset", "--root", "data").returncode == 0
    (tmp_path / "data/cups/split.json").write_text('{"train": ["0001"]}')
    done = bench(*plugin, "data", "verify", "my_dataset", "--root", "data")
    assert done.returncode == 1 and "split.json: KeyError: 'test'. Expected" in done.stdout + done.stderr, done


def test_new_refuses_a_dataset_that_is_there(bench: Callable) -> None:
    done = bench("new", "dataset", "mvtec")
    assert done.returncode == 2 and "dataset 'mvtec' is there already" in done.stderr


def test_the_template_passes_the_contract_tests_and_one_without_a_miniature_fails_them(tmp_path: Path) -> None:
    whole, lacking = tmp_path / "from_template.py", tmp_path / "unwritten.py"
    whole.write_text(templates.dataset("from_template"))
    lacking.write_text(templates.dataset("unwritten").replace("def miniature(", "def small("))
    assert plugins.load(whole) == ("from_template",)
    command = [Path(sys.executable).with_name("pytest"), "tests/contract/test_datasets.py", "-v", "--color=no"]
    command += ["-p", "no:cacheprovider", "--plugin", str(whole), "--plugin", str(lacking)]
    command += ["-k", "from_template or (unwritten and read_back)"]
    done = subprocess.run(command, cwd=REPO, capture_output=True, text=True)
    failed = re.findall(r"^\S+::\S+\[unwritten\] (\w+)", done.stdout, re.M)
    passed = re.findall(r"^\S+::\S+\[from_template\] (\w+)", done.stdout, re.M)
    assert failed == ["FAILED"] and "no miniature of unwritten" in done.stdout, done.stdout
    assert len(passed) >= 12 and set(passed) == {"PASSED"}, done.stdout
