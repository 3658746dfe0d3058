"""Report formats: each is a function that writes files into a folder and returns them."""

from __future__ import annotations

import importlib
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from bench.files import atomic, file_name
from bench.report.tables.arrange import bibliography, noted_once, without_notes
from bench.report.tables.contents import Report
from bench.report.tables.table import Table

Writer = Callable[[Report, Path], list[Path]]


def markdown(report: Report, out: Path) -> list[Path]:
    """Write all tables into one tables.md."""
    from bench.report.formats.markdown import document

    tables, notes = _noted(report)
    return [_text(out / "tables.md", document(report.title, [*tables, *notes]))]


def csv(report: Report, out: Path) -> list[Path]:
    """Write each table as it is read, and numbers.csv with every number in a row of its own."""
    from bench.report.formats import long_csv
    from bench.report.formats.csv import delimited

    files = [_text(out / "csv" / f"{file_name(table.name)}.csv", delimited(table)) for table in report.tables]
    return [*files, _text(out / "numbers.csv", long_csv.text(long_csv.frame(report.records, report.published)))]


def parquet(report: Report, out: Path) -> list[Path]:
    """Write numbers.parquet, the same rows as numbers.csv."""
    from bench.report.formats import long_csv

    path = out / "numbers.parquet"
    long_csv.write_parquet(path, long_csv.frame(report.records, report.published))
    return [path]


def latex(report: Report, out: Path) -> list[Path]:
    r"""Write each table for \input, as a document of its own under standalone/, and the notes and references of all."""
    from bench.report.formats import latex as code

    style, folder = report.style, out / "latex"
    tables, notes = _noted(report)
    files = []
    for table, whole in zip(tables, report.tables, strict=True):
        name = f"{file_name(table.name)}.tex"
        files.append(_text(folder / name, code.latex(table, style)))
        alone = whole if style.notes == "once" else table
        files.append(_text(folder / "standalone" / name, code.standalone(alone, style)))
    files += [_text(folder / "notes.tex", code.notes(table)) for table in notes]
    if style.citations:
        files.append(_text(folder / "references.bib", bibliography(style.citations)))
    return files


def _noted(report: Report) -> tuple[list[Table], list[Table]]:
    """Return the tables with the notes that the report's style asks for, and what holds those that stand apart."""
    if report.style.notes == "none":
        return [without_notes(table) for table in report.tables], []
    if report.style.notes == "each":
        return list(report.tables), []
    tables, notes = noted_once(report.tables)
    return tables, [notes]


FORMATS: Mapping[str, str] = {
    "html": "bench.report.formats.html:html",
    "figures": "bench.report.figures.illustrate:pdf",
    "latex": "bench.report.formats.write:latex",
    "markdown": "bench.report.formats.write:markdown",
    "csv": "bench.report.formats.write:csv",
    "parquet": "bench.report.formats.write:parquet",
}
"""Format -> `module:function` of its writer, imported when it is asked for."""


def write(report: Report, formats: Sequence[str], out: Path) -> list[Path]:
    """Write a report in some formats and return the files in the order in which they were written."""
    files = []
    for name in formats:
        module, _, attribute = FORMATS[name].partition(":")
        writer: Writer = getattr(importlib.import_module(module), attribute)
        files += writer(report, out)
    return files


def _text(path: Path, text: str) -> Path:
    with atomic(path, durable=False) as file:
        file.write(text.encode())
    return path
