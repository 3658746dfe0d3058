"""`bench run`: methods x datasets x settings x seeds, planned, run, recorded, tabled."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, cast

import click

from bench.cli.completing import completed
from bench.cli.echo import print_json, quoted, suggest, suggest_report
from bench.cli.executor_options import executor_options
from bench.cli.groups import Grouped
from bench.cli.options import (
    classes_option,
    data_root_option,
    device_option,
    json_option,
    metrics_option,
    names,
    precision_option,
    quiet_option,
    results_option,
    set_option,
    weights_option,
)
from bench.errors import UsageError

if TYPE_CHECKING:
    from rich.console import Console

    from bench.machine.feature_places import Place
    from bench.machine.progress import Progress
    from bench.plan.planned import Planned
    from bench.run.cell import Options
    from bench.run.executors import Executor
    from bench.run.executors.choice import ExecutorRequest
    from bench.store.record import Record

EPILOG = """\b
Examples:
  bench run --suite demo
  bench run --methods dinomaly --datasets mvtec --data-root /data --classes bottle,screw
  bench run --methods dinomaly --datasets folder --data-root my_images --encoder vit_tiny_patch8_128.bench
  bench run --methods dinomaly --datasets fmnist --data-root /data --splits A
  bench run --methods dinomaly --datasets visa --data-root /data --setting few-shot --shots 4
  bench run --methods dinomaly --datasets mvtec --data-root /data --seeds 0,1,2 --set dinomaly.steps=2000 --dry-run
  bench run --suite small --executor ray --address auto

Finished cells are skipped; an interrupted one goes on from its checkpoint.
Exit code: 0 all cells done, 1 a cell failed or is with another process still, 2 something given was wrong.
"""


HEADINGS = {
    "What": (
        *(
            "suite",
            "methods",
            "datasets",
            "classes",
            "settings",
            "splits",
            "shots",
            "rate",
            "overlap",
            "seeds",
            "protocol",
        ),
        *("encoder", "metrics", "calibrate", "pairs"),
    ),
    "Data and weights": ("data_roots", "weights"),
    "How": ("device", "precision", "compile", "store", "store_budget", "checkpoint_seconds"),
    "Where": ("shard", "executor", "jobs", "address", "cpus", "gpus", "slurm", "detach"),
    "Results": ("results", "keep_maps", "keep_model", "again", "dry_run", "quiet", "as_json"),
}
"""Headings of the help -> parameters."""


@click.command(epilog=EPILOG, cls=Grouped, headings=HEADINGS)
@click.option(
    "--suite",
    metavar="NAME",
    shell_complete=completed("suites"),
    help="A named run definition; see bench ls suites. Other options override it.",
)
@click.option("--methods", metavar="M,..", shell_complete=completed("methods"), help="Methods; see bench ls methods.")
@click.option(
    "--datasets",
    metavar="D,..",
    shell_complete=completed("datasets"),
    help="Datasets, or folders of your own as ./DIR; mvtec+visa is one model over both. See bench ls datasets.",
)
@data_root_option()
@classes_option()
@click.option(
    "--setting",
    "settings",
    metavar="S,..",
    shell_complete=completed("settings"),
    help="multi (one model for all classes; on semantic sets one a half-split), single (one a class), few-shot or "
    "few-shot-single (the same from --shots images a class), noisy (as multi, a --rate of the images anomalous).",
)
@click.option("--splits", metavar="A,..", help="Only these half-splits of semantic sets (default: all).")
@click.option(
    "--shots",
    metavar="K",
    type=click.IntRange(min=1),
    help="Training images a class, for few-shot and few-shot-single.",
)
@click.option(
    "--rate", metavar="R", type=float, help="Share of anomalous training images, for noisy; taken from the test images."
)
@click.option("--overlap", is_flag=True, help="Test the anomalous training images of noisy, too.")
@click.option("--seeds", metavar="N,..", help="Seeds, for example 0,1,2 (default 0).")
@click.option(
    "--protocol",
    metavar="NAME",
    shell_complete=completed("protocols"),
    help="common (default) or paper; see bench ls protocols.",
)
@click.option("--encoder", metavar="NAME", help="Frozen encoder in place of the method's own.")
@weights_option()
@set_option()
@device_option()
@precision_option("Arithmetic of the trained part; tf32 also of the encoder.")
@results_option("Where records go and finished cells are looked for.")
@click.option(
    "--store",
    type=click.Choice(["auto", "device", "memory", "file", "none"]),
    default="auto",
    show_default=True,
    help="Where the encoder's features are kept for training; none recomputes them each step.",
)
@click.option("--store-budget", metavar="GIB", type=click.FloatRange(min=0), help="Most that stored features may take.")
@click.option(
    "--checkpoint-seconds",
    metavar="S",
    type=click.FloatRange(min=0),
    default=60.0,
    show_default=True,
    help="Time between checkpoints of a training.",
)
@click.option(
    "--calibrate",
    metavar="SHARE",
    type=click.FloatRange(min=0, max=1, min_open=True, max_open=True),
    help="Hold back this share of the normal training images, and set thresholds on them.",
)
@click.option("--shard", metavar="K/N", help="Run the K-th of N parts of the plan: one a shell, or a job of an array.")
@executor_options
@click.option("--keep-maps", is_flag=True, help="Keep the anomaly maps beside the record (npy, one file a class).")
@click.option("--keep-model", is_flag=True, help="Keep the trained model beside the record, for bench predict.")
@metrics_option()
@click.option("--again", is_flag=True, help="Run finished cells again; a record stays until there is a new one.")
@click.option("--compile", is_flag=True, help="Put the trained part through torch.compile, where that works.")
@click.option("--dry-run", is_flag=True, help="Check everything and print the plan, run nothing, fetch nothing.")
@quiet_option()
@json_option()
def run(
    suite: str | None,
    methods: str | None,
    datasets: str | None,
    data_roots: tuple[str, ...],
    classes: str | None,
    settings: str | None,
    splits: str | None,
    shots: int | None,
    rate: float | None,
    overlap: bool,
    seeds: str | None,
    protocol: str | None,
    encoder: str | None,
    weights: Path | None,
    pairs: tuple[str, ...],
    device: str,
    precision: str,
    results: Path,
    store: str,
    store_budget: float | None,
    checkpoint_seconds: float,
    calibrate: float | None,
    shard: str | None,
    wanted: ExecutorRequest,
    keep_maps: bool,
    keep_model: bool,
    metrics: tuple[str, ...],
    again: bool,
    compile: bool,
    dry_run: bool,
    quiet: bool,
    as_json: bool,
) -> int:
    """Run methods on datasets and record the scores.

    Each cell (method x dataset x setting x seed) trains once, is scored on the last checkpoint and becomes one JSON
    record in the results folder. The plan comes first, a table follows each cell; where a setting makes several models
    of a dataset, each is a cell of its own and their table comes at the end.
    """
    from bench.config import parse_set
    from bench.machine.terminal import TerminalProgress, console
    from bench.plan import request as requests
    from bench.plan.shard import Shard
    from bench.run.executors import choice

    request = requests.of(
        suite,
        methods=names(methods),
        datasets=names(datasets),
        settings=names(settings),
        seeds=_numbers(seeds),
        protocol=protocol,
        classes=names(classes),
        splits=names(splits),
        shots=shots,
        rate=rate,
        overlap=overlap,
        encoder=encoder,
        given=lambda chosen: parse_set(pairs, chosen),
        data_roots=data_roots,
        weights=weights,
        precision=precision,
        metrics=metrics,
        calibrate=calibrate,
    )
    part = None if shard is None else Shard.parse(shard)
    # a mistake is said before torch is loaded, which takes seconds
    choice.check(wanted, device)
    requests.check(request)
    out = console()
    progress = TerminalProgress.of(quiet)
    found = requests.sources(request, progress.say)
    progress.say("loading torch")

    from bench.machine import devices
    from bench.run.cell import Options

    executor = choice.choose(wanted, device)
    options = Options(
        results=results,
        # elsewhere each worker looks for itself
        device=devices.choose(device if wanted.executor == "local" else "cpu"),
        store=cast("Place", store),
        store_budget_gib=store_budget,
        checkpoint_seconds=checkpoint_seconds,
        keep_maps=keep_maps,
        keep_model=keep_model,
        compile=compile,
        command=("bench", *sys.argv[1:]),
    )

    from bench.cli import cells
    from bench.run import sweep

    planned = sweep.prepare(request, options, progress, found, again=again, fetch=not dry_run, shard=part)
    if not (quiet or as_json):
        cells.print_plan(planned, out, options, executor.devices_at_once)
    code = 0
    if not dry_run:
        code = carry_out(planned, options, executor, progress, None if as_json else out)
    if as_json:
        print_json(cells=[cells.facts(item, results) for item in planned], exit_code=code)
    elif not quiet and click.get_current_context().parent is not None:
        # called by the user, and not by bench check
        suggest_next(planned, options, dry_run, code, executor.detached)
    return code


def suggest_next(planned: list[Planned], options: Options, dry_run: bool, code: int, detached: bool = False) -> None:
    """Print which command comes next after a run that ended with `code`."""
    results = options.results
    if dry_run:
        suggest("the same command without --dry-run")
    elif detached and any(item.todo for item in planned):
        suggest("the same command without --detach waits for the jobs; bench report shows what has ended")
    elif code:
        suggest("the same command again, when the cause is mended: finished cells are kept")
    elif options.keep_model and planned:
        suggest(f"bench predict {quoted(planned[0].cell.path(results))} IMAGES")
    else:
        suggest_report(results)


def carry_out(
    planned: list[Planned], options: Options, executor: Executor, progress: Progress, out: Console | None
) -> int:
    """Run what is to be done, print each table as it comes, and return the exit code."""
    from bench.cli import cells
    from bench.cli.terminal import print_row
    from bench.run import sweep
    from bench.store.rows import rows

    def show(record: Record, item: Planned) -> None:
        if out is not None:
            cells.print_record(record, item, options.results, out)

    for item in planned:
        # of what was done before, parts are only in the tables at the end
        if not item.todo and item.record is not None and not item.record.cell.part:
            show(item.record, item)
    known = {item.cell.fingerprint: item.record for item in planned}

    def finished(item: Planned, record: Record) -> None:
        known[item.cell.fingerprint] = record
        show(record, item)

    code = sweep.run(planned, options, progress, finished, executor)
    for row in rows(record for record in known.values() if record is not None and record.cell.part):
        if out is not None:
            print_row(row, out)
    return code


def _numbers(text: str | None) -> tuple[int, ...]:
    try:
        return tuple(int(part) for part in names(text))
    except ValueError:
        raise UsageError(f"--seeds '{text}': expected whole numbers, for example 0,1,2") from None
