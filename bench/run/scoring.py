"""From a trained module to scores: masks at the evaluation size, predictions, metrics, class by class."""

from __future__ import annotations

import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from bench.api import Sample, by_class
from bench.loading.masks import to_evaluation
from bench.metrics import Scores, evaluate_class
from bench.run.feature_store import Extractor
from bench.run.plan import Cell
from bench.run.progress import Progress
from bench.run.timing import Stopwatch
from bench.run.training import autocast
from bench.store.files import atomic

PackedMasks = Mapping[str, npt.NDArray[np.uint8]]
"""Class -> masks at the evaluation size S, one image a row, as packed bits uint8 [N, S*S/8]."""

COLUMNS = ("id", "class", "defect", "label", "score")


@dataclass(frozen=True)
class Scored:
    """Scores by class, and the per-image table behind them."""

    scores: dict[str, Scores] = field(default_factory=dict)
    rows: dict[str, list[Any]] = field(default_factory=lambda: {column: [] for column in COLUMNS})


def read_masks(cell: Cell) -> PackedMasks:
    """Read and reduce every test mask; classes without masks are left out.

    They are read before the training, so that a broken mask costs no training, and kept as bits: Real-IAD's 114,585
    test masks take 0.9 GiB so, and 7 GiB as bytes.

    Raises:
        DatasetError: a mask is unreadable or of another size than its image.
    """
    packed = {}
    has_masks = cell.task.has_masks
    size = cell.protocol.eval_size
    for cls, samples in by_class(cell.task.test).items():
        if not has_masks[cls]:
            continue
        rows = np.zeros((len(samples), (size * size + 7) // 8), dtype=np.uint8)
        for row, sample in zip(rows, samples, strict=True):
            if sample.label:
                mask = cell.task.dataset.read_mask(sample)
                row[:] = np.packbits(to_evaluation(mask, cell.protocol, cell.encoder.input_size))
        packed[cls] = rows
    return packed


def vanished(cell: Cell, masks: PackedMasks) -> dict[str, int]:
    """Count anomalous images whose mask is empty at the evaluation size, by class."""
    counts = {}
    for cls, samples in by_class(cell.task.test).items():
        if cls in masks:
            pairs = zip(samples, masks[cls], strict=True)
            counts[cls] = sum(sample.label == 1 and not bits.any() for sample, bits in pairs)
    return counts


def score(
    cell: Cell,
    extract: Extractor,
    module: torch.nn.Module,
    masks: PackedMasks,
    watch: Stopwatch,
    progress: Progress,
    *,
    batch_size: int,
    keep_maps: Path | None,
) -> Scored:
    """Predict and measure class by class, so that memory is bounded by one class's maps.

    Args:
        cell: gives test images, protocol and method.
        extract: from samples to features.
        module: the trained part, in evaluation mode.
        masks: as `read_masks` gives them.
        watch: gets the phases `inference` and `metrics`.
        progress: told of the images done.
        batch_size: images through the networks at once.
        keep_maps: folder for the maps, one float32 [N, S, S] npy file a class in the order of the per-image table.
    """
    if keep_maps is not None:
        shutil.rmtree(keep_maps, ignore_errors=True)
        keep_maps.mkdir(parents=True)
    result = Scored()
    with progress.phase("score", len(cell.task.test)) as advance:
        for cls, samples in by_class(cell.task.test).items():
            with watch.phase("inference"):
                maps, image_scores = _predict(cell, extract, module, samples, batch_size)
            with watch.phase("metrics"):
                truth = _unpack(masks[cls], cell.protocol.eval_size) if cls in masks else None
                labels = np.array([sample.label for sample in samples], dtype=np.int64)
                result.scores[cls] = evaluate_class(maps, truth, image_scores, labels, metrics=cell.protocol.metrics)
            for sample, value in zip(samples, image_scores.tolist(), strict=True):
                row = (sample.id, cls, sample.defect, sample.label, value)
                for column, entry in zip(COLUMNS, row, strict=True):
                    result.rows[column].append(entry)
            if keep_maps is not None and maps is not None:
                with atomic(keep_maps / f"{cls}.npy") as file:
                    np.save(file, maps)
            advance(len(samples), cls)
    return result


def _predict(
    cell: Cell, extract: Extractor, module: torch.nn.Module, samples: Sequence[Sample], batch_size: int
) -> tuple[npt.NDArray[np.float32] | None, npt.NDArray[np.float64]]:
    """Return float32 maps [N, S, S] (None for image-level methods) and float64 image scores [N]."""
    size = cell.protocol.eval_size
    maps: npt.NDArray[np.float32] | None = None
    scores = np.empty(len(samples), dtype=np.float64)
    for start in range(0, len(samples), batch_size):
        chunk = samples[start : start + batch_size]
        # features as in training, in full precision: an encoder in bf16 here would see other targets than were learnt
        features = extract(chunk)
        with torch.no_grad(), autocast(extract.device, cell.precision):
            prediction = cell.method.anomaly(module, features, extract.encoder.info, size)
        scores[start : start + len(chunk)] = prediction.scores.float().cpu().numpy()
        if prediction.maps is not None:
            if maps is None:
                maps = np.empty((len(samples), size, size), dtype=np.float32)
            maps[start : start + len(chunk)] = prediction.maps.float().cpu().numpy()
    return maps, scores


def _unpack(bits: npt.NDArray[np.uint8], size: int) -> npt.NDArray[np.bool_]:
    return np.unpackbits(bits, axis=1, count=size * size).reshape(-1, size, size).astype(np.bool_)
