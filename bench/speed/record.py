"""The speed record: one JSON file a device and workload, schema version 2.

Times are wall seconds, memory is MiB, rates are a second. What was measured on part of the workload says so: a phase
has the units that were timed beside those that the whole workload has.
"""

from __future__ import annotations

import json
from collections.abc import Collection, Iterable
from pathlib import Path
from typing import Literal

from pydantic import BaseModel, ConfigDict, ValidationError

from bench import regular
from bench.errors import StoreError
from bench.files import atomic, file_name
from bench.store.facts import Environment, Latency
from bench.store.fields import Text
from bench.store.folder import SPEED
from bench.store.record import MOST_BYTES

SCHEMA_VERSION = 2
RESULTS, BASELINES = Path("results", SPEED), Path("results", "baselines", SPEED)
"""Where `bench speed` puts records, and where those are that are compared with."""


class _Part(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)


class Rate(_Part):
    """Units a second over several blocks of work."""

    median: float
    low: float
    high: float
    blocks: int
    units: int
    """Steps or images in all blocks."""


class VariantSpeed(_Part):
    """Our way otherwise than the cell goes it: in another arithmetic, compiled, or with features computed again."""

    precision: str
    compiled: bool
    kept: bool
    """Whether features are kept."""
    rate: Rate
    over_plain: Rate


class WorkCompared(_Part):
    """One kind of work done our way and others, in turns."""

    unit: Literal["steps", "images"]
    images: int
    """Images in a unit: the batch of a step, else 1."""
    ours: Rate
    plain: Rate
    """The plain way, see `bench.speed.plain`."""
    again: Rate | None = None
    """Our way without kept features."""
    over_plain: Rate
    """How many times the plain way's rate ours is: median and range over pairs of neighbouring blocks."""
    over_again: Rate | None = None
    allowed: float | None = None
    """What the counted floating-point operations allow `over_again` to be."""
    variants: tuple[VariantSpeed, ...] = ()
    joules: float | None = None
    """Energy of a unit of ours; None where nothing counts it."""


class Phase(_Part):
    """A part of the whole workload."""

    name: str
    seconds: float
    """For the whole workload."""
    units: int
    measured: int
    """Units that were timed; fewer than `units` where `seconds` is extrapolated from them."""

    @property
    def extrapolated(self) -> bool:
        """Return whether only part of it was timed."""
        return self.measured < self.units


class Floor(_Part):
    """The least that a stage can take on this device, and what it took."""

    stage: str
    unit: str
    flops: float
    """Floating-point operations of one unit: every matrix product, two for a multiply-accumulate."""
    bytes: float
    """Bytes of one unit that have to be moved at least; activations are taken to stay in the cache."""
    matrix_flops: float
    """Operations a second that matrix products alone reached, between the stage's blocks; for features, which have
    none, between those of the training."""
    predicted: float
    """Seconds of one unit: operations at that matrix rate or bytes at the measured memory rate, whichever is
    more."""
    measured: float

    @property
    def distance(self) -> float:
        """Return how many times the predicted seconds it took."""
        return self.measured / self.predicted

    @property
    def used(self) -> float:
        """Return the counted operations a second as a share of the matrix rate."""
        return self.flops / self.measured / self.matrix_flops


class MethodSpeed(_Part):
    """What one method costs on the workload."""

    created: str
    """UTC, ISO 8601."""
    commit: str | None
    """Of bench; `-dirty` is appended when files differed from it."""
    encoder: str
    random_weights: bool
    """Whether the encoder's weights were drawn at random, none being at hand."""
    input_size: int
    batch_size: int
    steps: int
    settings: tuple[str, ...] = ()
    """Values that are not the published ones: `key = value`."""
    train: WorkCompared | None = None
    fit: WorkCompared | None = None
    """Of a method with a memory: training images through the encoder."""
    inference: WorkCompared
    plain_parts: dict[str, dict[str, float]]
    """`train` or `fit`, and `inference` -> what shares of the plain way's seconds go into decoding, into features, and
    into the rest."""
    inference_with_decode: float
    """Our images a second where the decoding of each image is counted to its scoring, as the plain way does it."""
    peak_memory_mib: float
    """Highest resident memory of the process, our way alone."""
    peak_device_memory_mib: float | None
    store_mib: float
    """What the features of all training images take; 0 for methods that keep none."""
    phases: tuple[Phase, ...]
    floors: tuple[Floor, ...]
    whole: bool = False
    """Whether the phases are those of one cell that was run from end to end."""
    compiled: bool = False
    """Whether our way, as its rates and phases have it, went through torch.compile."""
    latency: Latency | None = None
    """None in records of before it was measured."""
    energy: Literal["nvml", "rapl"] | None = None
    """What counted the joules: NVML for the GPU, RAPL for the processor's packages; see `bench.machine.energy`."""
    whole_joules: float | None = None
    """Of the cell that was run from end to end."""

    @property
    def learning(self) -> WorkCompared:
        """Return the training, or the filling of the memory."""
        found = self.train or self.fit
        assert found is not None
        return found

    @property
    def seconds(self) -> float:
        """Return the wall seconds of the whole workload."""
        return sum(phase.seconds for phase in self.phases)


class DeviceRates(_Part):
    """What the device reached on its own, see `bench.machine.rates`."""

    matrix_flops: dict[str, float]
    """Precision -> floating-point operations a second."""
    memory_bytes: float
    """Bytes read and written a second."""


class WorkloadFacts(_Part):
    """The work that the seconds are for, and the part of it that was run."""

    name: str
    train: int
    test: int
    classes: int
    side: int
    mean_file_bytes: int
    files: int
    """Distinct image files that were generated."""
    assumptions: tuple[str, ...]


class SpeedRecord(_Part):
    """What `bench speed` measured on one machine; methods may come from several runs."""

    speed_schema: Literal[2] = 2
    created: str
    """Of the last run, UTC, ISO 8601."""
    command: tuple[Text, ...]
    environment: Environment
    rates: DeviceRates
    workload: WorkloadFacts
    methods: dict[str, MethodSpeed]

    @property
    def file(self) -> str:
        """Return the file's name: <device>-<workload>.json."""
        return file_name(f"{device_name(self.environment.device)}-{self.workload.name}.json")


def device_name(device: str) -> str:
    """Return a device as file names have it: `cpu`, `cuda-nvidia-h100-80gb-hbm3`."""
    kind, _, model = device.partition(" ")
    return "-".join([kind.partition(":")[0], *model.lower().split()])


def merged(old: SpeedRecord | None, new: SpeedRecord) -> SpeedRecord:
    """Return the new record with the methods of the old one that it lacks, if both are of one machine and workload."""

    def where(one: SpeedRecord) -> object:
        place = one.environment
        # the length of a file depends on the library that compressed it, not on the workload
        work = one.workload.model_copy(update={"mean_file_bytes": 0})
        return (work, place.device, place.cpu, place.threads, place.precision, place.packages.get("torch"))

    if old is None or where(old) != where(new):
        return new
    return new.model_copy(update={"methods": {**old.methods, **new.methods}})


def only(record: SpeedRecord, methods: Collection[str]) -> SpeedRecord:
    """Return the record with some of its methods; empty for all."""
    kept = {name: one for name, one in record.methods.items() if not methods or name in methods}
    return record.model_copy(update={"methods": kept})


def write(record: SpeedRecord, path: Path) -> None:
    """Write the record so that `path` is never half a file."""
    with atomic(path) as file:
        file.write((record.model_dump_json(indent=1) + "\n").encode())


def read(path: Path) -> SpeedRecord:
    """Read one speed record.

    Raises:
        StoreError: no JSON, another schema version, or fields that do not fit it.
    """
    try:
        data = json.loads(regular.read_bytes(path, MOST_BYTES))
    except (OSError, ValueError, RecursionError) as error:
        raise StoreError(f"{path} is no readable speed record: {error}. Make one with: bench speed") from error
    version = data.get("speed_schema") if isinstance(data, dict) else None
    if version != SCHEMA_VERSION or isinstance(version, bool):
        raise StoreError(
            f"{path} has speed schema {version!r}; this bench reads schema {SCHEMA_VERSION}. "
            "Move it away and make one with: bench speed"
        )
    try:
        return SpeedRecord.model_validate(data)
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(str(part) for part in first["loc"])
        raise StoreError(f"{path} does not fit speed schema {SCHEMA_VERSION}: {where}: {first['msg']}") from error


def is_record(path: Path) -> bool:
    """Return whether a file looks like a speed record."""
    try:
        return b'"speed_schema"' in regular.read_bytes(path, MOST_BYTES)
    except (OSError, ValueError):
        return False


def find(folders: Iterable[Path]) -> list[SpeedRecord]:
    """Read every speed record in some folders called `speed`, and in such folders below others, by file name.

    Of two of one device and workload that of the earlier folder counts. Folders that do not exist hold none; saved
    runs of pytest-benchmark, which lie there too, are left out. Raises as `read`.
    """
    found: dict[str, SpeedRecord] = {}
    for folder in folders:
        places = [folder] if folder.name == SPEED else sorted(path for path in folder.rglob(SPEED) if path.is_dir())
        for path in (path for place in places for path in sorted(place.glob("*.json")) if path.name[0] != "."):
            if path.name not in found and is_record(path):
                found[path.name] = read(path)
    return list(found.values())
