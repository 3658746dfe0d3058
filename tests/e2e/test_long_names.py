"""Names of classes as long as the system allows, through everything that makes files of them."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path

import pytest

CJK, FLOWERS = "零件" * 42, "🌼" * 63
"""252 bytes each; a flower is spelt with twelve characters in a file's name."""


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory, write_tree: Callable[..., Path]) -> Path:
    root = write_tree(tmp_path_factory.mktemp("data") / "tree", (CJK, CJK[:-1], FLOWERS), train=2)
    assert all(len(os.fsencode(path.name)) >= 249 for path in root.iterdir())
    return root


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.rglob("*") if path.is_file())


@pytest.mark.parametrize("setting", ["multi", "single"])
def test_every_file_of_a_run_gets_a_name(bench: Callable, data: Path, setting: str, tmp_path: Path) -> None:
    wanted = ["--datasets", "folder", "--data-root", str(data), "--setting", setting, "--device", "cpu"]
    encoder = ["--encoder", "vit_tiny_patch8_128.bench", "--set", "patchcore.input_size=32"]
    done = bench("run", "--methods", "patchcore", *wanted, *encoder, "--keep-maps")
    assert done.returncode == 0, done.stdout + done.stderr
    results = tmp_path / "results" / "runs"
    found = [json.loads(path.read_text()) for path in results.rglob("s*.json" if setting == "multi" else "*-s0-*.json")]
    assert sorted(cls for record in found for cls in record["cell"]["classes"]) == sorted((CJK, CJK[:-1], FLOWERS))
    assert len([name for name in names(results) if name.endswith(".npy")]) == 3
    again = bench("run", "--methods", "patchcore", *wanted, *encoder, "--dry-run")
    assert "0 to do" in again.stdout, again.stdout
    shown = ["html", "figures", "latex", "csv", "markdown"]
    done = bench("report", "--format", ",".join(shown), "--data-root", str(data), "--no-published")
    assert done.returncode == 0, done.stderr
    assert "data:image" in (tmp_path / "reports" / "report.html").read_text()
    done = bench("check", "--record", "--results", str(results), "--baselines", "base")
    assert done.returncode == 0 and len(names(tmp_path / "base")) == len(found), done.stderr
