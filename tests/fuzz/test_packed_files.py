"""Sets that keep many images in one file: idx files and pickles, alone and as the datasets read them."""

from __future__ import annotations

import gzip
import io
import os
import pickle
import struct
from pathlib import Path

import numpy as np
import pytest
from hostile import cases, damaged, survives
from hypothesis import given
from hypothesis import strategies as st
from semantic_layouts import idx_bytes, python2_pickle, write_cifar10, write_fmnist

from bench.loading import idx
from bench.loading.pickles import read_plain
from bench.registry import DATASETS

VALUES = np.random.default_rng(0).integers(0, 256, (5, 4, 3), dtype=np.uint8)
IDX = idx_bytes(VALUES)
# stored, so that damage reaches the content and is not always caught by the compression
STORED = gzip.compress(IDX, compresslevel=0, mtime=0)
ZIPPED = gzip.compress(IDX, mtime=0)


@cases(250)
@given(content=damaged(IDX, STORED, ZIPPED))
def test_idx_files(home: Path, content: bytes) -> None:
    path = home / "file"
    path.write_bytes(content)
    found = survives("idx", lambda: idx.read(path), home)
    assert found is None or found.dtype == np.uint8
    survives("idx", lambda: idx.shape(path), home)


@cases(60)
@given(dims=st.lists(st.integers(0, 2**32 - 1), max_size=255), zipped=st.booleans())
def test_idx_headers_that_promise_anything(home: Path, dims: list[int], zipped: bool) -> None:
    content = bytes((0, 0, 8, len(dims))) + struct.pack(f">{len(dims)}I", *dims) + bytes(64)
    path = home / "file"
    path.write_bytes(gzip.compress(content, 1) if zipped else content)
    survives("idx", lambda: idx.read(path), home, memory=1 << 26)


def test_a_gigabyte_of_zeros_in_a_megabyte_is_not_unpacked(home: Path) -> None:
    content = io.BytesIO()
    with gzip.GzipFile(fileobj=content, mode="wb", compresslevel=9, mtime=0) as file:
        file.write(IDX)
        for _ in range(256):
            file.write(bytes(1 << 20))
    (home / "file").write_bytes(content.getvalue())
    survives("idx", lambda: idx.read(home / "file"), home, memory=1 << 26)


# ------------------------------------------------------------------------------------------------------ pickles
PLAIN = python2_pickle({b"data": VALUES, b"labels": [1, -2, 70_000], b"names": [b"x" * 300, b"y"]})
NEW = [pickle.dumps({"data": VALUES, "more": (1, 2.5, None, "é", {3}, [True])}, protocol) for protocol in (2, 3, 4, 5)]
GLOBALS = (
    *("os system", "posix system", "builtins eval", "builtins exec", "builtins __import__", "builtins getattr"),
    *("subprocess Popen", "numpy load", "numpy.core.multiarray scalar", "numpy ndarray", "numpy dtype"),
    *("numpy.core.multiarray _reconstruct", "bench.loading.pickles _Array", "copyreg _reconstructor", "io open"),
    *("operator attrgetter", "functools partial", "types CodeType", "torch.storage _load_from_bytes"),
)


@cases(300)
@given(content=damaged(PLAIN, *NEW))
def test_pickles(home: Path, content: bytes) -> None:
    read(home, content)


def read(home: Path, content: bytes) -> None:
    path = home / "file"
    path.write_bytes(content)
    found = survives("pickle", lambda: read_plain(path), home, memory=1 << 28)
    assert plain(found)


def plain(value: object, seen: frozenset[int] = frozenset()) -> bool:
    """Whether there is nothing in a value but containers, numbers, strings, uint8 arrays and the reader's stand-ins."""
    if id(value) in seen:
        return True  # a list may hold itself
    inside = seen | {id(value)}
    if isinstance(value, dict):
        return all(plain(key, inside) and plain(item, inside) for key, item in value.items())
    if isinstance(value, list | tuple | set | frozenset):
        return all(plain(item, inside) for item in value)
    if isinstance(value, np.ndarray):
        return value.dtype == np.uint8
    kind = value if isinstance(value, type) else type(value)
    return kind in (str, bytes, bytearray, int, float, bool, type(None)) or kind.__module__ == "bench.loading.pickles"


@st.composite
def programs(draw: st.DrawFn) -> bytes:
    """Operations of the pickle machine in any order, with arguments that fit them, and names that would do harm."""
    canary = draw(st.sampled_from([b"touch executed", b"open('executed','w')", b"x"]))
    words = st.sampled_from([*(name.encode() for name in GLOBALS)])
    operations = st.one_of(
        words.map(lambda name: b"c" + name.replace(b" ", b"\n", 1) + b"\n"),
        words.map(lambda name: b"".join(b"\x8c" + bytes([len(part)]) + part for part in name.split(b" ")) + b"\x93"),
        words.map(lambda name: b"(i" + name.replace(b" ", b"\n", 1) + b"\n"),
        st.sampled_from(
            [b"(", b")", b"]", b"}", b"N", b"\x85", b"\x86", b"\x87", b"R", b"\x81", b"b", b"0", b"2", b"1"]
        ),
        st.sampled_from([b"s", b"u", b"e", b"a", b"t", b"l", b"d", b"o", b"\x92", b"\x94", b"Q", b"\x90", b"\x91"]),
        st.integers(0, 255).map(lambda n: b"K" + bytes([n])),
        st.integers(-(2**31), 2**31 - 1).map(lambda n: b"J" + struct.pack("<i", n)),
        st.integers(0, 2**32 - 1).map(lambda n: b"r" + struct.pack("<I", n)),
        st.integers(0, 2**32 - 1).map(lambda n: b"j" + struct.pack("<I", n)),
        st.integers(0, 2**64 - 1).map(lambda n: b"\x8e" + struct.pack("<Q", n)),
        st.integers(0, 2**64 - 1).map(lambda n: b"\x95" + struct.pack("<Q", n)),
        st.integers(0, 2**31 - 1).map(lambda n: b"\x8b" + struct.pack("<I", n)),
        st.sampled_from(
            [b"\x82\x01", b"\x84\xff\xff\xff\x7f", b"I99999999999999999999\n", b"Lx\n", b"Pid\n", b"F1e999\n"]
        ),
        st.just(b"U" + bytes([len(canary)]) + canary),
    )
    return b"\x80\x02" + b"".join(draw(st.lists(operations, max_size=20))) + b"."


@cases(400)
@given(content=programs())
def test_programs_of_the_pickle_machine(home: Path, content: bytes) -> None:
    read(home, content)


class Call:
    def __reduce__(self) -> tuple[object, tuple[str]]:
        return os.system, ("touch executed",)


@pytest.mark.parametrize("protocol", range(6))
def test_a_pickle_that_would_run_a_command_runs_none(home: Path, canary: Path, protocol: int) -> None:
    content = pickle.dumps(Call(), protocol).replace(b"touch executed", f"touch {canary}".encode()[:14])
    read(home, content)


# ----------------------------------------------------------------------------------------------------- datasets
@cases(40)
@given(data=st.data())
@pytest.mark.parametrize(("name", "write"), [("cifar10", write_cifar10), ("fmnist", write_fmnist)])
def test_sets_with_a_damaged_file(
    tmp_path_factory: pytest.TempPathFactory, name: str, write: object, data: st.DataObject
) -> None:
    root = written(tmp_path_factory, name, write)
    kind = DATASETS.load(name)
    victim = data.draw(st.sampled_from(sorted(path for path in root.rglob("*") if path.is_file())))
    before = victim.read_bytes()
    inner = gzip.decompress(before) if victim.suffix == ".gz" else before
    victim.write_bytes(data.draw(damaged(before, inner)))
    try:

        def every() -> None:
            dataset = kind(kind.locate(root))
            samples, _ = dataset.inspect()
            for sample in samples[:: max(1, len(samples) // 20)]:
                dataset.read_image(sample)

        survives(f"dataset {name}", every, root)
    finally:
        victim.write_bytes(before)


WRITTEN: dict[str, Path] = {}


def written(factory: pytest.TempPathFactory, name: str, write: object) -> Path:
    if name not in WRITTEN:
        WRITTEN[name] = factory.mktemp(name)
        write(WRITTEN[name])  # type: ignore[operator]
    return WRITTEN[name]
