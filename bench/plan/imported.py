"""Weights that a method's authors released, in the place of a training: read, renamed, and fitted to the module.

The file is the state of the authors' whole network. Its frozen encoder is compared with the one at hand, which is the
one that looks at the images; what takes no part in a score is left out; all else must be what the module holds.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

import torch
from torch import Tensor, nn

from bench.api import EncoderRequest, Method
from bench.encoders import catalog, checkpoints, convert, frozen, weights
from bench.encoders.checkpoints import listed
from bench.errors import UsageError, WeightsError
from bench.loading.hashes import sha256
from bench.method import Released
from bench.plan import needs
from bench.registry import METHODS

ROUNDINGS = 4
"""By how many roundings of the file's type, at a tensor's largest value, an encoder's may be off and be the same."""
RESAMPLED = 1e-4
"""As a share of their largest value: positions that two versions of timm have brought to another grid."""


@dataclass(frozen=True)
class Imported:
    """Released weights of a method's module."""

    path: Path
    sha256: str
    state: Mapping[str, Tensor] = field(compare=False, repr=False)
    """Of the module, float32 where they are floating."""

    def fill(self, module: nn.Module) -> None:
        """Put the weights into a module as the method builds it, on any device."""
        module.load_state_dict(dict(self.state))


def check(name: str) -> Released:
    """Return how the authors of a method name their tensors; loads no torch beyond the method's.

    Raises:
        UsageError: no such method, or none whose released files are known.
    """
    METHODS.check(name)
    released = METHODS.load(name).released
    if released is None:
        known = ", ".join(sorted(one for one in METHODS.targets if METHODS.load(one).released is not None))
        raise UsageError(f"{name}: how its authors' files name their tensors is not known. Expected one of {known}")
    return released


def read(path: Path, method: Method, encoder: EncoderRequest, file: Path) -> Imported:
    """Return released weights of a method, after making sure that all of the file is accounted for.

    Args:
        path: the authors' checkpoint.
        method: configured; says how many blocks there are and of which width.
        encoder: what the method looks through.
        file: the encoder's weights.

    Raises:
        UsageError: no such file, or the method's released files are not known.
        WeightsError: no checkpoint, one that holds more than tensors, tensors that are missing, superfluous or of
            another shape, or another encoder.
    """
    released = check(method.name)
    if not path.is_file():
        raise UsageError(f"{path}: no such file. Expected the checkpoint that {method.name}'s authors released")
    tensors = checkpoints.read(path)
    theirs = {key: value for key, value in tensors.items() if key.startswith(released.encoder)}
    rest = {key: value for key, value in tensors.items() if key not in theirs and not _is_unused(key, released)}
    state = _fitted(rest, method, encoder, released, path)
    _compare({key.removeprefix(released.encoder): value for key, value in theirs.items()}, encoder, file, path)
    return Imported(path, sha256(path), state)


def _fitted(
    tensors: Mapping[str, Tensor], method: Method, encoder: EncoderRequest, released: Released, path: Path
) -> dict[str, Tensor]:
    """Return the tensors under the module's names. Raises WeightsError with the authors' names of what does not fit."""
    skeleton = frozen.skeleton(encoder)
    with torch.device("meta"):
        module = needs.build(method, skeleton)
    wanted = {key: tuple(value.shape) for key, value in module.state_dict().items()}
    named = {key: _ours(key, released) for key in tensors}
    held = set(named.values())
    faults = listed(
        "missing, by bench's names", [f"{key} {list(shape)}" for key, shape in wanted.items() if key not in held]
    )
    faults += listed("not part of this network", [key for key, ours in named.items() if ours not in wanted])
    faults += listed(
        "of another shape",
        [
            f"{key} {list(tensors[key].shape)} (expected {list(wanted[ours])})"
            for key, ours in named.items()
            if ours in wanted and tuple(tensors[key].shape) != wanted[ours]
        ],
    )
    if faults:
        raise WeightsError(
            f"{path} does not fit {method.name} with {encoder.name}: {'; '.join(faults)}. Expected the file of exactly "
            f"this network, {released.source}; --encoder and --set {method.name}.KEY=VALUE choose another"
        )
    return {ours: _widened(tensors[key]) for key, ours in named.items()}


def _ours(name: str, released: Released) -> str:
    """Return what the module calls a tensor of the authors'; empty where it has no such tensor."""
    for pattern, ours in released.names:
        if (found := re.fullmatch(pattern, name)) is not None:
            return found.expand(ours)
    return ""


def _is_unused(name: str, released: Released) -> bool:
    return re.fullmatch(released.unused, name) is not None


def _widened(value: Tensor) -> Tensor:
    return value.float() if value.is_floating_point() else value


def _compare(theirs: Mapping[str, Tensor], encoder: EncoderRequest, file: Path, path: Path) -> None:
    """Make sure that the encoder in the authors' file is the one at hand. Raises WeightsError."""
    if not theirs:
        raise WeightsError(f"{path} holds no encoder. Expected the state of the whole network, not of a part")
    with torch.device("meta"):
        native = catalog.create(encoder.name)
    ours = weights.read(file, native)
    precision = max(torch.finfo(value.dtype).eps for value in theirs.values() if value.is_floating_point())
    state = {key: _widened(value) for key, value in theirs.items()}
    positions, known = state.get("pos_embed"), ours.get("pos_embed")
    # official files of DINOv2 have a position more, the class token's
    if positions is not None and known is not None and positions.shape[1] - known.shape[1] not in (0, 1):
        # a network that was laid out for its input size has the positions of that grid
        expected = frozen.positions(known, native, catalog.requested(encoder), encoder.position)
        resampled = positions.shape == expected.shape
        off = max(RESAMPLED, ROUNDINGS * precision)
        _refuse([] if resampled and _apart(positions, expected) <= off else ["pos_embed"], file, path)
        state["pos_embed"] = known
    state = weights.fit(convert.renamed(state, encoder.name, native, path), native, path)
    _refuse(_differing(state, ours, ROUNDINGS * precision), file, path)


def _differing(theirs: Mapping[str, Tensor], ours: Mapping[str, Tensor], share: float) -> Iterator[str]:
    for key, value in ours.items():
        if value.is_floating_point() and _apart(theirs[key], value) > share:
            yield key


def _apart(theirs: Tensor, ours: Tensor) -> float:
    """Return the largest difference, as a share of the largest value."""
    return float((theirs - ours).abs().max() / ours.abs().max().clamp(min=1e-30))


def _refuse(differing: Iterator[str] | list[str], file: Path, path: Path) -> None:
    if faults := listed("of its tensors differ", differing):
        raise WeightsError(
            f"{path} was trained on another encoder than {file}: {faults[0]}. Expected that one: name it with "
            "--encoder, or the folder of its file with --weights"
        )
