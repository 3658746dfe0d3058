"""Plain terminal output, for commands that do without rich, which takes time to import."""

from __future__ import annotations

import json
import shlex
from pathlib import Path
from typing import Any

import click

from bench.names import harmless
from bench.store import RESULTS

SCHEMA = 1
"""Of what `--json` prints; another number once a key is gone or means something else."""


def suggest(command: str) -> None:
    """Say on stderr what comes next: a command, or what to do."""
    click.secho(harmless(f"next: {command}"), err=True, dim=True)


def suggest_report(*results: Path, options: str = "") -> None:
    """Say that a report of the records in `results` comes next."""
    where = "".join(f" --results {quoted(folder)}" for folder in dict.fromkeys(results) if folder != RESULTS)
    suggest(f"bench report{where}{options}")


def quoted(path: str | Path) -> str:
    """Return a path as a shell takes it."""
    return shlex.quote(str(path))


def print_json(**facts: Any) -> None:
    """Print an answer for a script: see docs/json.md, which says what every key means."""
    click.echo(json.dumps({"schema": SCHEMA, **facts}, indent=1, default=str, allow_nan=False))


def echo(text: str, err: bool = False) -> None:
    """Print a line that may hold names from files."""
    click.echo(harmless(text), err=err)
