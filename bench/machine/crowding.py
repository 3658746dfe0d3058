"""CPU contention: where other processes want the cores, our waiting threads sleep instead of spinning.

GNU's OpenMP, which torch's wheels bring, has a thread that waits for another spin for 300,000 turns before it sleeps.
On a quiet machine that is best: the other comes within microseconds, and to be woken takes longer. On a crowded one it
spins in vain while the other has no core, and a training step takes ten times as long and more. No number of turns
serves both, and the runtime reads it only once.

But it shortens the wait to 100 turns for as long as a process has more OpenMP threads than cores (GOMP_SPINCOUNT in its
manual). So a watcher looks every second how long our threads stood ready without a core, as Linux counts it, and while
that is much it keeps one more team of threads, idle. Nothing that is computed changes: each team has its threads still.
tests/perf/waiting.py measures what it is worth.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from functools import cache
from pathlib import Path

from bench.machine import threads

EVERY_SECONDS = 1.0
CROWDED, CALM = 0.25, 0.1
"""Seconds that our threads stood ready in a second, summed: from the one on the machine counts as crowded, below the
other as quiet again. One busy process that shares two cores with us makes for 0.5."""
IDLE = 0.5
"""Seconds that our threads ran in a second, summed: below that nothing is learnt."""
CALM_ROUNDS = 3
"""Looks in a row that must find it quiet."""
TASKS = Path("/proc/self/task")
PARALLEL_ELEMENTS = 1 << 18
"""More than torch fills with one thread."""


class Watcher:
    """Looks for crowding and answers it.

    Attributes:
        crowded_seconds: how long there was any, so far.

    Args:
        counts: returns the seconds that this process' threads have run, and have stood ready without a core, so far.
        answer: called with True when the machine becomes crowded and with False when it is quiet again.
    """

    def __init__(self, counts: Callable[[], tuple[float, float]], answer: Callable[[bool], None]) -> None:
        self.crowded_seconds = 0.0
        self._counts, self._answer = counts, answer
        self._ran, self._stood = counts()
        self._crowded = False
        self._calm = 0

    def look(self, seconds: float) -> None:
        """Judge the `seconds` since the last look."""
        ran, stood = self._counts()
        # threads that ended took their counts with them
        share, busy = max(0.0, stood - self._stood) / seconds, max(0.0, ran - self._ran) / seconds
        self._ran, self._stood = ran, stood
        if share < CROWDED and busy < IDLE:
            return  # who wants no core cannot tell whether there is one
        self.crowded_seconds += seconds * self._crowded
        self._calm = self._calm + 1 if share < CALM else 0
        if not self._crowded and share >= CROWDED:
            self._crowded = True
            self._answer(True)
        elif self._crowded and self._calm >= CALM_ROUNDS:
            self._crowded = False
            self._answer(False)


@cache
def watch() -> Watcher | None:
    """Watch for crowding from now on, in a thread; None where the system does not count. Loads torch.

    Called again, returns the watcher that there is.
    """
    import torch

    if not threads.STOOD_READY.is_file():
        return None
    answer = _SpareTeam().keep if adapts() and torch.get_num_threads() > 1 else lambda crowded: None
    watcher = Watcher(counts, answer)
    threading.Thread(target=_look_on, args=(watcher,), name="bench-crowding", daemon=True).start()
    return watcher


def adapts() -> bool:
    """Return whether waiting is made to fit: nothing has fixed it, and the system counts what it takes."""
    return not threads.waiting().keys() & {threads.POLICY, threads.SPINS} and threads.STOOD_READY.is_file()


def counts() -> tuple[float, float]:
    """Return the seconds that all threads of this process ran, and stood ready without a core, since each began."""
    ran = stood = 0
    for file in TASKS.glob("*/schedstat"):
        try:
            own, waited = file.read_text(encoding="ascii").split()[:2]
        except (OSError, ValueError):  # the thread has ended
            continue
        ran, stood = ran + int(own), stood + int(waited)
    return ran / 1e9, stood / 1e9


def _look_on(watcher: Watcher) -> None:
    last = time.monotonic()
    while True:
        time.sleep(EVERY_SECONDS)
        now = time.monotonic()
        watcher.look(now - last)
        last = now


class _SpareTeam:
    """One more team of OpenMP threads, which exists for as long as the thread that made it."""

    def __init__(self) -> None:
        self._leave = threading.Event()
        self._thread: threading.Thread | None = None

    def keep(self, wanted: bool) -> None:
        """Have the team, or let it go."""
        if wanted and self._thread is None:
            self._leave.clear()
            self._thread = threading.Thread(target=self._hold, name="bench-spare-team", daemon=True)
            self._thread.start()
        elif not wanted and self._thread is not None:
            self._leave.set()
            self._thread.join()
            self._thread = None

    def _hold(self) -> None:
        import torch

        torch.empty(PARALLEL_ELEMENTS).fill_(0.0)
        self._leave.wait()
