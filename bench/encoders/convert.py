"""From an official PyTorch checkpoint to the safetensors file that an encoder is read from.

Only tensors are taken out of a checkpoint, nothing in it is executed. Their names are brought to timm's by timm's own
filter for the architecture; what is left over, missing or of another shape afterwards is refused.
"""

from __future__ import annotations

import re
import sys
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import timm
import torch
from safetensors.torch import save_file
from timm.models import model_entrypoint
from torch import Tensor, nn

from bench import regular
from bench.encoders import catalog, weights
from bench.errors import UsageError, WeightsError
from bench.files import atomic
from bench.registry import did_you_mean

INSIDE = ("model", "state_dict", "teacher")
"""Names under which checkpoints of trainings hold the network's tensors."""
BACKBONE = "backbone."
WRAPPER = "module."
"""Before every name where the network was trained on several devices."""


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
    found = _renamed(_tensors(_load(path), path), name, module, path)
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


def _load(path: Path) -> Any:
    try:
        with regular.opened(path) as file:
            if zipfile.is_zipfile(file):
                _check_sizes(zipfile.ZipFile(file), path)
            file.seek(0)
            return torch.load(file, map_location="cpu", weights_only=True)
    except OSError as error:
        raise WeightsError(f"cannot read {path}: {error.strerror or error}. Expected a PyTorch checkpoint") from error
    except WeightsError:
        raise
    except Exception as error:  # torch raises what the bytes suggest
        if named := re.search(r"GLOBAL ([\w.]+)", str(error)):
            raise WeightsError(
                f"{path} holds more than tensors ({named[1]}), and nothing in it is executed. Expected the file of the "
                "weights alone, not that of a training"
            ) from error
        why = str(error).partition("\n")[0] or type(error).__name__
        raise WeightsError(f"{path} is no PyTorch checkpoint: {why}. Download or copy it again") from error


def _check_sizes(archive: zipfile.ZipFile, path: Path) -> None:
    """Refuse an archive whose parts would take more memory than it has bytes; torch stores them as they are."""
    if sum(part.file_size for part in archive.infolist()) > path.stat().st_size:
        raise WeightsError(f"{path} is packed, which no PyTorch checkpoint is. Download or copy it again")


def _tensors(state: Any, path: Path) -> dict[str, Tensor]:
    for name in INSIDE:
        if isinstance(state, Mapping) and isinstance(state.get(name), Mapping):
            state = state[name]
    found = {key: value for key, value in state.items() if isinstance(value, Tensor)} if _is_named(state) else {}
    if not found:
        raise WeightsError(
            f"{path} holds no tensors by name. Expected a state dict, alone or under {', '.join(INSIDE)}"
        )
    if all(key.startswith(WRAPPER) for key in found):
        found = {key.removeprefix(WRAPPER): value for key, value in found.items()}
    if any(key.startswith(BACKBONE) for key in found):
        # beside it are the heads of the training
        return {key.removeprefix(BACKBONE): value for key, value in found.items() if key.startswith(BACKBONE)}
    return found


def _is_named(state: Any) -> bool:
    return isinstance(state, Mapping) and all(isinstance(key, str) for key in state)


def _renamed(state: dict[str, Tensor], name: str, module: nn.Module, path: Path) -> dict[str, Tensor]:
    """Return the tensors under timm's names."""
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
