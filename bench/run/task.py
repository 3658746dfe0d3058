"""A task: which images are trained on and which are tested, for one dataset under one setting."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from bench.api import Dataset, Sample
from bench.errors import DatasetError, UsageError
from bench.loading.hashes import content_hashes
from bench.registry import DATASETS, did_you_mean
from bench.run.progress import Progress

SETTINGS = {"multi": "one model for all classes; metrics a class, then their mean"}


@dataclass(frozen=True)
class Task:
    """Training and test images of a dataset under a setting, checked, hashed and in a fixed order."""

    name: str
    dataset: Dataset = field(repr=False)
    setting: str
    classes: tuple[str, ...]
    train: tuple[Sample, ...] = field(repr=False)
    test: tuple[Sample, ...] = field(repr=False)
    hashes: Mapping[Path, str] = field(repr=False)
    """SHA-256 of every image and mask file."""

    @property
    def has_masks(self) -> dict[str, bool]:
        """Class -> whether its anomalous images have masks, that is, whether it has pixel scores."""
        return {cls: any(sample.masks for sample in self.test if sample.cls == cls) for cls in self.classes}

    def fingerprint(self) -> str:
        """Return 16 hex digits over ids, labels, splits and the bytes of every image and mask."""
        digest = hashlib.sha256()
        for sample in (*self.train, *self.test):
            files = [self.hashes[path] for path in (sample.image, *sample.masks)]
            digest.update("\t".join([sample.id, sample.split, str(sample.label), *files]).encode() + b"\n")
        return digest.hexdigest()[:16]


def data_root(name: str, given: Sequence[str]) -> Path | None:
    """Return the root for a dataset from `--data-root` options: `DIR` for all, `name=DIR` for one.

    Raises:
        UsageError: the folder does not exist.
    """
    chosen: Path | None = None
    for option in given:
        dataset, equals, folder = option.partition("=")
        if equals and dataset in DATASETS.targets:
            if dataset == name:
                chosen = Path(folder)
                break
        elif chosen is None:
            chosen = Path(option)
    if chosen is not None and not chosen.is_dir():
        raise UsageError(f"--data-root {chosen}: no such folder. Expected the folder that holds {name}")
    return chosen.absolute() if chosen else None


def prepare(
    name: str,
    root: Path | None,
    setting: str,
    classes: Sequence[str],
    progress: Progress,
) -> Task:
    """Index a dataset and hash its files.

    Args:
        name: registered dataset name.
        root: where the user says the data is; None for the dataset's own default place.
        setting: one of SETTINGS.
        classes: classes asked for; empty for all that the dataset has.
        progress: told of the files hashed.

    Raises:
        UsageError: unknown dataset, setting or class.
        DatasetError: data missing or incomplete, or a class without images to train on or to test.
    """
    if setting not in SETTINGS:
        raise UsageError(f"unknown setting '{setting}'.{did_you_mean(setting, SETTINGS)} Known: {', '.join(SETTINGS)}")
    kind = DATASETS.load(name)
    dataset = kind(kind.locate(root))
    samples = dataset.samples()
    present = list(dict.fromkeys(sample.cls for sample in samples))
    for wanted in classes:
        if wanted not in present and wanted not in dataset.card.classes:
            raise UsageError(
                f"{name} has no class '{wanted}'.{did_you_mean(wanted, present)} Found in {dataset.root}: "
                f"{', '.join(present)}"
            )
        if wanted not in present:
            raise DatasetError(
                f"{name} at {dataset.root}: class '{wanted}' is not there. Found: {', '.join(present)}. "
                f"Check with: bench data verify {name} --root {dataset.root}"
            )
    chosen = tuple(cls for cls in present if not classes or cls in classes)
    train = tuple(sample for sample in samples if sample.cls in chosen and sample.split == "train")
    test = tuple(sample for sample in samples if sample.cls in chosen and sample.split == "test")
    for cls in chosen:
        for split, part in (("train", train), ("test", test)):
            if not any(sample.cls == cls for sample in part):
                raise DatasetError(
                    f"{name} at {dataset.root}: class '{cls}' has no {split} images. "
                    f"Check with: bench data verify {name} --root {dataset.root}"
                )
    files = [path for sample in (*train, *test) for path in (sample.image, *sample.masks)]
    with progress.phase("hash", len(files)) as advance:
        hashes = content_hashes(files, lambda done: advance(done, ""))
    return Task(name, dataset, setting, chosen, train, test, hashes)
