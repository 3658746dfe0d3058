"""The whole life of one cell: decode, features, train, predict, measure, record. Read this first."""

from __future__ import annotations

import shutil
import sys
from contextlib import nullcontext
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

import torch

from bench.api import Method
from bench.encoders import frozen
from bench.errors import TrainingError, UnwritableError
from bench.files import atomic_folder
from bench.loading.pixel_cache import PixelCache
from bench.loading.surprises import Surprises, tell
from bench.machine import allocator, crowding, feature_places, timing
from bench.machine.energy import Meter
from bench.machine.feature_places import Place
from bench.machine.precision import set_precision
from bench.machine.progress import Progress
from bench.plan import needs
from bench.plan.cells import Cell
from bench.plan.planned import checkpoint_of
from bench.run import calibration, feature_store, kept_model, recording, scoring
from bench.run.batches import TrainingBatches
from bench.run.extractor import Extractor
from bench.run.feature_store import FeatureStore, LastStore
from bench.run.seeding import fit_generator, seed_everything
from bench.run.single_defects import read_defects
from bench.run.textures import Draw
from bench.run.training import Trainer, TrainingLog
from bench.store import record as records
from bench.store.facts import ModelFacts
from bench.store.record import Record

LATENCY_SHARE, LATENCY_MOST = 0.1, 3.0
"""Share of the time of all before, and seconds, that images one by one are given at most."""


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
    keep_model: bool = False
    compile: bool = False
    command: tuple[str, ...] = tuple(sys.argv)
    last_store: LastStore = field(default_factory=LastStore, compare=False, repr=False)
    """Features of the cell before, for a cell that differs in nothing but its seed."""


def run(cell: Cell, options: Options, progress: Progress) -> Record:
    """Run a cell and write its record. An error on the way becomes a failed record and is not raised.

    The checkpoint of an interrupted cell stays, for the next try; that of a finished or a diverged training goes.

    Raises:
        UnwritableError: nothing can be written beside the record, or not the record itself.
    """
    path = cell.path(options.results)
    for left_over in path.parent.glob(f".{path.stem}.*.part"):
        # a process that was killed while it wrote; the caller's lock says that no other is writing now
        shutil.rmtree(left_over) if left_over.is_dir() else left_over.unlink(missing_ok=True)
    try:
        record = _live(cell, options, progress, path)
    except UnwritableError:
        # an hour of training is not to be followed by another that cannot be recorded either
        raise
    except Exception as error:
        # whatever breaks one cell must not take the sweep along; the record says what it was
        record = recording.failed(cell, options.device, options.command, error)
        if isinstance(error, TrainingError):
            # weights may be spoilt for some steps before the loss shows it
            checkpoint_of(path).unlink(missing_ok=True)
    recording.write(record, path, progress.say)
    if record.status == "done":
        checkpoint_of(path).unlink(missing_ok=True)
    return record


def _live(cell: Cell, options: Options, progress: Progress, path: Path) -> Record:
    task, method, device = cell.task, cell.method, options.device
    watch = timing.Stopwatch(Meter(device).joules)
    set_precision(cell.precision)
    feature_places.tell(options.store, options.store_budget_gib)
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)
    else:
        allocator.keep_freed()
    watcher = crowding.watch()
    crowded_before = watcher.crowded_seconds if watcher else 0.0

    # every pixel and mask is read before the training starts: a broken file must not cost hours
    size = cell.input_size
    surprises = Surprises(task.dataset.root)
    resize = cell.protocol.resize_for(size)
    pixels = PixelCache(task.dataset, task.hashes, resize, size, say=progress.say, seen=surprises.image)
    images = task.test if cell.imported is not None else (*task.train, *task.calibration, *task.test)
    with watch.phase("decode"), progress.phase("decode", len(images)) as advance:
        masks = scoring.read_masks(task, cell.protocol, size, surprises)
        defects = read_defects(task, cell.protocol, size, (*cell.metrics, *task.dataset.metrics))
        pixels.decode(images, lambda done: advance(done, ""))
    tell(surprises.findings(), progress.say, task.verify)

    encoder = frozen.build(cell.encoder, cell.weights, size).to(device)
    draw = None
    if cell.textures is not None:
        draw = Draw(cell.textures, size, device)
        with watch.phase("decode"):
            draw.decode(progress)
    extract = Extractor(method, encoder, pixels, device, progress.say, draw)
    store: FeatureStore | None = None
    if cell.steps and "images" in method.needs:
        feature_store.keep_pixels(extract, task.train)
    if cell.steps and "features" in method.needs:

        def compute() -> FeatureStore:
            with watch.phase("features"):
                return feature_store.build(
                    extract, task.train, progress, place=options.store, budget_gib=options.store_budget_gib
                )

        store = options.last_store.get(cell.features_key, compute)

    def trained(batch_size: int) -> tuple[torch.nn.Module, TrainingLog | None]:
        # seeded after the features: whether they were computed or read must not change what training draws
        seed_everything(cell.seed)
        module = needs.build(method, encoder).to(device).to(memory_format=encoder.memory_format)
        log = None
        if cell.imported is not None:
            cell.imported.fill(module)
            return module.eval(), log
        look("fit", module)
        if cell.steps:
            log = stepped(module, batch_size)
        module.eval()
        look("finish", module)
        return module, log

    def look(phase: Literal["fit", "enter", "finish"], module: torch.nn.Module) -> None:
        if getattr(type(method), phase) is getattr(Method, phase):
            return
        # a phase of a training lies within its bar, and is no second one
        bar = nullcontext(lambda units, note: None) if phase == "enter" else progress.phase(phase, len(task.train))
        with watch.phase("fit" if phase == "enter" else phase), bar as advance, torch.no_grad():
            drawn = fit_generator(cell.seed, device) if phase == "fit" else None
            random = None if drawn is None else lambda: drawn
            getattr(method, phase)(module, extract.batches(task.train, options.inference_batch, advance, random))

    def stepped(module: torch.nn.Module, batch_size: int) -> TrainingLog:
        batches = TrainingBatches(extract, store, task.train, cell.seed)
        where = (checkpoint_of(path), options.checkpoint_seconds, progress)
        trainer = Trainer(method, cell.seed, device, cell.precision, *where, batch_size, options.compile)
        with watch.phase("train"):
            return trainer.train(module, batches, task.train, lambda trained: look("enter", trained))

    configured = min(method.config.batch_size, len(task.train))
    if cell.steps:
        relieve = store.leave_device if store is not None else lambda: False
        module, log = extract.reductions.training(configured, trained, relieve)
    else:
        module, log = trained(configured)
    if log is not None:
        watch.seconds["train"] += log.seconds_before
        if log.resumed_at:
            # nobody counted what the attempts before took
            watch.joules.pop("train", None)

    maps = path.with_suffix(".maps")
    # what was kept before is of another training
    keep_maps = options.keep_maps or maps.is_dir()
    keep_model = options.keep_model or kept_model.path_of(path).is_file()
    predict = scoring.predictor(cell, extract, module, options.inference_batch)
    with watch.phase("calibrate") if task.calibration else nullcontext():
        calibrated = calibration.calibrate(predict, task, progress)
    with atomic_folder(maps) if keep_maps else nullcontext() as folder:
        scored = scoring.score(
            # on the CPU, networks and metrics take the same cores
            *(task, cell.protocol, predict, masks, watch, progress),
            metrics=cell.metrics,
            defects=defects,
            keep_maps=folder,
            overlap=device.type == "cuda",
            seen=calibrated.add if calibrated is not None else None,
        )
        if folder is not None and not any(folder.iterdir()):
            progress.say(f"{method.name} gives image scores alone: there are no maps to keep")
    model: ModelFacts | None = None
    if keep_model:
        colours = kept_model.look_at_normals(predict, cell, progress)
        model = kept_model.write(module, cell, path, colours, progress.say)
    given = min(LATENCY_MOST, LATENCY_SHARE * sum(watch.seconds.values()))
    singles = timing.one_by_one(lambda one: predict([one], True, lambda units, note: None), task.test, given)
    predictions = path.with_suffix(".parquet")
    records.write_predictions(predictions, scored.rows)
    return Record(
        status="done",
        **recording.facts(
            cell, device, options.command, {} if cell.protocol.own_size else scoring.vanished(task, masks), surprises
        ),
        **recording.scores(scored, cell.metrics),
        calibration=calibrated.facts(scored) if calibrated is not None else None,
        training=recording.training(cell, log, store.place if store else "none"),
        reduced=recording.reduced(configured, log, extract.reductions.found),
        efficiency=recording.efficiency(
            cell, log, watch, singles, device, watcher.crowded_seconds - crowded_before if watcher else None
        ),
        predictions=predictions.name,
        maps=maps.name if keep_maps else None,
        model=model,
    )
