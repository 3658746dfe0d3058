"""Regular files, the only ones that bench opens: a pipe would be waited for, and a device never ends.

Whatever a user names, or a folder holds, may be a named pipe, a socket, a device or a link to one. Reading it would
hang where not even SIGTERM is heard, or fill the memory. So every file that bench is handed is opened here.
"""

from __future__ import annotations

import errno
import io
import os
import stat
from pathlib import Path

_KINDS = {
    stat.S_IFIFO: "a named pipe",
    stat.S_IFSOCK: "a socket",
    stat.S_IFCHR: "a device",
    stat.S_IFBLK: "a device",
}


class IrregularError(OSError):
    """What is to be opened is a pipe, a socket or a device; `strerror` says which."""


def opened(path: Path) -> io.BufferedReader:
    """Open a regular file for reading bytes, following links; what is anything else is not even waited for.

    Raises:
        IrregularError: a named pipe, a socket or a device.
        OSError: it is missing, a folder, or may not be read.
    """
    check(path)
    # should it have become a pipe since, opening it does not block and what was opened is looked at again
    number = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC | os.O_NOCTTY)
    try:
        require(os.fstat(number), path)
        return os.fdopen(number, "rb")
    except BaseException:
        os.close(number)
        raise


def opened_text(
    path: Path, encoding: str = "utf-8", errors: str = "strict", newline: str | None = None
) -> io.TextIOBase:
    """Open a regular file for reading text; otherwise as `opened`."""
    return io.TextIOWrapper(opened(path), encoding=encoding, errors=errors, newline=newline)


def read_bytes(path: Path, most: int | None = None) -> bytes:
    """Return the content of a regular file, whose size is looked at before any is read.

    Args:
        path: the file.
        most: bytes that it may have; any number where None.

    Raises:
        ValueError: it has more.
        OSError: as `opened`.
    """
    with opened(path) as file:
        if most is None:
            return file.read()
        size = os.fstat(file.fileno()).st_size
        if size > most:
            raise ValueError(f"it has {size:,} bytes, expected at most {most:,}")
        return file.read(most)


def read_text(path: Path, encoding: str = "utf-8", errors: str = "strict") -> str:
    """Return the content of a regular file as text; raises as `opened`, and UnicodeDecodeError."""
    with opened_text(path, encoding, errors) as file:
        return file.read()


def why_not(path: Path, absent: str = "no such file") -> str:
    """Return for a message why `path` is not the file expected: `a named pipe, no regular file`; else `absent`."""
    try:
        check(path)
    except IrregularError as error:
        return str(error.strerror)
    except OSError:
        pass
    return absent


def check(path: Path) -> None:
    """Refuse what is no regular file before another library opens it by its name; raises as `opened`."""
    require(os.stat(path), path)  # noqa: PTH116 - Path.stat costs as much again, and this runs for every image


def require(found: os.stat_result, path: Path) -> None:
    """Raise as `opened` unless `found` is the status of a regular file."""
    kind = stat.S_IFMT(found.st_mode)
    if kind == stat.S_IFREG:
        return
    if kind == stat.S_IFDIR:
        raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR), str(path))
    raise IrregularError(errno.EINVAL, f"{_KINDS.get(kind, 'no file')}, no regular file", str(path))
