"""Choice of an executor. Importing this module loads neither torch nor Ray nor submitit."""

from __future__ import annotations

from dataclasses import dataclass
from importlib.util import find_spec

from bench.errors import UsageError
from bench.machine import devices
from bench.run.executors import Executor

EXECUTORS = ("local", "ray", "slurm")
NEEDED = {"ray": "ray", "slurm": "submitit"}
"""Executor -> the package that an extra of the same name installs."""


@dataclass(frozen=True)
class ExecutorRequest:
    """Where the user wants cells to be run."""

    executor: str = "local"
    """One of EXECUTORS."""
    jobs: int | None = None
    """Most cells at once."""
    address: str | None = None
    """Of a Ray cluster."""
    cpus: int | None = None
    """Cores a cell takes of a cluster."""
    gpus: float | None = None
    """GPUs a cell takes of a cluster."""
    slurm: tuple[str, ...] = ()
    """submitit's parameters as KEY=VALUE."""
    detach: bool = False
    """Whether Slurm's jobs are submitted and not waited for."""


def check(wanted: ExecutorRequest, device: str) -> None:
    """Refuse what need not be tried; loads neither torch nor Ray nor submitit.

    Args:
        wanted: where to run.
        device: what to run on, as the user has it: auto, cpu, cuda or cuda:N.

    Raises:
        UsageError: an option that this executor does not have, its package is not installed, or no name of a device.
    """
    devices.check(device)
    kind = wanted.executor
    options = {
        "--address": (wanted.address, ("ray",)),
        "--cpus": (wanted.cpus, ("ray", "slurm")),
        "--gpus": (wanted.gpus, ("ray", "slurm")),
        "--slurm": (wanted.slurm or None, ("slurm",)),
        "--detach": (wanted.detach or None, ("slurm",)),
    }
    for option, (value, kinds) in options.items():
        if value is not None and kind not in kinds:
            raise UsageError(f"{option}: --executor {kind} has none. Expected --executor {' or '.join(kinds)}")
    if kind == "local":
        return
    if find_spec(NEEDED[kind]) is None:
        raise UsageError(f"--executor {kind} needs {NEEDED[kind]}. Install it with: pip install 'bench-uad[{kind}]'")
    if device not in ("auto", "cpu", "cuda"):
        raise UsageError(
            f"--device {device}: --executor {kind} lends a device to each cell. Expected auto, cpu or cuda"
        )


def choose(wanted: ExecutorRequest, device: str) -> Executor:
    """Return the executor.

    Args:
        wanted: where to run.
        device: what to run on, as the user has it.

    Raises:
        UsageError: as `check`, or a device that is not there.
    """
    check(wanted, device)
    if wanted.executor == "local":
        return _local(wanted.jobs, device)
    if wanted.executor == "ray":
        from bench.run.executors.on_ray import OnRay

        return OnRay(wanted.address, device, wanted.jobs, wanted.cpus, wanted.gpus)
    from bench.run.executors.on_slurm import OnSlurm, parameters

    return OnSlurm(device, parameters(wanted.slurm), wanted.jobs, wanted.cpus, _whole(wanted.gpus), wanted.detach)


def _local(jobs: int | None, device: str) -> Executor:
    from bench.run.executors.in_process import Here
    from bench.run.executors.processes import Processes

    visible = devices.visible(devices.choose(device))
    count = jobs or len(visible) or 1
    return Processes(count, visible) if count > 1 else Here()


def _whole(gpus: float | None) -> int | None:
    if gpus is not None and gpus != int(gpus):
        raise UsageError(f"--gpus {gpus:g}: Slurm lends whole GPUs. Expected a whole number")
    return None if gpus is None else int(gpus)
