"""Code of third parties runs when its name is asked for, and at no other time."""

from __future__ import annotations

import importlib
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from made_records import made

from bench.registry import DATASETS, METHODS
from bench.store import record as records

TRAP = '''"""A plug-in that leaves a trace when it is imported."""
from pathlib import Path
Path({trace!r}).touch()
from bench.methods.knn import KNN
from bench.datasets.folder import Folder
class Mine(KNN):
    name = "trap"
class Data(Folder):
    pass
'''
POINTS = "[bench.methods]\ntrap = trap_package.inner:Mine\n[bench.datasets]\ntrapdata = trap_package.inner:Data\n"


@pytest.fixture
def trace(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """An installed package with both entry points, and a plug-in file in the folder that bench is called in."""
    path = tmp_path / "executed"
    site = tmp_path / "site"
    (site / "trap-1.0.dist-info").mkdir(parents=True)
    (site / "trap-1.0.dist-info" / "METADATA").write_text("Metadata-Version: 2.1\nName: trap\nVersion: 1.0\n")
    (site / "trap-1.0.dist-info" / "entry_points.txt").write_text(POINTS)
    (site / "trap_package").mkdir()
    for file in (site / "trap_package" / "__init__.py", site / "trap_package" / "inner.py", tmp_path / "plugin.py"):
        file.write_text(TRAP.format(trace=str(path)))
    for module in ("conftest.py", "sitecustomize.py", "methods.py", "bench_plugin.py"):
        (tmp_path / module).write_text(TRAP.format(trace=str(path)))
    # read while the package is not there yet: else it would stay for the tests that follow
    before = [(registry, registry.targets, dict(registry._loaded)) for registry in (METHODS, DATASETS)]
    monkeypatch.syspath_prepend(str(site))
    importlib.invalidate_caches()
    for registry in (METHODS, DATASETS):
        registry.__dict__.pop("targets", None)
    yield path
    for registry, targets, loaded in before:
        registry.__dict__["targets"] = targets
        registry._loaded.clear()
        registry._loaded.update(loaded)
    for module in [name for name in sys.modules if name.startswith("trap_package")]:
        del sys.modules[module]


def test_a_plug_in_that_nobody_names_is_not_imported(
    bench: Callable, trace: Path, tree: Path, tmp_path: Path, small: Callable
) -> None:
    for number, method in enumerate(("trap", "knn")):
        records.write(made(method, "trapdata"), tmp_path / "results" / "runs" / f"{number}.json")
    assert "A plug-in that leaves a trace" in bench("ls", "methods").stdout, "it is there to be named"
    dry = [*small(), "--data-root", str(tree), "--dry-run"]
    for arguments in (
        *(("ls", what) for what in ("methods", "datasets", "protocols", "suites")),
        ("show", "knn"),
        ("show", "trp"),
        ("check", "--record", "--baselines", "base"),
        ("compare", "trap", "knn"),
        ("cache", "show"),
        ("data", "verify", "folder", "--root", str(tree)),
        dry,
    ):
        done = bench(*arguments)
        assert "unexpected error" not in done.stderr, (arguments, done)
        assert not trace.exists(), arguments
    assert bench("show", "trap").returncode == 0
    assert trace.exists(), "named, it runs"


def test_a_plug_in_file_is_executed_only_where_it_is_given(bench: Callable, trace: Path) -> None:
    assert bench("ls", "methods").returncode == 0 and not trace.exists()
    assert bench("ls", "methods", "--", "--plugin", "plugin.py").returncode == 2 and not trace.exists()
    assert bench("--plugin", "nowhere.py", "ls", "methods").returncode == 2 and not trace.exists()
    bench("--plugin", "plugin.py", "ls", "methods")
    assert trace.exists()
