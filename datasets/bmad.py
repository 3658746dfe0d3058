"""BMAD: six medical sets, three of them with masks (Bao et al., CVPR 2024 workshops).

<class>/train/good/                               images there, or in the folder img inside
<class>/valid/{good,Ungood}/                      likewise; the normal ones serve to set thresholds
<class>/test/{good,Ungood}/[img/]<stem>.png
<class>/test/Ungood/label/<stem>.png              its mask, where the class has masks
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from bench.api import Card, Split
from bench.names import composed

from ._class_folder import ClassReader, Masks
from ._listing import pictures_below
from ._tree import TreeDataset

_SPLITS: Mapping[str, Split] = {"train": "train", "valid": "val", "test": "test"}
_IMAGES, _MASKS = "img", "label"


@dataclass(slots=True)
class _Reader(ClassReader):
    """Reads a set whose masks lie beside its images."""

    def _split_of(self, folder: Path) -> Split | None:
        return _SPLITS.get(composed(folder.name))

    def _anomalous(self, kind: Path, split: Split, normals: str) -> None:
        if split == "val":
            count = len(pictures_below(kind / _IMAGES) or pictures_below(kind))
            where = f"{kind.parent.name}/{kind.name}"
            self.notes.append(f"{count} anomalous images of {where} are left out: thresholds are set on normal ones")
        else:
            ClassReader._anomalous(self, kind, split, normals)

    def _read_kind(
        self, kind: Path, split: Split, place: str, normal: bool, drawn: Mapping[str, tuple[Path, Masks]] | None
    ) -> None:
        inside = {path.name: path for path in self._list(kind).folders}
        if _IMAGES not in inside:
            # not super(): a dataclass with slots is another class than the one that it refers to
            ClassReader._read_kind(self, kind, split, place, normal, drawn)
            return
        if _MASKS in inside:
            masks = Masks()
            for path in self._list(inside[_MASKS]).images:
                masks.setdefault(composed(path.stem), []).append(path)
            drawn = {composed(kind.name): (inside[_MASKS], masks)}
        self._take(self._list(inside[_IMAGES]).images, kind, split, place, normal, drawn)


class BMAD(TreeDataset):
    """BMAD as distributed: a folder a set, with train/, valid/ and test/ inside."""

    card = Card(
        name="bmad",
        title="BMAD",
        kind="industrial",
        classes=("Brain", "Chest", "Histopathology", "Liver", "Retina_OCT2017", "Retina_RESC"),
        counts={},
        masks="optional",
        licence="CC BY-NC-SA 4.0 (no commercial use)",
        citation=(
            "J. Bao, H. Sun, H. Deng, Y. He, Z. Zhang, X. Li: BMAD: Benchmarks for Medical Anomaly Detection. CVPR "
            "Workshops 2024, pp. 4042-4053."
        ),
        source="Get it through the link at https://github.com/DorisBao/BMAD and unpack the archives into one folder.",
        notes=(
            "Brain, Liver and Retina_RESC have masks; the others have image scores alone.",
            "Normal validation images serve to set thresholds; anomalous ones are used by none.",
            "A root with only some of the classes is read as it is.",
        ),
    )
    aliases = ("bmad",)
    normals = ("good",)
    reader = _Reader
    complete = False
