"""MVTec AD 2: eight demanding scenes, with private test images whose labels a server knows (Heckler-Kram et al., 2025).

    <class>/train/good/, validation/good/
    <class>/test_public/{good,bad}/<stem>.png, test_public/ground_truth/bad/<stem>_mask.png
    <class>/test_private/<nnn>_regular.png, test_private_mixed/<nnn>_mixed.png        without labels

Scores here are those of the public test images. Normal validation images serve to set thresholds. The private ones are
unlabelled; `bench submit` scores them and makes the archive that the server takes.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from bench.api import Card, Sample, Split
from bench.names import composed

from ._class_folder import ClassReader
from ._listing import NOT_TEXT, Contents, is_text
from ._tree import TreeDataset

_PRIVATE = {
    **{"can": 321, "fabric": 314, "fruit_jelly": 255, "rice": 277},
    **{"sheet_metal": 142, "vial": 276, "wallplugs": 232, "walnuts": 228},
}
"""Images of each of the two private test sets."""
_PUBLIC = "test_public"
_SPLITS: Mapping[str, Split] = {
    "train": "train",
    "validation": "val",
    _PUBLIC: "test",
    "test_private": "unlabelled",
    "test_private_mixed": "unlabelled",
}


@dataclass(slots=True)
class _Reader(ClassReader):
    """Reads a class whose masks lie inside of the public test images' folder."""

    def _split_of(self, folder: Path) -> Split | None:
        return _SPLITS.get(composed(folder.name))

    def _truths(self, here: Contents) -> list[Path]:
        return [
            path
            for split in here.folders
            if composed(split.name) == _PUBLIC
            for path in self._list(split).folders
            if self._is_truth(path)
        ]

    def _kinds(self, here: Contents) -> tuple[Path, ...]:
        return tuple(path for path in here.folders if not self._is_truth(path))

    def _read_own(self, home: Path, here: Contents, split: Split) -> tuple[Path, ...]:
        if split != "unlabelled":
            return here.images
        for path in here.images:
            if is_text(path.name):
                one = f"{self.cls}/{composed(home.name)}/{composed(path.stem)}"
                self.samples.append(Sample(one, self.cls, split, None, "", path))
            else:
                self._find("name", path, NOT_TEXT)
        return ()


class MVTecAD2(TreeDataset):
    """MVTec AD 2 as distributed: one folder a class, with train/, validation/ and the three test sets inside."""

    card = Card(
        name="mvtec_ad2",
        title="MVTec AD 2",
        kind="industrial",
        classes=tuple(_PRIVATE),
        counts={},
        masks="pixel",
        licence="CC BY-NC-SA 4.0 (no commercial use)",
        citation=(
            "L. Heckler-Kram, J.-H. Neudeck, U. Scheler, R. König, C. Steger: The MVTec AD 2 Dataset: Advanced "
            "Scenarios for Unsupervised Anomaly Detection. 2025."
        ),
        source=(
            "Get it from https://www.mvtec.com/company/research/datasets/mvtec-ad-2 (registration form) and unpack the "
            "archive."
        ),
        notes=(
            "More than 8,000 images. Each of the two private test sets has "
            + ", ".join(f"{count} of {cls}" for cls, count in _PRIVATE.items())
            + ".",
            "Scores are those of the public test images; bench submit makes the archive for the private ones' server, "
            "https://benchmark.mvtec.com.",
            "Normal validation images serve to set thresholds.",
            "A root with only some of the classes is read as it is.",
        ),
    )
    aliases = ("mvtec_ad_2", "mvtec_ad2", "mvtecad2", "mvtec-ad-2")
    metrics = ("pixel/aupro@0.05",)
    """As its authors report it."""
    complete = False
    reader = _Reader
