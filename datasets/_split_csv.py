"""Datasets that are listed in VisA's `split_csv/1cls.csv`, or laid out as a tree where that file is missing.

The file has the columns object (class), split (train or test), label (normal or anomaly, or a word that means so),
image and mask; the last two are paths relative to the dataset's folder, and mask is empty where there is none. More
columns are ignored.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Literal, cast

from bench.api import Finding, Sample
from bench.errors import DatasetError
from bench.loading.tables import CsvRow, TableError, read_table
from bench.names import composed

from ._listed import ListedImage, ListReader, checked_class
from ._listing import is_folder, trouble_of
from ._own_list import ANOMALOUS, NORMAL
from ._tree import TreeDataset

SPLIT_FILE = Path("split_csv") / "1cls.csv"
COLUMNS = ("object", "split", "label", "image", "mask")
_WORDS = {"split": frozenset({"train", "test"}), "label": NORMAL | ANOMALOUS}
_EXPECTED = {"split": "train or test", "label": "normal or anomaly"}


class CsvDataset(TreeDataset):
    """Base of the datasets with such a file; where it is there, it decides, and no folder's name means anything."""

    @classmethod
    def is_at(cls, folder: Path) -> bool:
        """Whether the folder holds the split file or class folders."""
        return is_listed(folder) or super().is_at(folder)

    def inspect(self) -> tuple[tuple[Sample, ...], tuple[Finding, ...]]:
        """Return what can be read and all that is wrong with the files; never raises over their content."""
        if not is_listed(self.root):
            return super().inspect()
        return self._listed(SPLIT_FILE, *read_split(self.root, self.card.classes))

    def _listed(
        self,
        source: Path,
        groups: Mapping[str, list[ListedImage]],
        faults: Sequence[Finding],
        below: Callable[[], Mapping[str, Path | None]] = dict,
    ) -> tuple[tuple[Sample, ...], tuple[Finding, ...]]:
        """Return what a list's entries name.

        Args:
            source: the list, for messages.
            groups: class -> entries.
            faults: of the list itself.
            below: see `ListReader.below`.
        """
        samples: list[Sample] = []
        findings = list(faults)
        absent = []
        taken: dict[Path, str] = {}
        normal_masks: dict[str, tuple[Path, ...]] = {}
        notes: list[tuple[str, str]] = []
        for cls in self.card.classes or sorted(groups):
            one = ListReader(cls, self.root, self.card.masks, taken, below=below).read(groups.get(cls, ()))
            samples += one.samples
            findings += one.findings
            normal_masks |= one.normal_masks
            notes += ((cls, note) for note in one.notes)
            if one.absent:
                absent.append(cls)
        if (absent and self.complete) or not (samples or findings):
            text = f"{source}: no image of {', '.join(absent) or 'any class'} is here. Expected those it names"
            findings.append(Finding("", "layout", source.as_posix(), text))
        self.normal_masks, self.notes = normal_masks, tuple(notes)
        return tuple(samples), tuple(findings)


def is_listed(folder: Path) -> bool:
    """Whether the split file is there: one that cannot be read is a defect, and no tree is read in its place."""
    return os.path.lexists(folder / SPLIT_FILE) or bool(
        is_folder(folder / SPLIT_FILE.parent) and trouble_of(folder / SPLIT_FILE.parent)
    )


def read_split(root: Path, classes: tuple[str, ...]) -> tuple[dict[str, list[ListedImage]], list[Finding]]:
    """Read the split file.

    Args:
        root: the dataset's folder.
        classes: the classes that may be named; any where empty.

    Returns:
        Class -> its entries, and a finding for each line that cannot be used.
    """
    groups: dict[str, list[ListedImage]] = {}
    findings: list[Finding] = []
    source = SPLIT_FILE.as_posix()

    def find(where: str, error: object) -> None:
        findings.append(Finding("", "layout", where, f"{where}: {error}"))

    folder = root / SPLIT_FILE.parent
    if trouble := trouble_of(folder):
        text = f"{folder}: cannot be looked into ({trouble}). Expected a readable folder"
        findings.append(Finding("", "unreadable", SPLIT_FILE.parent.as_posix(), text))
        return groups, findings
    try:
        for row in read_table(root / SPLIT_FILE, COLUMNS):
            where = f"{source}:{row.line}"
            try:
                cls, entry = _entry(row, where, classes)
            except DatasetError as error:
                find(where, error)
            else:
                groups.setdefault(cls, []).append(entry)
    except TableError as error:
        find(source, error)
    return groups, findings


def _entry(row: CsvRow, where: str, classes: tuple[str, ...]) -> tuple[str, ListedImage]:
    if row.fault:
        raise DatasetError(row.fault)
    cells = row.cells
    for column, words in _WORDS.items():
        if cells[column].strip().lower() not in words:
            raise DatasetError(f"{column} {cells[column]!a}. Expected {_EXPECTED[column]}")
    cls = checked_class(composed(cells["object"]))
    if classes and cls not in classes:
        raise DatasetError(f"object '{cls}'. Expected one of {', '.join(classes)}")
    split = cast(Literal["train", "test"], cells["split"].strip().lower())
    defect = "good" if cells["label"].strip().lower() in NORMAL else "anomaly"
    return cls, ListedImage(where, split, defect, cells["image"], cells["mask"])
