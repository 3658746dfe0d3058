"""VisA: twelve products, from printed circuit boards to cashews, with pixel masks (Zou et al., ECCV 2022).

Two layouts are read. The official one: `<class>/Data/Images/{Normal,Anomaly}/*.JPG` and
`<class>/Data/Masks/Anomaly/*.png`, split by `split_csv/1cls.csv`. And what the authors' preparation script makes of it,
which most code bases read: `VisA_pytorch/1cls/<class>/{train/good,test/{good,bad},ground_truth/bad}`. An image has the
same id in both.

Official masks hold class indices 1..9 and look black; every non-zero value counts, before any resize (a resize of the
indices themselves gives other masks, or empty ones).
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from bench.api import Card, Counts, Download, Finding, Sample

from ._listing import is_folder, subfolders
from ._split_csv import SPLIT_FILE, CsvDataset, is_listed

_COUNTS = {
    "pcb1": Counts(904, 100, 100),
    "pcb2": Counts(901, 100, 100),
    "pcb3": Counts(905, 101, 100),
    "pcb4": Counts(904, 101, 100),
    "macaroni1": Counts(900, 100, 100),
    "macaroni2": Counts(900, 100, 100),
    "capsules": Counts(542, 60, 100),
    "candle": Counts(900, 100, 100),
    "cashew": Counts(450, 50, 100),
    "chewinggum": Counts(453, 50, 100),
    "fryum": Counts(450, 50, 100),
    "pipe_fryum": Counts(450, 50, 100),
}
"""In the order of the papers' tables."""

_WORDS = {"good": "normal", "Data/Images/Normal": "normal", "bad": "anomaly", "Data/Images/Anomaly": "anomaly"}
"""Folders of either layout -> the official word for what they hold."""


class VisA(CsvDataset):
    """VisA as distributed, or as re-packed by the authors' script; the one-class split."""

    card = Card(
        name="visa",
        title="VisA",
        kind="industrial",
        classes=tuple(_COUNTS),
        counts=_COUNTS,
        masks="pixel",
        licence="CC BY 4.0",
        citation=(
            "Y. Zou, J. Jeong, L. Pemula, D. Zhang, O. Dabeer: SPot-the-Difference Self-Supervised Pre-training for "
            "Anomaly Detection and Segmentation. ECCV 2022."
        ),
        source=(
            "Get VisA_20220922.tar through the link at https://github.com/amazon-science/spot-diff and unpack it; "
            "split_csv/ lies beside the class folders. The re-packed VisA_pytorch/1cls is read as well."
        ),
        notes=(
            "8,659 training images; 962 normal and 1,200 anomalous test images (split_csv/1cls.csv).",
            "Masks hold class indices 1 to 9, which look black; every non-zero value counts.",
            "A root with only some of the classes is read as it is.",
        ),
        downloads=(
            Download(
                "https://amazon-visual-anomaly.s3.us-west-2.amazonaws.com/VisA_20220922.tar",
                sha256="2eb8690c803ab37de0324772964100169ec8ba1fa3f7e94291c9ca673f40f362",
                bytes=1_929_840_640,
                unpack="tar",
                folder="visa",
            ),
        ),
    )
    aliases = ("visa", "visa_20220922", "visa_pytorch", "1cls")
    complete = False

    @classmethod
    def is_at(cls, folder: Path) -> bool:
        """Whether the folder holds the split file, or classes in either layout."""
        return super().is_at(folder) or bool(_official(folder, cls.card.classes))

    @classmethod
    def layout(cls) -> str:
        """Return in words which files are expected."""
        return f"{SPLIT_FILE} and class folders (pcb1, pcb2, pcb3, ...) with Data/Images and Data/Masks inside"

    def inspect(self) -> tuple[tuple[Sample, ...], tuple[Finding, ...]]:
        """Return what can be read and all that is wrong with the files; never raises over their content."""
        if not is_listed(self.root) and (found := _official(self.root, self.card.classes)):
            text = f"no {SPLIT_FILE} beside the class folders {', '.join(found)}. Expected it, as distributed"
            return (), (Finding("", "layout", SPLIT_FILE.as_posix(), text),)
        samples, findings = super().inspect()
        return tuple(_named_alike(sample) for sample in samples), findings


def _official(folder: Path, classes: tuple[str, ...]) -> list[str]:
    return [path.name for path in subfolders(folder) if path.name in classes and is_folder(path / "Data")]


def _named_alike(sample: Sample) -> Sample:
    """Give an image the id and the defect that it has in the other layout, too."""
    cls, split, rest = sample.id.split("/", 2)
    folder, _, stem = rest.rpartition("/")
    words = [cls, split, _WORDS.get(folder, folder), stem]
    return replace(sample, id="/".join(filter(None, words)), defect="anomaly" if sample.label else "good")
