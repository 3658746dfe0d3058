"""Speed arithmetic: from timed blocks to rates, ratios, floors and the seconds of a whole workload."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import median
from typing import Literal

from bench.run.complexity import Complexity, TrainingCost
from bench.speed.interleaved import OURS, TimedBlock
from bench.speed.ours import Variant
from bench.speed.record import Floor, Rate, WorkCompared
from bench.speed.record import VariantSpeed as VariantRate

WARM_UP = 2
"""First blocks that are left out: they fill caches and pools, and compile. After one of each way, memory is still cut
up otherwise than it stays: ours, going first, would pay in its second block for what the others took in their first."""
BYTES = 4
"""Of a float32."""
PASSES = 10
"""Times that a trained parameter is moved in a step: read forward, read backward, gradient written and read, and by the
optimizer parameter and two moments read and written, at least."""


def rate(blocks: Sequence[TimedBlock]) -> Rate:
    """Return units a second over blocks, those that warm up left out where there are others."""
    kept = _warm(blocks)
    return _rate([block.units / block.seconds for block in kept], sum(block.units for block in kept))


def over(ours: Sequence[TimedBlock], other: Sequence[TimedBlock]) -> Rate:
    """Return how many times the other's rate ours is, pair by pair of neighbouring blocks."""
    pairs = list(zip(_warm(ours), _warm(other), strict=True))
    ratios = [(one.units / one.seconds) / (two.units / two.seconds) for one, two in pairs]
    return _rate(ratios, sum(one.units for one, _ in pairs))


def compared(
    blocks: Mapping[str, Sequence[TimedBlock]],
    unit: Literal["steps", "images"],
    images: int,
    allowed: float | None = None,
    variants: Sequence[Variant] = (),
) -> WorkCompared:
    """Return one phase's blocks as rates and ratios.

    Args:
        blocks: way -> blocks, as many of each: `ours`, `plain` and perhaps `again`.
        unit: what a unit is.
        images: images in a unit.
        allowed: what the operations allow ours over again to be.
        variants: of ours; those without blocks are left out.
    """
    ours, plain, again = blocks[OURS], blocks["plain"], blocks.get("again")
    return WorkCompared(
        unit=unit,
        images=images,
        ours=rate(ours),
        plain=rate(plain),
        again=rate(again) if again else None,
        over_plain=over(ours, plain),
        over_again=over(ours, again) if again else None,
        allowed=allowed,
        variants=tuple(
            VariantRate(
                precision=one.precision,
                compiled=one.compiled,
                kept=one.kept,
                rate=rate(blocks[one.name]),
                over_plain=over(blocks[one.name], plain),
            )
            for one in variants
            if one.name in blocks
        ),
        joules=_joules(ours),
    )


@dataclass(frozen=True, slots=True)
class Size:
    """What a method reads and keeps, in bytes."""

    encoder: int
    """Its parameters."""
    trained: int
    """The trained parameters."""
    features: int
    """Of one image."""
    pixels: int
    """Of one image, uint8."""


@dataclass(frozen=True, slots=True)
class Stage:
    """Operations and bytes of one unit of a stage."""

    name: str
    unit: str
    flops: float
    bytes: float

    def floor(self, matrix_rate: float, memory_rate: float, measured: float) -> Floor:
        """Return the stage with the seconds that it takes at least, and those that it took."""
        return Floor(
            stage=self.name,
            unit=self.unit,
            flops=self.flops,
            bytes=self.bytes,
            matrix_flops=matrix_rate,
            predicted=max(self.flops / matrix_rate, self.bytes / memory_rate),
            measured=measured,
        )


def features_stage(frozen_macs: int, size: Size, batch: int) -> Stage:
    """Return the encoder on one image: its weights are read once a batch."""
    return Stage("features", "image", 2.0 * frozen_macs, size.encoder / batch + size.pixels + size.features)


def train_stage(cost: TrainingCost, size: Size, batch: int) -> Stage:
    """Return one step on kept features."""
    macs = cost.trained_with_products + cost.backward_with_products
    return Stage("train", "step", 2.0 * macs * batch, PASSES * size.trained + batch * size.features)


def inference_stage(cost: Complexity, size: Size, batch: int, map_side: int) -> Stage:
    """Return one image from pixels to map and score."""
    moved = (size.encoder + size.trained) / batch + size.pixels + BYTES * map_side**2
    return Stage("inference", "image", 2.0 * cost.macs_with_products, moved)


def rounds(seconds: float, a_round: float, wanted: int, most: int) -> tuple[int, int]:
    """Return units a block and how many rounds of blocks to run within a time, warm-up included.

    A slow device gets blocks of a single unit, and whatever they take two rounds beside those that warm up, to have a
    spread.

    Args:
        seconds: to be spent.
        a_round: expected seconds of a round with one unit each way.
        wanted: timed rounds; more where they do not fill the time, fewer where it is too short for as many.
        most: units in all blocks together, unless the fewest rounds have more.
    """
    size = max(1, min(int(seconds / a_round), most) // (wanted + WARM_UP))
    fitting = min(int(seconds / (a_round * size)), most // size) - WARM_UP
    return size, WARM_UP + max(2, fitting)


def _joules(blocks: Sequence[TimedBlock]) -> float | None:
    kept = _warm(blocks)
    taken = [block.joules for block in kept if block.joules is not None]
    # NVML renews its count ten times a second: nothing counted is nothing known of blocks that short
    return sum(taken) / sum(block.units for block in kept) if len(taken) == len(kept) and any(taken) else None


def _warm(blocks: Sequence[TimedBlock]) -> Sequence[TimedBlock]:
    return blocks[min(WARM_UP, len(blocks) - 1) :]


def _rate(values: Sequence[float], units: int) -> Rate:
    return Rate(median=median(values), low=min(values), high=max(values), blocks=len(values), units=units)
