"""Cell locks: one process a cell, and the look at what others did meanwhile."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from bench.files import try_lock
from bench.machine.progress import Progress
from bench.plan.planned import Planned, ended_since
from bench.run import cell as cells
from bench.run import late_results
from bench.run.cell import Options
from bench.store.record import Record


@dataclass(frozen=True)
class Ownership:
    """Whether a cell is ours to run."""

    mine: bool
    done: Record | None = None
    """The record, where another process ended the cell since the plan was made."""

    @property
    def note(self) -> str:
        """What to tell the user of a cell that is not ours."""
        return "done by another process" if self.done else "another process is running it, skipped"


@contextmanager
def claim(item: Planned, results: Path) -> Iterator[Ownership]:
    """Hold a cell for as long as the block runs, unless another process has it or has ended it since it was planned.

    Raises:
        StoreError: the results folder cannot be written or locked.
    """
    with try_lock(item.cell.path(results).with_suffix(".lock")) as mine:
        if not mine:
            yield Ownership(mine=False)
            return
        done = ended_since(item, results)
        yield Ownership(mine=done is None, done=done)


def work(item: Planned, options: Options, progress: Progress) -> Record:
    """Do what there is to do for a cell that is ours. Raises StoreError as `bench.run.cell.run`."""
    return late_results.run(item, options, progress) if item.by_model else cells.run(item.cell, options, progress)


def run(item: Planned, options: Options, progress: Progress) -> Record | None:
    """Run a cell if it is ours to run; else return what another process made of it, None where it is still at it.

    Raises:
        StoreError: as `bench.run.cell.run`.
    """
    with claim(item, options.results) as held:
        if held.mine:
            return work(item, options, progress)
        progress.say(held.note)
        return held.done
