"""Standard output and error that may break, as a closed pipe does, without breaking the work.

A reader leaves (`bench run | head`), a terminal is closed over a run that ignores it, the disk under a log is full: an
ordinary stream raises then wherever something is said, in the midst of a training or of writing a record.
"""

from __future__ import annotations

import io
import os
import select
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Any


class _Raw(io.RawIOBase):
    """Writes to a file descriptor that stays open, and takes for written what the system refuses."""

    def __init__(self, descriptor: int) -> None:
        self._descriptor = descriptor
        self.trouble: OSError | None = None

    def writable(self) -> bool:
        return True

    def fileno(self) -> int:
        return self._descriptor

    def isatty(self) -> bool:
        return os.isatty(self._descriptor)

    def write(self, data: Any) -> int:
        while True:
            try:
                return os.write(self._descriptor, data)
            except BlockingIOError:
                # a pipe that another program made non-blocking: as slow as its reader, like any other
                select.select([], [self._descriptor], [])
            except OSError as error:
                # later text is tried again: there may be room by then
                self.trouble = self.trouble or error
                return len(data)


class Output:
    """What became of the text that went to standard output."""

    def __init__(self, raw: _Raw | None) -> None:
        self._raw = raw

    def trouble(self) -> OSError | None:
        """Return why some of it could not be written; None where all was."""
        if self._raw is None:
            return None
        sys.stdout.flush()
        return self._raw.trouble


@contextmanager
def protected() -> Iterator[Output]:
    """Have `sys.stdout` and `sys.stderr` raise no more inside the block, for whoever prints; others' objects stay."""
    _open_closed()
    before = sys.stdout, sys.stderr
    # a file name that is not UTF-8 is printed with its odd bytes spelt out, as Python does on stderr
    sys.stdout, raw = _wrapped(sys.stdout)
    sys.stderr, _ = _wrapped(sys.stderr)
    ours = sys.stdout, sys.stderr
    try:
        yield Output(raw)
    finally:
        for stream in ours:
            if stream is not None:
                stream.flush()
        sys.stdout, sys.stderr = before


def say(text: str) -> None:
    """Write to standard error from a signal handler, where `print` may have been interrupted by the signal."""
    with suppress(OSError):
        os.write(2, text.encode())


def _wrapped(stream: Any) -> tuple[Any, _Raw | None]:
    """Return a stream to the same file that does not raise, and its raw part; one that has no file is left alone."""
    buffer = getattr(stream, "buffer", None)
    if not isinstance(stream, io.TextIOWrapper) or not isinstance(getattr(buffer, "raw", buffer), io.FileIO):
        return stream, None
    with suppress(OSError):
        stream.flush()
    raw = _Raw(stream.fileno())
    made = io.TextIOWrapper(
        io.BufferedWriter(raw),
        encoding=stream.encoding,
        errors="backslashreplace",
        line_buffering=stream.line_buffering or stream.write_through,
        write_through=stream.write_through,
    )
    return made, raw


def _open_closed() -> None:
    """Give a standard descriptor that came closed (`>&-`) to /dev/null, or the next file opened would get its number.

    Whatever a library prints would end up in that file, which may be a record.
    """
    for descriptor in range(3):
        try:
            os.fstat(descriptor)
        except OSError:
            os.set_inheritable(os.open(os.devnull, os.O_RDWR), True)
