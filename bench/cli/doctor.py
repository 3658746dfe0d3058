"""`bench doctor`: what may be wrong here, and the command that mends it."""

from __future__ import annotations

from pathlib import Path

import click

from bench.cli.options import data_root_option, results_option, weights_option

EPILOG = """\b
Examples:
  bench doctor
  bench doctor --data-root /data --weights /weights --online

Exit code: 0 nothing stands in the way of a run, 1 something does.
"""


@click.command(epilog=EPILOG)
@data_root_option()
@weights_option()
@results_option("Where records go.")
@click.option("--online", is_flag=True, help="Ask the hub for weights that are not here; nothing is downloaded.")
def doctor(data_roots: tuple[str, ...], weights: Path | None, results: Path, online: bool) -> int:
    """Look at packages, machine, caches, records, datasets and weights, and say how to mend what is wrong."""
    from rich.text import Text

    from bench.cli.terminal import console
    from bench.doctor import examine

    marks = {
        "ok": Text("ok      ", "green"),
        "note": Text("note    ", "yellow"),
        "problem": Text("PROBLEM ", "bold red"),
    }
    out = console()
    problems = 0
    for finding in examine(results, data_roots, weights, online=online):
        problems += finding.state == "problem"
        out.print(Text.assemble(marks[finding.state], (f"{finding.about}  ", "bold"), finding.text), soft_wrap=True)
        if finding.mend:
            out.print(Text(f"          -> {finding.mend}"), soft_wrap=True)
    out.print(Text("nothing stands in the way" if not problems else f"problems: {problems}"))
    return 1 if problems else 0
