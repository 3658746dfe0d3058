"""Which device a name means, and which GPUs there are."""

from __future__ import annotations

import os

import torch

from bench.errors import UsageError


def choose(name: str) -> torch.device:
    """Return the device called auto (CUDA where there is any), cpu, cuda or cuda:N.

    Raises:
        UsageError: another name, or a device that is not there.
    """
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        device = torch.device(name)
    except RuntimeError:
        raise UsageError(f"--device '{name}': expected auto, cpu, cuda or cuda:N") from None
    if device.type not in ("cpu", "cuda"):
        raise UsageError(f"--device '{name}': expected auto, cpu, cuda or cuda:N")
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
    count = torch.cuda.device_count()
    named = [name.strip() for name in os.environ.get("CUDA_VISIBLE_DEVICES", "").split(",") if name.strip()]
    every = tuple(named[:count]) if named else tuple(str(index) for index in range(count))
    return every if device.index is None else (every[device.index],)
