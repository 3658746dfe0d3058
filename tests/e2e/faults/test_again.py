"""Finished cells that are asked for more than they kept, or to be run again."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path
from signal import SIGINT
from typing import Any

import numpy as np


def the_record(results: Path) -> dict[str, Any]:
    (path,) = results.rglob("s0*.json")
    return json.loads(path.read_text())


def test_maps_that_were_not_kept_are_said_to_be_missing_and_had_by_running_again(
    warm: Any, sweep: Callable, outcome: Callable, tmp_path: Path
) -> None:
    results = tmp_path / "results"
    assert warm.run(*sweep(results)).code == 0
    want, before = outcome(results), the_record(results)
    done = warm.run(*sweep(results), "--keep-maps")
    assert done.code == 0 and "done, maps not kept" in done.text and "1 cell: 0 to do, 1 done" in done.text
    assert re.search(r"tripwire on folder, multi, seed 0: no maps kept.*: --again does \(it took \d", done.text)
    assert the_record(results) == before and not list(results.rglob("*.maps"))

    plan = warm.run(*sweep(results), "--keep-maps", "--again", "--dry-run")
    assert "done, again" in plan.text and "1 cell: 1 to do, 0 done" in plan.text and "not kept" not in plan.text
    done = warm.run(*sweep(results), "--keep-maps", "--again")
    assert done.code == 0 and outcome(results) == want
    (maps,) = results.rglob("*.maps")
    assert the_record(results)["maps"] == maps.name
    assert sorted(path.name for path in maps.iterdir()) == ["dots.npy", "lines.npy"]
    done = warm.run(*sweep(results), "--keep-maps")
    assert "not kept" not in done.text and "0 to do" in done.text
    # what was kept is kept again, though it is not asked for again
    kept = np.load(maps / "dots.npy")
    (maps / "dots.npy").write_bytes(b"of another training")
    assert warm.run(*sweep(results), "--again").code == 0
    assert np.array_equal(np.load(maps / "dots.npy"), kept) and the_record(results)["maps"] == maps.name


def test_a_cell_that_fails_when_run_again_keeps_its_record(
    warm: Any, sweep: Callable, outcome: Callable, tmp_path: Path
) -> None:
    results = tmp_path / "results"
    assert warm.run(*sweep(results), "--keep-maps").code == 0
    want, before = outcome(results), the_record(results)
    done = warm.run(*sweep(results), "--again", TRIPWIRE='{"spoil_weights_at": 2}')
    assert done.code == 1 and "FAILED" in done.text and "of before stays" in done.text
    assert outcome(results) == want and the_record(results) == before and list(results.rglob("*.maps/dots.npy"))


def test_a_cell_that_is_stopped_when_run_again_keeps_its_record_and_goes_on_later(
    warm: Any, sweep: Callable, outcome: Callable, tmp_path: Path
) -> None:
    results = tmp_path / "results"
    assert warm.run(*sweep(results)).code == 0
    want, before = outcome(results), the_record(results)
    job = warm.start(*sweep(results), "--again", TRIPWIRE='{"slow_step_ms": 100}')
    job.until(lambda: "step 2\n" in job.text)
    job.kill(SIGINT)
    assert job.wait() == 130 and the_record(results) == before
    assert warm.run(*sweep(results)).code == 0, "the plain command shows the record and leaves the checkpoint"
    done = warm.run(*sweep(results), "--again")
    assert done.code == 0 and "resumed at step" in done.text and outcome(results) == want


def test_a_method_without_maps_says_at_once_that_it_has_none_to_keep(warm: Any, data: Path, tmp_path: Path) -> None:
    command = ["run", "--methods", "knn", "--datasets", "folder", "--data-root", str(data), "--device", "cpu"]
    command += ["--encoder", "vit_tiny_patch8_128.bench", "--set", "knn.input_size=32", "--results", str(tmp_path)]
    assert warm.run(*command).code == 0
    told = "knn gives image scores alone: there are no maps to keep"
    done = warm.run(*command, "--keep-maps")
    assert done.code == 0 and told in done.text and "0 to do" in done.text, done.text
    assert "not kept" not in done.text and "--again" not in done.text, "running it again would give none either"
    done = warm.run(*command, "--keep-maps", "--again", "--keep-model")
    assert done.code == 0 and done.text.index(told) < done.text.index("done, again"), "said before it is run"
    next(tmp_path.rglob("*.maps")).rmdir()
    done = warm.run(*command, "--keep-maps")
    assert told in done.text and "to come" not in done.text and "0 to do" in done.text, done.text
