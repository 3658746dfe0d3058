"""Reader of classes whose images and masks are named by a split file (VisA's CSV, Real-IAD's JSON).

What a split file says is input from outside: a name that leads out of the class's folder, by `..` or as an absolute
path, is refused, and so is a file that is named twice. A link below the folder may lead anywhere: archives are unpacked
without links, so it is its owner who made it. A pair is what one entry names; no order matters. Names are looked for in
both of Unicode's forms, since systems store accents in two ways.
"""

from __future__ import annotations

import stat
from collections.abc import Callable, Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import Literal

from bench.api import Finding, Sample
from bench.errors import DatasetError
from bench.names import composed

from ._base import lacking
from ._held import ALONE, hold, told
from ._listing import SUFFIXES, contents, trouble_of


@dataclass(frozen=True, slots=True)
class ListedImage:
    """What a split file says of one image."""

    where: str
    """File and line (or place) of the entry, for messages."""
    split: Literal["train", "val", "test", ""]
    """Empty for a normal image of which it is not stated: a share of them is held for testing."""
    defect: str
    """`good` for a normal image."""
    image: str
    """Path relative to the reader's folder, with `/`."""
    mask: str = ""
    """Likewise; empty where there is none. That of a normal image is read by no run."""
    unit: str = ""
    """As `Sample.unit`."""
    name: str = ""
    """What follows class and split in the image's id; its path without the extension where empty."""


class _AbsentError(DatasetError):
    """A named file is not there; whether that is a defect depends on the class's other files."""


class _ShutError(DatasetError):
    """A folder on the way to a named file may not be looked into; told once, however many files lie in it."""

    def __init__(self, folder: Path) -> None:
        super().__init__(f"{folder}: cannot be looked into ({trouble_of(folder)}). Expected a readable folder")
        self.folder = folder


@dataclass(slots=True)
class ListReader:
    """Reads the entries of one class, going on after each defect; `read` fills `samples` and `findings`."""

    cls: str
    folder: Path
    """What the entries' paths are relative to, and what none of them may name its way out of."""
    masks: Literal["pixel", "none", "optional"]
    """`pixel`: anomalous images must have a mask. `optional`: only where some image of the class has one.
    `none`: masks are not looked at."""
    taken: dict[Path, str] = field(default_factory=dict)
    """Every file named so far, and where; given to the next class's reader, files shared between classes show."""
    noisy: bool = False
    """Whether anomalous images may be trained on, as the dataset's owners mean it."""
    samples: list[Sample] = field(default_factory=list)
    """Ordered by id. An anomalous image without its mask is here, too, besides its finding."""
    findings: list[Finding] = field(default_factory=list)
    """Of kind `layout`, `missing-mask`, `duplicate-id` and `unreadable`."""
    absent: bool = False
    """Whether none of the images is there: the class is not at hand, which may be meant."""
    normal_masks: dict[str, tuple[Path, ...]] = field(default_factory=dict)
    """Sample id -> mask that is named for a normal image, whether it is there or not."""
    notes: list[str] = field(default_factory=list)
    """What a reader of scores has to know of how the images were read, a sentence each."""
    below: Callable[[], Mapping[str, Path | None]] = dict
    """Returns bare file name -> the one file of that name in any folder, None where there are several; asked where a
    file is not where it is named."""
    _unsplit: set[str] = field(default_factory=set)
    """Ids of the normal images of which no split is stated."""
    _shut: bool = False
    """Whether a folder may not be looked into: what seems to be missing may lie in it."""
    _spelt: dict[Path, dict[str, Path]] = field(default_factory=dict)
    """Folder in which a name was not found as it is written -> composed form of its names -> what lies there."""

    def read(self, entries: Iterable[ListedImage]) -> ListReader:
        """Fill `samples`, `findings` and `absent`, and return self."""
        listed = list(entries)
        needed = self.masks == "pixel" or (
            self.masks == "optional" and any(entry.mask for entry in listed if entry.defect != "good")
        )
        missing: list[Finding] = []
        ids: dict[str, str] = {}
        for entry in listed:
            try:
                sample = self._sample(entry)
            except _AbsentError as error:
                missing.append(self._finding("layout", entry, str(error)))
                continue
            except _ShutError as error:
                self._tell_shut(error)
                continue
            except DatasetError as error:
                self.findings.append(self._finding("layout", entry, str(error)))
                continue
            if first := self.taken.get(sample.image):
                self._find("duplicate-id", entry, f"'{entry.image}' was named in {first} already. Expected it once")
                continue
            self.taken[sample.image] = entry.where
            if first := ids.get(sample.id):
                text = f"'{entry.image}' differs only in its extension from the image in {first}. Expected one a name"
                self._find("duplicate-id", entry, text)
                continue
            ids[sample.id] = entry.where
            self.samples.append(
                self._with_mask(sample, entry) if needed and sample.label and sample.split != "train" else sample
            )
            if entry.mask and not sample.label:
                with suppress(DatasetError):
                    self.normal_masks[sample.id] = (self.folder / checked_path(entry.mask, "mask"),)
        self.absent = not self.samples and not self.findings
        if not self.absent:
            self.findings += missing
            unsplit = [sample for sample in self.samples if sample.id in self._unsplit]
            if len(unsplit) > 1:
                held = hold(unsplit)
                self.notes.append(told(held))
                self.samples = [*held, *(sample for sample in self.samples if sample.id not in self._unsplit)]
                if not any(sample.label for sample in self.samples):
                    self.notes.append(ALONE)
            for (_, label), text in lacking(self.samples).items():
                # normal images alone are no defect where nobody said what they are for
                if not self._shut and not (label and unsplit):
                    self.findings.append(Finding(self.cls, "layout", self.cls, f"class '{self.cls}': {text}"))
        self.samples.sort(key=lambda sample: sample.id)
        return self

    def _sample(self, entry: ListedImage) -> Sample:
        label = int(entry.defect != "good")
        if entry.split == "train" and label and not self.noisy:
            raise DatasetError(f"'{entry.image}' is anomalous, yet to be trained on. Expected only normal images there")
        image = self._file(entry.image, "image")
        parts = PurePosixPath(composed(entry.image)).with_suffix("").parts
        name = entry.name or "/".join(parts[1:] if parts[0] == self.cls and len(parts) > 1 else parts)
        stated = f"{entry.split}/" if entry.split else ""
        one = f"{self.cls}/{stated}{name}"
        if not entry.split:
            self._unsplit.add(one)
        return Sample(one, self.cls, entry.split or "train", label, entry.defect, image, unit=entry.unit)

    def _with_mask(self, sample: Sample, entry: ListedImage) -> Sample:
        if not entry.mask:
            self._find("missing-mask", entry, f"{sample.image} is anomalous, but no mask is named. Expected one")
            return sample
        try:
            mask = self._file(entry.mask, "mask")
        except _AbsentError as error:
            self._find("missing-mask", entry, f"{sample.image} is anomalous, but {error}")
            return sample
        except _ShutError as error:
            self._tell_shut(error)
            return sample
        except DatasetError as error:
            self._find("layout", entry, str(error))
            return sample
        if first := self.taken.get(mask):
            self._find("duplicate-id", entry, f"mask '{entry.mask}' was named in {first} already. Expected it once")
            return sample
        self.taken[mask] = entry.where
        return Sample(
            sample.id, self.cls, sample.split, 1, sample.defect, sample.image, masks=(mask,), unit=sample.unit
        )

    def _file(self, name: str, what: str) -> Path:
        """Return the file that an entry names.

        Raises:
            _AbsentError: it is not there.
            _ShutError: a folder above it may not be looked into.
            DatasetError: it may not be read: outside the folder, no image file, or no name at all.
        """
        path = self.folder / checked_path(name, what)
        if path.suffix.lower() not in SUFFIXES:
            raise DatasetError(f"{what} '{name}' is no image. Expected a name in {', '.join(sorted(SUFFIXES))}")
        try:
            mode = path.stat().st_mode
        except (FileNotFoundError, NotADirectoryError):
            other = self._as_spelt(path) or self._below(name, what)
            if other is None:
                raise _AbsentError(f"{what} {path} is not there") from None
            path, mode = other, other.stat().st_mode
        except PermissionError as error:
            above = [folder for folder in path.parents if folder.is_relative_to(self.folder)]
            raise _ShutError(next(filter(trouble_of, reversed(above)), path.parent)) from error
        except OSError as error:
            raise DatasetError(f"{what} '{name}' cannot be read: {error.strerror}") from error
        if not stat.S_ISREG(mode):
            raise DatasetError(f"{what} '{name}' is no file. Expected an image file")
        return path

    def _below(self, name: str, what: str) -> Path | None:
        """Return the file in some folder that a bare name stands for; None where there is none."""
        below = self.below()
        if composed(name) not in below:
            return None
        found = below[composed(name)]
        if found is None:
            raise DatasetError(
                f"{what} '{name}' is in several folders below {self.folder}. Expected its path from there"
            )
        return found

    def _as_spelt(self, path: Path) -> Path | None:
        """Return the file whose name differs only in Unicode's form, in any part of the path; None where none does."""
        if str(path).isascii():
            return None
        found = self.folder
        for part in path.relative_to(self.folder).parts:
            if found not in self._spelt:
                here = contents(found)
                self._spelt[found] = {composed(one.name): one for one in (*here.folders, *here.images)}
            inside = self._spelt[found].get(composed(part))
            if inside is None:
                return None
            found = inside
        return found if found.exists() else None

    def _tell_shut(self, error: _ShutError) -> None:
        self._shut = True
        if error.folder not in self.taken:
            self.taken[error.folder] = str(error)
            where = error.folder.relative_to(self.folder).as_posix()
            self.findings.append(Finding(self.cls, "unreadable", where, str(error)))

    def _find(self, kind: str, entry: ListedImage, text: str) -> None:
        self.findings.append(self._finding(kind, entry, text))

    def _finding(self, kind: str, entry: ListedImage, text: str) -> Finding:
        return Finding(self.cls, kind, entry.where, f"{entry.where}: {text}")


def checked_path(name: str, what: str) -> PurePosixPath:
    """Return a path that a split file names.

    Raises:
        DatasetError: it is empty, not printable, absolute, or has a `..` or a backslash in it.
    """
    path = PurePosixPath(name)
    if not path.parts or not name.isprintable() or "\\" in name:
        raise DatasetError(f"{what} {name!a} is no usable path. Expected folders and a file name, parted by '/'")
    if ".." in path.parts or path.is_absolute() or name[1:2] == ":":
        raise DatasetError(f"{what} '{name}' points outside its folder. Expected a path below it")
    return path


def checked_class(name: str) -> str:
    """Return a class name that a split file gives.

    Raises:
        DatasetError: it is empty, hidden, not printable, or looks like a path.
    """
    if not name or not name.isprintable() or name.startswith(".") or "/" in name or "\\" in name:
        raise DatasetError(f"{name!a} is no usable class name. Expected a word, without '/'")
    return name
