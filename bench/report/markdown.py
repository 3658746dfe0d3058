"""Tables as Markdown, for issues and READMEs (GitHub's dialect)."""

from __future__ import annotations

from collections.abc import Iterable

from bench.names import harmless
from bench.report.table import Block, Cell, Column, Row, Table, pieces

WIDEST = 12
"""Columns of numbers beside each other; wider tables are cut between groups."""


def document(title: str, tables: Iterable[Table]) -> str:
    """Return all tables under one heading."""
    return "\n\n".join([f"# {escaped(title)}", *(markdown(table) for table in tables)]) + "\n"


def markdown(table: Table) -> str:
    """Return a table with its title before and its notes behind it."""
    parts = pieces(table, lambda part: len(part.columns) <= WIDEST)
    marks = table.marks(table.footnotes)
    marked = [f"<sup>{mark}</sup> {escaped(note)}" for mark, note in zip(marks, table.footnotes, strict=True)]
    notes = [*(escaped(note) for note in table.notes), *marked]
    return "\n\n".join([f"## {escaped(table.title)}", *(_grid(part, table) for part in parts), *notes])


def escaped(text: str) -> str:
    """Return text without a character that Markdown, HTML or a terminal would act on."""
    text = harmless(text)
    for mark in "\\`*_[]|~#":
        text = text.replace(mark, f"\\{mark}")
    # a pair of dollars would be read as mathematics
    for mark, entity in (("&", "&amp;"), ("<", "&lt;"), (">", "&gt;"), ("$", "&#36;")):
        text = text.replace(mark, entity)
    return " ".join(text.split())


def _grid(part: Table, table: Table) -> str:
    """Return some of a table's columns, with the marks that the whole table has."""
    head = [escaped(stub) for stub in part.stubs] + [_heading(table, column) for column in part.columns]
    rule = [":--"] * len(part.stubs) + ["--:"] * len(part.columns)
    body = [
        _stubs(table, block, row, number)
        + [_cell(table, cell, column) for cell, column in zip(row.cells, part.columns, strict=True)]
        for block in part.blocks
        for number, row in enumerate(block.rows)
    ]
    return "\n".join(f"| {' | '.join(cells)} |" for cells in (head, rule, *body))


def _heading(table: Table, column: Column) -> str:
    before = f"{escaped(column.group)}<br>" if table.repeats and column.group else ""
    return f"{before}{escaped(table.heading(column))}{_raised(table, column.notes)}"


def _stubs(table: Table, block: Block, row: Row, number: int) -> list[str]:
    title = f"{escaped(row.title)}" if not row.summary else f"*{escaped(row.title)}*"
    mark = _raised(table, row.notes)
    before = [escaped(block.title) if not number else ""] if table.block_stub else []
    return [*before, title, f"{row.source}{mark}"] if table.mixes_rows else [*before, f"{title}{mark}"]


def _cell(table: Table, cell: Cell, column: Column) -> str:
    text = table.shown(cell, column)
    spread = table.shown_std(cell, column)
    text = f"{text} ± {spread}" if spread else text
    text = {0: text, 1: f"**{text}**", 2: f"<u>{text}</u>"}[cell.rank]
    difference = table.shown_difference(cell, column)
    return f"{text}{f' ({difference})' if difference else ''}{_raised(table, cell.notes)}"


def _raised(table: Table, notes: tuple[str, ...]) -> str:
    return f"<sup>{','.join(table.marks(notes))}</sup>" if notes else ""
