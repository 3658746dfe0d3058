"""Tasks: which images are trained on and which are tested. `bench.plan.settings` says how one is made."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path

from bench import own
from bench.api import Dataset, Sample
from bench.combined import Combined, Roots
from bench.errors import DatasetError, UsageError
from bench.loading.hashes import content_hashes
from bench.loading.surprises import tell
from bench.machine.progress import Progress
from bench.registry import DATASETS, did_you_mean


@dataclass(frozen=True)
class IndexedDataset:
    """A dataset as it was found: indexed, checked, in time hashed, before a setting says what is trained and tested."""

    name: str
    dataset: Dataset = field(repr=False)
    classes: tuple[str, ...]
    """Classes asked for, in the dataset's order."""
    classes_known: int
    """Classes that the dataset has by its card; those found where the card names none."""
    samples: tuple[Sample, ...] = field(repr=False)
    """Training and test images: of the classes asked for, and of all classes of a semantic set, where each class is
    tested against the others."""
    hashes: Mapping[Path, str] = field(default_factory=dict, repr=False)
    """SHA-256 of every image and mask file, once they are `hashed`."""
    validation: tuple[Sample, ...] = field(default=(), repr=False)
    """Normal validation images of the classes asked for, where thresholds are to be set on them."""


@dataclass(frozen=True)
class Task:
    """Training and test images of one model, checked, hashed and in a fixed order."""

    name: str
    """The dataset's."""
    dataset: Dataset = field(repr=False)
    setting: str
    classes: tuple[str, ...]
    """What is scored by itself: the dataset's classes, or the part of a semantic set."""
    train: tuple[Sample, ...] = field(repr=False)
    test: tuple[Sample, ...] = field(repr=False)
    hashes: Mapping[Path, str] = field(repr=False)
    classes_known: int
    part: str = ""
    """Which of the setting's several models this is: a class or a half-split; empty where there is only one."""
    parts_known: int = 1
    """How many models the setting makes of the whole dataset."""
    normal: tuple[str, ...] = ()
    """Semantic sets: the classes that are normal."""
    shots: int | None = None
    """Training images a class; None for all that there are."""
    calibration: tuple[Sample, ...] = field(default=(), repr=False)
    """Normal images that thresholds are set on, which are neither trained on nor tested."""
    calibration_share: float | None = None
    """Which share of the training images was asked for; None for no thresholds."""

    @property
    def has_masks(self) -> dict[str, bool]:
        """Class -> whether its anomalous images have masks, that is, whether it has pixel scores."""
        found = dict.fromkeys(self.classes, False)
        for sample in self.test:
            found[sample.cls] |= bool(sample.masks)
        return found

    @property
    def verify(self) -> str:
        """Return the command that looks at every file of the dataset."""
        return verify_command(self.name, self.dataset)

    @cached_property
    def fingerprint(self) -> str:
        """16 hex digits over ids, labels, splits and the bytes of every image and mask."""
        return self._digest((*self.train, *self.test))

    @property
    def calibration_fingerprint(self) -> str:
        """As `fingerprint`, over the images that thresholds are set on; empty where there are none."""
        return self._digest(self.calibration) if self.calibration else ""

    def _digest(self, samples: Iterable[Sample]) -> str:
        digest = hashlib.sha256()
        for sample in samples:
            files = [self.hashes[path] for path in (sample.image, *sample.masks)]
            member = [sample.member] if sample.member else []
            digest.update("\t".join([sample.id, sample.split, str(sample.label), *files, *member]).encode() + b"\n")
        return digest.hexdigest()[:16]


def verify_command(name: str, dataset: Dataset) -> str:
    """Return the command that looks at every file of a dataset."""
    if isinstance(dataset, Combined):
        return ", ".join(f"bench data verify {one} --root {root}" for one, root in dataset.roots.items())
    return f"bench data verify {own.READER if own.is_own(name) else name} --root {dataset.root}"


def index(name: str, root: Path | Roots | None, classes: Sequence[str], *, validation: bool = False) -> IndexedDataset:
    """List a dataset's images, of which none is opened.

    Args:
        name: registered dataset name.
        root: where the user says the data is; None for the dataset's own default place; of a combination the roots of
            its datasets.
        classes: classes asked for; empty for all that the dataset has.
        validation: whether normal validation images come along.

    Raises:
        UsageError: unknown dataset or class.
        DatasetError: data missing or incomplete, or a class without images to train on or to test.
    """
    kind = DATASETS.load(name)
    dataset = kind(kind.locate(root))  # type: ignore[arg-type]  # a combination takes its roots
    card, verify = dataset.card, f"Check with: {verify_command(name, dataset)}"
    found = dataset.samples()
    present = list(dict.fromkeys(sample.cls for sample in found))
    for wanted in classes:
        if wanted not in present and wanted not in card.classes:
            quotes = ""
            if comma := [cls for cls in present if "," in cls]:
                quotes = f". One with a comma stands in quotes: --classes '\"{comma[0]}\"'"
            raise UsageError(
                f"{name} has no class '{wanted}'.{did_you_mean(wanted, present)} Found in {dataset.root}: "
                f"{', '.join(present)}{quotes}"
            )
    semantic = card.kind == "semantic"
    for wanted in card.classes if semantic else classes:
        if wanted not in present:
            raise DatasetError(
                f"{name} at {dataset.root}: class '{wanted}' is not there. Found: {', '.join(present)}. {verify}"
            )
    chosen = tuple(cls for cls in present if not classes or cls in classes)
    used = frozenset(present if semantic else chosen)
    samples = tuple(sample for sample in found if sample.cls in used and sample.split in ("train", "test"))
    there = {(sample.cls, sample.split) for sample in samples}
    for cls in present:
        for split in ("train", "test"):
            if cls in used and (cls, split) not in there:
                raise DatasetError(f"{name} at {dataset.root}: class '{cls}' has no {split} images. {verify}")
    own = tuple(sample for sample in found if sample.cls in chosen and sample.split == "val" and sample.label == 0)
    return IndexedDataset(
        name, dataset, chosen, len(card.classes) or len(present), samples, validation=own if validation else ()
    )


def hashed(source: IndexedDataset, progress: Progress) -> IndexedDataset:
    """Return the dataset with the SHA-256 of its files.

    `progress` is told of them, and of what the dataset leaves out, or could not look into, of the classes asked for.

    Raises:
        DatasetError: a file cannot be read.
    """
    used = {sample.cls for sample in source.samples} | {""}
    remarks = [finding for finding in source.dataset.remarks if finding.cls in used]
    for cls, note in source.dataset.notes:
        if cls in used:
            progress.say(f"{cls}: {note}")
    tell(remarks, progress.say, verify_command(source.name, source.dataset))
    files = dict.fromkeys(
        path for sample in (*source.samples, *source.validation) for path in (sample.image, *sample.masks)
    )
    with progress.phase("hash", len(files)) as advance:
        return replace(source, hashes=content_hashes(files, lambda done: advance(done, "")))
