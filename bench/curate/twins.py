"""Exact twins: images of the same pixels that lie in two splits, or that are called two things."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from dataclasses import dataclass

from PIL import Image

from bench.api import Sample


@dataclass(frozen=True, slots=True)
class Twin:
    """An image, another one that shows the same pixels, and why they should not."""

    sample: Sample
    other: Sample
    """Came before it."""
    why: str
    """`in both train and test`, `called both normal and anomalous`."""


def digest(image: Image.Image) -> str:
    """Return the SHA-256 over an image's size and decoded pixels, 64 hex digits: equal in whatever format it lies."""
    found = hashlib.sha256(f"{image.size}".encode())
    found.update(image.tobytes())
    return found.hexdigest()


def twins(looked: Iterable[tuple[Sample, str]], *, semantic: bool) -> list[Twin]:
    """Return every image that contradicts one before it, with the first such; repeats within a split are no matter.

    Of images that are the same in all that counts the first stands for all, or a thousand black ones take a million
    comparisons.

    Args:
        looked: images with their digests; those with an empty one, which could not be read, are passed over.
        semantic: whether a class is what is told apart, so that two classes are two names for one picture.
    """
    first: dict[str, dict[tuple[str, int | None, str], Sample]] = {}
    found = []
    for sample, of_pixels in looked:
        if not of_pixels:
            continue
        same = first.setdefault(of_pixels, {})
        for other in same.values():
            if why := _contradiction(sample, other, semantic):
                found.append(Twin(sample, other, why))
                break
        same.setdefault((sample.split, sample.label, sample.cls), sample)
    return found


def _contradiction(sample: Sample, other: Sample, semantic: bool) -> str:
    if other.split != sample.split:
        return f"in both {other.split} and {sample.split}"
    if other.label != sample.label:
        return "called both normal and anomalous"
    if semantic and other.cls != sample.cls:
        return f"called both {other.cls} and {sample.cls}"
    return ""
