"""Interruption by Ctrl-C and SIGTERM: a training stops after its step; a second signal kills the process.

A training has something to save, and half a step cannot be saved. Whatever else is going on is either kept already or
done again from its beginning, and is left as it stands.
"""

from __future__ import annotations

import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType

from bench.machine import streams

SIGNALS = {signal.SIGINT: "interrupted", signal.SIGTERM: "terminated"}


class Stopped(KeyboardInterrupt):
    """A signal asked the run to stop."""


_asked: int | None = None
_holding = False


@contextmanager
def signals() -> Iterator[None]:
    """Have SIGINT and SIGTERM raise Stopped inside the block; outside the main thread do nothing."""
    global _asked
    _asked = None
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    # one that is ignored (nohup, a shell's background job) stays ignored
    before = {number: handler for number in SIGNALS if (handler := signal.getsignal(number)) != signal.SIG_IGN}
    for number in before:
        signal.signal(number, _ask)
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


@contextmanager
def after_step() -> Iterator[Callable[[], bool]]:
    """Hold signals back inside the block, which asks between steps whether to end; raises Stopped at the end then."""
    global _holding
    _holding = True
    try:
        yield lambda: _asked is not None
    finally:
        _holding = False
        if _asked is not None:
            # also in place of an error: it would become a record, and the sweep would go on to the next cell
            raise Stopped


def outcome() -> tuple[str, int]:
    """Return what happened in a word, and the exit code for it: 130 for SIGINT, 143 for SIGTERM."""
    number = _asked if _asked is not None else signal.SIGINT
    return SIGNALS[signal.Signals(number)], 128 + number


def _ask(number: int, frame: FrameType | None) -> None:
    global _asked
    _asked = number
    # the operating system's own answer to the next one: it comes through where Python waits for a long computation
    for each in SIGNALS:
        signal.signal(each, signal.SIG_DFL)
    if not _holding:
        raise Stopped
    streams.say("\nstopping after this step; once more stops at once\n")
