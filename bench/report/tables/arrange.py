"""Paper-style arrangement of tables: chosen metrics, triples, caption and label, citations, notes."""

from __future__ import annotations

import re
from collections.abc import Collection, Hashable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Literal

from bench.errors import UsageError
from bench.metrics.ids import column as described
from bench.metrics.ids import known
from bench.protocol import SEVEN
from bench.published import method_names
from bench.published.references import Reference, references
from bench.registry import METHODS, did_you_mean
from bench.report.tables.body import DIFFERENCES
from bench.report.tables.names import COLUMNS, heading
from bench.report.tables.table import Column, Table, TableCell, TableRow, chosen
from bench.store.record import Record

Notes = Literal["each", "once", "none"]
KEY = re.compile(r"[A-Za-z0-9:._/+-]+")
"""What a label or a key of BibTeX may be made of."""
ALL = "all"


@dataclass(frozen=True, slots=True)
class Style:
    """How tables are written for a paper."""

    notes: Notes = "each"
    """Under each table, once behind all of them, or nowhere."""
    caption: str = ""
    """LaTeX; empty for the table's title."""
    label: str = ""
    """Empty for `tab:` and the table's name."""
    citations: Mapping[str, str] = field(default_factory=dict)
    """Method -> key of BibTeX."""


def style(tables: Sequence[Table], notes: Notes, caption: str | None, label: str | None, cite: Sequence[str]) -> Style:
    """Return the style that some options ask for.

    Raises:
        UsageError: a caption or a label for several tables, a method that there is not, no key for LaTeX or BibTeX.
    """
    for option, value in (("--caption", caption), ("--label", label)):
        if value is not None and len(tables) != 1:
            names = ", ".join(table.name for table in tables)
            raise UsageError(f"{option}: {len(tables)} tables. Expected one, chosen with --tables: {names}")
    if label is not None and not KEY.fullmatch(label):
        raise UsageError(f"--label '{label}': expected letters, digits and :._/+-, for example tab:main")
    return Style(notes, caption or "", label or "", citations(tables, cite))


def citations(tables: Iterable[Table], cite: Sequence[str]) -> dict[str, str]:
    """Return the key by which each method is cited: `all` for those of the tables by their own, `method=key` for one.

    Raises:
        UsageError: as `style`.
    """
    shown = {row.method for table in tables for row in table.rows} | {
        column.method for table in tables for column in table.columns
    }
    found: dict[str, str] = {}
    for text in cite:
        method, equals, key = text.partition("=")
        if text == ALL:
            found |= {name: reference.key for name, reference in references().items() if name in shown}
        elif not equals or not KEY.fullmatch(key):
            raise UsageError(f"--cite '{text}': expected all, or method=key, for example dinomaly=guo2025dinomaly")
        elif method not in shown:
            known = [name for name in {**METHODS.targets, **method_names()} if name in shown]
            raise UsageError(
                f"--cite: no table has a method '{method}'.{did_you_mean(method, known)} Known: {', '.join(known)}"
            )
        else:
            found[method] = key
    return found


def bibliography(cited: Mapping[str, str]) -> str:
    """Return BibTeX entries of the methods that have a reference, under the keys by which they are cited."""
    known = references()
    return "\n".join(_entry(key, known[method]) for method, key in cited.items() if method in known)


def _entry(key: str, reference: Reference) -> str:
    kind = "inproceedings" if reference.venue else "article" if reference.arxiv else "misc"
    preprint = f"arXiv preprint arXiv:{reference.arxiv}" if reference.arxiv else ""
    fields = {
        # braces keep the capitals of names
        "title": f"{{{reference.title}}}",
        "author": " and ".join(reference.authors),
        "booktitle": reference.venue,
        "journal": "" if reference.venue else preprint,
        "year": str(reference.year),
        "pages": reference.pages,
        "eprint": reference.arxiv,
        "archiveprefix": "arXiv" if reference.arxiv else "",
        "note": f"{reference.note}, doi {reference.doi}" if reference.doi else "",
    }
    lines = [f"  {name} = {{{value}}}," for name, value in fields.items() if value]
    return "\n".join([f"@{kind}{{{key},", *lines, "}", ""])


def named(tables: Sequence[Table], names: Collection[str]) -> list[Table]:
    """Return the tables of some names; all where none is given. Raises UsageError for a name that there is not."""
    known = [table.name for table in tables]
    for name in names:
        if name not in known:
            raise UsageError(f"--tables: no table '{name}'.{did_you_mean(name, known)} Known: {', '.join(known)}")
    return [table for table in tables if not names or table.name in names]


def metrics(text: Sequence[str], records: Iterable[Record] = ()) -> tuple[str, ...]:
    """Return metric ids from ids or headings: `I-AUROC` is image/auroc.

    Args:
        text: what was given.
        records: what they hold are columns, too.

    Raises:
        UsageError: neither an id nor a heading of a column.
    """
    held = (name for one in records for scores in one.scores.values() for name in (*scores.values, *scores.extra))
    columns = dict.fromkeys((*COLUMNS, *held))
    headings = {heading(metric).lower(): metric for metric in reversed(columns)}
    names = {**headings, **{metric: metric for metric in columns}, "pixel/aupro": "pixel/aupro@0.3"}
    found = []
    for word in text:
        if word not in columns and known(word) is None and word.lower() not in names:
            near, shown = did_you_mean(word.lower(), names), ", ".join(map(heading, columns))
            raise UsageError(f"--metrics: no column '{word}'.{near} Known: {shown}. See: bench ls metrics")
        found.append(word if word in columns or known(word) else names[word.lower()])
    return tuple(found)


def of_metrics(table: Table, wanted: Sequence[str]) -> Table | None:
    """Return the table's columns of some metrics, in the order asked for; None where there is none."""
    places = [place for metric in wanted for place, column in enumerate(table.columns) if column.metric == metric]
    return chosen(table, places) if places else None


def triples(table: Table) -> Table:
    """Return the table with the metrics of one level in one column, as papers print them: `99.6/99.8/99.0`.

    Standard deviations and differences are left out, which three numbers have no room for.
    """
    of_level: dict[str, dict[str, None]] = {}
    for column in table.columns:
        if column.metric in SEVEN:
            of_level.setdefault(described(column.metric).group, {})[column.metric] = None
    joined: dict[Hashable, tuple[Column, dict[str, int]]] = {}
    for place, column in enumerate(table.columns):
        level = described(column.metric).group if column.metric in SEVEN else place
        # by class a column is headed by its method, in an overview by its metric
        title = column.title if column.method else ""
        about = (level, title, column.method, column.source, column.dataset, column.cls)
        joined.setdefault(about, (column, {}))[1][column.metric] = place
    columns, places = [], []
    for column, found in joined.values():
        metrics = list(of_level.get(described(column.metric).group, found)) if column.metric in SEVEN else list(found)
        columns.append(_joined_column(column, metrics))
        places.append([found.get(metric) for metric in metrics])
    blocks = tuple(replace(block, rows=tuple(_joined_row(row, places) for row in block.rows)) for block in table.blocks)
    notes = tuple(note for note in table.notes if note != DIFFERENCES)
    return replace(table, columns=tuple(columns), blocks=blocks, notes=notes)


def _joined_column(first: Column, metrics: Sequence[str]) -> Column:
    if len(metrics) == 1:
        return first
    title = "/".join(map(heading, metrics))
    if not first.method:
        return replace(first, title=title)
    source = first.group.partition(", ")[2]
    return replace(first, group=f"{title}, {source}" if source else title)


def _joined_row(row: TableRow, places: Iterable[Sequence[int | None]]) -> TableRow:
    cells = ([TableCell() if place is None else row.cells[place] for place in own] for own in places)
    return replace(row, cells=tuple(map(_joined_cell, cells)))


def _joined_cell(cells: Sequence[TableCell]) -> TableCell:
    if len(cells) == 1:
        return replace(cells[0], std=None, difference=None)
    parts = tuple(replace(cell, std=None, difference=None, notes=()) for cell in cells)
    notes = tuple(dict.fromkeys(note for cell in cells for note in cell.notes))
    records = tuple(dict.fromkeys(name for cell in cells for name in cell.records))
    places = ", ".join(dict.fromkeys(cell.where for cell in cells if cell.where))
    if all(part.value is None and part.text == parts[0].text for part in parts):
        return TableCell(text=parts[0].text, notes=notes)
    return TableCell(value=parts[0].value, parts=parts, notes=notes, records=records, where=places)


def without_notes(table: Table) -> Table:
    """Return the table without what a reader has to know of it, and without the marks of that."""
    columns = tuple(replace(column, notes=()) for column in table.columns)
    blocks = tuple(
        replace(block, rows=tuple(replace(row, notes=(), cells=tuple(map(_bare, row.cells))) for row in block.rows))
        for block in table.blocks
    )
    return replace(table, columns=columns, blocks=blocks, notes=())


def _bare(cell: TableCell) -> TableCell:
    return replace(cell, notes=())


def noted_once(tables: Sequence[Table]) -> tuple[list[Table], Table]:
    """Return tables whose marks are those of one list of notes, which they do not print, and one that is the list."""
    footnotes = tuple(dict.fromkeys(note for table in tables for note in table.footnotes))
    notes = tuple(dict.fromkeys(note for table in tables for note in table.notes))
    shared = [replace(table, notes=(), legend=footnotes, silent=True) for table in tables]
    return shared, Table("notes", "Notes", "", (), (), notes=notes, legend=footnotes)
