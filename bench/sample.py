"""Samples: the images of a dataset, what its owners say of each, and what is wrong with one."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import KW_ONLY, dataclass
from pathlib import Path
from typing import Literal

Split = Literal["train", "val", "test", "unlabelled"]
"""`unlabelled`: images whose labels only the owners know (MVTec AD 2's private test sets). They are scored for their
server (`bench submit`), and neither trained on nor counted."""


@dataclass(frozen=True, slots=True)
class Sample:
    """One image of a dataset and what its owners say of it."""

    id: str
    """Unique in the dataset, stable across machines, posix separators: `bottle/test/broken_large/000`."""
    cls: str
    """Class (product, category) the image belongs to."""
    split: Split
    label: int | None
    """0 normal, 1 anomalous: by the dataset's own statement, never derived from a mask. None of an unlabelled image."""
    defect: str
    """Defect type as the dataset names it; `good` for a normal image, empty for an unlabelled one."""
    image: Path
    """File that holds the image."""
    _: KW_ONLY
    member: str = ""
    """Which image inside `image`, where one file holds many; empty where the file is the image."""
    masks: tuple[Path, ...] = ()
    """Mask files; their union is the anomalous area. Empty for normal images and image-level datasets."""
    scaled_masks: bool = False
    """Whether the masks have a size of their own and stand for the whole image."""
    family: str = ""
    """Group of defects that is also scored by itself, against all normal images (MVTec LOCO: `logical`, `structural`);
    empty where the dataset has no such groups, and for normal images."""
    unit: str = ""
    """Physical object that several images show (Real-IAD's five views); empty where an image is an object."""


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


def labels_of(samples: Iterable[Sample]) -> list[int]:
    """Return the labels of samples, all of which have one. Raises ValueError for an unlabelled sample."""
    found = []
    for sample in samples:
        if sample.label is None:
            raise ValueError(f"{sample.id} is unlabelled, and nothing is measured on it")
        found.append(sample.label)
    return found


def by_class(samples: Iterable[Sample]) -> dict[str, list[Sample]]:
    """Group samples by class, keeping order."""
    groups: dict[str, list[Sample]] = {}
    for sample in samples:
        groups.setdefault(sample.cls, []).append(sample)
    return groups
