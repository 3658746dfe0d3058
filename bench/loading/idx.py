"""Arrays in the idx format of MNIST and its relatives, plain or gzipped.

Four bytes say the type of a value (8: uint8, the only one read here) and the number of dimensions, then each dimension
follows as a big-endian 32-bit number, then the values.
"""

from __future__ import annotations

import gzip
import math
import struct
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO

import numpy as np
import numpy.typing as npt

from bench import regular
from bench.errors import DatasetError

MAX_BYTES = 2**30
"""Larger arrays are refused before they are read; Fashion-MNIST's largest has 47 MB."""

_UINT8 = 8
_CHECK = "Check with: bench data verify"


def read(path: Path) -> npt.NDArray[np.uint8]:
    """Return the whole array, uint8 of the shape that the header says.

    Raises:
        DatasetError: the file is missing, empty, truncated, corrupt, of another type, larger than `MAX_BYTES`, or has
            more or fewer values than its header says.
    """
    with _opened(path) as file:
        dims = _header(file, path)
        wanted = math.prod(dims)
        # one byte more than promised: it shows what follows, and makes gzip check its own sum
        content = file.read(wanted + 1)
    if len(content) != wanted:
        found = "more" if len(content) > wanted else f"only {len(content):,}"
        raise DatasetError(f"{path}: its header says {_times(dims)} values, but there are {found}. {_CHECK}")
    return np.frombuffer(content, np.uint8).reshape(dims)


def shape(path: Path) -> tuple[int, ...]:
    """Return the shape that the header says, reading nothing else; raises as `read`."""
    with _opened(path) as file:
        return _header(file, path)


def _header(file: IO[bytes], path: Path) -> tuple[int, ...]:
    head = file.read(4)
    if len(head) < 4 or head[:3] != bytes((0, 0, _UINT8)) or not head[3]:
        what = "an empty file (0 bytes)" if not head else f"begins with {head.hex(' ')}"
        raise DatasetError(f"{path}: {what}. Expected an idx file of uint8 values (00 00 08 ..), perhaps gzipped")
    sizes = file.read(4 * head[3])
    if len(sizes) < 4 * head[3]:
        raise DatasetError(f"{path}: ends inside its header. Expected a complete idx file. {_CHECK}")
    dims = struct.unpack(f">{head[3]}I", sizes)
    if math.prod(dims) > MAX_BYTES:
        raise DatasetError(f"{path}: its header says {_times(dims)} values, refused. Expected at most {MAX_BYTES:,}")
    return dims


@contextmanager
def _opened(path: Path) -> Iterator[IO[bytes]]:
    try:
        with regular.opened(path) as raw:
            zipped = raw.read(2) == b"\x1f\x8b"
            raw.seek(0)
            if not zipped:
                yield raw
                return
            with gzip.GzipFile(fileobj=raw) as content:
                yield content  # type: ignore[misc]
    except (EOFError, zlib.error, gzip.BadGzipFile) as error:
        raise DatasetError(f"{path}: cannot be unpacked ({error}). Expected a complete gzip file. {_CHECK}") from error
    except OSError as error:
        raise DatasetError(f"{path} cannot be read: {error.strerror}. Expected an idx file. {_CHECK}") from error


def _times(dims: tuple[int, ...]) -> str:
    return " x ".join(f"{size:,}" for size in dims)
