"""The contract of datasets: a card, the samples below a folder, and how their images and masks are read."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar, Literal

from bench.sample import Finding, Sample

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt
    from PIL import Image


@dataclass(frozen=True, slots=True)
class Counts:
    """Number of images of a class: `train` (normal), test `good`, test `bad` (anomalous), `val` (normal), `unlabelled`.

    A semantic class is neither good nor bad until a setting says so: its test images count as `good`.
    """

    train: int
    good: int
    bad: int
    val: int = 0
    unlabelled: int = 0

    @property
    def total(self) -> int:
        """All of them."""
        return self.train + self.good + self.bad + self.val + self.unlabelled


@dataclass(frozen=True, slots=True)
class Download:
    """A file of a dataset at a direct public address of its owners; `bench data get` fetches it."""

    url: str
    sha256: str = ""
    """Of the file, 64 hex digits; empty where it is not known for certain."""
    bytes: int = 0
    """Size of the file; 0 where it is not known for certain."""
    unpack: Literal["tar", "zip", ""] = ""
    """Kind of archive (a tar may be gzipped); empty for a file that is kept as it is."""
    folder: str = ""
    """Where below the data root the file, or what it holds, is put; empty for the root itself."""


@dataclass(frozen=True, slots=True)
class Card:
    """What a dataset is, as its owners publish it."""

    name: str
    title: str
    kind: Literal["industrial", "semantic", "auxiliary"]
    """`auxiliary`: pictures that methods paint defects with (`Batch.textures`), not trained or tested on by itself."""
    classes: tuple[str, ...]
    """Class names in the papers' order; empty where they are only known from the files."""
    counts: Mapping[str, Counts]
    """Expected counts by class; empty where unknown."""
    masks: Literal["pixel", "none", "optional"]
    licence: str
    citation: str
    source: str
    """Where to get it, in words a person can follow."""
    notes: tuple[str, ...] = ()
    splits: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    """Semantic sets: split name (A to D) -> the classes that are normal in it; the others are anomalous."""
    totals: Counts | None = None
    """Expected counts over all classes, where the owners state only these."""
    downloads: tuple[Download, ...] = ()
    """What can be fetched without a form or an account; empty where `source` is the only way."""


@dataclass(frozen=True, slots=True)
class SingleDefect:
    """One of an image's defects, where each is annotated by itself (MVTec LOCO, AutoVI)."""

    mask: npt.NDArray[np.bool_]
    """bool [H, W] at native size, with at least one pixel."""
    saturation: float
    """Pixels that are enough to find it, from 1 to the mask's number of pixels."""


class Dataset(ABC):
    """A dataset as its owners distribute it, found under `root`. Indexing reads no pixels."""

    card: ClassVar[Card]
    metrics: ClassVar[tuple[str, ...]] = ()
    """Ids of metrics that the owners report beside the field's seven; they are measured with every run."""
    noisy: ClassVar[bool] = False
    """Whether anomalous images are among its training images, as its owners mean it (Real-IAD's FUIAD splits)."""

    remarks: tuple[Finding, ...] = ()
    """What `samples` noticed that stops nothing but may surprise, such as images that lie where none is read."""
    notes: tuple[tuple[str, str], ...] = ()
    """Class and sentence: what `samples` decided that a reader of scores has to know, such as which images are held for
    testing where nobody says. Records carry it."""

    def __init__(self, root: Path) -> None:
        self.root = root

    @classmethod
    @abstractmethod
    def locate(cls, data_root: Path | None) -> Path:
        """Return the dataset's own folder: `data_root` itself or its usual sub-folder.

        Raises:
            DatasetError: nothing that looks like this dataset is there.
        """

    @abstractmethod
    def samples(self) -> tuple[Sample, ...]:
        """Return every sample of every class and split, ordered by class as in the card, then by id.

        Raises:
            DatasetError: a class folder, split file or an anomalous image's mask is missing.
        """

    @property
    def reads_images_itself(self) -> bool:
        """Whether its images are read in another way than from one file each."""
        return type(self).read_image is not Dataset.read_image

    def read_image(self, sample: Sample) -> Image.Image:
        """Return the image in mode RGB at its native size. Raises DatasetError naming the file."""
        from bench.loading.images import read_rgb

        return read_rgb(sample.image)

    def read_defects(self, sample: Sample) -> tuple[SingleDefect, ...] | None:
        """Return an anomalous sample's defects one by one; None where the dataset does not have them so.

        Raises:
            DatasetError: a mask or what says how much of it is enough cannot be read.
        """
        return None

    def read_mask(self, sample: Sample) -> npt.NDArray[np.bool_]:
        """Return bool [H, W] at native size: the union of the sample's masks, any non-zero value.

        Raises:
            DatasetError: a mask is unreadable, or of another size than the image.
        """
        from bench.loading.masks import read_union

        return read_union(sample)


@dataclass(frozen=True, slots=True)
class Verification:
    """Outcome of verifying a dataset: counts seen by class, and defects."""

    seen: Mapping[str, Counts] = field(default_factory=dict)
    findings: Sequence[Finding] = ()
