"""NumPy files (npy, npz) from elsewhere: what they hold is known before any of it takes memory.

NumPy's own reader believes the length that a header states, up to 4 GiB of it, and unpickles what it is asked to. Here
a header is short or refused, and an array is plain numbers. An npz is opened once, whatever is read from it, and only
what NumPy writes into one is unpacked: members stored or deflated, whose unpacking gives as much as is asked for.
"""

from __future__ import annotations

import io
import math
import weakref
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

import numpy as np
import numpy.typing as npt

from bench import regular

MAX_HEADER = 10_000
"""Bytes; NumPy's own limit, which it looks at only after reading."""
_SUFFIX = ".npy"


@dataclass(frozen=True, slots=True)
class Header:
    """What an array says of itself."""

    shape: tuple[int, ...]
    columns_first: bool
    dtype: np.dtype[Any]

    @property
    def bytes(self) -> int:
        """Bytes of the array's numbers."""
        return math.prod(self.shape) * self.dtype.itemsize


def read_header(file: IO[bytes]) -> Header:
    """Return an npy file's header and leave the file at its first number.

    Raises:
        ValueError: no npy file, a header of more than `MAX_HEADER` bytes or that means nothing, or no plain numbers.
            NumPy's parser lets through what its own parts raise (SyntaxError, TypeError, ...).
    """
    version = np.lib.format.read_magic(file)
    if version not in ((1, 0), (2, 0), (3, 0)):
        raise ValueError(f"version {version[0]}.{version[1]} of the npy format, expected 1.0 to 3.0")
    size = file.read(2 if version == (1, 0) else 4)
    length = int.from_bytes(size, "little")
    if length > MAX_HEADER:
        raise ValueError(f"its header has {length:,} bytes, expected at most {MAX_HEADER:,}")
    text = io.BytesIO(size + file.read(length))
    reader = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
    shape, columns_first, dtype = reader(text)
    if dtype.hasobject or dtype.kind not in "biuf" or dtype.itemsize > 8:
        raise ValueError(f"{dtype} {list(shape)}, expected plain numbers of up to 64 bits")
    if any(isinstance(side, bool) or side < 0 for side in shape):
        raise ValueError(f"{dtype} {list(shape)}, expected sizes of 0 and more")
    return Header(shape, columns_first, dtype)


def read_array(file: IO[bytes], most: int) -> npt.NDArray[Any]:
    """Return the array in an npy file.

    Args:
        file: at its beginning.
        most: numbers that it may hold.

    Raises:
        ValueError: as `read_header`, or more numbers than `most`, or than the file has bytes for, or fewer.
    """
    header = read_header(file)
    if math.prod(header.shape) > most:
        raise ValueError(f"{header.dtype} {list(header.shape)}, expected at most {most:,} numbers")
    data = file.read(header.bytes + 1)
    if len(data) != header.bytes:
        found = "more" if len(data) > header.bytes else f"{len(data):,}"
        raise ValueError(f"{found} bytes where {list(header.shape)} of {header.dtype} take {header.bytes:,}")
    return np.frombuffer(data, header.dtype).reshape(header.shape, order="F" if header.columns_first else "C")


class Npz:
    """An npz, opened once and closed with its last user."""

    def __init__(self, path: Path) -> None:
        """Read the list of its members.

        Raises:
            OSError: it cannot be read, or is no regular file.
            zipfile.BadZipFile: it is no zip; zipfile raises a dozen other kinds on bad bytes, too.
        """
        file = regular.opened(path)
        weakref.finalize(self, file.close)
        self._archive = zipfile.ZipFile(file)
        self.names = [name.removesuffix(_SUFFIX) for name in self._archive.namelist() if _is_array(name)]
        """Names of its arrays, one for each member; hidden files, as other systems put beside, are none."""

    @contextmanager
    def opened(self, name: str) -> Iterator[IO[bytes]]:
        """Open an array's npy file.

        Raises:
            ValueError: it is compressed in a way that does not unpack piece by piece, or encrypted.
            KeyError: there is none of this name.
        """
        member = self._archive.getinfo(name + _SUFFIX)
        if member.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED) or member.flag_bits & 1:
            raise ValueError(f"{name} is encrypted or compressed in an unusual way, expected it as numpy.savez writes")
        with self._archive.open(member) as file:
            yield file


def _is_array(name: str) -> bool:
    return name.endswith(_SUFFIX) and not name.rpartition("/")[2].startswith(".")
