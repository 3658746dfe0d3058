"""The record: one JSON file a cell, schema version 2. Every table, plot and check is made from records alone.

Scores are fractions in [0, 1]; an undefined score is null and its reason stands beside it. Times are seconds, memory
is MiB, parameters and MACs are counts. A failed cell is a record with `error` and without scores.

The file has one field more, `sha256`, over all the others: a record that was damaged, or edited by hand, is not read.
Records of schema 1 are read too, see `bench.store.migrate`.
"""

from __future__ import annotations

import hashlib
import json
import math
import re
from pathlib import Path
from typing import Any, Literal, NoReturn, Self

from pydantic import Field, ValidationError, model_validator

from bench import regular
from bench.errors import StoreError
from bench.files import atomic, file_name
from bench.store import agreement, migrate
from bench.store.calibration import Calibration
from bench.store.fields import Amount, Count, Facts, Number, RecordPart, Text, encodable
from bench.words import counted

SCHEMA_VERSION = 2
MOST_BYTES = 16 << 20
"""Of a record's file: a thousand times the usual size, read in 0.4 GiB at the worst. A longer one is refused unread."""
AUTHORS = "authors' weights"
"""How a cell is called that was not trained here."""
UNCHECKED = "recorded before records had a checksum: nothing shows that the file is as it was written"


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
    """Ids of the training images that the seed chose (`few-shot`, `few-shot-single`)."""
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
    """What single datasets are also scored by, see `bench.run.family_scores`; not the protocol's, not in `mean`."""
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


class Record(RecordPart):
    """One finished or failed cell."""

    schema_version: Literal[2] = 2
    status: Literal["done", "failed"]
    created: str
    """UTC, ISO 8601, when the cell ended."""
    command: tuple[Text, ...]
    cell: CellKey
    protocol: ProtocolFacts
    metric_version: int
    variant_versions: dict[str, int] = {}
    """Version of each metric among the scores that has one of its own, as variants have; see `bench.metrics.Metric`."""
    config: Facts
    """The method's whole configuration."""
    changed: tuple[str, ...]
    """Config keys that differ from the method's published values for this dataset."""
    dataset: DatasetFacts
    encoder: EncoderFacts | None
    """Null of a method that looks through none."""
    input_size: int
    """Side of the images that the method was given, in pixels; of an external cell that of the maps as scored."""
    scores: dict[str, ClassScores] = {}
    mean: dict[str, Number | None] = {}
    """Mean over the cell's classes; null where a class has no value."""
    units: dict[str, str] = {}
    """Metric id -> unit, of metrics among the scores that are no share in [0, 1]."""
    pooled: ClassScores | None = None
    """All classes ranked together, as one threshold for all of them sees them; of cells of several classes."""
    calibration: Calibration | None = None
    """Thresholds set on normal images that were not trained on, and what they are worth on the test images."""
    training: TrainingFacts | None = None
    reduced: dict[str, Count] = {}
    """Batches that were made smaller because memory gave out: `features`, `inference` or `train` -> images at once. A
    smaller `train` is another training than `config` says; the others change nothing beyond rounding."""
    efficiency: Efficiency | None = None
    environment: Environment
    """Of an external cell: where it was scored, not where its maps were made."""
    external: ExternalFacts | None = None
    imported: ImportedFacts | None = None
    error: Failure | None = None
    predictions: str | None = Field(default=None, description="file of per-image scores beside the record (Parquet)")
    maps: str | None = Field(default=None, description="folder of anomaly maps beside the record, if kept")
    model: ModelFacts | None = None
    unchecked: bool = False
    """Read from a file of schema 1 of before records had a checksum."""

    @property
    def run(self) -> str:
        """Return which training of its cell's title this is: `seed 0`, or `authors' weights`."""
        return AUTHORS if self.imported is not None else f"seed {self.cell.seed}"

    @property
    def encoder_id(self) -> tuple[str, str]:
        """Return the frozen encoder's name and its weights' SHA-256; `none` and nothing where there is no encoder."""
        return ("none", "") if self.encoder is None else (self.encoder.name, self.encoder.weights_sha256)

    @property
    def is_mapless(self) -> bool:
        """Whether image scores alone were given in every class: there are no maps to keep, however often it is run."""
        # metrics take a second to import, which who only reads records need not wait for
        from bench.metrics.ranks import NO_MAPS, NO_MAPS_BEFORE

        reasons = [set(one.undefined.values()) for one in self.scores.values()]
        return bool(reasons) and all(found & {NO_MAPS, NO_MAPS_BEFORE} for found in reasons)

    @property
    def reduced_note(self) -> str | None:
        """What a table says of a training whose batch was made smaller; None where it was not."""
        if "train" not in self.reduced:
            return None
        return f"not the settings stated: trained with {self.reduced['train']} images a step, for want of memory"

    @model_validator(mode="after")
    def _agrees(self) -> Self:
        if lost := [key for key in self.changed if key not in self.config]:
            raise ValueError(f"changed names '{lost[0]}', which config does not have")
        for name in (self.predictions, self.maps, self.model.file if self.model is not None else None):
            if name is not None and (
                name in ("", ".", "..") or "/" in name or "\0" in name or len(name.encode()) > 255
            ):
                raise ValueError(f"{name[:40]!a} is no name of a file beside the record")
        named = {f"scores.{cls}": scores for cls, scores in self.scores.items()} | {"pooled": self.pooled}
        values = {name: {**scores.values, **scores.extra} for name, scores in named.items() if scores is not None}
        agreement.check_units(self.units)
        agreement.check_shares(values | {"mean": self.mean}, self.units)
        agreement.check_means(self.mean, {cls: scores.values for cls, scores in self.scores.items()})
        return self


def write(record: Record, path: Path) -> None:
    """Write the record and its checksum so that `path` is never half a file. Raises UnwritableError."""
    data = json.loads(record.model_dump_json())
    data["sha256"] = checksum(data)
    with atomic(path) as file:
        file.write((json.dumps(data, indent=1, ensure_ascii=False) + "\n").encode())


def checksum(data: dict[str, Any]) -> str:
    """Return the SHA-256 over a record's fields: as JSON with sorted keys, no spaces, and nothing but ASCII."""
    text = json.dumps(data, sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()


def read(path: Path) -> Record:
    """Read one record, of this schema version or of an older one.

    Raises:
        StoreError: no such file, no regular one, longer than MOST_BYTES, no JSON, an unknown schema version, no
            checksum or one that does not fit the fields, or fields that do not fit the schema or contradict each other.
    """
    try:
        text = regular.read_bytes(path, MOST_BYTES).decode()
        data = json.loads(text, parse_constant=_refuse, parse_float=_finite)
    except FileNotFoundError as error:
        raise StoreError(f"{path}: no such file. Expected a record, as bench run writes them") from error
    except OSError as error:
        # a folder, a pipe, or somebody else's: not for us to say that it be deleted
        why = error.strerror or error
        raise StoreError(f"{path} is no readable record: {why}. Expected a file, as bench run writes them") from error
    except (ValueError, RecursionError) as error:
        raise StoreError(f"{path} is no readable record: {error}. Delete it and run the cell again") from error
    version = data.get("schema_version") if isinstance(data, dict) else None
    if type(version) is not int or not 1 <= version <= SCHEMA_VERSION:
        raise StoreError(f"{path} has record schema {version!r}; this bench reads schemas 1 to {SCHEMA_VERSION}")
    unchecked = version == 1 and migrate.before_checksums(data)
    stated = data.pop("sha256", None)
    if stated is None and not unchecked:
        raise StoreError(
            f"{path} has lost its sha256, which every record of schema {version} like it has. Delete it and run the "
            "cell again"
        )
    try:
        fits = unchecked or stated == checksum(data)
    except RecursionError:
        fits = False
    if not fits:
        raise StoreError(
            f"{path} is damaged or was edited: its fields do not fit its sha256. Delete it and run the cell again"
        )
    try:
        data = migrate.from_schema_1(data) | {"unchecked": unchecked} if version == 1 else data
        # half a character can only have come as an escape; to look for one in every field takes a third of the reading
        return Record.model_validate(encodable(data) if _HALVES.search(text) else data)
    except (migrate.Unfit, ValidationError) as error:
        why = str(error)
        if isinstance(error, ValidationError):
            first = error.errors()[0]
            why = f"{'.'.join(str(part) for part in first['loc'])}: {first['msg']}".removeprefix(": ")
        raise StoreError(f"{path} does not fit record schema {version}: {why}") from error


_HALVES = re.compile(r"\\u[dD][89a-fA-F]")
"""The escape of half a character, as JSON may hold it and UTF-8 may not."""


def _refuse(constant: str) -> NoReturn:
    raise ValueError(f"{constant} is no JSON")


def _finite(digits: str) -> float:
    number = float(digits)
    return number if math.isfinite(number) else _refuse(digits)


def write_predictions(path: Path, rows: dict[str, list[Any]]) -> None:
    """Write per-image scores as Parquet: columns id, class, defect, label (0/1), score (float64, higher = worse).

    Its pages carry checksums. Raises UnwritableError.
    """
    import pyarrow as pa
    import pyarrow.parquet as pq

    with atomic(path) as file:
        pq.write_table(pa.table(rows), file, write_page_checksum=True)
