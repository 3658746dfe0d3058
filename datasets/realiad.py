"""Real-IAD: thirty products, each object seen by five cameras (Wang et al., CVPR 2024).

    realiad_1024/<class>/{OK|NG/<defect>}/S<object>/<class>_..._C<view>_....jpg     (and .png: the view's mask)
    realiad_jsons/realiad_jsons/<class>.json                        (or both of them directly beside the class folders)

`realiad_1024` (which the papers read), `_512`, `_256` and `_raw` hold the same pictures at other sizes; which of them
is found first, in this order, is read, so name the folder itself to choose another. The split is the multi-view one of
`realiad_jsons`; those beside it, single-view (`_sv`) and noisy (`_fuiad_*`), are datasets of their own in
`realiad_splits`.

Every view is an image of its own, labelled by its own entry: one view of a defective object on which the defect cannot
be seen is marked OK and counts as normal, although it lies under NG. `Sample.unit` names the object.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import ClassVar

from bench.api import Card, Counts, Finding, Sample

from ._base import FileDataset
from ._listed import ListedImage, ListReader
from ._listing import is_folder, subfolders, trouble_of
from ._split_json import SplitFiles

_CLASSES = (
    *("audiojack", "bottle_cap", "button_battery", "end_cap", "eraser", "fire_hood", "mint", "mounts", "pcb"),
    *("phone_battery", "plastic_nut", "plastic_plug", "porcelain_doll", "regulator", "rolled_strip_base"),
    *("sim_card_set", "switch", "tape", "terminalblock", "toothbrush", "toy", "toy_brick", "transistor1", "u_block"),
    *("usb", "usb_adaptor", "vcpill", "wooden_beads", "woodstick", "zipper"),
)


class RealIAD(FileDataset):
    """Real-IAD as distributed; the root is the folder with the class folders (`realiad_1024`)."""

    card = Card(
        name="realiad",
        title="Real-IAD",
        kind="industrial",
        classes=_CLASSES,
        counts={},
        totals=Counts(36465, 63256, 51329),
        masks="pixel",
        licence="CC BY-NC-SA 4.0 (no commercial use)",
        citation=(
            "C. Wang, W. Zhu, B.-B. Gao, Z. Gan, J. Zhang, Z. Gu, S. Qian, M. Chen, L. Ma: Real-IAD: A Real-World "
            "Multi-View Dataset for Benchmarking Versatile Industrial Anomaly Detection. CVPR 2024, pp. 22883-22892."
        ),
        source=(
            "Ask for it at https://realiad4ad.github.io/Real-IAD/ and unpack realiad_1024 (or _512, _256, _raw) and "
            "realiad_jsons into one folder."
        ),
        notes=(
            "Counts are over all classes, all five views counted; its owners state none by class.",
            "A view is labelled by its own entry: views of a defective object that do not show the defect are normal.",
            "Of several sizes side by side 1024 is read; name the folder itself to read another.",
            "A root with only some of the classes is read as it is.",
        ),
    )
    files: ClassVar[SplitFiles] = SplitFiles()
    """Its split files."""
    aliases: ClassVar[tuple[str, ...]] = (
        *("real-iad", "real_iad", "realiad"),
        *("realiad_1024", "realiad_512", "realiad_256", "realiad_raw"),
    )

    @classmethod
    def class_folders(cls, root: Path) -> Iterator[Path]:
        """Yield the class folders; MVTec AD has two of the same names, but no OK or NG in them."""
        names = cls.card.classes or sorted(path.name for path in subfolders(root))
        for folder in (root / name for name in names):
            if is_folder(folder / "OK") or is_folder(folder / "NG"):
                yield folder

    @classmethod
    def is_at(cls, folder: Path) -> bool:
        """Whether the folder holds class folders."""
        return any(cls.class_folders(folder))

    @classmethod
    def layout(cls) -> str:
        """Return in words which files are expected."""
        return (
            f"realiad_1024/<class>/OK and NG (audiojack, bottle_cap, ...) beside {cls.files.archive}/{cls.files.lists}"
        )

    def inspect(self) -> tuple[tuple[Sample, ...], tuple[Finding, ...]]:
        """Return what can be read and all that is wrong with the files; never raises over their content."""
        samples: list[Sample] = []
        findings: list[Finding] = []
        if shut := next(self.files.shut(self.root), None):
            return (), (shut,)
        for name in self.card.classes:
            folder = self.root / name
            if is_folder(folder) and (trouble := trouble_of(folder)):
                text = f"{folder}: cannot be looked into ({trouble}). Expected a readable folder"
                findings.append(Finding(name, "unreadable", name, text))
        for folder in self.class_folders(self.root):
            cls = folder.name
            entries = []
            for entry in self.files.entries(self.root, cls):
                if isinstance(entry, ListedImage):
                    entries.append(entry)
                else:
                    findings.append(entry)
            one = ListReader(cls, folder, self.card.masks, noisy=self.noisy).read(entries)
            samples += one.samples
            findings += one.findings
            if one.absent and entries:
                text = f"{folder}: no image that its split file names is here. Expected OK/ and NG/ as distributed"
                findings.append(Finding(cls, "layout", cls, text))
        if not samples and not findings:
            findings.append(Finding("", "layout", ".", f"no class found. Expected {self.layout()}"))
        return tuple(samples), tuple(findings)
