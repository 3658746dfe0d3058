"""Safe unpacking of archives: plain files and folders alone, below the folder asked for alone.

Everything is unpacked into a hidden folder first and moved into place at the end, so that an archive that is refused
leaves nothing behind. Owners, permissions and times in the archive are ignored.
"""

from __future__ import annotations

import errno
import gzip
import io
import shutil
import stat
import tarfile
import tempfile
import zipfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path, PurePosixPath
from typing import IO, Literal

from bench import regular
from bench.errors import DatasetError

MAX_RATIO = 20
"""Archives that grow more than so many times are refused; photographs hardly grow at all."""
MAX_FILES = 1_000_000
_ROOM = 2**20
"""Bytes that may come out of even the smallest archive."""
_CHUNK = 2**20
_FAULTS_OF_NAMES = frozenset(
    (errno.EEXIST, errno.ENOTDIR, errno.EISDIR, errno.ENAMETOOLONG, errno.EINVAL, errno.EILSEQ, errno.ELOOP)
)
"""What the system answers where a name is the trouble, not the disk."""
_DAMAGED = (tarfile.TarError, zipfile.BadZipFile, gzip.BadGzipFile, zlib.error, EOFError)

_Member = tuple[str, str, IO[bytes] | None]
"""Name, what it is where it is neither file nor folder (else empty), content (None for a folder)."""


def unpack(archive: Path, folder: Path, kind: Literal["tar", "zip"], limit: int | None = None) -> int:
    """Unpack an archive into `folder` and return the number of files.

    Args:
        archive: a tar, plain or gzipped, or a zip.
        folder: existing; what the archive has at its top comes here.
        kind: by the dataset's card, not by the name.
        limit: bytes that may come out; by default `MAX_RATIO` times the archive's own, or 1 MiB.

    Raises:
        DatasetError: a member would lie outside the folder, is a link, a device or anything but a file or folder, has a
            name that is not UTF-8 or comes twice; the archive is damaged or too large; something is in the way.
    """
    limit = limit or max(_ROOM, MAX_RATIO * archive.stat().st_size)
    try:
        draft = Path(tempfile.mkdtemp(prefix=f".{archive.name}.", suffix=".part", dir=folder))
    except OSError as error:
        raise DatasetError(f"{folder} cannot be written: {error.strerror}. Choose another folder") from error
    try:
        with _reported(archive):
            opened = _tar(archive, limit) if kind == "tar" else _zip(archive)
            count = _write(opened, draft, archive, limit)
        _move(draft, folder, archive)
    finally:
        shutil.rmtree(draft, ignore_errors=True)
    return count


def _write(members: Iterator[_Member], draft: Path, archive: Path, limit: int) -> int:
    count = written = 0
    for name, strange, content in members:
        if strange:
            raise DatasetError(_refused(archive, name, f"is {strange}. Expected files and folders only"))
        place = _inside(archive, name)
        count += content is not None
        if count > MAX_FILES:
            raise DatasetError(_refused(archive, name, f"is one of more than {MAX_FILES:,} files"))
        if content is not None and not place.parts:
            raise DatasetError(_refused(archive, name, "is a file without a name"))
        target = _made(draft / place, archive, name, is_file=content is not None)
        if content is None:
            continue
        with content, target.open("wb") as file:
            while chunk := content.read(_CHUNK):
                written += len(chunk)
                if written > limit:
                    raise DatasetError(_too_large(archive, limit))
                file.write(chunk)
    return count


def _made(target: Path, archive: Path, name: str, is_file: bool) -> Path:
    """Make an empty file, or a folder, and the folders above it.

    Raises:
        DatasetError: the name is the fault: it comes twice, lies below a file, or is none that a file can have.
        OSError: the disk is.
    """
    folder = target.parent if is_file else target
    why = "lies below a file, or takes its place"
    try:
        folder.mkdir(parents=True, exist_ok=True)
        why = "comes twice"
        if is_file:
            target.touch(exist_ok=False)
    except OSError as error:
        if error.errno not in _FAULTS_OF_NAMES:
            raise
        what = why if error.errno in (errno.EEXIST, errno.ENOTDIR) else f"cannot be made ({error.strerror})"
        advice = "Expected names that a file can have, each once"
        raise DatasetError(_refused(archive, name, f"{what}. {advice}")) from error
    return target


def _inside(archive: Path, name: str) -> PurePosixPath:
    """Return where a member belongs, relative to the folder unpacked into."""
    path = PurePosixPath(name)
    if path.is_absolute() or ".." in path.parts or "\\" in name or "\0" in name:
        raise DatasetError(_refused(archive, name, "would lie outside of the folder unpacked into"))
    if any("\ud800" <= letter <= "\udfff" for letter in name):
        raise DatasetError(_refused(archive, name, "has a name that is not UTF-8"))
    return path


def _tar(archive: Path, limit: int) -> Iterator[_Member]:
    with regular.opened(archive) as raw:
        zipped = raw.read(2) == b"\x1f\x8b"
        raw.seek(0)
        plain: IO[bytes] = gzip.GzipFile(fileobj=raw) if zipped else raw  # type: ignore[assignment]
        # headers count as well: a name of gigabytes of zeros would be read into memory
        with tarfile.open(fileobj=_Limited(plain, archive, limit), mode="r|") as tar:
            for member in tar:
                strange = "" if member.isfile() or member.isdir() else _tar_kind(member)
                yield member.name, strange, tar.extractfile(member) if member.isfile() else None
        # the rest is read too, since gzip's own sum comes last
        while plain.read(_CHUNK):
            pass


def _tar_kind(member: tarfile.TarInfo) -> str:
    if member.issym() or member.islnk():
        return f"a {'symbolic' if member.issym() else 'hard'} link to {member.linkname}"
    return "a device or pipe"


def _zip(archive: Path) -> Iterator[_Member]:
    with regular.opened(archive) as raw, zipfile.ZipFile(raw) as content:
        for info in content.infolist():
            mode = stat.S_IFMT(info.external_attr >> 16)
            plain = mode in (0, stat.S_IFREG, stat.S_IFDIR)
            strange = "" if plain else "a symbolic link" if mode == stat.S_IFLNK else "a device or pipe"
            folder = info.filename.endswith("/")
            yield info.filename, strange, content.open(info) if plain and not folder else None


class _Limited(io.RawIOBase):
    """Reads on until more than `limit` bytes and the space of as many headers have come."""

    def __init__(self, inner: IO[bytes], archive: Path, limit: int) -> None:
        self._inner = inner
        self._archive = archive
        self._limit = limit
        self._left = 2 * limit + _ROOM

    def read(self, size: int = -1) -> bytes:
        """Return what the inner file gives."""
        content = self._inner.read(size)
        self._left -= len(content)
        if self._left < 0:
            raise DatasetError(_too_large(self._archive, self._limit))
        return content


def _move(draft: Path, folder: Path, archive: Path) -> None:
    entries = sorted(draft.iterdir())
    for entry in entries:
        if (folder / entry.name).exists():
            raise DatasetError(f"{folder / entry.name} is in the way of what {archive.name} holds. Move it elsewhere")
    for entry in entries:
        entry.replace(folder / entry.name)


@contextmanager
def _reported(archive: Path) -> Iterator[None]:
    try:
        yield
    except (*_DAMAGED, ValueError, NotImplementedError) as error:
        why = str(error) or type(error).__name__
        raise DatasetError(f"{archive}: damaged or no archive of the kind expected ({why}). Fetch it again") from error
    except RuntimeError as error:  # zipfile's way to say that a member is encrypted
        raise DatasetError(f"{archive}: cannot be unpacked ({error})") from error
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            raise DatasetError(f"{archive}: no space left to unpack it. Free some, then run it again") from error
        raise DatasetError(f"{archive}: unpacking failed ({error.strerror or error})") from error


def _refused(archive: Path, name: str, why: str) -> str:
    shown = name.encode("utf-8", "backslashreplace").decode()
    return f"{archive}: refused, nothing was unpacked: its member '{shown}' {why}"


def _too_large(archive: Path, limit: int) -> str:
    return f"{archive}: refused, nothing was unpacked: more than {limit:,} bytes would come out of it"
