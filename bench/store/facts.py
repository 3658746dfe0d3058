"""Fields of a record: the cell, its rules, data, encoder, scores, training, cost, machine, and the error.

Units are those of `bench.store.record`.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Self

from pydantic import model_validator

from bench.files import file_name
from bench.setting import find as find_setting
from bench.store.fields import Amount, Count, Facts, Number, RecordPart, Text
from bench.words import counted

AUTHORS = "authors' weights"
"""How a cell is called that was not trained here."""


class CellKey(RecordPart):
    """What the cell is. `fingerprint` covers everything that may change a score on the same machine."""

    method: str
    dataset: str
    setting: str
    seed: Count
    protocol: str
    classes: tuple[str, ...]
    """What the scores are given by; of a cell with a part, the part alone."""
    part: str = ""
    """Which of the setting's several models this is: a class (`single`) or a half-split of a semantic set."""
    shots: Count | None = None
    """Training images a class (`few-shot`, `few-shot-single`)."""
    fingerprint: str

    @property
    def chooses(self) -> bool:
        """Whether the seed chooses the cell's training images, so that two seeds have other data."""
        found = find_setting(self.setting)
        return self.shots is not None or (found is not None and found.chooses)

    @property
    def file(self) -> Path:
        """Where the record lies below a results folder: <dataset>/<method>/<setting>/[<part>-]s<seed>-<fingerprint>."""
        part = f"{file_name(self.part)}-" if self.part else ""
        folders = (file_name(name) for name in (self.dataset, self.method, self.setting))
        return Path(*folders, f"{part}s{self.seed}-{self.fingerprint}.json")

    @property
    def title(self) -> str:
        """A short name without the seed: `dinomaly on fmnist A, multi`."""
        where = f"{self.dataset} {self.part}" if self.part else self.dataset
        return f"{self.method} on {where}, {self.setting}" + (f" ({self.shots})" if self.shots else "")


class ProtocolFacts(RecordPart):
    """The evaluation protocol in full, see `bench.protocol`. `hash` is over `rules`; equal where records compare."""

    name: str
    version: int
    hash: str
    rules: Facts
    metrics: tuple[str, ...]
    """What was measured, the metrics that a run added to the protocol's own among them; in no hash."""


class DatasetFacts(RecordPart):
    """Which images were used. `fingerprint` covers ids, labels and the bytes of every image and mask."""

    fingerprint: str
    kind: str
    classes_known: Count
    """Classes the dataset has by its card; more than were run when `--classes` chose some."""
    parts_known: Count = 1
    """Models that the setting makes of the whole dataset, of which this cell is one."""
    normal: tuple[str, ...] = ()
    """Semantic sets: the classes that are normal in this part."""
    chosen: tuple[str, ...] = ()
    """Ids of the training images that the seed chose (`few-shot`, `few-shot-single`; of `noisy` the anomalous ones)."""
    train: dict[str, Count]
    test_good: dict[str, Count]
    test_bad: dict[str, Count]
    masks_vanished: dict[str, Count] = {}
    """Anomalous images whose mask is empty at the evaluation size, though not at its own, by class (non-zero only)."""
    relabelled: dict[str, Count] = {}
    """Test images that the protocol's label rule gave another label than the dataset does, by class (non-zero only)."""
    root: Text | None = None
    """Where the images lay, seen from where the command ran; null of a dataset that bench finds by itself."""
    notes: tuple[Text, ...] = ()
    """What a reader of the scores has to know of the images, a sentence each."""


class EncoderFacts(RecordPart):
    """The frozen encoder: which weights, read where."""

    name: str
    weights_sha256: str
    blocks: tuple[int, ...]
    position: str
    norm: bool = False
    """Whether the final norm was put behind every block."""
    grid: tuple[int, int]
    mean: tuple[float, ...] = ()
    """Of the pixels in [0, 1], by channel: what was taken off them before they went in; older records do not say."""
    std: tuple[float, ...] = ()
    """What they were then divided by."""


class ModelFacts(RecordPart):
    """The trained model, kept beside the record."""

    file: str
    sha256: str


class ImportedFacts(RecordPart):
    """Of a cell that was not trained here: the file of the method's authors that its model was read from."""

    file: Text
    sha256: str

    @property
    def note(self) -> str:
        """What a reader of a table has to know."""
        return f"{AUTHORS}, scored here and trained elsewhere: {self.file}, SHA-256 {self.sha256[:12]}"


class ExternalFacts(RecordPart):
    """Of a cell whose maps and scores another program wrote: bench scored them and saw nothing of how they were made.

    In such a record `cell.method`, `config` and `encoder.name` are the user's own words, the encoder's other fields are
    empty or those of the maps as scored, and training and efficiency are null.
    """

    files_sha256: str
    """Over the id and the content of every map and score that was used."""
    maps: str
    """Where the maps came from: `files`, `npz`, or empty for image scores alone."""
    map_sizes: tuple[str, ...] = ()
    """Sizes as they came, WxH."""
    resized: str = ""
    """How maps were brought to the evaluation size; empty where all had it."""
    image_score: str
    """`given`, or the rule that took it from the map, see `bench.metrics.IMAGE_SCORES`."""

    @property
    def note(self) -> str:
        """What a reader of a table has to know."""
        how = "image scores as given" if self.image_score == "given" else f"image scores: {self.image_score} of the map"
        return f"another program's output, scored here; {', '.join(filter(None, (how, self.resized)))}"


class ClassScores(RecordPart):
    """Scores of one class: metric id -> fraction, or null with the reason in `undefined`."""

    values: dict[str, Number | None]
    extra: dict[str, Number | None] = {}
    """What single datasets are also scored by, see `bench.run.class_scores`; not the protocol's, not in `mean`."""
    undefined: dict[str, str] = {}

    @model_validator(mode="after")
    def _has_reasons(self) -> Self:
        for metric, value in {**self.values, **self.extra}.items():
            if value is None and not self.undefined.get(metric):
                raise ValueError(f"{metric} is null without a reason in 'undefined'")
        return self


class TrainingFacts(RecordPart):
    """How training went."""

    steps: Count
    batch_size: Count
    """Images a step; smaller than configured where the training set is."""
    store: str
    """Where the features lay: device, memory, file, or none (recomputed each step)."""
    compiled: bool = False
    """Whether the trainable part ran through torch.compile; changes scores by rounding at most."""
    resumed_at: tuple[Count, ...] = ()
    """Iterations at which an interrupted training was taken up again."""
    loss_curve: tuple[tuple[Count, Number], ...] = ()
    """(iteration, mean loss since the previous point), about 200 points."""


class Latency(RecordPart):
    """Seconds from one decoded image, alone in its batch, to its map and score on the host; by nearest rank."""

    images: Count
    p50: Amount
    p95: Amount | None
    """None of fewer than 20 images."""
    p99: Amount | None
    """None of fewer than 100 images."""

    @classmethod
    def of(cls, seconds: Sequence[float]) -> Self:
        """Return the percentiles of at least one image's seconds."""
        ordered = sorted(seconds)

        def percentile(share: int) -> float | None:
            # one image in 20 lies above p95, and one in 100 above p99
            known = len(ordered) * (100 - share) >= 100
            return ordered[math.ceil(share * len(ordered) / 100) - 1] if known else None

        middle = ordered[(len(ordered) - 1) // 2]
        return cls(images=len(ordered), p50=middle, p95=percentile(95), p99=percentile(99))


class Efficiency(RecordPart):
    """Cost of the cell. Throughputs count images a second; training counts an image once a step it is seen in."""

    seconds: dict[str, Amount]
    """By phase: decode, features, fit, train, inference, metrics. A resumed phase counts all its attempts; features
    that another seed's cell had just computed are not counted again. On CUDA a class is measured while the next one is
    predicted: `metrics` is what is left beside `inference`, so that the phases add up to the time that passed."""
    train_images_per_second: Amount | None
    inference_images_per_second: Amount | None
    """Decoded pixels to maps and scores, encoder included."""
    peak_memory_mib: Amount
    """Highest resident memory of the process so far."""
    peak_device_memory_mib: Amount | None
    params_total: Count
    params_trainable: Count
    macs: Count
    """Multiply-accumulates of convolutions and linear layers for one image; attention products not counted."""
    latency: Latency | None = None
    """Null in records of before it was looked at, and in those of models that were not run here."""
    joules: dict[str, Amount] = {}
    """By phase, of the GPU (NVML) or the processor packages (RAPL), with all else that ran there; empty where nothing
    counts them. A phase that was taken up again is left out."""
    crowded_seconds: Amount | None = None
    """Wall seconds in which other processes wanted the cores, see `bench.machine.crowding`: the times are no measure of
    the machine then. Null where the system does not say, and in records of before it was looked for."""


class Environment(RecordPart):
    """Where the cell ran."""

    python: str
    packages: dict[str, str]
    commit: str | None
    """Git commit of bench; `-dirty` is appended when files differed from it."""
    platform: str
    cpu: str
    cores: int
    memory_gib: float
    device: str
    precision: str
    threads: int
    waiting: dict[str, str] = {}
    """Variables that say how long OpenMP's threads spin for each other, see `bench.machine.threads`: they change speed,
    and no score."""

    @property
    def processor(self) -> str:
        """Return what a reader has to know of the CPU's part: `AMD EPYC, 2 threads`."""
        return f"{self.cpu}, {counted(self.threads, 'thread')}"


class Failure(RecordPart):
    """Why a cell has no score."""

    type: str
    message: Text
    exit_code: int
