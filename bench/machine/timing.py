"""Timing: seconds and joules by phase, and peak memory."""

from __future__ import annotations

import resource
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import TypeVar

import torch

from bench.machine import energy

T = TypeVar("T")


class Stopwatch:
    """Adds up wall seconds by phase name, and joules; phases may repeat and nest, and each counts in the innermost.

    Attributes:
        seconds: by phase.
        joules: by phase; empty where nothing counts them.
    """

    def __init__(self, count: Callable[[], float | None] = lambda: None) -> None:
        """Take what counts joules, as `bench.machine.energy.Meter.joules` does."""
        self.seconds: dict[str, float] = {}
        self.joules: dict[str, float] = {}
        self._count = count
        self._nested = (0.0, 0.0)

    @contextmanager
    def phase(self, name: str) -> Iterator[None]:
        """Time the block; it counts even when it raises."""
        start, counted = time.perf_counter(), self._count()
        before, self._nested = self._nested, (0.0, 0.0)
        try:
            yield
        finally:
            spent, joules = time.perf_counter() - start, energy.spent(counted, self._count())
            self.seconds[name] = self.seconds.get(name, 0.0) + spent - self._nested[0]
            if joules is not None:
                self.joules[name] = self.joules.get(name, 0.0) + joules - self._nested[1]
            self._nested = (before[0] + spent, before[1] + (joules or 0.0))


FEWEST, WARM = 5, 10
"""Calls that are timed however long they take; first ones that are left out of many, while buffers and kernels are
chosen."""


def one_by_one(call: Callable[[T], object], things: Iterable[T], seconds: float) -> list[float]:
    """Return how many seconds each call took, one after another.

    Args:
        call: waits for what it starts.
        things: as many as there is time for are taken.
        seconds: to be spent, warm-up included.
    """
    found: list[float] = []
    start = time.perf_counter()
    for thing in things:
        begun = time.perf_counter()
        call(thing)
        found.append(time.perf_counter() - begun)
        if len(found) >= FEWEST and time.perf_counter() - start > seconds:
            break
    return found[min(WARM, len(found) // 2) :]


def describe(device: torch.device) -> str:
    """Return the device as records name it, so that two models of GPU are not taken for one: `cuda:0 NVIDIA H100`."""
    if device.type != "cuda":
        return device.type
    return f"cuda:{device.index or 0} {torch.cuda.get_device_name(device)}"


def peak_memory_mib() -> float:
    """Return the highest resident memory of this process so far, in MiB."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def peak_device_memory_mib(device: torch.device) -> float | None:
    """Return the highest memory allocated on a CUDA device since its last reset, in MiB; None on the CPU."""
    return torch.cuda.max_memory_allocated(device) / 2**20 if device.type == "cuda" else None
