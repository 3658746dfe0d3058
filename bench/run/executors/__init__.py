"""Executors of cells: in this process, in worker processes, on a Ray cluster, as Slurm jobs.

    here.py        one after another in this process: the default with one worker
    processes.py   several worker processes on this machine, one a GPU      (their side: worker.py)
    on_ray.py      tasks of a Ray cluster, whose nodes need share no files  (their side: ray_node.py)
    on_slurm.py    an array of Slurm jobs on a shared file system           (their side: slurm_job.py)

All keep the same promises: a cell is run by one process at a time; a worker that dies costs its cell an attempt, never
another cell; a record is whole and in the results folder before it is yielded; and the same plan gives the same scores.
"""

from __future__ import annotations

from collections.abc import Generator, Sequence
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from bench.machine.progress import Progress
    from bench.plan.planned import Planned
    from bench.run.cell import Options
    from bench.store.record import Record


class Executor(Protocol):
    """Runs cells somewhere."""

    @property
    def devices_at_once(self) -> int | None:
        """Return how many devices share the work, by which its estimate is divided; None where a cluster decides."""
        return None

    @property
    def detached(self) -> bool:
        """Return whether cells are handed over and not waited for."""
        return False

    def run(
        self, todo: Sequence[Planned], options: Options, progress: Progress
    ) -> Generator[tuple[Planned, Record], None, None]:
        """Run cells and yield each with its record as it ends, in whatever order; closing it stops what still runs.

        A cell that another process holds is left out; one that another process ended meanwhile comes with its record.

        Args:
            todo: cells that are not done.
            options: how to run them; `options.results` is where records are written.
            progress: told of what is going on.

        Raises:
            UsageError, DatasetError: the place where cells are to be run cannot be used.
            StoreError: a record cannot be written.
        """
