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

import os
from collections.abc import Iterator
from pathlib import Path, PurePosixPath
from typing import ClassVar, Literal

from pydantic import BaseModel, ConfigDict, ValidationError

from bench import regular
from bench.api import Card, Counts, Finding, Sample
from bench.errors import DatasetError

from ._base import FileDataset
from ._listed import ListedImage, ListReader
from ._listing import is_file, is_folder, trouble_of

_CLASSES = (
    *("audiojack", "bottle_cap", "button_battery", "end_cap", "eraser", "fire_hood", "mint", "mounts", "pcb"),
    *("phone_battery", "plastic_nut", "plastic_plug", "porcelain_doll", "regulator", "rolled_strip_base"),
    *("sim_card_set", "switch", "tape", "terminalblock", "toothbrush", "toy", "toy_brick", "transistor1", "u_block"),
    *("usb", "usb_adaptor", "vcpill", "wooden_beads", "woodstick", "zipper"),
)
_NORMAL: Literal["OK"] = "OK"
_MOST_BYTES = 64 << 20
"""A split file has 2 MB."""
_JSONS = "realiad_jsons"
"""Folder around the folders of split files."""


class _Image(BaseModel):
    """One view, as the split file describes it."""

    model_config = ConfigDict(frozen=True)

    category: str
    anomaly_class: str
    image_path: str
    mask_path: str | None = None


class _Meta(BaseModel):
    model_config = ConfigDict(frozen=True)

    normal_class: Literal["OK"] = _NORMAL


class _Split(BaseModel):
    """A class's split file; keys that are not needed here are ignored."""

    model_config = ConfigDict(frozen=True)

    meta: _Meta
    train: list[_Image]
    test: list[_Image]


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
    lists: ClassVar[str] = "realiad_jsons"
    """Folder of the split files that are read."""
    aliases = (
        *("real-iad", "real_iad", "realiad"),
        *("realiad_1024", "realiad_512", "realiad_256", "realiad_raw"),
    )

    @classmethod
    def is_at(cls, folder: Path) -> bool:
        """Whether the folder holds class folders."""
        return any(_folders(folder))

    @classmethod
    def layout(cls) -> str:
        """Return in words which files are expected."""
        return f"realiad_1024/<class>/OK and NG (audiojack, bottle_cap, ...) beside {_JSONS}/{cls.lists}"

    def inspect(self) -> tuple[tuple[Sample, ...], tuple[Finding, ...]]:
        """Return what can be read and all that is wrong with the files; never raises over their content."""
        samples: list[Sample] = []
        findings: list[Finding] = []
        if shut := next(_shut(self.root, self.lists), None):
            return (), (shut,)
        for name in _CLASSES:
            folder = self.root / name
            if is_folder(folder) and (trouble := trouble_of(folder)):
                text = f"{folder}: cannot be looked into ({trouble}). Expected a readable folder"
                findings.append(Finding(name, "unreadable", name, text))
        for folder in _folders(self.root):
            cls = folder.name
            entries = []
            for entry in _entries(self.root, cls, self.lists):
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


def _entries(root: Path, cls: str, lists: str) -> Iterator[ListedImage | Finding]:
    """Yield what a class's split file says of each image, or why that cannot be used."""
    try:
        path = _split_file(root, cls, lists)
        # relative, since messages and findings name files as seen from the root
        source = os.path.relpath(path, root)
        split = _read(path, source)
    except DatasetError as error:
        yield Finding(cls, "layout", cls, str(error))
        return
    parts: tuple[tuple[Literal["train", "test"], list[_Image]], ...] = (("train", split.train), ("test", split.test))
    for part, images in parts:
        for index, image in enumerate(images):
            where = f"{source} {part}[{index}]"
            try:
                yield _entry(cls, part, image, where)
            except DatasetError as error:
                yield Finding(cls, "layout", where, f"{where}: {error}")


def _read(path: Path, source: str) -> _Split:
    try:
        return _Split.model_validate_json(regular.read_bytes(path, _MOST_BYTES))
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False)[0]
        place = ".".join(map(str, first["loc"])) or "the file"
        raise DatasetError(
            f"{source}: {place}: {first['msg']}. Expected Real-IAD's JSON: meta, and train and test with category, "
            "anomaly_class, image_path and mask_path"
        ) from None
    except (OSError, ValueError) as error:
        why = error.strerror if isinstance(error, OSError) else error
        raise DatasetError(f"{source}: cannot be read ({why}). Expected Real-IAD's JSON") from error


def _entry(cls: str, part: Literal["train", "test"], image: _Image, where: str) -> ListedImage:
    if image.category != cls:
        raise DatasetError(f"category {image.category!a}. Expected {cls}, the file's own class")
    if image.anomaly_class in ("", "good") or not image.anomaly_class.isprintable():
        raise DatasetError(f"anomaly_class {image.anomaly_class!a}. Expected {_NORMAL} or a defect's name")
    if len(PurePosixPath(image.image_path).parts) < 2:
        raise DatasetError(
            f"image_path {image.image_path!a} names no object's folder. Expected OK/S0001/..., since the "
            "views of an object share a folder"
        )
    defect = "good" if image.anomaly_class == _NORMAL else image.anomaly_class
    unit = f"{cls}/{PurePosixPath(image.image_path).parent}"
    return ListedImage(where, part, defect, image.image_path, image.mask_path or "", unit)


def _folders(root: Path) -> Iterator[Path]:
    """Yield the class folders; MVTec AD has classes of the same names (toothbrush, zipper), but no OK or NG in them."""
    for name in _CLASSES:
        folder = root / name
        if is_folder(folder / "OK") or is_folder(folder / "NG"):
            yield folder


def _places(lists: str) -> tuple[str, ...]:
    """Return where a class's split file may lie, from the class folders or from the folder around them."""
    # directly beside the class folders only the usual ones are looked for: nothing there says which they are
    return (f"{_JSONS}/{lists}", lists, *((".",) if lists == _JSONS else ()))


def _shut(root: Path, lists: str) -> Iterator[Finding]:
    """Yield the folders of split files that cannot be looked into: without them no class can be read."""
    for place in (root.absolute().parent, root):
        for inside in (one for one in _places(lists) if one != "."):
            folder = place / inside
            if is_folder(folder) and (trouble := trouble_of(folder)):
                text = f"{folder}: cannot be looked into ({trouble}). Expected a readable folder"
                yield Finding("", "unreadable", os.path.relpath(folder, root), text)


def _split_file(root: Path, cls: str, lists: str) -> Path:
    home = root.absolute()
    for place in (home.parent, home):
        for inside in _places(lists):
            path = place / inside / f"{cls}.json"
            if is_file(path):
                return path
    expected = home.parent / _places(lists)[0] / f"{cls}.json"
    raise DatasetError(f"no split file {cls}.json. Expected {expected}, from {_JSONS}")
