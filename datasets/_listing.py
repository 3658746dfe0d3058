"""Folder listings: which images and folders lie in a folder, and which pictures no reader takes.

A folder is listed once, without a look at each of its files: the system says with a name whether it is a folder.
Hidden entries are left out everywhere.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from bench.names import UNPRINTABLE

SUFFIXES = frozenset({".png", ".jpg", ".jpeg", ".bmp", ".tif", ".tiff", ".webp"})
"""Of the images that are read, in any case."""
STRANGE = frozenset(
    {
        *(".jfif", ".jpe", ".jif", ".jp2", ".j2k", ".jpx", ".jxl", ".gif", ".heic", ".heif", ".avif", ".apng", ".dib"),
        *(".pgm", ".ppm", ".pbm", ".pnm", ".pam", ".pfm", ".tga", ".ico", ".psd", ".exr", ".hdr", ".dcm", ".svg"),
        *(".dng", ".cr2", ".cr3", ".nef", ".arw", ".raf", ".orf", ".rw2", ".raw"),
    }
)
"""Of pictures that are not read."""
NOT_TEXT = "its name is not UTF-8, or has control characters. Expected one that can be printed and recorded; rename it"
TWIN = "another folder's name differs from it only in its Unicode form. Expected one of them; rename or join them"
SYSTEM = frozenset({"lost+found", "system volume information", "$recycle.bin", "#recycle", "@eadir", "__macosx"})
"""Folders that systems make, in lower case."""
_MOST = 100_000
"""Entries looked at when the pictures below a folder are counted."""


@dataclass(frozen=True, slots=True)
class Contents:
    """What lies directly in a folder, by name."""

    images: tuple[Path, ...] = ()
    """Files with the name of an image that is read. What a link leads to is not looked at, so that reading a dangling
    one fails instead of losing it."""
    folders: tuple[Path, ...] = ()
    strange: tuple[Path, ...] = ()
    """Pictures in formats that are not read."""
    trouble: str = ""
    """Why the folder cannot be looked into; empty also where it does not exist."""


def contents(folder: Path) -> Contents:
    """List a folder; nothing where it does not exist."""
    images, folders, strange = [], [], []
    try:
        with os.scandir(folder) as entries:
            found = sorted((entry for entry in entries if not entry.name.startswith(".")), key=lambda entry: entry.name)
        os.stat(f"{folder}/.")  # noqa: PTH116 - names may be told where no file may be reached
    except (FileNotFoundError, NotADirectoryError):
        return Contents()
    except OSError as error:
        return Contents(trouble=error.strerror or str(error))
    for entry in found:
        suffix = os.path.splitext(entry.name)[1].lower()  # noqa: PTH122 - a Path for each name would cost as much again
        if _is_dir(entry):
            folders.append(Path(entry.path))
        elif suffix in SUFFIXES:
            images.append(Path(entry.path))
        elif suffix in STRANGE:
            strange.append(Path(entry.path))
    return Contents(tuple(images), tuple(folders), tuple(strange))


def has_images(folder: Path) -> bool:
    """Whether an image that is read lies directly in a folder."""
    try:
        with os.scandir(folder) as entries:
            return any(_is_image(entry) for entry in entries)
    except OSError:
        return False


def subfolders(folder: Path) -> tuple[Path, ...]:
    """Return the folders directly in `folder`, by name."""
    return contents(folder).folders


def is_folder(path: Path) -> bool:
    """Whether a path is a folder, or a link to one; False where that may not be known."""
    return os.path.isdir(path)  # noqa: PTH112 - Path.is_dir raises where a folder above may not be looked into


def is_file(path: Path) -> bool:
    """Whether a path is a regular file, or a link to one; False where that may not be known."""
    return os.path.isfile(path)  # noqa: PTH113 - as above


def trouble_of(folder: Path) -> str:
    """Return why a folder cannot be looked into, without listing it; empty where it can."""
    try:
        os.scandir(folder).close()
        os.stat(f"{folder}/.")  # noqa: PTH116
    except OSError as error:
        return error.strerror or str(error)
    return ""


def pictures_below(folder: Path) -> list[Path]:
    """Return the pictures in a folder and in those below it, of whatever format; links to folders are not followed."""
    return list(_pictures(folder))


def _pictures(folder: Path) -> Iterator[Path]:
    seen = 0
    for place, folders, names in os.walk(folder):
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        for name in sorted(names):
            seen += 1
            suffix = os.path.splitext(name)[1].lower()  # noqa: PTH122
            if not name.startswith(".") and (suffix in SUFFIXES or suffix in STRANGE):
                yield Path(place, name)
        if seen > _MOST:
            return


def printable(path: Path) -> str:
    r"""Return a path as text that can be printed and encoded; bytes that are not UTF-8 read as `\xff`."""
    text = os.fsencode(path).decode("utf-8", "backslashreplace")
    return UNPRINTABLE.sub(lambda found: ascii(found[0])[1:-1], text)


def is_text(name: str) -> bool:
    """Whether a file name can be printed, and used as an id on another machine: UTF-8 without control characters."""
    return UNPRINTABLE.search(name) is None


def _is_image(entry: os.DirEntry[str]) -> bool:
    suffix = os.path.splitext(entry.name)[1].lower()  # noqa: PTH122
    return suffix in SUFFIXES and not entry.name.startswith(".") and not _is_dir(entry)


def _is_dir(entry: os.DirEntry[str]) -> bool:
    try:
        return entry.is_dir()
    except OSError:  # a link in a circle, or into a folder that may not be looked into
        return False
