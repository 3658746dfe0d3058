"""`bench ls`: what there is, without importing any of it."""

from __future__ import annotations

import click

from bench.cli.echo import echo

EPILOG = """\b
Example:
  bench ls methods
"""


@click.command(epilog=EPILOG)
@click.argument("what", type=click.Choice(["methods", "datasets", "protocols", "suites"]))
def ls(what: str) -> None:
    """List methods, datasets, protocols or suites, one a line."""
    rows = _rows(what)
    width = max((len(name) for name, _ in rows), default=0)
    for name, text in rows:
        echo(f"{name:{width}}  {text}")


def _rows(what: str) -> list[tuple[str, str]]:
    from bench import protocol, registry

    if what == "protocols":
        return list(protocol.SUMMARIES.items())
    if what == "suites":
        from bench import suites

        return [(name, str(suites.values(name).get("title", ""))) for name in suites.names()]
    known = registry.METHODS if what == "methods" else registry.DATASETS
    return [(name, known.summary(name)) for name in known.names()]
