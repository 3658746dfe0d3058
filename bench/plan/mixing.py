"""Noisy training: anomalous test images mixed into the training images, which nobody who trains is told of.

Of a class with n normal training images a rate r takes round(r n / (1 - r)) anomalous ones, so that they are r of what
is trained on. Without overlap they are tested no longer; with it they are (Jiang et al., SoftPatch, NeurIPS 2022, has
both ways).
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Iterator, Sequence
from dataclasses import replace

from bench.api import Sample, by_class
from bench.errors import UsageError
from bench.words import counted

SALT = "noise"
"""Before every id that is hashed: which images are mixed in does not follow from what else a seed chooses."""


def mix(
    train: Sequence[Sample], test: Sequence[Sample], rate: float, seed: int, *, overlap: bool
) -> tuple[list[Sample], list[Sample]]:
    """Return the training images with anomalous ones among them, and what is tested.

    Images are ranked by the SHA-256 of seed and id: the same choice on every machine, and a lower rate's are among a
    higher one's. Images of one object (`Sample.unit`) are chosen one by one.

    Args:
        train: normal images, of any classes.
        test: of the same classes.
        rate: share of a class's training images that are to be anomalous, in (0, 1).
        seed: chooses them.
        overlap: whether they stay among the test images.

    Raises:
        UsageError: a class has too few anomalous test images; the arithmetic is told, and the highest rate.
    """
    chosen: list[Sample] = []
    bad = by_class([sample for sample in test if sample.label])
    for cls, normal in by_class(train).items():
        pool = bad.get(cls, [])
        wanted = round(rate * len(normal) / (1 - rate))
        most = len(pool) if overlap else len(pool) - 1
        if wanted > most:
            raise UsageError(_too_many(cls, rate, len(normal), wanted, len(pool), most, overlap))
        ranked = sorted(pool, key=lambda one: hashlib.sha256(f"{SALT}\t{seed}\t{one.id}".encode()).digest())
        chosen += ranked[:wanted]
    taken = {sample.id for sample in chosen}
    mixed = by_class([*train, *(replace(sample, split="train", masks=()) for sample in chosen)])
    return (
        [sample for own in mixed.values() for sample in own],
        [sample for sample in test if overlap or sample.id not in taken],
    )


def notes(train: Sequence[Sample]) -> Iterator[str]:
    """Yield in words how many training images of each class are anomalous, where some are."""
    for cls, samples in by_class(train).items():
        if count := sum(sample.label == 1 for sample in samples):
            yield f"{cls}: {count} of {len(samples)} training images are anomalous"


def _too_many(cls: str, rate: float, normal: int, wanted: int, there: int, most: int, overlap: bool) -> str:
    left = "" if overlap else ", of which one at least has to be left to test on"
    # rounded down to what the arithmetic above lets through
    highest = math.floor(1000 * (most + 0.49) / (normal + most + 0.49)) / 1000 if most > 0 else 0.0
    instead = f"Expected a rate of at most {highest:g}" if highest > 0 else "Expected more anomalous images"
    more = "" if overlap else ", or --overlap"
    return (
        f"--rate {rate:g}: class '{cls}' with {counted(normal, 'normal training image')} needs {rate:g} x {normal} / "
        f"(1 - {rate:g}) = {wanted} anomalous ones, and has {there} to test on{left}. {instead}{more}"
    )
