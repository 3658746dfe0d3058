"""Reader of one class in MVTec AD's layout, which goes on after each defect.

    train/good/<stem>.png
    validation/good/<stem>.png                        (MVTec LOCO; neither trained on nor tested)
    test/<good or defect type>/<stem>.png
    ground_truth/<defect type>/<stem>_mask.png        (or <stem>.png, or all files of the folder <stem>)

Images and masks are paired by stem, never by their position in two listings, which pairs wrongly once a file is missing
(MVTec AD, LOCO, MPDD, BTAD). Stems are compared in Unicode's composed form, since systems store accents in two ways.
Pictures that lie elsewhere in the class's folder, or are in formats that are not read, are told. Masks of normal images
(`ground_truth/good`) are not read: the folder of an image says that it is normal.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from bench.api import Finding, Sample, Split
from bench.names import composed

from ._base import lacking
from ._listing import NOT_TEXT, SUFFIXES, TWIN, Contents, contents, is_text, pictures_below, printable

SPLITS: Mapping[str, Split] = {"train": "train", "validation": "val", "test": "test"}
"""Folder of a class -> split."""
TRUTH = "ground_truth"

Masks = dict[str, list[Path]]
"""Stem, in Unicode's composed form -> mask files."""


@dataclass(slots=True)
class ClassReader:
    """Reads one class folder; `read` fills `samples`, `findings` and `normal_masks`."""

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
    """Of kind `layout`, `name`, `missing-mask`, `orphan-mask`, `duplicate-id`, `unreadable` and `unread`."""
    normal_masks: dict[str, tuple[Path, ...]] = field(default_factory=dict)
    """Sample id -> masks of a normal image."""
    notes: list[str] = field(default_factory=list)
    """What a reader of scores has to know of how the images were read, a sentence each."""
    _ids: dict[str, Path] = field(default_factory=dict)
    """Sample id -> its image."""
    _closed: bool = False
    """Whether a folder could not be looked into: what seems to be missing may lie in it."""

    def read(self) -> ClassReader:
        """Fill the lists from the files, and return self."""
        here = self._list(self.folder)
        if here.trouble:
            return self
        self._unread(here.images, f"in the class's folder itself. Expected train/{self.normals[0]} and the like")
        truths = self._truths(here)
        drawn: dict[str, tuple[Path, Masks]] | None = None
        if truths and self.masks != "none":
            drawn = {name: own for truth in truths for name, own in self._truth(self._list(truth)).items()}
        elif self.masks == "pixel":
            self._find("layout", self.folder / TRUTH, "no such folder. Expected the masks of the anomalous test images")
        tested: list[Path] = []
        for path in here.folders:
            split = self._split_of(path)
            if split is not None:
                kinds = self._read_split(path, split, drawn)
                tested += kinds if split == "test" else ()
            elif path not in truths:
                self._unread(pictures_below(path), f"in {path.name}/. Expected train/, test/ and {TRUTH}/ in a class")
        if drawn is not None and not self._closed:
            self._check_lost_masks(drawn, tested)
        if not self._closed:
            for (part, label), text in lacking(self.samples).items():
                self._find("layout", self.folder / part / ("" if label else self.normals[0]), text)
        self.samples.sort(key=lambda sample: sample.id)
        return self

    def _split_of(self, folder: Path) -> Split | None:
        return SPLITS.get(composed(folder.name))

    def _truths(self, here: Contents) -> list[Path]:
        """Return the folders of masks; `here` is the class's own folder."""
        return [path for path in here.folders if self._is_truth(path)]

    def _is_truth(self, folder: Path) -> bool:
        return composed(folder.name) == TRUTH

    def _read_own(self, home: Path, here: Contents, split: Split) -> tuple[Path, ...]:
        """Return the images directly in a split's folder that are not read: all of them."""
        return here.images

    def _truth(self, truth: Contents) -> dict[str, tuple[Path, Masks]]:
        """Return defect type -> its folder of masks and what lies there by stem."""
        self._unread(truth.images, f"in {TRUTH}/ itself. Expected {TRUTH}/<defect type>")
        drawn: dict[str, tuple[Path, Masks]] = {}
        for kind in truth.folders:
            found = self._list(kind)
            _, index = drawn.setdefault(composed(kind.name), (kind, Masks()))
            for path in found.images:
                index.setdefault(composed(path.stem), []).append(path)
            for inside in found.folders:
                own = self._list(inside)
                if own.images:
                    index.setdefault(composed(inside.name), []).extend(own.images)
                for deeper in own.folders:
                    self._unread(pictures_below(deeper), f"too deep for masks. Expected {TRUTH}/<defect type>/<image>")
        return drawn

    def _read_split(self, home: Path, split: Split, drawn: Mapping[str, tuple[Path, Masks]] | None) -> tuple[Path, ...]:
        """Read a split's folders of images, and return them."""
        here = self._list(home)
        normals = f"{home.name}/{self.normals[0]}"
        self._unread(self._read_own(home, here, split), f"in {home.name}/ itself. Expected {normals} and the like")
        seen: set[str] = set()
        kinds = self._kinds(here)
        for kind in kinds:
            normal = kind.name.lower() in self.normals
            if not is_text(kind.name) or composed(kind.name) in seen:
                self._find("name", kind, TWIN if is_text(kind.name) else NOT_TEXT)
                continue
            seen.add(composed(kind.name))
            if split != "test" and not normal:
                self._anomalous(kind, split, normals)
            else:
                self._read_kind(kind, split, f"{split}/{composed(kind.name)}", normal, drawn)
        return kinds

    def _kinds(self, here: Contents) -> tuple[Path, ...]:
        """Return the folders of images in a split's folder: all that are there."""
        return here.folders

    def _anomalous(self, kind: Path, split: Split, normals: str) -> None:
        """Tell a folder of images that are not normal outside of the test split."""
        if split == "val":
            where = f"in {kind.parent.name}/{kind.name}"
            self._unread(pictures_below(kind), f"{where}. Expected only normal ones, in {normals}")
        elif pictures_below(kind):
            self._find("layout", kind, f"images to train on. Expected only normal ones, in {normals}")

    def _read_kind(
        self, kind: Path, split: Split, place: str, normal: bool, drawn: Mapping[str, tuple[Path, Masks]] | None
    ) -> None:
        """Make the samples of one folder of images; `place` stands between class and stem in their ids."""
        here = self._list(kind)
        for inside in here.folders:
            where = kind.relative_to(self.folder).as_posix()
            self._unread(pictures_below(inside), f"in a folder inside of {where}/. Expected them in that itself")
        self._take(here.images, kind, split, place, normal, drawn)

    def _take(
        self,
        images: Iterable[Path],
        kind: Path,
        split: Split,
        place: str,
        normal: bool,
        drawn: Mapping[str, tuple[Path, Masks]] | None,
    ) -> None:
        """Make the samples of some images, with the masks that they claim."""
        name = composed(kind.name)
        truth, masks = (drawn or {}).get(name, (self.folder / TRUTH / kind.name, Masks()))
        added: dict[str, Sample] = {}
        for path in images:
            if not is_text(path.name):
                self._find("name", path, NOT_TEXT)
                continue
            stem = composed(path.stem)
            one = f"{self.cls}/{place}/{stem}"
            if twin := self._ids.get(one):
                how = "its extension" if twin.stem == path.stem else "its Unicode form"
                self._find("duplicate-id", path, f"differs from {twin.name} only in {how}. Expected one image a name")
                continue
            self._ids[one] = path
            own = masks.pop(f"{stem}_mask", []) or masks.pop(stem, [])
            if normal and own:
                self.normal_masks[one] = tuple(own)
            added[one] = Sample(
                id=one,
                cls=self.cls,
                split=split,
                label=int(not normal),
                defect="good" if normal else name,
                image=path,
                masks=() if normal else tuple(own),
                family="" if normal else self.families.get(name, ""),
            )
        self.samples += added.values()
        if drawn is not None and not normal and not self._closed:
            self._check_pairs(added.values(), kind, truth, masks)

    def _check_pairs(self, added: Iterable[Sample], kind: Path, truth: Path, unclaimed: Masks) -> None:
        for sample in added:
            if not sample.masks:
                expected = _mask_for(sample.image.stem, truth)
                self._find("missing-mask", sample.image, f"anomalous, but without a mask. Expected {expected}")
        for stem, paths in unclaimed.items():
            image = kind / f"{stem.removesuffix('_mask')}.*"
            for path in paths:
                self._find("orphan-mask", path, f"mask without an image. Expected {printable(image)}")

    def _check_lost_masks(self, drawn: Mapping[str, tuple[Path, Masks]], tested: Sequence[Path]) -> None:
        names = {composed(path.name) for path in tested}
        for name, (kind, index) in drawn.items():
            if index and name not in names and name.lower() not in self.normals:
                images = (tested[0].parent if tested else self.folder / "test") / kind.name
                self._find("orphan-mask", kind, f"masks without images. Expected the images in {printable(images)}")

    def _list(self, folder: Path) -> Contents:
        """List a folder of the class, and tell what of it is not read."""
        found = contents(folder)
        if found.trouble:
            self._closed = True
            self._find("unreadable", folder, f"cannot be looked into ({found.trouble}). Expected a readable folder")
        self._unread(
            found.strange, f"in a format that bench does not know. Expected {', '.join(sorted(SUFFIXES))}; convert them"
        )
        return found

    def _unread(self, pictures: Iterable[Path], why: str) -> None:
        """Tell pictures that lie where none is read, or in a format that is not."""
        paths = list(pictures)
        if paths:
            count = "a picture that is" if len(paths) == 1 else f"the first of {len(paths)} pictures that are"
            text = f"{printable(paths[0])}: {count} not read, {why}"
            self.findings.append(Finding(self.cls, "unread", self._where(paths[0]), text, stops=False))

    def _find(self, kind: str, path: Path, text: str) -> None:
        self.findings.append(Finding(self.cls, kind, self._where(path), f"{printable(path)}: {text}"))

    def _where(self, path: Path) -> str:
        return printable(path.relative_to(self.root))


def _mask_for(stem: str, folder: Path) -> Path:
    """Return where an image's mask would be, going by the other masks of the folder."""
    here = contents(folder)
    if here.folders:
        named = (path.name for inside in here.folders for path in contents(inside).images)
        return folder / stem / next(named, "000.png")
    other = next(iter(here.images), Path("_mask.png"))
    return folder / f"{stem}{'_mask' if other.stem.endswith('_mask') else ''}{other.suffix}"
