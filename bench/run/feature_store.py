"""Feature store: what training needs of the frozen encoder, computed once.

The encoder is frozen, so what is not augmented has the same features at every step. The store keeps exactly what
`Method.features` returns of the clean training images: on the training device, in host memory or in a memory-mapped
file, whichever fits the stated budget. Where none fits, or with `--store none`, they are computed again at every step,
as features of images that a method made itself always are (`Batch.encode`). Where they lie never changes their values.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Protocol

import torch
from torch import Tensor

from bench.api import Sample
from bench.machine import feature_places
from bench.machine.prefetch import Beforehand
from bench.machine.progress import Progress
from bench.run.extractor import Extractor


class FeatureStore(Protocol):
    """Features of the training images by index."""

    place: str

    def get(self, indices: Tensor) -> Mapping[str, Tensor]:
        """Return the features of int64 [B] training images on the training device, batch first."""

    def expect(self, indices: Tensor) -> None:
        """Start to bring what `get` will be asked for next, where that can be done beside the training."""

    def leave_device(self) -> bool:
        """Give memory of the device back that the training can do without; False where there is none."""


class StoredFeatures:
    """Features computed once and kept in tensors: on the device, in host memory, or mapped from a file.

    They are kept as computed, in full precision: in half of it, a cell's scores would depend on how much memory its
    machine has.

    Args:
        tensors: features of all training images by name, batch first.
        place: where they lie.
        device: where the training is.
        ahead: bring what is expected in a thread, while the training is busy; None for where that pays, which is on
            CUDA, for features that do not lie there: on the CPU both would take the same cores.
    """

    def __init__(self, tensors: dict[str, Tensor], place: str, device: torch.device, ahead: bool | None = None) -> None:
        self._device = device
        self._put(tensors, place, ahead)

    def _put(self, tensors: dict[str, Tensor], place: str, ahead: bool | None = None) -> None:
        self.place = place
        self._tensors = tensors
        cuda = self._device.type == "cuda"
        if ahead is None:
            ahead = cuda and place != "device"
        self._stream: torch.cuda.Stream | None = None
        if ahead and cuda:
            self._stream = torch.cuda.Stream(self._device)  # type: ignore[no-untyped-call]
        self._ahead = Beforehand(self._bring) if ahead else None

    def get(self, indices: Tensor) -> Mapping[str, Tensor]:
        """Gather rows and bring them to the training device."""
        if self._ahead is None:
            rows = indices.to(next(iter(self._tensors.values())).device, non_blocking=True)
            return {
                name: _as(kept, _in_memory(kept).index_select(0, rows)).to(self._device)
                for name, kept in self._tensors.items()
            }
        found, copied = self._ahead.take(tuple(indices.tolist()))
        if copied is not None:
            now = torch.cuda.current_stream(self._device)
            now.wait_event(copied)
            for feature in found.values():
                # made on another stream: its memory must not go to a next copy before this stream has used it
                feature.record_stream(now)
        return found

    def expect(self, indices: Tensor) -> None:
        """Gather rows in a thread and copy them on a stream of their own."""
        if self._ahead is not None:
            self._ahead.expect(tuple(indices.tolist()))

    def _bring(self, indices: tuple[int, ...]) -> tuple[dict[str, Tensor], torch.cuda.Event | None]:
        """Return rows on the device, and the event after which they are there.

        Only the rows are pinned, in buffers that torch takes again once their copy has ended: pinning all that is kept
        would take memory for good from everyone else, and a mapped file cannot be pinned at all.
        """
        rows, found = torch.tensor(indices), {}
        with torch.cuda.stream(self._stream):
            for name, kept in self._tensors.items():
                lying = _in_memory(kept)
                buffer = torch.empty(len(rows), *lying.shape[1:], dtype=kept.dtype, pin_memory=self._stream is not None)
                torch.index_select(lying, 0, rows, out=buffer)
                found[name] = _as(kept, buffer.to(self._device, non_blocking=True))
            return found, self._stream.record_event() if self._stream is not None else None

    def leave_device(self) -> bool:
        """Move what lies on the device to host memory; False where nothing does, or where it has no room."""
        need = sum(kept.numel() * kept.element_size() for kept in self._tensors.values())
        room = feature_places.SHARE["memory"] * feature_places.free("memory", self._device)
        if self.place != "device" or need > room:
            return False
        self._put({name: kept.cpu() for name, kept in self._tensors.items()}, "memory")
        return True


class RecomputedFeatures:
    """Nothing kept, as asked for or for want of room: every batch goes through the encoder again."""

    place = "none"

    def __init__(self, extract: Extractor, samples: Sequence[Sample]) -> None:
        self._extract = extract
        self._samples = samples

    def get(self, indices: Tensor) -> Mapping[str, Tensor]:
        """Compute the features of the batch."""
        wanted = [self._samples[index] for index in indices.tolist()]
        parts = [part for _, part in self._extract.reductions.batches("features", wanted, len(wanted), self._extract)]
        return parts[0] if len(parts) == 1 else {name: torch.cat([part[name] for part in parts]) for name in parts[0]}

    def expect(self, indices: Tensor) -> None:
        """Do nothing: the encoder and the training take turns on the device."""

    def leave_device(self) -> bool:
        """Return False: nothing is kept."""
        return False


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
    place: feature_places.Place = "auto",
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
    ((_, probe),) = extract.reductions.batches("features", samples[:1], 1, extract)
    need = len(samples) * sum(feature.numel() * feature.element_size() for feature in probe.values())
    chosen = feature_places.choose(place, need, budget_gib, extract.device)
    if chosen == "none":
        keep_pixels(extract, samples)
        return RecomputedFeatures(extract, samples)
    kept: dict[str, Tensor] = {}
    for name, feature in probe.items():
        shape = (len(samples), *_in_memory(feature).shape[1:])
        if chosen == "file":
            room = feature_places.mapped(shape, feature.dtype)
        else:
            where = extract.device if chosen == "device" else torch.device("cpu")
            room = torch.empty(shape, dtype=feature.dtype, device=where)
        kept[name] = _as(feature, room)
    with progress.phase("features", len(samples)) as advance:
        start = 0
        for chunk, features in extract.reductions.batches("features", samples, batch_size, extract):
            for name, feature in features.items():
                kept[name][start : start + len(chunk)].copy_(feature)
            start += len(chunk)
            advance(len(chunk), "")
    return StoredFeatures(kept, chosen, extract.device)


def keep_pixels(extract: Extractor, samples: Sequence[Sample]) -> None:
    """Keep the pixels of images that are looked at in every epoch on a GPU, where they fit.

    No other images are looked at more than once, and on the CPU the disk's cache holds them already.
    """
    if extract.device.type == "cuda":
        extract.pixels.keep(samples, feature_places.SHARE["pixels"] * feature_places.free("device", extract.device))


def _in_memory(feature: Tensor) -> Tensor:
    """Return a view with the dimensions in the order in which they lie in memory: a CNN's maps come channels last.

    Rows are gathered in that order. In another, a map would lie otherwise than when it was computed, and the kernels
    for other layouts round otherwise: a training's losses would depend on whether features were kept.
    """
    return feature.permute(0, 2, 3, 1) if _channels_last(feature) else feature


def _as(feature: Tensor, lying: Tensor) -> Tensor:
    """Return a view of what lies in memory as `feature` does, with the dimensions in the order that methods expect."""
    return lying.permute(0, 3, 1, 2) if _channels_last(feature) else lying


def _channels_last(feature: Tensor) -> bool:
    return (
        feature.dim() == 4 and not feature.is_contiguous() and feature.is_contiguous(memory_format=torch.channels_last)
    )
