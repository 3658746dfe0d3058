from __future__ import annotations

import errno
import os
import signal
import stat
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from bench.errors import StoreError
from bench.files import atomic, atomic_folder, file_name, try_lock

HOLD = """
import sys, time
from pathlib import Path
from bench.files import try_lock
with try_lock(Path(sys.argv[1])) as mine:
    print(mine, flush=True)
    time.sleep(60)
"""


def write(path: Path, text: bytes) -> None:
    with atomic(path) as file:
        file.write(text)


def test_any_text_becomes_a_file_name_of_its_own(tmp_path: Path) -> None:
    odd = (
        "T-shirt/top",
        "T-shirt_top",
        "T-shirt%2Ftop",
        "../up",
        "[a]*?",
        "grüne Dose",
        b"caf\xe9".decode("utf-8", "surrogateescape"),
    )
    names = [file_name(text) for text in odd]
    assert names[0] == "T-shirt%2Ftop" and len(set(names)) == len(odd)
    for name in names:
        (tmp_path / f"{name}.json").write_text("")
        assert not set(name) & set("/[]*? ")
    assert len(list(tmp_path.iterdir())) == len(odd)
    assert file_name("metal_nut") == "metal_nut", "what is a name already stays as it is"


@pytest.mark.parametrize("letter", ["a", "零", "🌼", "/", b"\xe9".decode("utf-8", "surrogateescape")])
def test_a_name_of_any_length_leaves_room_for_what_stands_around_it(tmp_path: Path, letter: str) -> None:
    texts = [letter * count for count in (1, 13, 53, 54, 160, 161, 254, 1000)]
    names = [file_name(text) for text in texts]
    assert len(set(names)) == len(names) and max(len(os.fsencode(name)) for name in names) <= 160
    for name in names:
        # as long a name as a record's files have
        write(tmp_path / f"{name}-s{2**63}-{'0' * 12}.model.safetensors", b"x")
    assert len(list(tmp_path.iterdir())) == len(names)
    # nobody can choose a name that a longer one is shortened to
    assert file_name(names[-1]) not in names
    assert file_name("b" * 160) == "b" * 160


def test_any_name_that_the_system_takes_can_be_written(tmp_path: Path) -> None:
    for name in ("a" * 255, "零" * 85):
        write(tmp_path / name, b"x")
        assert (tmp_path / name).read_bytes() == b"x"
    assert len(list(tmp_path.iterdir())) == 2
    with pytest.raises(StoreError, match=r"File name too long\. Choose a shorter name"):
        write(tmp_path / ("a" * 256), b"x")


def test_the_file_is_written_with_its_folders_and_replaced(tmp_path: Path) -> None:
    path = tmp_path / "a" / "b" / "c.json"
    for text in (b"one", b"two"):
        write(path, text)
        assert path.read_bytes() == text
        assert [entry.name for entry in path.parent.iterdir()] == ["c.json"]


def test_an_error_inside_leaves_the_old_file_and_nothing_else(tmp_path: Path) -> None:
    path = tmp_path / "c.json"
    write(path, b"old")
    with pytest.raises(KeyError), atomic(path) as file:
        file.write(b"half")
        raise KeyError
    assert path.read_bytes() == b"old"
    with pytest.raises(KeyboardInterrupt), atomic(tmp_path / "new") as file:
        raise KeyboardInterrupt
    assert [entry.name for entry in tmp_path.iterdir()] == ["c.json"]


def test_readers_see_the_old_file_until_the_end(tmp_path: Path) -> None:
    path = tmp_path / "c.json"
    write(path, b"old")
    with atomic(path) as file:
        file.write(b"new")
        file.flush()
        assert path.read_bytes() == b"old"
    assert path.read_bytes() == b"new"


@pytest.mark.parametrize("durable", [True, False])
def test_durable_files_are_on_the_disk_before_they_are_moved(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, durable: bool
) -> None:
    seen: list[bool] = []
    real = os.fsync

    def fsync(handle: int) -> None:
        seen.append((tmp_path / "c").exists())
        real(handle)

    monkeypatch.setattr(os, "fsync", fsync)
    with atomic(tmp_path / "c", durable=durable) as file:
        file.write(b"x")
    assert seen == ([False] if durable else [])


def test_a_place_that_cannot_be_written_says_so(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    for path in (tmp_path / "file" / "c.json", tmp_path / "file" / "deep" / "c.json"):
        with pytest.raises(StoreError, match=r"cannot write .*c\.json.*Choose another folder"):
            write(path, b"x")
    with pytest.raises(StoreError, match="cannot write"):
        write(tmp_path, b"x")
    assert [entry.name for entry in tmp_path.iterdir()] == ["file"]


def test_a_full_disk_says_so_and_leaves_nothing(tmp_path: Path) -> None:
    with pytest.raises(StoreError, match=r"no space left .*run the same command again"), atomic(tmp_path / "c") as file:
        file.write(b"x")
        raise OSError(errno.ENOSPC, "No space left on device")
    assert not list(tmp_path.iterdir())


def test_permissions_follow_the_umask_and_threads_leave_it_alone(tmp_path: Path) -> None:
    before, interval = os.umask(0o027), sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    try:
        with ThreadPoolExecutor(8) as pool:
            list(pool.map(lambda number: write(tmp_path / str(number % 50), b"x"), range(1000)))
        left = os.umask(0o027)
    finally:
        sys.setswitchinterval(interval)
        os.umask(before)
    assert left == 0o027
    assert {stat.S_IMODE(entry.stat().st_mode) for entry in tmp_path.iterdir()} == {0o640}


def test_a_lock_is_held_once_and_removed(tmp_path: Path) -> None:
    path = tmp_path / "deep" / "cell.lock"
    with try_lock(path) as mine:
        assert mine and path.exists()
        with try_lock(path) as second:
            assert not second
        assert path.exists(), "who did not get the lock must not remove it"
    assert not path.exists()
    with pytest.raises(KeyError), try_lock(path):
        raise KeyError
    with try_lock(path) as again:
        assert again


def test_a_lock_dies_with_its_process(tmp_path: Path) -> None:
    path = tmp_path / "cell.lock"
    with subprocess.Popen([sys.executable, "-c", HOLD, str(path)], stdout=subprocess.PIPE, text=True) as holder:
        assert holder.stdout is not None and holder.stdout.readline() == "True\n"
        with try_lock(path) as mine:
            assert not mine
        holder.send_signal(signal.SIGKILL)
        holder.wait()
    assert path.exists()
    with try_lock(path) as mine:
        assert mine


def test_a_lock_on_a_file_that_its_holder_removed_is_none(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import fcntl

    path = tmp_path / "cell.lock"
    real = fcntl.flock

    def flock(file: object, how: int) -> None:
        path.unlink()
        real(file, how)  # type: ignore[arg-type]

    monkeypatch.setattr(fcntl, "flock", flock)
    with try_lock(path) as mine:
        assert not mine


def test_a_lock_that_cannot_be_had_at_all_says_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(StoreError, match="cannot write"), try_lock(tmp_path / "file" / "cell.lock"):
        pass

    def flock(file: object, how: int) -> None:
        raise OSError(errno.ENOLCK, "No locks available")

    monkeypatch.setattr("fcntl.flock", flock)
    with pytest.raises(StoreError, match=r"cannot lock .*No locks available"), try_lock(tmp_path / "cell.lock"):
        pass


def test_a_folder_is_whole_or_as_it_was(tmp_path: Path) -> None:
    path = tmp_path / "maps"
    for text in ("one", "two"):
        with atomic_folder(path) as folder:
            (folder / text).write_text(text)
            assert not (path / text).exists()
        assert [entry.name for entry in path.iterdir()] == [text]
    with pytest.raises(KeyError), atomic_folder(path) as folder:
        (folder / "half").write_text("")
        raise KeyError
    assert [entry.name for entry in tmp_path.iterdir()] == ["maps"] and (path / "two").is_file()
    with pytest.raises(OSError, match="not of this folder"), atomic_folder(path):
        raise OSError(errno.EIO, "not of this folder")
    with pytest.raises(StoreError, match="cannot write"), atomic_folder(tmp_path / "maps" / "two" / "deep"):
        pass
