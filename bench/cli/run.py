"""`bench run`: methods x datasets x settings x seeds, planned, run, recorded, tabled."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING

import click

from bench.errors import UsageError

if TYPE_CHECKING:
    import torch
    from rich.console import Console

    from bench.run.plan import Planned, Request

EPILOG = """\b
Examples:
  bench run --suite demo
  bench run --methods dinomaly --datasets mvtec --data-root /data --classes bottle,screw
  bench run --methods dinomaly --datasets folder --data-root my_images --encoder vit_tiny_patch8_128.bench
  bench run --methods dinomaly --datasets mvtec --data-root /data --seeds 0,1,2 --set dinomaly.steps=2000 --dry-run

Finished cells are skipped; an interrupted one goes on from its checkpoint.
Exit code: 0 all cells done, 1 a cell failed, 2 something given was wrong.
"""


@click.command(epilog=EPILOG)
@click.option("--suite", metavar="NAME", help="A named run definition; see bench ls suites. Other options override it.")
@click.option("--methods", metavar="M,..", help="Methods; see bench ls methods.")
@click.option("--datasets", metavar="D,..", help="Datasets; see bench ls datasets.")
@click.option(
    "--data-root", "data_roots", metavar="DIR", multiple=True, help="Folder of the data; name=DIR for one dataset."
)
@click.option("--classes", metavar="C,..", help="Only these classes (default: all).")
@click.option("--setting", "settings", metavar="S,..", help="multi (one model for all classes).")
@click.option("--seeds", metavar="N,..", help="Seeds, for example 0,1,2 (default 0).")
@click.option("--protocol", metavar="NAME", help="common (default) or paper; see bench ls protocols.")
@click.option("--encoder", metavar="NAME", help="Frozen encoder in place of the method's own.")
@click.option(
    "--weights",
    metavar="DIR",
    type=click.Path(path_type=Path),
    envvar="BENCH_WEIGHTS",
    show_envvar=True,
    help="Folder of safetensors files.",
)
@click.option("--set", "pairs", metavar="METHOD.KEY=VALUE", multiple=True, help="Change a setting of a method.")
@click.option("--device", metavar="DEV", default="auto", show_default=True, help="auto, cpu, cuda or cuda:N.")
@click.option(
    "--precision",
    type=click.Choice(["fp32", "tf32", "bf16"]),
    default="fp32",
    show_default=True,
    help="Arithmetic of the trained part; tf32 also of the encoder.",
)
@click.option(
    "--results",
    metavar="DIR",
    type=click.Path(path_type=Path),
    default=Path("results/runs"),
    show_default=True,
    help="Where records go and finished cells are looked for.",
)
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
@click.option("--keep-maps", is_flag=True, help="Keep the anomaly maps beside the record (npy, one file a class).")
@click.option("--dry-run", is_flag=True, help="Check everything and print the plan, run nothing.")
def run(
    suite: str | None,
    methods: str | None,
    datasets: str | None,
    data_roots: tuple[str, ...],
    classes: str | None,
    settings: str | None,
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
    keep_maps: bool,
    dry_run: bool,
) -> int:
    """Run methods on datasets and record the scores.

    Each cell (method x dataset x setting x seed) trains once, is scored on the last checkpoint and becomes one JSON
    record in the results folder. The plan comes first; a table follows each cell.
    """
    from bench.config import Suite, load_suite, merge, parse_set

    base = load_suite(suite) if suite else None
    if base is None:
        if not (_names(methods) and _names(datasets)):
            raise UsageError("nothing to run: give --methods and --datasets, or --suite. See: bench run --help")
        base = Suite(title="", methods=_names(methods), datasets=_names(datasets))
    chosen = _names(methods) or base.methods
    given = parse_set(pairs)
    for method in given:
        if method not in chosen:
            raise UsageError(f"--set names '{method}', but the run has only: {', '.join(chosen)}")
    overrides = merge(base.set, given)

    from bench.run.plan import Request

    request = Request(
        methods=chosen,
        datasets=_names(datasets) or base.datasets,
        settings=_names(settings) or base.settings,
        seeds=_numbers(seeds) or base.seeds,
        protocol=protocol or base.protocol,
        classes=_names(classes),
        encoder=encoder or base.encoder,
        set=overrides,
        data_roots=data_roots,
        weights=weights,
        precision=precision,
    )
    return _run(
        request,
        device=_device(device),
        results=results,
        store=store,
        store_budget=store_budget,
        checkpoint_seconds=checkpoint_seconds,
        keep_maps=keep_maps,
        dry_run=dry_run,
    )


def _run(
    request: Request,
    *,
    device: torch.device,
    results: Path,
    store: str,
    store_budget: float | None,
    checkpoint_seconds: float,
    keep_maps: bool,
    dry_run: bool,
) -> int:
    from typing import cast

    from bench.cli.terminal import TerminalProgress, console
    from bench.run import sweep
    from bench.run.cell import Options
    from bench.run.feature_store import Place
    from bench.run.plan import expand, look_up
    from bench.store.record import Record

    out = console()
    progress = TerminalProgress(out)
    planned = look_up(expand(request, progress), results, progress.say)
    _print_plan(planned, out, device, results)
    if dry_run:
        return 0
    for item in planned:
        if item.state == "done" and item.record is not None:
            _print_record(item.record, item.cell.path(results), out)

    def finished(item: Planned, record: Record) -> None:
        _print_record(record, item.cell.path(results), out)

    options = Options(
        results=results,
        device=device,
        store=cast("Place", store),
        store_budget_gib=store_budget,
        checkpoint_seconds=checkpoint_seconds,
        keep_maps=keep_maps,
        command=("bench", *sys.argv[1:]),
    )
    return sweep.run(planned, options, progress, finished)


def _print_plan(planned: list[Planned], out: Console, device: torch.device, results: Path) -> None:
    from rich.table import Table

    from bench.cli.terminal import duration
    from bench.run.estimate import estimate

    table = Table(box=None, pad_edge=False, header_style="bold")
    for column in ("cell", "classes", "train", "test", "steps", "encoder", "state", "time"):
        table.add_column(column, justify="right" if column in ("classes", "train", "test", "steps", "time") else "left")
    total = 0.0
    for item in planned:
        cell = item.cell
        expected = estimate(item, results, device) if item.state != "done" else None
        total += expected.seconds if expected else 0.0
        table.add_row(
            cell.name,
            str(len(cell.task.classes)),
            str(len(cell.task.train)),
            str(len(cell.task.test)),
            str(cell.method.config.steps),
            f"{cell.encoder.name} @ {cell.encoder.input_size}",
            item.state,
            f"{'' if expected.measured else '~'}{duration(expected.seconds)}" if expected else "–",
        )
    out.print(table, highlight=False)
    left = sum(item.state != "done" for item in planned)
    guess = f", about {duration(total)} on {device} (~ is counted from MACs, not measured)" if left else ""
    out.print(f"{len(planned)} cells: {left} to do, {len(planned) - left} done{guess}", highlight=False)


def _print_record(record: object, path: Path, out: Console) -> None:
    from bench.cli.terminal import duration, footnotes, score_table
    from bench.store.record import Record

    assert isinstance(record, Record)
    if record.error is not None:
        last = (record.error.message.strip() or record.error.type).splitlines()[-1]
        out.print(f"FAILED  {record.cell.method} on {record.cell.dataset}: {last}", highlight=False, markup=False)
        out.print(f"record  {path}", highlight=False, markup=False, soft_wrap=True)
        return
    out.print(score_table(record))
    for note in footnotes(record):
        out.print(note, highlight=False, markup=False)
    if record.efficiency is not None:
        spent = ", ".join(f"{name} {duration(value)}" for name, value in record.efficiency.seconds.items())
        out.print(f"time    {spent}", highlight=False, markup=False)
    out.print(f"record  {path}", highlight=False, markup=False, soft_wrap=True)


def _names(text: str | None) -> tuple[str, ...]:
    return tuple(dict.fromkeys(part.strip() for part in (text or "").split(",") if part.strip()))


def _numbers(text: str | None) -> tuple[int, ...]:
    try:
        numbers = tuple(int(part) for part in _names(text))
    except ValueError:
        raise UsageError(f"--seeds '{text}': expected whole numbers, for example 0,1,2") from None
    if any(not 0 <= number < 2**63 for number in numbers):
        raise UsageError(f"--seeds '{text}': expected numbers from 0 to 2^63 - 1")
    return numbers


def _device(name: str) -> torch.device:
    import torch

    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        device = torch.device(name)
    except RuntimeError:
        raise UsageError(f"--device '{name}': expected auto, cpu, cuda or cuda:N") from None
    if device.type not in ("cpu", "cuda"):
        raise UsageError(f"--device '{name}': expected auto, cpu, cuda or cuda:N")
    if device.type == "cuda" and not torch.cuda.is_available():
        raise UsageError(f"--device {name}: torch {torch.__version__} sees no CUDA device here. Use --device cpu")
    if device.index is not None and device.type == "cuda" and device.index >= torch.cuda.device_count():
        raise UsageError(f"--device {name}: there are {torch.cuda.device_count()} CUDA devices, counted from 0")
    return device
