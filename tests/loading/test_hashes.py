from __future__ import annotations

import errno
import hashlib
import os
import sqlite3
import time
from pathlib import Path

import pytest

from bench.errors import DatasetError
from bench.loading import hashes
from bench.loading.hashes import content_hashes


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    folder = tmp_path / "cache"
    monkeypatch.setenv("BENCH_CACHE", str(folder))
    # files of a test are always fresh; what "fresh" means has a test of its own
    monkeypatch.setattr(hashes, "SETTLED_SECONDS", -3600.0)
    return folder


@pytest.fixture
def reads(monkeypatch: pytest.MonkeyPatch) -> list[Path]:
    seen: list[Path] = []
    real = hashes.sha256

    def counted(path: Path) -> str:
        seen.append(path)
        return real(path)

    monkeypatch.setattr(hashes, "sha256", counted)
    return seen


def sha(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


def files(folder: Path, count: int = 3) -> list[Path]:
    paths = [folder / f"{number}.png" for number in range(count)]
    for number, path in enumerate(paths):
        path.write_bytes(b"content %d" % number)
    return paths


def test_each_file_is_read_once_however_often_it_is_asked_for(tmp_path: Path, cache: Path, reads: list[Path]) -> None:
    paths = files(tmp_path)
    want = {path: sha(path.read_bytes()) for path in paths}
    told: list[int] = []
    assert content_hashes([*paths, *paths], told.append) == want
    assert sorted(reads) == paths and sum(told) == 3
    told.clear()
    assert content_hashes(paths, told.append) == want
    assert len(reads) == 3 and sum(told) == 3, "known files are told as done too"
    (tmp_path / "new.png").write_bytes(b"new")
    assert content_hashes([*paths, tmp_path / "new.png"])[tmp_path / "new.png"] == sha(b"new")
    assert len(reads) == 4


def test_nothing_asked_for_is_nothing_read(cache: Path) -> None:
    assert content_hashes([]) == {}


def test_a_change_that_hides_behind_size_and_mtime_is_seen(tmp_path: Path, cache: Path, reads: list[Path]) -> None:
    (path,) = files(tmp_path, 1)
    content_hashes([path])
    before = path.stat()
    time.sleep(0.02)  # one tick of the file system's clock, so that ctime can differ
    path.write_bytes(b"CONTENT 0")
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))
    assert (path.stat().st_size, path.stat().st_mtime_ns) == (before.st_size, before.st_mtime_ns)
    assert content_hashes([path]) == {path: sha(b"CONTENT 0")}
    assert len(reads) == 2


def test_a_replaced_file_is_read_again(tmp_path: Path, cache: Path) -> None:
    (path,) = files(tmp_path, 1)
    content_hashes([path])
    other = tmp_path / "other"
    other.write_bytes(b"CONTENT 1")
    os.utime(other, ns=(path.stat().st_atime_ns, path.stat().st_mtime_ns))
    other.replace(path)
    assert content_hashes([path]) == {path: sha(b"CONTENT 1")}


def test_a_file_that_may_still_be_changing_is_not_remembered(
    tmp_path: Path, cache: Path, reads: list[Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(hashes, "SETTLED_SECONDS", 2.0)
    (path,) = files(tmp_path, 1)
    for _ in range(2):
        content_hashes([path])
    assert len(reads) == 2


def test_a_file_fresh_at_the_start_is_not_settled_by_a_long_hashing(
    tmp_path: Path, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # another file of the same call takes longer than the settling time; meanwhile the first is changed unseen
    first, slow = files(tmp_path, 2)
    monkeypatch.setattr(hashes, "SETTLED_SECONDS", 0.2)
    real = hashes.sha256

    def sha256(path: Path) -> str:
        time.sleep(0.4 if path == slow else 0)
        return real(path)

    monkeypatch.setattr(hashes, "sha256", sha256)
    content_hashes([first, slow])
    with sqlite3.connect(cache / "hashes.sqlite") as index:
        assert not index.execute("SELECT * FROM files").fetchall()


@pytest.mark.parametrize("damage", ["garbage", "folder", "other table", "torn"])
def test_a_broken_memory_costs_time_but_no_result(tmp_path: Path, cache: Path, damage: str) -> None:
    paths = files(tmp_path, 200)
    want = content_hashes(paths)
    path = cache / "hashes.sqlite"
    if damage == "garbage":
        path.write_bytes(os.urandom(4096))
    elif damage == "folder":
        path.unlink()
        path.mkdir()
    elif damage == "other table":
        path.unlink()
        with sqlite3.connect(path) as index:
            index.execute("CREATE TABLE files (something INTEGER)")
    else:
        whole = path.read_bytes()
        path.write_bytes(whole[:4096] + b"\xa5" * (len(whole) - 4096))
    for _ in range(2):
        assert content_hashes(paths) == want


def test_a_cache_folder_that_cannot_be_made_costs_no_result(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("BENCH_CACHE", str(tmp_path / "file" / "cache"))
    (path,) = files(tmp_path, 1)
    assert content_hashes([path]) == {path: sha(b"content 0")}


def test_what_was_read_before_an_error_is_kept(
    tmp_path: Path, cache: Path, reads: list[Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    first, broken, second = files(tmp_path, 3)
    counted = hashes.sha256

    def failing(path: Path) -> str:
        if path == broken:
            raise OSError(errno.EIO, "Input/output error")
        return counted(path)

    monkeypatch.setattr(hashes, "sha256", failing)
    with pytest.raises(DatasetError, match=r"cannot be read: Input/output error.*bench data verify"):
        content_hashes([first, broken, second])
    reads.clear()
    content_hashes([first])
    assert not reads


def test_a_folder_is_refused_before_anything_is_read(tmp_path: Path, cache: Path, reads: list[Path]) -> None:
    with pytest.raises(DatasetError, match=r"cannot be read: Is a directory.*bench data verify"):
        content_hashes([*files(tmp_path), tmp_path])
    assert not reads


def test_a_missing_file_is_named(tmp_path: Path, cache: Path) -> None:
    with pytest.raises(DatasetError, match=r"none\.png cannot be read: No such file.*bench data verify"):
        content_hashes([*files(tmp_path), tmp_path / "none.png"])


def test_names_that_are_not_utf8_are_hashed(tmp_path: Path, cache: Path, reads: list[Path]) -> None:
    path = Path(os.fsdecode(os.fsencode(tmp_path) + b"/caf\xe9.png"))
    path.write_bytes(b"x")
    for _ in range(2):
        assert content_hashes([path]) == {path: sha(b"x")}
    assert len(reads) == 1
