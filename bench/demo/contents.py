"""Contents of the generated dataset: its classes, its kinds of defects, and the SHA-256 of every file.

No NumPy is loaded here, since `bench ls` and `bench show` read it.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

VERSION = 5
"""Raised whenever a pixel changes, so that nobody goes on with the old pictures in the cache folder; then
`python -m bench.demo.write` states the new sums."""

SEED = 0
"""First part of every picture's seed."""

TRAIN, GOOD = 40, 12

KINDS: Mapping[str, tuple[str, ...]] = {
    "fabric": ("colour", "misplaced", "missing", "spot", "thread"),
    "wood": ("colour", "missing", "scratch", "spot"),
    "terrazzo": ("colour", "crack", "missing", "spot"),
    "flange": ("misplaced", "missing", "scratch", "spot"),
    "board": ("misplaced", "missing", "scratch", "spot", "swapped"),
    "biscuit": ("colour", "crack", "missing", "spot"),
}
"""Class -> kinds of defects."""

SUMS = Path(__file__).with_name("files.sha256")
"""SHA-256 of every file, as the command sha256sum writes and checks them."""


@dataclass(frozen=True, slots=True)
class Picture:
    """One picture of the set, by what it shows."""

    cls: str
    split: str
    defect: str
    """`good` for none."""
    index: int

    @property
    def image(self) -> str:
        """Return where the image lies below the set's folder."""
        return f"{self.cls}/{self.split}/{self.defect}/{self.index:03d}.png"

    @property
    def mask(self) -> str:
        """Return where its mask lies; empty where nothing is wrong with it."""
        return "" if self.defect == "good" else f"{self.cls}/ground_truth/{self.defect}/{self.index:03d}_mask.png"


def each(cls: str) -> int:
    """Return how many test pictures show each kind of defect of a class."""
    return 3 if len(KINDS[cls]) > 4 else 4


def pictures(cls: str, train: int, good: int, bad: int) -> Iterator[Picture]:
    """Yield a class's pictures: to train on, good ones to test on, and `bad` of each kind of defect."""
    yield from (Picture(cls, "train", "good", index) for index in range(train))
    yield from (Picture(cls, "test", "good", index) for index in range(good))
    yield from (Picture(cls, "test", defect, index) for defect in KINDS[cls] for index in range(bad))


def whole() -> dict[str, tuple[int, int, int]]:
    """Return the numbers of the whole set: class -> (train, good, bad), as `pictures` takes them."""
    return {cls: (TRAIN, GOOD, each(cls)) for cls in KINDS}


def known_sums() -> dict[str, str]:
    """Return the SHA-256 of every file of the whole set, in the order of drawing, by its place below the folder."""
    lines = (line.split("  ") for line in SUMS.read_text(encoding="utf-8").splitlines())
    return {file: digest for digest, file in lines}
