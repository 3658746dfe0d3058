"""`bench data audit`: what the images themselves make doubtful about scores."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

import click

from bench.cli.completing import completed
from bench.cli.echo import print_json
from bench.cli.options import PATH, device_option, json_option, names, results_option
from bench.words import counted

if TYPE_CHECKING:
    from rich.console import Console

    from bench.api import Dataset
    from bench.audit.audit import Audit
    from bench.store.record import Record

SHOWN = 20
"""Findings of one kind that the table lists."""
EPILOG = """\b
Examples:
  bench data audit mvtec --root /data/mvtec --classes bottle,screw
  bench data audit mvtec --root /data/mvtec --results results/runs --json
"""


@click.command(short_help="Find images that make scores doubtful.", epilog=EPILOG)
@click.argument("name", shell_complete=completed("datasets"))
@click.option("--root", type=PATH, metavar="DIR", help="As bench data verify has it.")
@click.option("--classes", metavar="C,..", help="Only these classes (default: all).")
@results_option("Records whose per-image scores are looked at.")
@click.option(
    "--size",
    metavar="N",
    type=click.IntRange(min=8),
    default=256,
    show_default=True,
    help="Side at which masks are evaluated, in pixels.",
)
@device_option()
@json_option()
def audit(
    name: str,
    root: Path | None,
    classes: str | None,
    results: Path,
    size: int,
    device: str,
    as_json: bool,
) -> None:
    """Look in dataset NAME for what makes scores on it doubtful, and say what scores are without it.

    Test images whose picture was trained on, exactly or nearly; defects of which nothing is left at the evaluation
    size; classes that a plain cue separates; images that every recorded method gets wrong.
    """
    from bench.audit.audit import Audited
    from bench.audit.audit import audit as look
    from bench.cli.datasets import open_dataset, reading
    from bench.machine import devices
    from bench.machine.terminal import console
    from bench.store.evidence import EvidenceFiles

    dataset = open_dataset(name, root)
    records = _records(results, dataset)
    asked = Audited(
        *(dataset, names(classes), size, records),
        evidence=EvidenceFiles([results]),
        device=devices.choose(device),
    )
    with reading("reading") as progress:
        found = look(asked, progress)
    if as_json:
        print_json(
            dataset=name,
            root=str(dataset.root),
            disputes=[asdict(one) for one in found.disputes],
            scores=[asdict(one) for one in found.scores],
            notes=list(found.notes),
        )
        return
    _tell(console(), found)


def _records(results: Path, dataset: Dataset) -> list[Record]:
    """Return the finished records of a dataset; one's own folder is called by its name there."""
    from bench import own
    from bench.names import composed
    from bench.store.folder import find

    name = dataset.card.name
    known = {name, composed(dataset.root.resolve().name)} if name == own.READER else {name}
    found = find([results]).records.values() if results.exists() else ()
    return [one for one in found if one.status == "done" and one.cell.dataset in known]


def _tell(out: Console, found: Audit) -> None:
    from rich import box
    from rich.table import Table
    from rich.text import Text

    from bench.audit.dispute import KINDS

    table = Table(box=box.SIMPLE_HEAD)
    for column in ("finding", "class", "image", "what was found"):
        table.add_column(column, overflow="fold")
    kinds = dict.fromkeys(one.kind for one in found.disputes)
    for kind in kinds:
        for one in [one for one in found.disputes if one.kind == kind][:SHOWN]:
            table.add_row(one.kind, Text(one.cls), Text(one.image or "all"), Text(one.text))
    if kinds:
        out.print(table)
    for kind in kinds:
        count = sum(one.kind == kind for one in found.disputes)
        more = f", {SHOWN} of them shown, --json has all" if count > SHOWN else ""
        out.print(f"{kind} ({count}{more}): {KINDS[kind]}", highlight=False, soft_wrap=True)
    if found.scores:
        scores = Table(box=box.SIMPLE_HEAD, title="image AUROC", title_justify="left")
        scores.add_column("method")
        for column in ("records", "all images", "without disputed by data", "also without always wrong"):
            scores.add_column(column, justify="right")
        for row in found.scores:
            values = (row.every, row.without_data, row.without_all)
            shown = ("–" if value is None else f"{100 * value:.1f}" for value in values)
            scores.add_row(Text(row.method), str(row.records), *shown)
        out.print(scores)
    for note in found.notes:
        out.print(note, markup=False, highlight=False, soft_wrap=True)
    images = len({one.image for one in found.disputes if one.image})
    out.print(f"{counted(images, 'image')} disputed", highlight=False)
