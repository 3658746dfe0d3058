"""bench's own way, varied: in another arithmetic, compiled, or without kept features, in turns with the cell's own."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import cached_property, partial
from itertools import product

import torch
from torch import nn

from bench.api import Batch, Sample
from bench.encoders import frozen
from bench.errors import UsageError
from bench.loading.pixel_cache import PixelCache
from bench.machine import compiling, timing
from bench.machine.precision import set_precision
from bench.machine.progress import Silent
from bench.machine.rates import settle
from bench.plan import needs
from bench.plan.cells import Cell
from bench.plan.texture_source import Textures
from bench.run import feature_store, scoring
from bench.run.batches import TrainingBatches
from bench.run.extractor import Extractor
from bench.run.feature_store import FeatureStore
from bench.run.seeding import BatchOrder
from bench.run.textures import Draw
from bench.run.training import LOSS_EVERY_CUDA
from bench.speed.interleaved import Way
from bench.speed.plain import Parts, Stepper
from bench.store.facts import Latency

PRECISIONS = ("fp32", "tf32", "bf16")
COMPILE, AGAIN = "compile", "again"


@dataclass(frozen=True, slots=True)
class Variant:
    """How our way goes."""

    precision: str
    compiled: bool = False
    kept: bool = True
    """Whether features are kept; else they are computed again in every step (`--store none`)."""

    @property
    def name(self) -> str:
        """Return it as options have it: `bf16+compile+again`."""
        parts = (self.precision, *([COMPILE] if self.compiled else []), *([] if self.kept else [AGAIN]))
        return "+".join(parts)


EVERY = tuple(Variant(*one) for one in product(PRECISIONS, (False, True), (True, False)))


def variants(given: Sequence[str]) -> tuple[Variant, ...]:
    """Return variants by name; `all` for every one. Raises UsageError for what is none."""
    known = {one.name: one for one in EVERY}
    if list(given) == ["all"]:
        return EVERY
    for name in given:
        if name not in known:
            raise UsageError(f"no variant '{name}'. Expected all, or some of {', '.join(known)}")
    return tuple(known[name] for name in given)


class Ours:
    """Variants of our way through one cell; networks are built when first used, the encoder and kept features once.

    Args:
        cell: what is run.
        device: where.
        batch: images at once where nothing is trained.
        fitted: gives the module of a method with a memory, which is not filled a second time.
        say: told of a compilation that failed.

    Attributes:
        failed: variants that were to be compiled and could not be; their blocks are those of the eager one.
    """

    def __init__(
        self,
        cell: Cell,
        device: torch.device,
        batch: int,
        fitted: Callable[[], nn.Module | None],
        say: Callable[[str], None],
    ) -> None:
        self._cell, self._device, self._batch, self._fitted, self._say = cell, device, batch, fitted, say
        self._steppers: dict[Variant, Stepper] = {}
        self._modules: dict[bool, nn.Module] = {}
        self._tried: set[Variant] = set()
        self._scored = 0
        self.failed: set[str] = set()

    def train(self, variant: Variant) -> Way:
        """Return the way that takes training steps."""
        return partial(self._train, variant)

    def score(self, variant: Variant) -> Way:
        """Return the way that scores test images, from decoded pixels to maps on the host."""
        return partial(self._score, variant)

    def latency(self, seconds: float, most: int) -> Latency:
        """Return how long single test images take, one after another, in the cell's arithmetic.

        Args:
            seconds: to be spent, warm-up included.
            most: images at most; of few the first is not left out, or there would be none.
        """
        predict = scoring.predictor(self._cell, self._extract, self._module(compiled=False), 1)
        singles = (self._next(1) for _ in range(most))
        return Latency.of(timing.one_by_one(lambda one: predict(one, True, lambda units, note: None), singles, seconds))

    @cached_property
    def _extract(self) -> Extractor:
        cell, side = self._cell, self._cell.input_size
        pixels = PixelCache(cell.task.dataset, cell.task.hashes, cell.protocol.resize_for(side), side)
        encoder = frozen.build(cell.encoder, cell.weights, side).to(self._device)
        return Extractor(cell.method, encoder, pixels, self._device, textures=Draw(Textures(), side, self._device))

    @cached_property
    def _kept(self) -> FeatureStore:
        return feature_store.build(self._extract, self._cell.task.train, Silent())

    @cached_property
    def _recomputed(self) -> FeatureStore:
        return feature_store.build(self._extract, self._cell.task.train, Silent(), place="none")

    def _train(self, variant: Variant, units: int) -> float:
        if variant not in self._steppers:
            self._steppers[variant] = self._stepper(variant)
            if variant.compiled and not self._steppers[variant].compiled(self._say):
                self.failed.add(variant.name)
        return self._steppers[variant](units)

    def _stepper(self, variant: Variant) -> Stepper:
        cell = self._cell
        store = None
        if "features" in cell.method.needs:
            store = self._kept if variant.kept else self._recomputed
        elif "images" in cell.method.needs:
            feature_store.keep_pixels(self._extract, cell.task.train)
        order = BatchOrder(len(cell.task.train), cell.method.config.batch_size, cell.seed)
        batches = TrainingBatches(self._extract, store, cell.task.train, cell.seed)

        def batch(step: int) -> Batch:
            found = batches.at(order.at(step), step)
            batches.expect(order.at(step + 1))
            return found

        every = LOSS_EVERY_CUDA if self._device.type == "cuda" else 1
        encoder = self._extract.encoder
        return Stepper(cell, encoder, batch, variant.precision, Parts(), self._device, read_every=every)

    def _score(self, variant: Variant, units: int) -> float:
        cell, samples = replace(self._cell, precision=variant.precision), self._next(units)
        set_precision(variant.precision)
        if variant not in self._tried:
            self._tried.add(variant)
            self._try(variant, cell, samples)
        predict = scoring.predictor(cell, self._extract, self._module(variant.compiled), self._batch)
        settle(self._device)
        start = time.perf_counter()
        predict(samples, True, lambda units, note: None)
        spent = time.perf_counter() - start
        set_precision(self._cell.precision)
        return spent

    def _try(self, variant: Variant, cell: Cell, samples: Sequence[Sample]) -> None:
        """Score once before anything is timed; what cannot be compiled is scored without it from then on."""
        predict = scoring.predictor(cell, self._extract, self._module(variant.compiled), self._batch)
        try:
            predict(samples, True, lambda units, note: None)
        except Exception as error:  # what compilers raise is theirs to choose
            if not variant.compiled:
                raise
            self._say(f"torch.compile failed in {variant.name} ({type(error).__name__}: {error})")
            self.failed.add(variant.name)
            self._modules[True] = self._module(compiled=False)

    def _module(self, compiled: bool) -> nn.Module:
        """Return the module that scores, built anew where nothing is remembered: speed does not depend on weights."""
        if compiled not in self._modules:
            encoder = self._extract.encoder
            module = self._fitted() or needs.build(self._cell.method, encoder).to(self._device)
            module = module.to(memory_format=encoder.memory_format).eval()
            if compiled:
                compiling.compile_parts(module)
            self._modules[compiled] = module
        return self._modules[compiled]

    def _next(self, count: int) -> list[Sample]:
        """Return the next test images; after the last comes the first again."""
        test, first = self._cell.task.test, self._scored
        self._scored += count
        return [test[index % len(test)] for index in range(first, first + count)]


FEWEST, WARM = 5, 10
"""Single images that are timed whatever they take, and those that warm up where there are twice as many."""
