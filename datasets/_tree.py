"""Reader of trees in MVTec AD's layout, shared by every dataset that is distributed so.

    <class>/train/good/<stem>.png
    <class>/validation/good/<stem>.png                        (MVTec LOCO; neither trained on nor tested)
    <class>/test/<good or defect type>/<stem>.png
    <class>/ground_truth/<defect type>/<stem>_mask.png        (or <stem>.png, or all files of the folder <stem>)

Images and masks are paired by stem, never by their position in two listings, which pairs wrongly once a file is missing
(MVTec AD, LOCO, MPDD, BTAD). Image files are png, jpg, jpeg, bmp, tif, tiff or webp in any case; hidden and other files
are ignored. `ground_truth/good` is not read: the folder of an image says that it is normal.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import ClassVar, Literal

from bench.api import Finding, Sample, Split
from bench.names import composed

from ._base import NOT_TEXT, TWIN, FileDataset, images_in, is_text, lacking, listing, printable, subfolders


class TreeDataset(FileDataset):
    """Base of the datasets in MVTec AD's layout; a subclass gives its card and, if need be, the names below."""

    normals: ClassVar[tuple[str, ...]] = ("good",)
    """Folder names, in lower case, that mean normal."""
    families: ClassVar[Mapping[str, str]] = {}
    """Defect folder -> `Sample.family`, where defects of a kind are also scored by themselves."""
    complete: ClassVar[bool] = True
    """Whether every class of the card must be there; otherwise the classes present are read."""

    @classmethod
    def folders(cls, root: Path) -> dict[str, Path]:
        """Return the class folders present under `root`, in the card's order (by name where the card has none)."""
        there = [path for path in subfolders(root) if looks_like_class(path) and is_text(path.name)]
        present = {composed(path.name): path for path in there}
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
        for name, folder in folders.items():
            one = ClassReader(folder, name, self.root, self.normals, self.families, self.card.masks).read()
            samples += one.samples
            findings += one.findings
        return tuple(samples), tuple(findings)

    def _missing(self, folders: Mapping[str, Path]) -> Iterator[Finding]:
        there = ", ".join(folders)
        if not folders:
            found = listing(subfolders(self.root))
            yield Finding("", "layout", ".", f"no class found, only {found}. Expected {self.layout()}")
        elif self.complete:
            for name in self.card.classes:
                if name not in folders:
                    text = f"no class '{name}' (a folder with train/ and test/). Classes found: {there}"
                    yield Finding(name, "layout", name, text)
        for path in subfolders(self.root):
            name = composed(path.name)
            if looks_like_class(path) and (not is_text(path.name) or folders.get(name, path) != path):
                where = printable(path.relative_to(self.root))
                yield Finding("", "name", where, f"{printable(path)}: {TWIN if is_text(path.name) else NOT_TEXT}")


@dataclass(slots=True)
class ClassReader:
    """Reads one class folder, going on after each defect; `read` fills `samples` and `findings`."""

    folder: Path
    cls: str
    root: Path
    """Findings name files relative to it."""
    normals: tuple[str, ...]
    """Folder names, in lower case, that mean normal."""
    families: Mapping[str, str]
    """Defect folder -> family of the defect."""
    masks: Literal["pixel", "none", "optional"]
    """`pixel`: anomalous images must have a mask. `optional`: only where the class has a ground_truth folder.
    `none`: ground_truth is not looked at."""
    samples: list[Sample] = field(default_factory=list)
    """Ordered by id. An anomalous image without its mask is here, too, besides its finding."""
    findings: list[Finding] = field(default_factory=list)
    """Of kind `layout`, `name`, `missing-mask`, `orphan-mask` and `duplicate-id`."""

    def read(self) -> ClassReader:
        """Fill `samples` and `findings` from the files, and return self."""
        truth = self.folder / "ground_truth"
        paired = truth.is_dir() and self.masks != "none"
        if self.masks == "pixel" and not paired:
            self._find("layout", truth, "no such folder. Expected the masks of the anomalous test images in it")
        for kind in self._kinds("train"):
            if self._is_normal(kind):
                self._add(kind, "train", {})
            elif any(images_in(kind)):
                self._find("layout", kind, f"images to train on. Expected only normal ones, in train/{self.normals[0]}")
        for kind in self._kinds("validation"):
            if self._is_normal(kind):
                self._add(kind, "val", {})
        for kind in self._kinds("test"):
            masks = _masks_in(truth / kind.name) if paired and not self._is_normal(kind) else {}
            added = self._add(kind, "test", masks)
            if paired:
                self._check_pairs(added, truth / kind.name, masks)
        if paired:
            self._check_lost_masks(truth)
        self._check_enough()
        self.samples.sort(key=lambda sample: sample.id)
        return self

    def _kinds(self, split: str) -> Iterator[Path]:
        seen: set[str] = set()
        for kind in subfolders(self.folder / split):
            if not is_text(kind.name):
                self._find("name", kind, NOT_TEXT)
            elif composed(kind.name) in seen:
                self._find("name", kind, TWIN)
            else:
                seen.add(composed(kind.name))
                yield kind

    def _is_normal(self, kind: Path) -> bool:
        return kind.name.lower() in self.normals

    def _add(self, kind: Path, split: Split, masks: dict[str, list[Path]]) -> list[Sample]:
        """Make the samples of one folder of images, taking the masks they claim out of `masks`."""
        normal = self._is_normal(kind)
        family = "" if normal else self.families.get(kind.name, "")
        added: dict[str, Sample] = {}
        for path in images_in(kind):
            if not is_text(path.name):
                self._find("name", path, NOT_TEXT)
                continue
            stem = composed(path.stem)
            name = f"{self.cls}/{split}/{composed(kind.name)}/{stem}"
            if name in added:
                twin = added[name].image.name
                text = f"differs from {twin} only in its extension or its Unicode form. Expected one image a name"
                self._find("duplicate-id", path, text)
                continue
            own = masks.pop(f"{stem}_mask", None) or masks.pop(stem, [])
            defect = "good" if normal else composed(kind.name)
            added[name] = Sample(name, self.cls, split, int(not normal), defect, path, masks=tuple(own), family=family)
        self.samples += added.values()
        return list(added.values())

    def _check_pairs(self, added: list[Sample], truth: Path, unclaimed: dict[str, list[Path]]) -> None:
        for sample in added:
            if sample.label and not sample.masks:
                expected = _mask_for(sample.image.stem, truth)
                self._find("missing-mask", sample.image, f"anomalous, but without a mask. Expected {expected}")
        for stem, paths in unclaimed.items():
            image = self.folder / "test" / truth.name / f"{stem.removesuffix('_mask')}.*"
            for path in paths:
                self._find("orphan-mask", path, f"mask without an image. Expected {printable(image)}")

    def _check_lost_masks(self, truth: Path) -> None:
        for kind in subfolders(truth):
            images = self.folder / "test" / kind.name
            if not self._is_normal(kind) and not images.is_dir() and any(_masks_in(kind).values()):
                self._find("orphan-mask", kind, f"masks without images. Expected the images in {printable(images)}")

    def _check_enough(self) -> None:
        for (split, label), text in lacking(self.samples).items():
            self._find("layout", self.folder / split / ("" if label else self.normals[0]), text)

    def _find(self, kind: str, path: Path, text: str) -> None:
        where = printable(path.relative_to(self.root))
        self.findings.append(Finding(self.cls, kind, where, f"{printable(path)}: {text}"))


def looks_like_class(folder: Path) -> bool:
    """Whether a folder holds train/ or test/; one of them alone is a broken class, and is reported as such."""
    return (folder / "train").is_dir() or (folder / "test").is_dir()


def _masks_in(folder: Path) -> dict[str, list[Path]]:
    """Index mask files by stem; a sub-folder holds all masks of the image that it is named after."""
    index: dict[str, list[Path]] = {}
    for path in images_in(folder):
        index.setdefault(composed(path.stem), []).append(path)
    for inside in subfolders(folder):
        index.setdefault(composed(inside.name), []).extend(images_in(inside))
    return index


def _mask_for(stem: str, folder: Path) -> Path:
    """Return where an image's mask would be, going by the other masks of the folder."""
    if subfolders(folder):
        return folder / stem / "000.png"
    other = next(images_in(folder), Path("_mask.png"))
    return folder / f"{stem}{'_mask' if other.stem.endswith('_mask') else ''}{other.suffix}"
