"""`bench doctor`: what may be wrong here, and the command that mends it."""

from __future__ import annotations

from pathlib import Path

import click

EPILOG = """\b
Examples:
  bench doctor
  bench doctor --data-root /data --weights /weights --online

Exit code: 0 nothing stands in the way of a run, 1 something does.
"""


@click.command(epilog=EPILOG)
@click.option(
    "--data-root", "data_roots", metavar="DIR", multiple=True, help="Folder of the data; name=DIR for one dataset."
)
@click.option(
    "--weights",
    metavar="DIR",
    type=click.Path(path_type=Path),
    envvar="BENCH_WEIGHTS",
    show_envvar=True,
    help="Folder of safetensors files.",
)
@click.option(
    "--results",
    metavar="DIR",
    type=click.Path(path_type=Path),
    default=Path("results/runs"),
    show_default=True,
    help="Where records go.",
)
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
