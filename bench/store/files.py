"""Files that are either whole or absent, and locks that die with their process."""

from __future__ import annotations

import errno
import fcntl
import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO

from bench.errors import StoreError


@contextmanager
def atomic(path: Path) -> Iterator[IO[bytes]]:
    """Open a temporary sibling for binary writing and move it onto `path` when the block ends without an error.

    A reader sees the old file or the whole new one, whatever kills the writer. Raises StoreError when the folder
    cannot be written or the disk is full; the temporary file is removed then.
    """
    temporary: Path | None = None
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.", suffix=".part")
        temporary = Path(name)
        with os.fdopen(handle, "wb") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        # mkstemp makes private files; records are meant to be shared like any file the user writes
        temporary.chmod(0o666 & ~_umask())
        temporary.replace(path)
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            raise StoreError(f"no space left for {path}. Free some, then run the same command again") from error
        raise StoreError(f"cannot write {path}: {error.strerror or error}. Choose another folder") from error
    finally:
        if temporary is not None:
            with suppress(FileNotFoundError):
                temporary.unlink()


@contextmanager
def try_lock(path: Path) -> Iterator[bool]:
    """Hold an exclusive lock on `path`; yields False at once if another process has it.

    The operating system drops the lock when the holder dies, so a killed run never blocks the next one. The file is
    removed by its holder.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        file = path.open("ab")
    except OSError as error:
        raise StoreError(f"cannot write {path}: {error.strerror or error}. Choose another folder") from error
    with file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            yield False
            return
        if not _same_file(file, path):
            # the former holder removed the file between our opening and our locking it
            yield False
            return
        try:
            yield True
        finally:
            path.unlink(missing_ok=True)


def _same_file(file: IO[bytes], path: Path) -> bool:
    try:
        return os.path.samestat(os.fstat(file.fileno()), path.stat())
    except FileNotFoundError:
        return False


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask
