"""From a request to cells: what there is to do, what is done, how long it may take.

Everything that can be refused is refused here, before any work: names, settings, data, weights.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Literal

from bench.api import EncoderRequest, Method
from bench.config import Overrides, configure, fingerprint
from bench.encoders import catalog, weights
from bench.errors import StoreError
from bench.metrics import METRIC_VERSION
from bench.protocol import Protocol, resolve
from bench.registry import DATASETS, METHODS
from bench.run import task as tasks
from bench.run.progress import Progress
from bench.run.task import Task
from bench.store import record as records
from bench.store.record import CellKey, Record


@dataclass(frozen=True)
class Request:
    """What the user asked for."""

    methods: tuple[str, ...]
    datasets: tuple[str, ...]
    settings: tuple[str, ...] = ("multi",)
    seeds: tuple[int, ...] = (0,)
    protocol: str = "common"
    classes: tuple[str, ...] = ()
    encoder: str | None = None
    set: Overrides = field(default_factory=dict)
    data_roots: tuple[str, ...] = ()
    weights: Path | None = None
    precision: str = "fp32"


@dataclass(frozen=True)
class Cell:
    """One unit of work: method x dataset x setting x seed x protocol, with everything it needs resolved."""

    method: Method = field(repr=False)
    task: Task
    seed: int
    protocol: Protocol = field(repr=False)
    encoder: EncoderRequest
    weights: Path
    weights_sha256: str = field(repr=False)
    precision: str
    changed: tuple[str, ...]
    """Config keys that differ from the method's published values for this dataset."""

    @property
    def name(self) -> str:
        """Return a short name for the terminal: dinomaly on mvtec, seed 0."""
        return f"{self.method.name} on {self.task.name}, {self.task.setting}, seed {self.seed}"

    def fingerprint(self) -> str:
        """Return 12 hex digits over all that decides the scores, the device excepted."""
        return fingerprint(
            {
                "method": self.method.name,
                "config": self.method.config.model_dump(mode="json"),
                "dataset": self.task.fingerprint(),
                "setting": self.task.setting,
                "classes": sorted(self.task.classes),
                "seed": self.seed,
                "protocol": self.protocol.hash(),
                "metrics": METRIC_VERSION,
                "weights": self.weights_sha256,
                "precision": self.precision,
            }
        )

    def features_key(self) -> str:
        """Return a key that is equal for two cells exactly when their stored features are: all but the seed."""
        return replace(self, seed=0).fingerprint()

    def key(self) -> CellKey:
        """Return the cell's identity as records carry it."""
        return CellKey(
            method=self.method.name,
            dataset=self.task.name,
            setting=self.task.setting,
            seed=self.seed,
            protocol=self.protocol.name,
            classes=self.task.classes,
            fingerprint=self.fingerprint(),
        )

    def path(self, results: Path) -> Path:
        """Return where the record goes: <dataset>/<method>/<setting>/s<seed>-<fingerprint>.json."""
        stem = f"s{self.seed}-{self.fingerprint()}"
        return results / self.task.name / self.method.name / self.task.setting / f"{stem}.json"


@dataclass(frozen=True)
class Planned:
    """A cell and what the results folder already holds of it."""

    cell: Cell
    state: Literal["done", "failed", "interrupted", "new"]
    record: Record | None = None


def expand(request: Request, progress: Progress) -> list[Cell]:
    """Resolve a request into cells, datasets outermost, seeds innermost.

    Args:
        request: what the user asked for.
        progress: told of the reading of each dataset.

    Raises:
        UsageError, DatasetError, WeightsError: something asked for does not exist or does not fit.
    """
    kinds = {name: METHODS.load(name) for name in request.methods}
    for dataset in request.datasets:
        DATASETS.load(dataset)
    protocols = {name: resolve(request.protocol, kind) for name, kind in kinds.items()}
    # configurations first: a mistyped --set must not wait for the hashing of a dataset
    methods: dict[tuple[str, str], tuple[Method, tuple[str, ...]]] = {}
    for dataset in request.datasets:
        for name, kind in kinds.items():
            config = configure(kind, dataset, request.set.get(name, {}), request.encoder)
            published = configure(kind, dataset, {}, None)
            changed = tuple(k for k in type(config).model_fields if getattr(config, k) != getattr(published, k))
            methods[dataset, name] = kind(config), changed
    requests = {key: method.encoder() for key, (method, _) in methods.items()}
    for wanted in requests.values():
        catalog.describe(wanted.name, wanted.input_size, wanted.blocks)
    files = {name: weights.locate(name, request.weights) for name in {wanted.name for wanted in requests.values()}}
    hashes = {name: weights.fingerprint(path) for name, path in files.items()}

    cells = []
    for dataset in request.datasets:
        for setting in request.settings:
            root = tasks.data_root(dataset, request.data_roots)
            progress.say(f"reading {dataset}")
            task = tasks.prepare(dataset, root, setting, request.classes, progress)
            for name in request.methods:
                method, changed = methods[dataset, name]
                wanted = requests[dataset, name]
                # seeds innermost: they share the features
                for seed in request.seeds:
                    cells.append(
                        Cell(
                            method=method,
                            task=task,
                            seed=seed,
                            protocol=protocols[name],
                            encoder=wanted,
                            weights=files[wanted.name],
                            weights_sha256=hashes[wanted.name],
                            precision=request.precision,
                            changed=changed,
                        )
                    )
    return cells


def look_up(cells: Sequence[Cell], results: Path, note: Callable[[str], None] = lambda text: None) -> list[Planned]:
    """Pair each cell with its record in the results folder; an unreadable record is said and counts as new."""
    planned = []
    for cell in cells:
        path = cell.path(results)
        record: Record | None = None
        if path.is_file():
            try:
                record = records.read(path)
            except StoreError as error:
                note(f"{error}")
        if record is not None:
            planned.append(Planned(cell, record.status, record))
        elif checkpoint_of(path).is_file():
            planned.append(Planned(cell, "interrupted"))
        else:
            planned.append(Planned(cell, "new"))
    return planned


def checkpoint_of(path: Path) -> Path:
    """Return the checkpoint that belongs to a record's path."""
    return path.with_suffix(".ckpt")
