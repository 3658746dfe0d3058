"""Safe reading of pickles: plain data, and nothing that the file contains is executed.

CIFAR-10 and CIFAR-100 are distributed as pickles of Python 2, which may name any function to be called while they are
read. Here only three names mean something, those that NumPy's arrays are pickled with, and none of them leads to NumPy:
each stands for a class of this module that takes the array's parts and checks them. Every other name is refused.
"""

from __future__ import annotations

import io
import math
import pickle
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from bench import regular
from bench.errors import DatasetError

MAX_BYTES = 512 * 2**20
"""Larger files are refused; CIFAR's largest has 155 MB."""

_CHECK = "Check with: bench data verify"


def read_plain(path: Path) -> Any:
    """Return what a pickle holds: containers, numbers, strings and uint8 arrays, nothing else.

    Strings of Python 2 come as bytes, as with `encoding="bytes"`.

    Raises:
        DatasetError: the file is missing, empty, truncated, larger than `MAX_BYTES`, no pickle, or names anything but
            uint8 arrays.
    """
    try:
        if path.stat().st_size > MAX_BYTES:
            raise DatasetError(f"{path}: {path.stat().st_size:,} bytes, refused. Expected at most {MAX_BYTES:,}")
        content = regular.read_bytes(path)
    except OSError as error:
        raise DatasetError(f"{path} cannot be read: {error.strerror}. Expected a pickle. {_CHECK}") from error
    if not content:
        raise DatasetError(f"{path}: an empty file (0 bytes). Expected a pickle. {_CHECK}")
    try:
        return _finished(_Reader(io.BytesIO(content), encoding="bytes").load(), path)
    except DatasetError:
        raise
    except Exception as error:  # arbitrary bytes raise whatever the operation that they happen to name raises
        why = str(error) or type(error).__name__
        raise DatasetError(
            f"{path}: refused, {why}. Expected a pickle of plain containers and uint8 arrays, complete. {_CHECK}"
        ) from error


class _Array:
    """Takes the place of numpy.ndarray and of the function that makes one; collects what the array is made of."""

    value: npt.NDArray[np.uint8] | None = None

    def __init__(self, *ignored: object) -> None:
        """Take whatever the real ones take."""

    def __setstate__(self, state: tuple[object, tuple[int, ...], _Kind, bool, bytes]) -> None:
        _, shape, kind, column_major, content = state
        if not isinstance(kind, _Kind) or not isinstance(content, bytes):
            raise pickle.UnpicklingError("it holds an array that is not of type uint8")
        if len(content) != math.prod(shape) or min(shape, default=0) < 0:
            raise pickle.UnpicklingError(f"it holds an array of shape {shape} with {len(content)} bytes")
        self.value = np.frombuffer(content, np.uint8).reshape(shape, order="F" if column_major else "C")


class _Kind:
    """Takes the place of numpy.dtype; exists for uint8 alone."""

    __slots__ = ()

    def __init__(self, name: object, *ignored: object) -> None:
        if name not in ("u1", b"u1", "|u1", b"|u1", "uint8", b"uint8"):
            raise pickle.UnpicklingError(f"it holds an array of type {name!r}, not uint8")

    def __setstate__(self, state: object) -> None:
        """Ignore byte order and the like, which single bytes do not have."""


_STAND_INS = {
    ("numpy.core.multiarray", "_reconstruct"): _Array,
    ("numpy._core.multiarray", "_reconstruct"): _Array,
    ("numpy", "ndarray"): _Array,
    ("numpy", "dtype"): _Kind,
}


# the reader written in Python, since the one in C sets aside as much memory as the file tells it to
class _Reader(pickle._Unpickler):
    def find_class(self, module: str, name: str) -> Any:
        """Return the stand-in for a name, importing nothing."""
        if (module, name) not in _STAND_INS:
            raise pickle.UnpicklingError(f"it names {module}.{name}, which a data file has no business with")
        return _STAND_INS[module, name]


def _finished(value: Any, path: Path) -> Any:
    """Put arrays in the place of stand-ins, in the value itself and in a dictionary's values; they lie no deeper."""
    if isinstance(value, dict):
        return {key: _finished(item, path) if isinstance(item, _Array) else item for key, item in value.items()}
    if not isinstance(value, _Array):
        return value
    if value.value is None:
        raise DatasetError(f"{path}: refused, it holds an array without content. {_CHECK}")
    return value.value
