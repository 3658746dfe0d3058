"""How long a cell will take: from earlier records of the same kind on this machine, else counted from MACs."""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import torch

from bench.errors import StoreError
from bench.run.complexity import complexity
from bench.run.plan import Cell, Planned
from bench.run.timing import describe
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


def estimate(item: Planned, results: Path, device: torch.device) -> Estimate:
    """Return how long the cell will take on this machine."""
    cell = item.cell
    for earlier in _earlier(cell, results, device):
        found = _from_record(cell, earlier)
        if found is not None:
            return Estimate(found, measured=True)
    return Estimate(_from_macs(cell, device), measured=False)


def _earlier(cell: Cell, results: Path, device: torch.device) -> Iterator[Record]:
    """Yield done records of the same method, encoder, input size, precision and machine, newest file first.

    One at a time: the first usually serves, and a plan of hundreds of cells must not read every record for each.
    """
    here = environment(describe(device), cell.precision, torch.get_num_threads())
    files = results.glob(f"*/{cell.method.name}/*/s*.json")
    for path in sorted(files, key=_modified, reverse=True):
        try:
            record = records.read(path)
        except StoreError:
            continue
        there = record.environment
        same_machine = (there.cpu, there.cores, there.device, there.precision) == (
            here.cpu,
            here.cores,
            here.device,
            here.precision,
        )
        same_work = (record.encoder.name, record.encoder.input_size) == (cell.encoder.name, cell.encoder.input_size)
        if record.status == "done" and same_machine and same_work:
            yield record


def _modified(path: Path) -> float:
    try:
        return path.stat().st_mtime
    except OSError:  # removed since it was listed
        return 0.0


def _from_record(cell: Cell, earlier: Record) -> float | None:
    if earlier.efficiency is None or earlier.training is None:
        return None
    seconds = earlier.efficiency.seconds
    trained = sum(earlier.dataset.train.values())
    tested = sum(earlier.dataset.test_good.values()) + sum(earlier.dataset.test_bad.values())
    images, was_images = len(cell.task.train) + len(cell.task.test), trained + tested
    seen = cell.method.config.steps * min(cell.method.config.batch_size, len(cell.task.train))
    was_seen = earlier.training.steps * earlier.training.batch_size
    if not (was_seen and was_images and tested):
        return None
    return (
        seconds.get("decode", 0.0) * images / was_images
        + seconds.get("features", 0.0) * len(cell.task.train) / trained
        + seconds.get("train", 0.0) * seen / was_seen
        + (seconds.get("inference", 0.0) + seconds.get("metrics", 0.0)) * len(cell.task.test) / tested
    )


def _from_macs(cell: Cell, device: torch.device) -> float:
    cost = complexity(cell.method)
    config = cell.method.config
    seen = config.steps * min(config.batch_size, len(cell.task.train))
    # the backward pass costs twice the forward one; the encoder runs once a training image thanks to the store
    macs = 3 * seen * cost.macs_trainable + len(cell.task.train) * (cost.macs - cost.macs_trainable)
    macs += len(cell.task.test) * cost.macs
    return 2 * macs / (EFFICIENCY * _matrix_rate(device))


@lru_cache(maxsize=4)
def _matrix_rate(device: torch.device) -> float:
    """Measure float32 matrix products: floating-point operations a second."""
    side = 1024 if device.type == "cpu" else 8192
    a = torch.randn(side, side, device=device)
    count = 0
    start = time.perf_counter()
    while time.perf_counter() - start < 0.2:
        a = a @ a
        a /= a.norm()
        a.sum().item()
        count += 1
    return 2 * side**3 * count / (time.perf_counter() - start)
