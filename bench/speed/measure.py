"""Measurement of one method on one workload: a real cell on generated images, timed in turns with other ways."""

from __future__ import annotations

import gc
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import cast

import torch
from torch import nn

from bench.machine import peak, timing
from bench.machine.energy import Meter, Source
from bench.machine.rates import matrix_rate, matrix_rate_now, memory_rate, settle
from bench.run.complexity import complexity, training_cost
from bench.run.training import LOSS_EVERY_CUDA
from bench.speed import arithmetic, evaluation, generated
from bench.speed.estimate import EFFICIENCY
from bench.speed.interleaved import Interleaved, Way
from bench.speed.ours import Ours, Variant
from bench.speed.plain import Plain
from bench.speed.prepare import BATCH, Plan, Prepared, prepare, private_cache, replaying, run_cell
from bench.speed.record import MethodSpeed, Phase
from bench.store.facts import Latency
from bench.store.record import Record

REACHED = {"cpu": 0.85, "cuda": EFFICIENCY}
"""Share of the matrix rate that networks reach, by which the time for blocks is filled."""
LAUNCHES = {"cpu": 0.0, "cuda": 0.01}
"""Seconds that a step takes to be asked for, however small it is: hundreds of kernels, one after another."""
PRODUCTS = "products"
"""Matrix products alone, looked at between a phase's blocks: a block's units are operations, however many are done."""
LOOKED = 0.25
"""Share of that time for the features of training images, which are computed only once, and for inference."""
SINGLE = 0.1
"""Share of that time for images one by one."""
SINGLES = 1_000
"""Images one by one at most."""
MAX_IMAGES = 1_024
"""Generated images that are scored, or fitted, at most: maps take 256 MiB then, and features a few GiB."""


def measure(plan: Plan, name: str, files: generated.Files, say: Callable[[str], None]) -> MethodSpeed:
    """Time a method's blocks and extrapolate the whole workload from them.

    Args:
        plan: what is measured.
        name: of the method.
        files: generated images.
        say: told what is going to be done.

    Raises:
        UsageError: unknown method, setting or encoder.
        TrainingError: the cell failed; the message is its own.
    """
    ready = prepare(plan, name, files)
    method, device, workload = ready.method, plan.device, plan.workload
    cost, steps = complexity(method), method.steps(workload.train)
    batch = min(method.config.batch_size, workload.train)
    speed = REACHED[device.type] * matrix_rate(device)
    frozen_flops = 2.0 * ready.frozen_macs
    most = MAX_IMAGES // BATCH
    scored = arithmetic.rounds(LOOKED * plan.seconds, 4.0 * BATCH * cost.macs_with_products / speed, plan.rounds, most)
    sizes, test = {"score": scored[0] * BATCH}, math.prod(scored) * BATCH
    memories: list[nn.Module] = []
    if steps:
        stage = arithmetic.train_stage(training_cost(method), ready.size, batch)
        kept = 1 + sum(one.kept for one in plan.variants)
        recomputed = 1 + plan.again + len(plan.variants) + 1 - kept
        a_round = (kept * stage.flops + recomputed * (stage.flops + frozen_flops * batch)) / speed
        a_round += (kept + recomputed) * LAUNCHES[device.type]
        # a block ends where the losses are read back
        every = LOSS_EVERY_CUDA if device.type == "cuda" else 1
        size, count = arithmetic.rounds(plan.seconds, every * a_round, plan.rounds, steps // every)
        trained = size * every, count
        configured = type(method)(method.config.model_copy(update={"steps": math.prod(trained)}))
        sizes["train"] = trained[0]
        affordable = int(LOOKED * plan.seconds * speed / frozen_flops) if frozen_flops else workload.train
        train = min(workload.train, max(batch, BATCH, affordable // BATCH * BATCH))
        say(f"{name}: {math.prod(trained)} steps of {batch}, {train} training and {test} test images")
    else:
        fitted = arithmetic.rounds(plan.seconds, 2.0 * BATCH * frozen_flops / speed, plan.rounds, most)
        sizes["fit"], train = fitted[0] * BATCH, math.prod(fitted) * BATCH
        configured = replaying(type(method), workload.train, memories)(method.config)
        say(f"{name}: {train} training and {test} test images")
    cell = ready.cell(configured, generated.one_class(train, test))
    remembered = partial(_last, memories)
    plain, ours = Plain(cell, device, BATCH, remembered), Ours(cell, device, BATCH, remembered, say)
    variants = plan.variants if steps else tuple(one for one in plan.variants if not one.compiled)

    def products(operations: int) -> float:
        return operations / matrix_rate_now(device, plan.precision)

    others = {"train": plain.train, "fit": plain.fit, "score": plain.score}
    ways = {phase: {PRODUCTS: products, "plain": way} for phase, way in others.items()}
    if plan.again:
        ways["train"]["again"] = ours.train(Variant(plan.precision, kept=False))
    for one in variants:
        ways["train"][one.name] = ours.train(one)
        if one.kept:
            ways["score"][one.name] = ours.score(one)
    watch, meter = _Memory(device), Meter(device)
    listener = Interleaved(
        *(sizes, cast("Mapping[str, Mapping[str, Way]]", ways), partial(settle, device), watch.read, meter.joules)
    )
    with private_cache(plan.folder / "cache"):
        record = run_cell(plan, cell, "runs", listener)
        singles = ours.latency(SINGLE * plan.seconds, SINGLES)
    parts = {"inference": plain.parts["score"].shares}
    learning = "train" if steps else "fit"
    parts[learning] = plain.parts[learning].shares
    timed = tuple(one for one in variants if one.name not in ours.failed)
    del plain, ours, ways, cell
    gc.collect()
    heard = _Heard(record, listener, watch, (train, test), parts, timed, singles, meter.source)
    return _speed(plan, ready, heard)


@dataclass(frozen=True)
class _Heard:
    """What is known when the cell has ended."""

    record: Record
    listener: Interleaved
    memory: _Memory
    images: tuple[int, int]
    """Training and test images of the cell."""
    parts: dict[str, dict[str, float]]
    """Of the plain way."""
    variants: tuple[Variant, ...]
    latency: Latency
    energy: Source | None


def _speed(plan: Plan, ready: Prepared, heard: _Heard) -> MethodSpeed:
    method, workload, device = ready.method, plan.workload, plan.device
    steps, config = method.steps(workload.train), method.config
    record, listener, images = heard.record, heard.listener, heard.images
    batch = min(config.batch_size, workload.train)
    assert record.efficiency is not None
    seconds = record.efficiency.seconds
    decode = seconds["decode"] / sum(images)
    blocks = listener.blocks
    inference = arithmetic.compared(blocks["score"], "images", 1, variants=heard.variants)
    phases = [_phase("decode", decode, workload.train + workload.test, sum(images))]
    stages, train, fit = [], None, None
    if steps:
        cost = training_cost(method)
        allowed = cost.cached_over_uncached_with_products
        train = arithmetic.compared(blocks["train"], "steps", batch, allowed, heard.variants)
        # of a method that needs no features none are kept
        each = seconds.get("features", 0.0) / images[0]
        if each:
            phases.append(_phase("features", each, workload.train, images[0]))
        phases.append(_phase("train", 1 / train.ours.median, steps, train.ours.units))
        stages.append((arithmetic.train_stage(cost, ready.size, batch), 1 / train.ours.median))
    else:
        fit = arithmetic.compared(blocks["fit"], "images", 1)
        each, looked = 1 / fit.ours.median, fit.ours.units
        phases.append(_phase("features", each, workload.train, looked))
        phases.append(Phase(name="fit", seconds=listener.tails["fit"], units=1, measured=1))
    phases.append(_phase("inference", 1 / inference.ours.median, workload.test, inference.ours.units))
    counted = arithmetic.inference_stage(complexity(method), ready.size, BATCH, record.protocol.rules["eval_size"])
    if each:
        stages.insert(0, (arithmetic.features_stage(ready.frozen_macs, ready.size, BATCH), each))
    stages.append((counted, 1 / inference.ours.median))
    with_maps = record.mean.get("pixel/auroc") is not None
    some = generated.dealt(workload.counts, evaluation.MAX_RECORDED_IMAGES)
    measured = ready.cell(method, some)
    phases += evaluation.phases(measured, measured.task, workload.test, device, with_maps)
    beside = {phase: arithmetic.rate(ways[PRODUCTS]).median for phase, ways in blocks.items()}
    learnt = beside["train" if steps else "fit"]
    floors = tuple(
        stage.floor(beside["score"] if stage.name == "inference" else learnt, memory_rate(device), taken)
        for stage, taken in stages
    )
    return MethodSpeed(
        encoder=record.encoder_id[0],
        random_weights=ready.random_weights,
        input_size=record.input_size,
        batch_size=batch,
        steps=steps,
        settings=ready.changed,
        train=train,
        fit=fit,
        inference=inference,
        plain_parts=heard.parts,
        inference_with_decode=1 / (1 / inference.ours.median + decode),
        peak_memory_mib=heard.memory.host,
        peak_device_memory_mib=heard.memory.device,
        store_mib=ready.size.features * workload.train / 2**20 if steps else 0.0,
        created=record.created,
        commit=record.environment.commit,
        phases=tuple(phases),
        floors=floors,
        compiled=bool(record.training and record.training.compiled),
        latency=heard.latency,
        energy=heard.energy,
    )


class _Memory:
    """Peaks of what our way alone takes, read before any other way has begun."""

    def __init__(self, device: torch.device) -> None:
        self.host, self.device = 0.0, None if device.type == "cpu" else 0.0
        self._where, self._open = device, True
        peak.reset()

    def read(self) -> None:
        """Read both peaks, once."""
        if self._open:
            self._open = False
            self.host, self.device = peak.peak_mib(), timing.peak_device_memory_mib(self._where)


def _last(fitted: Sequence[nn.Module]) -> nn.Module | None:
    return fitted[-1] if fitted else None


def _phase(name: str, each: float, units: int, measured: int) -> Phase:
    return Phase(name=name, seconds=each * units, units=units, measured=min(measured, units))
