"""Worker side of the worker-process executor: cells come out of a pipe, records go back.

Importing this module loads no torch: threads and visible devices are set first.
"""

from __future__ import annotations

import os
import signal
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from multiprocessing import connection, parent_process
from multiprocessing.connection import Connection
from typing import Any

from bench.errors import BenchError
from bench.machine import shared_by, stopping, streams
from bench.machine.progress import Advance
from bench.run.executors.handover import set_threads

TELL_EVERY_SECONDS = 0.5


@dataclass(frozen=True, slots=True)
class Told:
    """One message of a worker while a cell is running."""

    text: str = ""
    """A line for the user."""
    stage: str = ""
    """How far the cell is: `train 40 %`."""


@dataclass(frozen=True, slots=True)
class WorkerShare:
    """What of the machine a worker has."""

    threads: int
    machine: int
    """Workers that share the machine's memory and disk."""
    device: str | None = None
    """The CUDA device it sees, as in CUDA_VISIBLE_DEVICES; None on the CPU."""
    on_device: int = 1
    """Workers that share the CUDA device."""


def main(pipe: Connection, place: WorkerShare) -> None:
    """Run cells until the pipe closes.

    Args:
        pipe: parcels come in; `Told` messages go out, and for each parcel at last a record, an error or None.
        place: what of the machine it may use.
    """
    # Ctrl-C reaches every process of the terminal; the parent decides what it means, and sends SIGTERM
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    threading.Thread(target=_die_with_parent, daemon=True).start()
    if place.device is not None:
        os.environ["CUDA_VISIBLE_DEVICES"] = place.device
    shared_by.tell(place.machine, place.on_device)
    try:
        with streams.protected(), stopping.signals():
            set_threads(place.threads)
            _serve(pipe)
    except stopping.Stopped:
        pass
    except BrokenPipeError:
        # nobody listens any more
        pass


def _serve(pipe: Connection) -> None:
    from bench.run.executors import cell_lock
    from bench.run.feature_store import LastStore

    # further seeds of a cell share its features, as they do in one process
    last_store = LastStore()
    while True:
        try:
            parcel = pipe.recv()
        except EOFError:
            return
        outcome: Any
        try:
            item, options = parcel.open()
            outcome = cell_lock.run(item, replace(options, last_store=last_store), _Telling(pipe))
        except BenchError as error:
            outcome = error
        pipe.send(outcome)


def _die_with_parent() -> None:
    parent = parent_process()
    if parent is not None:
        connection.wait([parent.sentinel])
        # the parent was killed: nobody would ever end this process, nor read what it found
        os._exit(1)


class _Telling:
    """Progress that goes through a pipe, not more often than somebody can read."""

    def __init__(self, pipe: Connection) -> None:
        self._pipe = pipe

    def say(self, text: str) -> None:
        self._tell(Told(text=text))

    @contextmanager
    def phase(self, name: str, total: int, done: int = 0) -> Iterator[Advance]:
        last = 0.0

        def advance(units: int, note: str) -> None:
            nonlocal done, last
            done += units
            now = time.monotonic()
            if now - last >= TELL_EVERY_SECONDS:
                last = now
                self._tell(Told(stage=f"{name} {100 * done // max(1, total)} %"))

        yield advance

    def _tell(self, told: Told) -> None:
        # a parent that is gone ends this process by itself, and must not become the cell's error before
        with suppress(OSError):
            self._pipe.send(told)
