"""Device selection: what a device's name means, and which GPUs there are. Importing this module loads no torch."""

from __future__ import annotations

import os
import re
from typing import TYPE_CHECKING

from bench.errors import UsageError

if TYPE_CHECKING:
    import torch


NAMES = re.compile(r"auto|cpu|cuda(:\d{1,3})?")


def check(name: str) -> None:
    """Raise UsageError unless `name` is of the form of a device's; whether that device is here, `choose` tells."""
    if not NAMES.fullmatch(name):
        raise UsageError(f"--device '{name}': expected auto, cpu, cuda or cuda:N")


def choose(name: str) -> torch.device:
    """Return the device called auto (CUDA where there is any), cpu, cuda or cuda:N.

    Raises:
        UsageError: another name, or a device that is not there.
    """
    check(name)
    import torch

    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    device = torch.device(name)
    if device.type == "cuda" and not torch.cuda.is_available():
        raise UsageError(f"--device {name}: torch {torch.__version__} sees no CUDA device here. Use --device cpu")
    if device.index is not None and device.type == "cuda" and device.index >= torch.cuda.device_count():
        raise UsageError(f"--device {name}: there are {torch.cuda.device_count()} CUDA devices, counted from 0")
    return device


def visible(device: torch.device) -> tuple[str, ...]:
    """Return the CUDA devices that `device` means, each as CUDA_VISIBLE_DEVICES has it; none for the CPU.

    `cuda` means every one that this process sees, `cuda:N` the one.
    """
    if device.type != "cuda":
        return ()
    import torch

    count = torch.cuda.device_count()
    named = [name.strip() for name in os.environ.get("CUDA_VISIBLE_DEVICES", "").split(",") if name.strip()]
    every = tuple(named[:count]) if named else tuple(str(index) for index in range(count))
    return every if device.index is None else (every[device.index],)
