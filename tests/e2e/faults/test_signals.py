"""Fault 9: Ctrl-C and SIGTERM end a run cleanly, in every phase; a second one ends it at once."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from signal import SIG_IGN, SIGINT, SIGTERM, getsignal, signal
from typing import Any

import pytest

from bench.machine import stopping

GOES_ON = "Finished cells are kept; the same command goes on from the last checkpoint"


def strays(results: Path) -> list[str]:
    return [path.name for path in results.rglob("*") if path.suffix in (".part", ".lock")]


@pytest.mark.parametrize(("number", "word", "code"), [(SIGINT, "interrupted", 130), (SIGTERM, "terminated", 143)])
def test_a_training_stops_after_its_step_and_goes_on_from_there(
    warm: Any,
    sweep: Callable,
    undisturbed: Callable,
    outcome: Callable,
    tmp_path: Path,
    number: int,
    word: str,
    code: int,
) -> None:
    want = undisturbed(seeds="0,1")
    results = tmp_path / "results"
    # no checkpoint is due: the one that is found was saved because of the signal
    command = [*sweep(results, seeds="0,1"), "--checkpoint-seconds", "1000"]
    job = warm.start(*command, TRIPWIRE='{"slow_step_ms": 100}')
    job.until(lambda: "step 2\n" in job.text)
    job.kill(number)
    assert job.wait() == code
    stopped = re.search(r"stopped after step (\d+) of 12, saved in s0-\w+\.ckpt", job.text)
    assert stopped and f"{word}. {GOES_ON}" in job.text and "Traceback" not in job.text, job.text
    assert "seed 1" not in job.text.partition("stopped after")[2] and strays(results) == []
    done = warm.run(*command)
    assert done.code == 0 and f"resumed at step {stopped[1]} from" in done.text, done.text
    assert outcome(results) == want


def test_a_second_one_ends_the_process_at_once(
    warm: Any, sweep: Callable, undisturbed: Callable, outcome: Callable, tmp_path: Path
) -> None:
    want = undisturbed()
    results = tmp_path / "results"
    job = warm.start(*sweep(results), TRIPWIRE='{"slow_step_ms": 60000}')
    job.until(lambda: "step 0\n" in job.text)
    job.kill(SIGINT)
    job.until(lambda: "once more stops at once" in job.text)
    job.kill(SIGINT)
    assert job.wait() == -SIGINT, "the shell calls it 130"
    done = warm.run(*sweep(results))
    assert done.code == 0 and outcome(results) == want and strays(results) == []


@pytest.mark.parametrize(
    ("phase", "faults"),
    [("reading folder", "{}"), (r"\[1/1\]", "{}"), ("train 12/12", '{"slow_inference_ms": 2000}')],
    ids=["plan", "decode and features", "scoring"],
)
def test_other_phases_stop_at_once_and_the_run_can_be_repeated(
    warm: Any, sweep: Callable, undisturbed: Callable, outcome: Callable, tmp_path: Path, phase: str, faults: str
) -> None:
    want = undisturbed()
    results, cache = tmp_path / "results", tmp_path / "cache"
    job = warm.start(*sweep(results), TRIPWIRE=faults, BENCH_CACHE=str(cache))
    job.until(lambda: re.search(phase, job.text) is not None)
    job.kill(SIGINT)
    assert job.wait() == 130 and GOES_ON in job.text and "Traceback" not in job.text, job.text
    assert strays(results) == [] and not list(results.rglob("s0*.json"))
    done = warm.run(*sweep(results), BENCH_CACHE=str(cache))
    assert done.code == 0 and outcome(results) == want


def test_one_that_is_ignored_stays_ignored() -> None:
    before = signal(SIGINT, SIG_IGN)
    try:
        with stopping.signals():
            # as under nohup: closing a terminal must not end a run that was put in the background
            assert getsignal(SIGINT) is SIG_IGN and callable(getsignal(SIGTERM))
    finally:
        signal(SIGINT, before)
