"""The cache folder: what bench keeps on this machine so as not to compute it twice, and its removal."""

from __future__ import annotations

import errno
import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from bench.errors import StoreError, UsageError
from bench.home import expanded

KINDS = {
    "pixels": (("pixels",), "images decoded to the input size; decoded again when needed"),
    "features": (("features",), "encoder features of a run that is going on, where memory is short"),
    "hashes": (("hashes.sqlite*",), "SHA-256 of data files by name and time; computed again when needed"),
    "kernels": (("kernels",), "compiled metric kernels; compiling them again takes a minute"),
    "fonts": (("matplotlib",), "matplotlib's list of the fonts here; made again in seconds"),
    "facts": (("facts",), "parameters and MACs of methods, as bench show prints them; counted again in seconds"),
    "weights": (("weights",), "encoders' files made of installed packages; made again in seconds"),
    "cells": (("cells",), "checkpoints of cells that are run here for a Ray cluster; trained again from the start"),
    "demo": (("demo-v*", ".demo-v*.part"), "the generated demonstration set; drawn again in ten seconds"),
}
"""Name -> patterns in the cache folder, and what it is. Nothing else in the folder is ever touched."""


def cache_dir() -> Path:
    """Return the user's cache folder of bench: BENCH_CACHE, else XDG_CACHE_HOME/bench, else ~/.cache/bench.

    Raises:
        UsageError: none of them is known.
    """
    if chosen := os.environ.get("BENCH_CACHE"):
        return expanded(chosen)
    try:
        return expanded(os.environ.get("XDG_CACHE_HOME") or "~/.cache") / "bench"
    except UsageError as error:
        raise UsageError(
            "no folder for what bench keeps: this user has no home. Set BENCH_CACHE to a folder, or HOME"
        ) from error


@dataclass(frozen=True, slots=True)
class CacheKind:
    """One kind of what is kept."""

    name: str
    what: str
    files: int
    bytes: int


def kept() -> list[CacheKind]:
    """Return how much is kept of each kind."""
    found = []
    for name, (_, what) in KINDS.items():
        sizes = [_size(file) for path in _paths(name) for file in _files(path)]
        found.append(CacheKind(name, what, len(sizes), sum(sizes)))
    return found


@dataclass(frozen=True, slots=True)
class Cleared:
    """What came of a removal."""

    bytes: int
    """Freed."""
    busy: tuple[str, ...]
    """Kinds of which something is left, which another process has put there since."""


def clear(names: tuple[str, ...]) -> Cleared:
    """Remove some kinds. Links are removed, what they point to is not; a process that keeps things meanwhile may.

    Raises:
        UsageError: unknown kind.
        StoreError: something cannot be removed.
    """
    for name in names:
        if name not in KINDS:
            raise UsageError(f"no cache '{name}'. Known: {', '.join(KINDS)}")
    freed = 0
    busy: dict[str, None] = {}
    for name in names:
        for path in _paths(name):
            try:
                freed += sum(_unlinked(file) for file in _files(path))
                if not path.is_symlink():
                    # all of them are tried
                    left = [folder for folder, _, _ in os.walk(path, topdown=False) if not _removed(Path(folder))]
                    busy |= dict.fromkeys([name] if left else [])
            except OSError as error:
                raise StoreError(f"cannot remove {error.filename}: {error.strerror or error}") from error
    return Cleared(freed, tuple(busy))


def beside(results: Path) -> list[CacheKind]:
    """Return how much runs have kept beside their records on request; `clear` leaves it alone."""
    kinds = {
        "models": ("*.model.safetensors", "trained models, by bench run --keep-model"),
        "maps": ("*.maps/*.npy", "anomaly maps, by bench run --keep-maps"),
    }
    found = []
    for name, (pattern, what) in kinds.items():
        sizes = [_size(file) for file in results.rglob(pattern)]
        found.append(CacheKind(name, what, len(sizes), sum(sizes)))
    return found


def _unlinked(file: Path) -> int:
    """Remove a file and return its size; 0 where another process was faster."""
    size = _size(file)
    try:
        file.unlink()
    except FileNotFoundError:
        return 0
    return size


def _removed(folder: Path) -> bool:
    """Remove a folder, unless it is no longer empty; then False."""
    try:
        folder.rmdir()
    except FileNotFoundError:
        return True
    except OSError as error:
        if error.errno in (errno.ENOTEMPTY, errno.EEXIST):
            return False
        raise
    return True


def _paths(name: str) -> Iterator[Path]:
    patterns, _ = KINDS[name]
    for pattern in patterns:
        yield from sorted(cache_dir().glob(pattern))


def _files(path: Path) -> Iterator[Path]:
    if path.is_symlink() or not path.is_dir():
        yield path
        return
    # not rglob, which stumbles over a folder that another process removes
    for folder, inner, names in os.walk(path):
        for name in (*names, *inner):
            entry = Path(folder, name)
            if entry.is_symlink() or name in names:
                yield entry


def _size(path: Path) -> int:
    try:
        return path.lstat().st_size
    except OSError:  # removed since it was listed
        return 0
