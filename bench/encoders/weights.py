"""Encoder weights: where they are searched, and how they are read (safetensors only, strictly, as float32).

Order of search: the folder given by `--weights` or BENCH_WEIGHTS, the file embedded in this package, an installed
package of weights, the local Hugging Face cache, the hub (HF_ENDPOINT and HF_HUB_OFFLINE are honoured).
"""

from __future__ import annotations

import os
import threading
from pathlib import Path
from typing import Any

import timm
import torch
from huggingface_hub import constants, get_hf_file_metadata, hf_hub_download, hf_hub_url, try_to_load_from_cache
from safetensors import SafetensorError, safe_open
from torch import nn

from bench import regular
from bench.encoders import catalog, header, packaged
from bench.encoders.checkpoints import listed
from bench.errors import WeightsError
from bench.home import expanded

ENVIRONMENT = "BENCH_WEIGHTS"
FILENAME = "model.safetensors"
PATIENCE_S = 6.0
"""How long the hub may take to answer at all, name resolution included: with start-up, under 10 s in sum."""


def locate(name: str, folder: Path | None = None) -> Path:
    """Return the safetensors file of an encoder, downloading it if no local one exists.

    Args:
        name: encoder by catalogue name.
        folder: folder of safetensors files; None for the one in the environment variable BENCH_WEIGHTS, if set.

    Raises:
        UsageError: unknown name.
        WeightsError: no file anywhere, and the hub does not have it or does not answer within 6 seconds.
    """
    return at_hand(name, folder) or _from_hub(name, _folder(folder))


def at_hand(name: str, folder: Path | None = None) -> Path | None:
    """Return the local file that `locate` would take; None where it would have to ask the hub.

    Raises:
        UsageError: unknown name.
        WeightsError: the folder does not exist, or holds several files that could be meant.
    """
    catalog.check(name)
    folder = _folder(folder)
    found = _in_folder(name, folder) if folder is not None else None
    return found or catalog.embedded_file(name) or packaged.file(name) or _cached(name)


def hub_trouble(name: str) -> str | None:
    """Ask the hub for an encoder without downloading it: why it would not come, None if it would. Takes up to 6 s."""
    repo = _repo(name)
    return _hub_trouble(repo) if repo else "timm names no hub repository for it"


def official_address(name: str) -> str:
    """Return where the authors of an encoder publish their PyTorch checkpoint; empty where timm does not know."""
    settings = timm.get_pretrained_cfg(name, allow_unregistered=False)
    return settings.url if settings is not None and isinstance(settings.url, str) else ""


def look(path: Path, name: str) -> None:
    """Make sure that a file holds an encoder's tensors, by its header alone.

    Raises:
        UsageError: unknown name.
        WeightsError: the file is something else, was cut off, or does not fit the encoder's network.
    """
    with torch.device("meta"):
        module = catalog.create(name)
    fit(header.read(path), module, path)


def read(path: Path, module: nn.Module) -> dict[str, torch.Tensor]:
    """Return the tensors that a network holds, floating ones as float32; no others are read.

    Args:
        path: safetensors file.
        module: the network in its native layout, also on the meta device.

    Raises:
        WeightsError: the file is something else, was cut off, or does not fit the network.
    """
    state = fit(header.read(path), module, path)
    try:
        regular.check(path)
        with safe_open(path, "pt") as file:
            # what is not on the meta device is no tensor of the file
            found = {key: file.get_tensor(key) if value.is_meta else value for key, value in state.items()}
    except (SafetensorError, OSError) as error:
        raise WeightsError(f"cannot read weights {path}: {error}. Expected a safetensors file") from error
    return {key: value.float() if value.is_floating_point() else value for key, value in found.items()}


def fit(state: dict[str, torch.Tensor], module: nn.Module, path: Path) -> dict[str, torch.Tensor]:
    """Return `state` without classifier tensors, after making sure that the rest is exactly what `module` holds.

    Args:
        state: tensors of a weights file, also on the meta device.
        module: the network in its native layout, also on the meta device.
        path: the file, for the message.

    Raises:
        WeightsError: a tensor is missing, left over or of another shape; the message lists them.
    """
    wanted = {key: tuple(value.shape) for key, value in module.state_dict().items()}
    heads = _classifier_prefixes(module)
    kept = {key: value for key, value in state.items() if key in wanted or not key.startswith(heads)}
    # older files were saved before BatchNorm counted its batches; the count plays no part in evaluation
    counters = {key for key in wanted if key.endswith("num_batches_tracked") and key not in kept}
    kept.update({key: torch.tensor(0) for key in counters})
    faults = listed("missing", sorted(wanted.keys() - kept.keys()))
    faults += listed("not part of this network", sorted(kept.keys() - wanted.keys()))
    faults += listed(
        "of another shape",
        [
            f"{key} {list(kept[key].shape)} (expected {list(shape)})"
            for key, shape in wanted.items()
            if key in kept and tuple(kept[key].shape) != shape
        ],
    )
    if faults:
        raise WeightsError(
            f"weights {path} do not fit {type(module).__name__}: {'; '.join(faults)}. "
            f"Expected the file of exactly this model in timm's layout, as on https://huggingface.co/timm"
        )
    return kept


def _classifier_prefixes(module: nn.Module) -> tuple[str, ...]:
    settings: Any = getattr(module, "pretrained_cfg", None) or {}
    named = settings.get("classifier") or "head"
    return tuple(f"{name}." for name in ((named,) if isinstance(named, str) else named))


def _in_folder(name: str, folder: Path) -> Path | None:
    """Return the file in `folder` that holds `name`'s weights; None if there is none.

    A file without a tag serves every tag of its architecture, and a name without a tag takes the one tagged file there
    is. A file of another tag never serves: other training, other numbers.
    """
    if not folder.is_dir():
        raise WeightsError(f"no weights folder {folder} (from --weights or {ENVIRONMENT})")
    architecture = name.partition(".")[0]
    stems = (name, architecture) if catalog.embedded_file(name) is None else (name,)
    for stem in stems:
        for path in (folder / f"{stem}.safetensors", folder / stem / FILENAME):
            if path.is_file():
                return path
    begun = sorted(path for path in folder.glob("*.safetensors") if path.name.startswith((f"{name}.", f"{name}-")))
    if len(begun) > 1:
        raise WeightsError(
            f"{len(begun)} files in {folder} could be the weights of '{name}': {', '.join(p.name for p in begun)}. "
            f"Name the encoder with its tag, or keep one"
        )
    return begun[0] if begun else None


def _folder(given: Path | None) -> Path | None:
    return expanded(os.environ[ENVIRONMENT]) if given is None and os.environ.get(ENVIRONMENT) else given


def _repo(name: str) -> str | None:
    settings = timm.get_pretrained_cfg(name, allow_unregistered=False)
    return settings.hf_hub_id or None if settings is not None else None


def _cached(name: str) -> Path | None:
    repo = _repo(name)
    found = try_to_load_from_cache(repo, FILENAME) if repo else None
    return Path(found) if isinstance(found, str) else None


def _from_hub(name: str, folder: Path | None) -> Path:
    repo = _repo(name)
    if not repo:
        raise WeightsError(_not_found(name, folder, "timm names no hub repository for it", ""))
    trouble = _hub_trouble(repo)
    if trouble is None:
        try:
            return Path(hf_hub_download(repo, FILENAME, etag_timeout=PATIENCE_S))
        except Exception as error:
            trouble = f"the download broke off: {error}"
    raise WeightsError(_not_found(name, folder, trouble, hf_hub_url(repo, FILENAME)))


def _hub_trouble(repo: str) -> str | None:
    """Return why the hub cannot deliver, None if it can.

    Asked in a thread of its own, because a resolver that does not answer cannot be given a timeout.
    """
    if constants.HF_HUB_OFFLINE:
        return "HF_HUB_OFFLINE is set"
    outcome: list[str | None] = []

    def ask() -> None:
        try:
            get_hf_file_metadata(hf_hub_url(repo, FILENAME), timeout=PATIENCE_S * 0.8)
            outcome.append(None)
        except Exception as error:
            outcome.append(f"{type(error).__name__}: {str(error).strip().splitlines()[0] if str(error) else ''}")

    thread = threading.Thread(target=ask, daemon=True)
    thread.start()
    thread.join(PATIENCE_S)
    return outcome[0] if outcome else f"no answer within {PATIENCE_S:.0f} s"


def _not_found(name: str, folder: Path | None, trouble: str, url: str) -> str:
    looked = (
        f"folder {folder} has neither {name}.safetensors nor {name}/{FILENAME}"
        if folder is not None
        else f"no folder was given (--weights DIR or {ENVIRONMENT})"
    )
    advice = (
        f" Download {url} on a machine with network, save it as DIR/{name}.safetensors "
        f"and run again with --weights DIR."
        if url
        else f" Put the file at DIR/{name}.safetensors and run again with --weights DIR."
    )
    source = f" ({address})" if (address := official_address(name)) else ""
    advice += f" Its authors' checkpoint{source} serves too: bench weights convert FILE --encoder {name} --out DIR."
    endpoint = f"; the hub at {constants.ENDPOINT} gave nothing: {trouble}" if url else f"; {trouble}"
    return f"no weights for encoder '{name}': {looked}{endpoint}.{advice}"
