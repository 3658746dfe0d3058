"""Safe reading of PyTorch checkpoints (.pth, .pt, .bin): tensors by name, nothing in the file is executed."""

from __future__ import annotations

import pickle
import re
import warnings
import zipfile
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from bench import regular
from bench.errors import WeightsError

INSIDE = ("model", "net", "state_dict", "teacher")
"""Names under which checkpoints of trainings hold the network's tensors."""
WRAPPER = "module."
"""Before every name where the network was trained on several devices."""


def read(path: Path) -> dict[str, Tensor]:
    """Return a checkpoint's tensors on the CPU, in their own types, without what wraps them.

    Raises:
        WeightsError: the file is no checkpoint, holds more than tensors, or holds none by name.
    """
    state = _loaded(path)
    while isinstance(state, Mapping) and (found := [state[name] for name in INSIDE if _is_mapping(state.get(name))]):
        state = found[0]
    tensors = {key: value for key, value in state.items() if isinstance(value, Tensor)} if _is_named(state) else {}
    if not tensors:
        raise WeightsError(
            f"{path} holds no tensors by name. Expected a state dict, alone or under {', '.join(INSIDE)}"
        )
    if all(key.startswith(WRAPPER) for key in tensors):
        return {key.removeprefix(WRAPPER): value for key, value in tensors.items()}
    return tensors


def listed(what: str, entries: Iterable[str], limit: int = 6) -> list[str]:
    """Return the sentence part `3 missing: a, b, c`, in a list; an empty list where there are no entries."""
    found = list(entries)
    if not found:
        return []
    rest = f" and {len(found) - limit} more" if len(found) > limit else ""
    return [f"{len(found)} {what}: {', '.join(found[:limit])}{rest}"]


def _loaded(path: Path) -> Any:
    try:
        with regular.opened(path) as file:
            if zipfile.is_zipfile(file):
                _check_sizes(zipfile.ZipFile(file), path)
            file.seek(0)
            with warnings.catch_warnings():
                # of pickles that it may not read: if so, it raises
                warnings.simplefilter("ignore", UserWarning)
                return torch.load(file, map_location="cpu", weights_only=True)
    except OSError as error:
        raise WeightsError(f"cannot read {path}: {error.strerror or error}. Expected a PyTorch checkpoint") from error
    except WeightsError:
        raise
    except Exception as error:  # torch raises what the bytes suggest
        if named := re.search(r"GLOBAL ([\w.]+)", str(error)):
            raise WeightsError(
                f"{path} holds more than tensors ({named[1]}), and nothing in it is executed. Expected the file of the "
                "weights alone, not that of a training"
            ) from error
        # the reader's stack is no matter of the user's, nor its advice to read the file with less care
        silent = isinstance(error, LookupError | pickle.UnpicklingError)
        said = "" if silent else str(error).partition("\n")[0]
        why = said or "it cannot be read as tensors alone"
        raise WeightsError(f"{path} is no PyTorch checkpoint: {why}. Download or copy it again") from error


def _check_sizes(archive: zipfile.ZipFile, path: Path) -> None:
    """Refuse an archive whose parts would take more memory than it has bytes; torch stores them as they are."""
    if sum(part.file_size for part in archive.infolist()) > path.stat().st_size:
        raise WeightsError(f"{path} is packed, which no PyTorch checkpoint is. Download or copy it again")


def _is_mapping(value: object) -> bool:
    return isinstance(value, Mapping)


def _is_named(state: Any) -> bool:
    return isinstance(state, Mapping) and all(isinstance(key, str) for key in state)
