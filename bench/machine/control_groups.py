"""Control groups of this process: where Slurm, Kubernetes and Docker write what a job or container may take."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Literal

MOUNTED = Path("/sys/fs/cgroup")
MEMBERSHIPS = Path("/proc/self/cgroup")

Version = Literal[1, 2]


def folders(controller: str) -> Iterator[tuple[Version, Path]]:
    """Yield the folders whose limits bind this process, innermost first, each with its version of control groups.

    Args:
        controller: `memory` or `cpu`.
    """
    try:
        memberships = MEMBERSHIPS.read_text(encoding="utf-8").splitlines()
    except OSError:
        return
    for line in memberships:
        _, controllers, path = line.split(":", 2)
        version: Version
        if controllers == "":
            version, root = 2, MOUNTED
        elif controller in controllers.split(","):
            version, root = 1, MOUNTED / controller
        else:
            continue
        own = root / path.lstrip("/")
        # inside a container the path may be the host's: what is visible then is the container's own, at the root
        for folder in (own, *own.parents):
            if folder.is_relative_to(root):
                yield version, folder
