"""What a finished cell is asked for late comes from its kept model, and is what a run would have given at once."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from bench.run import cell as cells
from bench.store import record as records

VIT = "vit_tiny_patch8_128.bench"
LATE = "image/fpr@recall0.95,pixel/iou:grid7"


@pytest.fixture
def command(tree: Path) -> list[str]:
    """A run of one memory on a small dataset."""
    given = ["--methods", "patchcore", "--datasets", "folder", "--data-root", str(tree), "--device", "cpu"]
    return ["run", *given, "--encoder", VIT, "--set", "patchcore.input_size=32"]


def the(folder: Path) -> Path:
    (path,) = folder.rglob("s0*.json")
    return path


def test_late_metrics_and_maps_are_those_of_a_run_that_asked_at_once(
    bench: Callable, command: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert bench(*command, "--results", "once", "--metrics", LATE, "--keep-maps").returncode == 0
    assert bench(*command, "--results", "late", "--keep-model").returncode == 0
    path = the(tmp_path / "late")
    before = records.read(path)

    def trained(*given: object) -> None:
        raise AssertionError("the cell is run again")

    monkeypatch.setattr(cells, "run", trained)
    done = bench(*command, "--results", "late", "--metrics", LATE, "--keep-maps", "--dry-run")
    assert "done, maps and image/fpr@recall0.95 and pixel/iou:grid7 to come" in " ".join(done.stdout.split())
    done = bench(*command, "--results", "late", "--metrics", LATE, "--keep-maps")
    assert done.returncode == 0, done.stdout
    late, once = records.read(path), records.read(the(tmp_path / "once"))
    assert late.protocol == once.protocol and late.units == once.units
    assert late.variant_versions == once.variant_versions
    assert late.scores == once.scores and late.mean == once.mean and late.pooled == once.pooled
    assert (late.created, late.efficiency, late.model) == (before.created, before.efficiency, before.model)
    for kept in the(tmp_path / "once").with_suffix(".maps").iterdir():
        assert np.array_equal(np.load(kept), np.load(path.with_suffix(".maps") / kept.name))
    assert "0 to do" in bench(*command, "--results", "late", "--metrics", LATE, "--keep-maps").stdout


def test_metrics_alone_leave_no_maps_and_no_model_means_again(
    bench: Callable, command: list[str], tmp_path: Path
) -> None:
    assert bench(*command, "--results", "out", "--keep-model").returncode == 0
    path = the(tmp_path / "out")
    assert bench(*command, "--results", "out", "--metrics", "image/fpr@recall0.95").returncode == 0
    assert records.read(path).maps is None and not path.with_suffix(".maps").exists()
    (model,) = path.parent.glob("*.model.safetensors")
    model.unlink()
    done = bench(*command, "--results", "out", "--metrics", LATE)
    assert done.returncode == 0 and "no pixel/iou:grid7 measured, and none to be had without" in done.stdout
    assert "--again does (it took " in done.stdout
    assert "pixel/iou:grid7" not in json.loads(path.read_text())["protocol"]["metrics"]
