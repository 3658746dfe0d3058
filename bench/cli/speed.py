"""`bench speed`: how fast every method is, beside the plain way, and what the full matrix would cost."""

from __future__ import annotations

import sys
import tempfile
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

import click

from bench.cli.options import (
    PATH,
    device_option,
    names,
    precision_option,
    set_option,
    weights_option,
)
from bench.errors import UsageError
from bench.speed.record import BASELINES, RESULTS

if TYPE_CHECKING:
    from bench.report.tables.table import Table
    from bench.speed.generated import Files
    from bench.speed.prepare import Plan
    from bench.speed.record import MethodSpeed, SpeedRecord

EPILOG = """\b
Examples:
  bench speed --workload small
  bench speed --methods dinomaly --workload mvtec --seconds 120 --again
  bench speed --device cuda --precision bf16 --whole --record
  bench speed --scaling --out docs/scaling.md

Images are generated, and an encoder whose weights are not at hand gets random ones: speed depends on neither. Our way
and the plain way (images decoded and features computed again in every step, eager, full precision, every loss waited
for) run in turns, so that their ratio holds on a busy machine. What does not fit the time is extrapolated, and said so.
"""


@click.command(epilog=EPILOG)
@click.option("--methods", metavar="M,..", help="Methods (default: all); see bench ls methods.")
@click.option(
    "--workload",
    "workload_name",
    type=click.Choice(["mvtec", "realiad", "small"]),
    default="mvtec",
    show_default=True,
    help="Whose numbers of images and steps.",
)
@device_option()
@precision_option("Arithmetic of our way; the plain way is fp32.")
@click.option("--encoder", metavar="NAME", help="Frozen encoder in place of the methods' own.")
@weights_option()
@set_option()
@click.option(
    "--seconds",
    metavar="S",
    type=click.FloatRange(min=0, min_open=True),
    default=60.0,
    show_default=True,
    help="For the training blocks of a method, all ways together; a quarter of it for inference. Four rounds at least.",
)
@click.option(
    "--rounds",
    metavar="N",
    type=click.IntRange(min=2),
    default=5,
    show_default=True,
    help="Timed blocks of each way, more where a step takes long.",
)
@click.option("--again", is_flag=True, help="Time our way without kept features (--store none) as well.")
@click.option(
    "--variants",
    metavar="V,..",
    help="Time our way otherwise as well: fp32, tf32 or bf16, then +compile, then +again; or all.",
)
@click.option(
    "--compile", is_flag=True, help="Put the trained part through torch.compile, as bench run --compile does."
)
@click.option("--whole", is_flag=True, help="Also run a whole cell, end to end: minutes on a GPU, days on a CPU.")
@click.option("--record", is_flag=True, help="Keep the record in results/baselines/speed, where it is compared with.")
@click.option(
    "--results",
    metavar="DIR",
    type=PATH,
    default=RESULTS,
    show_default=True,
    help="Where the record goes.",
)
@click.option("--scaling", is_flag=True, help="Measure nothing: cost of the full matrix from the records there are.")
@click.option(
    "--assume-tflops", metavar="X", type=click.FloatRange(min=0, min_open=True), help="With --scaling: also project."
)
@click.option("--out", metavar="FILE", type=PATH, help="With --scaling: write a Markdown page.")
def speed(
    methods: str | None,
    workload_name: str,
    device: str,
    precision: str,
    encoder: str | None,
    weights: Path | None,
    pairs: tuple[str, ...],
    seconds: float,
    rounds: int,
    again: bool,
    variants: str | None,
    compile: bool,
    whole: bool,
    record: bool,
    results: Path,
    scaling: bool,
    assume_tflops: float | None,
    out: Path | None,
) -> None:
    """Time every method on a workload of the real size, in turns with the plain way, and record it.

    Steps and images a second, memory, the share of each phase, and how far each stage is from what the device's
    measured matrix and memory rates allow. bench report tables the records.
    """
    if scaling:
        _scaling([results, BASELINES], assume_tflops, out)
        return
    if out is not None or assume_tflops is not None:
        raise UsageError("--out and --assume-tflops belong to --scaling. See: bench speed --help")
    from bench.config import parse_set
    from bench.machine import devices
    from bench.registry import METHODS
    from bench.speed.generated import files
    from bench.speed.ours import variants as by_name
    from bench.speed.prepare import Plan
    from bench.speed.workload import workload

    chosen = names(methods) or tuple(METHODS.names())
    for name in chosen:
        METHODS.load(name)
    varied, work = by_name(names(variants)), workload(workload_name)
    with tempfile.TemporaryDirectory(prefix="bench-speed-") as folder:
        plan = Plan(
            workload=work,
            device=devices.choose(device),
            folder=Path(folder),
            precision=precision,
            encoder=encoder,
            weights=weights,
            settings=parse_set(pairs, chosen),
            seconds=seconds,
            rounds=rounds,
            again=again,
            compile=compile,
            variants=varied,
        )
        _say(f"generating images of {work.side} px for workload {work.name}")
        made = files(plan.folder / "images", work.side, work.suffix)
        _measure(plan, chosen, made, whole, [results, *([BASELINES] if record else [])])


def _measure(plan: Plan, methods: Sequence[str], made: Files, whole: bool, folders: Sequence[Path]) -> None:
    """Measure method by method, writing after each step: what was measured stays when what follows is interrupted."""
    from bench.machine.terminal import TerminalProgress, console
    from bench.speed import measure, tables
    from bench.speed.whole import whole as whole_cell

    found: dict[str, MethodSpeed] = {}
    latest = _record(plan, made, found)
    for folder in folders:
        _joined(latest, folder / latest.file)  # one that cannot be read is refused before anything is measured
    for name in methods:
        found[name] = measure.measure(plan, name, made, _say)
        latest = _write(_record(plan, made, found), folders)
        if whole:
            _say(f"{name}: a whole cell, {plan.workload.train:,} training and {plan.workload.test:,} test images")
            listener = TerminalProgress(console(stderr=True))
            found[name] = whole_cell(plan, name, found[name], made, listener)
            latest = _write(_record(plan, made, found), folders)
    _print(tables.tables([latest]))
    for folder in folders:
        click.echo(f"record  {folder / latest.file}")


def _write(fresh: SpeedRecord, folders: Sequence[Path]) -> SpeedRecord:
    """Write a record into folders, joined with what lies there, and return the last one as it was written."""
    from bench.speed import record

    latest = fresh
    for folder in folders:
        latest = _joined(fresh, folder / fresh.file)
        record.write(latest, folder / fresh.file)
    return latest


def _joined(fresh: SpeedRecord, path: Path) -> SpeedRecord:
    """Return a record with the methods that the one at `path`, if there is one, has beside it."""
    from bench.speed import record

    return record.merged(record.read(path) if path.is_file() else None, fresh)


def _record(plan: Plan, made: Files, methods: dict[str, MethodSpeed]) -> SpeedRecord:
    import torch

    from bench.machine import timing
    from bench.machine.rates import matrix_rate, memory_rate
    from bench.speed.record import DeviceRates, SpeedRecord, WorkloadFacts
    from bench.store.provenance import environment

    work = plan.workload
    precisions = dict.fromkeys(["fp32", plan.precision, *(one.precision for one in plan.variants)])
    return SpeedRecord(
        created=datetime.now(UTC).isoformat(timespec="seconds"),
        command=("bench", *sys.argv[1:]),
        environment=environment(timing.describe(plan.device), plan.precision, torch.get_num_threads()),
        rates=DeviceRates(
            matrix_flops={name: matrix_rate(plan.device, name) for name in precisions},
            memory_bytes=memory_rate(plan.device),
        ),
        workload=WorkloadFacts(
            name=work.name,
            train=work.train,
            test=work.test,
            classes=len(work.counts),
            side=work.side,
            mean_file_bytes=made.mean_bytes,
            files=len(made.images),
            assumptions=work.assumptions,
        ),
        methods=methods,
    )


def _scaling(folders: Sequence[Path], assume_tflops: float | None, out: Path | None) -> None:
    from bench.files import atomic
    from bench.report.formats.markdown import document
    from bench.speed.record import find
    from bench.speed.scaling import table

    records = [one for one in find(folders) if one.workload.name == "mvtec"]
    if not records:
        where = " or ".join(map(str, folders))
        raise UsageError(
            f"no speed record of the workload mvtec in {where}. Make one with: bench speed --workload mvtec"
        )
    made = table(records, assumed_tflops=assume_tflops)
    if out is None:
        _print([made])
        return
    options = f" --assume-tflops {assume_tflops:g}" if assume_tflops is not None else ""
    command = f"bench speed --scaling{options} --out {out}"
    page = document("Scaling", [made]).replace("\n\n", f"\n\nMade by `{command}` from speed records alone.\n\n", 1)
    with atomic(out, durable=False) as file:
        file.write(page.encode())
    click.echo(f"wrote {out}")


def _print(tables: Sequence[Table]) -> None:
    from bench.cli.grid import grids
    from bench.machine.terminal import console

    out = console()
    for one in tables:
        for piece in grids(one):
            out.print(piece, highlight=False)
    sys.stdout.flush()


def _say(text: str) -> None:
    click.echo(text, err=True)
