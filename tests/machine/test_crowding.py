"""Where others want the cores, one more team of threads makes ours sleep instead of spin."""

from __future__ import annotations

import subprocess
import sys
import time
from pathlib import Path

import pytest

from bench.machine import crowding
from bench.machine.crowding import CALM, CALM_ROUNDS, CROWDED, Watcher


class Machine:
    """Says how long threads stood ready, and hears the answers."""

    def __init__(self) -> None:
        self.ran, self.stood = 9.0, 7.0
        self.answers: list[bool] = []
        self.watcher = Watcher(lambda: (self.ran, self.stood), self.answers.append)

    def pass_by(self, share: float, looks: int = 1, busy: float = 1.0) -> None:
        for _ in range(looks):
            self.stood += 2 * share
            self.ran += 2 * busy
            self.watcher.look(2.0)


def test_one_look_finds_it_crowded_and_several_find_it_quiet() -> None:
    machine = Machine()
    machine.pass_by(0.9 * CROWDED, looks=5)
    assert machine.answers == [] and machine.watcher.crowded_seconds == 0
    machine.pass_by(CROWDED)
    assert machine.answers == [True]
    machine.pass_by(0.5 * CALM, looks=CALM_ROUNDS - 1)
    machine.pass_by(2 * CALM)
    machine.pass_by(0.5 * CALM, looks=CALM_ROUNDS - 1)
    assert machine.answers == [True], "quiet for a moment is not quiet"
    machine.pass_by(0.5 * CALM, looks=5)
    assert machine.answers == [True, False]
    assert machine.watcher.crowded_seconds == 2 * (2 * CALM_ROUNDS), "from the answer on until the next one"


def test_a_process_that_wants_no_core_learns_nothing() -> None:
    machine = Machine()
    machine.pass_by(CROWDED)
    machine.pass_by(0.0, looks=9, busy=0.1)
    assert machine.answers == [True] and machine.watcher.crowded_seconds == 0
    machine.pass_by(CROWDED, busy=0.0)
    assert machine.watcher.crowded_seconds == 2, "one that gets no core at all does"


def test_counts_that_ended_threads_take_with_them_are_no_quiet_and_no_crowding() -> None:
    machine = Machine()
    machine.ran = machine.stood = 0.0
    machine.watcher.look(1.0)
    assert machine.answers == []
    machine.pass_by(2 * CROWDED)
    assert machine.answers == [True]


def test_counts_are_summed_over_the_threads_there_are(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(crowding, "TASKS", tmp_path)
    for task, counts in {"1": "1000000000 1500000000 3", "2": "3000000000 500000000 3", "3": ""}.items():
        (tmp_path / task).mkdir()
        (tmp_path / task / "schedstat").write_text(counts)
    assert crowding.counts() == (4.0, 2.0)


SPARE = """
import os, time, torch
from bench.machine.crowding import _SpareTeam
torch.set_num_threads(3)
def tasks():
    return len(os.listdir("/proc/self/task"))
def settles(count):
    end = time.monotonic() + 60
    while tasks() != count and time.monotonic() < end:
        time.sleep(0.01)
    return tasks() == count
torch.empty(1 << 18).fill_(0.0)
before, team = tasks(), _SpareTeam()
for _ in range(2):
    team.keep(True)
    team.keep(True)
    assert settles(before + 3), "its own thread and two more: a whole team"
    team.keep(False)
    team.keep(False)
    assert settles(before)
"""


@pytest.mark.skipif(not Path("/proc/self/task").is_dir(), reason="threads are counted where Linux lists them")
def test_the_spare_team_is_there_while_it_is_wanted() -> None:
    done = subprocess.run([sys.executable, "-c", SPARE], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def test_one_watcher_serves_a_process(monkeypatch: pytest.MonkeyPatch) -> None:
    crowding.watch.cache_clear()
    monkeypatch.setattr(crowding, "EVERY_SECONDS", 0.01)
    looks: list[float] = []
    monkeypatch.setattr(Watcher, "look", lambda self, seconds: looks.append(seconds))
    watcher = crowding.watch()
    assert watcher is crowding.watch()
    if watcher is not None:
        end = time.monotonic() + 30
        while len(looks) < 3 and time.monotonic() < end:
            time.sleep(0.01)
        assert len(looks) >= 3 and min(looks) >= 0.01
