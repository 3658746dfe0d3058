"""TIFF files of numbers: each type comes back as it was written, and what would come back otherwise is refused."""

from __future__ import annotations

import io
import struct
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from made_tiffs import tiff
from PIL import Image

from bench.errors import UsageError
from bench.external.map_files import MapFile

DTYPES = ("u1", "i1", "u2", "i2", "u4", "i4", "u8", "i8", "f2", "f4", "f8")


def numbers(dtype: str) -> np.ndarray:
    """Numbers that a narrower type does not hold."""
    if dtype.startswith("f"):
        values = 1 - np.arange(35).reshape(7, 5) * np.finfo(dtype).eps
    else:
        info = np.iinfo(dtype)
        values = np.array([info.max - place if place % 2 else info.min + place for place in range(35)], dtype=object)
    return values.reshape(7, 5).astype(dtype)


@pytest.mark.parametrize("packed", [1, 8, 32946])
@pytest.mark.parametrize("order", "<>")
@pytest.mark.parametrize("dtype", DTYPES)
def test_every_type_comes_back_as_it_was_written(tmp_path: Path, dtype: str, order: str, packed: int) -> None:
    values, path = numbers(dtype), tmp_path / "map.tiff"
    for rows in (7, 3, 1):
        path.write_bytes(tiff(values, order, rows, t259=packed))
        found, look = MapFile(path).read(), MapFile(path).look()
        assert found.dtype == values.dtype == look.dtype and (look.height, look.width) == (7, 5)
        assert np.array_equal(found, values)


def test_the_writer_of_these_tests_writes_what_pil_reads(tmp_path: Path) -> None:
    for dtype in ("u1", "u2", "f4"):
        assert np.array_equal(np.asarray(Image.open(io.BytesIO(tiff(numbers(dtype), rows=2)))), numbers(dtype))


@pytest.mark.parametrize("compression", ["tiff_lzw", "tiff_adobe_deflate", "packbits", None])
@pytest.mark.parametrize("dtype", ["u1", "u2", "f4"])
def test_what_pil_writes_comes_back(tmp_path: Path, dtype: str, compression: str | None) -> None:
    values, path = numbers(dtype), tmp_path / "map.tif"
    Image.fromarray(values).save(path, compression=compression)
    assert np.array_equal(MapFile(path).read(), values) and MapFile(path).look().dtype == values.dtype


@pytest.mark.parametrize(
    ("changed", "told"),
    [
        ({"t277": 3}, "3 channels"),
        ({"t274": 6}, "its orientation is 6"),
        ({"t262": 0}, "photometric interpretation is 0"),
        ({"t262": 3}, "photometric interpretation is 3"),
        ({"t339": 4}, "an unknown kind"),
        ({"t339": 6}, "an unknown kind"),
        ({"t259": 5}, "int16 in tiles, with predictor 1 or compression 5"),
        ({"t317": 2}, "with predictor 2"),
        ({"t322": 16, "t323": 16}, "in tiles"),
        ({"t278": 0}, "strips of 0 rows"),
        ({"t278": 2}, "1 strips of 2 rows"),
        ({"t279": 69}, "strip 0 gives 69 bytes, expected 70"),
        ({"t273": 2**32 - 1}, "strip 0 gives 0 bytes"),
        ({"t257": 0}, "5x0"),
        ({"t256": 2**32 - 1, "t257": 2**32 - 1, "t278": 2**32 - 1}, "Expected numbers"),
        ({"t257": None}, "field 257 holds 0 values"),
        ({"t0": 8}, "several pictures"),
    ],
)
def test_what_would_come_back_otherwise_is_refused(tmp_path: Path, changed: dict[str, Any], told: str) -> None:
    path = tmp_path / "map.tiff"
    path.write_bytes(tiff(numbers("i2"), **changed))
    with pytest.raises(UsageError, match=r"map\.tiff") as caught:
        MapFile(path).read()
    assert told in str(caught.value)


def test_a_strip_that_unpacks_to_more_than_it_should_takes_no_more(tmp_path: Path) -> None:
    path = tmp_path / "map.tiff"
    values = np.zeros((2, 3), np.uint8)
    bomb = zlib.compress(bytes(1 << 26), 9)
    content = bytearray(tiff(values, t259=8, t273=8, t279=len(bomb)))
    at = struct.unpack("<I", content[4:8])[0]
    content[8:at] = bomb
    content[4:8] = struct.pack("<I", 8 + len(bomb))
    path.write_bytes(bytes(content))
    assert np.array_equal(MapFile(path).read(), values)


def test_a_bigtiff_is_named_as_such(tmp_path: Path) -> None:
    path = tmp_path / "map.tiff"
    path.write_bytes(b"II+\0" + bytes(60))
    with pytest.raises(UsageError, match=r"map\.tiff.*a BigTIFF, expected a classic one"):
        MapFile(path).look()
