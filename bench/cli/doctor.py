"""`bench doctor`: what may be wrong here, and the command that mends it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

import click

from bench.cli.echo import print_json
from bench.cli.options import data_root_option, json_option, results_option, weights_option
from bench.words import counted

if TYPE_CHECKING:
    from bench.doctor import Diagnosis

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
@json_option()
def doctor(data_roots: tuple[str, ...], weights: Path | None, results: Path, online: bool, as_json: bool) -> int:
    """Look at packages, machine, caches, records, datasets and weights, and say how to mend what is wrong."""
    from bench.doctor import examine
    from bench.registry import DATASETS

    findings = list(examine(results, data_roots, weights, online=online))
    problems = [finding for finding in findings if finding.state == "problem"]
    weighed = [finding for finding in findings if finding.methods]
    ready = [name for finding in weighed if finding.state == "ok" for name in finding.methods]
    lacking = {name: finding.about for finding in weighed if finding.state != "ok" for name in finding.methods}
    data = [finding.about for finding in findings if finding.about in DATASETS.targets and finding.state != "problem"]
    if as_json:
        print_json(
            problems=len(problems),
            findings=[asdict(finding) for finding in findings],
            ready=ready,
            not_ready=lacking,
            datasets=data,
        )
    else:
        _print(findings, problems, ready, lacking, data)
    return 1 if problems else 0


def _print(
    findings: Sequence[Diagnosis],
    problems: Sequence[Diagnosis],
    ready: Sequence[str],
    lacking: Mapping[str, str],
    data: Sequence[str],
) -> None:
    """Print the verdict, then what is wrong, what is worth a look and what is well, and at last what can be run."""
    from rich.text import Text

    from bench.machine.terminal import console

    out = console()
    verdict = f"{counted(len(problems), 'problem')}: {', '.join(finding.about for finding in problems)}"
    style = "bold red" if problems else "bold green"
    out.print(Text(verdict if problems else "nothing stands in the way of a run", style), soft_wrap=True)
    marks = {"problem": ("PROBLEM ", "bold red"), "note": ("note    ", "yellow"), "ok": ("ok      ", "green")}
    for state, mark in marks.items():
        for finding in findings:
            if finding.state == state:
                out.print(Text.assemble(mark, (f"{finding.about}  ", "bold"), finding.text), soft_wrap=True)
                if finding.mend:
                    out.print(Text(f"          -> {finding.mend}"), soft_wrap=True)
    if not any(finding.mend.startswith("pip install") for finding in problems):
        known = f"; with their own weights: {', '.join(ready)}" if ready else ""
        out.print(
            Text(f"can run now:  bench run --suite demo{known}; data: {', '.join(data) or 'none'}"), soft_wrap=True
        )
    if lacking:
        names: dict[str, list[str]] = {}
        for name, encoder in lacking.items():
            names.setdefault(encoder, []).append(name)
        words = (f"{', '.join(methods)} (weights of {encoder})" for encoder, methods in names.items())
        out.print(Text(f"cannot yet:   {'; '.join(words)}. Another encoder: --encoder"), soft_wrap=True)
