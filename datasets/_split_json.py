"""Split files of Real-IAD and its successor: a JSON a class that names the views to train on and to test."""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Literal

from pydantic import BaseModel, ConfigDict, ValidationError

from bench import regular
from bench.api import Finding
from bench.errors import DatasetError

from ._listed import ListedImage
from ._listing import is_file, is_folder, trouble_of

_NORMAL: Literal["OK"] = "OK"
_MOST_BYTES = 64 << 20
"""A split file has 2 MB."""


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


@dataclass(frozen=True, slots=True)
class SplitFiles:
    """Where split files lie, seen from the class folders or from the folder around them, and how they are read."""

    archive: str = "realiad_jsons"
    """Folder around the folders of split files."""
    lists: str = "realiad_jsons"
    """Folder of the split files that are read."""
    unmarked: Literal["refused", "normal"] = "refused"
    """What a test view is that is called anomalous and has no mask."""

    def entries(self, root: Path, cls: str) -> Iterator[ListedImage | Finding]:
        """Yield what a class's split file says of each image, or why that cannot be used."""
        try:
            path = self._file(root, cls)
            # relative, since messages and findings name files as seen from the root
            source = os.path.relpath(path, root)
            split = _read(path, source)
        except DatasetError as error:
            yield Finding(cls, "layout", cls, str(error))
            return
        parts: tuple[tuple[Literal["train", "test"], list[_Image]], ...] = (
            ("train", split.train),
            ("test", split.test),
        )
        for part, images in parts:
            for index, image in enumerate(images):
                where = f"{source} {part}[{index}]"
                try:
                    yield self._entry(cls, part, image, where)
                except DatasetError as error:
                    yield Finding(cls, "layout", where, f"{where}: {error}")

    def _places(self) -> tuple[str, ...]:
        """Return where a class's split file may lie, from the class folders or from the folder around them."""
        # directly beside the class folders only the usual ones are looked for: nothing there says which they are
        return (f"{self.archive}/{self.lists}", self.lists, *((".",) if self.lists == self.archive else ()))

    def shut(self, root: Path) -> Iterator[Finding]:
        """Yield the folders of split files that cannot be looked into: without them no class can be read."""
        for place in (root.absolute().parent, root):
            for inside in (one for one in self._places() if one != "."):
                folder = place / inside
                if is_folder(folder) and (trouble := trouble_of(folder)):
                    text = f"{folder}: cannot be looked into ({trouble}). Expected a readable folder"
                    yield Finding("", "unreadable", os.path.relpath(folder, root), text)

    def _file(self, root: Path, cls: str) -> Path:
        home = root.absolute()
        for place in (home.parent, home):
            for inside in self._places():
                path = place / inside / f"{cls}.json"
                if is_file(path):
                    return path
        expected = home.parent / self._places()[0] / f"{cls}.json"
        raise DatasetError(f"no split file {cls}.json. Expected {expected}, from {self.archive}")

    def _entry(self, cls: str, part: Literal["train", "test"], image: _Image, where: str) -> ListedImage:
        if image.category != cls:
            raise DatasetError(f"category {image.category!a}. Expected {cls}, the file's own class")
        if image.anomaly_class in ("", "good") or not image.anomaly_class.isprintable():
            raise DatasetError(f"anomaly_class {image.anomaly_class!a}. Expected {_NORMAL} or a defect's name")
        if len(PurePosixPath(image.image_path).parts) < 2:
            raise DatasetError(
                f"image_path {image.image_path!a} names no object's folder. Expected OK/S0001/..., since the "
                "views of an object share a folder"
            )
        unmarked = self.unmarked == "normal" and part == "test" and not image.mask_path
        defect = "good" if image.anomaly_class == _NORMAL or unmarked else image.anomaly_class
        unit = f"{cls}/{PurePosixPath(image.image_path).parent}"
        return ListedImage(where, part, defect, image.image_path, image.mask_path or "", unit)


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
