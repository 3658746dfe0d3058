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
from bench.files import atomic
from bench.store import agreement, migrate
from bench.store.calibration import Calibration
from bench.store.facts import (
    AUTHORS,
    CellKey,
    ClassScores,
    DatasetFacts,
    Efficiency,
    EncoderFacts,
    Environment,
    ExternalFacts,
    Failure,
    ImportedFacts,
    ModelFacts,
    ProtocolFacts,
    TrainingFacts,
)
from bench.store.fields import Count, Facts, Number, RecordPart, Text, encodable

SCHEMA_VERSION = 2
MOST_BYTES = 16 << 20
"""Of a record's file: a thousand times the usual size, read in 0.4 GiB at the worst. A longer one is refused unread."""
UNCHECKED = "recorded before records had a checksum: nothing shows that the file is as it was written"


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
