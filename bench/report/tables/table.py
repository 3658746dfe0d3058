"""A table as data, apart from every format: blocks of rows under grouped columns, and what a reader has to know.

Values are fractions in [0, 1] (scores) or in their column's unit (costs); formats turn them to text by `shown`.
A footnote is its text, kept by the cell, row or column that it is about; `Table.footnotes` puts all in reading order,
and a format marks each by its place there.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from decimal import ROUND_HALF_EVEN, Decimal
from functools import cached_property
from itertools import groupby
from typing import Literal

Source = Literal["ours", "published"]
Unit = Literal["percent", "number"]
Rank = Literal[0, 1, 2]
"""1 is the best of its column and block, 2 the second best, 0 neither or not compared."""

DASH = "–"
MINUS = "−"


@dataclass(frozen=True, slots=True)
class TableCell:
    """One place of a table. Empty by default: nothing was measured or printed, shown as a dash."""

    value: float | None = None
    """A score as a fraction or a cost in its column's unit; None where there is none."""
    std: float | None = None
    """Standard deviation over seeds, in the value's unit."""
    text: str = ""
    """Shown where there is no value: `14/15` where a mean would lack a class."""
    printed: str = ""
    """Digits as the paper prints or means them (percent for scores); empty for ours."""
    difference: float | None = None
    """Ours minus the published value of the same method and number, in the value's unit."""
    rank: Rank = 0
    notes: tuple[str, ...] = ()
    """Texts of the footnotes that belong to this cell."""
    records: tuple[str, ...] = ()
    """Fingerprints of the records behind the value, one a seed and part; empty for published ones."""
    where: str = ""
    """Where a published value stands: `vitad table 5`."""
    interval: tuple[float, float] | None = None
    """Confidence interval, in the value's unit."""
    parts: tuple[TableCell, ...] = ()
    """Several numbers in one place, as `99.6/99.8/99.0`; the value is then the first one's."""


@dataclass(frozen=True, slots=True)
class Column:
    """A column and what its numbers are."""

    title: str
    group: str = ""
    """Heading over neighbouring columns of the same group."""
    metric: str = ""
    """Metric id without a variant, `mad`, or `cost/...`; empty where rows say it."""
    dataset: str = ""
    cls: str = ""
    """Class or split, where the column is about one; empty for means."""
    method: str = ""
    """Method, where rows are classes."""
    source: Source | None = None
    """Where all numbers of the column are of one origin."""
    unit: Unit = "percent"
    decimals: int | None = None
    """Decimals of this column; None for the table's."""
    higher_is_better: bool | None = True
    """None where nobody knows, and nothing is marked as best."""
    notes: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class TableRow:
    """A line of cells, one a column."""

    title: str
    cells: tuple[TableCell, ...]
    source: Source = "ours"
    method: str = ""
    dataset: str = ""
    cls: str = ""
    """Class, where the row is about one."""
    notes: tuple[str, ...] = ()
    summary: bool = False
    """A mean over the rows above it."""
    group: str = ""
    """Heading over neighbouring rows of the same group; empty where a block has only one."""


@dataclass(frozen=True, slots=True)
class RowBlock:
    """Rows that belong together, such as those of one dataset. Marks of best and second best hold within its groups."""

    title: str
    rows: tuple[TableRow, ...]
    dataset: str = ""

    @property
    def groups(self) -> tuple[tuple[str, tuple[TableRow, ...]], ...]:
        """Return the rows under their headings; one group with an empty heading where they have none."""
        return tuple((heading, tuple(own)) for heading, own in groupby(self.rows, key=lambda row: row.group))


@dataclass(frozen=True)
class Table:
    """A whole table. Every row has one cell a column."""

    name: str
    """Short and unique within a report: `overview-multi`. Files and labels are named by it."""
    title: str
    stub: str
    """Heading of the rows' titles: `method` or `class`."""
    columns: tuple[Column, ...]
    blocks: tuple[RowBlock, ...]
    block_stub: str = ""
    """Heading of the blocks' titles: `dataset`; empty where blocks are not named."""
    notes: tuple[str, ...] = ()
    """What holds for the whole table; formats print it without a mark."""
    decimals: int = 1
    legend: tuple[str, ...] = ()
    """Footnotes of several tables, by whose places those of this one are marked; empty for its own."""
    silent: bool = False
    """The notes are printed elsewhere."""
    caption: str = ""
    """What a paper prints at the table in place of the title, without a full stop; empty for the title."""

    def __post_init__(self) -> None:
        for row in self.rows:
            if len(row.cells) != len(self.columns):
                raise ValueError(f"table {self.name}: row '{row.title}' has {len(row.cells)} cells, not one a column")

    @property
    def rows(self) -> Iterator[TableRow]:
        """Yield the rows of all blocks."""
        for block in self.blocks:
            yield from block.rows

    @property
    def stubs(self) -> tuple[str, ...]:
        """Return the headings of what stands left of the numbers: block and row."""
        return (self.block_stub, self.stub) if self.block_stub else (self.stub,)

    @property
    def sources(self) -> set[Source]:
        """Return where the numbers come from."""
        columns = {column.source for column in self.columns if column.source}
        return columns or {row.source for row in self.rows}

    @cached_property
    def repeats(self) -> bool:
        """Return whether columns have the same title in several groups, so that the group has to be read too."""
        return len({column.title for column in self.columns}) < len(self.columns)

    @property
    def groups(self) -> tuple[tuple[str, int], ...]:
        """Return the headings over the columns with how many neighbours each spans."""
        found: list[tuple[str, int]] = []
        for column in self.columns:
            if found and found[-1][0] == column.group:
                found[-1] = (column.group, found[-1][1] + 1)
            else:
                found.append((column.group, 1))
        return tuple(found)

    @cached_property
    def footnotes(self) -> tuple[str, ...]:
        """Return the footnotes in reading order, each once."""
        if self.legend:
            return self.legend
        texts = [note for column in self.columns for note in column.notes]
        for row in self.rows:
            texts += [*row.notes, *(note for cell in row.cells for note in cell.notes)]
        return tuple(dict.fromkeys(texts))

    def marks(self, notes: Iterable[str]) -> tuple[str, ...]:
        """Return the marks of some footnotes, in order: a, b, ..., z, aa, ab."""
        return tuple(letters(place) for place in sorted({self._places[note] for note in notes}))

    @cached_property
    def _places(self) -> dict[str, int]:
        return {note: place for place, note in enumerate(self.footnotes)}

    def shown(self, cell: TableCell, column: Column) -> str:
        """Return a cell's value as text: percent or number with the column's decimals, its text, or a dash."""
        return shown(cell, column, self.decimals)

    def shown_std(self, cell: TableCell, column: Column) -> str:
        """Return the standard deviation as text, with as many decimals as the value; empty without one."""
        return "" if cell.std is None else _fixed(Decimal(repr(cell.std)) * _scale(column), self.places(column))

    def shown_difference(self, cell: TableCell, column: Column) -> str:
        """Return ours minus published with its sign, `+0.1` or `−0.1`; empty without one."""
        if cell.difference is None:
            return ""
        text = _fixed(Decimal(repr(cell.difference)) * _scale(column), self.places(column))
        if not text.strip("-0."):
            return f"±{text.lstrip('-')}"
        return f"{MINUS}{text[1:]}" if text.startswith("-") else f"+{text}"

    def places(self, column: Column) -> int:
        """Return how many decimals the column has."""
        return self.decimals if column.decimals is None else column.decimals


def shown(cell: TableCell, column: Column, decimals: int) -> str:
    """Return a cell's value with the column's or else so many decimals (or as few as printed), its text, or a dash."""
    if cell.parts:
        return "/".join(shown(part, column, decimals) for part in cell.parts)
    decimals = decimals if column.decimals is None else column.decimals
    if cell.value is None:
        return cell.text or DASH
    if cell.printed:
        digits = Decimal(cell.printed.replace(",", ""))
        return _fixed(digits, min(decimals, max(0, -int(digits.as_tuple().exponent))))
    return _fixed(Decimal(repr(cell.value)) * _scale(column), decimals)


def pieces(table: Table, fits: Callable[[Table], bool]) -> list[Table]:
    """Cut a table into the fewest pieces of whole column groups that fit; one group that does not fit stays whole.

    Names and titles of the pieces are numbered; a table that fits is returned as it is.
    """
    if fits(table):
        return [table]
    spans, start = [], 0
    for _, width in table.groups:
        spans.append(range(start, start + width))
        start += width
    parts: list[list[int]] = []
    for span in spans:
        if parts and fits(chosen(table, [*parts[-1], *span])):
            parts[-1] += span
        else:
            parts.append(list(span))
    if len(parts) == 1:
        return [table]
    return [
        numbered(replace(chosen(table, places), name=f"{table.name}-{number}"), number, len(parts))
        for number, places in enumerate(parts, start=1)
    ]


def numbered(table: Table, number: int, of: int) -> Table:
    """Return a part of a table, its title and caption saying which."""
    caption = f"{table.caption} ({number}/{of})" if table.caption else ""
    return replace(table, title=f"{table.title} ({number}/{of})", caption=caption)


def chosen(table: Table, places: Sequence[int]) -> Table:
    """Return the table with some of its columns, by their places."""
    blocks = tuple(
        replace(
            block, rows=tuple(replace(row, cells=tuple(row.cells[place] for place in places)) for row in block.rows)
        )
        for block in table.blocks
    )
    return replace(table, columns=tuple(table.columns[place] for place in places), blocks=blocks)


def letters(place: int) -> str:
    """Return a footnote's mark by its place: 0 -> a, 25 -> z, 26 -> aa."""
    text = ""
    place += 1
    while place:
        place, rest = divmod(place - 1, 26)
        text = chr(ord("a") + rest) + text
    return text


def ranked(cells: Sequence[TableCell], column: Column, decimals: int) -> list[TableCell]:
    """Return cells with the best and the second best marked.

    Numbers that look equal share a mark, and the next one is second. Where all look equal there is no best.

    Args:
        cells: with values, which compare with one another.
        column: how they are shown, and whether more is better.
        decimals: of percentages.
    """
    if column.higher_is_better is None:
        return list(cells)
    numbers = [Decimal(shown(cell, column, decimals)) for cell in cells]
    best = sorted(set(numbers), reverse=column.higher_is_better)[:2]
    ranks: dict[Decimal, Rank] = {best[0]: 1, best[1]: 2} if len(best) == 2 else {}
    return [replace(cell, rank=ranks.get(number, 0)) for cell, number in zip(cells, numbers, strict=True)]


def _scale(column: Column) -> int:
    return 100 if column.unit == "percent" else 1


def _fixed(number: Decimal, places: int) -> str:
    return str(number.quantize(Decimal(1).scaleb(-places), rounding=ROUND_HALF_EVEN))
