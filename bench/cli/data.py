"""`bench data`: get a dataset, check its files, and look at them."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

import click

from bench.cli.audit import audit
from bench.cli.completing import completed
from bench.cli.datasets import open_dataset, reading
from bench.cli.echo import print_json, quoted, suggest
from bench.cli.get import get
from bench.cli.options import PATH, classes_option, json_option, names
from bench.cli.subcommands import Subcommands
from bench.words import counted

if TYPE_CHECKING:
    from rich.console import Console
    from rich.table import Table

    from bench.api import Card, Counts, Dataset, Finding, Verification

_SHOWN = 20
"""Findings of one kind that are listed without --all."""

_root = click.option(
    "--root",
    type=PATH,
    metavar="DIR",
    help="The dataset's folder, or the folder that holds it. Not needed for 'demo', which is generated.",
)
_classes = classes_option("Only these classes, in this order")


@click.group(cls=Subcommands, epilog="\b\nExample:\n  bench data verify mvtec --root /data/mvtec")
def data() -> None:
    """Get a dataset, check its files, or look at them."""


data.add_command(get)
data.add_command(audit)


@data.command(
    short_help="Read every file and report every defect.",
    epilog="\b\nExample:\n  bench data verify mvtec --root /data/mvtec",
)
@click.argument("name", shell_complete=completed("datasets"))
@_root
@click.option("--all", "everything", is_flag=True, help=f"List every finding, not only {_SHOWN} of a kind.")
@json_option()
@click.pass_context
def verify(context: click.Context, name: str, root: Path | None, everything: bool, as_json: bool) -> None:
    """Read every file of dataset NAME, or of your own folder ./NAME, and report every defect.

    The numbers of images are compared with the published ones, and every image and mask is decoded in full. Masks must
    fit their images and not be empty, and no picture may be in two splits, or called two things. The exit code is 1
    where anything is wrong.
    """
    from bench import own
    from bench.curate.verify import verify as check
    from bench.machine.terminal import console

    out = console()
    dataset = open_dataset(name, root)
    with reading("reading") as progress:
        report = check(dataset, progress)
    if as_json:
        print_json(
            dataset=name,
            root=str(dataset.root),
            clean=not report.findings,
            classes={cls: asdict(counts) for cls, counts in report.seen.items()},
            notes=[list(note) for note in dataset.notes],
            findings=[asdict(finding) for finding in report.findings],
        )
        context.exit(1 if report.findings else 0)
    published = " / published" if dataset.card.counts else ""
    out.print(f"{dataset.card.title}: images found{published}", style="italic", markup=False, soft_wrap=True)
    out.print(_counts(dataset.card, report))
    absent = [cls for cls in dataset.card.classes if cls not in report.seen]
    if absent:
        out.print(f"not here: {', '.join(absent)}\n", highlight=False, soft_wrap=True)
    for cls, note in dataset.notes:
        out.print(f"{cls}: {note}\n", markup=False, highlight=False, soft_wrap=True)
    _list(out, report.findings, everything)
    out.print(_verdict(dataset, report), highlight=False, soft_wrap=True)
    if not report.findings:
        where = "" if name == "demo" or own.is_folder(name) else f" --data-root {quoted(dataset.root)}"
        suggest(f"bench run --methods METHOD --datasets {quoted(name)}{where}")
    context.exit(1 if report.findings else 0)


@data.command(
    short_help="Draw normal images and each defect type.",
    epilog="\b\nExample:\n  bench data sheet mvtec --root /data/mvtec --classes bottle,screw --out sheet.png",
)
@click.argument("name", shell_complete=completed("datasets"))
@_root
@_classes
@click.option("--out", type=PATH, metavar="FILE.png", help="Default: NAME-sheet.png")
def sheet(name: str, root: Path | None, classes: str | None, out: Path | None) -> None:
    """Draw a contact sheet of NAME: normal images, and each defect type with and without its mask."""
    from bench.curate.sheet import contact_sheet
    from bench.errors import UsageError

    target = out or Path(f"{Path(name).resolve().name}-sheet.png")
    if target.suffix.lower() != ".png":
        raise UsageError(f"--out {target}: the sheet is a PNG. Expected a name that ends in .png")
    dataset = open_dataset(name, root)
    with reading("drawing") as progress:
        image = contact_sheet(dataset, names(classes), progress=progress)
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        image.save(target)
    except OSError as error:
        raise UsageError(f"--out {target}: cannot be written ({error.strerror}). Expected a writable place") from error
    click.echo(f"wrote {target} ({image.width}x{image.height} pixels)")


@data.command(
    short_help="Find plain cues, such as light, that give the labels away.",
    epilog="\b\nExample:\n  bench data cues mvtec --root /data/mvtec --classes screw",
)
@click.argument("name", shell_complete=completed("datasets"))
@_root
@_classes
def cues(name: str, root: Path | None, classes: str | None) -> None:
    """Measure by how much brightness, contrast and sharpness alone tell the test images of NAME apart.

    A cue that does so raises every score of a method that sees it, or pushes it below chance where the normal test
    images are the ones that differ from the training images. Strong cues are marked.
    """
    from rich import box
    from rich.table import Table
    from rich.text import Text

    from bench.curate.cues import cues as measure
    from bench.machine.terminal import console

    dataset = open_dataset(name, root)
    with reading("reading") as progress:
        found = measure(dataset, names(classes), progress)
    table = Table(box=box.SIMPLE_HEAD)
    for column in ("class", "cue"):
        table.add_column(column)
    for column in ("AUROC", "AUROC of distance", "normal, sd", "anomalous, sd"):
        table.add_column(column, justify="right")
    for cue in found:
        shares = (f"{100 * cue.auroc:.1f}", f"{100 * cue.distance_auroc:.1f}")
        sides = (f"{cue.normal:+.2f}", f"{cue.anomalous:+.2f}")
        table.add_row(Text(cue.cls), cue.name, *shares, *sides, style="yellow" if cue.strong else None)
    out = console()
    out.print(table)
    strong = [f"{cue.cls} by {cue.name}" for cue in found if cue.strong]
    out.print(
        "distance: from the training images' mean; below 50, the normal test images are the ones that differ.\n"
        "sd: where normal and anomalous test images lie on average, in the training images' standard deviations.",
        highlight=False,
        soft_wrap=True,
    )
    out.print(f"strong: {', '.join(strong) or 'none'}", highlight=False, markup=False, soft_wrap=True)


def _counts(card: Card, report: Verification) -> Table:
    """Return the table of counts by class: found, and published where the owners say."""
    from rich import box
    from rich.markup import escape
    from rich.table import Table

    table = Table(box=box.SIMPLE_HEAD)
    table.add_column("class")
    parts = _parts(card, report)
    for column in (*parts.values(), "findings"):
        table.add_column(column, justify="right")
    for cls, seen in report.seen.items():
        own = sum(finding.cls == cls for finding in report.findings)
        verdict = f"[red]{own}[/]" if own else "[green]none[/]"
        table.add_row(escape(cls), *_against(parts, seen, card.counts.get(cls)), verdict)
    return table


def _parts(card: Card, report: Verification) -> dict[str, str]:
    """Return the columns: field of Counts -> heading. A semantic class is neither normal nor anomalous by itself."""
    if card.kind == "semantic":
        return {"train": "train", "good": "test"}
    parts = {"train": "train", "good": "test normal", "bad": "test anomalous"}
    if any(counts.val for counts in (*report.seen.values(), *card.counts.values())):
        parts["val"] = "validation"
    if any(counts.unlabelled for counts in (*report.seen.values(), *card.counts.values())):
        parts["unlabelled"] = "unlabelled"
    return parts


def _against(parts: Iterable[str], seen: Counts, expected: Counts | None) -> list[str]:
    cells = []
    for part in parts:
        found = getattr(seen, part)
        wanted = getattr(expected, part) if expected else None
        text = f"{found}" if wanted is None else f"{found} / {wanted}"
        cells.append(text if wanted in (None, found) else f"[red]{text}[/]")
    return cells


def _list(out: Console, findings: Sequence[Finding], everything: bool) -> None:
    kinds: dict[str, list[Finding]] = {}
    for finding in findings:
        kinds.setdefault(finding.kind, []).append(finding)
    for kind, found in kinds.items():
        out.print(f"[red]{kind}[/] ({len(found)})", highlight=False)
        shown = found if everything else found[:_SHOWN]
        for finding in shown:
            out.print(f"  {finding.text}", markup=False, highlight=False, soft_wrap=True)
        if len(shown) < len(found):
            out.print(f"  ... {len(found) - len(shown)} more; list them with --all", markup=False, highlight=False)
        out.print()


def _verdict(dataset: Dataset, report: Verification) -> str:
    from rich.markup import escape

    images = sum(counts.total for counts in report.seen.values())
    classes = counted(len(report.seen), "class", "classes")
    if len(dataset.card.classes) > len(report.seen):
        classes = f"{len(report.seen)} of {len(dataset.card.classes)} classes"
    where = f"{dataset.card.name} at {dataset.root}: {counted(images, 'image')} of {classes}"
    if not report.findings:
        return f"[green]clean[/]  {escape(where)}"
    return f"[red]{counted(len(report.findings), 'finding')}[/]  {escape(where)}"
