"""Somebody's own images listed in a table: `filename,label`, and `mask`, `split` or `object` where they are stated.

Any CSV file directly in the dataset's folder is such a list that has a column of file names and one of labels, under
any of the titles below, in any case. File names are relative to the folder; a bare name may also lie in a folder below,
if there is only one file of that name. Without a split, a share of the normal images is held for testing.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from bench.api import Finding
from bench.errors import DatasetError
from bench.loading.tables import CsvRow, TableError, read_table
from bench.names import composed

from ._listed import ListedImage, checked_class

FILES = ("filename", "file", "file_name", "image", "image_path", "path", "name")
LABELS = ("label", "verdict", "class", "target")
OBJECTS = ("object", "product", "category", "class")
MASKS = ("mask", "mask_path", "ground_truth")
SPLITS = ("split", "subset", "set", "partition")
"""Titles that a column may have; of several in a table the first here counts."""

NORMAL = frozenset({"good", "ok", "normal", "nominal", "pass", "0"})
ANOMALOUS = frozenset({"bad", "defect", "defective", "ng", "nok", "anomaly", "anomalous", "abnormal", "fail", "1"})
_PARTS: Mapping[str, Literal["train", "val", "test"]] = {
    **dict.fromkeys(("train", "training"), "train"),
    **dict.fromkeys(("val", "valid", "validation"), "val"),
    **dict.fromkeys(("test", "testing"), "test"),
}


@dataclass(frozen=True, slots=True)
class Columns:
    """Which column of a table says what; empty titles for what it does not say."""

    file: str
    label: str
    object: str
    mask: str
    split: str

    @classmethod
    def of(cls, titles: list[str]) -> Columns | None:
        """Return the columns of a table that lists images; None of any other table."""
        known = {title.lower(): title for title in titles}

        def first(words: tuple[str, ...], *taken: str) -> str:
            return next((known[word] for word in words if word in known and known[word] not in taken), "")

        file, label = first(FILES), first(LABELS)
        if not (file and label and file != label):
            return None
        return cls(file, label, first(OBJECTS, file, label), first(MASKS), first(SPLITS))


def find_list(root: Path) -> tuple[Path, ...]:
    """Return the tables directly in a folder that list images, by name."""
    try:
        tables = sorted(path for path in root.iterdir() if path.suffix.lower() == ".csv" and path.name[0] != ".")
    except OSError:
        return ()
    return tuple(path for path in tables if Columns.of(_titles(path)) is not None)


def _titles(path: Path) -> list[str]:
    try:
        return next((list(row.cells) for row in read_table(path, ()) if row.cells), [])
    except TableError:
        return []


def read_list(path: Path, root: Path) -> tuple[dict[str, list[ListedImage]], list[Finding]]:
    """Return class -> its entries, and a finding for each line that cannot be used.

    Args:
        path: the table.
        root: the dataset's folder, whose name is the class where the table has no column for it.
    """
    groups: dict[str, list[ListedImage]] = {}
    findings: list[Finding] = []
    columns: Columns | None = None
    try:
        for row in read_table(path, ()):
            where = f"{path.name}:{row.line}"
            try:
                if columns is None:
                    _check_titles(list(row.cells))
                    columns = Columns.of(list(row.cells))
                cls, entry = _entry(row, columns, where, root)
            except DatasetError as error:
                findings.append(Finding("", "layout", where, f"{where}: {error}"))
            else:
                groups.setdefault(cls, []).append(entry)
    except TableError as error:
        findings.append(Finding("", "layout", path.name, f"{path.name}: {error}"))
    return groups, findings


def _check_titles(titles: list[str]) -> None:
    """Refuse titles that differ in case alone, since any case is taken. Raises TableError."""
    lower = [title.lower() for title in titles]
    if doubled := [title for title in titles if lower.count(title.lower()) > 1]:
        raise TableError(f"columns {', '.join(map(ascii, doubled))} differ in case alone. Expected each title once")


def _entry(row: CsvRow, columns: Columns | None, where: str, root: Path) -> tuple[str, ListedImage]:
    if row.fault or columns is None:
        raise DatasetError(row.fault)
    cells = {**row.cells, "": ""}
    label = cells[columns.label].strip().lower()
    if label not in NORMAL | ANOMALOUS:
        expected = f"{', '.join(sorted(NORMAL))} of a normal image, {', '.join(sorted(ANOMALOUS))} of any other"
        raise DatasetError(f"{columns.label} {cells[columns.label]!a}. Expected {expected}")
    split = cells[columns.split].strip().lower()
    if columns.split and split not in _PARTS:
        raise DatasetError(f"{columns.split} {cells[columns.split]!a}. Expected train, val or test")
    normal = label in NORMAL
    part: Literal["train", "val", "test", ""] = _PARTS[split] if columns.split else "" if normal else "test"
    cls = checked_class(composed(cells[columns.object].strip() or root.resolve().name))
    defect = "good" if normal else "anomaly"
    mask = cells[columns.mask].strip()
    return cls, ListedImage(where, part, defect, cells[columns.file].strip(), mask)
