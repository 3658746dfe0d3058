"""Calibration images: a share of the normal training images that is held back, or a dataset's own validation images."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence

from bench.api import Sample, by_class
from bench.errors import UsageError
from bench.words import counted

SALT = "calibration"
"""Before every id that is hashed: which images are held back does not follow from which are held for testing."""


def hold_back(train: Sequence[Sample], validation: Sequence[Sample], share: float) -> tuple[list[Sample], list[Sample]]:
    """Return what is left to train on, and the normal images that thresholds are set on.

    Of a class whose owners give validation images these are taken, and it is trained on in full; of any other a share
    of its training images, by the hash of their names: the same on every machine and for every seed. Images of one
    object (`Sample.unit`) stay together.

    Args:
        train: normal images, of any classes.
        validation: likewise, of the classes that have some.
        share: of a class's training images, in (0, 1).

    Raises:
        UsageError: a class has a single training image, or object.
    """
    own = by_class(validation)
    held: set[str] = set()
    for cls, samples in by_class(train).items():
        if cls in own:
            continue
        units = sorted({sample.unit or sample.id for sample in samples}, key=_rank)
        if len(units) < 2:
            raise UsageError(
                f"--calibrate {share:g}: class '{cls}' has a single training image, which cannot be held back and "
                "trained on. Expected at least 2"
            )
        chosen = set(units[: min(max(1, round(share * len(units))), len(units) - 1)])
        held |= {sample.id for sample in samples if (sample.unit or sample.id) in chosen}
    order = {cls: place for place, cls in enumerate(by_class(train))}
    found = [sample for sample in train if sample.id in held] + [one for one in validation if one.cls in order]
    return [sample for sample in train if sample.id not in held], sorted(found, key=lambda one: order[one.cls])


def _rank(name: str) -> bytes:
    return hashlib.sha256(f"{SALT}\t{name}".encode()).digest()


def note(calibration: Sequence[Sample], train: Sequence[Sample]) -> str:
    """Return in words how many images were held back, for records and whoever reads their scores."""
    validation = sum(sample.split == "val" for sample in calibration)
    held = len(calibration) - validation
    parts = [f"{held} of {held + len(train)} training images are held back"] if held else []
    if validation:
        parts.append(f"{counted(validation, 'validation image')} {'serve' if validation > 1 else 'serves'}")
    return f"{' and '.join(parts)} for thresholds"
