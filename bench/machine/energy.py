"""Energy that the device takes: NVML's counter of an NVIDIA GPU, or RAPL's of the processor packages (Linux).

Both count whatever runs there, other processes and idling included. Neither is a dependency: NVML is the library that
comes with the driver, RAPL is files below /sys that mostly root alone may read.
"""

from __future__ import annotations

import ctypes
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    import torch

Source = Literal["nvml", "rapl"]

POWERCAP = Path("/sys/class/powercap")
"""Where Linux shows RAPL's counters, for processors of Intel and AMD alike."""
HIGHEST_WATTS = 1_000.0
"""More than a package takes: a counter that could have come round more than once since it was read tells nothing."""


class Meter:
    """Adds up the energy of a device.

    Attributes:
        source: what counts it; None where nothing does.
    """

    def __init__(self, device: torch.device) -> None:
        self.source: Source | None = None
        self._read: Callable[[], float | None] = lambda: None
        counter = _nvml(device) if device.type == "cuda" else _rapl(POWERCAP)
        if counter is not None:
            self.source, self._read = ("nvml" if device.type == "cuda" else "rapl"), counter

    def joules(self) -> float | None:
        """Return a count in joules whose differences mean something; None where nothing counts."""
        return self._read()


def spent(before: float | None, after: float | None) -> float | None:
    """Return the joules between two counts; None where either is unknown."""
    return None if before is None or after is None else after - before


def _nvml(device: torch.device) -> Callable[[], float | None] | None:
    """Return the counter of a GPU since its driver was loaded, which is renewed about ten times a second."""
    import torch

    try:
        library = ctypes.CDLL("libnvidia-ml.so.1")
        identity = f"GPU-{torch.cuda.get_device_properties(device).uuid}".encode()
    except (OSError, AttributeError):
        return None
    handle, millijoules = ctypes.c_void_p(), ctypes.c_ulonglong()

    def read() -> float | None:
        failed = library.nvmlDeviceGetTotalEnergyConsumption(handle, ctypes.byref(millijoules))
        return None if failed else millijoules.value / 1e3

    if library.nvmlInit_v2() or library.nvmlDeviceGetHandleByUUID(identity, ctypes.byref(handle)):
        return None
    return read if read() is not None else None


def _rapl(folder: Path) -> Callable[[], float | None] | None:
    """Return the counter of all processor packages; None where there is none, or none that may be read."""
    packages = [path for path in sorted(folder.glob("intel-rapl:*")) if path.name.count(":") == 1]
    try:
        ranges = [float((path / "max_energy_range_uj").read_text()) for path in packages]
        last = [float((path / "energy_uj").read_text()) for path in packages]
    except (OSError, ValueError):
        return None
    if not packages:
        return None
    total, looked, unclear = 0.0, time.monotonic(), False

    def read() -> float | None:
        nonlocal total, looked, unclear
        now = time.monotonic()
        unclear = unclear or (now - looked) * HIGHEST_WATTS > min(ranges) / 1e6
        looked = now
        with suppress(OSError, ValueError):
            for place, path in enumerate(packages):
                value = float((path / "energy_uj").read_text())
                total += (value - last[place]) % ranges[place]
                last[place] = value
            return None if unclear else total / 1e6
        return None

    return read
