"""Ray executor: cells as tasks of a cluster; ray_node.py is the node's side.

The nodes share nothing with the driver but the data, which must lie at the same path: bench's source is shipped,
results come back through Ray and are written here, and a checkpoint stays on its node. So a cell whose node died begins
anew elsewhere, and one whose worker process died goes on where its node takes it up again.
"""

from __future__ import annotations

import os
import signal
import tempfile
import threading
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import ray
from ray.exceptions import RayError, RayTaskError, RuntimeEnvSetupError
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from bench import plugins
from bench.errors import DatasetError, UsageError
from bench.files import atomic
from bench.machine.progress import Progress
from bench.plan.planned import Planned
from bench.run import kept_model, recording
from bench.run.cell import Options
from bench.run.executors import Executor, ray_node
from bench.run.executors.cell_lock import claim
from bench.run.executors.dispatch import Died, Outcome, dispatch
from bench.run.executors.handover import Parcel
from bench.run.executors.ray_node import NodeResult
from bench.run.executors.source_bundle import assemble
from bench.store.provenance import commit
from bench.store.record import Record
from bench.words import counted

WINDOW = 64
"""Cells that Ray knows at once: enough for a cluster to see that it should grow, few enough for the driver's memory."""
MAPS_GIB = 2.0
"""Most that the maps of a cell, or its model, may take on their way through Ray's memory."""
LOOK_SECONDS = 300.0
"""How long the nodes may take to set bench up and look for the data."""


@dataclass(frozen=True)
class OnRay(Executor):
    """Runs cells as Ray tasks; see bench.run.executors.Executor.

    Args:
        address: of the cluster (`auto`, `ray://host:port`, `host:port`); None for the one of RAY_ADDRESS, or one that
            is started on this machine for as long as the run.
        device: what the user wants cells to run on: auto, cpu or cuda.
        jobs: most cells at once; None for as many as fit the cluster.
        cpus: cores that a cell takes; None for 1, or on a GPU for its share of the cluster's cores.
        gpus: GPUs that a cell takes; None for 1 where the cluster has any and the device is not cpu.
    """

    address: str | None
    device: str
    jobs: int | None = None
    cpus: int | None = None
    gpus: float | None = None

    def run(
        self, todo: Sequence[Planned], options: Options, progress: Progress
    ) -> Generator[tuple[Planned, Record], None, None]:
        """Run cells wherever the cluster has room."""
        if not todo:
            return
        if options.keep_maps:
            _refuse_large_maps(todo)
        if options.keep_model:
            _refuse_large_models(todo)
        progress.say(f"connecting to Ray at {self.address}" if self.address else "looking for Ray, or starting it here")
        with _connected(self.address):
            cpus, gpus = self._resources(ray.cluster_resources())
            _look(_needed(todo))
            progress.say(f"{counted(len(todo), 'cell')} for Ray, each with {cpus} CPUs and {gpus:g} GPUs")
            _say_if_too_small(cpus, gpus, progress)
            tasks = _Tasks(options, progress, self.jobs or WINDOW, cpus, gpus)
            yield from dispatch(tasks, todo, options, progress)

    def _resources(self, total: dict[str, float]) -> tuple[int, float]:
        cores, devices = total.get("CPU", 0.0), total.get("GPU", 0.0)
        gpus = self.gpus
        if gpus is None:
            gpus = 0.0 if self.device == "cpu" or (self.device == "auto" and not devices) else 1.0
        share = cores * gpus / devices if gpus and devices else 1.0
        return self.cpus or max(1, int(share)), gpus


class _Tasks:
    """The cells that Ray has; see bench.run.executors.dispatch.Pool. Each is claimed here for as long."""

    def __init__(self, options: Options, progress: Progress, most: int, cpus: int, gpus: float) -> None:
        self._options = options
        self._progress = progress
        self._most = most
        self._task = ray.remote(num_cpus=cpus, num_gpus=gpus, max_retries=0)(ray_node.work)
        self._how = "cuda" if gpus else "cpu", cpus
        self._sent: dict[Any, tuple[Planned, ExitStack]] = {}
        self._theirs: list[tuple[Planned, Outcome]] = []

    @property
    def running(self) -> int:
        return len(self._sent) + len(self._theirs)

    @property
    def note(self) -> str:
        return f"{len(self._sent)} with Ray"

    def take(self, waiting: list[Planned]) -> None:
        while waiting and len(self._sent) < self._most:
            item, held = waiting.pop(0), ExitStack()
            found = held.enter_context(claim(item, self._options.results))
            if found.mine:
                self._sent[self._task.remote(Parcel.pack(item, self._options), *self._how)] = item, held
            else:
                held.close()
                self._progress.say(f"{item.cell.name}: {found.note}")
                self._theirs.append((item, found.done))

    def ended(self) -> list[tuple[Planned, Outcome]]:
        ends, self._theirs = self._theirs, []
        if self._sent:
            ready, _ = ray.wait(list(self._sent), num_returns=1, timeout=0.0 if ends else 1.0)
            for one in ready:
                item, held = self._sent.pop(one)
                with held:
                    ends.append((item, self._outcome(one, item)))
        return ends

    def _outcome(self, one: Any, item: Planned) -> Outcome:
        try:
            made: NodeResult = ray.get(one)
        except RayTaskError as error:
            # whatever breaks a cell is in its record: it is the node that lacks something, and another may have it
            return Died(f"failed ({type(error.cause).__name__}: {str(error.cause).strip()})")
        except RuntimeEnvSetupError as error:
            raise UsageError(f"Ray cannot set bench up on its nodes: {error}") from error
        except RayError as error:
            reason = str(error).strip().partition("\n")[0].partition(". ")[0]
            return Died(f"died ({type(error).__name__}: {reason})")
        for text in made.said:
            self._progress.say(f"{item.cell.name}: {text}")
        return _keep(made, item.cell.path(self._options.results), self._progress.say)

    def stop(self) -> None:
        for one, (_, held) in self._sent.items():
            ray.cancel(one, force=True)
            held.close()


def _keep(made: NodeResult, path: Path, say: Callable[[str], None]) -> Record:
    """Write what a node made, the record last, and return the record."""
    for name, content in made.files.items():
        with atomic(path.parent / name) as file:
            file.write(content)
    record = Record.model_validate_json(made.record)
    # the node ran a copy of this checkout, which no longer knows where it comes from
    environment = record.environment.model_copy(update={"commit": commit()})
    record = record.model_copy(update={"environment": environment})
    recording.write(record, path, say)
    return record


@contextmanager
def _connected(address: str | None) -> Iterator[None]:
    """Connect to a cluster, or start one here; bench's source goes along.

    Raises:
        UsageError: there is no such cluster, or it runs other versions of Python or Ray.
    """
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    with tempfile.TemporaryDirectory(prefix="bench-ray-") as folder:
        shipped = {"py_modules": [str(assemble(Path(folder)))]}
        handler = signal.getsignal(signal.SIGTERM)
        try:
            ray.init(address=address, runtime_env=shipped, log_to_driver=False, logging_level="warning")
        except (OSError, RuntimeError, ValueError, RayError) as error:
            raise UsageError(
                f"--executor ray: cannot use the cluster at {address or 'RAY_ADDRESS or on this machine'} ({error}). "
                "Start one with: ray start --head, or leave --address out"
            ) from error
        if threading.current_thread() is threading.main_thread():
            # Ray puts its own in place, which would end the run as if it had been no signal
            signal.signal(signal.SIGTERM, handler)
        try:
            yield
        finally:
            ray.shutdown()


def _needed(todo: Iterable[Planned]) -> list[str]:
    """Return paths that every node must have: plug-in files, and of each dataset its folder and an image."""
    paths = dict.fromkeys(plugins.loaded())
    for item in todo:
        task = item.cell.task
        paths.update(dict.fromkeys((task.dataset.root, task.test[0].image)))
    return [str(path.absolute()) for path in paths]


def _look(paths: Sequence[str]) -> None:
    """Make sure that the nodes have the data, before a cell waits for a node only to fail there.

    Raises:
        DatasetError: a node does not have it.
        UsageError: bench cannot be loaded on a node.
    """
    looks = []
    for node in ray.nodes():
        # a node without cores (a head that only manages) is given no cell
        if node["Alive"] and node["Resources"].get("CPU"):
            where = NodeAffinitySchedulingStrategy(node["NodeID"], soft=False)
            looks.append(ray.remote(num_cpus=0, scheduling_strategy=where)(ray_node.look).remote(paths))
    try:
        found = ray.get(looks, timeout=LOOK_SECONDS)
    except RayError as error:
        raise UsageError(
            f"--executor ray: a node cannot run bench ({error}). Expected Python and bench's dependencies on every "
            "node, as here: pip install 'bench-uad[ray]'"
        ) from error
    for one in found:
        if one.missing:
            raise DatasetError(
                f"node {one.host} of the Ray cluster has no {', '.join(one.missing)}. Expected the data at the same "
                "path on every node: mount or copy it there, and name that path with --data-root"
            )


def _say_if_too_small(cpus: int, gpus: float, progress: Progress) -> None:
    every = [node["Resources"] for node in ray.nodes() if node["Alive"]]
    if not any(one.get("CPU", 0.0) >= cpus and one.get("GPU", 0.0) >= gpus for one in every):
        progress.say("no node of the cluster is that large now. Cells wait for one; --cpus and --gpus ask for less")


def _refuse_large_models(todo: Iterable[Planned]) -> None:
    for item in todo:
        gib = kept_model.size(item.cell.method) / 2**30
        if gib > MAPS_GIB:
            raise UsageError(
                f"--keep-model: the model of {item.cell.name} takes {gib:.1f} GiB, and Ray's memory is not for more "
                f"than {MAPS_GIB:g}. Keep models with --executor local or slurm"
            )


def _refuse_large_maps(todo: Iterable[Planned]) -> None:
    for item in todo:
        cell = item.cell
        gib = len(cell.task.test) * cell.protocol.eval_size**2 * 4 / 2**30
        if gib > MAPS_GIB:
            raise UsageError(
                f"--keep-maps: the maps of {cell.name} take {gib:.1f} GiB, and Ray's memory is not for more than "
                f"{MAPS_GIB:g}. Keep maps with --executor local or slurm"
            )
