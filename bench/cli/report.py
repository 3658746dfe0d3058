"""`bench report`: records and published scores as tables."""

from __future__ import annotations

import gc
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import click

from bench.cli.completing import completed
from bench.cli.echo import echo, quoted, suggest
from bench.cli.options import PATH, RESULTS, data_root_option, names
from bench.errors import UsageError
from bench.registry import did_you_mean
from bench.words import counted

if TYPE_CHECKING:
    from bench.report.table import Table

EPILOG = """\b
Examples:
  bench report
  bench report --suite dinomaly-table1 --format latex,markdown
  bench report --methods dinomaly,vitad --datasets mvtec --out paper/tables
  bench report --datasets mvtec --classes bottle,screw
  bench report --tables overview-multi --format latex --cite all --notes none --caption "Ours beside the papers'."
  bench report --tables classes-mvtec-multi --layout triples --format latex,markdown
  bench report --results results/baselines --no-published --format csv

Nothing is run: what has no record is a dash. Best is bold and second best underlined where three or more compare.
"""


@contextmanager
def _uncollected() -> Iterator[None]:
    """Leave garbage alone: all that is read is kept to the end, and looking through it takes a fifth of the time."""
    gc.disable()
    try:
        yield
    finally:
        gc.enable()


@click.command(epilog=EPILOG)
@click.option(
    "--results",
    "folders",
    metavar="DIR",
    type=PATH,
    multiple=True,
    default=(RESULTS,),
    help="Where records are looked for, subfolders included; may be repeated. [default: results/runs]",
)
@click.option("--suite", "suite_name", metavar="NAME", help="The table of a suite alone; see bench ls suites.")
@click.option("--format", "formats", metavar="F,..", help="Some of html, figures, latex, markdown, csv, parquet.")
@click.option(
    "--out",
    metavar="DIR",
    type=PATH,
    default=Path("reports"),
    show_default=True,
    help="Where the files go; those of a suite into a folder of its name.",
)
@data_root_option("Folder of images for the gallery; name=DIR for one.")
@click.option(
    "--methods",
    metavar="M,..",
    shell_complete=completed("methods"),
    help="Only these methods, published ones included.",
)
@click.option("--datasets", metavar="D,..", shell_complete=completed("datasets"), help="Only these datasets.")
@click.option("--classes", metavar="C,..", help="Means over these classes alone, published ones recomputed.")
@click.option("--published/--no-published", default=True, show_default=True, help="Rows that papers print.")
@click.option(
    "--decimals",
    metavar="N",
    type=click.IntRange(0, 6),
    help="Decimals of percentages (default: 1, of a suite as many as its paper prints).",
)
@click.option("--tables", metavar="T,..", help="Only these tables, by the names of their files.")
@click.option("--metrics", metavar="M,..", help="Only these columns, in this order: I-AUROC,P-AP,AUPRO or ids.")
@click.option(
    "--layout",
    type=click.Choice(["columns", "triples"]),
    default="columns",
    show_default=True,
    help="A column a metric, or one a level as papers print them: 99.6/99.8/99.0.",
)
@click.option(
    "--notes",
    type=click.Choice(["each", "once", "none"]),
    default="each",
    show_default=True,
    help="Notes of LaTeX and Markdown: under each table, once for all, or nowhere.",
)
@click.option("--caption", metavar="TEXT", help="Caption of the one table in LaTeX, taken as it is.")
@click.option("--label", metavar="KEY", help="Label of the one table in LaTeX.")
@click.option(
    "--cite",
    metavar="M=KEY",
    multiple=True,
    help="Cite a method by its key of BibTeX, or all by their own; writes references.bib. May be repeated.",
)
@_uncollected()
def report(
    folders: tuple[Path, ...],
    suite_name: str | None,
    formats: str | None,
    out: Path,
    data_roots: tuple[str, ...],
    methods: str | None,
    datasets: str | None,
    classes: str | None,
    published: bool,
    decimals: int | None,
    tables: str | None,
    metrics: str | None,
    layout: str,
    notes: Literal["each", "once", "none"],
    caption: str | None,
    label: str | None,
    cite: tuple[str, ...],
) -> None:
    """Make tables of the recorded scores, with what papers print beside them.

    Datasets by methods, classes, half-splits, seeds and costs: whatever the records fill, as LaTeX for papers, as
    Markdown and CSV, and one file of all numbers for your own plots.
    """
    from bench.config import load_suite
    from bench.report import arrange, build, collect, suite, tidy
    from bench.report.write import FORMATS, Report, write

    wanted = _known(formats, FORMATS, "format") or tuple(FORMATS)
    chosen = load_suite(suite_name) if suite_name else None
    only_methods, only_datasets = names(methods), names(datasets)
    if chosen is not None and only_datasets:
        chosen = chosen.model_copy(update={"datasets": _known(datasets, chosen.datasets, "dataset of the suite")})
    found = collect.read(_folders(folders, chosen is not None), _say, only_methods, only_datasets)
    records = tuple(record for record in found if chosen is None or suite.belongs(record, chosen))
    only_metrics = arrange.metrics(names(metrics), records)
    if chosen is None:
        speeds = _speeds(folders, only_methods)
        if not records and not speeds:
            where = ", ".join(map(str, folders))
            asked = " of these methods and datasets" if only_methods or only_datasets else ""
            raise UsageError(f"no finished record{asked} to report in {where}. Make some with: bench run --suite demo")
        places = 1 if decimals is None else decimals
        made = build.tables(
            records,
            methods=only_methods,
            classes=names(classes),
            metrics=only_metrics,
            published=published,
            decimals=places,
            say=_say,
        )
        made += speeds
    else:
        made = suite.tables(
            str(suite_name),
            chosen,
            records,
            methods=only_methods,
            classes=names(classes),
            metrics=only_metrics,
            published=published,
            decimals=decimals,
            say=_say,
        )
        out = out / str(suite_name)
    sets = only_datasets or (chosen.datasets if chosen else tuple(dict.fromkeys(one.cell.dataset for one in records)))
    if only_metrics:
        made = [part for table in made if (part := arrange.of_metrics(table, only_metrics)) is not None]
    if layout == "triples":
        made = [arrange.triples(table) for table in made]
    made = arrange.named(made, names(tables))
    whole = Report(
        title=chosen.title if chosen else "bench report",
        tables=tuple(made),
        style=arrange.style(made, notes, caption, label, cite),
        records=records,
        published=tidy.chosen(only_methods, sets) if published else (),
        folders=folders,
        data_roots=data_roots,
        say=_say,
    )
    files = write(whole, wanted, out)
    counts = (counted(len(records), "record"), counted(len(made), "table"), counted(len(files), "file"))
    click.echo(f"{', '.join(counts)} in {out}")
    if page := next((file for file in files if file.suffix == ".html"), None):
        suggest(f"open {quoted(page)}")


def _folders(folders: Iterable[Path], may_be_absent: bool) -> list[Path]:
    """Return the folders that exist; a suite's table may be made before anything was run."""
    found = [folder for folder in folders if folder.is_dir()]
    if not found and not may_be_absent:
        raise UsageError(
            f"no folder {', '.join(map(str, folders))} with records. "
            "Expected --results as bench run has it, or make some with: bench run --suite demo"
        )
    return found


def _speeds(folders: Iterable[Path], methods: Sequence[str]) -> list[Table]:
    """Return the tables of the speed records in results/speed, and in folders of that name below those given."""
    from bench.speed import record, tables

    found = record.find([record.RESULTS, *folders])
    return tables.tables([one for one in (record.only(one, methods) for one in found) if one.methods])


def _known(text: str | None, known: Iterable[str], kind: str) -> tuple[str, ...]:
    for name in names(text):
        if name not in known:
            raise UsageError(f"unknown {kind} '{name}'.{did_you_mean(name, known)} Known: {', '.join(known)}")
    return names(text)


def _say(text: str) -> None:
    echo(text, err=True)
