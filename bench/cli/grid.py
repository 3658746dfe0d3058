"""Tables of bench.report in the terminal."""

from __future__ import annotations

from collections.abc import Iterator

from rich.table import Table as Grid
from rich.text import Text

from bench.report.tables.table import Table, pieces

WIDEST = 9
"""Columns of numbers beside each other; wider tables are cut between groups."""


def grids(table: Table) -> Iterator[Grid | Text]:
    """Yield the pieces of a table that fit a screen, and then its notes."""
    parts = pieces(table, lambda part: len(part.columns) <= WIDEST)
    for part in parts:
        grid = Grid(title=Text(part.title), title_justify="left", header_style="bold")
        grid.add_column(table.stub)
        for column in part.columns:
            heading = f"{column.group}\n{column.title}" if column.group else column.title
            grid.add_column(Text(heading, justify="right"), justify="right", vertical="bottom")
        for block in part.blocks:
            grid.add_section()
            if table.block_stub:
                grid.add_row(Text(block.title, "italic"), *("" for _ in part.columns))
            for row in block.rows:
                marks = "".join(f" [{mark}]" for mark in table.marks(row.notes))
                cells = zip(row.cells, part.columns, strict=True)
                grid.add_row(Text(f"{row.title}{marks}"), *(Text(table.shown(cell, column)) for cell, column in cells))
        yield grid
    for mark, note in zip(table.marks(table.footnotes), table.footnotes, strict=True):
        yield Text(f"[{mark}] {note}")
    for note in table.notes:
        yield Text(note, "dim")
