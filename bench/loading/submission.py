"""Anomaly maps and image scores that another program wrote, matched to a dataset's test images by name.

Maps lie in a folder, one file an image (npy, npz, tif, tiff, png), or all in one npz. The folder may be in MVTec's
submission layout: `anomaly_maps/<class>/test/<defect>/<name>.tiff`. Scores lie in a CSV with columns `id` and `score`.

An image is found by the first of these names that tells all test images apart and is used at all: its id (such as
`bottle/test/broken_large/000`), `<class>/<split>/<defect>/<stem>`, `<class>/<defect>/<stem>`, `<class>/<stem>`,
`<stem>`.
Every file is hostile until read: pickled arrays are refused, sizes are checked before pixels are read.
"""

from __future__ import annotations

import csv
import math
import os
import zipfile
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import IO, Any, TypeVar

import numpy as np
import numpy.typing as npt
from PIL import Image

from bench import regular
from bench.api import Sample
from bench.errors import UsageError
from bench.loading.decoding import MAX_PIXELS, decode
from bench.loading.hashes import sha256

T = TypeVar("T")

ARRAYS = (".npy", ".npz")
PICTURES = (".tif", ".tiff", ".png")
_SUFFIXES = frozenset((*ARRAYS, *PICTURES, ".jpg", ".jpeg", ".bmp"))
_MODES = ("1", "L", "I", "F", "I;16", "I;16B", "I;16L")
_MOST_NAMED = 5

FORMS: tuple[Callable[[Sample], str], ...] = (
    lambda sample: _plain(sample.id),
    lambda sample: f"{sample.cls}/{sample.split}/{sample.defect}/{sample.image.stem}",
    lambda sample: f"{sample.cls}/{sample.defect}/{sample.image.stem}",
    lambda sample: f"{sample.cls}/{sample.image.stem}",
    lambda sample: sample.image.stem,
)


@dataclass(frozen=True, slots=True)
class MapFile:
    """One anomaly map that can be read: a file of its own, or an array of an npz."""

    path: Path
    key: str = ""
    """Name of the array in an npz; empty for the only one."""

    @property
    def title(self) -> str:
        """Return what messages call it."""
        return f"{self.path}[{self.key}]" if self.key else str(self.path)

    def read(self) -> npt.NDArray[np.float32]:
        """Return the map as it is, float32 [H, W], finite.

        Raises:
            UsageError: no array or picture of one channel, or a value that is no finite number.
            DatasetError: a picture is unreadable.
        """
        values = self._values()
        if values.ndim == 3 and 1 in (values.shape[0], values.shape[2]):
            values = values.squeeze(0 if values.shape[0] == 1 else 2)
        if values.ndim != 2 or values.dtype.kind not in "fiub" or not values.size:
            raise UsageError(f"{self.title}: {values.dtype} {list(values.shape)}. Expected numbers [height, width]")
        with np.errstate(over="ignore"):
            numbers = np.ascontiguousarray(values, dtype=np.float32)
        if not np.isfinite(numbers).all():
            raise UsageError(f"{self.title}: not all values are finite numbers within float32's range")
        return numbers

    def _values(self) -> npt.NDArray[Any]:
        if self.path.suffix.lower() in PICTURES:
            image = decode(self.path).image
            mode, values = image.mode, np.asarray(image)
            if mode not in _MODES:
                raise UsageError(
                    f"{self.title}: a picture of mode {mode}. Expected one channel of raw scores; a colour map has "
                    "lost them"
                )
            return values
        try:
            if self.path.suffix.lower() == ".npz":
                return _from_npz(self.path, self.key)
            with regular.opened(self.path) as file:
                return _array(file, self.title)
        except Exception as error:
            # zipfile, zlib, lzma, tokenize and NumPy's header parser raise a dozen kinds on bad bytes
            raise UsageError(
                f"{self.title}: no readable array ({error}). Expected npy or npz without pickles"
            ) from error


def find_maps(place: Path) -> dict[str, MapFile]:
    """Return name -> map of everything in a folder or an npz; names are paths without suffix.

    Raises:
        UsageError: nothing there, or two files of one name.
    """
    if place.is_file() and place.suffix.lower() == ".npz":
        return {_plain(key): MapFile(place, key) for key in _keys(place)}
    if not place.is_dir():
        raise UsageError(f"--maps {place}: no such folder, and no npz file. Expected anomaly maps, one file an image")
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


def read_scores(path: Path) -> dict[str, float]:
    """Return name -> image score from a CSV with columns `id` and `score`, higher = more anomalous.

    Raises:
        UsageError: not such a file, a name twice, or a score that is no finite number.
    """
    found: dict[str, float] = {}
    try:
        with regular.opened_text(path, encoding="utf-8-sig", newline="") as file:
            table = csv.DictReader(file, strict=True)
            if not {"id", "score"} <= set(table.fieldnames or ()):
                raise UsageError(f"{path}: columns {table.fieldnames}. Expected a header with id and score")
            for row in table:
                name, value = _plain(row["id"] or ""), _number(row["score"])
                if not math.isfinite(value):
                    raise UsageError(f"{path}, line {table.line_num}: score {row['score']!r}. Expected a finite number")
                if name in found:
                    raise UsageError(f"{path}, line {table.line_num}: '{name}' for the second time. Expected it once")
                found[name] = value
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise UsageError(f"{path}: no readable CSV ({error}). Expected columns id and score") from error
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


def to_size(values: npt.NDArray[np.float32], side: int) -> npt.NDArray[np.float32]:
    """Return a map of the whole image at side x side pixels: bilinear with antialiasing, in float32."""
    image = Image.fromarray(values, "F").resize((side, side), Image.Resampling.BILINEAR)
    return np.asarray(image, dtype=np.float32)


def content(maps: Iterable[MapFile]) -> dict[Path, str]:
    """Return the SHA-256 of every file that holds a map."""
    try:
        return {path: sha256(path) for path in dict.fromkeys(one.path for one in maps)}
    except OSError as error:
        raise UsageError(f"a map cannot be read: {error}") from error


def _keys(path: Path) -> list[str]:
    try:
        with regular.opened(path) as file, zipfile.ZipFile(file) as archive:
            names = archive.namelist()
    except Exception as error:  # as above
        raise UsageError(f"{path}: no readable npz ({error}). Expected a map for each image, by its id") from error
    keys = [name.removesuffix(".npy") for name in names]
    plain = [_plain(key) for key in keys]
    doubled = sorted({name for name in plain if plain.count(name) > 1}) if len(set(plain)) < len(plain) else []
    if doubled:
        raise UsageError(f"{path}: two maps for {_some(doubled)}. Expected one each")
    if not keys:
        raise UsageError(f"{path}: no map in it. Expected one for each image, by its id")
    return keys


def _from_npz(path: Path, key: str) -> npt.NDArray[Any]:
    with regular.opened(path) as whole, zipfile.ZipFile(whole) as archive:
        names = archive.namelist()
        if not key and len(names) != 1:
            raise ValueError(f"{len(names)} arrays, expected one")
        with archive.open(f"{key}.npy" if key else names[0]) as file:
            return _array(file, str(path))


def _array(file: IO[bytes], title: str) -> npt.NDArray[Any]:
    """Read an array after a look at its header, which may promise more than any memory holds."""
    version = np.lib.format.read_magic(file)
    reader = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
    shape, columns_first, dtype = reader(file)
    if min(shape, default=0) < 0 or math.prod(shape) > MAX_PIXELS or dtype.hasobject or dtype.itemsize > 8:
        raise ValueError(f"{dtype} {list(shape)}, expected at most {MAX_PIXELS:,} numbers")
    size = math.prod(shape) * dtype.itemsize
    data = file.read(size + 1)
    if len(data) != size:
        raise ValueError(f"{len(data)} bytes where {list(shape)} of {dtype} take {size}: {title}")
    return np.frombuffer(data, dtype).reshape(shape, order="F" if columns_first else "C")


def _plain(name: str) -> str:
    """Return a name as it is matched: posix separators, no suffix of an image or array, no leading dots and slashes."""
    path = PurePosixPath(name.strip().replace("\\", "/"))
    path = path.with_suffix("") if path.suffix.lower() in _SUFFIXES and path.stem else path
    return str(path).lstrip("/")


def _number(text: str | None) -> float:
    try:
        return float(text or "")
    except ValueError:
        return math.nan


def _some(names: Sequence[str]) -> str:
    rest = f" and {len(names) - _MOST_NAMED} more" if len(names) > _MOST_NAMED else ""
    return f"{', '.join(names[:_MOST_NAMED])}{rest}"
