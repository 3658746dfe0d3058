"""The record: one JSON file a cell, schema version 1. Every table, plot and check is made from records alone.

Scores are fractions in [0, 1]; an undefined score is null and its reason stands beside it. Times are seconds, memory
is MiB, parameters and MACs are counts. A failed cell is a record with `error` and without scores.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationError

from bench.errors import StoreError
from bench.store.files import atomic, file_name

SCHEMA_VERSION = 1


def _encodable(text: object) -> object:
    """Spell out what is not UTF-8 (bytes of a path that the user gave), which JSON and pydantic would refuse."""
    return text.encode("utf-8", "backslashreplace").decode() if isinstance(text, str) else text


Text = Annotated[str, BeforeValidator(_encodable)]
"""Text from outside that may hold a path."""


class _Part(BaseModel):
    # JSON has no NaN: it would be written as null, and a score would turn into an undefined one without a reason
    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)


class CellKey(_Part):
    """What the cell is. `fingerprint` covers everything that may change a score on the same machine."""

    method: str
    dataset: str
    setting: str
    seed: int
    protocol: str
    classes: tuple[str, ...]
    """What the scores are given by; of a cell with a part, the part alone."""
    part: str = ""
    """Which of the setting's several models this is: a class (`single`) or a half-split of a semantic set."""
    shots: int | None = None
    """Training images a class (`few-shot`)."""
    fingerprint: str

    @property
    def file(self) -> Path:
        """Where the record lies below a results folder: <dataset>/<method>/<setting>/[<part>-]s<seed>-<fingerprint>."""
        part = f"{file_name(self.part)}-" if self.part else ""
        return Path(self.dataset, self.method, self.setting, f"{part}s{self.seed}-{self.fingerprint}.json")

    @property
    def title(self) -> str:
        """A short name without the seed: `dinomaly on fmnist A, multi`."""
        where = f"{self.dataset} {self.part}" if self.part else self.dataset
        return f"{self.method} on {where}, {self.setting}" + (f" ({self.shots})" if self.shots else "")


class ProtocolFacts(_Part):
    """The evaluation protocol in full; `hash` is over all its fields, see `bench.protocol`."""

    name: str
    version: int
    hash: str
    fields: dict[str, Any]


class DatasetFacts(_Part):
    """Which images were used. `fingerprint` covers ids, labels and the bytes of every image and mask."""

    fingerprint: str
    kind: str
    classes_known: int
    """Classes the dataset has by its card; more than were run when `--classes` chose some."""
    parts_known: int = 1
    """Models that the setting makes of the whole dataset, of which this cell is one."""
    normal: tuple[str, ...] = ()
    """Semantic sets: the classes that are normal in this part."""
    chosen: tuple[str, ...] = ()
    """Ids of the training images that the seed chose (`few-shot`)."""
    train: dict[str, int]
    test_good: dict[str, int]
    test_bad: dict[str, int]
    masks_vanished: dict[str, int] = {}
    """Anomalous images whose mask is empty at the evaluation size, by class (non-zero counts only)."""


class EncoderFacts(_Part):
    """The frozen encoder: which weights, read where, at which input."""

    name: str
    weights_sha256: str
    blocks: tuple[int, ...]
    position: str
    input_size: int
    grid: tuple[int, int]


class ExternalFacts(_Part):
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


class ClassScores(_Part):
    """Scores of one class: metric id -> fraction, or null with the reason in `undefined`."""

    values: dict[str, float | None]
    extra: dict[str, float | None] = {}
    """What single datasets are also scored by, see `bench.run.extras`; not the protocol's, not in `mean`."""
    undefined: dict[str, str] = {}


class TrainingFacts(_Part):
    """How training went."""

    steps: int
    batch_size: int
    """Images a step; smaller than configured where the training set is."""
    store: str
    """Where the features lay: device, memory, file, or none (recomputed each step)."""
    resumed_at: tuple[int, ...] = ()
    """Iterations at which an interrupted training was taken up again."""
    loss_curve: tuple[tuple[int, float], ...] = ()
    """(iteration, mean loss since the previous point), about 200 points."""


class Efficiency(_Part):
    """Cost of the cell. Throughputs count images a second; training counts an image once a step it is seen in."""

    seconds: dict[str, float]
    """By phase: decode, features, fit, train, inference, metrics. A resumed phase counts all its attempts; features
    that another seed's cell had just computed are not counted again."""
    train_images_per_second: float | None
    inference_images_per_second: float | None
    """Decoded pixels to maps and scores, encoder included."""
    peak_memory_mib: float
    """Highest resident memory of the process so far."""
    peak_device_memory_mib: float | None
    params_total: int
    params_trainable: int
    macs: int
    """Multiply-accumulates of convolutions and linear layers for one image; attention products not counted."""


class Environment(_Part):
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


class Failure(_Part):
    """Why a cell has no score."""

    type: str
    message: Text
    exit_code: int


class Record(_Part):
    """One finished or failed cell."""

    schema_version: Literal[1] = 1
    status: Literal["done", "failed"]
    created: str
    """UTC, ISO 8601, when the cell ended."""
    command: tuple[Text, ...]
    cell: CellKey
    protocol: ProtocolFacts
    metric_version: int
    variant_versions: dict[str, int] = {}
    """Version of each metric variant among the scores (see `bench.metrics.ids.VARIANTS`); exact metrics have none."""
    config: dict[str, Any]
    """The method's whole configuration."""
    changed: tuple[str, ...]
    """Config keys that differ from the method's published values for this dataset."""
    dataset: DatasetFacts
    encoder: EncoderFacts
    scores: dict[str, ClassScores] = {}
    mean: dict[str, float | None] = {}
    """Mean over the cell's classes; null where a class has no value."""
    pooled: ClassScores | None = None
    """All classes ranked together, as one threshold for all of them sees them; of cells of several classes."""
    training: TrainingFacts | None = None
    efficiency: Efficiency | None = None
    environment: Environment
    """Of an external cell: where it was scored, not where its maps were made."""
    external: ExternalFacts | None = None
    error: Failure | None = None
    predictions: str | None = Field(default=None, description="file of per-image scores beside the record (Parquet)")
    maps: str | None = Field(default=None, description="folder of anomaly maps beside the record, if kept")


def write(record: Record, path: Path) -> None:
    """Write the record so that `path` is never half a file."""
    with atomic(path) as file:
        file.write((record.model_dump_json(indent=1) + "\n").encode())


def read(path: Path) -> Record:
    """Read one record.

    Raises:
        StoreError: no JSON, another schema version, or fields that do not fit it.
    """
    try:
        data = json.loads(path.read_text(encoding="utf-8"), parse_constant=_refuse)
    except (OSError, ValueError, RecursionError) as error:
        raise StoreError(f"{path} is no readable record: {error}. Delete it and run the cell again") from error
    version = data.get("schema_version") if isinstance(data, dict) else None
    if version != SCHEMA_VERSION or isinstance(version, bool):
        raise StoreError(f"{path} has record schema {version!r}; this bench reads schema {SCHEMA_VERSION}")
    try:
        return Record.model_validate(data)
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(str(part) for part in first["loc"])
        raise StoreError(f"{path} does not fit record schema {SCHEMA_VERSION}: {where}: {first['msg']}") from error


def _refuse(constant: str) -> None:
    raise ValueError(f"{constant} is no JSON")


def write_predictions(path: Path, rows: dict[str, list[Any]]) -> None:
    """Write per-image scores as Parquet: columns id, class, defect, label (0/1), score (float64, higher = worse)."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    with atomic(path) as file:
        pq.write_table(pa.table(rows), file)
