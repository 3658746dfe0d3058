"""Lines for the terminal by commands that do without rich, which takes time to import."""

from __future__ import annotations

import click

from bench.names import harmless


def echo(text: str, err: bool = False) -> None:
    """Print a line that may hold names from files."""
    click.echo(harmless(text), err=err)
