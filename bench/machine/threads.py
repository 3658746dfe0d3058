"""Thread counts of a process, and how its threads wait for each other.

Importing `bench` sets both in the environment, where OpenMP's runtimes look when torch is loaded, and leaves alone what
the user has set. How long a waiting thread spins before it sleeps decides what busy neighbours, or a control group that
allows fewer cores than there are, make of a training step. GNU's runtime, which torch's wheels bring, is made to fit
while it runs, see `bench.machine.crowding`; where that cannot be, it spins for some thousand turns instead of 300,000.
LLVM's and Intel's spin for 1 ms instead of 200.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping
from functools import cache
from pathlib import Path

from bench.machine import control_groups

SPINS, BLOCKTIME = "GOMP_SPINCOUNT", "KMP_BLOCKTIME"
"""Of GNU's runtime, in turns; of LLVM's and Intel's, in milliseconds."""
POLICY = "OMP_WAIT_POLICY"
"""The standard's variable for all runtimes; whoever sets it has chosen."""
COUNT = "OMP_NUM_THREADS"
STOOD_READY = Path("/proc/self/schedstat")
"""Where Linux counts how long a thread stood ready without a core."""
CHOSEN = "BENCH_CHOSEN"
"""Variables that bench set, so that a process started by this one can tell them from the user's: `NAME=VALUE ...`."""


def prepare() -> None:
    """Set how many threads there are and how they wait, where the user has not; nothing once torch is loaded."""
    if "torch" in sys.modules:
        return
    wanted: dict[str, str] = {}
    if given(POLICY) is None:
        wanted = {BLOCKTIME: "1"} if STOOD_READY.is_file() else {SPINS: "4000", BLOCKTIME: "1"}
    if cores() < _allowed():
        # the runtimes know which cores there are, but not what part of them a control group allows
        wanted[COUNT] = str(cores())
    # what a process that started this one has set holds for that one
    for name in list(chosen()):
        del os.environ[name]
    os.environ[CHOSEN] = ""
    choose(wanted)


def choose(wanted: Mapping[str, str]) -> None:
    """Set variables that the user has not set, and remember that it was bench who set them."""
    new = {name: value for name, value in wanted.items() if given(name) is None}
    os.environ.update(new)
    os.environ[CHOSEN] = " ".join(f"{name}={value}" for name, value in (chosen() | new).items())


def chosen() -> dict[str, str]:
    """Return the variables that bench has set, without those that were changed since."""
    noted = dict(pair.split("=", 1) for pair in os.environ.get(CHOSEN, "").split() if "=" in pair)
    return {name: value for name, value in noted.items() if os.environ.get(name) == value}


def given(name: str) -> str | None:
    """Return what the user has set a variable to; None where it is not set or was set by bench."""
    return None if name in chosen() else os.environ.get(name)


def waiting() -> dict[str, str]:
    """Return the variables in effect that say how threads wait, whoever set them."""
    return {name: os.environ[name] for name in (POLICY, SPINS, BLOCKTIME) if name in os.environ}


def cores() -> int:
    """Return how many cores this process may keep busy: those it may run on, or what its control groups allow."""
    quota = cpu_quota()
    return _allowed() if quota is None else max(1, min(_allowed(), int(quota + 0.5)))


@cache
def cpu_quota() -> float | None:
    """Return how many cores' time the tightest control group allows this process; None without a limit."""
    limits = [_quota(version, folder) for version, folder in control_groups.folders("cpu")]
    return min((limit for limit in limits if limit is not None), default=None)


def _allowed() -> int:
    # not every system can tell which cores a process may use
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _quota(version: control_groups.Version, folder: Path) -> float | None:
    """Return a group's limit in cores: microseconds of processor time in each period of so many microseconds."""
    try:
        if version == 2:
            most, period = (folder / "cpu.max").read_text(encoding="ascii").split()
        else:
            most = (folder / "cpu.cfs_quota_us").read_text(encoding="ascii").strip()
            period = (folder / "cpu.cfs_period_us").read_text(encoding="ascii").strip()
        return None if most in ("max", "-1") else int(most) / int(period)
    except (OSError, ValueError, ZeroDivisionError):
        return None
