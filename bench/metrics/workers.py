"""Threads for loops that release the GIL: compiled kernels, and NumPy on large arrays."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

from bench.machine.threads import cores

Item = TypeVar("Item")
Result = TypeVar("Result")

_MOST = 16
"""More threads than this wait for memory, and each costs some of its own."""


def thread_count() -> int:
    """Return how many threads the metrics use: as many as it may keep cores busy, at most NUMBA_NUM_THREADS and 16."""
    chosen = os.environ.get("NUMBA_NUM_THREADS", "")
    return max(1, min(cores(), _MOST, int(chosen) if chosen.isdecimal() else _MOST))


def each(work: Callable[[Item], Result], items: Sequence[Item]) -> list[Result]:
    """Return `work` of each item, in the items' order, computed in threads that end with the call.

    Threads that outlive a call would be missing after a fork, and a pool shared by callers would make them wait for
    each other; starting two threads takes a tenth of a millisecond.
    """
    threads = min(thread_count(), len(items))
    if threads <= 1:
        return [work(item) for item in items]
    with ThreadPoolExecutor(threads) as pool:
        return list(pool.map(work, items))


def spans(count: int, size: int) -> list[slice]:
    """Return slices of at most `size` that cover `count` items."""
    return [slice(start, min(start + size, count)) for start in range(0, count, size)]
