"""PNG files whose bytes follow from the pixels alone.

Compressed bytes depend on which zlib is installed and on its version. Here nothing is compressed: the pixels stand in
stored blocks (RFC 1951, 3.2.4) inside a zlib stream (RFC 1950), as any reader of PNG takes them.
"""

from __future__ import annotations

import struct
import zlib

import numpy as np
import numpy.typing as npt

_LONGEST = 0xFFFF
"""Bytes that a stored block may hold."""


def encode(pixels: npt.NDArray[np.uint8]) -> bytes:
    """Return the PNG file of an image, uint8 [height, width] for grey or [height, width, 3] for RGB."""
    height, width = pixels.shape[:2]
    # each row is led by its filter, 0 for none
    rows = np.pad(pixels.reshape(height, -1), ((0, 0), (1, 0))).tobytes()
    blocks = [rows[start : start + _LONGEST] for start in range(0, len(rows), _LONGEST)]
    stored = b"".join(
        struct.pack("<?HH", block is blocks[-1], len(block), len(block) ^ _LONGEST) + block for block in blocks
    )
    header = struct.pack(">IIBBBBB", width, height, 8, 2 if pixels.ndim == 3 else 0, 0, 0, 0)
    stream = b"\x78\x01" + stored + struct.pack(">I", zlib.adler32(rows))
    chunks = ((b"IHDR", header), (b"IDAT", stream), (b"IEND", b""))
    return b"\x89PNG\r\n\x1a\n" + b"".join(_chunk(kind, body) for kind, body in chunks)


def _chunk(kind: bytes, body: bytes) -> bytes:
    return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))
