"""Scoring of a trained module: masks at the evaluation size, predictions, metrics, class by class."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from types import MappingProxyType
from typing import Any
from typing import Protocol as Protocols

import numpy as np
import numpy.typing as npt
import torch

from bench.api import Dataset, Method, Prediction, Sample, by_class, labels_of
from bench.files import atomic, file_name
from bench.loading.hashes import check_unchanged
from bench.loading.masks import Mask, read_union, to_evaluation
from bench.loading.surprises import Surprises
from bench.machine.precision import autocast
from bench.machine.prefetch import one_behind
from bench.machine.progress import Advance, Progress
from bench.machine.timing import Stopwatch
from bench.metrics import Scores
from bench.metrics.all_classes import AllClasses
from bench.plan.task import Task
from bench.protocol import Protocol
from bench.run.class_scores import by_family, chosen, measure, measure_own, of_authors
from bench.run.extractor import Extractor
from bench.run.predictions import Collected
from bench.run.single_defects import PackedDefects

PackedMasks = Mapping[str, npt.NDArray[np.uint8]]
"""Class -> masks at the evaluation size S, one image a row, as packed bits uint8 [N, S*S/8]."""

Maps = npt.NDArray[Any]
"""[N, S, S] of whatever real type the method gave or another program wrote; one type a task."""

Predicted = tuple[Maps | None, npt.NDArray[np.float64]]
"""Maps (None for image-level methods, or where not wanted) and image scores [N] of some samples."""

Predict = Callable[[Sequence[Sample], bool, Advance], Predicted]
"""From samples of one class, and whether maps are wanted, to what a method says of them."""

Seen = Callable[[str, Maps | None, npt.NDArray[np.bool_] | None, npt.NDArray[np.float64], Sequence[int]], None]
"""Told of each class: its name, maps, masks at the evaluation size, image scores and labels."""

COLUMNS = ("id", "class", "defect", "label", "score")


@dataclass(frozen=True)
class Scored:
    """Scores by class, and the per-image table behind them."""

    scores: dict[str, Scores]
    extra: dict[str, Scores]
    """By class, see `bench.run.class_scores`."""
    pooled: Scores | None
    """All classes ranked together; None where there is but one class."""
    rows: dict[str, list[Any]]
    """Columns as in COLUMNS."""


@dataclass(frozen=True)
class _Class:
    """A class's test images and what was predicted of them."""

    cls: str
    samples: Sequence[Sample]
    maps: Maps | None
    scores: npt.NDArray[np.float64]


def read_masks(task: Task, protocol: Protocol, input_size: int, surprises: Surprises | None = None) -> PackedMasks:
    """Read and reduce every test mask; classes without masks are left out.

    They are read before the training, so that a broken mask costs no training, and kept as bits: Real-IAD's 114,585
    test masks take 0.9 GiB so, and 7 GiB as bytes.

    Args:
        task: gives the test images.
        protocol: how masks are reduced.
        input_size: side of the network's input in pixels.
        surprises: told of what is read.

    Raises:
        DatasetError: a mask is unreadable, of another size than its image, or changed after it was hashed.
    """
    packed = {}
    has_masks = task.has_masks
    size = protocol.eval_size
    for cls, samples in by_class(task.test).items():
        if not has_masks[cls]:
            continue
        rows = np.zeros((len(samples), (size * size + 7) // 8), dtype=np.uint8)
        for row, sample in zip(rows, samples, strict=True):
            if sample.label:
                mask = _read_mask(task.dataset, sample, surprises)
                for file in sample.masks:
                    check_unchanged(file, task.hashes[file])
                row[:] = np.packbits(to_evaluation(mask, protocol, input_size))
        packed[cls] = rows
    return packed


def _read_mask(dataset: Dataset, sample: Sample, surprises: Surprises | None) -> Mask:
    if surprises is None or type(dataset).read_mask is not Dataset.read_mask:
        mask = dataset.read_mask(sample)
    else:
        mask = read_union(sample, lambda path, traits: surprises.mask(sample, path, traits))
    if surprises is not None and sample.masks and not mask.any():
        surprises.empty(sample)
    return mask


def vanished(task: Task, masks: PackedMasks) -> dict[str, int]:
    """Count anomalous images whose mask is empty at the evaluation size, by class."""
    counts: dict[str, int] = {}
    for cls, samples in by_class(task.test).items():
        if cls in masks:
            pairs = zip(samples, masks[cls], strict=True)
            counts[cls] = sum(sample.label == 1 and not bits.any() for sample, bits in pairs)
    return counts


def labelled(task: Task, protocol: Protocol, masks: PackedMasks) -> Task:
    """Return the task with the labels that the protocol scores by, see `Protocol.label_rule`."""
    if protocol.label_rule == "dataset":
        return task
    empty = {
        sample.id
        for cls, samples in by_class(task.test).items()
        if cls in masks
        for sample, bits in zip(samples, masks[cls], strict=True)
        if not bits.any()
    }
    return replace(task, test=tuple(replace(sample, label=0) if sample.id in empty else sample for sample in task.test))


def score(
    task: Task,
    protocol: Protocol,
    predict: Predict,
    masks: PackedMasks,
    watch: Stopwatch,
    progress: Progress,
    *,
    metrics: Sequence[str] | None = None,
    keep_maps: Path | None,
    defects: PackedDefects = MappingProxyType({}),
    overlap: bool = False,
    seen: Seen | None = None,
) -> Scored:
    """Predict and measure class by class, so that memory is bounded by one class's maps, or two.

    Args:
        task: gives the test images and, by the protocol's rule, their labels.
        protocol: how they are scored.
        predict: what a method, or another program, says of them.
        masks: as `read_masks` gives them.
        watch: gets the phases `inference` and `metrics`; the latter is what is left of it beside the former.
        progress: told of the images done.
        metrics: what is measured, beside what the dataset's authors report; None for the protocol's.
        defects: as `read_defects` gives them.
        keep_maps: empty folder for maps, one [N, S, S] npy file a class in the order of the per-image table.
        overlap: measure a class in a thread while the next one is predicted; pays where prediction leaves the CPU idle.
        seen: is handed what was predicted of each class, too.
    """
    scores: dict[str, Scores] = {}
    extra: dict[str, Scores] = {}
    rows: dict[str, list[Any]] = {column: [] for column in COLUMNS}
    task = labelled(task, protocol, masks)
    wanted = protocol.metrics if metrics is None else metrics
    pool = _pool(task, protocol, masks, wanted)

    def predicted(cls: str, samples: Sequence[Sample]) -> _Class:
        # 10,000 maps of a semantic set would take 2.4 GiB, and be measured against nothing
        map_wanted = cls in masks or keep_maps is not None
        with watch.phase("inference"):
            return _Class(cls, samples, *predict(samples, map_wanted, advance))

    def measured(one: _Class) -> None:
        truth = _unpack(masks[one.cls], protocol.eval_size) if one.cls in masks else None
        labels = labels_of(one.samples)
        if protocol.own_size and truth is not None and one.maps is not None:
            measured_own(one, labels)
            return
        single = [one_of.unpacked(protocol.eval_size) for one_of in defects[one.cls]] if one.cls in defects else None
        metrics = (*wanted, *of_authors(task.dataset, one.samples))
        found = measure(one.samples, one.maps, one.scores, truth, labels, metrics, single)
        if seen is not None:
            seen(one.cls, one.maps, truth, one.scores, labels)
        if pool is not None:
            pool.add(one.maps, truth, one.scores, labels)
        note(one, found, labels)

    def measured_own(one: _Class, labels: Sequence[int]) -> None:
        def of_image(own: Maps, mask: npt.NDArray[np.bool_], place: int) -> None:
            if seen is not None:
                seen(one.cls, own, mask, one.scores[place : place + 1], labels[place : place + 1])

        assert one.maps is not None
        metrics = (*wanted, *of_authors(task.dataset, one.samples))
        found = measure_own(task.dataset, one.samples, one.maps, one.scores, labels, metrics, of_image)
        if pool is not None:
            pool.leave_out("pixels of images at their own sizes are not ranked over all classes")
            pool.add(None, None, one.scores, labels)
        note(one, found, labels)

    def note(one: _Class, found: Scores, labels: Sequence[int]) -> None:
        scores[one.cls] = chosen(found, wanted)
        own = of_authors(task.dataset, one.samples)
        beside = chosen(found, [metric for metric in own if metric not in wanted])
        families = by_family(one.samples, one.scores)
        extra[one.cls] = Scores({**families, **beside}, {**families.reasons, **beside.reasons})
        for sample, value in zip(one.samples, one.scores.tolist(), strict=True):
            row = (sample.id, one.cls, sample.defect, sample.label, value)
            for column, entry in zip(COLUMNS, row, strict=True):
                rows[column].append(entry)
        if keep_maps is not None and one.maps is not None:
            with atomic(keep_maps / f"{file_name(one.cls)}.npy") as file:
                np.save(file, one.maps)

    with progress.phase("score", len(task.test)) as advance, watch.phase("metrics"):
        # not kept in a name: a class's maps go before the next one's come
        classes = (predicted(cls, samples) for cls, samples in by_class(task.test).items())
        for _ in (one_behind if overlap else map)(measured, classes):
            pass
        pooled = pool.compute() if pool is not None else None
    return Scored(scores, extra, pooled, rows)


class Configured(Protocols):
    """What decides how a trained module is asked: a cell, or a record whose model was kept."""

    @property
    def method(self) -> Method: ...  # noqa: D102

    @property
    def protocol(self) -> Protocol: ...  # noqa: D102

    @property
    def precision(self) -> str: ...  # noqa: D102


def predictor(cell: Configured, extract: Extractor, module: torch.nn.Module, batch_size: int) -> Predict:
    """Return how a trained module predicts: through the encoder, `batch_size` images at a time.

    Args:
        cell: gives method, precision and protocol.
        extract: from samples to features.
        module: the trained part, in evaluation mode.
        batch_size: images through the networks at once.
    """
    size = cell.protocol.eval_size

    @torch.inference_mode()
    def look(samples: Sequence[Sample]) -> Prediction:
        # features as in training, in full precision: an encoder in bf16 here would see other targets than were learnt
        batch = extract.batch(samples)
        with autocast(extract.device, cell.precision):
            return cell.method.anomaly(module, batch, extract.encoder.info, size)

    def predict(samples: Sequence[Sample], map_wanted: bool, advance: Advance) -> Predicted:
        # a copy to pinned memory does not keep the next batch waiting
        cuda = extract.device.type == "cuda"
        found = Collected(cell.method.name, len(samples), size, pinned=cuda)
        start = 0
        for chunk, prediction in extract.reductions.batches("inference", samples, batch_size, look):
            rows = slice(start, start + len(chunk))
            found.take_scores(rows, prediction.scores)
            if map_wanted and prediction.maps is not None:
                found.take_maps(rows, prediction.maps)
            start = rows.stop
            advance(len(chunk), chunk[0].cls)
        if cuda:
            torch.cuda.current_stream(extract.device).synchronize()
        return found.maps.numpy() if found.maps is not None else None, found.scores.numpy()

    return predict


def _pool(task: Task, protocol: Protocol, masks: PackedMasks, metrics: Sequence[str]) -> AllClasses | None:
    count = len(task.classes)
    if count < 2:
        return None
    images, size = len(task.test), protocol.eval_size
    return AllClasses(metrics, classes=count, with_masks=len(masks), images=images, size=size)


def _unpack(bits: npt.NDArray[np.uint8], size: int) -> npt.NDArray[np.bool_]:
    return np.unpackbits(bits, axis=1, count=size * size).reshape(-1, size, size).astype(np.bool_)
