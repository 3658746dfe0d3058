"""CSV of a table as it is read: percentages with the table's decimals, nothing where nothing is known."""

from __future__ import annotations

import csv
import io
from collections import Counter
from collections.abc import Sequence

from bench.names import harmless
from bench.report.tables.table import Column, Table, TableCell, TableRow

_FORMULAS = ("=", "+", "-", "@", "\t", "\r")


def inert(text: str) -> str:
    """Return a name or a note that a spreadsheet shows and does not compute: an apostrophe comes before a formula."""
    # Python's writer quotes newlines, but not this one, at which many readers end a line
    shown = harmless(text.replace("\r", " "))
    return f"'{shown}" if text.startswith(_FORMULAS) else shown


def delimited(table: Table) -> str:
    """Return the table: a header, then a line a row.

    Each column is followed by its standard deviations and differences where there are some. Notes on rows are the last
    column, notes on columns the last line.
    """
    stubs = [*([table.block_stub] if table.block_stub else []), table.stub, "source"]
    head: list[str] = list(stubs)
    # looked up once: a table of a thousand rows has a hundred thousand cells
    extras = _extras(table)
    for column, beside in zip(table.columns, extras, strict=True):
        name = " ".join(part for part in (column.group if table.repeats else "", column.title) if part)
        head += [name, *(f"{name} {extra}" for extra in beside)]
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow(map(inert, _distinct([*head, "notes"])))
    for block in table.blocks:
        for row in block.rows:
            named = [inert(block.title)] if table.block_stub else []
            line = [*named, inert(row.title), "" if any(column.source for column in table.columns) else row.source]
            for cell, column, beside in zip(row.cells, table.columns, extras, strict=True):
                line.append(_text(table, cell, column))
                line += [_extra(table, cell, column, extra) for extra in beside]
            writer.writerow([*line, inert(_notes(row))])
    if any(column.notes for column in table.columns):
        line = ["notes", *[""] * (len(stubs) - 1)]
        for column, beside in zip(table.columns, extras, strict=True):
            line += [inert("; ".join(column.notes)), *[""] * len(beside)]
        writer.writerow([*line, ""])
    return out.getvalue()


def _distinct(names: Sequence[str]) -> list[str]:
    """Return the names with a number behind those that came before: two rows of ours may be of one method."""
    seen: Counter[str] = Counter()
    found = []
    for name in names:
        seen[name] += 1
        found.append(f"{name} ({seen[name]})" if seen[name] > 1 else name)
    return found


def _extras(table: Table) -> list[list[str]]:
    """Return by column what stands beside its numbers: standard deviations, differences."""
    found = []
    for cells in zip(*(row.cells for row in table.rows), strict=True):
        beside = ["std"] if any(cell.std is not None for cell in cells) else []
        found.append(beside + (["difference"] if any(cell.difference is not None for cell in cells) else []))
    return found or [[] for _ in table.columns]


def _extra(table: Table, cell: TableCell, column: Column, extra: str) -> str:
    text = table.shown_std(cell, column) if extra == "std" else table.shown_difference(cell, column)
    # a program reads this: no typographic minus
    return text.replace("−", "-").lstrip("+±")


def _text(table: Table, cell: TableCell, column: Column) -> str:
    return cell.text if cell.value is None else table.shown(cell, column)


def _notes(row: TableRow) -> str:
    return "; ".join(dict.fromkeys([*row.notes, *(note for cell in row.cells for note in cell.notes)]))
