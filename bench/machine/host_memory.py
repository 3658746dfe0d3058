"""Host memory that this process can still take: the machine's, or less where a batch system caps it.

Slurm, Kubernetes and Docker give a job or container a control group with a limit. /proc/meminfo does not
know of it, and whoever takes more is killed.
"""

from __future__ import annotations

from pathlib import Path

from bench.machine import control_groups

MACHINE = Path("/proc/meminfo")

_FILES = {
    1: ("memory.limit_in_bytes", "memory.usage_in_bytes", ("total_inactive_file", "total_active_file")),
    2: ("memory.max", "memory.current", ("inactive_file", "active_file")),
}
"""Version of control groups -> files with the limit and with what is taken, and the lines of `memory.stat` that say how
much of it is the page cache, which the kernel gives up: decoding has just filled it."""


def available() -> int | None:
    """Return bytes, the page cache counted as free; None where the system does not say (not Linux)."""
    try:
        lines = dict(line.split(":", 1) for line in MACHINE.read_text(encoding="ascii").splitlines())
        machine = int(lines["MemAvailable"].split()[0]) * 1024
    except (OSError, KeyError, ValueError):
        return None
    limits = (_left(folder, *_FILES[version]) for version, folder in control_groups.folders("memory"))
    return max(0, min([machine, *(left for left in limits if left is not None)]))


def _left(folder: Path, limit: str, taken: str, cached: tuple[str, ...]) -> int | None:
    try:
        most = (folder / limit).read_text(encoding="ascii").strip()
        if most == "max":
            return None
        stat = dict(line.split() for line in (folder / "memory.stat").read_text(encoding="ascii").splitlines())
        used = int((folder / taken).read_text(encoding="ascii"))
        return int(most) - used + sum(int(stat.get(name, 0)) for name in cached)
    except (OSError, ValueError):
        return None
