"""Reader of one class of somebody's own images, in the layouts that people have.

    train/good, test/good, test/<defect>, ground_truth/<defect>      MVTec AD's, in any case; train/ may hold the images
    good, <defect>, ...                                              no split: a share of the normal images is held
    good                                                             normal images alone: nothing to find among them
    *.png                                                            likewise, where the folder is the root

Normal images lie in `good`, `ok` or `normal`; any other folder beside, or in test/, is a kind of defect.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from bench.api import Sample, Split
from bench.names import composed

from ._class_folder import ClassReader, Masks
from ._held import ALONE, hold, told
from ._listing import NOT_TEXT, SYSTEM, Contents, contents, has_images, is_text, pictures_below, subfolders

NORMALS = ("good", "ok", "normal")
"""Folder names, in lower case, that mean normal."""
_SPLITS: Mapping[str, Split] = {
    **dict.fromkeys(("train", "training"), "train"),
    **dict.fromkeys(("test", "testing"), "test"),
    **dict.fromkeys(("validation", "valid", "val"), "val"),
}
_TRUTHS = frozenset({"ground_truth", "groundtruth", "ground-truth", "ground truth", "gt", "masks", "mask"})

Layout = Literal["split", "kinds", "images", ""]
"""`split`: train/ and test/ inside. `kinds`: good/ and, mostly, others. `images`: pictures directly. Empty: none."""


def layout_of(folder: Path) -> Layout:
    """Return how a folder is laid out, if it is a class."""
    inside = subfolders(folder)
    if any(split_of(path) in ("train", "test") for path in inside):
        return "split"
    if any(is_normal(path) and has_images(path) for path in inside):
        return "kinds"
    return "images" if has_images(folder) and not any(map(has_images, inside)) else ""


def trains(folder: Path) -> bool:
    """Whether a class's folder holds normal images to train on."""
    if layout_of(folder) != "split":
        return layout_of(folder) != ""
    homes = [path for path in subfolders(folder) if split_of(path) == "train"]
    return any(has_images(home) or any(map(has_images, filter(is_normal, subfolders(home)))) for home in homes)


def split_of(folder: Path) -> Split | None:
    """Return which split a folder's name stands for; None for any other name."""
    return _SPLITS.get(composed(folder.name).lower())


def is_normal(folder: Path) -> bool:
    """Whether a folder's name says that its images are normal."""
    return composed(folder.name).lower() in NORMALS


@dataclass(slots=True)
class OwnClassReader(ClassReader):
    """Reads a class in whichever of the layouts it is."""

    def read(self) -> OwnClassReader:
        """Fill the lists from the files, and return self."""
        layout = layout_of(self.folder)
        if layout in ("kinds", "images"):
            self._read_unsplit(self._list(self.folder), layout)
            self.samples.sort(key=lambda sample: sample.id)
        else:
            # not super(): a dataclass with slots is another class than the one that it refers to
            ClassReader.read(self)
        return self

    def _split_of(self, folder: Path) -> Split | None:
        return split_of(folder)

    def _is_truth(self, folder: Path) -> bool:
        return composed(folder.name).lower() in _TRUTHS

    def _read_own(self, home: Path, here: Contents, split: Split) -> tuple[Path, ...]:
        """Take images directly in train/ as normal ones, where no folder inside says which are."""
        if split != "train" or any(is_normal(kind) and has_images(kind) for kind in here.folders):
            return here.images
        self._take(here.images, home, split, f"{split}/{self.normals[0]}", normal=True, drawn=None)
        return ()

    def _read_unsplit(self, here: Contents, layout: Layout) -> None:
        if layout == "images":
            self._take(here.images, self.folder, "train", self.normals[0], normal=True, drawn=None)
            for inside in here.folders:
                self._unread(
                    pictures_below(inside), f"in {inside.name}/, beside normal images. Expected good/ and bad/"
                )
        else:
            self._unread(here.images, f"in the class's folder itself. Expected them in {self.normals[0]}/ or bad/")
            truths = [path for path in here.folders if self._is_truth(path)]
            kinds = [path for path in here.folders if path not in truths and path.name.lower() not in SYSTEM]
            drawn = self._drawn(truths, [kind for kind in kinds if not is_normal(kind)])
            for kind in kinds:
                if not is_text(kind.name):
                    self._find("name", kind, NOT_TEXT)
                    continue
                normal = is_normal(kind)
                self._read_kind(kind, "train" if normal else "test", composed(kind.name), normal, drawn)
            if drawn is not None and not self._closed:
                self._check_lost_masks(drawn, kinds)
        self._hold()

    def _drawn(self, truths: Sequence[Path], kinds: Sequence[Path]) -> dict[str, tuple[Path, Masks]] | None:
        """Return the masks; those directly in the folder are of the only kind of defect, where there is one."""
        if not truths or self.masks == "none":
            return None
        drawn: dict[str, tuple[Path, Masks]] = {}
        for truth in truths:
            here = contents(truth)
            if here.images and not any(map(has_images, here.folders)) and len(kinds) == 1:
                _, index = drawn.setdefault(composed(kinds[0].name), (truth, Masks()))
                for path in self._list(truth).images:
                    index.setdefault(composed(path.stem), []).append(path)
            else:
                drawn |= self._truth(self._list(truth))
        return drawn

    def _hold(self) -> None:
        normal = [sample for sample in self.samples if not sample.label]
        if len(normal) < 2 and not self._closed:
            count = "a single normal image" if normal else "no normal image"
            text = f"{count}. Expected at least 2: one to train on, one to rank the others against"
            self._find("layout", self.folder, text)
            return
        held = hold(normal)
        self.notes.append(told(held))
        anomalous: list[Sample] = [sample for sample in self.samples if sample.label]
        if not anomalous:
            self.notes.append(ALONE)
        self.samples = [*held, *anomalous]
