"""Device rates: matrix products and memory traffic a second, measured here and now."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable
from functools import lru_cache

import torch

from bench.machine.precision import set_precision

SIDE = {"cpu": 2048, "cuda": 8192}
"""Side of the square matrices; smaller ones do not fill the device, larger ones are no faster."""
COPIED = 2**28
"""Bytes moved at once: more than any cache holds."""
ROUNDS = 5
ROUND_SECONDS = 0.05


def matrix_rate_now(device: torch.device, precision: str = "fp32") -> float:
    """Measure matrix products: floating-point operations a second, the median of five rounds.

    On a machine that others use it is another one every minute. The precision stays set; whoever runs a cell sets its
    own.

    Args:
        device: where.
        precision: `fp32`, `tf32` (differs on CUDA alone) or `bf16`, as cells are trained in.
    """
    side = SIDE[device.type]
    kind = torch.bfloat16 if precision == "bf16" else torch.float32
    a, b = (torch.randn(side, side, device=device).to(kind) for _ in range(2))
    out = torch.empty_like(a)
    set_precision(precision)
    return 2 * side**3 * _a_second(lambda: torch.mm(a, b, out=out), device)


matrix_rate = lru_cache(maxsize=8)(matrix_rate_now)
"""The same, measured once in a process."""


@lru_cache(maxsize=4)
def memory_rate(device: torch.device) -> float:
    """Measure copies within the device's memory: bytes read and written a second, the median of five rounds."""
    source = torch.zeros(COPIED // 2, dtype=torch.uint8, device=device)
    target = torch.zeros_like(source)
    return COPIED * _a_second(lambda: target.copy_(source), device)


def settle(device: torch.device) -> None:
    """Wait until a device has done all that was asked of it; a clock read before that measures the asking alone."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def _a_second(work: Callable[[], object], device: torch.device) -> float:
    rates = []
    for _ in range(ROUNDS + 1):
        count, start = 0, time.perf_counter()
        while (spent := time.perf_counter() - start) < ROUND_SECONDS or not count:
            work()
            settle(device)
            count += 1
        rates.append(count / spent)
    # the first round also wakes the device up
    return statistics.median(rates[1:])
