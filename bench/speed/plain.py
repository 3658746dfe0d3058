"""The plain way, as the methods' official scripts go: everything again in every step, and waiting for every loss.

A step reads its images from their files, decodes, resizes and normalises them, sends them through the frozen encoder,
takes one eager step in full precision and reads the loss. On CUDA four processes decode ahead, as in the official
scripts; on a CPU, whose cores are taken by the networks, none does. Networks, losses and optimizers are bench's own, so
what is compared is the way through them.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader
from torch.utils.data import Dataset as TorchDataset

from bench.api import Batch, Sample
from bench.encoders import frozen
from bench.encoders.frozen import FrozenEncoder
from bench.machine.compiling import try_compiled
from bench.machine.precision import set_precision
from bench.machine.rates import settle
from bench.machine.timing import Stopwatch
from bench.plan import needs
from bench.plan.cells import Cell
from bench.plan.texture_source import Textures
from bench.run.extractor import Looking
from bench.run.seeding import step_generator
from bench.run.textures import Draw
from bench.run.training import Step, scaled

WORKERS = {"cpu": 0, "cuda": 4}
PREFETCHED = 2
"""Batches that each process decodes ahead: torch's default."""

Steps = Callable[[int], Batch]
"""From a step to its batch."""


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
        batch: gives each step's batch.
        precision: of the trainable part.
        parts: gets the seconds.
        device: of the training.
        warm: untimed steps before each block, to use up what was prepared while the block was waiting.
        read_every: steps between two looks at the losses.
    """

    def __init__(
        self,
        cell: Cell,
        encoder: FrozenEncoder,
        batch: Steps,
        precision: str,
        parts: Parts,
        device: torch.device,
        warm: int = 0,
        read_every: int = 1,
    ) -> None:
        self._parts, self._read_every = parts, read_every
        self._precision, self._after = precision, cell.precision
        self._warm, self._step = warm, 0
        built = needs.build(cell.method, encoder).to(device)
        module, method = (
            built.to(memory_format=encoder.memory_format).train(),
            cell.method.settled(len(cell.task.train)),
        )
        self._take = Step(method, module, scaled(method.optimizer(module)), batch, device, precision)

    def __call__(self, units: int) -> float:
        """Take so many steps and return their wall seconds."""
        set_precision(self._precision)
        self._steps(self._warm)
        with self._parts.block("train") as spent:
            self._steps(units)
        set_precision(self._after)
        return spent()

    def compiled(self, say: Callable[[str], None]) -> bool:
        """Put the trainable part through torch.compile; False where that fails, of which `say` is told."""
        set_precision(self._precision)
        first = self._take.batch(0)
        done = try_compiled(self._take.module, lambda: self._take.loss(first, 0), say)
        set_precision(self._after)
        return done

    def _steps(self, units: int) -> None:
        pending: list[Tensor] = []
        for number in range(1, units + 1):
            pending.append(self._take(self._step))
            self._step += 1
            if number % self._read_every == 0 or number == units:
                torch.stack(pending).tolist()
                pending.clear()


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
        self._seen: Counter[str] = Counter()
        self.parts = {name: Parts() for name in ("train", "fit", "score")}

    @property
    def _warm(self) -> int:
        return WORKERS[self._device.type] * PREFETCHED

    @property
    def encoder(self) -> FrozenEncoder:
        """Return the encoder, eager and in full precision."""
        if self._encoder is None:
            cell = self._cell
            self._encoder = frozen.build(cell.encoder, cell.weights, cell.input_size).to(self._device)
        return self._encoder

    def train(self, units: int) -> float:
        """Take so many steps and return their wall seconds."""
        if self._stepper is None:
            size = min(self._cell.method.config.batch_size, len(self._cell.task.train))
            self._stepper = Stepper(
                self._cell,
                self.encoder,
                lambda step: self._batched("train", self._cell.task.train, size, step),
                "fp32",
                self.parts["train"],
                self._device,
                self._warm,
            )
        return self._stepper(units)

    def fit(self, units: int) -> float:
        """Send so many training images through the encoder and return the wall seconds."""
        return self._passed(units, "fit", self._cell.task.train, lambda batch: None)

    def score(self, units: int) -> float:
        """Score so many test images and return the wall seconds."""
        if self._module is None:
            module = self._fitted()
            built = module or needs.build(self._cell.method, self.encoder).to(self._device)
            self._module = built.to(memory_format=self.encoder.memory_format).eval()
        module, size = self._module, self._cell.protocol.eval_size

        def predict(batch: Batch) -> None:
            prediction = self._cell.method.anomaly(module, batch, self.encoder.info, size)
            prediction.scores.cpu()
            if prediction.maps is not None:
                prediction.maps.cpu()

        return self._passed(units, "score", self._cell.task.test, predict)

    def _passed(self, units: int, name: str, samples: Sequence[Sample], use: Callable[[Batch], None]) -> float:
        batches = -(-units // self._batch)
        set_precision("fp32")
        with torch.no_grad():
            for _ in range(self._warm):
                use(self._batched(name, samples, self._batch))
            settle(self._device)
            with self.parts[name].block("rest") as spent:
                for _ in range(batches):
                    use(self._batched(name, samples, self._batch))
                settle(self._device)
        set_precision(self._cell.precision)
        return spent() * units / (batches * self._batch)

    @torch.no_grad()
    def _batched(self, name: str, samples: Sequence[Sample], count: int, step: int | None = None) -> Batch:
        """Return the next images as a batch, of a training step where one is given; after the last the first again."""
        parts = self.parts[name]
        looking = Looking(self._cell.method, self.encoder, Draw(Textures(), self._cell.input_size, self._device))
        with parts.part("decode"):
            images = self._images(name, samples, count)
        with parts.part("features"):
            images = images.to(self._device)
            features = looking.of_normalised(images) if self._normalises else None
            classes = [samples[index % len(samples)].cls for index in range(self._seen[name], self._seen[name] + count)]
            self._seen[name] += count
            random = None if step is None else partial(step_generator, self._cell.seed, step, self._device)
            batch = looking.batch(None if self._normalises else images, classes, features, random)
            settle(self._device)
        return batch

    @property
    def _normalises(self) -> bool:
        """Return whether images are normalised as they are decoded: what a method sees itself is not."""
        return "images" not in self._cell.method.needs

    def _images(self, name: str, samples: Sequence[Sample], batch: int) -> Tensor:
        """Return the next decoded batch, float32 [B, 3, S, S]."""
        if name not in self._loaders:
            info = self.encoder.info
            mean, std = (info.mean, info.std) if self._normalises else ((0.0,) * 3, (1.0,) * 3)
            resize = self._cell.protocol.resize_for(info.input_size)
            read = Decoded(samples, self._cell, resize, info.input_size, mean, std)
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
        """Return a length that no loader reaches."""
        return 2**31

    def __getitem__(self, index: int) -> Tensor:
        """Return float32 [3, S, S]."""
        from bench.loading.images import to_pixels

        sample = self._samples[index % len(self._samples)]
        pixels = to_pixels(self._dataset.read_image(sample), self._resize, self._crop)
        return torch.from_numpy(pixels).permute(2, 0, 1).float().div_(255).sub_(self._mean).div_(self._std)
