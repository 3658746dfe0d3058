"""Earlier results of a cell on other data, in the same results folder."""

from __future__ import annotations

from pathlib import Path

from bench.errors import StoreError
from bench.metrics import METRIC_VERSION
from bench.plan.cells import Cell
from bench.store import record as records
from bench.store.record import Record


def recorded_with_other_data(cell: Cell, results: Path) -> Path | None:
    """Return the record of a cell that differs from this one in nothing but the bytes of its data; None without one."""
    own = cell.path(results)
    # few-shot cells choose their images by the seed: only the same seed is the same cell
    for path in sorted(own.parent.glob(f"{own.stem.rpartition('-')[0]}-*.json")):
        try:
            found = records.read(path)
        except StoreError:
            continue
        if path != own and _is_same_but_data(cell, found):
            return path
    return None


def _is_same_but_data(cell: Cell, record: Record) -> bool:
    return (
        record.cell.model_copy(update={"fingerprint": cell.fingerprint}) == cell.key
        and record.dataset.fingerprint != cell.task.fingerprint
        and record.protocol.hash == cell.protocol.hash()
        and record.metric_version == METRIC_VERSION
        and record.config == cell.method.config.model_dump(mode="json")
        and record.encoder_id[1] == cell.weights_sha256
        and record.environment.precision == cell.precision
    )
