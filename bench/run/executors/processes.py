"""Worker-process executor: one a GPU, or as many as the user says; worker.py is the worker's side.

Workers are started anew and not forked, since neither CUDA nor OpenMP threads survive a fork. Each takes one cell at a
time. CPU threads are shared fairly: cores // workers each, unless OMP_NUM_THREADS says otherwise.
"""

from __future__ import annotations

import multiprocessing
import signal
import time
from collections.abc import Generator, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from multiprocessing import connection

import torch

from bench.errors import BenchError
from bench.machine import threads
from bench.machine.progress import Progress
from bench.plan.planned import Planned
from bench.run.cell import Options
from bench.run.executors import Executor, worker
from bench.run.executors.dispatch import Died, Outcome, dispatch
from bench.run.executors.handover import Parcel
from bench.run.executors.worker import Told, WorkerShare
from bench.store.record import Record

STOP_SECONDS = 30.0
"""How long a worker that is told to stop may take for the step it is in and a checkpoint."""


@dataclass(frozen=True)
class Processes(Executor):
    """Runs cells in worker processes; see bench.run.executors.Executor.

    Args:
        jobs: how many cells at once, at least 1.
        devices: CUDA devices as in CUDA_VISIBLE_DEVICES, which the workers take in turn; empty on the CPU.
    """

    jobs: int
    devices: tuple[str, ...] = ()

    @property
    def devices_at_once(self) -> int | None:
        """Return the number of GPUs in use; cells at once on one device get in each other's way."""
        return min(self.jobs, len(self.devices)) or 1

    def run(
        self, todo: Sequence[Planned], options: Options, progress: Progress
    ) -> Generator[tuple[Planned, Record], None, None]:
        """Run cells on whichever worker is free; one that died is replaced."""
        if self.devices:
            # the only one that a worker sees
            options = replace(options, device=torch.device("cuda"))
        yield from dispatch(_Crew(self._places(min(self.jobs, len(todo))), options, progress), todo, options, progress)

    def _places(self, count: int) -> list[WorkerShare]:
        each = _threads(max(1, count))
        if not self.devices:
            return [WorkerShare(each, machine=count)] * count
        devices = [self.devices[number % len(self.devices)] for number in range(count)]
        return [WorkerShare(each, count, device, devices.count(device)) for device in devices]


def _threads(workers: int) -> int:
    given = threads.given(threads.COUNT) or ""
    if given.isdecimal() and int(given):
        return int(given)
    return max(1, threads.cores() // workers)


class _Crew:
    """The worker processes; see bench.run.executors.dispatch.Pool."""

    def __init__(self, places: Sequence[WorkerShare], options: Options, progress: Progress) -> None:
        self._options = options
        self._progress = progress
        self._workers = [_Worker(place) for place in places]

    @property
    def running(self) -> int:
        return sum(one.item is not None for one in self._workers)

    @property
    def note(self) -> str:
        return ", ".join(one.stage for one in self._workers if one.item)

    def take(self, waiting: list[Planned]) -> None:
        for number, one in enumerate(self._workers):
            if one.item is None and waiting:
                if not one.process.is_alive():
                    one = self._workers[number] = _Worker(one.place)
                item = self._next(waiting, one)
                waiting.remove(item)
                self._progress.say(f"{item.cell.name}: started")
                one.give(item, self._options)

    def _next(self, waiting: Sequence[Planned], free: _Worker) -> Planned:
        """Return the cell whose features the worker has, else one whose features nobody has, else the first."""
        taken = {one.features for one in self._workers if one is not free}
        own = (item for item in waiting if item.cell.features_key == free.features)
        fresh = (item for item in waiting if item.cell.features_key not in taken)
        return next(own, None) or next(fresh, waiting[0])

    def ended(self) -> list[tuple[Planned, Outcome]]:
        ends: list[tuple[Planned, Outcome]] = []
        ready = connection.wait([one.pipe for one in self._workers if one.item], timeout=1.0)
        for one in self._workers:
            item = one.item
            if item is None or one.pipe not in ready:
                continue
            told = one.listen()
            if isinstance(told, BenchError):
                raise told
            if isinstance(told, Told):
                if told.text:
                    self._progress.say(f"{item.cell.name}: {told.text}")
                continue
            one.item = None
            ends.append((item, told))
        return ends

    def stop(self) -> None:
        """End idle workers at once, busy ones after their step and a checkpoint, and late ones by force."""
        for one in self._workers:
            one.process.terminate()
        deadline = time.monotonic() + STOP_SECONDS
        for one in self._workers:
            one.process.join(max(0.0, deadline - time.monotonic()))
            if one.process.is_alive():
                one.process.kill()
                one.process.join()
            one.pipe.close()


class _Worker:
    """A worker process, and what it is busy with."""

    def __init__(self, place: WorkerShare) -> None:
        context = multiprocessing.get_context("spawn")
        self.place = place
        self.item: Planned | None = None
        self.features = ""
        """Key of the features it has in memory."""
        self.stage = ""
        self.pipe, theirs = context.Pipe()
        self.process = context.Process(target=worker.main, args=(theirs, place))
        self.process.start()
        # its end must close with the worker
        theirs.close()

    def give(self, item: Planned, options: Options) -> None:
        self.item, self.features, self.stage = item, item.cell.features_key, "starting"
        # where it died before, the next look at the pipe shows it
        with suppress(OSError):
            self.pipe.send(Parcel.pack(item, options))

    def listen(self) -> Told | Outcome | BenchError:
        """Return what it says next: a line or a stage, or what became of its cell."""
        try:
            told: Told | Record | BenchError | None = self.pipe.recv()
        except (EOFError, OSError):
            self.process.join()
            code = self.process.exitcode or 0
            return Died(f"was killed by {signal.Signals(-code).name}" if code < 0 else f"ended with exit code {code}")
        if isinstance(told, Told):
            self.stage = told.stage or self.stage
        return told
