"""Operating points as a table: what thresholds that one could set find, and what they miss."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from statistics import fmean

from bench.metrics.thresholds import RULES, WORDS
from bench.report.tables.ours import OurLine
from bench.report.tables.table import Column, RowBlock, Table, TableCell, TableRow
from bench.store.calibration import OperatingPoints, Share
from bench.store.rows import Row as RecordRow

BY_CLASS = "q0.95"
"""The rule of the lines by class."""
SIZES = {"<0.1%": "missed < 0.1 %", "0.1-1%": "0.1 to 1 %", ">=1%": "≥ 1 %"}
"""Sizes of regions, as records call them -> headings."""
NOTES = (
    "Thresholds are set on normal images that were held back from training (or are validation images), never on a test "
    "image. False alarms: normal test images above the threshold, with the 95 % Clopper-Pearson interval; found: "
    "anomalous ones above it. Few images held back leave a threshold uncertain, whatever the interval says.",
    "Maps: SegF1 is the F1 of all test pixels above the pixel threshold of the same rule; marked is the share of "
    "normal images' pixels above it; missed are regions without a pixel above it, by their share of the image.",
    "In hindsight: thresholds chosen on the test images themselves, which nobody could set. SegF1 once is at the best "
    "threshold for all images, each is the mean over images of what a threshold of their own gives.",
)


def operating(name: str, title: str, lines: Sequence[OurLine], dataset: str) -> Table:
    """Return a block a configuration, of its first seed: classes by one rule, then every rule over all classes.

    Configurations whose cells held no images back have no lines.
    """
    columns = (
        Column("held back", unit="number", decimals=0, higher_is_better=None),
        Column("threshold", unit="number", decimals=4, higher_is_better=None),
        Column("false alarms", "Images", higher_is_better=False),
        Column("95 % from", "Images", higher_is_better=False),
        Column("to", "Images", higher_is_better=False),
        Column("found", "Images"),
        Column("SegF1", "Maps"),
        Column("marked", "Maps", decimals=2, higher_is_better=False),
        *(Column(heading, "Maps", higher_is_better=False) for heading in SIZES.values()),
        Column("false alarms at recall 95 %", "In hindsight", higher_is_better=False),
        Column("at 100 %", "In hindsight", higher_is_better=False),
        Column("found at 1 % false alarms", "In hindsight"),
        Column("at 5 %", "In hindsight"),
        Column("SegF1 once", "In hindsight"),
        Column("each", "In hindsight"),
    )
    blocks = []
    for line in lines:
        if dataset in line.entries and (found := _rows(line, dataset)):
            blocks.append(RowBlock(line.title, found, dataset))
    rules = "; ".join(f"{rule}: {words}" for rule, words in WORDS.items())
    return Table(name, title, "threshold", columns, tuple(blocks), "method", notes=(*NOTES, f"Rules: {rules}."))


def _rows(line: OurLine, dataset: str) -> tuple[TableRow, ...]:
    row = line.entries[dataset].rows[0]
    classes = _classes(row, line.classes(dataset))
    if not classes:
        return ()
    records = tuple(record.cell.fingerprint for record in row.records)
    several = len(classes) > 1
    found = []

    def add(label: str, group: str, cells: Sequence[TableCell], cls: str = "") -> None:
        shown = tuple(
            TableCell(cell.value, text=cell.text, records=records if cell.value is not None else ()) for cell in cells
        )
        found.append(TableRow(label, shown, "ours", line.method, dataset, cls, group=group))

    if several:
        for cls, points in classes.items():
            add(cls, f"By class: {WORDS[BY_CLASS]}", _cells([points], BY_CLASS), cls)
    for rule in _rules(classes.values()):
        group = "All classes, a threshold each" if several else ""
        add(rule, group, _cells(list(classes.values()), rule))
    pooled = row.head.calibration.pooled if row.head.calibration is not None else None
    if pooled is not None and len(row.records) == 1 and set(classes) == set(row.lines):
        for rule in _rules([pooled]):
            add(rule, "All classes, one threshold", _cells([pooled], rule))
    return tuple(found)


def _classes(row: RecordRow, wanted: Sequence[str]) -> Mapping[str, OperatingPoints]:
    found = [record.calibration for record in row.records if record.calibration is not None]
    every = {cls: points for one in found for cls, points in one.classes.items()}
    return {cls: every[cls] for cls in wanted if cls in every}


def _rules(points: Collection[OperatingPoints]) -> list[str]:
    return [rule for rule in RULES if all(rule in one.image for one in points)]


def _cells(points: Sequence[OperatingPoints], rule: str) -> list[TableCell]:
    """Return the cells of a line; of several classes shares are of all their images, SegF1 is the mean."""
    image = [one.image[rule] for one in points]
    pixel = [one.pixel[rule] for one in points if rule in one.pixel]
    alarms, hindsight = _sum([one.false_alarms for one in image]), [one.hindsight for one in points]
    low, high = alarms.interval or (None, None)
    return [
        TableCell(float(sum(one.images for one in points))),
        TableCell(image[0].threshold) if len(points) == 1 else TableCell(text="each its own"),
        TableCell(alarms.value),
        TableCell(low),
        TableCell(high),
        TableCell(_sum([one.found for one in image]).value),
        TableCell(_mean([one.f1 for one in pixel])),
        TableCell(_mean([one.marked for one in pixel])),
        *(TableCell(_sum([one.missed[size] for one in pixel if size in one.missed]).value) for size in SIZES),
        *(_share([one.false_alarms_at_recall for one in hindsight], key) for key in ("0.95", "1")),
        *(_share([one.found_at_false_alarms for one in hindsight], key) for key in ("0.01", "0.05")),
        TableCell(_mean([one.f1_pooled for one in hindsight])),
        TableCell(_mean([one.f1_by_image for one in hindsight])),
    ]


def _share(found: Sequence[Mapping[str, Share]], key: str) -> TableCell:
    if any(key not in one for one in found):
        return TableCell()
    return TableCell(_sum([one[key] for one in found]).value)


def _sum(shares: Sequence[Share]) -> Share:
    return Share(count=sum(one.count for one in shares), of=sum(one.of for one in shares))


def _mean(values: Sequence[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return fmean(known) if known and len(known) == len(values) else None
