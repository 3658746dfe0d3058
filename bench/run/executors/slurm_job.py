"""Job side of the Slurm executor. Importing this module loads no torch."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from bench.errors import BenchError
from bench.run.executors.handover import Parcel, set_threads

if TYPE_CHECKING:
    from bench.store.record import Record


@dataclass(frozen=True, slots=True)
class Job:
    """Runs one cell on the results folder that it shares with whoever submitted it."""

    parcel: Parcel
    device: str
    threads: int | None
    """For torch and the metrics; None for what the machine gives."""

    def __call__(self) -> Record | BenchError | None:
        """Return the record, the error that ends the sweep, or None where another process has the cell."""
        if self.threads is not None:
            set_threads(self.threads)
        from bench.machine import devices, streams
        from bench.run.executors import cell_lock

        try:
            # the job's log may lie on a full disk
            with streams.protected():
                item, options = self.parcel.open()
                return cell_lock.run(item, replace(options, device=devices.choose(self.device)), _Log())
        except BenchError as error:
            return error

    def checkpoint(self) -> Any:
        """Return what is to be run when the job comes back: the same, from the training's checkpoint.

        submitit calls it when the job is preempted or reaches its time limit.
        """
        from submitit.helpers import DelayedSubmission

        return DelayedSubmission(self)


class _Log:
    """Progress into the job's log."""

    def __init__(self) -> None:
        from bench.machine.progress import Silent

        self.phase = Silent().phase

    def say(self, text: str) -> None:
        print(text, flush=True)
