"""The table of operating points, of records whose numbers are known."""

from __future__ import annotations

from builders.calibrated_records import calibrated
from builders.made_records import made

from bench.report.tables.build import tables
from bench.report.tables.table import Table
from bench.store.record import Record


def table_of(*records: Record) -> Table | None:
    return next((one for one in tables(records, published=False) if one.name.startswith("operating-")), None)


def shown(table: Table, group: str, label: str) -> dict[str, str]:
    (row,) = [row for row in table.rows if row.title == label and row.group.startswith(group)]
    return {
        f"{one.group} {one.title}".strip(): table.shown(cell, one)
        for cell, one in zip(row.cells, table.columns, strict=True)
    }


def test_classes_all_of_them_and_one_threshold() -> None:
    table = table_of(calibrated())
    assert table is not None and "at a threshold one could set" in table.title
    screw = shown(table, "By class", "screw")
    assert (screw["held back"], screw["threshold"], screw["Images false alarms"]) == ("30", "3.0000", "15.0")
    assert (screw["Images 95 % from"], screw["Images to"]) == ("3.2", "37.9"), "SciPy's interval of 3 of 20"
    assert (screw["Maps SegF1"], screw["Maps missed < 0.1 %"], screw["Maps ≥ 1 %"]) == ("50.0", "75.0", "–")
    each = shown(table, "All classes, a threshold each", "max")
    assert (each["held back"], each["threshold"]) == ("40", "each its own")
    assert (each["Images false alarms"], each["Images found"]) == ("10.0", "72.5"), "4 of 40 and 58 of 80"
    assert each["Maps SegF1"] == "40.0", "the mean of 30 and 50"
    one = shown(table, "All classes, one threshold", "q0.95")
    assert (one["threshold"], one["Images false alarms"], one["In hindsight at 100 %"]) == ("2.0000", "15.0", "22.5")
    assert (one["In hindsight SegF1 once"], one["In hindsight each"]) == ("60.0", "70.0")
    assert any("never on a test image" in note for note in table.notes)
    assert all(cell.records for row in table.rows for cell in row.cells if cell.value is not None)


def test_of_a_single_class_there_are_rules_alone() -> None:
    table = table_of(calibrated(("bottle",)))
    assert table is not None
    assert [(row.group, row.title) for row in table.rows] == [("", "q0.95"), ("", "max")]
    assert shown(table, "", "max")["threshold"] == "1.0000"


def test_without_calibration_there_is_no_table() -> None:
    assert table_of(made()) is None


def test_a_run_that_held_images_back_is_another_line() -> None:
    held = calibrated()
    plain = made(levels={"bottle": 0.9, "screw": 0.9}, data="more")
    (overview,) = [one for one in tables([held, plain], published=False) if one.name == "overview-multi"]
    assert sorted(row.title for row in overview.rows) == ["Dinomaly (held back 0.1)", "Dinomaly (held back none)"]
