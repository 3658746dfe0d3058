"""Places for training features (device, memory, file, none), and how much room each has."""

from __future__ import annotations

import os
import shutil
import tempfile
from math import prod
from pathlib import Path
from typing import Literal

import torch
from torch import Tensor

from bench.cache import cache_dir
from bench.errors import StoreError
from bench.machine import allocator, host_memory, shared_by

Place = Literal["auto", "device", "memory", "file", "none"]

SHARE = {"device": 0.6, "memory": 0.4, "file": 0.5, "pixels": 0.25}
"""Share of what is free (device memory, host memory, disk) that the store takes when no budget is stated; and of device
memory that pixels take where features are computed again at every step."""


def choose(place: Place, need: int, budget_gib: float | None, device: torch.device) -> str:
    """Return where `need` bytes are kept: the place asked for, or for `auto` the first with room, else `none`.

    Args:
        place: as given by the user.
        need: bytes.
        budget_gib: most that the place may take, in GiB; None for a share of what is free there.
        device: of the training.

    Raises:
        StoreError: the place asked for by name has no room.
    """
    # what the cell before has freed is room for this one
    allocator.give_back()
    candidates = ["memory", "file"] if device.type == "cpu" else ["device", "memory", "file"]
    if place == "device" and device.type == "cpu":
        place = "memory"
    if place == "none":
        return "none"
    for candidate in candidates if place == "auto" else [place]:
        try:
            room = budget_gib * 2**30 if budget_gib is not None else SHARE[candidate] * free(candidate, device)
        except StoreError:
            # the cache folder cannot be written
            if place == "file":
                raise
            continue
        if need <= room:
            return candidate
        if place != "auto":
            raise StoreError(
                f"features need {need / 2**30:.1f} GiB, the {place} budget is {room / 2**30:.1f} GiB. "
                "Raise --store-budget, or let --store auto choose"
            )
    return "none"


_asked: tuple[Place, float | None] = ("auto", None)


def tell(place: Place, budget_gib: float | None) -> None:
    """Say where this process shall keep what takes much room, as the user asked for it; see `choose`."""
    global _asked
    _asked = place, budget_gib


def room(shape: tuple[int, ...], dtype: torch.dtype, device: torch.device) -> Tensor:
    """Return a tensor for what a method remembers, its values arbitrary: it lies where features would.

    Args:
        shape: of it.
        dtype: of it.
        device: of the network. The tensor lies there, in host memory or in a mapped file, as `--store` and
            `--store-budget` say; a memory cannot be computed anew, so that `--store none` counts as `auto`.

    Raises:
        StoreError: there is no room for it.
    """
    place, budget = _asked
    need = prod(shape) * dtype.itemsize
    chosen = choose("auto" if place == "none" else place, need, budget, device)
    if chosen == "none":
        raise StoreError(
            f"what is remembered of the training images takes {need / 2**30:.1f} GiB, and no place has room for it. "
            "Expected --store-budget raised where it was given, more free disk, or fewer or smaller images"
        )
    if chosen == "file":
        return mapped(shape, dtype)
    return torch.empty(shape, dtype=dtype, device=device if chosen == "device" else "cpu")


def free(candidate: str, device: torch.device) -> int:
    """Return bytes of a place (device, memory, file) that this process may count on.

    Raises:
        StoreError: the cache folder, where files go, cannot be written.
    """
    return shared_by.part(candidate, _unused(candidate, device))


def _unused(candidate: str, device: torch.device) -> int:
    if candidate == "device":
        # what torch holds and does not use is as good as free: the cell before leaves it
        held = torch.cuda.memory_reserved(device) - torch.cuda.memory_allocated(device)
        return torch.cuda.mem_get_info(device)[0] + held
    if candidate == "file":
        return shutil.disk_usage(_folder()).free
    memory = host_memory.available()
    return memory if memory is not None else os.sysconf("SC_AVPHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")


def _folder() -> Path:
    folder = cache_dir() / "features"
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise StoreError(f"cannot write {folder}: {error.strerror}. Set BENCH_CACHE to another folder") from error
    return folder


def mapped(shape: tuple[int, ...], dtype: torch.dtype) -> Tensor:
    """Return a tensor mapped from a file that has no name any more: it is gone with the process, however that ends.

    Raises:
        StoreError: the file cannot be made, or has no room.
    """
    try:
        handle, name = tempfile.mkstemp(dir=_folder())
    except OSError as error:
        raise StoreError(f"cannot write {_folder()}: {error.strerror}. Use --store none") from error
    try:
        # claim the room now: a full disk is an error here, but a crash (SIGBUS) on a mapped page
        os.posix_fallocate(handle, 0, prod(shape) * dtype.itemsize)
        return torch.from_file(name, shared=True, size=prod(shape), dtype=dtype).view(shape)
    except OSError as error:
        raise StoreError(f"no room for features in {_folder()}: {error.strerror}. Use --store none") from error
    finally:
        os.close(handle)
        # gone already where the cache was cleared at this moment
        Path(name).unlink(missing_ok=True)
