"""Anomaly maps and image scores that another program wrote, matched to a dataset's test images by name.

Maps lie in a folder, one file an image (npy, npz, tif, tiff, png), or all in one npz. The folder may be in MVTec's
submission layout: `anomaly_maps/<class>/test/<defect>/<name>.tiff`. Scores lie in a CSV with columns `id` and `score`.

An image is found by the first of these names that tells all test images apart and is used at all: its id (such as
`bottle/test/broken_large/000`), `<class>/<split>/<defect>/<stem>`, `<class>/<defect>/<stem>`, `<class>/<stem>`,
`<stem>`. Names that differ only in their Unicode form are one name.
"""

from __future__ import annotations

import math
import os
import re
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from decimal import Decimal
from pathlib import Path, PurePosixPath
from typing import TypeVar

from bench import regular
from bench.api import Sample
from bench.errors import UsageError
from bench.external.map_files import ARRAYS, PICTURES, MapFile
from bench.loading.arrays import Npz
from bench.loading.hashes import sha256
from bench.loading.tables import TableError, read_table
from bench.names import composed

T = TypeVar("T")

_SUFFIXES = frozenset((*ARRAYS, *PICTURES, ".jpg", ".jpeg", ".bmp"))
_MOST_NAMED = 5
_NUMBER = re.compile(r"[+-]?([0-9]+(\.[0-9]*)?|\.[0-9]+)([eE][+-]?[0-9]{1,6})?")
_WORDS = {"True": 1, "TRUE": 1, "true": 1, "False": 0, "FALSE": 0, "false": 0}
"""Yes and no as Python, R and JavaScript write them."""

FORMS: tuple[Callable[[Sample], str], ...] = (
    lambda sample: _plain(sample.id),
    lambda sample: composed(f"{sample.cls}/{sample.split}/{sample.defect}/{sample.image.stem}"),
    lambda sample: composed(f"{sample.cls}/{sample.defect}/{sample.image.stem}"),
    lambda sample: composed(f"{sample.cls}/{sample.image.stem}"),
    lambda sample: composed(sample.image.stem),
)


def find_maps(place: Path) -> dict[str, MapFile]:
    """Return name -> map of everything in a folder or an npz; names are paths without suffix.

    Raises:
        UsageError: nothing there, or two files of one name.
    """
    if place.is_file() and place.suffix.lower() == ".npz":
        return _members(place)
    if not place.is_dir():
        why = regular.why_not(place, "no such folder, and no npz file")
        raise UsageError(f"--maps {place}: {why}. Expected anomaly maps, one file an image")
    root = place / "anomaly_maps" if (place / "anomaly_maps").is_dir() else place
    found: dict[str, MapFile] = {}
    for folder, _, names in sorted(os.walk(root)):
        for name in sorted(names):
            path = Path(folder, name)
            if name.startswith(".") or path.suffix.lower() not in (*ARRAYS, *PICTURES):
                continue
            key = _plain(path.relative_to(root).as_posix())
            if key in found:
                raise UsageError(f"two maps for '{key}': {found[key].path.name} and {name}. Expected one")
            found[key] = MapFile(path)
    if not found:
        raise UsageError(f"--maps {place}: no map in it. Expected files {', '.join((*ARRAYS, *PICTURES))}")
    return found


class Float64Scores:
    """Image scores as float64, in which no two that differ become equal."""

    def __init__(self) -> None:
        self._exact: dict[float, Decimal | int | float] = {}

    def take(self, score: Decimal | int | float, where: str) -> float:
        """Return a score as float64.

        Raises:
            UsageError: float64 makes it equal to an earlier one that differs; the message begins with `where`.
        """
        number = float(score)
        if (earlier := self._exact.setdefault(number, score)) != score:
            raise UsageError(
                f"{where}: score {score!s:.40} is equal in float64 to another, {earlier!s:.40}. Expected scores that "
                "it tells apart; scale them"
            )
        return number


def read_scores(path: Path) -> dict[str, float]:
    """Return name -> image score from a CSV with columns `id` and `score`, higher = more anomalous.

    A score is a decimal number, or all of them are True and False.

    Raises:
        UsageError: not such a file (see `bench.loading.tables`), a line that cannot be used, a name twice, or scores
            that float64 does not hold or tell apart.
    """
    found: dict[str, float] = {}
    scores, words = Float64Scores(), None
    try:
        for row in read_table(path, ("id", "score")):
            where = f"{path}, line {row.line}"
            if row.fault:
                raise UsageError(f"{where}: {row.fault}")
            name, text = _plain(row.cells["id"]), row.cells["score"].strip(" \t")
            if name in ("", "."):
                raise UsageError(f"{where}: no id. Expected an image's")
            if name in found:
                raise UsageError(f"{where}: '{name}' for the second time. Expected it once")
            word = _WORDS.get(text)
            if words is None:
                words = word is not None
            if words != (word is not None):
                raise UsageError(f"{where}: score {text!a} after {'words' if words else 'numbers'}. Expected one kind")
            if word is None and not (_NUMBER.fullmatch(text) and math.isfinite(float(text))):
                raise UsageError(f"{where}: score {text!a}. Expected a finite number such as 0.5 or 1e-3")
            found[name] = float(word) if word is not None else scores.take(Decimal(text), where)
    except TableError as error:
        raise UsageError(f"{path}: {error}") from error
    if not found:
        raise UsageError(f"{path}: no scores in it. Expected a line for each test image")
    return found


def match(found: Mapping[str, T], samples: Sequence[Sample], what: str) -> dict[str, T]:
    """Return sample id -> what was found for it, for every sample.

    Args:
        found: by name, see the module's docstring.
        samples: the test images.
        what: `map` or `score`, for messages.

    Raises:
        UsageError: no name fits, or samples are left over.
    """
    for form in FORMS:
        names = [form(sample) for sample in samples]
        if len(set(names)) == len(names) and not found.keys().isdisjoint(names):
            break
    else:
        raise UsageError(
            f"no {what} fits a test image. Found names such as '{next(iter(found))}', expected such as "
            f"'{FORMS[0](samples[0])}'"
        )
    missing = [name for name in names if name not in found]
    if missing:
        raise UsageError(f"{len(missing)} of {len(names)} test images have no {what}: {_some(missing)}")
    return {sample.id: found[name] for sample, name in zip(samples, names, strict=True)}


def content(maps: Iterable[MapFile]) -> dict[Path, str]:
    """Return the SHA-256 of every file that holds a map."""
    try:
        return {path: sha256(path) for path in dict.fromkeys(one.path for one in maps)}
    except OSError as error:
        raise UsageError(f"a map cannot be read: {error}") from error


def _members(path: Path) -> dict[str, MapFile]:
    try:
        archive = Npz(path)
    except Exception as error:  # zipfile raises a dozen kinds on bad bytes
        raise UsageError(f"{path}: no readable npz ({error}). Expected a map for each image, by its id") from error
    plain = [_plain(key) for key in archive.names]
    if doubled := sorted(name for name, count in Counter(plain).items() if count > 1):
        raise UsageError(f"{path}: two maps for {_some(doubled)}. Expected one each")
    if not plain:
        raise UsageError(f"{path}: no map in it. Expected one for each image, by its id")
    return {name: MapFile(path, key, archive) for name, key in zip(plain, archive.names, strict=True)}


def _plain(name: str) -> str:
    """Return a name as it is matched: posix separators, no suffix of an image or array, no leading dots and slashes."""
    path = PurePosixPath(name.strip().replace("\\", "/"))
    path = path.with_suffix("") if path.suffix.lower() in _SUFFIXES and path.stem else path
    return composed(str(path).lstrip("/"))


def _some(names: Sequence[str]) -> str:
    rest = f" and {len(names) - _MOST_NAMED} more" if len(names) > _MOST_NAMED else ""
    return f"{', '.join(names[:_MOST_NAMED])}{rest}"
