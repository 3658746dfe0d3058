"""Fault 10: what is printed cannot be written. Progress is lost then, a cell never."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

BROKEN = ["no reader", "full disk", "closed terminal", "closed"]


@pytest.mark.parametrize("how", BROKEN)
def test_a_run_that_nobody_hears_records_what_it_would_have(
    warm: Any, sweep: Callable, undisturbed: Callable, outcome: Callable, tmp_path: Path, how: str
) -> None:
    want = undisturbed()
    results = tmp_path / "results"
    # the method prints in every step, as plug-ins may
    done = warm.run(*sweep(results), stdout=how, TRIPWIRE='{"slow_step_ms": 0}')
    assert done.code == 0 and outcome(results) == want
    told = "not all could be printed (No space left on device); nothing else is lost\n"
    # where both are closed, nor is a file that was opened since written into
    assert done.text.endswith(told if how == "full disk" else "") and "Traceback" not in done.text
    assert ("score 10/10" in done.text) == (how in ("no reader", "full disk")), "progress goes to the other stream"


@pytest.mark.parametrize(
    ("how", "code", "text"),
    [
        ("no reader", 141, ""),
        ("full disk", 2, "error: cannot write to standard output: No space left on device\n"),
        ("closed terminal", 2, ""),
    ],
)
def test_a_command_that_only_prints_fails_then(warm: Any, how: str, code: int, text: str) -> None:
    done = warm.run("ls", "protocols", stdout=how)
    assert (done.code, done.text) == (code, text)


@pytest.mark.parametrize("how", BROKEN)
def test_the_exit_code_of_a_failed_cell_stays(warm: Any, sweep: Callable, tmp_path: Path, how: str) -> None:
    done = warm.run(*sweep(tmp_path / "results"), stdout=how, TRIPWIRE='{"spoil_weights_at": 2}')
    assert done.code == 1


def test_a_mistake_is_still_told_where_somebody_listens(warm: Any) -> None:
    done = warm.run("ls", "nothing", stdout="no reader")
    assert done.code == 2 and done.text.startswith("error: ")
