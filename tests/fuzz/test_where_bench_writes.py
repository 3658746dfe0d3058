"""A whole run and its report write to the results, the cache and the report's folder, and nowhere else."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

MADE = """
import sys, tempfile
sys.path.insert(0, {tests!r})
sys.dont_write_bytecode = True
from hostile import watched
from pathlib import Path
from bench.cli.main import run
# what the run itself takes care to remove again
with watched(*map(Path, {allowed!r}), Path(tempfile.gettempdir())) as broken:
    codes = [run(arguments) for arguments in {commands!r}]
# libraries ask ldconfig and fc-list what there is, and bench asks git for its own commit
alien = [entry for entry in broken if not entry.startswith(("subprocess.Popen", "os.posix_spawn"))]
sys.exit(f"codes {{codes}}, broken {{alien}}" if any(codes) or alien else 0)
"""


def listing(folder: Path) -> set[str]:
    return {path.relative_to(folder).as_posix() for path in folder.rglob("*")}


@pytest.mark.slow
def test_a_run_and_its_report_write_where_they_were_told_to(
    tree: Path, small: Callable, tmp_path: Path, private_cache: Path
) -> None:
    home, cwd, cache = tmp_path / "home", tmp_path / "cwd", tmp_path / "cache"
    for folder in (home, cwd, cache, tmp_path / "tmp"):
        folder.mkdir()
    (tree / "canary").write_text("stays")
    before = listing(tree)
    run = [*small(), "--data-root", str(tree), "--keep-maps", "--checkpoint-seconds", "0", "--store", "file"]
    report = ["report", "--no-published", "--data-root", str(tree), "--out", "tables"]
    check = ["check", "--record", "--baselines", "base"]
    allowed = [str(cwd / name) for name in ("results", "tables", "base")] + [str(cache)]
    code = MADE.format(
        tests=str(Path(__file__).parents[1] / "builders"), allowed=allowed, commands=[run, report, check]
    )
    environment = {
        **{key: value for key, value in os.environ.items() if not key.startswith(("XDG_", "MPL", "TORCH"))},
        **{"HOME": str(home), "BENCH_CACHE": str(cache), "TMPDIR": str(tmp_path / "tmp")},
        # compiled once for all tests, since it takes a minute
        "NUMBA_CACHE_DIR": os.environ.get("NUMBA_CACHE_DIR", str(private_cache / "kernels")),
    }
    done = subprocess.run([sys.executable, "-c", code], cwd=cwd, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-3000:]
    assert listing(home) == set()
    # torch makes this empty folder whenever an optimizer is imported
    assert {path.partition("_")[0] for path in listing(tmp_path / "tmp")} <= {"torchinductor"}
    assert listing(tree) == before
    assert sorted(path.name for path in cwd.iterdir()) == ["base", "results", "tables"]
    assert {path.partition("/")[0] for path in listing(cache)} <= {"pixels", "features", "hashes.sqlite", "matplotlib"}
