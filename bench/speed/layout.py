"""Shared layout of the speed tables: a block a machine, rows a method, and what was measured of it."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence

from bench.registry import METHODS
from bench.report.tables.names import method_title
from bench.report.tables.table import Column, RowBlock, Table, TableCell, TableRow
from bench.speed.record import MethodSpeed, Rate, SpeedRecord

Rows = Callable[[str, MethodSpeed, SpeedRecord], Iterable[TableRow]]
"""From a method's title and speed, and the record that they are of, to its rows."""


def by_machine(
    name: str,
    title: str,
    records: Sequence[SpeedRecord],
    columns: tuple[Column, ...],
    rows: Rows,
    notes: tuple[str, ...],
    decimals: int = 1,
) -> Table:
    """Return a table with a block a machine; without a GPU's record, a row of dashes and the command that fills it.

    Args:
        name: of the table, without the workload.
        title: likewise.
        records: of one workload, at least one.
        columns: of numbers.
        rows: of each method.
        notes: what holds for the whole table, beside what is said of the images.
        decimals: of columns that do not state theirs.
    """
    workload = records[0].workload.name
    blocks = [
        RowBlock(
            machine(record),
            tuple(row for one, speed in ordered(record) for row in rows(method_title(one), speed, record)),
        )
        for record in records
    ]
    facts = [f"{machine(record)}: {_images(record)}" for record in records]
    if not any(on_gpu(record) for record in records):
        blocks.append(RowBlock("CUDA", (TableRow("all", tuple(TableCell() for _ in columns)),)))
        facts.append(f"No GPU was at hand; on one, this fills the dashes: {fill(workload)}")
    heading, every = f"{title} on {workload}", (*notes, *facts)
    return Table(f"{name}-{workload}", heading, "method", columns, tuple(blocks), "machine", every, decimals)


def fill(workload: str) -> str:
    """Return the command that fills the rows of CUDA."""
    return f"bench speed --workload {workload} --device cuda --precision bf16 --whole --record"


def machine(record: SpeedRecord) -> str:
    """Return where a record was measured."""
    place = record.environment
    if on_gpu(record):
        return f"{place.device.partition(' ')[2]}, {place.precision}"
    return f"{place.processor}, {place.precision}"


def on_gpu(record: SpeedRecord) -> bool:
    """Return whether a record is of a GPU."""
    return record.environment.device.startswith("cuda")


def ordered(record: SpeedRecord) -> Iterable[tuple[str, MethodSpeed]]:
    """Return the methods in the order that bench has them in."""
    order = METHODS.names()
    return sorted(record.methods.items(), key=lambda item: order.index(item[0]) if item[0] in order else len(order))


def columns(group: str, *titles: tuple[str, int]) -> tuple[Column, ...]:
    """Return columns of one group from their titles and decimals."""
    return tuple(Column(title, group, unit="number", decimals=decimals) for title, decimals in titles)


def ratio(rate: Rate | None) -> tuple[TableCell, TableCell]:
    """Return a ratio and its range."""
    if rate is None:
        return TableCell(), TableCell()
    return TableCell(value=rate.median), TableCell(text=f"{rate.low:.2f}–{rate.high:.2f}")


def provenance(method: MethodSpeed) -> tuple[str, ...]:
    """Return what was not measured as a whole, and what is not as published."""
    found = []
    part = [f"{one.measured:,} of {one.units:,} ({one.name})" for one in method.phases if one.extrapolated]
    if part:
        found.append(f"the whole is extrapolated from {', '.join(part)}; the other phases are measured")
    elif method.whole:
        found.append("the whole is one cell, run from end to end")
    if method.compiled:
        found.append("the trained part is compiled (torch.compile)")
    if method.random_weights:
        found.append(f"random weights in {method.encoder}, on whose values speed does not depend")
    if method.settings:
        found.append(f"not the paper's settings: {', '.join(method.settings)}")
    learning = method.learning
    blocks = f"{learning.ours.blocks} blocks, {learning.ours.units} {learning.unit} in all"
    found.append(f"input {method.input_size} px, batch {method.batch_size}; training: {blocks}")
    return tuple(found)


def _images(record: SpeedRecord) -> str:
    work = record.workload
    size = f"{work.train:,} training and {work.test:,} test images of {work.classes} classes"
    files = f"from {work.files} files of {work.mean_file_bytes / 1e6:.2f} MB"
    return f"{size}, {files}; {'; '.join(work.assumptions)}."
