"""Faults 1 and 2: processes killed at random moments, and two sweeps on one results folder."""

from __future__ import annotations

import random
import time
from collections.abc import Callable
from pathlib import Path
from signal import SIGKILL
from typing import Any

KILLS = 20
SEEDS = "0,1,2"


def strays(results: Path) -> list[str]:
    return [path.name for path in results.rglob("*") if path.is_file() and path.suffix in (".part", ".lock", ".ckpt")]


def test_sigkill_at_random_moments_20_times(
    warm: Any, sweep: Callable, undisturbed: Callable, outcome: Callable, tmp_path: Path
) -> None:
    want = undisturbed(seeds=SEEDS, steps=20)
    started = time.monotonic()
    assert warm.run(*sweep(tmp_path / "again", seeds=SEEDS, steps=20)).code == 0
    whole = time.monotonic() - started
    assert outcome(tmp_path / "again") == want
    assert len(want) == 3
    chance = random.Random(seed := random.SystemRandom().randrange(2**32))
    print(f"moments from random.Random({seed}), of a sweep of {whole:.2f} s")
    results, kills, left = tmp_path / "killed", 0, []
    while kills < KILLS:
        job = warm.start(*sweep(results, seeds=SEEDS, steps=20))
        time.sleep(chance.uniform(0, 0.9 * whole))
        job.kill()
        if job.wait() == -SIGKILL:
            kills += 1
            left.append(strays(results))
            print(f"kill {kills}: {len(list(results.rglob('s*.json')))} records, left behind: {left[-1]}")
        elif kills < KILLS:
            # it ended before: the next kills are to find work
            for path in results.rglob("s*"):
                if path.is_file():
                    path.unlink()
    assert any(left), "no kill fell into a cell"
    done = warm.run(*sweep(results, seeds=SEEDS, steps=20))
    assert done.code == 0, done.text
    assert outcome(results) == want
    assert strays(results) == []


def test_two_sweeps_on_one_folder_run_every_cell_once(
    warm: Any, sweep: Callable, undisturbed: Callable, outcome: Callable, tmp_path: Path
) -> None:
    seeds = "0,1,2,3"
    want = undisturbed(seeds=seeds)
    results = tmp_path / "shared"
    slow = {"TRIPWIRE": '{"slow_step_ms": 5}'}
    jobs = [warm.start(*sweep(results, seeds=seeds), **slow) for _ in range(2)]
    codes = [job.wait() for job in jobs]
    # whoever ends first may have left the last cell to the other, and says so
    assert codes == [int("no record yet of" in job.text) for job in jobs] != [1, 1], [job.text for job in jobs]
    assert outcome(results) == want and strays(results) == []
    # a cell that is run says how long its training took
    trained = [job.text.count("  train 12/12") for job in jobs]
    assert sum(trained) == 4 and all(trained), trained
    assert any("another process" in job.text for job in jobs)
