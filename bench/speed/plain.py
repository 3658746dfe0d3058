"""The plain way, as the methods' official scripts go: everything again in every step, and waiting for every loss.

A step reads its images from their files, decodes, resizes and normalises them, sends them through the frozen encoder,
takes one eager step in full precision and reads the loss. On CUDA four processes decode ahead, as in the official
scripts; on a CPU, whose cores are taken by the networks, none does. Networks, losses and optimizers are bench's own, so
what is compared is the way through them.

`Again` is what lies between: bench's own way with `--store none`, which keeps pixels but not features.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader
from torch.utils.data import Dataset as TorchDataset

from bench.api import Sample
from bench.encoders import frozen
from bench.encoders.frozen import FrozenEncoder
from bench.loading.pixel_cache import PixelCache
from bench.run import feature_store
from bench.run.extractor import Extractor
from bench.run.plan import Cell
from bench.run.progress import Silent
from bench.run.rates import settle
from bench.run.seeding import BatchOrder
from bench.run.timing import Stopwatch
from bench.run.training import Step, set_precision

WORKERS = {"cpu": 0, "cuda": 4}
PREFETCHED = 2
"""Batches that each process decodes ahead: torch's default."""

Features = Callable[[int], Mapping[str, Tensor]]
"""From a step to the features of its images."""


class Parts:
    """What the seconds of some blocks went into."""

    def __init__(self) -> None:
        self.seconds: dict[str, float] = {}
        self._watch = Stopwatch()

    def part(self, name: str) -> AbstractContextManager[None]:
        """Time a part of a block."""
        return self._watch.phase(name)

    @contextmanager
    def block(self, rest: str) -> Iterator[Callable[[], float]]:
        """Time a block; what is in none of its parts is called `rest`. Gives the seconds when it has ended."""
        before, start = dict(self._watch.seconds), time.perf_counter()
        spent = 0.0
        yield lambda: spent
        spent = time.perf_counter() - start
        known = {name: seconds - before.get(name, 0.0) for name, seconds in self._watch.seconds.items()}
        for name, seconds in {**known, rest: spent - sum(known.values())}.items():
            self.seconds[name] = self.seconds.get(name, 0.0) + seconds

    @property
    def shares(self) -> dict[str, float]:
        """Return the share of each part; they add up to 1."""
        total = sum(self.seconds.values())
        return {name: seconds / total for name, seconds in self.seconds.items()}


class Stepper:
    """Takes training steps one after another, reading each loss.

    Args:
        cell: gives method and precision.
        encoder: gives the shape that the trainable part is built for.
        features: gives each step's features.
        precision: of the trainable part.
        parts: gets the seconds.
        warm: untimed steps before each block, to use up what was prepared while the block was waiting.
    """

    def __init__(
        self, cell: Cell, encoder: FrozenEncoder, features: Features, precision: str, parts: Parts, warm: int = 0
    ) -> None:
        self._parts = parts
        self._precision, self._after = precision, cell.precision
        self._warm, self._step = warm, 0
        self._device = next(encoder.parameters()).device
        built = cell.method.build(encoder.info).to(self._device)
        module, method = (
            built.to(memory_format=encoder.memory_format).train(),
            cell.method.settled(len(cell.task.train)),
        )
        self._take = Step(method, module, method.optimizer(module), features, self._device, precision)

    def __call__(self, units: int) -> float:
        """Take so many steps and return their wall seconds."""
        set_precision(self._precision)
        for _ in range(self._warm):
            self._one()
        with self._parts.block("train") as spent:
            for _ in range(units):
                self._one()
        set_precision(self._after)
        return spent()

    def _one(self) -> float:
        loss = self._take(self._step)
        self._step += 1
        return loss.item()


class Plain:
    """The plain way through one cell; builds its own networks when first used.

    Args:
        cell: what is run.
        device: where.
        batch: images at once where nothing is trained.
        fitted: gives the module of a method with a memory, which is not filled a second time.
    """

    def __init__(self, cell: Cell, device: torch.device, batch: int, fitted: Callable[[], nn.Module | None]) -> None:
        self._cell, self._device, self._batch, self._fitted = cell, device, batch, fitted
        self._encoder: FrozenEncoder | None = None
        self._stepper: Stepper | None = None
        self._module: nn.Module | None = None
        self._loaders: dict[str, Iterator[Tensor]] = {}
        self.parts = {name: Parts() for name in ("train", "fit", "score")}

    @property
    def _warm(self) -> int:
        return WORKERS[self._device.type] * PREFETCHED

    @property
    def encoder(self) -> FrozenEncoder:
        """Return the encoder, eager and in full precision."""
        if self._encoder is None:
            self._encoder = frozen.build(self._cell.encoder, self._cell.weights).to(self._device)
        return self._encoder

    def train(self, units: int) -> float:
        """Take so many steps and return their wall seconds."""
        if self._stepper is None:
            size = min(self._cell.method.config.batch_size, len(self._cell.task.train))
            self._stepper = Stepper(
                self._cell,
                self.encoder,
                lambda step: self._features("train", self._cell.task.train, size),
                "fp32",
                self.parts["train"],
                self._warm,
            )
        return self._stepper(units)

    def fit(self, units: int) -> float:
        """Send so many training images through the encoder and return the wall seconds."""
        return self._passed(units, "fit", self._cell.task.train, lambda features: None)

    def score(self, units: int) -> float:
        """Score so many test images and return the wall seconds."""
        if self._module is None:
            module = self._fitted()
            built = module or self._cell.method.build(self.encoder.info).to(self._device)
            self._module = built.to(memory_format=self.encoder.memory_format).eval()
        module, size = self._module, self._cell.protocol.eval_size

        def predict(features: Mapping[str, Tensor]) -> None:
            prediction = self._cell.method.anomaly(module, features, self.encoder.info, size)
            prediction.scores.cpu()
            if prediction.maps is not None:
                prediction.maps.cpu()

        return self._passed(units, "score", self._cell.task.test, predict)

    def _passed(
        self, units: int, name: str, samples: Sequence[Sample], use: Callable[[Mapping[str, Tensor]], None]
    ) -> float:
        batches = -(-units // self._batch)
        set_precision("fp32")
        with torch.no_grad():
            for _ in range(self._warm):
                use(self._features(name, samples, self._batch))
            settle(self._device)
            with self.parts[name].block("rest") as spent:
                for _ in range(batches):
                    use(self._features(name, samples, self._batch))
                settle(self._device)
        set_precision(self._cell.precision)
        return spent() * units / (batches * self._batch)

    @torch.no_grad()
    def _features(self, name: str, samples: Sequence[Sample], batch: int) -> dict[str, Tensor]:
        parts = self.parts[name]
        with parts.part("decode"):
            images = self._images(name, samples, batch)
        with parts.part("features"):
            features = self._cell.method.features(self.encoder(images.to(self._device)), self.encoder.info)
            settle(self._device)
        return features

    def _images(self, name: str, samples: Sequence[Sample], batch: int) -> Tensor:
        """Return the next decoded batch, float32 [B, 3, S, S]; the images come round for ever."""
        if name not in self._loaders:
            side = self.encoder.info.input_size
            resize = self._cell.protocol.resize_for(side)
            read = Decoded(samples, self._cell, resize, side, self.encoder.info.mean, self.encoder.info.std)
            loader: DataLoader[Any] = DataLoader(read, batch_size=batch, num_workers=WORKERS[self._device.type])
            self._loaders[name] = iter(loader)
        return next(self._loaders[name])


class Decoded(TorchDataset[Tensor]):
    """Samples as normalised images, decoded whenever they are asked for; without end."""

    def __init__(
        self,
        samples: Sequence[Sample],
        cell: Cell,
        resize: int,
        crop: int,
        mean: tuple[float, ...],
        std: tuple[float, ...],
    ) -> None:
        self._samples, self._dataset, self._resize, self._crop = samples, cell.task.dataset, resize, crop
        self._mean, self._std = torch.tensor(mean).view(3, 1, 1), torch.tensor(std).view(3, 1, 1)

    def __len__(self) -> int:
        """Return more than anybody asks for."""
        return 2**31

    def __getitem__(self, index: int) -> Tensor:
        """Return float32 [3, S, S]."""
        from bench.loading.images import to_pixels

        sample = self._samples[index % len(self._samples)]
        pixels = to_pixels(self._dataset.read_image(sample), self._resize, self._crop)
        return torch.from_numpy(pixels).permute(2, 0, 1).float().div_(255).sub_(self._mean).div_(self._std)


class Again:
    """bench's own way without kept features: pixels from the cache, the encoder again in every step."""

    def __init__(self, cell: Cell, device: torch.device) -> None:
        self._cell, self._device = cell, device
        self._stepper: Stepper | None = None

    def train(self, units: int) -> float:
        """Take so many steps and return their wall seconds."""
        if self._stepper is None:
            cell, side = self._cell, self._cell.encoder.input_size
            pixels = PixelCache(cell.task.dataset, cell.task.hashes, cell.protocol.resize_for(side), side)
            encoder = frozen.build(cell.encoder, cell.weights).to(self._device)
            extract = Extractor(cell.method, encoder, pixels, self._device)
            store = feature_store.build(extract, cell.task.train, Silent(), place="none")
            order = BatchOrder(len(cell.task.train), cell.method.config.batch_size, cell.seed)
            self._stepper = Stepper(cell, encoder, lambda step: store.get(order.at(step)), cell.precision, Parts())
        return self._stepper(units)
