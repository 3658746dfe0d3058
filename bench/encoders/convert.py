"""Conversion of an official PyTorch checkpoint to the safetensors file that an encoder is read from.

Only tensors are taken out of a checkpoint, nothing in it is executed. Their names are brought to timm's by timm's own
filter for the architecture; what is left over, missing or of another shape afterwards is refused.
"""

from __future__ import annotations

import re
import sys
from pathlib import Path

import timm
import torch
from safetensors.torch import save_file
from timm.models import model_entrypoint
from torch import Tensor, nn

from bench.encoders import catalog, checkpoints, weights
from bench.errors import UsageError, WeightsError
from bench.files import atomic
from bench.registry import did_you_mean

BACKBONE = "backbone."
"""Before the encoder's names where a training's heads lie beside it."""


def convert(path: Path, name: str = "", folder: Path | None = None) -> Path:
    """Write `<name>.safetensors` and return its path.

    Args:
        path: checkpoint (.pth, .pt, .bin).
        name: encoder; empty where the file has the name that its authors gave it.
        folder: where to write; None for the checkpoint's own.

    Raises:
        UsageError: no such file or encoder, it is not said which encoder this is, or the new file is there already.
        WeightsError: no checkpoint, one that holds more than tensors, or one that does not fit the encoder.
        UnwritableError: the new file cannot be written.
    """
    if not path.exists():
        raise UsageError(f"{path}: no such file. Expected a PyTorch checkpoint (.pth, .pt, .bin)")
    name = name or _encoder_of(path)
    catalog.check(name)
    if catalog.embedded_file(name) is not None:
        raise UsageError(f"--encoder {name} ships with bench. Expected an encoder of timm's")
    target = (path.parent if folder is None else folder) / f"{name}.safetensors"
    if target.exists():
        raise UsageError(f"{target} is there already: it is not overwritten. Remove it, or choose another --out")
    with torch.device("meta"):
        module = catalog.create(name)
    found = renamed(_backbone(checkpoints.read(path)), name, module, path)
    weights.fit(found, module, path)
    with atomic(target) as file:
        # without metadata, as timm writes the files of its hub; tensors that share memory are taken apart
        save_file({key: value.detach().clone().contiguous() for key, value in found.items()}, file.name)
    return target


def _encoder_of(path: Path) -> str:
    """Return the encoder whose official checkpoint is called so."""
    # a browser adds a number to the second download of a file
    wanted = re.sub(r" ?\(\d+\)(?=\.)", "", path.name)
    files: dict[str, list[str]] = {}
    for name in timm.list_models(pretrained=True):
        files.setdefault(weights.official_address(name).rpartition("/")[2], []).append(name)
    found = files.get(wanted, [])
    if len(found) == 1:
        return found[0]
    which = f" It may be of {', '.join(found)}." if found else did_you_mean(wanted, [file for file in files if file])
    raise UsageError(f"{path}: of which encoder are these weights?{which} Expected --encoder NAME")


def _backbone(tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    """Return the encoder's tensors alone, where those of the training's heads lie beside it."""
    if not any(key.startswith(BACKBONE) for key in tensors):
        return tensors
    return {key.removeprefix(BACKBONE): value for key, value in tensors.items() if key.startswith(BACKBONE)}


def renamed(state: dict[str, Tensor], name: str, module: nn.Module, path: Path) -> dict[str, Tensor]:
    """Return an encoder's tensors, named as its authors do, under timm's names.

    Args:
        state: the tensors, under timm's names already or not.
        name: encoder by catalogue name.
        module: the network in its native layout, also on the meta device.
        path: the file, for the message.

    Raises:
        WeightsError: timm cannot rename them, or would have to change their positions' grid.
    """
    if catalog.embedded_file(name) is not None:
        return state
    own = sys.modules[model_entrypoint(name.partition(".")[0]).__module__]
    to_timm = getattr(own, "checkpoint_filter_fn", None)
    if to_timm is None:
        return state
    before = {key: state[key].shape for key in ("pos_embed", "patch_embed.proj.weight") if key in state}
    try:
        found: dict[str, Tensor] = to_timm(dict(state), module)
    except Exception as error:  # it expects the tensors of this architecture, and trips over others in its own ways
        raise WeightsError(f"{path} does not fit {name}: timm cannot rename its tensors ({error})") from error
    for key, shape in before.items():
        # with registers the first position is added to the class token; any other change is a resampling
        if key in found and found[key].shape != shape and found[key].shape[1] != shape[1] - 1:
            raise WeightsError(
                f"{path} does not fit {name}: {key} {list(shape)} would have to be resampled to "
                f"{list(found[key].shape)}. Expected the weights of this encoder at its own input size"
            )
    return found
