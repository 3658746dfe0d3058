"""Options that say where cells are run, gathered into one value."""

from __future__ import annotations

from collections.abc import Callable
from functools import wraps
from typing import Any

import click

from bench.run.executors.choice import EXECUTORS, ExecutorRequest

OPTIONS = (
    click.option(
        "--executor",
        type=click.Choice(EXECUTORS),
        default=EXECUTORS[0],
        show_default=True,
        help="Where cells run: on this machine, on a Ray cluster, or as Slurm jobs; see docs/scale-out.md.",
    ),
    click.option(
        "--jobs", metavar="N", type=click.IntRange(min=1), help="Most cells at once (local default: one a GPU, else 1)."
    ),
    click.option("--address", metavar="A", help="Ray cluster: auto, ray://HOST:PORT (default: one on this machine)."),
    click.option("--cpus", metavar="N", type=click.IntRange(min=1), help="CPU cores a cell takes of a cluster."),
    click.option("--gpus", metavar="X", type=click.FloatRange(min=0), help="GPUs a cell takes of a cluster."),
    click.option(
        "--slurm", metavar="KEY=VALUE", multiple=True, help="Slurm parameter, such as partition=gpu or time=4:00:00."
    ),
    click.option("--detach", is_flag=True, help="Submit Slurm's jobs and return; without it the same command waits."),
)


def executor_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """Give a command these options; they reach it as `wanted`."""

    @wraps(command)
    def gathered(*args: Any, **values: Any) -> Any:
        own = {name: values.pop(name) for name in ("executor", "jobs", "address", "cpus", "gpus", "slurm", "detach")}
        return command(*args, wanted=ExecutorRequest(**own), **values)

    for option in reversed(OPTIONS):
        gathered = option(gathered)
    return gathered
