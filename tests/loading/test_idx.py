from __future__ import annotations

import gzip
import struct
from pathlib import Path

import numpy as np
import pytest
from semantic_layouts import idx_bytes

from bench.errors import DatasetError
from bench.loading import idx

VALUES = np.random.default_rng(0).integers(0, 256, (5, 4, 3), dtype=np.uint8)


def written(folder: Path, content: bytes) -> Path:
    path = folder / "file.gz"
    path.write_bytes(content)
    return path


@pytest.mark.parametrize("zipped", [True, False])
@pytest.mark.parametrize("values", [VALUES, VALUES[:, 0, 0], VALUES[:0]])
def test_arrays_come_back_whatever_the_name_says(tmp_path: Path, zipped: bool, values: np.ndarray) -> None:
    content = idx_bytes(values)
    path = written(tmp_path, gzip.compress(content) if zipped else content)
    found = idx.read(path)
    assert found.dtype == np.uint8 and np.array_equal(found, values)
    assert idx.shape(path) == values.shape


def test_the_shape_is_read_without_the_values(tmp_path: Path) -> None:
    assert idx.shape(written(tmp_path, idx_bytes(VALUES)[:16])) == (5, 4, 3)


WHOLE = idx_bytes(VALUES)
ZIPPED = gzip.compress(WHOLE, mtime=0)


@pytest.mark.parametrize(
    ("content", "told"),
    [
        (b"", r"empty file \(0 bytes\)"),
        (b"<html>not found", "begins with 3c 68 74 6d"),
        (WHOLE[:2] + b"\x0d" + WHOLE[3:], "begins with 00 00 0d 03"),
        (WHOLE[:9], "ends inside its header"),
        (WHOLE[:-1], "header says 5 x 4 x 3 values, but there are only 59"),
        (WHOLE + b"\0", "but there are more"),
        (ZIPPED[:-9], "cannot be unpacked"),
        (ZIPPED[:-1], "cannot be unpacked"),
        (ZIPPED[:-8] + bytes(4) + ZIPPED[-4:], "cannot be unpacked .*CRC"),
        (ZIPPED[:60] + b"\xff\xff" + ZIPPED[62:], "cannot be unpacked"),
        (gzip.compress(WHOLE[:4] + struct.pack(">3I", 60_000, 4, 3) + b"x" * 60, mtime=0), "only 60"),
        (WHOLE[:4] + struct.pack(">3I", 2**31, 2**31, 2**31), "refused. Expected at most"),
        (gzip.compress(WHOLE[:4] + struct.pack(">3I", 1, 1, 1) + bytes(2**24), mtime=0), "but there are more"),
    ],
)
def test_damaged_and_lying_files_are_named(tmp_path: Path, content: bytes, told: str) -> None:
    with pytest.raises(DatasetError, match=rf"file\.gz: .*{told}"):
        idx.read(written(tmp_path, content))


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(DatasetError, match=r"nowhere\.gz cannot be read: No such file"):
        idx.shape(tmp_path / "nowhere.gz")
