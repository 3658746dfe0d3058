"""Slurm executor: cells as an array of jobs, through submitit; slurm_job.py is the job's side.

The nodes share the file system with whoever submits: the same environment, data, weights and results folder at the same
paths. A job that is preempted or reaches its time limit is queued again and goes on from its checkpoint. Jobs do not
need the process that submitted them: where it is killed, they write their records nevertheless.
"""

from __future__ import annotations

import json
import re
import subprocess
import time
from collections.abc import Generator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import submitit
from submitit.core.utils import FailedJobError

from bench import regular
from bench.errors import BenchError, UsageError
from bench.files import atomic
from bench.machine.progress import Progress
from bench.plan.planned import Planned
from bench.registry import did_you_mean
from bench.run.cell import Options
from bench.run.executors import Executor
from bench.run.executors.dispatch import Died, Outcome, dispatch
from bench.run.executors.handover import Parcel
from bench.run.executors.slurm_job import Job
from bench.store.record import Record
from bench.words import counted

CLUSTERS = ("slurm", "local", "debug")
DEFAULTS: Mapping[str, Any] = {"name": "bench", "timeout_min": 24 * 60}
"""submitit's own time limit of five minutes would be over before most cells are."""
REQUEUES = 20
"""Times that a job may reach its time limit and be queued again; each goes on from the training's checkpoint."""
LOGS = ".slurm"
"""Folder below the results where jobs leave their logs."""
POLL_SECONDS = 1.0
STOP_SECONDS = 20.0


def parameters(given: Sequence[str]) -> dict[str, Any]:
    """Return what `--slurm KEY=VALUE` options say, values read as JSON where they are JSON.

    Raises:
        UsageError: no `=`, or a key that neither submitit nor bench has.
    """
    own = {"cluster", "max_num_timeout"}
    known = own | submitit.AutoExecutor._valid_parameters() | submitit.SlurmExecutor._valid_parameters()
    found: dict[str, Any] = {}
    for option in given:
        key, equals, value = option.partition("=")
        if not equals:
            raise UsageError(f"--slurm {option}: expected KEY=VALUE, for example --slurm partition=gpu")
        if key not in known:
            raise UsageError(
                f"--slurm {option}: no '{key}'.{did_you_mean(key, known)} Known: {', '.join(sorted(known))}"
            )
        try:
            found[key] = json.loads(value)
        except ValueError:
            found[key] = value
    if found.get("cluster", "slurm") not in CLUSTERS:
        raise UsageError(f"--slurm cluster={found['cluster']}: expected one of {', '.join(CLUSTERS)}")
    return found


@dataclass(frozen=True)
class OnSlurm(Executor):
    """Runs cells as Slurm jobs; see bench.run.executors.Executor.

    Args:
        device: what the user wants cells to run on: auto, cpu or cuda; seen by each job for itself.
        given: submitit's parameters under its own names, Slurm's without a prefix; `cluster` is `slurm`, or `local` and
            `debug` for jobs without Slurm in processes of this machine or in this process.
        jobs: most cells at once; None for as many as Slurm starts, elsewhere for 1.
        cpus: cores that a cell takes; None for Slurm's own default.
        gpus: GPUs that a cell takes; None for none, or for 1 where the device is cuda.
        detach: whether the jobs are submitted and not waited for.
    """

    device: str
    given: Mapping[str, Any] = field(default_factory=dict)
    jobs: int | None = None
    cpus: int | None = None
    gpus: int | None = None
    detach: bool = False

    @property
    def detached(self) -> bool:
        """Return whether jobs are submitted and not waited for."""
        return self.detach

    def run(
        self, todo: Sequence[Planned], options: Options, progress: Progress
    ) -> Generator[tuple[Planned, Record], None, None]:
        """Submit all cells as one array, but for those whose jobs are there already, and wait for all of them."""
        if not todo:
            return
        if self.detach and self.cluster != "slurm":
            raise UsageError(f"--detach: --slurm cluster={self.cluster} ends with this process. Expected Slurm itself")
        pool = _Jobs(self, options, progress)
        if self.detach:
            pool.take(list(todo))
        else:
            yield from dispatch(pool, todo, options, progress)

    @property
    def cluster(self) -> str:
        """Return who runs the jobs."""
        return str(self.given.get("cluster", "slurm"))

    def submitter(self, options: Options) -> submitit.AutoExecutor:
        """Return submitit's executor.

        Raises:
            UsageError: there is no Slurm here, or a parameter's value is none.
        """
        asked = {name: value for name, value in self.given.items() if name not in ("cluster", "max_num_timeout")}
        shared = submitit.AutoExecutor._valid_parameters()
        values = {**DEFAULTS, **self._resources()}
        values |= {name if name in shared else f"slurm_{name}": value for name, value in asked.items()}
        requeues = self.given.get("max_num_timeout", REQUEUES)
        folder = options.results.absolute() / LOGS / "%j"
        try:
            executor = submitit.AutoExecutor(folder, cluster=self.cluster, slurm_max_num_timeout=requeues)
            executor.update_parameters(**values)
        except RuntimeError as error:
            raise UsageError(
                f"--executor slurm: {error} Run it where sbatch is, or try it without Slurm: --slurm cluster=local"
            ) from error
        except (AssertionError, NameError, TypeError, ValueError) as error:
            raise UsageError(f"--slurm: submitit refuses {json.dumps(asked)}: {error}") from error
        return executor

    def _resources(self) -> dict[str, Any]:
        gpus = self.gpus if self.gpus is not None else 1 if self.device == "cuda" else None
        wanted = {"cpus_per_task": self.cpus, "gpus_per_node": gpus, "slurm_array_parallelism": self.jobs}
        return {name: value for name, value in wanted.items() if value}


def _numbers(jobs: Sequence[tuple[Planned, submitit.Job[Any]]]) -> str:
    numbers = [job.job_id for _, job in jobs]
    return f"{numbers[0]} to {numbers[-1]}" if len(numbers) > 1 else numbers[0]


class _Jobs:
    """The jobs that were submitted; see bench.run.executors.dispatch.Pool."""

    def __init__(self, wanted: OnSlurm, options: Options, progress: Progress) -> None:
        self._wanted = wanted
        self._options = options
        self._progress = progress
        self._submitter = wanted.submitter(options)
        self._jobs: list[tuple[Planned, submitit.Job[Any]]] = []

    @property
    def running(self) -> int:
        return len(self._jobs)

    @property
    def note(self) -> str:
        return f"{self.running} with {self._wanted.cluster}"

    def take(self, waiting: list[Planned]) -> None:
        room = len(waiting)
        if self._wanted.cluster != "slurm":
            # Slurm keeps to the array's parallelism by itself
            room = (self._wanted.jobs or 1) - self.running
        items = waiting[: max(0, room)]
        if not items:
            return
        del waiting[: len(items)]
        queued = [(item, job) for item in items if (job := self._queued(item)) is not None]
        if queued:
            self._jobs.extend(queued)
            self._progress.say(f"{counted(len(queued), 'cell')} submitted before, not again: {_numbers(queued)}")
        items = [item for item in items if all(item is not other for other, _ in queued)]
        if not items:
            return
        try:
            with self._submitter.batch():
                jobs = [self._submitter.submit(self._job(item)) for item in items]
        except FailedJobError as error:
            raise UsageError(f"--executor slurm: sbatch refused the jobs: {error}") from error
        self._jobs.extend(zip(items, jobs, strict=True))
        if self._wanted.cluster == "slurm":
            for item, job in zip(items, jobs, strict=True):
                with atomic(self._note_of(item), durable=False) as file:
                    file.write(job.job_id.encode())
        names = _numbers(self._jobs[-len(jobs) :])
        self._progress.say(f"submitted {counted(len(jobs), 'cell')} ({names}), logs in {self._options.results / LOGS}")

    def _note_of(self, item: Planned) -> Path:
        """Return the file that says which job a cell was submitted as, for whoever comes later."""
        return self._options.results / LOGS / f"{item.cell.fingerprint}.job"

    def _queued(self, item: Planned) -> submitit.Job[Any] | None:
        """Return the job that a cell was submitted as, where Slurm still has it."""
        note = self._note_of(item)
        if self._wanted.cluster != "slurm" or not note.is_file():
            return None
        number = regular.read_text(note).strip()
        if not re.fullmatch(r"\d+(_\d+)?", number):
            return None
        command = ["squeue", "--noheader", f"--jobs={number}", "--format=%T"]
        try:
            asked = subprocess.run(command, capture_output=True, text=True, check=False)
        except OSError:
            return None  # who has no squeue cannot know
        folder = self._options.results.absolute() / LOGS / "%j"
        return submitit.SlurmJob(folder, number) if asked.returncode == 0 and asked.stdout.strip() else None

    def _job(self, item: Planned) -> Job:
        return Job(Parcel.pack(item, self._options), self._wanted.device, self._wanted.cpus)

    def ended(self) -> list[tuple[Planned, Outcome]]:
        over = [(item, job) for item, job in self._jobs if job.done()]
        if not over:
            time.sleep(POLL_SECONDS)
            return []
        self._jobs = [(item, job) for item, job in self._jobs if all(job is not other for _, other in over)]
        return [(item, self._outcome(item, job)) for item, job in over]

    def _outcome(self, item: Planned, job: submitit.Job[Any]) -> Outcome:
        self._note_of(item).unlink(missing_ok=True)
        if job.exception() is not None:
            return Died(f"(job {job.job_id}) ended as {job.state}, see {job.paths.stderr}")
        result: Record | BenchError | None = job.result()
        for pickled in (job.paths.submitted_pickle, job.paths.result_pickle):
            pickled.unlink(missing_ok=True)
        if isinstance(result, BenchError):
            raise result
        if result is None:
            self._progress.say(f"{item.cell.name}: another process is running it, skipped")
        return result

    def stop(self) -> None:
        for item, job in self._jobs:
            job.cancel(check=False)
            self._note_of(item).unlink(missing_ok=True)
        deadline = time.monotonic() + STOP_SECONDS
        if self._wanted.cluster == "local":
            # a job that is told to end writes a last line into a folder that may be gone by then
            while time.monotonic() < deadline and not all(job.done() for _, job in self._jobs):
                time.sleep(0.1)
