"""Peak resident memory of this process since a chosen moment (Linux)."""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path

from bench.machine.timing import peak_memory_mib

_STATUS, _CLEAR = Path("/proc/self/status"), Path("/proc/self/clear_refs")


def reset() -> None:
    """Forget the peak so far. Where the system does not offer that, the peak stays that of the whole process."""
    with suppress(OSError):
        _CLEAR.write_text("5")


def peak_mib() -> float:
    """Return the highest resident memory since the last reset, in MiB."""
    return _field("VmHWM") or peak_memory_mib()


def resident_mib() -> float:
    """Return the resident memory now, in MiB; 0 where the system does not say."""
    return _field("VmRSS")


def _field(name: str) -> float:
    with suppress(OSError):
        for line in _STATUS.read_text(encoding="ascii").splitlines():
            if line.startswith(f"{name}:"):
                return int(line.split()[1]) / 1024
    return 0.0
