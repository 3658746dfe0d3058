"""What bench keeps on this machine so as not to do it twice, and its removal. Nothing in it cannot be made again."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from bench.errors import StoreError, UsageError
from bench.loading import cache_dir

KINDS = {
    "pixels": (("pixels",), "images decoded to the input size; decoded again when needed"),
    "features": (("features",), "encoder features of a run that is going on, where memory is short"),
    "hashes": (("hashes.sqlite*",), "SHA-256 of data files by name and time; computed again when needed"),
    "kernels": (("kernels",), "compiled metric kernels; compiling them again takes a minute"),
    "fonts": (("matplotlib",), "matplotlib's list of the fonts here; made again in seconds"),
    "cells": (("cells",), "checkpoints of cells that are run here for a Ray cluster; trained again from the start"),
    "demo": (("demo-v*", ".demo-v*.part"), "the generated demonstration set; drawn again in ten seconds"),
}
"""Name -> patterns in the cache folder, and what it is. Nothing else in the folder is ever touched."""


@dataclass(frozen=True, slots=True)
class Kept:
    """One kind of what is kept."""

    name: str
    what: str
    files: int
    bytes: int


def kept() -> list[Kept]:
    """Return how much is kept of each kind."""
    found = []
    for name, (_, what) in KINDS.items():
        sizes = [_size(file) for path in _paths(name) for file in _files(path)]
        found.append(Kept(name, what, len(sizes), sum(sizes)))
    return found


def clear(names: tuple[str, ...]) -> int:
    """Remove some kinds and return the bytes freed. Links are removed, what they point to is not.

    Raises:
        UsageError: unknown kind.
        StoreError: something cannot be removed.
    """
    for name in names:
        if name not in KINDS:
            raise UsageError(f"no cache '{name}'. Known: {', '.join(KINDS)}")
    freed = 0
    for name in names:
        for path in _paths(name):
            freed += sum(_size(file) for file in _files(path))
            try:
                if path.is_dir() and not path.is_symlink():
                    shutil.rmtree(path)
                else:
                    path.unlink()
            except OSError as error:
                raise StoreError(f"cannot remove {path}: {error.strerror or error}") from error
    return freed


def _paths(name: str) -> Iterator[Path]:
    patterns, _ = KINDS[name]
    for pattern in patterns:
        yield from sorted(cache_dir().glob(pattern))


def _files(path: Path) -> Iterator[Path]:
    if path.is_dir() and not path.is_symlink():
        yield from (file for file in path.rglob("*") if file.is_symlink() or file.is_file())
    else:
        yield path


def _size(path: Path) -> int:
    try:
        return path.lstat().st_size
    except OSError:  # removed since it was listed
        return 0
