"""Options that several commands have, each written once."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import click

RESULTS = Path("results/runs")
"""Where `bench run` puts records, and every other command looks for them."""

Decorator = Callable[[Callable[..., Any]], Callable[..., Any]]


def data_root_option(purpose: str = "Folder of the data; name=DIR for one dataset.") -> Decorator:
    """Return `--data-root`, which may be repeated."""
    return click.option("--data-root", "data_roots", metavar="DIR", multiple=True, help=purpose)


def weights_option() -> Decorator:
    """Return `--weights`, also given by BENCH_WEIGHTS."""
    return click.option(
        "--weights",
        metavar="DIR",
        type=click.Path(path_type=Path),
        envvar="BENCH_WEIGHTS",
        show_envvar=True,
        help="Folder of safetensors files.",
    )


def results_option(purpose: str) -> Decorator:
    """Return `--results`; `purpose` says what the command does with the folder."""
    return click.option(
        "--results",
        metavar="DIR",
        type=click.Path(path_type=Path),
        default=RESULTS,
        show_default=True,
        help=purpose,
    )


def device_option() -> Decorator:
    """Return `--device`."""
    return click.option("--device", metavar="DEV", default="auto", show_default=True, help="auto, cpu, cuda or cuda:N.")


def precision_option(purpose: str) -> Decorator:
    """Return `--precision`; `purpose` says whose arithmetic it is."""
    return click.option(
        "--precision", type=click.Choice(["fp32", "tf32", "bf16"]), default="fp32", show_default=True, help=purpose
    )


def set_option() -> Decorator:
    """Return `--set METHOD.KEY=VALUE`, which may be repeated."""
    return click.option(
        "--set", "pairs", metavar="METHOD.KEY=VALUE", multiple=True, help="Change a setting of a method."
    )


def names(text: str | None) -> tuple[str, ...]:
    """Split what was given as `a,b`; blanks and repetitions do not count."""
    return tuple(dict.fromkeys(part.strip() for part in (text or "").split(",") if part.strip()))
