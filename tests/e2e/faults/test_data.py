"""Faults 7 and 8: a loss that is no number, and data that change between runs and during one."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from bench.store import record as records


def invert(path: Path) -> None:
    Image.fromarray(255 - np.asarray(Image.open(path))).save(path)


def test_a_loss_that_is_no_number_fails_its_cell_and_spoils_neither_the_next_nor_the_retry(
    warm: Any, sweep: Callable, undisturbed: Callable, outcome: Callable, tmp_path: Path
) -> None:
    want = undisturbed(seeds="0,1")
    results = tmp_path / "results"
    done = warm.run(*sweep(results, seeds="0,1"), TRIPWIRE='{"spoil_weights_at": 7}')
    assert done.code == 1 and "Traceback" not in done.text and "[2/2]" in done.text, done.text
    found = [records.read(path) for path in sorted(results.rglob("s*.json"))]
    assert [record.status for record in found] == ["failed", "failed"]
    for record in found:
        assert record.error is not None and record.error.type == "TrainingError" and record.scores == {}
        message = record.error.message
        # the weights were lost at step 7, and a checkpoint of them written
        assert "loss is nan at step 8 (learning rate 0.01; images" in message and message.count("train/good/") == 8
    assert not list(results.rglob("*.ckpt"))
    done = warm.run(*sweep(results, seeds="0,1"))
    assert done.code == 0 and "resumed" not in done.text and outcome(results) == want


def test_data_that_changed_between_runs_are_another_cell_and_it_is_said(
    warm: Any, sweep: Callable, tree: Path, tmp_path: Path
) -> None:
    results = tmp_path / "results"
    assert warm.run(*sweep(results, root=tree)).code == 0
    (old,) = results.rglob("s0*.json")
    before = old.read_bytes()
    invert(tree / "dots" / "train" / "good" / "000.png")
    done = warm.run(*sweep(results, root=tree))
    assert done.code == 0 and "data changed since" in done.text and old.name in done.text, done.text
    new = [path for path in results.rglob("s0*.json") if path != old]
    assert len(new) == 1 and old.read_bytes() == before
    # a third run knows both and has nothing to do; another seed or setting is no changed data
    assert "0 to do, 1 done" in warm.run(*sweep(results, root=tree)).text
    done = warm.run(*sweep(results, root=tree, seeds="1", steps=2))
    assert done.code == 0 and "data changed" not in done.text


@pytest.mark.parametrize("victim", ["test/good/000.png", "ground_truth/square/001_mask.png"])
def test_a_file_that_changes_during_a_run_is_noticed(
    warm: Any, sweep: Callable, tree: Path, tmp_path: Path, victim: str
) -> None:
    results, cache = tmp_path / "results", str(tmp_path / "cache")
    command = [*sweep(results, root=tree, steps=2), "--setting", "single"]
    # the first cell takes long enough to change a file of the second, which is hashed but not decoded yet
    job = warm.start(*command, TRIPWIRE='{"slow_step_ms": 700}', BENCH_CACHE=cache)
    job.until(lambda: "features" in job.text)
    changed = tree / "lines" / victim
    invert(changed)
    assert job.wait() == 2, job.text
    assert f"{changed} changed after the run was planned. Run the same command again" in job.text
    found = [records.read(path) for path in results.rglob("*.json")]
    assert {record.cell.part: record.status for record in found} == {"dots": "done", "lines": "failed"}
    done = warm.run(*command, BENCH_CACHE=cache)
    assert done.code == 0 and "1 to do, 1 done" in done.text, done.text
