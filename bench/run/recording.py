"""Recording of a cell: its facts, its scores or its failure, its cost."""

from __future__ import annotations

import traceback
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import torch

from bench.api import Dataset, EncoderRequest, Finding, Sample
from bench.combined import Combined
from bench.encoders import catalog
from bench.errors import BenchError, DatasetError, StoreError
from bench.loading.surprises import Surprises, notes
from bench.machine import timing
from bench.metrics import METRIC_VERSION, parse
from bench.plan import held_back, mixing
from bench.plan.cells import Cell
from bench.plan.imported import Imported
from bench.plan.task import Task
from bench.protocol import Protocol
from bench.run.complexity import complexity
from bench.run.scoring import Scored
from bench.run.training import TrainingLog
from bench.store import record as records
from bench.store.agreement import mean
from bench.store.facts import (
    ClassScores,
    DatasetFacts,
    Efficiency,
    EncoderFacts,
    Failure,
    ImportedFacts,
    Latency,
    ProtocolFacts,
    TrainingFacts,
)
from bench.store.provenance import environment
from bench.store.record import Record


def facts(
    cell: Cell,
    device: torch.device,
    command: Sequence[str],
    vanished: Mapping[str, int],
    surprises: Surprises | None = None,
) -> dict[str, Any]:
    """Return the fields that a done and a failed record share."""
    return {
        "created": datetime.now(UTC).isoformat(timespec="seconds"),
        "command": tuple(command),
        "cell": cell.key,
        "protocol": protocol(cell.protocol, cell.metrics),
        "metric_version": METRIC_VERSION,
        "variant_versions": versions((*cell.metrics, *cell.task.dataset.metrics)),
        "units": units((*cell.metrics, *cell.task.dataset.metrics)),
        "config": cell.method.config.model_dump(mode="json"),
        "changed": cell.changed,
        "dataset": _told(cell, dataset(cell.task, vanished, cell.protocol, surprises)),
        "encoder": encoder(cell.encoder, cell.weights_sha256) if cell.encoder else None,
        "input_size": cell.input_size,
        "environment": environment(timing.describe(device), cell.precision, torch.get_num_threads()),
        "imported": imported(cell.imported) if cell.imported else None,
    }


def imported(weights: Imported) -> ImportedFacts:
    """Return which file of a method's authors a model was read from."""
    return ImportedFacts(file=weights.path.name, sha256=weights.sha256)


def versions(metrics: Sequence[str]) -> dict[str, int]:
    """Return the version of each metric that METRIC_VERSION does not cover: variants, and those of plug-ins."""
    found = {metric: parse(metric).version for metric in metrics}
    return {metric: version for metric, version in found.items() if version is not None}


def units(metrics: Sequence[str]) -> dict[str, str]:
    """Return the unit of each metric that is no share in [0, 1]."""
    return {metric: unit for metric in metrics if (unit := parse(metric).unit)}


def protocol(used: Protocol, metrics: Sequence[str]) -> ProtocolFacts:
    """Return the protocol as records carry it, with what was measured."""
    return ProtocolFacts(
        name=used.name, version=used.version, hash=used.hash(), rules=used.rules(), metrics=tuple(metrics)
    )


def _told(cell: Cell, images: DatasetFacts) -> DatasetFacts:
    """Return the facts of images with what the method was told of them, where that is more than others are."""
    notes = list(images.notes)
    if "classes" in cell.method.needs:
        notes.append(f"{cell.method.name} is told the class of each image, at test time too")
    if cell.textures is not None:
        notes.append(cell.textures.note)
    if cell.method.note:
        notes.append(cell.method.note)
    return images.model_copy(update={"notes": tuple(notes)})


def encoder(request: EncoderRequest, sha256: str) -> EncoderFacts:
    """Return the frozen encoder that a method asked for, with the hash of its weights."""
    info = catalog.requested(request)
    return EncoderFacts(
        name=request.name,
        weights_sha256=sha256,
        blocks=request.blocks,
        position=request.position,
        norm=request.norm,
        grid=info.grid,
        mean=info.mean,
        std=info.std,
    )


def dataset(
    task: Task, vanished: Mapping[str, int], protocol: Protocol, surprises: Surprises | None = None
) -> DatasetFacts:
    """Return which images were used.

    Args:
        task: gives them.
        vanished: masks that are empty at the evaluation size, by class.
        protocol: says whether such images are relabelled.
        surprises: what was read otherwise than it looks; masks that were empty before are told there.
    """
    empty = surprises.empties if surprises is not None else {}
    lost = {cls: count for cls, count in vanished.items() if count}
    return DatasetFacts(
        fingerprint=task.fingerprint,
        kind=task.dataset.card.kind,
        classes_known=task.classes_known,
        parts_known=task.parts_known,
        normal=task.normal,
        root=_root(task.dataset),
        chosen=_chosen(task),
        train=_count(task.train, task.classes),
        test_good=_count([sample for sample in task.test if sample.label == 0], task.classes),
        test_bad=_count([sample for sample in task.test if sample.label == 1], task.classes),
        masks_vanished={cls: count - empty.get(cls, 0) for cls, count in lost.items() if count > empty.get(cls, 0)},
        relabelled=lost if protocol.label_rule == "mask" else {},
        notes=tuple(f"{cls}: {note}" for cls, note in task.dataset.notes if cls in task.classes)
        + tuple(mixing.notes(task.train))
        + ((held_back.note(task.calibration, task.train),) if task.calibration else ())
        + notes([*_remarks(task), *(surprises.findings() if surprises is not None else ())]),
    )


def _chosen(task: Task) -> tuple[str, ...]:
    """Return the ids of the training images that the seed chose: the few shots, or those that are anomalous."""
    return tuple(sample.id for sample in task.train if task.shots or sample.label)


def _root(dataset: Dataset) -> str | None:
    """Return where a dataset lies, relative where that is below the working directory; None where it is found anyway.

    A report of the same place needs no second `--data-root` then.
    """
    if isinstance(dataset, Combined):
        return str(dataset.roots)
    with suppress(DatasetError):
        if dataset.locate(None) == dataset.root:
            return None
    here = Path.cwd()
    return str(dataset.root.relative_to(here) if dataset.root.is_relative_to(here) else dataset.root)


def _remarks(task: Task) -> Iterator[Finding]:
    """Yield what the dataset says of the task's classes, or of its root."""
    return (finding for finding in task.dataset.remarks if finding.cls in ("", *task.classes, *task.normal))


def scores(found: Scored, metrics: Sequence[str]) -> dict[str, Any]:
    """Return the record's scores by class, their mean, and those of all classes pooled."""
    classes = {
        cls: ClassScores(values=dict(own), extra=dict(extra), undefined={**own.reasons, **extra.reasons})
        for cls, own, extra in ((cls, found.scores[cls], found.extra[cls]) for cls in found.scores)
    }
    pooled = found.pooled
    return {
        "scores": classes,
        "mean": {metric: mean(one.values[metric] for one in classes.values()) for metric in metrics},
        "pooled": ClassScores(values=dict(pooled), undefined=pooled.reasons) if pooled else None,
    }


def training(cell: Cell, log: TrainingLog | None, place: str) -> TrainingFacts | None:
    """Return how training went; None for a method that trains nothing."""
    if log is None:
        return None
    return TrainingFacts(
        steps=cell.steps,
        batch_size=log.batch_size,
        store=place,
        compiled=log.compiled,
        resumed_at=tuple(log.resumed_at),
        loss_curve=log.curve(),
    )


def reduced(configured: int, log: TrainingLog | None, found: Mapping[str, int]) -> dict[str, int]:
    """Return which batches memory was too small for; a training may have been taken up with a batch reduced before."""
    if log is None or log.batch_size == configured:
        return dict(found)
    return {**found, "train": log.batch_size}


def efficiency(
    cell: Cell,
    log: TrainingLog | None,
    watch: timing.Stopwatch,
    singles: Sequence[float],
    device: torch.device,
    crowded: float | None,
) -> Efficiency:
    """Return what the cell cost: by phase, of single images, and the seconds when others wanted the cores."""
    cost, seconds = complexity(cell.method), watch.seconds
    train_rate = None
    if log is not None:
        train_rate = round(log.batch_size * cell.steps / max(seconds["train"], 1e-9), 2)
    return Efficiency(
        seconds={name: round(value, 3) for name, value in seconds.items()},
        train_images_per_second=train_rate,
        inference_images_per_second=round(len(cell.task.test) / max(seconds["inference"], 1e-9), 2),
        peak_memory_mib=round(timing.peak_memory_mib(), 1),
        peak_device_memory_mib=timing.peak_device_memory_mib(device),
        params_total=cost.params_total,
        params_trainable=cost.params_trainable,
        macs=cost.macs,
        latency=Latency.of(singles) if singles else None,
        # NVML renews its count ten times a second: nothing was counted of a shorter phase
        joules={name: round(value, 2) for name, value in watch.joules.items() if value > 0},
        crowded_seconds=None if crowded is None else round(crowded, 1),
    )


def failed(cell: Cell, device: torch.device, command: Sequence[str], error: Exception) -> Record:
    """Return the record of a cell that ended with an error; it carries no score."""
    return Record(status="failed", error=_failure(error, device), **facts(cell, device, command, {}))


def write(record: Record, path: Path, say: Callable[[str], None]) -> None:
    """Write a record; one of a failure never in place of a finished one, which is said. Raises UnwritableError."""
    if record.status == "failed" and path.is_file():
        with suppress(StoreError):
            if records.read(path).status == "done":
                say(f"{path.name} of before stays: what failed is not recorded in its place")
                return
    records.write(record, path)


def _failure(error: Exception, device: torch.device) -> Failure:
    if isinstance(error, BenchError):
        return Failure(type=type(error).__name__, message=str(error), exit_code=error.exit_code)
    if isinstance(error, torch.OutOfMemoryError):
        return Failure(type="OutOfMemory", message=f"out of memory on {device}: {error}", exit_code=1)
    # an error that bench did not raise on purpose is a defect of bench or of a plug-in: keep where it happened
    return Failure(type=type(error).__name__, message="".join(traceback.format_exception(error)), exit_code=1)


def _count(samples: Sequence[Sample], classes: Sequence[str]) -> dict[str, int]:
    found = Counter(sample.cls for sample in samples)
    return {cls: found[cls] for cls in classes}
