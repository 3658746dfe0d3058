"""State of a planned cell: what the results folder holds of it, what is lacking, what is left to do."""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from bench.errors import StoreError
from bench.plan.cells import Cell
from bench.store import record as records
from bench.store.record import Record


@dataclass(frozen=True)
class Planned:
    """A cell and what the results folder already holds of it."""

    cell: Cell
    state: Literal["done", "failed", "interrupted", "new"]
    record: Record | None = None
    lacking: tuple[str, ...] = ()
    """Of a finished cell: what is asked for beside the record and was not kept."""
    unmeasured: tuple[str, ...] = ()
    """Of a finished cell: metrics that are asked for and that its record does not hold."""
    again: bool = False
    """A finished cell is to be run again; its record stays until there is a new one."""

    by_model: bool = False
    """A finished cell kept its model, which gives what is lacking without a training."""

    @property
    def todo(self) -> bool:
        """Return whether there is anything to be done."""
        return self.state != "done" or self.again or self.by_model

    @property
    def text(self) -> str:
        """Return the state as the plan shows it: `done, maps not kept`."""
        if self.state != "done":
            return self.state
        if self.again:
            return "done, again"
        if self.by_model:
            return f"done, {' and '.join((*self.lacking, *self.unmeasured))} to come"
        unkept = (f"{what} not kept" for what in self.lacking)
        return ", ".join(["done", *unkept, *(f"{metric} not measured" for metric in self.unmeasured)])

    @property
    def seconds(self) -> float:
        """Return how long the finished cell took; 0 where there is none."""
        cost = self.record.efficiency if self.record is not None else None
        return sum(cost.seconds.values()) if cost is not None else 0.0


def look_up(
    cells: Sequence[Cell],
    results: Path,
    note: Callable[[str], None] = lambda text: None,
    keep: Collection[str] = (),
    again: bool = False,
) -> list[Planned]:
    """Pair each cell with its record in the results folder; an unreadable record is said and counts as new.

    Args:
        cells: of the plan.
        results: where records are looked for.
        note: told of records that cannot be read, and of maps that are asked for and cannot be.
        keep: what is asked for beside the record: `maps`, `model`.
        again: finished cells are to be run again.
    """
    planned = []
    for cell in cells:
        path = cell.path(results)
        record: Record | None = None
        if path.is_file():
            try:
                record = records.read(path)
            except StoreError as error:
                note(f"{error}")
        if record is not None and record.status == "done":
            lacking = tuple(what for what in keep if not _is_kept(what, record, path))
            if "maps" in lacking and record.is_mapless:
                note(f"{cell.name}: {cell.method.name} gives image scores alone: there are no maps to keep")
                lacking = tuple(what for what in lacking if what != "maps")
            unmeasured = tuple(one for one in cell.metrics if one not in record.protocol.metrics)
            wanted = bool(lacking or unmeasured) and "model" not in lacking
            by_model = not again and wanted and _is_kept("model", record, path)
            planned.append(Planned(cell, "done", record, lacking, unmeasured, again, by_model))
        elif record is not None:
            planned.append(Planned(cell, "failed", record))
        elif checkpoint_of(path).is_file():
            planned.append(Planned(cell, "interrupted"))
        else:
            planned.append(Planned(cell, "new"))
    return planned


def ended_since(item: Planned, results: Path) -> Record | None:
    """Return the record of a cell that was finished, or got more, after the plan was made; None where there is none."""
    (now,) = look_up([item.cell], results)
    known = item.record if item.state == "done" else None
    return now.record if now.record is not None and now.state == "done" and now.record != known else None


def checkpoint_of(path: Path) -> Path:
    """Return the checkpoint that belongs to a record's path."""
    return path.with_suffix(".ckpt")


def _is_kept(what: str, record: Record, path: Path) -> bool:
    name = {"maps": record.maps, "model": record.model.file if record.model is not None else None}[what]
    return name is not None and path.with_name(name).exists()
