"""Kept models: the trained part of a cell beside its record, one file that `bench predict` and late maps read.

What is kept is the state of the module that the method's `build` returns, after `fit`, training and `finish`:
parameters and buffers, memories included. The frozen encoder is not; the record names its weights by their SHA-256.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import numpy as np
import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor, nn

from bench import regular
from bench.api import Method, Sample
from bench.encoders import frozen
from bench.encoders.frozen import FrozenEncoder
from bench.errors import StoreError, UsageError
from bench.files import atomic
from bench.loading.hashes import sha256
from bench.machine.progress import Progress
from bench.plan import needs
from bench.plan.cells import Cell
from bench.run.scoring import Predict
from bench.run.seeding import seed_everything
from bench.store.facts import ModelFacts
from bench.store.record import Record
from bench.words import counted

SCHEMA = "1"
"""Of the file; raised when what lies in it means something else."""
LOOKED_AT = 64
"""Normal images that the colour scale of maps is taken from."""
STRIDE = 4
"""Of their pixels along both axes; neighbours say the same."""
AGAIN = "The same bench run with --keep-model --again makes one"


@dataclass(frozen=True, slots=True)
class Scale:
    """Where the colours of a model's maps begin and end, in its scores."""

    low: float
    high: float


def path_of(record: Path) -> Path:
    """Return the model's file of a record's."""
    return record.with_suffix(".model.safetensors")


@lru_cache(maxsize=64)
def size(method: Method) -> int:
    """Return the bytes that the model of a method takes, except for what `fit` makes of its buffers."""
    encoder = frozen.skeleton(method.encoder(), method.config.input_size or 0)
    with torch.device("meta"):
        state = needs.build(method, encoder).state_dict()
    return sum(value.numel() * value.element_size() for value in state.values())


def check_room(methods: Sequence[Method], results: Path) -> None:
    """Refuse models that have no room, before anything is trained. Raises UsageError."""
    total = sum(map(size, methods))
    place = next(folder for folder in (results, *results.absolute().parents) if folder.exists())
    free = shutil.disk_usage(place).free
    if total > free:
        raise UsageError(
            f"--keep-model: {counted(len(methods), 'model')} of {total / 2**20:,.0f} MiB in sum, and "
            f"{free / 2**20:,.0f} MiB are free in {results}. Expected room, or --results on another disk"
        )


def write(
    module: nn.Module, cell: Cell, record: Path, scale: Scale | None, say: Callable[[str], None]
) -> ModelFacts | None:
    """Write the model beside its record and return what the record says of it.

    None where it cannot be kept, which is said: the disk is full, or the module has state that is no tensor. That is no
    reason to lose the scores of a finished training.
    """
    try:
        return _write(module, cell, record, scale)
    except StoreError as error:
        say(f"the model is not kept: {error}")
        return None


def _write(module: nn.Module, cell: Cell, record: Path, scale: Scale | None) -> ModelFacts:
    state = {}
    for name, value in module.state_dict().items():
        if not isinstance(value, Tensor):
            raise StoreError(f"{cell.method.name} has {name} in its module's state, which is no tensor")
        # tensors that share memory are taken apart, whatever their layout in memory
        state[name] = value.detach().cpu().clone(memory_format=torch.contiguous_format)
    facts = {"schema": SCHEMA, "method": cell.method.name, "cell": cell.fingerprint}
    if scale is not None:
        facts |= {"map_low": repr(scale.low), "map_high": repr(scale.high)}
    path = path_of(record)
    with atomic(path) as file:
        save_file(state, file.name, facts)
    return ModelFacts(file=path.name, sha256=sha256(path))


def read(
    record: Record, path: Path, method: Method, encoder: FrozenEncoder, device: torch.device
) -> tuple[nn.Module, Scale | None]:
    """Return a record's kept model on a device, in evaluation mode, and the colour scale of its maps if it makes any.

    Args:
        record: says which model it is.
        path: of the record; the model lies beside it.
        method: the record's, configured as it says.
        encoder: the method's, on the device.
        device: where to.

    Raises:
        StoreError: no model was kept, or its file is missing, damaged, of another cell or of another version.
    """
    file = path.with_name(_facts(record, path).file)
    with _opened(file, record) as tensors:
        # what `build` draws, and no state dict holds, is what it was in the training
        seed_everything(record.cell.seed)
        module = needs.build(method, encoder).to(device).to(memory_format=encoder.memory_format)
        try:
            module.load_state_dict({name: tensors.get_tensor(name) for name in tensors.keys()})  # noqa: SIM118
        except (RuntimeError, SafetensorError) as error:
            reason = " ".join(str(error).split())[:300]
            raise StoreError(f"{file} is of another version of {record.cell.method}: {reason}. {AGAIN}") from error
        return module.eval(), _scale_in(tensors.metadata(), file)


def scale_of(record: Record, path: Path) -> Scale | None:
    """Return the colour scale of a record's kept model, None where it makes no maps. Raises StoreError as `read`."""
    file = path.with_name(_facts(record, path).file)
    with _opened(file, record) as tensors:
        return _scale_in(tensors.metadata(), file)


def look_at_normals(predict: Predict, cell: Cell, progress: Progress) -> Scale | None:
    """Return the colour scale of the cell's maps: normal test images', or training images' where there are none."""
    normal = [sample for sample in cell.task.test if sample.label == 0] or list(cell.task.train)
    chosen = _spread(normal, LOOKED_AT)
    with progress.phase("colours", len(chosen)) as advance:
        maps, _ = predict(chosen, True, advance)
    return None if maps is None else scale(maps[:, ::STRIDE, ::STRIDE].ravel())


def scale(normal: np.ndarray[tuple[int], np.dtype[np.floating]]) -> Scale:
    """Return a scale that begins at the median of normal pixels and has their 99.9 % quantile in its middle."""
    low, usual = (float(value) for value in np.quantile(normal, [0.5, 0.999]))
    return Scale(low, low + 2 * (usual - low) if usual > low else low + 1)


def _facts(record: Record, path: Path) -> ModelFacts:
    if record.model is None:
        raise StoreError(f"{path} kept no model. {AGAIN}")
    return record.model


def _opened(file: Path, record: Record) -> safe_open:
    """Open a model's file after making sure that it is the record's, whole and of this version."""
    try:
        regular.check(file)
        found = sha256(file)
    except OSError as error:
        raise StoreError(f"{file}, the kept model, cannot be read: {error.strerror or error}. {AGAIN}") from error
    if record.model is None or found != record.model.sha256:
        raise StoreError(f"{file} is damaged or not the model of its record: its SHA-256 is {found}. {AGAIN}")
    try:
        tensors = safe_open(file, "pt")
        facts: dict[str, str] = tensors.metadata() or {}  # type: ignore[no-untyped-call]
    except (SafetensorError, OSError) as error:
        raise StoreError(f"{file} is no kept model: {error}. {AGAIN}") from error
    if facts.get("schema") != SCHEMA:
        raise StoreError(f"{file} has schema {facts.get('schema')!r}; this bench reads schema {SCHEMA}. {AGAIN}")
    if (facts.get("method"), facts.get("cell")) != (record.cell.method, record.cell.fingerprint):
        raise StoreError(f"{file} is the model of another cell, {facts.get('method')} {facts.get('cell')}. {AGAIN}")
    return tensors


def _scale_in(facts: dict[str, str], file: Path) -> Scale | None:
    if "map_low" not in facts:
        return None
    try:
        return Scale(float(facts["map_low"]), float(facts["map_high"]))
    except (KeyError, ValueError) as error:
        raise StoreError(f"{file} has no colour scale that can be read. {AGAIN}") from error


def _spread(samples: Sequence[Sample], most: int) -> list[Sample]:
    """Return at most so many samples, evenly spread."""
    stride = max(1, -(-len(samples) // most))
    return list(samples[::stride])
