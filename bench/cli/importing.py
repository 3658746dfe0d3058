"""`bench import`: a checkpoint that a method's authors released, scored as a run is, and kept as its model."""

from __future__ import annotations

import sys
from pathlib import Path

import click

from bench.cli.completing import completed
from bench.cli.echo import print_json
from bench.cli.groups import Grouped
from bench.cli.options import (
    PATH,
    classes_option,
    data_root_option,
    device_option,
    json_option,
    metrics_option,
    names,
    quiet_option,
    results_option,
    set_option,
    weights_option,
)
from bench.cli.run import carry_out, suggest_next

EPILOG = """\b
Examples:
  bench import dinomaly mvtec.pth --datasets mvtec --data-root /data
  bench import dinomaly mvtec.pth --datasets mvtec --data-root /data --protocol paper
  bench import vitad net.pth --datasets mvtec --data-root /data --keep-maps

Only tensors are read from FILE, and nothing in it is executed. What does not fit the network is named.
Exit code: 0 scored, 1 it failed, 2 something given was wrong.
"""

HEADINGS = {
    "What": ("datasets", "classes", "setting", "splits", "protocol", "encoder", "metrics", "pairs"),
    "Data and weights": ("data_roots", "weights"),
    "How": ("device",),
    "Results": ("results", "keep_maps", "again", "dry_run", "quiet", "as_json"),
}
"""Headings of the help -> parameters."""


@click.command("import", epilog=EPILOG, cls=Grouped, headings=HEADINGS)
@click.argument("method", shell_complete=completed("methods"))
@click.argument("file", type=PATH)
@click.option(
    "--datasets", metavar="D,..", required=True, shell_complete=completed("datasets"), help="What it is scored on."
)
@data_root_option()
@classes_option()
@click.option(
    "--setting",
    metavar="S",
    default="multi",
    show_default=True,
    shell_complete=completed("settings"),
    help="How it was trained.",
)
@click.option("--splits", metavar="A", help="Half-split of a semantic set that it was trained on.")
@click.option(
    "--protocol",
    metavar="NAME",
    default="common",
    show_default=True,
    shell_complete=completed("protocols"),
    help="common or paper.",
)
@click.option("--encoder", metavar="NAME", help="Frozen encoder in place of the method's own.")
@weights_option()
@set_option()
@device_option()
@results_option("Where the record and the model go.")
@click.option("--keep-maps", is_flag=True, help="Keep the anomaly maps beside the record (npy, one file a class).")
@metrics_option()
@click.option("--again", is_flag=True, help="Score it again where there is a record.")
@click.option("--dry-run", is_flag=True, help="Check everything and print the plan.")
@quiet_option()
@json_option()
def importing(
    method: str,
    file: Path,
    datasets: str,
    data_roots: tuple[str, ...],
    classes: str | None,
    setting: str,
    splits: str | None,
    protocol: str,
    encoder: str | None,
    weights: Path | None,
    pairs: tuple[str, ...],
    device: str,
    results: Path,
    keep_maps: bool,
    metrics: tuple[str, ...],
    again: bool,
    dry_run: bool,
    quiet: bool,
    as_json: bool,
) -> int:
    """Score a checkpoint that METHOD's authors released, and keep it as a model for bench predict.

    Nothing is trained. Tables show it in a row of its own, marked "authors' weights".
    """
    from bench.config import parse_set
    from bench.machine.terminal import TerminalProgress, console
    from bench.plan import request as requests

    request = requests.of(
        methods=(method,),
        datasets=names(datasets),
        settings=(setting,),
        protocol=protocol,
        classes=names(classes),
        splits=names(splits),
        encoder=encoder,
        given=lambda chosen: parse_set(pairs, chosen),
        data_roots=data_roots,
        weights=weights,
        metrics=metrics,
    )
    requests.check(request)
    out, progress = console(), TerminalProgress.of(quiet)
    found = requests.sources(request, progress.say)
    progress.say("loading torch")

    from bench.cli import cells
    from bench.machine import devices
    from bench.run import sweep
    from bench.run.cell import Options
    from bench.run.executors.in_process import Here

    options = Options(
        results=results,
        device=devices.choose(device),
        keep_maps=keep_maps,
        keep_model=True,
        command=("bench", *sys.argv[1:]),
    )
    planned = sweep.prepare(request, options, progress, found, again=again, checkpoint=file)
    if not (quiet or as_json):
        cells.print_plan(planned, out, options, 1)
    code = 0 if dry_run else carry_out(planned, options, Here(), progress, None if as_json else out)
    if as_json:
        print_json(cells=[cells.facts(item, results) for item in planned], exit_code=code)
    elif not quiet:
        suggest_next(planned, options, dry_run, code)
    return code
