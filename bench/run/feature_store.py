"""What training needs of the frozen encoder, computed once.

The encoder is frozen and nothing is augmented, so each training image's features are the same at every step. The store
keeps exactly what `Method.features` returns: on the training device, in host memory or in a memory-mapped file,
whichever fits the stated budget; where none fits, features are computed again at every step. Where they lie never
changes their values.
"""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from math import prod
from pathlib import Path
from typing import Literal, Protocol

import torch
from torch import Tensor

from bench.api import Method, Sample
from bench.encoders.frozen import FrozenEncoder
from bench.errors import StoreError
from bench.loading import cache_dir
from bench.loading.pixel_cache import PixelCache
from bench.run.progress import Progress

Place = Literal["auto", "device", "memory", "file", "none"]

SHARE = {"device": 0.6, "memory": 0.4, "file": 0.5}
"""Share of what is free (device memory, host memory, disk) that the store takes when no budget is stated."""


class Extractor:
    """From samples to features: pixels, normalisation, frozen encoder, the method's own reduction."""

    def __init__(self, method: Method, encoder: FrozenEncoder, pixels: PixelCache, device: torch.device) -> None:
        self._method = method
        self.encoder = encoder
        self._pixels = pixels
        self.device = device
        self._mean = torch.tensor(encoder.info.mean, device=device).view(1, 3, 1, 1)
        self._std = torch.tensor(encoder.info.std, device=device).view(1, 3, 1, 1)

    @torch.no_grad()
    def __call__(self, samples: Sequence[Sample]) -> dict[str, Tensor]:
        """Return the method's features of the samples, on the device, batch first."""
        raw = torch.from_numpy(self._pixels.batch(samples)).to(self.device)
        images = raw.permute(0, 3, 1, 2).float().div_(255).sub_(self._mean).div_(self._std)
        return self._method.features(self.encoder(images.contiguous()), self.encoder.info)

    def batches(
        self, samples: Sequence[Sample], size: int, advance: Callable[[int, str], None]
    ) -> Iterator[dict[str, Tensor]]:
        """Yield the features of all samples in order, `size` at a time, telling `advance` of the images done."""
        for start in range(0, len(samples), size):
            chunk = samples[start : start + size]
            yield self(chunk)
            advance(len(chunk), "")


class FeatureStore(Protocol):
    """Features of the training images by index."""

    place: str

    def get(self, indices: Tensor) -> Mapping[str, Tensor]:
        """Return the features of int64 [B] training images on the training device, batch first."""


class Kept:
    """Features computed once and kept in tensors: on the device, in host memory, or mapped from a file."""

    def __init__(self, tensors: dict[str, Tensor], place: str, device: torch.device) -> None:
        self.place = place
        self._tensors = tensors
        self._device = device

    def get(self, indices: Tensor) -> Mapping[str, Tensor]:
        """Gather rows and bring them to the training device."""
        return {
            name: kept.index_select(0, indices.to(kept.device)).to(self._device, non_blocking=True)
            for name, kept in self._tensors.items()
        }


class Recomputed:
    """Nothing kept: every batch goes through the encoder again."""

    place = "none"

    def __init__(self, extract: Extractor, samples: Sequence[Sample]) -> None:
        self._extract = extract
        self._samples = samples

    def get(self, indices: Tensor) -> Mapping[str, Tensor]:
        """Compute the features of the batch."""
        return self._extract([self._samples[index] for index in indices.tolist()])


class LastStore:
    """Keeps the features of the last cell, so that further seeds of the same method need not compute them again."""

    def __init__(self) -> None:
        self._key: str | None = None
        self._store: FeatureStore | None = None

    def get(self, key: str, build: Callable[[], FeatureStore]) -> FeatureStore:
        """Return the kept store if `key` is its own, else drop it and build the one asked for."""
        if self._store is None or key != self._key:
            # dropped before building: two stores at once may not fit
            self._store = None
            self._store = build()
            self._key = key
        return self._store


def build(
    extract: Extractor,
    samples: Sequence[Sample],
    progress: Progress,
    *,
    place: Place = "auto",
    budget_gib: float | None = None,
    batch_size: int = 32,
) -> FeatureStore:
    """Compute the features of all training images and keep them where they fit.

    Args:
        extract: from samples to features.
        samples: the training images.
        progress: is told of the images done.
        place: where to keep features; `auto` takes the first of device, memory, file that fits, else none.
        budget_gib: most that the chosen place may take, in GiB; None for a share of what is free there.
        batch_size: images through the encoder at once.

    Raises:
        StoreError: the place asked for by name has no room.
    """
    probe = extract(samples[:1])
    need = len(samples) * sum(feature.numel() * feature.element_size() for feature in probe.values())
    chosen = _choose(place, need, budget_gib, extract.device)
    if chosen == "none":
        return Recomputed(extract, samples)
    kept: dict[str, Tensor] = {}
    for name, feature in probe.items():
        shape = (len(samples), *feature.shape[1:])
        if chosen == "file":
            kept[name] = _mapped(shape, feature.dtype)
        else:
            where = extract.device if chosen == "device" else torch.device("cpu")
            kept[name] = torch.empty(shape, dtype=feature.dtype, device=where)
    with progress.phase("features", len(samples)) as advance:
        for start in range(0, len(samples), batch_size):
            chunk = samples[start : start + batch_size]
            for name, feature in extract(chunk).items():
                kept[name][start : start + len(chunk)].copy_(feature)
            advance(len(chunk), "")
    return Kept(kept, chosen, extract.device)


def _choose(place: Place, need: int, budget_gib: float | None, device: torch.device) -> str:
    candidates = ["memory", "file"] if device.type == "cpu" else ["device", "memory", "file"]
    if place == "device" and device.type == "cpu":
        place = "memory"
    if place == "none":
        return "none"
    for candidate in candidates if place == "auto" else [place]:
        room = budget_gib * 2**30 if budget_gib is not None else SHARE[candidate] * _free(candidate, device)
        if need <= room:
            return candidate
        if place != "auto":
            raise StoreError(
                f"features need {need / 2**30:.1f} GiB, the {place} budget is {room / 2**30:.1f} GiB. "
                "Raise --store-budget, or let --store auto choose"
            )
    return "none"


def _free(candidate: str, device: torch.device) -> int:
    if candidate == "device":
        return torch.cuda.mem_get_info(device)[0]
    if candidate == "file":
        return shutil.disk_usage(_folder()).free
    # the page cache counts as free here: the kernel gives it up, and decoding has just filled it
    for line in Path("/proc/meminfo").read_text(encoding="ascii").splitlines():
        if line.startswith("MemAvailable:"):
            return int(line.split()[1]) * 1024
    return os.sysconf("SC_AVPHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")


def _folder() -> Path:
    folder = cache_dir() / "features"
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise StoreError(f"cannot write {folder}: {error.strerror}. Set BENCH_CACHE to another folder") from error
    return folder


def _mapped(shape: tuple[int, ...], dtype: torch.dtype) -> Tensor:
    """Return a tensor mapped from a file that has no name any more: it is gone with the process, however that ends."""
    handle, name = tempfile.mkstemp(dir=_folder())
    try:
        # claim the room now: a full disk is an error here, but a crash (SIGBUS) on a mapped page
        os.posix_fallocate(handle, 0, prod(shape) * dtype.itemsize)
        return torch.from_file(name, shared=True, size=prod(shape), dtype=dtype).view(shape)
    except OSError as error:
        raise StoreError(f"no room for features in {_folder()}: {error.strerror}. Use --store none") from error
    finally:
        os.close(handle)
        Path(name).unlink()
