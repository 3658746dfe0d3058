"""The whole life of one cell: decode, features, train, predict, measure, record. Read this first."""

from __future__ import annotations

import sys
from dataclasses import dataclass, field
from pathlib import Path

import torch

from bench.api import Method
from bench.encoders import frozen
from bench.loading.pixel_cache import PixelCache
from bench.run import feature_store, recording, scoring, timing
from bench.run.feature_store import Extractor, FeatureStore, LastStore, Place
from bench.run.plan import Cell, checkpoint_of
from bench.run.progress import Progress
from bench.run.seeding import seed_everything
from bench.run.training import Trainer, TrainingLog, set_precision
from bench.store import record as records
from bench.store.record import Record


@dataclass(frozen=True)
class Options:
    """How cells are run; nothing here changes a score beyond float rounding."""

    results: Path
    device: torch.device
    store: Place = "auto"
    store_budget_gib: float | None = None
    inference_batch: int = 16
    checkpoint_seconds: float = 60.0
    keep_maps: bool = False
    command: tuple[str, ...] = tuple(sys.argv)
    last_store: LastStore = field(default_factory=LastStore, compare=False, repr=False)
    """Features of the cell before, for a cell that differs in nothing but its seed."""


def run(cell: Cell, options: Options, progress: Progress) -> Record:
    """Run a cell and write its record. An error on the way becomes a failed record and is not raised.

    The checkpoint of an interrupted or failed training stays, for the next try; that of a finished one goes.

    Raises:
        StoreError: the record itself cannot be written.
    """
    path = cell.path(options.results)
    for left_over in path.parent.glob(f".{path.stem}.*.part"):
        # a process that was killed while it wrote; the caller's lock says that no other is writing now
        left_over.unlink(missing_ok=True)
    try:
        record = _live(cell, options, progress, path)
    except Exception as error:
        # whatever breaks one cell must not take the sweep along; the record says what it was
        record = recording.failed(cell, options.device, options.command, error)
    records.write(record, path)
    if record.status == "done":
        checkpoint_of(path).unlink(missing_ok=True)
    return record


def _live(cell: Cell, options: Options, progress: Progress, path: Path) -> Record:
    watch = timing.Stopwatch()
    task, method, device = cell.task, cell.method, options.device
    set_precision(cell.precision)
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)

    # every pixel and mask is read before the training starts: a broken file must not cost hours
    size = cell.encoder.input_size
    pixels = PixelCache(task.dataset, task.hashes, cell.protocol.resize_for(size), size)
    images = (*task.train, *task.test)
    with watch.phase("decode"), progress.phase("decode", len(images)) as advance:
        masks = scoring.read_masks(task, cell.protocol, size)
        pixels.decode(images, lambda done: advance(done, ""))

    encoder = frozen.build(cell.encoder, cell.weights).to(device)
    extract = Extractor(method, encoder, pixels, device)
    store: FeatureStore | None = None
    if method.config.steps:

        def compute() -> FeatureStore:
            with watch.phase("features"):
                return feature_store.build(
                    extract, task.train, progress, place=options.store, budget_gib=options.store_budget_gib
                )

        store = options.last_store.get(cell.features_key, compute)

    # seeded after the features: how those were had must not move the generators that training draws from
    seed_everything(cell.seed)
    module = method.build(encoder.info).to(device)
    if type(method).fit is not Method.fit:
        with watch.phase("fit"), progress.phase("fit", len(task.train)) as advance, torch.no_grad():
            method.fit(module, extract.batches(task.train, options.inference_batch, advance))
    log: TrainingLog | None = None
    if store is not None:
        trainer = Trainer(
            method, cell.seed, device, cell.precision, checkpoint_of(path), options.checkpoint_seconds, progress
        )
        with watch.phase("train"):
            log = trainer.train(module, store, task.train)
        watch.seconds["train"] += log.seconds_before

    maps = path.with_suffix(".maps") if options.keep_maps else None
    module.eval()
    predict = scoring.predictor(cell, extract, module, options.inference_batch)
    scored = scoring.score(task, cell.protocol, predict, masks, watch, progress, keep_maps=maps)
    predictions = path.with_suffix(".parquet")
    records.write_predictions(predictions, scored.rows)
    return Record(
        status="done",
        **recording.facts(cell, device, options.command, scoring.vanished(task, masks)),
        **recording.scores(scored, cell.protocol.metrics),
        training=recording.training(cell, log, store.place if store else "none"),
        efficiency=recording.efficiency(cell, log, watch.seconds, device),
        predictions=predictions.name,
        maps=maps.name if maps else None,
    )
