"""`bench cache`: what bench keeps on this machine, and its removal."""

from __future__ import annotations

import sys
from pathlib import Path

import click

from bench.cli.echo import echo
from bench.cli.options import results_option
from bench.cli.subcommands import Subcommands
from bench.errors import UsageError


@click.group(cls=Subcommands, epilog="\b\nExample:\n  bench cache clear pixels --yes")
def cache() -> None:
    """Show what bench keeps on this machine, or remove it. Nothing of it cannot be made again."""


@cache.command(epilog="\b\nExample:\n  bench cache show")
@results_option("Where runs have kept models and maps.")
def show(results: Path) -> None:
    """Show sizes by kind, and what runs have kept on request beside their records, which no cache clear removes."""
    from bench.cache import beside, cache_dir, kept
    from bench.doctor import size

    echo(f"{cache_dir()}")
    for one in kept():
        echo(f"{one.name:9} {size(one.bytes):>10}  {one.what}")
    if asked := [one for one in beside(results) if one.files]:
        echo(f"{results}")
    for one in asked:
        echo(f"{one.name:9} {size(one.bytes):>10}  {one.what}")


@cache.command(epilog="\b\nExample:\n  bench cache clear pixels features --yes")
@click.argument("kinds", nargs=-1, metavar="[KIND]..")
@click.option("--yes", is_flag=True, help="Do not ask.")
def clear(kinds: tuple[str, ...], yes: bool) -> int:
    """Remove some kinds, or all: pixels, features, hashes, kernels, fonts, cells, demo.

    Only these are removed from the cache folder. Records, checkpoints and downloaded weights lie elsewhere and stay.
    """
    from bench.cache import KINDS, cache_dir
    from bench.cache import clear as remove
    from bench.doctor import size

    chosen = kinds or tuple(KINDS)
    if not yes:
        if not sys.stdin.isatty():
            raise UsageError("nobody is there to ask. Expected --yes")
        click.confirm(f"Remove {', '.join(chosen)} from {cache_dir()}?", abort=True)
    done = remove(chosen)
    echo(f"freed {size(done.bytes)} in {cache_dir()}")
    for kind in done.busy:
        echo(f"{kind}: another process is filling it, and what it has put there since stays")
    return 0
