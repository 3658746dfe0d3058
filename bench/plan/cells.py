"""Cells of a request: methods, data and weights brought together; what does not fit is refused before any work."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Any

from bench.api import EncoderRequest, Method
from bench.config import configure, fingerprint
from bench.encoders import catalog, digest, weights
from bench.errors import BenchError, UsageError, WeightsError
from bench.machine.progress import Progress
from bench.method import resolve
from bench.metrics import METRIC_VERSION
from bench.plan import imported, needs, settings
from bench.plan import request as requests
from bench.plan.imported import Imported
from bench.plan.request import Request
from bench.plan.task import IndexedDataset, Task, hashed
from bench.plan.texture_source import Textures
from bench.plan.texture_source import find as find_textures
from bench.protocol import Protocol
from bench.registry import METHODS
from bench.setting import known as setting_of
from bench.store.facts import AUTHORS, CellKey


@dataclass(frozen=True)
class Cell:
    """One unit of work: method x dataset x setting x seed x protocol, with everything it needs resolved."""

    method: Method = field(repr=False)
    task: Task
    seed: int
    protocol: Protocol = field(repr=False)
    encoder: EncoderRequest | None
    """None of a method that looks through no encoder; then there are no weights either."""
    weights: Path | None
    weights_sha256: str = field(repr=False)
    """Empty where the weights are not here and were not to be fetched: such a cell can be shown, and not be run."""
    precision: str
    changed: tuple[str, ...]
    """Config keys that differ from the method's published values for this dataset."""
    textures: Textures | None = field(default=None, repr=False)
    """What defects are painted with, of a method that needs textures."""
    imported: Imported | None = field(default=None, repr=False)
    """Weights that the method's authors released, in the place of a training."""
    more_metrics: tuple[str, ...] = ()
    """Asked for beside the protocol's own. They make no other cell: nothing is trained or predicted otherwise."""

    @property
    def metrics(self) -> tuple[str, ...]:
        """What is measured: the protocol's metrics, then what was asked for beside them."""
        return tuple(dict.fromkeys((*self.protocol.metrics, *self.more_metrics)))

    @property
    def steps(self) -> int:
        """Training iterations, 0 where nothing is trained."""
        return 0 if self.imported is not None else self.method.steps(len(self.task.train))

    @property
    def input_size(self) -> int:
        """Side of the images that the method is given, in pixels."""
        return needs.side(self.method, self.encoder)

    @property
    def name(self) -> str:
        """A short name for the terminal: dinomaly on fmnist A, multi, seed 0."""
        return f"{self.key.title}, {AUTHORS if self.imported is not None else f'seed {self.seed}'}"

    @cached_property
    def fingerprint(self) -> str:
        """12 hex digits over all that decides the scores, the device excepted."""
        facts = {
            "method": self.method.name,
            "config": self.method.config.model_dump(mode="json"),
            "dataset": self.task.fingerprint,
            "setting": self.task.setting,
            "classes": sorted(self.task.classes),
            "seed": self.seed,
            "protocol": self.protocol.identity(),
            "metrics": METRIC_VERSION,
            "weights": self.weights_sha256,
            "precision": self.precision,
        }
        # left out where a cell has none of them: older cells keep their fingerprint
        textures = self.textures.fingerprint if self.textures is not None else ""
        optional = {
            "textures": textures,
            "part": self.task.part,
            "shots": self.task.shots,
            "revision": self.method.revision,
            "calibration": self.task.calibration_fingerprint,
            "imported": self.imported.sha256 if self.imported is not None else "",
        }
        return fingerprint(facts | {name: value for name, value in optional.items() if value})

    @cached_property
    def features_key(self) -> str:
        """Equal for two cells exactly when their stored features are: all but the seed."""
        return replace(self, seed=0).fingerprint

    @cached_property
    def key(self) -> CellKey:
        """The cell's identity as records carry it."""
        return CellKey(
            method=self.method.name,
            dataset=self.task.name,
            setting=self.task.setting,
            seed=self.seed,
            protocol=self.protocol.name,
            classes=self.task.classes,
            part=self.task.part,
            shots=self.task.shots,
            fingerprint=self.fingerprint,
        )

    def path(self, results: Path) -> Path:
        """Return where the record goes: <dataset>/<method>/<setting>/[<part>-]s<seed>-<fingerprint>.json."""
        return results / self.key.file


def expand(
    request: Request,
    progress: Progress,
    sources: Mapping[str, IndexedDataset] | None = None,
    *,
    fetch: bool = True,
    checkpoint: Path | None = None,
) -> list[Cell]:
    """Resolve a request into cells: datasets outermost, then settings and their parts, methods, seeds innermost.

    Args:
        request: what the user asked for.
        progress: told of the hashing of each dataset.
        sources: the datasets as `bench.plan.request.sources` has found them; None to look for them here.
        fetch: whether weights that are not here are fetched.
        checkpoint: weights that the authors of the request's one method released; they are one model.

    Raises:
        UsageError, DatasetError, WeightsError: something asked for does not exist or does not fit.
    """
    # a mistyped option must not wait for the download of weights, nor for the hashing of a dataset
    cards = requests.check(request)
    if checkpoint is not None:
        imported.check(request.methods[0])
    if sources is None:
        sources = requests.sources(request)
    kinds = {name: METHODS.load(name) for name in request.methods}
    methods = {
        (dataset, setting, arm): _configured(kinds[name], dataset, setting, given, request.encoder)
        for dataset in request.datasets
        for setting in request.settings
        for arm, (name, given) in enumerate(request.arms)
    }
    encoders = {key: method.encoder() for key, (method, _) in methods.items()}
    if request.encoder is not None and not any(needs.has_encoder(kind) for kind in kinds.values()):
        raise UsageError(
            f"--encoder {request.encoder}: {', '.join(kinds)} has no frozen encoder. Expected no --encoder"
        )
    for key, wanted in encoders.items():
        needs.check(methods[key][0], wanted)
    asked = [wanted for wanted in encoders.values() if wanted is not None]
    for wanted in asked:
        catalog.describe(wanted.name, wanted.input_size, wanted.blocks)
    files = {name: _weights(name, request, fetch) for name in {wanted.name for wanted in asked}}

    read = {
        key: imported.read(checkpoint, method, wanted, files[wanted.name][0])
        for key, (method, _) in methods.items()
        if checkpoint is not None and (wanted := encoders[key]) is not None
    }

    drawing = [name for name, kind in kinds.items() if "textures" in kind.needs]
    textures = find_textures(request.data_roots, progress) if drawing else None

    cells = []
    for dataset in request.datasets:
        source = hashed(sources[dataset], progress)
        for setting in request.settings:
            for tasks in _parts(source, setting, request):
                for arm, (name, _) in enumerate(request.arms):
                    method, changed = methods[dataset, setting, arm]
                    encoder = encoders[dataset, setting, arm]
                    variant = getattr(method.config, "variant", "")
                    protocol = resolve(request.protocol, kinds[name], cards[dataset].kind, variant)
                    path, sha256 = files[encoder.name] if encoder is not None else (None, "")
                    # seeds innermost: they share the features
                    for seed, task in tasks.items():
                        cells.append(
                            Cell(
                                method=method,
                                task=task,
                                seed=seed,
                                protocol=protocol,
                                encoder=encoder,
                                weights=path,
                                weights_sha256=sha256,
                                precision=request.precision,
                                changed=changed,
                                textures=textures if name in drawing else None,
                                imported=read.get((dataset, setting, arm)),
                                more_metrics=request.metrics,
                            )
                        )
    if checkpoint is not None and (alike := len(cells) - len(request.datasets)):
        raise UsageError(
            f"{checkpoint} is one model, and setting {', '.join(request.settings)} makes {alike + 1} of a dataset. "
            "Expected the one it is: --classes, or --splits of a semantic set"
        )
    return cells


def _weights(name: str, request: Request, fetch: bool) -> tuple[Path, str]:
    """Return an encoder's file and its SHA-256; where it is not here and not to be fetched, a name and nothing."""
    if not fetch and weights.at_hand(name, request.weights) is None:
        return Path(f"{name}.safetensors"), ""
    try:
        path = weights.locate(name, request.weights)
    except WeightsError as error:
        raise WeightsError(f"{error}{_at_once(request)}") from error
    weights.look(path, name)
    return path, digest.fingerprint(path)


def _at_once(request: Request) -> str:
    """Return how the methods asked for can be tried with an encoder that bench brings; empty where none can."""
    own = catalog.embedded()[0]
    size = catalog.describe(own).input_size
    able = []
    for name in request.methods:
        kind = METHODS.load(name)
        try:
            wanted = kind(configure(kind, "", {"encoder": own, "input_size": size}, None)).encoder()
            if wanted is None:
                continue
            catalog.describe(wanted.name, wanted.input_size, wanted.blocks)
        except BenchError:
            continue
        able.append(name)
    if not able:
        return ""
    methods = "" if len(able) == len(request.methods) else f"--methods {','.join(able)} "
    sizes = " ".join(f"--set {name}.input_size={size}" for name in able)
    return f" To try at once, with the encoder that bench brings: {methods}--encoder {own} {sizes}"


def _configured(
    kind: type[Method], dataset: str, setting: str, given: Mapping[str, Any], encoder: str | None
) -> tuple[Method, tuple[str, ...]]:
    """Return the method as asked for, and which of its values are not the published ones for dataset and setting."""
    asked = {"encoder": encoder, **given} if encoder is not None and needs.has_encoder(kind) else given
    config = configure(kind, dataset, asked, None, setting)

    def is_changed(key: str) -> bool:
        # what follows from another value that was asked for (a learning rate from the batch) is no change of its own
        others = {name: value for name, value in asked.items() if name != key}
        try:
            return bool(getattr(config, key) != getattr(configure(kind, dataset, others, None, setting), key))
        except UsageError:
            return True  # the others do not go without it

    return kind(config), tuple(key for key in kind.Config.model_fields if key in asked and is_changed(key))


def _parts(source: IndexedDataset, setting: str, request: Request) -> list[dict[int, Task]]:
    """Return each part's tasks by seed; one task serves all seeds unless the seed chooses images."""
    if not setting_of(setting).chooses:
        found = settings.tasks(source, setting, request.splits, share=request.calibrate)
        return [dict.fromkeys(request.seeds, task) for task in found]
    by_seed = [
        settings.tasks(source, setting, request.splits, request.shots, seed, request.calibrate)
        for seed in request.seeds
    ]
    return [dict(zip(request.seeds, part, strict=True)) for part in zip(*by_seed, strict=True)]
