"""Memory of the host that this process can still take: the machine's, or less where a batch system caps it.

Slurm, Kubernetes and Docker give a job or container a control group with a limit. /proc/meminfo does not
know of it, and whoever takes more is killed.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

GROUPS = Path("/sys/fs/cgroup")
OWN_GROUPS = Path("/proc/self/cgroup")
MACHINE = Path("/proc/meminfo")

_VERSIONS = {
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
    return max(0, min([machine, *_left_by_groups()]))


def _left_by_groups() -> Iterator[int]:
    """Yield what each control group that this process is in leaves it, of those with a limit."""
    try:
        memberships = OWN_GROUPS.read_text(encoding="utf-8").splitlines()
    except OSError:
        return
    for line in memberships:
        _, controllers, path = line.split(":", 2)
        if controllers == "":
            version, root = 2, GROUPS
        elif "memory" in controllers.split(","):
            version, root = 1, GROUPS / "memory"
        else:
            continue
        own = root / path.lstrip("/")
        # inside a container the path may be the host's: what is visible then is the container's own, at the root
        for folder in (own, *own.parents):
            if folder.is_relative_to(root) and (left := _left(folder, *_VERSIONS[version])) is not None:
                yield left


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
