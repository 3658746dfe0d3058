"""TIFF files of numbers of any type, as the specification has them; PIL writes but a few."""

from __future__ import annotations

import struct
import zlib
from typing import Any

import numpy as np

KINDS = {"u": 1, "i": 2, "f": 3}


def tiff(values: np.ndarray, order: str = "<", rows: int | None = None, **changed: Any) -> bytes:
    """A TIFF as the specification has it; `changed` are fields by tag (t259=8), None to leave one out."""
    height, width = values.shape
    rows = rows or height
    data = values.astype(values.dtype.newbyteorder(order))
    strips = [data[start : start + rows].tobytes() for start in range(0, height, rows)]
    if changed.get("t259", 1) in (8, 32946):
        strips = [zlib.compress(strip) for strip in strips]
    sizes = [len(strip) for strip in strips]
    starts = [8 + sum(sizes[:place]) for place in range(len(sizes))]
    fields: dict[int, Any] = {256: width, 257: height, 258: 8 * values.itemsize, 259: 1, 262: 1, 273: starts, 277: 1}
    fields |= {278: rows, 279: sizes, 339: KINDS[values.dtype.kind]}
    fields |= {int(tag[1:]): value for tag, value in changed.items()}
    body = b"".join(strips)
    entries, beside = b"", b""
    at = 8 + len(body)
    for tag, value in sorted((tag, value) for tag, value in fields.items() if value is not None):
        numbers = value if isinstance(value, list) else [value]
        packed = struct.pack(f"{order}{len(numbers)}I", *numbers)
        if len(numbers) > 1:
            beside, packed = beside + packed, struct.pack(f"{order}I", at + len(beside))
        entries += struct.pack(f"{order}HHI", tag, 4, len(numbers)) + packed
    head = (b"II" if order == "<" else b"MM") + struct.pack(f"{order}HI", 42, at + len(beside))
    count = struct.pack(f"{order}H", len(entries) // 12)
    return head + body + beside + count + entries + struct.pack(f"{order}I", fields.get(0) or 0)
