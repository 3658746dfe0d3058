"""Reader of trees in MVTec AD's layout, shared by every dataset that is distributed so.

    <class>/train/good/<stem>.png
    <class>/test/<good or defect type>/<stem>.png
    <class>/ground_truth/<defect type>/<stem>_mask.png        (or <stem>.png)

Images and masks are paired by stem, never by their position in two listings, which pairs wrongly once a file is missing
(MVTec AD, MPDD, BTAD). Image files are png, jpg, jpeg, bmp, tif, tiff or webp in any case; hidden and other files are
ignored. `ground_truth/good` is not read: the folder of an image says that it is normal.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import ClassVar, Literal

from bench.api import Card, Dataset, Finding, Sample
from bench.errors import DatasetError

SUFFIXES = frozenset({".png", ".jpg", ".jpeg", ".bmp", ".tif", ".tiff", ".webp"})


class TreeDataset(Dataset):
    """Base of the datasets in MVTec AD's layout; a subclass gives its card and, if need be, the names below."""

    normals: ClassVar[tuple[str, ...]] = ("good",)
    """Folder names, in lower case, that mean normal."""
    aliases: ClassVar[tuple[str, ...]] = ()
    """Usual names of the dataset's folder, in lower case, looked for inside the data root."""
    complete: ClassVar[bool] = True
    """Whether every class of the card must be there; otherwise the classes present are read."""

    @classmethod
    def folders(cls, root: Path) -> dict[str, Path]:
        """Return the class folders present under `root`, in the card's order (by name where the card has none)."""
        present = {path.name: path for path in _subfolders(root) if looks_like_class(path)}
        names = cls.card.classes or sorted(present)
        return {name: present[name] for name in names if name in present}

    @classmethod
    def locate(cls, data_root: Path | None) -> Path:
        """Return `data_root` or its usual sub-folder, whichever holds class folders; see `Dataset.locate`."""
        card = cls.card
        if data_root is None:
            raise DatasetError(
                f"{card.name}: no data root given. Expected {layout(card)}. Give it with --data-root DIR "
                f"(bench run) or --root DIR (bench data). {card.source}"
            )
        if not data_root.is_dir():
            raise DatasetError(f"{card.name}: no folder {data_root}. Expected {layout(card)}. {card.source}")
        inside = [path for path in _subfolders(data_root) if path.name.lower() in cls.aliases]
        for candidate in (data_root, *inside):
            if cls.folders(candidate):
                return candidate
        hint = f" {data_root} looks like a single class: give its parent." if looks_like_class(data_root) else ""
        where = f", there or in a sub-folder {' or '.join(cls.aliases)}" if cls.aliases else ""
        raise DatasetError(
            f"{card.name} is not at {data_root}: found {_listing(_subfolders(data_root))}. "
            f"Expected {layout(card)}{where}.{hint} {card.source}"
        )

    def inspect(self) -> tuple[tuple[Sample, ...], tuple[Finding, ...]]:
        """Return what can be read and all that is wrong with the tree; never raises over the tree's content."""
        folders = self.folders(self.root)
        samples: list[Sample] = []
        findings = list(self._missing(folders))
        for name, folder in folders.items():
            one = ClassReader(folder, name, self.root, self.normals, self.card.masks).read()
            samples += one.samples
            findings += one.findings
        return tuple(samples), tuple(findings)

    def samples(self) -> tuple[Sample, ...]:
        """Return every sample; see `Dataset.samples`. Where several things are wrong the first is told."""
        if not self.root.is_dir():
            raise DatasetError(f"{self.card.name}: no folder {self.root}. Expected {layout(self.card)}.")
        samples, findings = self.inspect()
        if findings:
            more = f" (and {len(findings) - 1} more)" if len(findings) > 1 else ""
            raise DatasetError(
                f"{self.card.name} at {self.root}: {findings[0].text}{more}. "
                f"List all with: bench data verify {self.card.name} --root {self.root}"
            )
        return samples

    def _missing(self, folders: Mapping[str, Path]) -> Iterator[Finding]:
        there = ", ".join(folders)
        if not folders:
            found = _listing(_subfolders(self.root))
            yield Finding("", "layout", ".", f"no class found, only {found}. Expected {layout(self.card)}")
        elif self.complete:
            for name in self.card.classes:
                if name not in folders:
                    text = f"no class '{name}' (a folder with train/ and test/). Classes found: {there}"
                    yield Finding(name, "layout", name, text)


@dataclass(slots=True)
class ClassReader:
    """Reads one class folder, going on after each defect; `read` fills `samples` and `findings`."""

    folder: Path
    cls: str
    root: Path
    """Findings name files relative to it."""
    normals: tuple[str, ...]
    """Folder names, in lower case, that mean normal."""
    masks: Literal["pixel", "none", "optional"]
    """`pixel`: anomalous images must have a mask. `optional`: only where the class has a ground_truth folder.
    `none`: ground_truth is not looked at."""
    samples: list[Sample] = field(default_factory=list)
    """Ordered by id. An anomalous image without its mask is here, too, besides its finding."""
    findings: list[Finding] = field(default_factory=list)
    """Of kind `layout`, `missing-mask`, `orphan-mask` and `duplicate-id`."""

    def read(self) -> ClassReader:
        """Fill `samples` and `findings` from the files, and return self."""
        truth = self.folder / "ground_truth"
        paired = truth.is_dir() and self.masks != "none"
        if self.masks == "pixel" and not paired:
            self._find("layout", truth, "no such folder. Expected the masks of the anomalous test images in it")
        for kind in _subfolders(self.folder / "train"):
            if self._is_normal(kind):
                self._add(kind, "train", {})
            elif any(images_in(kind)):
                self._find("layout", kind, f"images to train on. Expected only normal ones, in train/{self.normals[0]}")
        for kind in _subfolders(self.folder / "test"):
            masks = _by_stem(truth / kind.name) if paired and not self._is_normal(kind) else {}
            added = self._add(kind, "test", masks)
            if paired:
                self._check_pairs(added, truth / kind.name, masks)
        if paired:
            self._check_lost_masks(truth)
        self._check_enough()
        self.samples.sort(key=lambda sample: sample.id)
        return self

    def _is_normal(self, kind: Path) -> bool:
        return kind.name.lower() in self.normals

    def _add(self, kind: Path, split: Literal["train", "test"], masks: dict[str, list[Path]]) -> list[Sample]:
        """Make the samples of one folder of images, taking the masks they claim out of `masks`."""
        normal = self._is_normal(kind)
        added: dict[str, Sample] = {}
        for path in images_in(kind):
            name = f"{self.cls}/{split}/{kind.name}/{path.stem}"
            if name in added:
                twin = added[name].image.name
                self._find(
                    "duplicate-id", path, f"differs from {twin} only in its extension. Expected one image a name"
                )
                continue
            own = masks.pop(f"{path.stem}_mask", None) or masks.pop(path.stem, [])
            defect = "good" if normal else kind.name
            added[name] = Sample(name, self.cls, split, int(not normal), defect, path, masks=tuple(own))
        self.samples += added.values()
        return list(added.values())

    def _check_pairs(self, added: list[Sample], truth: Path, unclaimed: dict[str, list[Path]]) -> None:
        for sample in added:
            if sample.label and not sample.masks:
                expected = truth / f"{sample.image.stem}_mask.png"
                self._find("missing-mask", sample.image, f"anomalous, but without a mask. Expected {expected}")
        for path in (path for paths in unclaimed.values() for path in paths):
            image = self.folder / "test" / truth.name / f"{path.stem.removesuffix('_mask')}.*"
            self._find("orphan-mask", path, f"mask without an image. Expected {image}")

    def _check_lost_masks(self, truth: Path) -> None:
        for kind in _subfolders(truth):
            images = self.folder / "test" / kind.name
            if not self._is_normal(kind) and not images.is_dir() and any(images_in(kind)):
                self._find("orphan-mask", kind, f"masks without images. Expected the images in {images}")

    def _check_enough(self) -> None:
        """Report what a class cannot be trained or scored without."""
        seen = {(sample.split, sample.label) for sample in self.samples}
        good = self.normals[0]
        if ("train", 0) not in seen:
            self._find("layout", self.folder / "train" / good, "no image. Expected normal images to train on")
        if ("test", 0) not in seen:
            text = "no image. Expected normal test images, which the anomalous ones are ranked against"
            self._find("layout", self.folder / "test" / good, text)
        if ("test", 1) not in seen:
            self._find("layout", self.folder / "test", "no anomalous image. Expected some in test/<defect type>")

    def _find(self, kind: str, path: Path, text: str) -> None:
        self.findings.append(Finding(self.cls, kind, path.relative_to(self.root).as_posix(), f"{path}: {text}"))


def looks_like_class(folder: Path) -> bool:
    """Whether a folder holds train/ or test/; one of them alone is a broken class, and is reported as such."""
    return (folder / "train").is_dir() or (folder / "test").is_dir()


def images_in(folder: Path) -> Iterator[Path]:
    """Yield the image files directly in `folder`, by name; nothing where the folder does not exist."""
    if not folder.is_dir():
        return
    for path in sorted(folder.iterdir()):
        # a dangling link is no directory either: it is yielded, so that reading it fails instead of losing it
        if path.suffix.lower() in SUFFIXES and not path.name.startswith(".") and not path.is_dir():
            yield path


def layout(card: Card) -> str:
    """Return in words which folders are expected, for messages."""
    names = card.classes
    if not names:
        return "class folders with train/good and test/ inside"
    some = ", ".join(names[:3]) + (", ..." if len(names) > 3 else "")
    return f"class folders ({some}) with train/good and test/ inside"


def _by_stem(folder: Path) -> dict[str, list[Path]]:
    index: dict[str, list[Path]] = {}
    for path in images_in(folder):
        index.setdefault(path.stem, []).append(path)
    return index


def _subfolders(folder: Path) -> list[Path]:
    if not folder.is_dir():
        return []
    return sorted(path for path in folder.iterdir() if not path.name.startswith(".") and path.is_dir())


def _listing(folders: Sequence[Path]) -> str:
    names = [path.name for path in folders]
    return "no folders" if not names else "folders " + ", ".join(names[:8]) + (", ..." if len(names) > 8 else "")
