"""Dispatch of cells to several workers: handed out, waited for, tried again where a worker died, and yielded."""

from __future__ import annotations

from collections import Counter
from collections.abc import Generator, Sequence
from dataclasses import dataclass
from typing import Protocol

import torch

from bench.errors import WorkerError
from bench.machine.progress import Progress
from bench.plan.planned import Planned
from bench.run import recording
from bench.run.cell import Options
from bench.run.executors.cell_lock import claim
from bench.store.record import Record

RETRIES = 2
"""Times that a cell is run again after its worker died; one that kills every worker must end some day."""


@dataclass(frozen=True, slots=True)
class Died:
    """The end of a worker while it ran a cell."""

    how: str
    """What the worker did, as the user is told: `was killed by SIGKILL`."""


Outcome = Record | Died | None
"""What became of a cell: its record, the death of its worker, or None where another process has it."""


class Pool(Protocol):
    """Somewhere to run several cells at once."""

    @property
    def running(self) -> int:
        """Cells that were taken and have not been returned by `ended`."""

    @property
    def note(self) -> str:
        """How far things are, in a few words."""

    def take(self, waiting: list[Planned]) -> None:
        """Begin with as many of the waiting cells as there is room for, and remove those from the list."""

    def ended(self) -> list[tuple[Planned, Outcome]]:
        """Return the cells that ended, having waited about a second for one.

        Raises:
            BenchError: no cell can be run here, or none be recorded.
        """

    def stop(self) -> None:
        """End whatever still runs. Called once, whatever happened."""


def dispatch(
    pool: Pool, todo: Sequence[Planned], options: Options, progress: Progress
) -> Generator[tuple[Planned, Record], None, None]:
    """Run all cells in a pool and yield each with its record as it ends; see bench.run.executors.Executor."""
    waiting = list(todo)
    deaths: Counter[str] = Counter()
    try:
        with progress.phase("cells", len(todo)) as advance:
            while waiting or pool.running:
                pool.take(waiting)
                for item, outcome in pool.ended():
                    if isinstance(outcome, Died):
                        deaths[item.cell.fingerprint] += 1
                        count = deaths[item.cell.fingerprint]
                        if count <= RETRIES:
                            again = f"its worker {outcome.how}, trying again ({count} of {RETRIES})"
                            progress.say(f"{item.cell.name}: {again}")
                            waiting.insert(0, item)
                            continue
                        outcome = _failed(item, options, progress, outcome.how)
                    advance(1, "")
                    if outcome is not None:
                        yield item, outcome
                advance(0, pool.note)
    finally:
        pool.stop()


def _failed(item: Planned, options: Options, progress: Progress, how: str) -> Record | None:
    """Write the failed record of a cell whose workers all died; return another process's, if it has the cell."""
    error = WorkerError(
        f"the worker {how}, at each of {RETRIES + 1} attempts. If memory ran out: fewer cells at once (--jobs), more "
        "memory a cell, or features kept elsewhere (--store file). The same command tries again"
    )
    with claim(item, options.results) as held:
        if not held.mine:
            return held.done
        record = recording.failed(item.cell, torch.device("cpu"), options.command, error)
        # the other facts are this process's; on which device the worker ran, died with it
        environment = record.environment.model_copy(update={"device": "unknown"})
        record = record.model_copy(update={"environment": environment})
        recording.write(record, item.cell.path(options.results), progress.say)
        return record
