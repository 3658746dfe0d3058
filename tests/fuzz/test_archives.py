"""Archives: members that lead elsewhere, that are no files, that never end."""

from __future__ import annotations

import gzip
import io
import tarfile
import zipfile
from typing import Literal

import pytest
from hostile import cases, damaged, names, scratch, survives
from hypothesis import given
from hypothesis import strategies as st

from bench.curate.archives import unpack

Kind = Literal["tar", "zip"]
_TYPES = (tarfile.REGTYPE, tarfile.REGTYPE, tarfile.DIRTYPE, tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.FIFOTYPE)
_MODES = (0, 0, 0o100644, 0o120777, 0o020666, 0o010666, 0o040755)
member_names = names | st.sampled_from(
    ("a", "a/b", "./a", "../a", "/a", "a/../../b", "a//b", "~/a", "a\\..\\b", "C:\\a", "a/", ".")
)


def tar(members: list[tuple[str, bytes, int, str]], zipped: bool, form: int = tarfile.GNU_FORMAT) -> bytes:
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w:gz" if zipped else "w", format=form) as archive:
        for name, content, kind, target in members:
            info = tarfile.TarInfo(name)
            info.type, info.linkname, info.size = _TYPES[kind % len(_TYPES)], target, len(content)
            info.mode, info.uid = 0o7777, 0
            archive.addfile(info, io.BytesIO(content))
    return out.getvalue()


def packed(members: list[tuple[str, bytes, int, str]]) -> bytes:
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content, kind, _ in members:
            info = zipfile.ZipInfo(name)
            info.external_attr = _MODES[kind % len(_MODES)] << 16
            archive.writestr(info, content)
    return out.getvalue()


def unpacked(content: bytes, kind: Kind) -> None:
    """Unpack into a folder of its own beside a file that must stay as it is."""
    with scratch() as place:
        (place / "data").mkdir()
        (place / "a").write_bytes(b"not yours")
        archive = place / "archive"
        archive.write_bytes(content)
        count = survives(
            f"{kind} archive", lambda: unpack(archive, place / "data", kind), place / "data", memory=1 << 27
        )
        assert sorted(path.name for path in place.iterdir()) == ["a", "archive", "data"]
        assert (place / "a").read_bytes() == b"not yours"
        found = [path for path in (place / "data").rglob("*") if not path.is_dir()]
        assert all(path.is_file() and not path.is_symlink() for path in found)
        assert len(found) == (count or 0), "what is refused leaves nothing behind"


members = st.lists(
    st.tuples(
        member_names, st.binary(max_size=40), st.integers(0, 41), st.sampled_from(("a", "../a", "/etc/passwd", ""))
    ),
    max_size=4,
)


@cases(120)
@given(inside=members, zipped=st.booleans(), form=st.sampled_from((tarfile.GNU_FORMAT, tarfile.PAX_FORMAT)))
def test_tars_of_any_members(inside: list[tuple[str, bytes, int, str]], zipped: bool, form: int) -> None:
    try:
        content = tar(inside, zipped, form)
    except (UnicodeEncodeError, ValueError):
        return  # a name that this format cannot hold
    unpacked(content, "tar")


@cases(120)
@given(inside=members)
@pytest.mark.filterwarnings("ignore:Duplicate name")
def test_zips_of_any_members(inside: list[tuple[str, bytes, int, str]]) -> None:
    try:
        content = packed(inside)
    except UnicodeEncodeError:
        return
    unpacked(content, "zip")


PLAIN = [("set/a", b"first" * 9, 0, ""), ("set/b/c", b"second", 0, ""), ("e", b"", 2, "")]
TARS = [tar(PLAIN, zipped=False), tar(PLAIN, zipped=True), tar(PLAIN, zipped=False, form=tarfile.PAX_FORMAT)]
SPARSE = gzip.compress(TARS[0], 0)


@cases(200)
@given(content=damaged(*TARS, SPARSE))
def test_damaged_tars(content: bytes) -> None:
    unpacked(content, "tar")


@cases(200)
@given(content=damaged(packed(PLAIN), packed(PLAIN[:1])))
def test_damaged_zips(content: bytes) -> None:
    unpacked(content, "zip")


@pytest.mark.parametrize("kind", ["tar", "zip"])
def test_bombs(kind: Kind) -> None:
    zeros = bytes(1 << 26)
    unpacked(tar([("a", zeros, 0, "")], zipped=True) if kind == "tar" else packed([("a", zeros, 0, "")]), kind)


def test_a_tar_whose_header_never_ends() -> None:
    head = tarfile.TarInfo("././@LongLink")
    head.type, head.size = tarfile.GNUTYPE_LONGNAME, 1 << 33
    out = io.BytesIO()
    with gzip.GzipFile(fileobj=out, mode="wb", compresslevel=9) as file:
        file.write(head.tobuf(tarfile.GNU_FORMAT))
        for _ in range(64):
            file.write(bytes(1 << 22))
    unpacked(out.getvalue(), "tar")
