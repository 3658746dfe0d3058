from __future__ import annotations

import pytest

from bench.report.tables.groups import marked
from bench.report.tables.table import Column, Rank, RowBlock, Table, TableCell, TableRow, letters, pieces, shown

PERCENT = Column("AUROC", metric="image/auroc")
HOURS = Column("training (h)", unit="number", decimals=2, higher_is_better=False)


def ranks(
    values: list[float | None],
    keys: list[object] | None = None,
    groups: list[range] | None = None,
    column: Column = PERCENT,
    decimals: int = 1,
) -> list[Rank]:
    cells = [TableCell(value) for value in values]
    alike = ["same"] * len(values) if keys is None else keys
    return [cell.rank for cell in marked(cells, alike, groups or [range(len(cells))], column, decimals)]


def table(*rows: TableRow, columns: tuple[Column, ...] = (PERCENT,), blocks: tuple[RowBlock, ...] = ()) -> Table:
    return Table("t", "T", "method", columns, blocks or (RowBlock("", rows),))


@pytest.mark.parametrize(
    ("values", "want"),
    [
        ([0.9, 0.8, 0.7], [1, 2, 0]),
        ([0.7, 0.8, 0.9], [0, 2, 1]),
        ([0.9, 0.9, 0.8], [1, 1, 2]),
        ([0.9, 0.8, 0.8, 0.7], [1, 2, 2, 0]),
        ([0.9001, 0.9004, 0.8], [1, 1, 2]),
        ([0.9, None, 0.8, 0.7], [1, 0, 2, 0]),
        ([0.9, 0.9, 0.9], [0, 0, 0]),
        # of two numbers anyone sees the better one
        ([0.9, None, 0.8], [0, 0, 0]),
        ([0.9, 0.8], [0, 0]),
        ([0.9], [0]),
        ([None, None], [0, 0]),
        ([], []),
    ],
)
def test_best_and_second_by_the_digits_that_are_shown(values: list[float | None], want: list[Rank]) -> None:
    assert ranks(values) == want


def test_groups_are_ranked_apart() -> None:
    keys = ["a"] * 3 + ["b"] * 3
    assert ranks([0.9, 0.8, 0.7, 0.99, 0.98, 0.97], keys, [range(3), range(3, 6)]) == [1, 2, 0, 1, 2, 0]


@pytest.mark.parametrize("odd", ["b", None])
def test_a_group_in_which_one_does_not_compare_has_no_marks(odd: object) -> None:
    """The eye would compare it all the same."""
    assert ranks([0.9, 0.8, 0.7, 0.99], ["a", "a", "a", odd]) == [0, 0, 0, 0]
    # what has no number there is compared with nothing
    assert ranks([0.9, 0.8, 0.7, None], ["a", "a", "a", odd]) == [1, 2, 0, 0]


def test_less_is_better_for_costs() -> None:
    assert ranks([3.0, 1.0, 2.0], column=HOURS) == [0, 1, 2]


def test_more_decimals_tell_more_apart() -> None:
    assert ranks([0.9001, 0.9004, 0.8], decimals=2) == [2, 1, 0]


@pytest.mark.parametrize(
    ("cell", "column", "decimals", "text"),
    [
        (TableCell(0.98765), PERCENT, 1, "98.8"),
        (TableCell(0.98765), PERCENT, 3, "98.765"),
        (TableCell(0.98765), PERCENT, 0, "99"),
        (TableCell(1.0), PERCENT, 1, "100.0"),
        (TableCell(0.0), PERCENT, 1, "0.0"),
        (TableCell(1e-9), PERCENT, 1, "0.0"),
        (TableCell(0.9841, printed="98.41"), PERCENT, 1, "98.4"),
        (TableCell(0.9841, printed="98.41"), PERCENT, 2, "98.41"),
        (TableCell(0.9841, printed="98.41"), PERCENT, 4, "98.41"),
        (TableCell(0.996, printed="99.6"), PERCENT, 2, "99.6"),
        (TableCell(1.0, printed="100"), PERCENT, 1, "100"),
        (TableCell(1234.5, printed="1,234.5"), HOURS, 1, "1234.5"),
        (TableCell(1.005), HOURS, 0, "1.00"),
        (TableCell(), PERCENT, 1, "–"),
        (TableCell(text="14/15"), PERCENT, 1, "14/15"),
    ],
)
def test_numbers_as_text(cell: TableCell, column: Column, decimals: int, text: str) -> None:
    assert shown(cell, column, decimals) == text


@pytest.mark.parametrize(
    ("difference", "text"), [(0.012, "+1.2"), (-0.012, "−1.2"), (0.0, "±0.0"), (-0.0001, "±0.0"), (None, "")]
)
def test_differences_carry_their_sign(difference: float | None, text: str) -> None:
    assert table().shown_difference(TableCell(0.5, difference=difference), PERCENT) == text


def test_standard_deviation_as_text() -> None:
    assert table().shown_std(TableCell(0.5, std=0.0123), PERCENT) == "1.2"
    assert table().shown_std(TableCell(0.5), PERCENT) == ""


def test_footnotes_come_once_and_in_reading_order() -> None:
    rows = (
        TableRow("x", (TableCell(0.1, notes=("cell",)),), notes=("row", "both")),
        TableRow("y", (TableCell(0.2, notes=("both",)),), notes=("last",)),
    )
    made = table(*rows, columns=(Column("c", notes=("column",)),))
    assert made.footnotes == ("column", "row", "both", "cell", "last")
    assert made.marks(("last", "column")) == ("a", "e")


def test_marks_do_not_end_with_z() -> None:
    assert [letters(place) for place in (0, 25, 26, 27, 51, 52, 701, 702)] == [
        *("a", "z", "aa", "ab", "az", "ba", "zz", "aaa")
    ]


def test_a_row_has_one_cell_a_column() -> None:
    with pytest.raises(ValueError, match="row 'x' has 2 cells, not one a column"):
        table(TableRow("x", (TableCell(), TableCell())))


def test_headings_and_stubs() -> None:
    columns = (Column("ViTAD", "I-AUROC"), Column("Dinomaly", "I-AUROC"), Column("Dinomaly", "AUPRO"))
    made = table(TableRow("x", (TableCell(), TableCell(), TableCell())), columns=columns)
    assert made.groups == (("I-AUROC", 2), ("AUPRO", 1)) and made.repeats
    assert made.stubs == ("method",)
    both = table(
        TableRow("x", (TableCell(),), "published", group="Published"), TableRow("x", (TableCell(),), group="Ours")
    )
    assert both.stubs == ("method",) and not both.repeats
    assert [(heading, len(rows)) for heading, rows in both.blocks[0].groups] == [("Published", 1), ("Ours", 1)]


def test_a_wide_table_is_cut_between_groups() -> None:
    columns = tuple(Column(str(place), f"group {place // 2}") for place in range(6))
    made = table(TableRow("x", tuple(TableCell(place / 10) for place in range(6))), columns=columns)
    parts = pieces(made, lambda part: len(part.columns) <= 4)
    assert [len(part.columns) for part in parts] == [4, 2]
    assert [(part.name, part.title) for part in parts] == [("t-1", "T (1/2)"), ("t-2", "T (2/2)")]
    assert [cell.value for part in parts for row in part.rows for cell in row.cells] == [0, 0.1, 0.2, 0.3, 0.4, 0.5]
    assert pieces(made, lambda part: True) == [made]
    assert [len(part.columns) for part in pieces(made, lambda part: len(part.columns) < 2)] == [2, 2, 2]
