"""The whole life of one cell: decode, features, train, predict, measure, record."""

from __future__ import annotations

import shutil
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch

from bench.api import EncoderInfo, Sample, by_class
from bench.encoders import catalog, frozen
from bench.errors import BenchError
from bench.loading.masks import to_evaluation
from bench.loading.pixel_cache import PixelCache
from bench.metrics import METRIC_VERSION, Scores, evaluate_class
from bench.run import feature_store, timing
from bench.run.complexity import complexity
from bench.run.feature_store import Extractor, Place
from bench.run.plan import Cell, checkpoint_of
from bench.run.progress import Progress
from bench.run.seeding import seed_everything
from bench.run.training import Trainer, TrainingLog, autocast, set_precision
from bench.store import record as records
from bench.store.files import atomic
from bench.store.provenance import environment
from bench.store.record import (
    ClassScores,
    DatasetFacts,
    Efficiency,
    EncoderFacts,
    Failure,
    ProtocolFacts,
    Record,
    TrainingFacts,
)

Mask = npt.NDArray[np.bool_]


@dataclass(frozen=True)
class Options:
    """How cells are run; nothing here may change a score beyond float rounding."""

    results: Path
    device: torch.device
    store: Place = "auto"
    store_budget_gib: float | None = None
    inference_batch: int = 16
    checkpoint_seconds: float = 60.0
    keep_maps: bool = False
    command: tuple[str, ...] = tuple(sys.argv)


def run(cell: Cell, options: Options, progress: Progress) -> Record:
    """Run a cell and write its record. An error on the way becomes a failed record; it is not raised.

    Raises:
        StoreError: the record itself cannot be written.
    """
    path = cell.path(options.results)
    try:
        record = _score(cell, options, progress, path)
    except Exception as error:
        # whatever breaks one cell must not take the sweep along; the record says what it was
        record = _record(cell, options, error=_failure(error, options.device))
    records.write(record, path)
    checkpoint_of(path).unlink(missing_ok=True)
    return record


def _score(cell: Cell, options: Options, progress: Progress, path: Path) -> Record:
    watch = timing.Stopwatch()
    device = options.device
    task, method = cell.task, cell.method
    size = cell.encoder.input_size
    set_precision(cell.precision)
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)

    # every pixel and mask is read before the training starts: a broken file must not cost hours
    pixels = PixelCache(task.dataset, task.hashes, cell.protocol.resize_for(size), size)
    images = (*task.train, *task.test)
    with watch.phase("decode"), progress.phase("decode", len(images)) as advance:
        pixels.decode(images, lambda done: advance(done, ""))
        masks = _masks(cell)

    encoder = frozen.build(cell.encoder, cell.weights).to(device)
    extract = Extractor(method, encoder, pixels, device)
    log: TrainingLog | None = None
    store_place = "none"
    if method.config.steps:
        with watch.phase("features"):
            store = feature_store.build(
                extract, task.train, progress, place=options.store, budget_gib=options.store_budget_gib
            )
        store_place = store.place
    seed_everything(cell.seed)
    module = method.build(encoder.info).to(device)
    if method.config.steps:
        trainer = Trainer(
            method,
            cell.seed,
            device,
            cell.precision,
            checkpoint_of(path),
            options.checkpoint_seconds,
            progress,
        )
        with watch.phase("train"):
            log = trainer.train(module, store, task.train)
        watch.seconds["train"] += log.seconds_before
        del store

    module.eval()
    scores: dict[str, Scores] = {}
    rows: dict[str, list[object]] = {"id": [], "class": [], "defect": [], "label": [], "score": []}
    maps_folder = _fresh_folder(path.with_suffix(".maps")) if options.keep_maps else None
    with progress.phase("score", len(task.test)) as advance:
        # class by class, so that memory is bounded by one class's maps
        for cls, samples in by_class(task.test).items():
            with watch.phase("inference"):
                maps, image_scores = _predict(cell, options, extract, module, encoder.info, samples)
            with watch.phase("metrics"):
                truth = _unpack(masks[cls], cell.protocol.eval_size) if cls in masks else None
                labels = np.array([sample.label for sample in samples], dtype=np.int64)
                given = maps if truth is not None else None
                scores[cls] = evaluate_class(given, truth, image_scores, labels, metrics=cell.protocol.metrics)
            for sample, score in zip(samples, image_scores.tolist(), strict=True):
                for column, value in zip(rows, (sample.id, cls, sample.defect, sample.label, score), strict=True):
                    rows[column].append(value)
            if maps_folder is not None and maps is not None:
                with atomic(maps_folder / f"{cls}.npy") as file:
                    np.save(file, maps)
            advance(len(samples), cls)
    records.write_predictions(path.with_suffix(".parquet"), rows)

    cost = complexity(method)
    efficiency = Efficiency(
        seconds={name: round(value, 3) for name, value in watch.seconds.items()},
        train_images_per_second=(
            round(log.batch_size * method.config.steps / watch.seconds["train"], 2) if log is not None else None
        ),
        inference_images_per_second=round(len(task.test) / watch.seconds["inference"], 2),
        peak_memory_mib=round(timing.peak_memory_mib(), 1),
        peak_device_memory_mib=timing.peak_device_memory_mib(device),
        params_total=cost.params_total,
        params_trainable=cost.params_trainable,
        macs=cost.macs,
    )
    training = log and TrainingFacts(
        steps=method.config.steps,
        batch_size=log.batch_size,
        store=store_place,
        resumed_at=tuple(log.resumed_at),
        loss_curve=log.curve(),
    )
    vanished = {cls: int((~bits.any(axis=1)).sum()) - _normals(task.test, cls) for cls, bits in masks.items()}
    return _record(
        cell,
        options,
        scores=scores,
        training=training,
        efficiency=efficiency,
        vanished=vanished,
        maps=maps_folder.name if maps_folder else None,
        predictions=path.with_suffix(".parquet").name,
    )


def _predict(
    cell: Cell,
    options: Options,
    extract: Extractor,
    module: torch.nn.Module,
    info: EncoderInfo,
    samples: Sequence[Sample],
) -> tuple[npt.NDArray[np.float32] | None, npt.NDArray[np.float64]]:
    """Return float32 maps [N, S, S] (None for image-level methods) and float64 image scores [N]."""
    size = cell.protocol.eval_size
    maps: npt.NDArray[np.float32] | None = None
    scores = np.empty(len(samples), dtype=np.float64)
    for start in range(0, len(samples), options.inference_batch):
        chunk = samples[start : start + options.inference_batch]
        with torch.no_grad(), autocast(options.device, cell.precision):
            prediction = cell.method.anomaly(module, extract(chunk), info, size)
        scores[start : start + len(chunk)] = prediction.scores.float().cpu().numpy()
        if prediction.maps is not None:
            if maps is None:
                maps = np.empty((len(samples), size, size), dtype=np.float32)
            maps[start : start + len(chunk)] = prediction.maps.float().cpu().numpy()
    return maps, scores


def _masks(cell: Cell) -> dict[str, npt.NDArray[np.uint8]]:
    """Return each class's masks at the evaluation size, as packed bits [N, S*S/8]; classes without masks are left out.

    Bits, because they are kept through the training: Real-IAD's 114,585 test masks take 0.9 GiB so, and 7 GiB as bytes.
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


def _unpack(bits: npt.NDArray[np.uint8], size: int) -> Mask:
    return np.unpackbits(bits, axis=1, count=size * size).reshape(-1, size, size).astype(np.bool_)


def _normals(samples: Sequence[Sample], cls: str) -> int:
    return sum(sample.cls == cls and sample.label == 0 for sample in samples)


def _fresh_folder(folder: Path) -> Path:
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    return folder


def _failure(error: Exception, device: torch.device) -> Failure:
    if isinstance(error, BenchError):
        return Failure(type=type(error).__name__, message=str(error), exit_code=error.exit_code)
    if isinstance(error, torch.OutOfMemoryError):
        return Failure(type="OutOfMemory", message=f"out of memory on {device}: {error}", exit_code=1)
    # an error that is not ours is a defect of bench or of a plug-in: the traceback belongs into the record
    import traceback

    return Failure(type=type(error).__name__, message="".join(traceback.format_exception(error)), exit_code=1)


def _record(
    cell: Cell,
    options: Options,
    *,
    scores: dict[str, Scores] | None = None,
    training: TrainingFacts | None = None,
    efficiency: Efficiency | None = None,
    vanished: dict[str, int] | None = None,
    predictions: str | None = None,
    maps: str | None = None,
    error: Failure | None = None,
) -> Record:
    task, protocol = cell.task, cell.protocol
    classes = {
        cls: ClassScores(values=dict(found), undefined=found.reasons) for cls, found in (scores or {}).items()
    }
    return Record(
        status="failed" if error else "done",
        created=datetime.now(UTC).isoformat(timespec="seconds"),
        command=options.command,
        cell=cell.key(),
        protocol=ProtocolFacts(
            name=protocol.name, version=protocol.version, hash=protocol.hash(), fields=protocol.fields()
        ),
        metric_version=METRIC_VERSION,
        config=cell.method.config.model_dump(mode="json"),
        changed=cell.changed,
        dataset=DatasetFacts(
            fingerprint=task.fingerprint(),
            kind=task.dataset.card.kind,
            classes_known=len(task.dataset.card.classes) or len(task.classes),
            train={cls: sum(s.cls == cls for s in task.train) for cls in task.classes},
            test_good={cls: _normals(task.test, cls) for cls in task.classes},
            test_bad={cls: sum(s.cls == cls and s.label == 1 for s in task.test) for cls in task.classes},
            masks_vanished={cls: count for cls, count in (vanished or {}).items() if count},
        ),
        encoder=EncoderFacts(
            name=cell.encoder.name,
            weights_sha256=cell.weights_sha256,
            blocks=cell.encoder.blocks,
            position=cell.encoder.position,
            input_size=cell.encoder.input_size,
            grid=catalog.describe(cell.encoder.name, cell.encoder.input_size, cell.encoder.blocks).grid,
        ),
        scores=classes,
        mean=_mean(classes, protocol.metrics),
        training=training,
        efficiency=efficiency,
        environment=environment(str(options.device), cell.precision, torch.get_num_threads()),
        predictions=predictions,
        maps=maps,
        error=error,
    )


def _mean(classes: dict[str, ClassScores], metrics: Sequence[str]) -> dict[str, float | None]:
    """Mean over classes; null where a single class has no value, since a mean over the rest would not be comparable."""
    means: dict[str, float | None] = {}
    for metric in metrics:
        values = [scores.values[metric] for scores in classes.values()]
        numbers = [value for value in values if value is not None]
        means[metric] = sum(numbers) / len(numbers) if numbers and len(numbers) == len(values) else None
    return means

