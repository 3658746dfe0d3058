"""Tables as Markdown, for issues and READMEs (GitHub's dialect)."""

from __future__ import annotations

from collections.abc import Iterable

from bench.names import harmless
from bench.report.tables.table import Column, RowBlock, Table, TableCell, pieces

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
    notes = [] if table.silent else [*(escaped(note) for note in table.notes), *marked]
    return "\n\n".join([f"## {escaped(table.title)}", *(_grid(part, table) for part in parts if part.columns), *notes])


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
    body = [line for block in part.blocks for line in _block(part, block, table)]
    return "\n".join(f"| {' | '.join(cells)} |" for cells in (head, rule, *body))


def _block(part: Table, block: RowBlock, table: Table) -> list[list[str]]:
    lines = []
    for heading, rows in block.groups:
        if heading:
            lines.append([*([""] if table.block_stub else []), f"*{escaped(heading)}*", *[""] * len(part.columns)])
        for row in rows:
            title = escaped(row.title) if not row.summary else f"*{escaped(row.title)}*"
            numbers = [_cell(table, cell, column) for cell, column in zip(row.cells, part.columns, strict=True)]
            lines.append([*([""] if table.block_stub else []), f"{title}{_raised(table, row.notes)}", *numbers])
    if table.block_stub and lines:
        lines[0][0] = escaped(block.title)
    return lines


def _heading(table: Table, column: Column) -> str:
    before = f"{escaped(column.group)}<br>" if table.repeats and column.group else ""
    return f"{before}{escaped(column.title)}{_raised(table, column.notes)}"


def _cell(table: Table, cell: TableCell, column: Column) -> str:
    if cell.parts:
        return f"{'/'.join(_cell(table, part, column) for part in cell.parts)}{_raised(table, cell.notes)}"
    text = table.shown(cell, column)
    spread = table.shown_std(cell, column)
    text = f"{text} ± {spread}" if spread else text
    text = {0: text, 1: f"**{text}**", 2: f"<u>{text}</u>"}[cell.rank]
    difference = table.shown_difference(cell, column)
    return f"{text}{f' ({difference})' if difference else ''}{_raised(table, cell.notes)}"


def _raised(table: Table, notes: tuple[str, ...]) -> str:
    return f"<sup>{','.join(table.marks(notes))}</sup>" if notes else ""
