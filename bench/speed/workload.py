"""Workloads: how many images of which size, and what is assumed where not all of it is run."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from bench.api import Card, Counts
from bench.config import Overrides, load_suite
from bench.errors import UsageError
from bench.registry import DATASETS, did_you_mean


@dataclass(frozen=True)
class Workload:
    """A dataset's size without its images, and the settings that methods have on it."""

    name: str
    dataset: str
    """Name of the dataset that counts and published settings are taken from."""
    counts: Mapping[str, Counts]
    side: int
    """Of the generated images as they are decoded, in pixels."""
    assumptions: tuple[str, ...]
    settings: Overrides = field(default_factory=dict)
    """Values of each method that are not the published ones."""
    encoder: str | None = None
    suffix: str = ".png"
    """Kind of the generated files."""

    @property
    def train(self) -> int:
        """Return the number of training images."""
        return sum(one.train for one in self.counts.values())

    @property
    def test(self) -> int:
        """Return the number of test images."""
        return sum(one.good + one.bad for one in self.counts.values())


MVTEC_SIDE, REALIAD_SIDE = 900, 1024
GENERATED = "images are generated files, decoded, resized and kept as real ones are"


def workload(name: str) -> Workload:
    """Return a workload by name. Raises UsageError for an unknown one."""
    if name == "mvtec":
        side = f"every image is {MVTEC_SIDE} px a side; MVTec AD's have 700 to 1,024"
        return Workload(name, name, counts(DATASETS.load(name).card), MVTEC_SIDE, (GENERATED, side))
    if name == "realiad":
        assumed = (
            GENERATED,
            f"every image is {REALIAD_SIDE} px a side, as in realiad_1024, which the papers read",
            "classes are equally large: its card states totals",
            "a step, an image through the encoder and a test image cost what those measured cost; features that do not "
            "fit the device lie in memory, which is not timed",
        )
        return Workload(name, name, counts(DATASETS.load(name).card), REALIAD_SIDE, assumed, suffix=".jpg")
    if name == "small":
        suite = load_suite(name)
        own = {f"class{place}": Counts(train=16, good=8, bad=8) for place in range(2)}
        return Workload(name, "demo", own, 128, (GENERATED,), suite.set, suite.encoder)
    raise UsageError(f"unknown workload '{name}'.{did_you_mean(name, WORKLOADS)} Known: {', '.join(WORKLOADS)}")


WORKLOADS = ("mvtec", "realiad", "small")


def counts(card: Card) -> Mapping[str, Counts]:
    """Return a dataset's images by class; totals are dealt out evenly where the card has only these.

    Raises:
        UsageError: the card has neither.
    """
    if card.counts:
        return card.counts
    if card.totals is None or not card.classes:
        raise UsageError(f"{card.name} has no fixed number of images. Expected one of the papers' datasets")
    shares = (_dealt(total, len(card.classes)) for total in (card.totals.train, card.totals.good, card.totals.bad))
    return {cls: Counts(*found) for cls, found in zip(card.classes, zip(*shares, strict=True), strict=True)}


def _dealt(total: int, parts: int) -> list[int]:
    share, rest = divmod(total, parts)
    return [share + (place < rest) for place in range(parts)]
