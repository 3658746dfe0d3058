"""View: 17,034 photographs of six kinds of landscape, 150 x 150 pixels, image-level only (Intel, 2018).

Known as Intel Image Classification on Kaggle, where the archive puts each folder into another one of its name:
seg_train/seg_train/<class>/*.jpg. A tree without the doubled folders is read as well. seg_pred is not labelled and not
read. Copies with fewer images are read, too; `bench data verify` says how many are missing.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Literal

from bench.api import Card, Counts, Finding, Sample
from bench.names import composed

from ._base import FileDataset
from ._listing import NOT_TEXT, contents, is_folder, is_text, pictures_below, printable, trouble_of
from ._semantic import half_splits

_COUNTS = {
    "buildings": Counts(2191, 437, 0),
    "forest": Counts(2271, 474, 0),
    "glacier": Counts(2404, 553, 0),
    "mountain": Counts(2512, 525, 0),
    "sea": Counts(2274, 510, 0),
    "street": Counts(2382, 501, 0),
}

_FOLDERS: dict[Literal["train", "test"], str] = {"test": "seg_test", "train": "seg_train"}


class View(FileDataset):
    """Intel's natural scenes as distributed on Kaggle."""

    card = Card(
        name="view",
        title="View (Intel natural scenes)",
        kind="semantic",
        classes=tuple(_COUNTS),
        counts=_COUNTS,
        masks="none",
        licence="none stated (data of a public challenge); research use only",
        citation="Intel: Scene Classification Challenge, 2018; P. Bansal: Intel Image Classification, Kaggle.",
        source=(
            "Get it from https://www.kaggle.com/datasets/puneet6060/intel-image-classification (with an account, "
            "346 MB) and unpack the archive."
        ),
        notes=(
            "14,034 training and 3,000 test images, nearly all 150 x 150 pixels; no masks, image-level scores only.",
            "Splits A to D: train on three classes' training images, test on all 3,000 test images.",
        ),
        splits=half_splits(tuple(_COUNTS)),
    )
    aliases = ("view", "intel_view", "intel-image-classification", "archive")

    @classmethod
    def is_at(cls, folder: Path) -> bool:
        """Return whether one of the two trees is there."""
        return any(is_folder(folder / name) for name in _FOLDERS.values())

    @classmethod
    def layout(cls) -> str:
        """See `FileDataset.layout`."""
        return "seg_train/seg_train/<class> and seg_test/seg_test/<class>, with the classes buildings, forest, ..."

    def inspect(self) -> tuple[tuple[Sample, ...], tuple[Finding, ...]]:
        """See `FileDataset.inspect`."""
        samples: list[Sample] = []
        findings: list[Finding] = []
        shut: set[str] = set()
        for cls in self.card.classes:
            for split, name in _FOLDERS.items():
                outer = self.root / name
                inner = outer / name if is_folder(outer / name) else outer
                if is_folder(inner) and (trouble := trouble_of(inner)):
                    if name not in shut:
                        text = f"{inner}: cannot be looked into ({trouble}). Expected a readable folder"
                        findings.append(Finding("", "unreadable", inner.relative_to(self.root).as_posix(), text))
                    shut.add(name)
                    continue
                found = [*self._read(inner / cls, cls, split)]
                samples += (item for item in found if isinstance(item, Sample))
                findings += (item for item in found if isinstance(item, Finding))
        return tuple(samples), tuple(findings)

    def _read(self, folder: Path, cls: str, split: Literal["train", "test"]) -> Iterator[Sample | Finding]:
        where = folder.relative_to(self.root).as_posix()
        names: dict[str, Path] = {}
        here = contents(folder)
        if here.trouble:
            text = f"{folder}: cannot be looked into ({here.trouble}). Expected the {split} images of '{cls}'"
            yield Finding(cls, "unreadable", where, text)
            return
        for path in here.images:
            stem = composed(path.stem)
            if not is_text(path.name):
                text = f"{printable(path)}: {NOT_TEXT}"
                yield Finding(cls, "name", printable(path.relative_to(self.root)), text)
            elif stem in names:
                how = "its extension" if names[stem].stem == path.stem else "its Unicode form"
                text = f"{path}: differs from {names[stem].name} only in {how}. Expected one image a name"
                yield Finding(cls, "duplicate-id", f"{where}/{path.name}", text)
            else:
                names[stem] = path
        for lost in (here.strange, *map(pictures_below, here.folders)):
            if lost:
                text = f"{printable(lost[0])}: one of {len(lost)} not read. Expected JPEG images in {where} itself"
                yield Finding(cls, "unread", printable(lost[0].relative_to(self.root)), text, stops=False)
        if not names:
            yield Finding(cls, "layout", where, f"{folder}: no image. Expected the {split} images of '{cls}'")
        for stem, path in sorted(names.items()):
            yield Sample(f"{cls}/{split}/{stem}", cls, split, 0, "good", path)
