"""Download of one file, resumed after a cut connection; a file that is not the expected one is not kept.

What has arrived lies beside the target in a hidden `.part` file; a note beside it says which version of the server's
file that is (its ETag or date), so that two versions are never glued together. The same command goes on from there,
also days later. A server that cannot go on, or names no version, sends the file from its beginning again.
"""

from __future__ import annotations

import http.client
import json
import shutil
import sys
import threading
import urllib.error
import urllib.request
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any
from urllib.parse import urlsplit

from bench import regular
from bench.api import Download
from bench.errors import BenchError, DatasetError
from bench.files import try_lock
from bench.loading.hashes import sha256

if TYPE_CHECKING:
    from bench.machine.progress import Progress

PATIENCE_S = 6.0
"""How long a server may take to answer at all, name resolution included."""
STALL_S = 20.0
"""How long an answer may pause before it counts as cut."""
TRIES = 4
"""Connections made for one file before giving up."""
_CHUNK = 2**18


def fetch(download: Download, target: Path, progress: Progress) -> str:
    """Download a file to `target`, whose folder exists, and return its SHA-256 in hex.

    Raises:
        DatasetError: no answer within seconds, the file is not there, the connection keeps breaking off, the disk is
            full, or what arrived has another size or SHA-256 than expected. What arrived of the right file is kept.
    """
    part = target.with_name(f".{target.name}.part")
    with try_lock(target.with_name(f".{target.name}.lock")) as mine:
        if not mine:
            raise DatasetError(f"{target} is being downloaded by another process. Wait for it to end")
        for own in (part, _note_of(part)):
            if own.exists() and not own.is_file():
                raise DatasetError(f"{own} is in the way: no regular file. Move it elsewhere")
        _Transfer(download, part).run(progress)
        digest = sha256(part)
        if download.sha256 and digest != download.sha256:
            _forget(part)
            raise DatasetError(
                f"{download.url}: what arrived has SHA-256 {digest}. Expected {download.sha256}. It was thrown away; "
                f"if the same command gives this again, the server's file is not the one that its owners published"
            )
        part.replace(target)
        _forget(part)
    return digest


class _CutError(Exception):
    """The connection broke off; what has arrived is kept."""


@dataclass
class _Transfer:
    """Fills one `.part` file."""

    download: Download
    part: Path

    def run(self, progress: Progress) -> None:
        for left in reversed(range(TRIES)):
            try:
                return self._pull(progress)
            except _CutError as cut:
                if not left:
                    raise DatasetError(
                        f"{self.download.url}: the connection broke off {TRIES} times ({cut}), last after "
                        f"{_size(self.part):,} bytes, which are kept. Run the same command again to go on from there"
                    ) from cut

    def _pull(self, progress: Progress) -> None:
        start, version = self._begun()
        headers = {"User-Agent": "bench", "Accept-Encoding": "identity"}
        if start:
            headers |= {"Range": f"bytes={start}-", "If-Range": version}
        with _answer(self.download.url, headers) as answer:
            goes_on = answer.status == http.client.PARTIAL_CONTENT
            if goes_on and not str(answer.headers["Content-Range"]).startswith(f"bytes {start}-"):
                _forget(self.part)
                raise _CutError("the server sent another part of the file than asked for")
            start = start if goes_on else 0
            length = answer.headers["Content-Length"]
            total = start + int(length) if length else self.download.bytes
            self._check_size(total, start)
            try:
                self._note(answer.headers)
                with self.part.open("r+b" if goes_on else "wb") as file:
                    file.seek(start)
                    with progress.phase("KiB", _kib(total), _kib(start)) as advance:
                        self._copy(answer, file, start, total, lambda units: advance(units, ""))
            except OSError as error:
                raise DatasetError(f"{self.part} cannot be written: {error.strerror or error}") from error
        if total and _size(self.part) < total:
            raise _CutError(f"{_size(self.part):,} of {total:,} bytes arrived")

    def _copy(self, answer: Any, file: IO[bytes], done: int, total: int, advance: Callable[[int], None]) -> None:
        while True:
            try:
                chunk = answer.read(_CHUNK)
            except (OSError, http.client.HTTPException) as error:
                raise _CutError(f"{type(error).__name__}: {error}") from error
            if not chunk:
                return
            file.write(chunk)
            advance(_kib(done + len(chunk)) - _kib(done))
            done += len(chunk)
            if total and done > total:
                _forget(self.part)
                raise DatasetError(f"{self.download.url}: sends more than the {total:,} bytes that were expected")

    def _check_size(self, total: int, start: int) -> None:
        expected = self.download.bytes
        if expected and total != expected:
            _forget(self.part)
            raise DatasetError(
                f"{self.download.url}: the server's file has {total:,} bytes. Expected {expected:,}: it is not the one "
                f"that the owners published"
            )
        free = shutil.disk_usage(self.part.parent).free
        if total - start > free:
            raise DatasetError(
                f"{self.part.parent}: {_kib(free):,} KiB free. Expected room for {_kib(total - start):,} KiB more"
            )

    def _begun(self) -> tuple[int, str]:
        """Return how many bytes are there and of which version; 0 where that version is unknown."""
        try:
            note = json.loads(regular.read_text(_note_of(self.part)))
            version = note["version"] if note["url"] == self.download.url else ""
        except (OSError, ValueError, KeyError, TypeError):
            version = ""
        # the last byte is asked for once more, since a server refuses to send nothing of a file that is all there
        size = min(_size(self.part), self.download.bytes or sys.maxsize)
        return (max(size - 1, 0), version) if version else (0, "")

    def _note(self, headers: Any) -> None:
        tag = headers["ETag"] or ""
        # a weak tag is that of files that only mean the same
        version = tag if tag and not tag.startswith("W/") else headers["Last-Modified"] or ""
        note = {"url": self.download.url, "version": version}
        _note_of(self.part).write_text(json.dumps(note), encoding="utf-8")


class _Redirects(urllib.request.HTTPRedirectHandler):
    """Follows redirects, but from https to nothing less, and to nothing but the web."""

    def redirect_request(self, req: Any, fp: Any, code: int, msg: str, headers: Any, newurl: str) -> Any:
        """Return the request to go on with."""
        allowed = ("https",) if urlsplit(req.full_url).scheme == "https" else ("https", "http")
        if urlsplit(newurl).scheme not in allowed:
            raise DatasetError(f"{req.full_url} sends on to {newurl}. Expected an address of {' or '.join(allowed)}")
        return super().redirect_request(req, fp, code, msg, headers, newurl)


def _answer(url: str, headers: dict[str, str]) -> Any:
    """Return the opened response.

    Asked for in a thread of its own, because a resolver that does not answer cannot be given a timeout.
    """
    outcome: list[Any] = []

    def ask() -> None:
        try:
            opener = urllib.request.build_opener(_Redirects)
            outcome.append(opener.open(urllib.request.Request(url, headers=headers), timeout=STALL_S))
        except Exception as error:
            outcome.append(error)

    thread = threading.Thread(target=ask, daemon=True)
    thread.start()
    thread.join(PATIENCE_S)
    found = outcome[0] if outcome else TimeoutError(f"no answer within {PATIENCE_S:.0f} s")
    if isinstance(found, BenchError):
        raise found
    if isinstance(found, urllib.error.HTTPError):
        raise DatasetError(f"{url}: the server answers {found.code} {found.reason}. Expected the file") from found
    if isinstance(found, Exception):
        why = getattr(found, "reason", found)
        raise DatasetError(
            f"{url} cannot be reached: {why}. Expected a network connection; what has arrived before is kept. Get it "
            f"on another machine, or run the same command again"
        ) from found
    return found


def _kib(count: int) -> int:
    return -(-count // 1024)


def _size(path: Path) -> int:
    return path.stat().st_size if path.is_file() else 0


def _note_of(part: Path) -> Path:
    return part.with_name(f"{part.name}.json")


def _forget(part: Path) -> None:
    part.unlink(missing_ok=True)
    _note_of(part).unlink(missing_ok=True)
