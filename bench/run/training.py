"""The one training loop: every method is trained by it, whatever its batches hold, and may be interrupted anywhere.

A checkpoint holds the trainable part, the optimizer, the random generators, the step and the losses; since batch order
and what a batch draws are functions of (seed, step), a resumed run goes on to bit-identical weights on the CPU.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from bench.api import Batch, Method, Sample
from bench.errors import StoreError, TrainingError
from bench.machine.compiling import try_compiled
from bench.machine.precision import autocast
from bench.machine.progress import Progress
from bench.machine.stopping import after_step
from bench.run.batches import TrainingBatches
from bench.run.seeding import BatchOrder
from bench.store import checkpoint

LOSS_EVERY_CUDA = 25
"""Losses are read back from a GPU in blocks of this many steps, so that the loop does not wait for each."""
CURVE_POINTS = 200


@dataclass
class TrainingLog:
    """What the loop reports; `losses[i]` is the loss of iteration i."""

    batch_size: int
    losses: list[float] = field(default_factory=list)
    resumed_at: list[int] = field(default_factory=list)
    seconds_before: float = 0.0
    """Wall seconds of the attempts before this one."""
    compiled: bool = False
    """Whether the trainable part ran through torch.compile."""

    def curve(self) -> tuple[tuple[int, float], ...]:
        """Return (iteration, mean loss since the previous point) at about 200 evenly spaced iterations."""
        stride = max(1, math.ceil(len(self.losses) / CURVE_POINTS))
        blocks = [self.losses[start : start + stride] for start in range(0, len(self.losses), stride)]
        ends = range(stride, len(self.losses) + stride, stride)
        return tuple((min(end, len(self.losses)), sum(b) / len(b)) for end, b in zip(ends, blocks, strict=True))


def scaled(optimizer: torch.optim.Optimizer) -> torch.optim.Optimizer:
    """Have groups with a learning rate of their own, as PyTorch states them, keep its ratio to the optimizer's own."""
    common = optimizer.defaults.get("lr")
    for group in optimizer.param_groups:
        group.setdefault("lr_scale", group["lr"] / common if common else 1.0)
    return optimizer


@dataclass(frozen=True)
class Step:
    """Takes a training step: learning rates, batch, loss, gradient, clip, update.

    Args:
        method: gives loss, schedule and clip; settled, see `Method.settled`.
        module: the trainable part, in training mode.
        optimizer: over it, see `scaled`.
        batch: gives each step's batch.
        device: where the trainable part lies.
        precision: see `Trainer`.
    """

    method: Method
    module: nn.Module
    optimizer: torch.optim.Optimizer
    batch: Callable[[int], Batch]
    device: torch.device
    precision: str

    def __call__(self, step: int) -> Tensor:
        """Return the loss of iteration `step`, after its update; the mean of several."""
        rate = self.method.learning_rate(step)
        for group in self.optimizer.param_groups:
            group["lr"] = rate * group.get("lr_scale", 1.0)
        taken = []
        for loss in self.losses(self.batch(step), step):
            self.optimizer.zero_grad(set_to_none=True)
            loss.backward()  # type: ignore[no-untyped-call]
            if self.method.clip_norm is not None:
                nn.utils.clip_grad_norm_(self.module.parameters(), self.method.clip_norm)
            self.optimizer.step()
            taken.append(loss.detach())
        return taken[0] if len(taken) == 1 else torch.stack(taken).mean()

    def losses(self, batch: Batch, step: int) -> Iterator[Tensor]:
        """Yield the loss of each update that a batch is worth, with its graph; the next is asked for after it."""
        found = self.method.losses(self.module, batch, step)
        while True:
            with autocast(self.device, self.precision):
                loss = next(found, None)
            if loss is None:
                return
            yield loss

    def loss(self, batch: Batch, step: int) -> Tensor:
        """Return the loss of a batch, with its graph."""
        with autocast(self.device, self.precision):
            return self.method.loss(self.module, batch, step)


@dataclass(frozen=True)
class Trainer:
    """Trains one cell.

    Args:
        method: gives loss, optimizer, schedule and clip.
        seed: of the cell; decides the batch order.
        device: where the trainable part lies.
        precision: `fp32`; `tf32` (CUDA matrix products); `bf16` (autocast).
        checkpoint: file of the interrupted training; removed by the caller when the cell is recorded.
        checkpoint_seconds: wall time between checkpoints.
        batch_size: images a step, where the configured number does not fit the device.
        compile: put the trainable part through torch.compile, see `bench.machine.compiling`.
    """

    method: Method
    seed: int
    device: torch.device
    precision: str
    checkpoint: Path
    checkpoint_seconds: float
    progress: Progress
    batch_size: int | None = None
    compile: bool = False

    def train(
        self,
        module: nn.Module,
        batches: TrainingBatches,
        samples: Sequence[Sample],
        enter: Callable[[nn.Module], None] = lambda module: None,
    ) -> TrainingLog:
        """Train `module` in place for `Method.steps` iterations, from the checkpoint where there is one.

        Args:
            module: as `fit` left it.
            batches: gives each step's batch.
            samples: the training images.
            enter: has `Method.enter` look at them where a phase begins.

        Raises:
            TrainingError: a loss is not finite; the message has step, learning rate and sample ids.
        """
        method = self.method.settled(len(samples))
        steps, optimizer = method.steps(len(samples)), scaled(method.optimizer(module))
        log = TrainingLog(min(self.batch_size or method.config.batch_size, len(samples)))
        started = self._resume(module, optimizer, log)
        order = BatchOrder(len(samples), log.batch_size, self.seed)

        def batch(step: int) -> Batch:
            found = batches.at(order.at(step), step)
            if step + 1 < steps:
                batches.expect(order.at(step + 1))
            return found

        def ids(step: int) -> list[str]:
            return [samples[index].id for index in order.at(step).tolist()]

        take = Step(method, module, optimizer, batch, self.device, self.precision)
        begun = last_save = time.monotonic()
        pending: list[Tensor] = []
        read_every = LOSS_EVERY_CUDA if self.device.type == "cuda" else 1
        module.train()
        phases = method.phases()
        if self.compile and started < steps:
            # a batch of its own: what the trial draws is drawn again by the step itself
            first = batch(started)
            log.compiled = try_compiled(module, lambda: take.loss(first, started), self.progress.say)
        with self.progress.phase("train", steps, done=started) as advance, after_step() as stop_asked:
            for step in range(started, steps):
                if step in phases:
                    # before the step, not after the one before it: a training resumed here looks again, and alike
                    enter(module.eval())
                    module.train()
                pending.append(take(step))
                if len(pending) < read_every and step + 1 < steps and not stop_asked():
                    continue
                self._read(method, pending, log, ids)
                advance(len(pending), f"loss {log.losses[-1]:.4f}")
                pending.clear()
                now = time.monotonic()
                stopping = stop_asked()
                if stopping or (now - last_save >= self.checkpoint_seconds and step + 1 < steps):
                    self._save(module, optimizer, log, log.seconds_before + now - begun)
                    last_save = now
                if stopping:
                    self.progress.say(f"stopped after step {step + 1} of {steps}, saved in {self.checkpoint.name}")
                    break
        module.eval()
        return log

    def _read(self, method: Method, pending: list[Tensor], log: TrainingLog, ids: Callable[[int], list[str]]) -> None:
        for value in torch.stack(pending).tolist():
            step = len(log.losses)
            if not math.isfinite(value):
                remedies = (
                    *([f"{remedy} (its authors' advice)"] if (remedy := method.remedy()) else []),
                    "a smaller learning rate",
                    *(["--precision fp32"] if self.precision != "fp32" else []),
                )
                raise TrainingError(
                    f"loss is {value} at step {step} (learning rate {method.learning_rate(step):.3g}; "
                    f"images {', '.join(ids(step))}). Try {', or '.join(remedies)}"
                )
            log.losses.append(value)

    def _save(self, module: nn.Module, optimizer: torch.optim.Optimizer, log: TrainingLog, seconds: float) -> None:
        state = {
            "module": module.state_dict(),
            "optimizer": optimizer.state_dict(),
            "batch_size": log.batch_size,
            "losses": torch.tensor(log.losses, dtype=torch.float64),
            "resumed_at": log.resumed_at,
            "seconds": seconds,
            "generator": torch.get_rng_state(),
            "device_generator": torch.cuda.get_rng_state(self.device) if self.device.type == "cuda" else None,
        }
        checkpoint.write(self.checkpoint, state)

    def _resume(self, module: nn.Module, optimizer: torch.optim.Optimizer, log: TrainingLog) -> int:
        state = self._read_checkpoint()
        # one of a larger batch is of a training that did not fit the device
        if state is None or state["batch_size"] > log.batch_size:
            return 0
        log.batch_size = state["batch_size"]
        try:
            module.load_state_dict(state["module"])
            optimizer.load_state_dict(state["optimizer"])
        except (RuntimeError, ValueError) as error:
            reason = str(error).partition("\n")[0]
            raise TrainingError(
                f"checkpoint {self.checkpoint.name} is of another version of the method ({reason}) and was removed. "
                "Run the same command again"
            ) from error
        log.losses = state["losses"].tolist()
        log.resumed_at = [*state["resumed_at"], len(log.losses)]
        log.seconds_before = state["seconds"]
        torch.set_rng_state(state["generator"])
        if state["device_generator"] is not None:
            torch.cuda.set_rng_state(state["device_generator"], self.device)
        self.progress.say(f"resumed at step {len(log.losses)} from {self.checkpoint.name}")
        return len(log.losses)

    def _read_checkpoint(self) -> Mapping[str, Any] | None:
        try:
            return checkpoint.read(self.checkpoint)
        except StoreError as error:
            self.progress.say(f"{error}. The training starts again")
            return None
