"""Checksums of numba's cached kernels: a damaged one would be executed."""

from __future__ import annotations

import hashlib
import json
import warnings
from collections.abc import Iterator
from pathlib import Path

from bench import regular
from bench.errors import StoreError
from bench.files import atomic

LIST = "sha256.json"


def discard_damaged(folder: Path) -> None:
    """Remove each file below `folder` that its list does not vouch for, with a warning; it is compiled again.

    In a folder without a list, which older versions left, nothing is vouched for.
    """
    for listed in sorted(folder.glob(f"*/{LIST}")):
        try:
            known = json.loads(regular.read_text(listed))
        except (OSError, ValueError):
            known = {}
        for file in _files(listed.parent):
            if not isinstance(known, dict) or known.get(file.name) != _sha256(file):
                # a process that compiles it right now goes on with what it has, and only the file is gone
                warnings.warn(f"{file} is damaged or not listed: compiled again", RuntimeWarning, stacklevel=2)
                file.unlink(missing_ok=True)


def vouch(folder: Path) -> None:
    """List the checksums of all files below `folder`, where the list is not up to date and can be written."""
    for place in sorted({file.parent for file in folder.glob("*/*.nb[ic]")}):
        listed = place / LIST
        text = json.dumps({file.name: _sha256(file) for file in _files(place)}, indent=1)
        try:
            if not listed.is_file() or regular.read_text(listed) != text:
                with atomic(listed, durable=False) as out:
                    out.write(text.encode())
        except (OSError, ValueError, StoreError):
            continue


def _files(folder: Path) -> Iterator[Path]:
    # glob, not iterdir: the folder may be removed by bench cache clear
    return (file for file in sorted(folder.glob("*")) if file.suffix in (".nbi", ".nbc"))


def _sha256(file: Path) -> str:
    try:
        return hashlib.sha256(regular.read_bytes(file)).hexdigest()
    except OSError:  # another process took it away
        return ""
