"""Atomic files, whole or absent, and locks that die with their process."""

from __future__ import annotations

import errno
import fcntl
import hashlib
import os
import secrets
import shutil
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO
from urllib.parse import quote

from bench.errors import StoreError, UnwritableError

LONGEST = 255
"""Bytes that a file's name may have on the file systems in use."""


@contextmanager
def atomic(path: Path, *, durable: bool = True) -> Iterator[IO[bytes]]:
    """Open a temporary sibling for binary writing and move it onto `path` when the block ends without an error.

    A reader sees the old file or the whole new one, whatever kills the writer. Raises UnwritableError when the folder
    cannot be written or the disk is full; the temporary file is removed then.

    Args:
        path: the file to write; missing folders above it are made.
        durable: wait until the bytes are on the disk, so that a power cut cannot leave an empty file either. Not worth
            its milliseconds for a cache whose files carry a checksum.
    """
    temporary = path.with_name(f".{_shortened(path.name, LONGEST - 15)}.{secrets.token_hex(4)}.part")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        # not tempfile: its files are private, while records are shared like any file that the user writes
        with temporary.open("xb") as file:
            yield file
            file.flush()
            if durable:
                os.fsync(file.fileno())
        temporary.replace(path)
    except OSError as error:
        raise _unwritable(path, error) from error
    finally:
        # after a success the name is gone; where the folder cannot be had, there is nothing to remove
        with suppress(OSError):
            temporary.unlink()


@contextmanager
def atomic_folder(path: Path) -> Iterator[Path]:
    """Give a temporary folder beside `path` to be filled, and move it there when the block ends without an error.

    What was at `path` is removed then, and not before. Raises UnwritableError, as `atomic`.
    """
    temporary = path.with_name(f".{_shortened(path.name, LONGEST - 15)}.{secrets.token_hex(4)}.part")
    try:
        with _writing(path):
            temporary.mkdir(parents=True)
        # an error inside is not one of this folder
        yield temporary
        with _writing(path):
            if path.exists():
                shutil.rmtree(path)
            temporary.replace(path)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


@contextmanager
def _writing(path: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise _unwritable(path, error) from error


def _unwritable(path: Path, error: OSError) -> UnwritableError:
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        return UnwritableError(f"no space left for {path}. Free some, then run the same command again")
    advice = "Choose a shorter name" if error.errno == errno.ENAMETOOLONG else "Choose another folder"
    return UnwritableError(f"cannot write {path}: {error.strerror or error}. {advice}")


def file_name(text: str) -> str:
    """Return `text` as part of a file's name, at most 160 bytes: what a name should not hold is spelt as %XX.

    T-shirt/top is T-shirt%2Ftop. Of a longer text the beginning is kept, with a hash of all of it behind a `=`, which
    no other name has. The rest of the 255 bytes that systems allow is for what stands around it.
    """
    return _shortened(
        "".join(
            char if char.isalnum() or char in "-_.+" else quote(char, safe="", errors="surrogateescape")
            for char in text
        ),
        160,
    )


def _shortened(name: str, most: int) -> str:
    """Return the name itself where it has at most `most` bytes, else its beginning and a hash of it."""
    spelt = os.fsencode(name)
    if len(spelt) <= most:
        return name
    mark = f"={hashlib.sha256(spelt).hexdigest()[:16]}"
    return spelt[: most - len(mark)].decode(errors="ignore") + mark


@contextmanager
def try_lock(path: Path) -> Iterator[bool]:
    """Hold an exclusive lock on `path`; yields False at once if another process has it.

    The operating system drops the lock when the holder dies, so a killed run never blocks the next one. The file is
    removed by its holder.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        # not waited for, should somebody have put a pipe there
        file = os.fdopen(
            os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_NONBLOCK | os.O_CLOEXEC, 0o666), "ab"
        )
    except OSError as error:
        raise _unwritable(path, error) from error
    with file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            yield False
            return
        except OSError as error:
            raise StoreError(
                f"cannot lock {path}: {error.strerror or error}. Choose a folder on a file system that has locks"
            ) from error
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
