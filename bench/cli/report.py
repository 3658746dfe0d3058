"""`bench report`: records and published scores as tables."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

import click

from bench.cli.completing import completed
from bench.cli.echo import echo, quoted, suggest
from bench.cli.options import PATH, data_root_option, names
from bench.store import RESULTS
from bench.words import counted

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
    layout: Literal["columns", "triples"],
    notes: Literal["each", "once", "none"],
    caption: str | None,
    label: str | None,
    cite: tuple[str, ...],
) -> None:
    """Make tables of the recorded scores, with what papers print beside them.

    Datasets by methods, classes, half-splits, seeds and costs: whatever the records fill, as LaTeX for papers, as
    Markdown and CSV, and one file of all numbers for your own plots.
    """
    from bench.prediction.map_model import opened
    from bench.report.make import ReportRequest, make

    made = make(
        ReportRequest(
            folders=folders,
            out=out,
            suite=suite_name,
            formats=names(formats),
            methods=names(methods),
            datasets=names(datasets),
            classes=names(classes),
            published=published,
            decimals=decimals,
            tables=names(tables),
            metrics=names(metrics),
            layout=layout,
            notes=notes,
            caption=caption,
            label=label,
            cite=cite,
            data_roots=data_roots,
            open_model=opened,
        ),
        _say,
    )
    report = made.report
    counts = (
        counted(len(report.records), "record"),
        counted(len(report.tables), "table"),
        counted(len(made.files), "file"),
    )
    click.echo(f"{', '.join(counts)} in {made.out}")
    if page := next((file for file in made.files if file.suffix == ".html"), None):
        suggest(f"open {quoted(page)}")


def _say(text: str) -> None:
    echo(text, err=True)
