"""Detection of truncated images that a decoder accepts: missing rows would be read as black or grey.

A PNG whose compressed data ends after some of its rows, a TIFF that lists some of its strips, and a JPEG whose end
marker comes too early are decoded without an error. Counting what a PNG or JPEG really holds costs about as much again,
so it is done only where the picture ends as it would if something were missing: with a row of zeros in a PNG, with a
block of one colour in a JPEG.
"""

from __future__ import annotations

import hashlib
import io
import struct
import zlib
from collections.abc import Iterator, Mapping
from io import BufferedReader
from typing import Any

import numpy as np
import numpy.typing as npt
from PIL import Image

_CHANNELS = {0: 1, 2: 3, 3: 1, 4: 2, 6: 4}
"""Colour type of a PNG -> values a pixel."""
_ADAM7 = ((0, 0, 8, 8), (4, 0, 8, 8), (0, 4, 4, 8), (2, 0, 4, 4), (0, 2, 2, 4), (1, 0, 2, 2), (0, 1, 1, 2))
"""First column and row, and their steps, of an interlaced PNG's seven passes."""
_WIDTH, _HEIGHT, _STRIPS, _CHANNELS_OF_TIFF, _ROWS, _PLANAR = 256, 257, 273, 277, 278, 284
_TILE_WIDTH, _TILE_HEIGHT, _TILES = 322, 323, 324
"""Tags of a TIFF."""
_PIECE = 1 << 16
_BLOCK = 8
"""Side of a JPEG's blocks in pixels."""
_LARGEST_JPEG = 1 << 28
"""Bytes; a larger file is not decoded a second time."""


def check_whole(image: Image.Image, file: BufferedReader) -> None:
    """Refuse a picture of which some rows are not in its file.

    Args:
        image: decoded.
        file: what it was decoded from.

    Raises:
        ValueError: it ends early.
    """
    if image.format == "PNG":
        interlaced = bool(image.info.get("interlace"))
        if interlaced or not _last_rows(image, 1).any():
            _count_png(file)
    elif image.format == "JPEG":
        last = _last_rows(image, 1 + (image.height - 1) % _BLOCK)[:, -1 - (image.width - 1) % _BLOCK :]
        if (last == last[-1, -1]).all():
            _compare_jpeg(image, file)
    elif image.format == "TIFF":
        _count_tiff(getattr(image, "tag_v2", {}))


def check_sums(file: BufferedReader) -> None:
    """Refuse a PNG of which a chunk does not fit its checksum.

    Raises:
        ValueError: a bit of it has changed, or it ends within a chunk.
    """
    for kind, pieces in _chunks(file):
        found = zlib.crc32(kind)
        for piece in pieces:
            found = zlib.crc32(piece, found)
        if file.read(4) != found.to_bytes(4, "big"):
            raise ValueError(f"its chunk {kind.decode('ascii', 'backslashreplace')} does not fit its checksum")


def _last_rows(image: Image.Image, count: int) -> npt.NDArray[np.generic]:
    return np.asarray(image.crop((0, max(0, image.height - count), image.width, image.height)))


def _count_png(file: BufferedReader) -> None:
    """Count the bytes that the compressed data holds, against those that the header asks for."""
    file.seek(16)
    width, height, depth, colour, _, _, interlaced = struct.unpack(">IIBBBBB", file.read(13))
    bits = depth * _CHANNELS.get(colour, 1)
    passes = _ADAM7 if interlaced else ((0, 0, 1, 1),)
    wanted = 0
    for left, top, across, down in passes:
        columns, rows = -(-(width - left) // across), -(-(height - top) // down)
        if columns > 0 and rows > 0:
            # one byte more a row, which says how it is filtered
            wanted += rows * (1 + -(-columns * bits // 8))
    inflated, found = zlib.decompressobj(), 0
    for kind, pieces in _chunks(file):
        for piece in pieces:
            while kind == b"IDAT" and piece and found < wanted:
                found += len(inflated.decompress(piece, _PIECE))
                piece = inflated.unconsumed_tail
        file.seek(4, io.SEEK_CUR)
    found += len(inflated.flush()) if found < wanted else 0
    if found < wanted:
        raise ValueError(f"it ends early: {100 * found // wanted} % of its pixels are there")


def _count_tiff(tags: Mapping[int, Any]) -> None:
    """Count the strips or tiles that a TIFF lists, against those that its size asks for."""
    width, height = tags[_WIDTH], tags[_HEIGHT]
    if _TILES in tags:
        listed, wanted = tags[_TILES], -(-width // tags[_TILE_WIDTH]) * -(-height // tags[_TILE_HEIGHT])
    else:
        listed, wanted = tags[_STRIPS], -(-height // min(tags.get(_ROWS, height), height))
    if tags.get(_PLANAR, 1) == 2:
        wanted *= tags.get(_CHANNELS_OF_TIFF, 1)
    if len(listed) < wanted:
        raise ValueError(f"it ends early: {len(listed)} of {wanted} of its pieces are there")


def _chunks(file: BufferedReader) -> Iterator[tuple[bytes, Iterator[bytes]]]:
    """Yield each chunk of a PNG, its kind and its content in pieces; both are to be drawn, and the checksum read."""
    file.seek(8)
    while len(head := file.read(8)) == 8:
        length, kind = struct.unpack(">I4s", head)
        yield kind, _pieces(file, length)


def _pieces(file: BufferedReader, length: int) -> Iterator[bytes]:
    while length > 0 and (piece := file.read(min(length, _PIECE))):
        length -= len(piece)
        yield piece


def _compare_jpeg(image: Image.Image, file: BufferedReader) -> None:
    """Decode again with noise before the end marker: it is read as pixels where there are too few, else passed over."""
    file.seek(0)
    content = file.read(_LARGEST_JPEG)
    begin = _scan(content)
    end = content.find(b"\xff\xd9", begin) if begin else -1
    if end < 0 or len(content) == _LARGEST_JPEG:
        return
    noise = b"".join(hashlib.sha256(bytes([number])).digest() for number in range(64)).replace(b"\xff", b"")
    with Image.open(io.BytesIO(content[:end] + noise + content[end:]), formats=("JPEG",)) as other:
        if not np.array_equal(np.asarray(other), np.asarray(image)):
            raise ValueError("it ends early: its last rows are not there")


def _scan(content: bytes) -> int:
    """Return where the pixels of a JPEG with a single scan begin; 0 for others, whose ends cannot be told so."""
    at, components = 2, 0
    while at + 10 <= len(content) and content[at] == 0xFF:
        marker = content[at + 1]
        if marker == 0xFF:  # a marker may be filled up
            at += 1
            continue
        length = int.from_bytes(content[at + 2 : at + 4], "big")
        if marker in (0xC0, 0xC1):
            components = content[at + 9]
        if marker == 0xDA:
            return at + 2 + length if components == content[at + 4] else 0
        at += 2 + length
    return 0
