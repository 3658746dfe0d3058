from __future__ import annotations

import gzip
import io
import stat
import tarfile
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest

from bench.curate import archives
from bench.curate.archives import unpack
from bench.errors import DatasetError

CONTENT = {"set/a.png": b"first", "set/deep/er/b.png": b"second" * 50_000, "readme.txt": b""}


def tar_of(path: Path, members: list[tuple[tarfile.TarInfo, bytes]], mode: str = "w:gz") -> Path:
    with tarfile.open(path, mode, format=tarfile.PAX_FORMAT) as tar:  # type: ignore[call-overload]
        for info, content in members:
            info.size = len(content)
            tar.addfile(info, io.BytesIO(content))
    return path


def plain(name: str, **fields: object) -> tarfile.TarInfo:
    info = tarfile.TarInfo(name)
    for field, value in fields.items():
        setattr(info, field, value)
    return info


def zip_of(path: Path, members: list[tuple[str, bytes, int]]) -> Path:
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as content:
        for name, data, mode in members:
            info = zipfile.ZipInfo(name)
            info.external_attr = mode << 16
            content.writestr(info, data, zipfile.ZIP_DEFLATED)
    return path


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    folder = tmp_path / "data"
    folder.mkdir()
    return folder


def listing(folder: Path) -> dict[str, bytes]:
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


@pytest.mark.parametrize("mode", ["w", "w:gz"])
def test_a_tar_comes_out_as_it_went_in(tmp_path: Path, folder: Path, mode: str) -> None:
    members = [(plain(name, mode=0o6777), content) for name, content in CONTENT.items()]
    archive = tar_of(tmp_path / "x.tar", [(plain("./empty", type=tarfile.DIRTYPE), b""), *members], mode)
    assert unpack(archive, folder, "tar") == 3
    assert listing(folder) == CONTENT
    assert (folder / "empty").is_dir()
    assert not (folder / "set/a.png").stat().st_mode & (stat.S_ISUID | stat.S_IXUSR | stat.S_IWOTH)


def test_a_zip_comes_out_as_it_went_in(tmp_path: Path, folder: Path) -> None:
    members = [(name, content, 0) for name, content in CONTENT.items()]
    archive = zip_of(tmp_path / "x.zip", [("empty/", b"", stat.S_IFDIR | 0o755), *members])
    assert unpack(archive, folder, "zip") == 3
    assert listing(folder) == CONTENT
    assert (folder / "empty").is_dir()


def test_what_is_there_already_stays(tmp_path: Path, folder: Path) -> None:
    (folder / "other").mkdir()
    unpack(tar_of(tmp_path / "x.tar", [(plain("set/a"), b"1")]), folder, "tar")
    assert sorted(path.name for path in folder.iterdir()) == ["other", "set"]
    with pytest.raises(DatasetError, match=r"data/set is in the way of what x\.tar holds"):
        unpack(tar_of(tmp_path / "x.tar", [(plain("set/b"), b"2")]), folder, "tar")
    assert listing(folder) == {"set/a": b"1"}


GOOD = (plain("set/a.png"), b"first")

HOSTILE: dict[str, tuple[tuple[tarfile.TarInfo, bytes], str]] = {
    "parent": ((plain("../escaped"), b"x"), "would lie outside"),
    "hidden parent": ((plain("set/../../escaped"), b"x"), "would lie outside"),
    "absolute": ((plain("/tmp/escaped"), b"x"), "would lie outside"),
    "backslash": ((plain("..\\escaped"), b"x"), "would lie outside"),
    "symlink": ((plain("set/l", type=tarfile.SYMTYPE, linkname="../.."), b""), r"symbolic link to \.\./\.\."),
    "hard link": ((plain("set/l", type=tarfile.LNKTYPE, linkname="/etc/passwd"), b""), "hard link to /etc/passwd"),
    "device": ((plain("set/d", type=tarfile.CHRTYPE), b""), "a device or pipe"),
    "pipe": ((plain("set/p", type=tarfile.FIFOTYPE), b""), "a device or pipe"),
    "twice": ((plain("set/a.png"), b"other"), "comes twice"),
    "folder of the name": ((plain("set"), b"x"), "comes twice"),
    "below a file": ((plain("set/a.png/b.png"), b"x"), "lies below a file"),
    "folder below a file": ((plain("set/a.png/b", type=tarfile.DIRTYPE), b""), "lies below a file"),
    "folder in a file's place": ((plain("set/a.png", type=tarfile.DIRTYPE), b""), "takes its place"),
    "long name": ((plain("set/" + "x" * 300), b"x"), r"cannot be made \(File name too long\)"),
    "long path": ((plain("set/" + "x/" * 3000 + "y"), b"x"), r"cannot be made \(File name too long\)"),
    "no name": ((plain("."), b"x"), "is a file without a name"),
    "not UTF-8": ((plain("set/caf\udce9"), b"x"), r"caf\\udce9' has a name that is not UTF-8"),
}


@pytest.mark.parametrize("case", HOSTILE)
def test_hostile_tars_are_refused_and_leave_nothing(tmp_path: Path, folder: Path, case: str) -> None:
    member, told = HOSTILE[case]
    if case == "not UTF-8":
        with tarfile.open(tmp_path / "x.tar", "w", format=tarfile.GNU_FORMAT) as tar:
            for info, content in (GOOD, member):
                info.size = len(content)
                tar.addfile(info, io.BytesIO(content))
    else:
        tar_of(tmp_path / "x.tar", [GOOD, member])
    with pytest.raises(DatasetError, match=rf"x\.tar: refused, nothing was unpacked: .*{told}") as caught:
        unpack(tmp_path / "x.tar", folder, "tar")
    str(caught.value).encode()
    assert list(folder.iterdir()) == []
    assert sorted(path.name for path in tmp_path.iterdir()) == ["data", "x.tar"]


def test_a_link_cannot_lead_later_members_outside(tmp_path: Path, folder: Path) -> None:
    link = plain("set/out", type=tarfile.SYMTYPE, linkname=str(tmp_path))
    with pytest.raises(DatasetError, match="symbolic link"):
        unpack(tar_of(tmp_path / "x.tar", [(link, b""), (plain("set/out/escaped"), b"x")]), folder, "tar")
    assert not (tmp_path / "escaped").exists()


@pytest.mark.parametrize(
    ("name", "mode", "told"),
    [
        ("../escaped", 0, "would lie outside"),
        ("/tmp/escaped", 0, "would lie outside"),
        ("set/l", stat.S_IFLNK | 0o777, "is a symbolic link"),
        ("set/d", stat.S_IFBLK, "a device or pipe"),
        ("set/a.png", 0, "comes twice"),
        ("set/a.png/b.png", 0, "lies below a file"),
        ("x" * 300, 0, r"cannot be made \(File name too long\)"),
    ],
)
@pytest.mark.filterwarnings("ignore:Duplicate name")
def test_hostile_zips_are_refused_and_leave_nothing(
    tmp_path: Path, folder: Path, name: str, mode: int, told: str
) -> None:
    archive = zip_of(tmp_path / "x.zip", [("set/a.png", b"first", 0), (name, b"../..", mode)])
    with pytest.raises(DatasetError, match=rf"x\.zip: refused, nothing was unpacked: .*{told}"):
        unpack(archive, folder, "zip")
    assert list(folder.iterdir()) == []


@pytest.mark.parametrize("kind", ["tar", "zip"])
def test_bombs_are_refused(tmp_path: Path, folder: Path, kind: str) -> None:
    zeros = bytes(3 * 2**20)
    archive = tmp_path / "x"
    if kind == "tar":
        tar_of(archive, [(plain("a"), zeros)])
    else:
        zip_of(archive, [("a", zeros, 0)])
    with pytest.raises(DatasetError, match=r"more than 1,048,576 bytes would come out"):
        unpack(archive, folder, kind)  # type: ignore[arg-type]
    assert list(folder.iterdir()) == []
    assert unpack(archive, folder, kind, limit=2**22) == 1  # type: ignore[arg-type]


def test_a_bomb_in_a_name_is_refused(tmp_path: Path, folder: Path) -> None:
    archive = tar_of(tmp_path / "x.tar", [(plain("a" * 2**23), b"")])
    with pytest.raises(DatasetError, match="bytes would come out"):
        unpack(archive, folder, "tar")


def test_too_many_files_are_refused(tmp_path: Path, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(archives, "MAX_FILES", 2)
    archive = tar_of(tmp_path / "x.tar", [(plain(f"{number}"), b"") for number in range(3)])
    with pytest.raises(DatasetError, match="one of more than 2 files"):
        unpack(archive, folder, "tar")


def _cut(content: bytes) -> bytes:
    return content[: len(content) // 2]


def _flip(content: bytes) -> bytes:
    middle = len(content) // 2
    return content[:middle] + bytes([content[middle] ^ 255]) + content[middle + 1 :]


def _text(content: bytes) -> bytes:
    return b"<html>not found</html>"


@pytest.mark.parametrize("damage", [_cut, _flip, _text])
@pytest.mark.parametrize("kind", ["tar", "zip"])
def test_damaged_archives_are_named_and_leave_nothing(
    tmp_path: Path, folder: Path, kind: str, damage: Callable[[bytes], bytes]
) -> None:
    archive = tmp_path / "x"
    noise = bytes(range(256)) * 300
    if kind == "tar":
        tar_of(archive, [(plain("a"), noise)])
    else:
        zip_of(archive, [("a", noise, 0)])
    archive.write_bytes(damage(archive.read_bytes()))
    with pytest.raises(DatasetError, match=r"x: damaged or no archive of the kind expected"):
        unpack(archive, folder, kind)  # type: ignore[arg-type]
    assert list(folder.iterdir()) == []


def test_a_wrong_sum_at_the_end_of_a_gzip_is_seen(tmp_path: Path, folder: Path) -> None:
    archive = tar_of(tmp_path / "x.tar", [(plain("a"), b"1")])
    whole = archive.read_bytes()
    assert gzip.decompress(whole)
    archive.write_bytes(whole[:-8] + bytes(4) + whole[-4:])
    with pytest.raises(DatasetError, match="CRC"):
        unpack(archive, folder, "tar")


def test_a_folder_that_is_not_there_is_named(tmp_path: Path) -> None:
    archive = tar_of(tmp_path / "x.tar", [(plain("a"), b"1")])
    with pytest.raises(DatasetError, match="gone cannot be written"):
        unpack(archive, tmp_path / "gone", "tar")
