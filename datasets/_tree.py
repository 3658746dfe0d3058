"""Reader of trees in MVTec AD's layout, shared by every dataset that is distributed so: a folder a class.

What lies in a class's folder stands in `_class_folder`. Image files are png, jpg, jpeg, bmp, tif, tiff or webp in any
case; hidden and other files are ignored.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import ClassVar

from bench.api import Finding, Sample
from bench.names import composed

from ._base import FileDataset, listing
from ._class_folder import ClassReader
from ._listing import NOT_TEXT, SYSTEM, TWIN, is_folder, is_text, printable, subfolders, trouble_of


class TreeDataset(FileDataset):
    """Base of the datasets in MVTec AD's layout; a subclass gives its card and, if need be, the names below."""

    normals: ClassVar[tuple[str, ...]] = ("good",)
    """Folder names, in lower case, that mean normal."""
    families: ClassVar[Mapping[str, str]] = {}
    """Defect folder -> `Sample.family`, where defects of a kind are also scored by themselves."""
    complete: ClassVar[bool] = True
    """Whether every class of the card must be there; otherwise the classes present are read."""

    reader: ClassVar[type[ClassReader]] = ClassReader
    """Reads a class's folder."""

    @classmethod
    def folders(cls, root: Path) -> dict[str, Path]:
        """Return the class folders present under `root`, in the card's order (by name where the card has none)."""
        present = {
            composed(path.name): path for path in subfolders(root) if looks_like_class(path) and is_text(path.name)
        }
        names = cls.card.classes or sorted(present)
        return {name: present[name] for name in names if name in present}

    @classmethod
    def is_at(cls, folder: Path) -> bool:
        """Whether the folder holds class folders."""
        return bool(cls.folders(folder))

    @classmethod
    def layout(cls) -> str:
        """Return in words which folders are expected."""
        names = cls.card.classes
        normal = cls.normals[0]
        if not names:
            return f"class folders with train/{normal} and test/ inside"
        some = ", ".join(names[:3]) + (", ..." if len(names) > 3 else "")
        return f"class folders ({some}) with train/{normal} and test/ inside"

    @classmethod
    def hint(cls, data_root: Path) -> str:
        """Tell whoever points at one class folder."""
        return f" {data_root} looks like a single class: give its parent." if looks_like_class(data_root) else ""

    def inspect(self) -> tuple[tuple[Sample, ...], tuple[Finding, ...]]:
        """Return what can be read and all that is wrong with the tree; never raises over the tree's content."""
        folders = self.folders(self.root)
        samples: list[Sample] = []
        findings = list(self._missing(folders))
        normal_masks: dict[str, tuple[Path, ...]] = {}
        notes: list[tuple[str, str]] = []
        for name, folder in folders.items():
            one = self.reader(folder, name, self.root, self.normals, self.families, self.card.masks).read()
            samples += one.samples
            findings += one.findings
            normal_masks |= one.normal_masks
            notes += ((name, note) for note in one.notes)
        self.normal_masks, self.notes = normal_masks, tuple(notes)
        return tuple(samples), tuple(findings)

    def _missing(self, folders: Mapping[str, Path]) -> Iterator[Finding]:
        there = ", ".join(folders)
        closed = dict(self._closed(folders))
        if not folders and not closed:
            found = listing(subfolders(self.root))
            yield Finding("", "layout", ".", f"no class found, only {found}. Expected {self.layout()}")
        elif self.complete:
            for name in self.card.classes:
                if name not in folders and name not in closed:
                    text = f"no class '{name}' (a folder with train/ and test/). Classes found: {there}"
                    yield Finding(name, "layout", name, text)
        yield from closed.values()
        yield from self._odd_names(folders)

    def _closed(self, folders: Mapping[str, Path]) -> Iterator[tuple[str, Finding]]:
        """Yield the folders that cannot be looked into; one that is no class of the card is passed over.

        Where the card has no classes, it may have been meant as one, so a run says so and goes on.
        """
        if folders and self.root in folders.values():
            return
        for path in subfolders(self.root):
            name = composed(path.name)
            known = name in self.card.classes
            if name in folders or name.lower() in SYSTEM or not (known or not self.card.classes):
                continue
            if trouble := trouble_of(path):
                text = f"{printable(path)}: cannot be looked into ({trouble}). Expected a readable folder"
                yield name, Finding(name if known else "", "unreadable", printable(Path(path.name)), text, stops=known)

    def _odd_names(self, folders: Mapping[str, Path]) -> Iterator[Finding]:
        for path in subfolders(self.root):
            name = composed(path.name)
            if looks_like_class(path) and (not is_text(path.name) or folders.get(name, path) != path):
                where = printable(Path(path.name))
                yield Finding("", "name", where, f"{printable(path)}: {TWIN if is_text(path.name) else NOT_TEXT}")


def looks_like_class(folder: Path) -> bool:
    """Whether a folder holds train/ or test/; one of them alone is a broken class, and is reported as such."""
    return is_folder(folder / "train") or is_folder(folder / "test")
