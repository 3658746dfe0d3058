"""Preparation of a method for timing: configured, its encoder's weights found or drawn, its work counted."""

from __future__ import annotations

import math
import os
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from bench.api import Batch, Counts, Method
from bench.config import configure, merge
from bench.encoders import frozen
from bench.errors import TrainingError
from bench.machine.progress import Progress
from bench.method import resolve
from bench.plan.cells import Cell
from bench.plan.needs import side as input_side
from bench.plan.texture_source import Textures
from bench.registry import METHODS
from bench.run import cell as cells
from bench.run.cell import Options
from bench.run.complexity import complexity
from bench.run.extractor import Looking
from bench.speed import generated
from bench.speed.arithmetic import BYTES, Size
from bench.speed.ours import Variant
from bench.speed.workload import Workload
from bench.store.record import Record

BATCH = 16
"""Images through the networks at once where nothing is trained, as `bench run` has it."""


@dataclass(frozen=True)
class Plan:
    """What is measured, and for how long."""

    workload: Workload
    device: torch.device
    folder: Path
    """For generated files, caches and records; may be removed afterwards."""
    precision: str = "fp32"
    encoder: str | None = None
    weights: Path | None = None
    settings: Mapping[str, Mapping[str, Any]] | None = None
    seconds: float = 60.0
    """For the blocks of each phase of a method, all ways together."""
    rounds: int = 5
    again: bool = False
    """Whether to time our way without kept features as well."""
    compile: bool = False
    """Whether the trained part goes through torch.compile."""
    variants: tuple[Variant, ...] = ()
    """Of our way, timed as well."""


@dataclass(frozen=True)
class Prepared:
    """A method ready to be run: its cell without a task yet, and what is counted of it."""

    method: Method
    cell: Callable[[Method, Mapping[str, Counts]], Cell]
    random_weights: bool
    changed: tuple[str, ...]
    frozen_macs: int
    """Multiply-accumulates of an image's features, attention included."""
    size: Size


def prepare(plan: Plan, name: str, files: generated.Files) -> Prepared:
    """Configure a method, find or draw its encoder's weights, and count it.

    Raises:
        UsageError: unknown method, setting or encoder.
    """
    kind, workload = METHODS.load(name), plan.workload
    given = merge(workload.settings, plan.settings or {}).get(name, {})
    encoder = plan.encoder or (workload.encoder if "encoder" not in given else None)
    method = kind(configure(kind, workload.dataset, given, encoder))
    published = configure(kind, workload.dataset, {}, None)
    changed = tuple(
        f"{key} = {value}" for key, value in method.config if value != getattr(published, key) and key != "encoder"
    )
    request = method.encoder()
    path, random = None, False
    if request is not None:
        path, random = generated.weights_file(request.name, plan.weights, plan.folder / "weights")

    def cell(configured: Method, counts: Mapping[str, Counts]) -> Cell:
        return Cell(
            method=configured,
            task=files.task(counts),
            seed=0,
            protocol=resolve("common", kind, "industrial"),
            encoder=request,
            weights=path,
            weights_sha256="",
            precision=plan.precision,
            changed=(),
            textures=Textures() if "textures" in kind.needs else None,
        )

    side = input_side(method, request)
    skeleton = frozen.skeleton(request, side)
    with torch.device("meta"), FlopCounterMode(display=False) as products:
        features = Looking(method, skeleton).batch(torch.empty(1, 3, side, side), ("",))
    size = Size(
        encoder=BYTES * sum(parameter.numel() for parameter in skeleton.parameters()),
        trained=BYTES * complexity(method).params_trainable,
        features=sum(one.numel() * one.element_size() for one in features.values()),
        pixels=3 * side**2,
    )
    return Prepared(method, cell, random, changed, products.get_total_flops() // 2, size)


def replaying(kind: type[Method], images: int, kept: list[nn.Module]) -> type[Method]:
    """Return the method with a fit that is given the images at hand over and over, until there are `images`.

    What the memory costs, and what it is to search it, depends on how much is remembered; the encoder need not see an
    image twice for that.

    Args:
        kind: the method.
        images: how many its fit is to see.
        kept: gets the module that was fitted.
    """

    def fit(self: Method, module: nn.Module, batches: Iterable[Batch]) -> None:
        kept.append(module)
        kind.fit(self, module, _repeated(list(batches), images))

    return type(kind.__name__, (kind,), {"fit": fit})


def _repeated(batches: list[Batch], images: int) -> Iterator[Batch]:
    while images > 0:
        for batch in batches:
            count = min(images, batch.count)
            if count:
                yield batch.first(count)
            images -= count


def run_cell(plan: Plan, cell: Cell, results: str, listener: Progress) -> Record:
    """Run a cell as `bench run` does and return its record, which goes into the folder `results` of the plan's.

    Raises:
        TrainingError: it failed.
    """
    options = Options(
        plan.folder / results,
        plan.device,
        inference_batch=BATCH,
        checkpoint_seconds=math.inf,
        compile=plan.compile,
    )
    record = cells.run(cell, options, listener)
    if record.error is not None:
        raise TrainingError(f"{cell.method.name} cannot be timed: {record.error.message}")
    return record


@contextmanager
def private_cache(folder: Path) -> Iterator[None]:
    """Keep generated pixels out of the user's cache."""
    before = os.environ.get("BENCH_CACHE")
    os.environ["BENCH_CACHE"] = str(folder)
    try:
        yield
    finally:
        if before is None:
            del os.environ["BENCH_CACHE"]
        else:
            os.environ["BENCH_CACHE"] = before
