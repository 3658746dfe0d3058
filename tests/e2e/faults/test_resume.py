"""A run that is killed goes on where it was, to the same bits."""

from __future__ import annotations

import json
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq


def scores(results: Path) -> tuple[dict, list[float], dict[str, np.ndarray], dict]:
    (path,) = results.rglob("s*.json")
    record = json.loads(path.read_text())
    table = pq.read_table(path.with_suffix(".parquet")).to_pydict()
    maps = {file.stem: np.load(file) for file in path.with_suffix(".maps").glob("*.npy")}
    return record["scores"], table["score"], maps, record


def written(results: Path) -> dict[Path, int]:
    """When each checkpoint was written."""
    return {path: path.stat().st_mtime_ns for path in results.rglob("*.ckpt")}


def test_sigkill_in_training_then_resume_gives_bit_identical_scores(
    bench: Callable, warm: Any, tmp_path: Path, small: Callable, write_tree: Callable
) -> None:
    tree = write_tree(tmp_path / "tree")
    command = [*small(steps=60, hard_mining_steps=20), "--data-root", str(tree), "--keep-maps"]
    command += ["--checkpoint-seconds", "0"]
    assert bench(*command, "--results", "undisturbed").returncode == 0

    kills = 0
    for _ in range(2):
        seen = written(tmp_path / "killed")
        job = warm.start(*command, "--results", str(tmp_path / "killed"))
        # wait for this attempt's third checkpoint, so that the kill falls into the training
        for _ in range(3):
            job.until(lambda seen=seen: written(tmp_path / "killed") != seen)
            seen = written(tmp_path / "killed")
        job.kill()
        assert job.wait() == -signal.SIGKILL
        kills += 1
    assert not list((tmp_path / "killed").rglob("s*.json")), "the run ended before it was killed"

    done = bench(*command, "--results", "killed")
    assert done.returncode == 0 and "resumed at step" in done.stderr and "interrupted" in done.stdout

    want_scores, want_images, want_maps, _ = scores(tmp_path / "undisturbed")
    got_scores, got_images, got_maps, record = scores(tmp_path / "killed")
    assert len(record["training"]["resumed_at"]) == kills
    assert got_scores == want_scores and got_images == want_images
    for cls, maps in want_maps.items():
        assert np.array_equal(got_maps[cls], maps), cls
    assert not list((tmp_path / "killed").rglob("*.ckpt")), "the checkpoint of a finished cell stays behind"


def test_a_damaged_checkpoint_is_said_and_training_starts_again(
    bench: Callable, tmp_path: Path, small: Callable, write_tree: Callable
) -> None:
    tree = write_tree(tmp_path / "tree", classes=("dots",))
    command = [*small(steps=3), "--data-root", str(tree), "--results", "out"]
    assert bench(*command).returncode == 0
    (path,) = (tmp_path / "out").rglob("s*.json")
    want = json.loads(path.read_text())["scores"]
    path.unlink()
    path.with_suffix(".ckpt").write_bytes(b"\x80\x04broken")
    done = bench(*command)
    assert done.returncode == 0 and "damaged" in done.stderr
    assert json.loads(path.read_text())["scores"] == want


def test_a_cell_that_another_process_holds_is_left_to_it(
    bench: Callable, tmp_path: Path, small: Callable, write_tree: Callable
) -> None:
    from bench.files import try_lock

    tree = write_tree(tmp_path / "tree", classes=("dots",))
    command = [*small(steps=2), "--data-root", str(tree), "--results", "out"]
    assert bench(*command).returncode == 0
    (path,) = (tmp_path / "out").rglob("s*.json")
    path.unlink()
    with try_lock(path.with_suffix(".lock")) as mine:
        assert mine
        done = bench(*command)
    assert done.returncode == 1 and "no record yet of dinomaly on folder, multi, seed 0: another process" in done.stderr
    assert not path.exists()
