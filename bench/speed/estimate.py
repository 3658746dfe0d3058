"""Estimates of how long cells take: from earlier records of the same kind here, else counted from MACs."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch

from bench.errors import StoreError
from bench.machine.rates import matrix_rate
from bench.machine.timing import describe
from bench.plan.cells import Cell
from bench.plan.planned import Planned
from bench.run.complexity import complexity
from bench.store import record as records
from bench.store.provenance import environment
from bench.store.record import Record

EFFICIENCY = 0.5
"""Share of the device's matrix rate that a whole network reaches; small layers and memory traffic take the rest."""


@dataclass(frozen=True)
class Estimate:
    """Expected wall seconds; `measured` when they come from earlier records rather than from counting."""

    seconds: float
    measured: bool


def estimates(planned: Sequence[Planned], results: Path, device: torch.device) -> list[Estimate | None]:
    """Return how long each cell will take on this machine, run in this order; None where there is nothing to do."""
    history = _History(results, device)
    found: list[Estimate | None] = []
    stored: str | None = None
    for item in planned:
        if not item.todo:
            found.append(None)
            continue
        if item.by_model:
            found.append(Estimate(_of_inference(item.record), measured=True))
            continue
        # a cell leaves its stored features to the next one, if that differs in nothing but the seed
        shared = False
        if item.cell.steps:
            shared, stored = item.cell.features_key == stored, item.cell.features_key
        seconds = _from_records(item.cell, history.of(item.cell), shared)
        if seconds is None:
            found.append(Estimate(_from_macs(item.cell, device, shared), measured=False))
        else:
            found.append(Estimate(seconds, measured=True))
    return found


def _of_inference(record: Record | None) -> float:
    """Return the seconds that a finished cell took for what its kept model has to do again."""
    seconds = record.efficiency.seconds if record is not None and record.efficiency is not None else {}
    return sum(seconds.get(phase, 0.0) for phase in ("decode", "inference"))


class _History:
    """Records of a results folder, each read at most once, and only as far back as somebody asks."""

    def __init__(self, results: Path, device: torch.device) -> None:
        self._results = results
        self._here = environment(describe(device), "", torch.get_num_threads())
        self._files: dict[str, list[Path]] = {}
        self._read: dict[Path, Record | None] = {}

    def of(self, cell: Cell) -> Iterator[Record]:
        """Yield done records of the cell's method, encoder, input size, precision and machine, newest file first."""
        name = cell.method.name
        if name not in self._files:
            self._files[name] = sorted(self._results.glob(f"*/{name}/*/*.json"), key=_modified, reverse=True)
        for path in self._files[name]:
            if path not in self._read:
                self._read[path] = _readable(path)
            record = self._read[path]
            if record is not None and self._fits(record, cell):
                yield record

    def _fits(self, record: Record, cell: Cell) -> bool:
        there, here = record.environment, self._here
        return (
            record.status == "done"
            and (there.cpu, there.cores, there.device) == (here.cpu, here.cores, here.device)
            and there.precision == cell.precision
            and (record.encoder_id[0], record.input_size)
            == (cell.encoder.name if cell.encoder else "none", cell.input_size)
        )


def _readable(path: Path) -> Record | None:
    try:
        return records.read(path)
    except StoreError:
        return None


def _modified(path: Path) -> float:
    try:
        return path.stat().st_mtime
    except OSError:  # removed since it was listed
        return 0.0


def _from_records(cell: Cell, history: Iterator[Record], shared: bool) -> float | None:
    """Scale the newest usable record to this cell, phase by phase; None without one.

    Features may come from an older one: a record that took them from another seed's cell does not say what they cost.
    """
    batch, trained = cell.method.config.batch_size, len(cell.task.train)
    total: float | None = None
    for record in history:
        was_trained = sum(record.dataset.train.values())
        was_tested = sum(record.dataset.test_good.values()) + sum(record.dataset.test_bad.values())
        was_seen = record.training.steps * record.training.batch_size if record.training else 0
        if record.efficiency is None or not (was_trained and was_tested and (was_seen or not cell.steps)):
            continue
        seconds = record.efficiency.seconds
        if total is None:
            images = (trained + len(cell.task.test)) / (was_trained + was_tested)
            total = seconds.get("decode", 0.0) * images + seconds.get("fit", 0.0) * trained / was_trained
            total += (seconds.get("inference", 0.0) + seconds.get("metrics", 0.0)) * len(cell.task.test) / was_tested
            if was_seen:
                total += seconds.get("train", 0.0) * cell.steps * min(batch, trained) / was_seen
        if shared or not cell.steps:
            return total
        if "features" in seconds:
            return total + seconds["features"] * trained / was_trained
    return total


def _from_macs(cell: Cell, device: torch.device, shared: bool) -> float:
    cost = complexity(cell.method)
    seen = cell.steps * min(cell.method.config.batch_size, len(cell.task.train))
    # the backward pass costs twice the forward one; the encoder runs once a training image thanks to the store
    macs = 3 * seen * cost.macs_trainable + len(cell.task.test) * cost.macs
    if not shared:
        macs += len(cell.task.train) * (cost.macs - cost.macs_trainable)
    return 2 * macs / (EFFICIENCY * matrix_rate(device))
