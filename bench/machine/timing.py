"""Timing: seconds by phase, and peak device memory."""

from __future__ import annotations

import resource
import time
from collections.abc import Iterator
from contextlib import contextmanager

import torch


class Stopwatch:
    """Accumulates wall seconds by phase name; phases may repeat and nest, and each second counts in the innermost."""

    def __init__(self, seconds: dict[str, float] | None = None) -> None:
        self.seconds: dict[str, float] = dict(seconds or {})
        self._nested = 0.0

    @contextmanager
    def phase(self, name: str) -> Iterator[None]:
        """Time the block; it counts even when it raises."""
        start = time.perf_counter()
        before, self._nested = self._nested, 0.0
        try:
            yield
        finally:
            spent = time.perf_counter() - start
            self.seconds[name] = self.seconds.get(name, 0.0) + spent - self._nested
            self._nested = before + spent


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
