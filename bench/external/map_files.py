"""Anomaly-map files of other programs: size and type known before reading, numbers as they were written.

Only the order of the numbers counts in the end, so none is ever made equal to another: a map keeps its type, and where
maps of several types come together they are converted to one that holds them all, or refused.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Any

import numpy as np
import numpy.typing as npt
from PIL import Image

from bench import regular
from bench.errors import BenchError, UsageError
from bench.external import tiffs
from bench.loading import arrays
from bench.loading.decoding import MAX_PIXELS, decode, peek

Array = npt.NDArray[Any]

ARRAYS = (".npy", ".npz")
PICTURES = (".tif", ".tiff", ".png")
_MODES = {"1": "u1", "L": "u1", "I": "i4", "F": "f4", "I;16": "u2", "I;16B": "u2", "I;16L": "u2"}
"""PIL's modes of one channel -> the type of their numbers."""
_WHOLE = 2**53
"""Up to here float64 holds every whole number."""


@dataclass(frozen=True, slots=True)
class Look:
    """What a map is, before its numbers are read."""

    height: int
    width: int
    dtype: np.dtype[Any]
    """Float, or integer, of up to 64 bits in native byte order; yes and no are uint8 1 and 0."""


@dataclass(frozen=True, slots=True)
class MapFile:
    """One anomaly map that can be read: a file of its own, or an array of an npz."""

    path: Path
    key: str = ""
    """Name of the array in an npz; empty for the only one."""
    archive: arrays.Npz | None = field(default=None, repr=False, compare=False)
    """The npz that it shares with other maps, open."""

    @property
    def title(self) -> str:
        """Return what messages call it."""
        return f"{self.path}[{self.key}]" if self.key else str(self.path)

    def look(self) -> Look:
        """Return the map's size and type from its header; nothing of its size takes memory.

        Raises:
            UsageError: no array or picture of one channel, or one larger than any image that bench reads.
            DatasetError: a picture is unreadable.
        """
        if self._pictured:
            with self._tiff() as file:
                if file is not None:
                    layout = tiffs.read_layout(file)
                    return self._looked((layout.height, layout.width), layout.dtype)
            (width, height), mode = peek(self.path)
            return self._looked((height, width), self._dtype_of(mode))
        with self._npy() as file:
            header = arrays.read_header(file)
        return self._looked(header.shape, header.dtype)

    def read(self) -> Array:
        """Return the map [H, W] in its own type (see `Look`), finite.

        Raises:
            UsageError: as `look`, or a value that is no finite number.
            DatasetError: a picture is unreadable.
        """
        values = self._picture() if self._pictured else self._array()
        look = self._looked(values.shape, values.dtype)
        if values.dtype.kind == "f" and not np.isfinite(values).all():
            raise UsageError(f"{self.title}: not all values are finite numbers. Expected a score for each pixel")
        return np.ascontiguousarray(values.reshape(look.height, look.width), dtype=look.dtype)

    @property
    def _pictured(self) -> bool:
        return self.path.suffix.lower() in PICTURES

    def _picture(self) -> Array:
        with self._tiff() as file:
            if file is not None and (layout := tiffs.read_layout(file)).here:
                self._looked((layout.height, layout.width), layout.dtype)
                return tiffs.read_strips(file, layout)
        picture = decode(self.path)
        self._dtype_of(picture.image.mode)
        if picture.frames > 1:
            raise UsageError(f"{self.title}: several pictures. Expected one map a file")
        return np.asarray(picture.image)

    def _array(self) -> Array:
        with self._npy() as file:
            return arrays.read_array(file, MAX_PIXELS)

    def _looked(self, shape: tuple[int, ...], dtype: np.dtype[Any]) -> Look:
        sides = shape
        if len(shape) == 3 and 1 in (shape[0], shape[2]):
            sides = shape[1:] if shape[0] == 1 else shape[:2]
        if len(sides) != 2 or 0 in sides or sides[0] * sides[1] > MAX_PIXELS:
            raise UsageError(
                f"{self.title}: {dtype} {list(shape)}. Expected numbers [height, width], at most {MAX_PIXELS:,}"
            )
        return Look(*sides, np.dtype(np.uint8) if dtype.kind == "b" else dtype.newbyteorder("="))

    def _dtype_of(self, mode: str) -> np.dtype[Any]:
        if mode not in _MODES:
            raise UsageError(
                f"{self.title}: a picture of mode {mode}. Expected one channel of raw scores; colours have lost them"
            )
        return np.dtype(_MODES[mode])

    @contextmanager
    def _tiff(self) -> Iterator[IO[bytes] | None]:
        """Open the file if it is a TIFF, whatever it is called, else give None."""
        with self._reported("one channel of numbers"), regular.opened(self.path) as file:
            begun = file.read(4)
            file.seek(0)
            yield file if begun in tiffs.MAGIC else None

    @contextmanager
    def _npy(self) -> Iterator[IO[bytes]]:
        with self._reported("npy or npz as NumPy writes them, without pickles"):
            if self.path.suffix.lower() != ".npz":
                with regular.opened(self.path) as file:
                    yield file
                return
            archive = self.archive or arrays.Npz(self.path)
            if not self.key and len(archive.names) != 1:
                raise ValueError(f"{len(archive.names)} arrays, expected one")
            with archive.opened(self.key or archive.names[0]) as member:
                yield member

    @contextmanager
    def _reported(self, expected: str) -> Iterator[None]:
        try:
            yield
        except BenchError:
            raise
        except Exception as error:
            # zipfile, zlib, tokenize and NumPy's header parser raise a dozen kinds on bad bytes
            why = str(error) or type(error).__name__
            raise UsageError(f"{self.title}: cannot be read as a map ({why}). Expected {expected}") from error


def common_dtype(dtypes: Iterable[np.dtype[Any]]) -> np.dtype[Any]:
    """Return the type to which maps of all these types are converted before they are ranked together."""
    return np.result_type(*set(dtypes))


def exactly(values: Array, dtype: np.dtype[Any], title: str) -> Array:
    """Return a map in a type from `common_dtype`, with no number changed.

    Raises:
        UsageError: whole numbers that float64 does not tell apart, or a type that was not looked at before.
    """
    if not np.can_cast(values.dtype, dtype):
        raise UsageError(
            f"{title}: {values.dtype}, which is not what it was when all maps were looked at. Run it again"
        )
    if values.dtype.itemsize == 8 and values.dtype.kind in "iu" and dtype.kind == "f":
        # in integers: a float would not show what it lost
        low, high = int(values.min()), int(values.max())
        if low < -_WHOLE or high > _WHOLE:
            raise UsageError(
                f"{title}: {values.dtype} from {low} to {high}, of which float64 makes some equal. Expected whole "
                "numbers up to 2^53 where maps are resized or come in several types"
            )
    return values.astype(dtype, copy=False)


def resized_dtype(dtype: np.dtype[Any]) -> np.dtype[Any]:
    """Return the type of a resized map: float32 where that holds every number of its own type, else float64."""
    return np.dtype(np.float32 if np.can_cast(dtype, np.float32) else np.float64)


def to_size(values: Array, side: int, title: str = "the map") -> Array:
    """Return a map of the whole image at side x side pixels, in `resized_dtype`: bilinear with antialiasing.

    float32 is PIL's; float64 takes the same weights, and a pixel whose surroundings are equal keeps their value.

    Args:
        values: [H, W].
        side: pixels.
        title: what messages call it.

    Raises:
        UsageError: numbers that cannot be interpolated: whole ones beyond 2^53, or too far apart for float64.
    """
    dtype = resized_dtype(values.dtype)
    if dtype == np.float32:
        image = Image.fromarray(np.ascontiguousarray(values, dtype=np.float32))
        resized = np.asarray(image.resize((side, side), Image.Resampling.BILINEAR))
    else:
        with np.errstate(over="ignore", invalid="ignore"):
            rows = _shrunk(exactly(values, dtype, title), side)
            resized = _shrunk(np.ascontiguousarray(rows.T), side).T
    if not np.isfinite(resized).all():
        raise UsageError(f"{title}: values too far apart for {dtype}. Expected numbers that can be interpolated")
    return np.ascontiguousarray(resized)


def _shrunk(values: Array, side: int) -> Array:
    """Return float64 values [L, M] as [side, M]: each row a mean of those near it, by a triangle's weights."""
    length = len(values)
    scale = length / side
    reach = max(scale, 1.0)
    centre = (np.arange(side) + 0.5) * scale
    first = np.maximum(np.floor(centre - reach + 0.5), 0).astype(np.int64)
    last = np.minimum(np.floor(centre + reach + 0.5), length).astype(np.int64)
    index = first[:, None] + np.arange((last - first).max())
    weights = np.maximum(1 - np.abs((index + 0.5 - centre[:, None]) / reach), 0) * (index < last[:, None])
    weights /= weights.sum(axis=1, keepdims=True)
    base = values[first]
    shrunk: Array = base.copy()
    # differences from the first one, since weights sum to 1 but for rounding, which would part equal values
    for place in range(1, index.shape[1]):
        shrunk += weights[:, place, None] * (values[np.minimum(index[:, place], length - 1)] - base)
    return shrunk
