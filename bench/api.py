"""What plug-ins see: the contracts between the harness, methods and datasets. Loads no torch.

A dataset says which images exist (`Sample`), what they are worth (`label`, masks) and how to read them.
A method says which frozen encoder it looks through, if any, what of the encoder's output it needs (`features`) and what
else (`needs`), what is trained (`build`), how (`loss`, `optimizer`, `learning_rate`) and how a score is read off
(`anomaly`). It is a `Trained` one or has a `Memory`; what it sees of the images comes as a `Batch`.
The contract of methods is in `bench.method`, that of datasets here; plug-ins take both from here.
Loops, caching, precision, checkpoints, metrics and records are the harness's.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar, Literal

from bench.batch import Batch, Batches
from bench.method import (
    NEEDS,
    EncoderInfo,
    EncoderRequest,
    Memory,
    MemoryConfig,
    Method,
    MethodConfig,
    Prediction,
    Released,
    Trained,
    sourced,
)
from bench.protocol import Protocol

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt
    import torch
    from PIL import Image

__all__ = [
    "NEEDS",
    "Batch",
    "Batches",
    "Card",
    "Counts",
    "Dataset",
    "Download",
    "EncoderInfo",
    "EncoderRequest",
    "Finding",
    "Memory",
    "MemoryConfig",
    "Method",
    "MethodConfig",
    "Prediction",
    "Protocol",
    "Released",
    "Sample",
    "Split",
    "Trained",
    "Verification",
    "by_class",
    "room",
    "sourced",
]

Split = Literal["train", "val", "test"]


@dataclass(frozen=True, slots=True)
class Sample:
    """One image of a dataset and what its owners say of it."""

    id: str
    """Unique in the dataset, stable across machines, posix separators: `bottle/test/broken_large/000`."""
    cls: str
    """Class (product, category) the image belongs to."""
    split: Split
    label: int
    """0 normal, 1 anomalous: by the dataset's own statement, never derived from a mask."""
    defect: str
    """Defect type as the dataset names it; `good` for a normal image."""
    image: Path
    """File that holds the image."""
    member: str = ""
    """Which image inside `image`, where one file holds many; empty where the file is the image."""
    masks: tuple[Path, ...] = ()
    """Mask files; their union is the anomalous area. Empty for normal images and image-level datasets."""
    family: str = ""
    """Group of defects that is also scored by itself, against all normal images (MVTec LOCO: `logical`, `structural`);
    empty where the dataset has no such groups, and for normal images."""
    unit: str = ""
    """Physical object that several images show (Real-IAD's five views); empty where an image is an object."""


@dataclass(frozen=True, slots=True)
class Counts:
    """Number of images of a class: `train` (normal), test `good`, test `bad` (anomalous) and `val` (normal, unused).

    A semantic class is neither good nor bad until a setting says so: its test images count as `good`.
    """

    train: int
    good: int
    bad: int
    val: int = 0


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
class Finding:
    """One defect that `bench data verify` reports."""

    cls: str
    kind: str
    """Short stable name.

    The files' layout: `layout`, `name`, `count`, `missing-mask`, `orphan-mask`, `duplicate-id`, and `unread` (images
    that are left out). A file that cannot be used: `unreadable`, `mask-size`, and `mask-alpha` (colours and
    transparency contradict each other). What is read, though perhaps not as it looks: `orientation`, `frames`,
    `transparent`, `low-bits` (16-bit images that use the lower bits alone), `lossy-mask`, `soft-mask`, `empty-mask`,
    `wide-mask` (marks most of its image), `normal-mask` (marks a normal image). The same pixels twice: `duplicate`.
    """
    where: str
    text: str
    stops: bool = True
    """Whether a run is refused until it is mended; others it says, and goes on."""


@dataclass(frozen=True, slots=True)
class Verification:
    """Outcome of verifying a dataset: counts seen by class, and defects."""

    seen: Mapping[str, Counts] = field(default_factory=dict)
    findings: Sequence[Finding] = ()


def by_class(samples: Iterable[Sample]) -> dict[str, list[Sample]]:
    """Group samples by class, keeping order."""
    groups: dict[str, list[Sample]] = {}
    for sample in samples:
        groups.setdefault(sample.cls, []).append(sample)
    return groups


def room(shape: tuple[int, ...], dtype: torch.dtype, device: torch.device) -> torch.Tensor:
    """Return a tensor for what a memory holds, its values arbitrary; see `bench.run.feature_places.room`."""
    from bench.run import feature_places

    return feature_places.room(shape, dtype, device)
