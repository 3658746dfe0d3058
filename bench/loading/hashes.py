"""SHA-256 of files, remembered until a file changes.

The memory is one SQLite file keyed by path, size, inode, mtime and ctime. ctime moves with every change of content or
times and cannot be set back, so a changed file is always read again; a file touched in the last two seconds is not
remembered, since a change within one clock tick would look the same. Each entry carries a checksum of its own.
"""

from __future__ import annotations

import hashlib
import sqlite3
import time
import zlib
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, suppress
from pathlib import Path

from bench import regular
from bench.cache import cache_dir
from bench.errors import DatasetError
from bench.machine.threads import cores

SETTLED_SECONDS = 2.0


def sha256(path: Path) -> str:
    """Return the SHA-256 of the file's bytes in hex, read in full."""
    with regular.opened(path) as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def content_hashes(paths: Iterable[Path], advance: Callable[[int], None] = lambda done: None) -> dict[Path, str]:
    """Return the SHA-256 of each file; unchanged files cost one stat. `advance(n)` is called as files are done.

    Raises:
        DatasetError: a file is missing or cannot be read.
    """
    unique = list(dict.fromkeys(paths))
    # before the first stat: what changed later than this may change again without its times showing it
    settled = time.time_ns() - int(SETTLED_SECONDS * 1e9)
    keys = {path: _key(path) for path in unique}
    with closing(_open()) as index:
        known = _recall(index) if unique else {}
        hashes = {path: sha for path, key in keys.items() if (sha := _opened(key, known.get(key, "")))}
        advance(len(hashes))
        missing = [path for path in unique if path not in hashes]
        # the key is taken before reading: a change in between gives a key that no later stat will match
        fresh: list[tuple[str, str]] = []
        try:
            with ThreadPoolExecutor(max_workers=min(16, 2 * cores())) as pool:
                digests = pool.map(_read, missing)
                try:
                    for path, digest in zip(missing, digests, strict=True):
                        hashes[path] = digest
                        if _newest(keys[path]) < settled:
                            fresh.append((keys[path], _sealed(keys[path], digest)))
                        advance(1)
                except BaseException:
                    # what was not begun is not waited for
                    pool.shutdown(wait=False, cancel_futures=True)
                    raise
        finally:
            # an unreadable file or Ctrl-C does not cost the files read before it
            _remember(index, fresh)
    return hashes


def check_unchanged(path: Path, digest: str) -> None:
    """Raise DatasetError where a file does not have the SHA-256 that it had when the run was planned."""
    if _read(path) != digest:
        raise DatasetError(f"{path} changed after the run was planned. Run the same command again")


def _open() -> sqlite3.Connection:
    folder = cache_dir()
    try:
        folder.mkdir(parents=True, exist_ok=True)
        index = sqlite3.connect(folder / "hashes.sqlite", timeout=60)
        index.execute("CREATE TABLE IF NOT EXISTS files (key TEXT PRIMARY KEY, sha TEXT NOT NULL)")
        index.commit()
    except (OSError, sqlite3.Error):
        # a read-only or broken cache costs time, never a result
        index = sqlite3.connect(":memory:")
        index.execute("CREATE TABLE files (key TEXT PRIMARY KEY, sha TEXT NOT NULL)")
    return index


def _recall(index: sqlite3.Connection) -> dict[str, str]:
    try:
        return dict(index.execute("SELECT key, sha FROM files"))
    except sqlite3.Error:
        return {}


def _remember(index: sqlite3.Connection, rows: list[tuple[str, str]]) -> None:
    with suppress(sqlite3.Error), index:
        index.executemany("INSERT OR REPLACE INTO files VALUES (?, ?)", rows)


def _sealed(key: str, digest: str) -> str:
    return f"{digest}-{zlib.crc32(f'{key}{digest}'.encode()):08x}"


def _opened(key: str, sealed: object) -> str:
    """Return the digest of an entry; empty where a byte of it is not what was written."""
    digest = sealed[:64] if isinstance(sealed, str) else ""
    return digest if sealed == _sealed(key, digest) else ""


def _key(path: Path) -> str:
    try:
        stat = path.stat()
        regular.require(stat, path)
    except OSError as error:
        raise DatasetError(f"{path} cannot be read: {error.strerror}. Check with: bench data verify") from error
    # !a: SQLite takes no names that are not UTF-8
    return f"{str(path.absolute())!a}|{stat.st_size}|{stat.st_ino}|{stat.st_mtime_ns}|{stat.st_ctime_ns}"


def _newest(key: str) -> int:
    mtime, ctime = key.rsplit("|", 2)[1:]
    return max(int(mtime), int(ctime))


def _read(path: Path) -> str:
    try:
        return sha256(path)
    except OSError as error:
        raise DatasetError(f"{path} cannot be read: {error.strerror}. Check with: bench data verify") from error
