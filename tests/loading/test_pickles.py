from __future__ import annotations

import os
import pickle
import struct
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from semantic_layouts import python2_pickle

from bench.errors import DatasetError
from bench.loading import pickles
from bench.loading.pickles import read_plain

ARRAY = np.arange(12, dtype=np.uint8).reshape(3, 4)


def written(folder: Path, content: bytes) -> Path:
    path = folder / "file"
    path.write_bytes(content)
    return path


def test_python_2s_pickles_are_read(tmp_path: Path) -> None:
    content = {b"data": ARRAY, b"labels": [3, -1, 70_000], b"long": b"x" * 300}
    found = read_plain(written(tmp_path, python2_pickle(content)))
    assert np.array_equal(found.pop(b"data"), ARRAY)
    assert found == {key: value for key, value in content.items() if key != b"data"}


@pytest.mark.parametrize("protocol", [3, 4])
@pytest.mark.parametrize("array", [ARRAY, np.asfortranarray(ARRAY), np.zeros((0, 3072), np.uint8)])
def test_python_3s_pickles_are_read(tmp_path: Path, protocol: int, array: np.ndarray) -> None:
    found = read_plain(written(tmp_path, pickle.dumps({"data": array, "more": (1, 2.5, None, "é")}, protocol)))
    assert np.array_equal(found["data"], array) and found["data"].dtype == np.uint8
    assert found["more"] == (1, 2.5, None, "é")


class Call:
    def __init__(self, function: Any, *arguments: Any) -> None:
        self.call = function, arguments

    def __reduce__(self) -> Any:
        return self.call


@pytest.mark.parametrize("protocol", [0, 1, 2, 3, 4, 5])
@pytest.mark.parametrize(
    "name", ["posix.system", "builtins.eval", "builtins.getattr", "numpy.load", "numpy.core.multiarray.scalar"]
)
def test_what_would_be_executed_is_refused(tmp_path: Path, protocol: int, name: str) -> None:
    trace = tmp_path / "executed"
    if name == "posix.system":
        content = pickle.dumps({"data": Call(os.system, f"touch {trace}")}, protocol)
    else:
        module, _, function = name.rpartition(".")
        content = b"\x80\x02}U\x04datac" + f"{module}\n{function}\n".encode() + b"U\x01x\x85Rs."
    with pytest.raises(DatasetError, match=r"file: refused, it names .*Expected.*bench data verify") as caught:
        read_plain(written(tmp_path, content))
    assert name.rpartition(".")[2] in str(caught.value)
    assert not trace.exists()


def test_the_stand_ins_cannot_be_bent(tmp_path: Path) -> None:
    # BUILD on the name itself instead of on what it makes would change it for every later file
    content = b"\x80\x02cnumpy\nndarray\n}U\x01aK\x01sb."
    with pytest.raises(DatasetError, match="refused"):
        read_plain(written(tmp_path, content))
    assert np.array_equal(read_plain(written(tmp_path, python2_pickle({b"a": ARRAY})))[b"a"], ARRAY)


@pytest.mark.parametrize(
    ("array", "told"),
    [
        (np.zeros(3, np.float32), "'f4', not uint8"),
        (np.array([os.getcwd], object), "'O8', not uint8"),
        (np.array([None], object), "'O8', not uint8"),
    ],
)
def test_other_arrays_are_refused(tmp_path: Path, array: np.ndarray, told: str) -> None:
    with pytest.raises(DatasetError, match=told):
        read_plain(written(tmp_path, pickle.dumps({"data": array}, 3)))


def test_an_array_that_lies_about_its_shape_is_refused(tmp_path: Path) -> None:
    content = python2_pickle({b"data": ARRAY})
    lying = content.replace(b"J" + struct.pack("<i", 3) + b"J", b"J" + struct.pack("<i", 2**30) + b"J")
    assert lying != content
    with pytest.raises(DatasetError, match=r"shape \(1073741824, 4\) with 12 bytes"):
        read_plain(written(tmp_path, lying))


def test_a_memo_of_gigabytes_is_not_set_aside(tmp_path: Path) -> None:
    assert read_plain(written(tmp_path, b"\x80\x02}r\xff\xff\xff\x7f.")) == {}


@pytest.mark.parametrize(
    ("content", "told"),
    [
        (b"", r"empty file \(0 bytes\)"),
        (b"404: not found", "refused"),
        (python2_pickle({b"data": ARRAY})[:-20], "refused"),
        (b"\x80\x02cnumpy\nndarray\n)\x81.", "without content"),
        (b"\x80\x02]]s.", "refused"),
    ],
)
def test_damaged_files_are_named(tmp_path: Path, content: bytes, told: str) -> None:
    with pytest.raises(DatasetError, match=rf"file: .*{told}"):
        read_plain(written(tmp_path, content))


def test_missing_and_oversized_files_are_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(DatasetError, match="nowhere cannot be read: No such file"):
        read_plain(tmp_path / "nowhere")
    monkeypatch.setattr(pickles, "MAX_BYTES", 10)
    with pytest.raises(DatasetError, match=r"11 bytes, refused. Expected at most 10"):
        read_plain(written(tmp_path, b"x" * 11))
