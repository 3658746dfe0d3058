"""VAD: one piezo element on Valeo's production line, normal or anomalous, without masks (Baitieva et al., CVPR 2024).

    vad/train/{good,bad}/<stem>.png
    vad/test/{good,bad}/<stem>.png

It is for supervised methods, too; here no method is trained on anomalous images, so `train/bad` is left out.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from bench.api import Card, Split

from ._class_folder import ClassReader
from ._listing import pictures_below
from ._tree import TreeDataset


@dataclass(slots=True)
class _Reader(ClassReader):
    """Leaves the anomalous training images out, and says so."""

    def _anomalous(self, kind: Path, split: Split, normals: str) -> None:
        if count := len(list(pictures_below(kind))):
            self.notes.append(f"{count} anomalous images of train/{kind.name} are left out: no method trains on them")


class VAD(TreeDataset):
    """VAD as distributed: a folder `vad` with train/ and test/ inside."""

    card = Card(
        name="vad",
        title="VAD",
        kind="industrial",
        classes=("vad",),
        counts={},
        masks="none",
        licence="CC BY-NC-SA 4.0 (no commercial use)",
        citation=(
            "A. Baitieva, D. Hurych, V. Besnier, O. Bernard: Supervised Anomaly Detection for Complex Industrial "
            "Images. CVPR 2024, pp. 17754-17762."
        ),
        source="Get vad.zip through the link at https://github.com/abc-125/segad and unpack it.",
        notes=(
            "Image scores only: there are no masks.",
            "Its anomalous training images are for supervised methods and used by none here.",
        ),
    )
    aliases = ("vad",)
    reader = _Reader
