"""Evaluation cost of a whole workload: metrics and record, measured on made-up maps."""

from __future__ import annotations

import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch

from bench.api import Sample, by_class, labels_of
from bench.machine.progress import Advance, Silent
from bench.machine.timing import Stopwatch
from bench.plan.cells import Cell
from bench.plan.task import Task
from bench.run import recording, scoring
from bench.run.scoring import PackedMasks, Predicted
from bench.speed.record import Phase
from bench.store import record as records
from bench.store.record import Record

MAX_RECORDED_IMAGES = 2_000
"""Test images after which no further class is measured; Real-IAD's 114,585 are extrapolated from as many."""


@dataclass
class MadeUp:
    """Predicts smooth maps with a bump on every defect; counts the seconds that this takes.

    Args:
        size: side of the maps.
        with_maps: False for methods without.
    """

    size: int
    with_maps: bool
    seconds: float = 0.0

    def __post_init__(self) -> None:
        rng = np.random.default_rng(0)
        self._base = rng.random((self.size, self.size), dtype=np.float32)

    def __call__(self, samples: Sequence[Sample], map_wanted: bool, advance: Advance) -> Predicted:
        """Return maps float32 [N, S, S] and scores float64 [N]."""
        start = time.perf_counter()
        labels = np.array(labels_of(samples))
        scores = np.random.default_rng(1).random(len(samples)) + labels
        maps = None
        if self.with_maps and map_wanted:
            maps = np.empty((len(samples), self.size, self.size), dtype=np.float32)
            for place, one in enumerate(maps):
                # no two maps have the same values: ties would make ranking cheaper than it is
                np.multiply(np.roll(self._base, 97 * place), 1.0 + 1e-4 * place, out=one)
                if labels[place]:
                    one[box(self.size)] += 0.5
        advance(len(samples), "")
        self.seconds += time.perf_counter() - start
        return maps, scores


def box(size: int) -> tuple[slice, slice]:
    """Return where the defect of a made-up map of this side is: a hundredth of it."""
    return slice(size // 4, size // 4 + size // 10), slice(size // 4, size // 4 + size // 10)


def packed(task: Task, size: int) -> PackedMasks:
    """Return the masks of a task of generated images, as `scoring.read_masks` would."""
    mask = np.zeros((size, size), dtype=np.bool_)
    mask[box(size)] = True
    kinds = np.stack([np.packbits(np.zeros_like(mask)), np.packbits(mask)])
    return {cls: kinds[labels_of(samples)] for cls, samples in by_class(task.test).items()}


def phases(cell: Cell, task: Task, whole: int, device: torch.device, with_maps: bool) -> tuple[Phase, Phase]:
    """Return metrics and record of `whole` test images, timed on those of a task.

    Args:
        cell: what the record is about.
        task: generated images of which nothing is read.
        whole: test images of the workload.
        device: for the record.
        with_maps: whether the method gives maps.
    """
    size = cell.protocol.eval_size
    predict = MadeUp(size, with_maps)
    masks = packed(task, size)
    start = time.perf_counter()
    scored = scoring.score(
        task, cell.protocol, predict, masks, Stopwatch(), Silent(), metrics=cell.metrics, keep_maps=None
    )
    seconds = time.perf_counter() - start - predict.seconds
    measured = len(task.test)
    found = Phase(name="metrics", seconds=seconds * max(1.0, whole / measured), units=whole, measured=measured)
    start = time.perf_counter()
    with tempfile.TemporaryDirectory(prefix="bench-speed-") as folder:
        records.write_predictions(Path(folder, "record.parquet"), scored.rows)
        facts = recording.facts(replace(cell, task=task), device, (), {})
        made = Record(status="done", **facts, **recording.scores(scored, cell.metrics))
        records.write(made, Path(folder, "record.json"))
    return found, Phase(name="record", seconds=time.perf_counter() - start, units=1, measured=1)
