"""Provenance of a number: commit, packages, machine."""

from __future__ import annotations

import os
import platform
import subprocess
from functools import cache
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import bench
from bench.machine import threads as processor
from bench.machine.libraries import decoders
from bench.store.facts import Environment

PACKAGES = ("numpy", "pillow", "safetensors", "scikit-learn", "scipy", "timm", "torch", "torchvision")


@cache
def commit() -> str | None:
    """Return the git commit of bench's own checkout, with `-dirty` for uncommitted changes; None outside of one."""
    folder = Path(bench.__file__).parent
    try:
        head = _git(folder, "rev-parse", "HEAD")
        # only the checkout that holds this very package counts, not a repository that merely contains site-packages
        if not _git(folder, "ls-files", "__init__.py"):
            return None
        return head + ("-dirty" if _git(folder, "status", "--porcelain", "--untracked-files=no") else "")
    except (OSError, subprocess.SubprocessError):
        return None


def environment(device: str, precision: str, threads: int) -> Environment:
    """Return the machine and software a cell runs on."""
    pages = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    return Environment(
        python=platform.python_version(),
        packages={name: found for name in PACKAGES if (found := _version(name))}
        | decoders()
        | {"bench": bench.__version__},
        commit=commit(),
        platform=f"{platform.system()} {platform.machine()}",
        cpu=_cpu(),
        cores=processor.cores(),
        memory_gib=round(pages / 2**30, 1),
        device=device,
        precision=precision,
        threads=threads,
        waiting=processor.waiting(),
    )


def _git(folder: Path, *arguments: str) -> str:
    # inside a git hook GIT_DIR and its like name another repository; the lock is for others' work in this one
    outside = {name: value for name, value in os.environ.items() if not name.startswith("GIT_")}
    command = ["git", "--no-optional-locks", "-C", str(folder), *arguments]
    done = subprocess.run(command, capture_output=True, text=True, timeout=10, check=True, env=outside)
    return done.stdout.strip()


def _version(name: str) -> str | None:
    try:
        return version(name)
    except PackageNotFoundError:
        return None


def _cpu() -> str:
    try:
        for line in Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    except OSError:
        pass
    return platform.processor() or platform.machine()
