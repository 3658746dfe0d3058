"""Numbers in TIFF files, in the type that they were written in.

PIL, made for pictures, does not know 64-bit numbers and 16-bit floats, wraps unsigned 32-bit and signed 8-bit integers,
and swaps the bytes of compressed big-endian files twice. So one channel of numbers in strips, plain or deflated, is
read here, which is how NumPy users write it; of what else there is, PIL reads what it gets right.

Source: TIFF 6.0 (Adobe, 1992), sections 2 to 8 and 19; deflate: Adobe Photoshop TIFF technical notes, 2002.
"""

from __future__ import annotations

import math
import zlib
from dataclasses import dataclass
from typing import IO, Any, Literal

import numpy as np
import numpy.typing as npt

_CLASSIC, _BIG = (b"II*\0", b"MM\0*"), (b"II+\0", b"MM\0+")
MAGIC = (*_CLASSIC, *_BIG)
"""First bytes of a TIFF of either kind and byte order."""
_WIDTH, _HEIGHT, _BITS, _COMPRESSION, _COLOUR, _BIT_ORDER, _STRIPS, _TURNED = 256, 257, 258, 259, 262, 266, 273, 274
_CHANNELS, _STRIP_ROWS, _STRIP_BYTES, _PREDICTOR, _TILE_WIDTH, _FORMAT = 277, 278, 279, 317, 322, 339
_READ = frozenset(
    {_WIDTH, _HEIGHT, _BITS, _COMPRESSION, _COLOUR, _BIT_ORDER, _STRIPS, _TURNED}
    | {_CHANNELS, _STRIP_ROWS, _STRIP_BYTES, _PREDICTOR, _TILE_WIDTH, _FORMAT}
)
_SIZES = {1: 1, 3: 2, 4: 4}
"""Bytes of a field type's unit: byte, short, long."""
_KINDS = {1: "u", 2: "i", 3: "f"}
_PLAIN, _DEFLATED, _BLACK_IS_0 = 1, (8, 32946), 1
_BY_PIL = ("|u1", "<u2", ">u2", "<i4", "<f4")
"""What PIL reads rightly however it is packed."""
_MOST_FIELDS, _MOST_VALUES = 1000, 1 << 16


@dataclass(frozen=True, slots=True)
class Layout:
    """What the header of a TIFF says of its first picture."""

    dtype: np.dtype[Any]
    """Of its numbers, in the file's byte order."""
    height: int
    width: int
    strip_rows: int
    strips: tuple[tuple[int, int], ...]
    """Where each begins and how many bytes it has."""
    deflated: bool
    here: bool
    """Whether `read_strips` reads it; PIL is right where it does not, or the file is refused."""


def read_layout(file: IO[bytes]) -> Layout:
    """Return the layout of a TIFF of one channel of numbers, without reading one.

    Raises:
        ValueError: no such TIFF, several pictures or channels, white as 0, or a kind that nobody here reads rightly.
    """
    order, fields, following = _fields(file)
    height, width, bits = _one(fields, _HEIGHT), _one(fields, _WIDTH), _one(fields, _BITS, 1)
    kind, colour = _KINDS.get(_one(fields, _FORMAT, 1)), _one(fields, _COLOUR, _BLACK_IS_0)
    if following:
        raise ValueError("it holds several pictures, expected one map a file")
    if (turned := _one(fields, _TURNED, 1)) != 1:
        raise ValueError(f"its orientation is {turned}, which some readers apply and others do not; expected 1")
    if _one(fields, _CHANNELS, 1) != 1:
        raise ValueError(f"{_one(fields, _CHANNELS)} channels, expected one of raw scores; a colour map has lost them")
    if kind is None or not 1 <= bits <= 64 or height < 1 or width < 1:
        raise ValueError(f"{width}x{height} of {bits} bits and an unknown kind, expected numbers")
    if colour != _BLACK_IS_0 and (colour, kind) != (0, "f"):
        raise ValueError(f"its photometric interpretation is {colour}, expected {_BLACK_IS_0}: higher = more anomalous")
    whole = bits in (16, 32, 64) or (bits == 8 and kind != "f")
    dtype = np.dtype(f"{order}{kind}{bits // 8}" if whole else "u1" if bits < 8 else "<u2")
    compression, predictor = _one(fields, _COMPRESSION, _PLAIN), _one(fields, _PREDICTOR, 1)
    here = whole and compression in (_PLAIN, *_DEFLATED) and (predictor, _one(fields, _BIT_ORDER, 1)) == (1, 1)
    here = here and _TILE_WIDTH not in fields
    if not here and (dtype.str not in _BY_PIL or _COLOUR not in fields):
        raise ValueError(
            f"{dtype.name} in tiles, with predictor {predictor} or compression {compression}, expected plain or "
            "deflated strips; write it as npy, or without compression"
        )
    rows = min(_one(fields, _STRIP_ROWS, height), height)
    strips = tuple(zip(fields.get(_STRIPS, ()), fields.get(_STRIP_BYTES, ()), strict=False))
    if here and (rows < 1 or len(strips) != math.ceil(height / rows)):
        raise ValueError(f"{len(strips)} strips of {rows} rows, expected them to make {height} rows")
    return Layout(dtype, height, width, rows, strips, compression in _DEFLATED, here)


def read_strips(file: IO[bytes], layout: Layout) -> npt.NDArray[Any]:
    """Return the numbers of a picture, [height, width]; takes their own size and that of a strip.

    Raises:
        ValueError: fewer bytes than the layout states.
        zlib.error: damaged.
    """
    values = np.empty((layout.height, layout.width), dtype=layout.dtype)
    for number, (start, length) in enumerate(layout.strips):
        part = values[number * layout.strip_rows : (number + 1) * layout.strip_rows]
        file.seek(start)
        if layout.deflated:
            # of what does not fit not even a byte is unpacked
            data = zlib.decompressobj().decompress(file.read(min(length, 2 * part.nbytes + 4096)), part.nbytes)
        else:
            data = file.read(min(length, part.nbytes))
        if len(data) != part.nbytes:
            raise ValueError(f"strip {number} gives {len(data):,} bytes, expected {part.nbytes:,}")
        part[:] = np.frombuffer(data, layout.dtype).reshape(part.shape)
    return values


def _fields(file: IO[bytes]) -> tuple[str, dict[int, tuple[int, ...]], int]:
    """Return the byte order, the first picture's whole-number fields by tag, and where the next picture's are."""
    magic = file.read(4)
    if magic not in _CLASSIC:
        raise ValueError("a BigTIFF, expected a classic one" if magic in _BIG else "no TIFF")
    order: Literal["big", "little"] = "big" if magic == _CLASSIC[1] else "little"

    def number(data: bytes) -> int:
        return int.from_bytes(data, order)

    file.seek(number(file.read(4)))
    count = number(file.read(2))
    entries = file.read(min(count, _MOST_FIELDS) * 12)
    following = file.read(4)
    if len(entries) != 12 * count or len(following) != 4:
        raise ValueError(f"{count} fields, expected a complete list of at most {_MOST_FIELDS}")
    found = {}
    for entry in (entries[place : place + 12] for place in range(0, len(entries), 12)):
        tag, size, values = number(entry[:2]), _SIZES.get(number(entry[2:4]), 0), number(entry[4:8])
        if tag not in _READ or not size or values > _MOST_VALUES:
            continue
        data = entry[8:12]
        if size * values > len(data):
            file.seek(number(data))
            data = file.read(size * values)
        found[tag] = tuple(number(data[place : place + size]) for place in range(0, size * values, size))
    return ">" if order == "big" else "<", found, number(following)


def _one(fields: dict[int, tuple[int, ...]], tag: int, default: int | None = None) -> int:
    found = fields.get(tag, ())
    if not found and default is not None:
        return default
    if len(set(found)) != 1:
        raise ValueError(f"field {tag} holds {len(found)} values, expected one")
    return found[0]
