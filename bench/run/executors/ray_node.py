"""Node side of the Ray executor. The node shares no files with the driver but the data.

Importing this module loads no torch: threads are set first.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import socket
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from bench import regular
from bench.cache import cache_dir
from bench.errors import StoreError, WeightsError
from bench.run.executors.handover import Parcel, set_threads

if TYPE_CHECKING:
    from bench.plan.cells import Cell

WAIT_SECONDS = 300.0
"""How long a cell's lock on a node is waited for: the former attempt may be dying still."""


@dataclass(frozen=True, slots=True)
class NodeFacts:
    """What a node says of itself."""

    host: str
    missing: tuple[str, ...]
    """Of the paths asked for, those that the node does not have."""


@dataclass(frozen=True, slots=True)
class NodeResult:
    """What came of a cell."""

    record: str
    """The record as JSON."""
    files: dict[str, bytes]
    """What lies beside the record: path relative to its folder -> content."""
    said: tuple[str, ...]
    """What was said on the way."""


def look(paths: Sequence[str]) -> NodeFacts:
    """Return which of the paths are not there."""
    return NodeFacts(socket.gethostname(), tuple(path for path in paths if not Path(path).exists()))


def work(parcel: Parcel, device: str, threads: int) -> NodeResult:
    """Run a cell in a folder of this node and return its files; its checkpoint stays here until it is done.

    Args:
        parcel: the cell.
        device: `cuda` for the GPU that Ray lent, or `cpu`.
        threads: for torch and the metrics.

    Raises:
        BenchError: the cell cannot even be begun here, or its record not be written.
    """
    set_threads(threads)
    import torch

    from bench.files import try_lock
    from bench.machine import streams
    from bench.run import cell as cells

    item, options = parcel.open()
    cell = replace(item.cell, weights=_weights(item.cell))
    # the same cell may be run for other results folders too, by other drivers
    own = hashlib.sha256(os.fsencode(options.results)).hexdigest()[:12]
    options = replace(options, results=cache_dir() / "cells" / own, device=torch.device(device))
    path = cell.path(options.results)
    listener = _Listener()
    deadline = time.monotonic() + WAIT_SECONDS
    while True:
        with try_lock(path.with_suffix(".lock")) as mine:
            if mine:
                # a plug-in may print, into a log of Ray's on a full disk
                with streams.protected():
                    record = cells.run(cell, options, listener)
                made = NodeResult(record.model_dump_json(), _beside(path), tuple(listener.said))
                _remove(path)
                return made
        if time.monotonic() > deadline:
            raise StoreError(f"{path} on {socket.gethostname()} is held by another process. Is the cell run twice?")
        time.sleep(0.5)


def _weights(cell: Cell) -> Path | None:
    """Return the encoder's file on this node: at the driver's path, as shipped with bench, or from timm's hub."""
    from bench.encoders import digest, weights

    if cell.encoder is None or cell.weights is None or cell.weights.is_file():
        return cell.weights
    path = weights.locate(cell.encoder.name)
    if digest.fingerprint(path) != cell.weights_sha256:
        raise WeightsError(
            f"{path} on {socket.gethostname()} is not the file that the run was planned with ({cell.weights}). "
            f"Expected SHA-256 {cell.weights_sha256}. Put that file at the same path on every node"
        )
    return path


def _beside(path: Path) -> dict[str, bytes]:
    """Return the predictions, the model and the maps that belong to a record."""
    from bench.run.kept_model import path_of

    files = [path.with_suffix(".parquet"), path_of(path), *sorted(path.with_suffix(".maps").glob("*.npy"))]
    return {str(file.relative_to(path.parent)): regular.read_bytes(file) for file in files if file.is_file()}


def _remove(path: Path) -> None:
    shutil.rmtree(path.with_suffix(".maps"), ignore_errors=True)
    for suffix in (".parquet", ".model.safetensors", ".json"):
        path.with_suffix(suffix).unlink(missing_ok=True)


class _Listener:
    """Keeps what is said; how far the cell is stays on the node."""

    def __init__(self) -> None:
        from bench.machine.progress import Silent

        self.said: list[str] = []
        self.phase = Silent().phase

    def say(self, text: str) -> None:
        self.said.append(f"{text} (on {socket.gethostname()}, process {os.getpid()})")
