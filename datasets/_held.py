"""Normal images held for testing, where nobody says which are trained on: a stated share, the same on every machine."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import replace

from bench.api import Sample

SHARE = 0.3
"""Of the normal images of a class; at least one, and never all."""
SEED = 0
ALONE = "no anomalous image: images are scored, but no metric is defined"


def hold(samples: Sequence[Sample]) -> list[Sample]:
    """Return normal images without a split, some of them in `train` and a share of them in `test`.

    They are ranked by the SHA-256 of seed and id, so that the choice depends neither on the order of a listing nor on
    the other classes.
    """
    count = min(max(1, round(SHARE * len(samples))), len(samples) - 1)
    ranked = sorted(samples, key=lambda sample: hashlib.sha256(f"{SEED}\t{sample.id}".encode()).digest())
    held = {sample.id for sample in ranked[:count]}
    return [replace(sample, split="test" if sample.id in held else "train") for sample in samples]


def told(samples: Sequence[Sample]) -> str:
    """Return in words what `hold` made of a class's normal images, for records and whoever verifies."""
    held = sum(sample.split == "test" for sample in samples)
    return (
        f"which normal images are trained on is not stated: {held} of {len(samples)} ({SHARE:.0%}, by the hash of "
        f"their names, seed {SEED}) are held for testing"
    )
