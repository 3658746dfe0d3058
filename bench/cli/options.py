"""Options that several commands have, each written once."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import click

from bench.cli.completing import completed
from bench.home import expanded
from bench.store import RESULTS


class _UserPath(click.Path):
    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        """Return the path with `~` expanded."""
        return super().convert(expanded(value) if isinstance(value, str) else value, param, ctx)


PATH = _UserPath(path_type=Path)
"""Type of every option that names a file or a folder."""

Decorator = Callable[[Callable[..., Any]], Callable[..., Any]]


def data_root_option(purpose: str = "Folder of the data; name=DIR for one dataset.") -> Decorator:
    """Return `--data-root`, which may be repeated."""

    def checked(context: click.Context, option: click.Parameter, given: tuple[str, ...]) -> tuple[str, ...]:
        if given:
            from bench.data_roots import data_roots

            data_roots(given)
        return given

    return click.option("--data-root", "data_roots", metavar="DIR", multiple=True, callback=checked, help=purpose)


def classes_option(purpose: str = "Only these classes (default: all)") -> Decorator:
    """Return `--classes`; see `names` for how it is read."""
    return click.option("--classes", metavar="C,..", help=f"{purpose}; one with a comma in quotes, '\"a, b\",c'.")


def metrics_option() -> Decorator:
    """Return `--metrics`: what is measured beside the protocol's own."""

    def checked(context: click.Context, option: click.Parameter, given: str | None) -> tuple[str, ...]:
        if given:
            from bench.metrics.ids import parse_all

            parse_all(names(given))
        return names(given)

    return click.option(
        "--metrics",
        metavar="M,..",
        callback=checked,
        shell_complete=completed("metrics"),
        help="Measured beside the protocol's own; see bench ls metrics.",
    )


def weights_option() -> Decorator:
    """Return `--weights`, also given by BENCH_WEIGHTS."""
    return click.option(
        "--weights",
        metavar="DIR",
        type=PATH,
        envvar="BENCH_WEIGHTS",
        show_envvar=True,
        help="Folder of safetensors files.",
    )


def results_option(purpose: str) -> Decorator:
    """Return `--results`; `purpose` says what the command does with the folder."""
    return click.option(
        "--results",
        metavar="DIR",
        type=PATH,
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


_NAME = re.compile(r'\s*(?:"((?:[^"]|"")*)"|([^,]*))\s*(?:,|$)')
"""One of `a, b`, or of `"a, b",c`; a quotation mark inside quotes is written twice."""


def names(text: str | None) -> tuple[str, ...]:
    """Split what was given as `a,b`; blanks and repetitions do not count.

    A name that has a comma stands in quotes, as in CSV: `"bolt, large",nut`.
    """
    found = (
        quoted.replace('""', '"') if quoted else plain.strip() for quoted, plain in _NAME.findall((text or "").strip())
    )
    return tuple(dict.fromkeys(name for name in found if name))


def quiet_option() -> Decorator:
    """Return `--quiet`."""
    return click.option("-q", "--quiet", is_flag=True, help="Print what came of it, and nothing on the way.")


def json_option() -> Decorator:
    """Return `--json`."""
    return click.option("--json", "as_json", is_flag=True, help="Print JSON in place of tables; see docs/json.md.")
