"""Hostile input: how a valid file is damaged, and what every reader owes whoever gives it such a file.

A reader may read what it is given or refuse it with an error of bench's. It may not crash, write outside the folders it
was given, start a process, open a connection, let a pickle name anything, or take memory that the file did not earn.
`BENCH_FUZZ=100 pytest tests/fuzz` tries a hundred times as many cases, other ones each time.
"""

# ruff: noqa: PTH115, PTH118, PTH119, PTH120
# what sees every file that is opened must not be slow, nor open and import anything itself

from __future__ import annotations

import os
import resource
import sys
import tempfile
import threading
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeVar

from hypothesis import HealthCheck, Phase, settings
from hypothesis import strategies as st

from bench.errors import BenchError

T = TypeVar("T")

TIMES = float(os.environ.get("BENCH_FUZZ", "1"))
TRIED: Counter[str] = Counter()
"""Cases tried by kind of input, printed at the end of the session."""
REFUSED: Counter[str] = Counter()
MEMORY = 1 << 30
"""Bytes that one case may add to the process's peak: the largest image that is read takes 0.7 GB on its way."""


def cases(count: int) -> settings:
    """How many examples a test takes; always the same ones unless BENCH_FUZZ asks for more."""
    return settings(
        max_examples=max(1, round(count * TIMES)),
        derandomize=TIMES == 1,
        # a case as it was found says enough, and making it smaller takes minutes
        phases=(Phase.explicit, Phase.reuse, Phase.generate),
        deadline=None,
        suppress_health_check=list(HealthCheck),
    )


# ------------------------------------------------------------------------------------------------------- damage
_NUMBERS = [
    b"\0",
    b"\xff",
    b"\x7f\xff\xff\xff",
    b"\xff\xff\xff\x7f",
    b"\x80\0\0\0",
    b"\xff" * 8,
    b"\0" * 8,
    b"99999999",
]
_bits = st.sampled_from(_NUMBERS) | st.binary(min_size=1, max_size=8)
_edits = st.lists(
    st.tuples(
        st.sampled_from(["put", "put", "put", "insert", "cut", "drop", "repeat", "move"]),
        # what lies at the beginning says what the rest means
        st.integers(0, 63) | st.integers(0, 1 << 20),
        st.integers(1, 64),
        _bits,
    ),
    min_size=1,
    max_size=4,
)


def damaged(*contents: bytes) -> st.SearchStrategy[bytes]:
    """One of some files, or any bytes at all, with up to four pieces changed, put in, left out, repeated or moved."""
    return st.builds(_damage, st.sampled_from(contents), _edits) | st.binary(max_size=64)


def _damage(content: bytes, edits: Sequence[tuple[str, int, int, bytes]]) -> bytes:
    data = bytearray(content)
    for how, where, size, bits in edits:
        at = where % (len(data) + 1)
        piece = bytes(data[at : at + size])
        if how == "put":
            data[at : at + len(bits)] = bits
        elif how == "insert":
            data[at:at] = bits
        elif how == "cut":
            del data[at:]
        elif how == "drop":
            del data[at : at + size]
        elif how == "repeat":
            data[at:at] = piece * 3
        else:
            del data[at : at + size]
            data[len(data) // 2 : len(data) // 2] = piece
    return bytes(data)


NAMES = (
    *("../../x", "/tmp/x", "a/b", "..", ".", "", " ", "con", "-rf", "~", "$(touch x)", "`x`", "{{ 7*7 }}", "%s%n"),
    *("\x1b[31mred\x1b]0;title\x07", "a\nb", "a\rb", "\0", "\x9b2J", "\u202etxt.exe", "\ud800", "caf\udce9", "é" * 3),
    *("=cmd()", "+1", "-1", "@x", "\t=1", "<script>alert(1)</script>", "\\input{/etc/passwd}", "](javascript:x)"),
    *("x" * 300, "mean", "pooled", "image/auroc", "NaN", "__proto__", "[bold]x[/]", ":bug:", "表"),
)
"""Names that somebody could give a class, a file or a method."""
names = st.sampled_from(NAMES) | st.text(max_size=8)

_EXTREMES = (0, -1, 1, 2**31, 2**63, -(2**63) - 1, 10**400, 1e308, -1e308, 5e-324, 0.5, 1.5, True, None)
extremes = st.sampled_from(_EXTREMES) | st.integers() | st.floats(allow_nan=False, allow_infinity=False)

anything = st.recursive(
    extremes | names,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(names, inner, max_size=3),
    max_leaves=6,
)
"""Any value that JSON can hold."""


def paths_of(value: Any, here: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    """Where something lies in nested dictionaries and lists."""
    children = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    return [*([here] if here else []), *(path for key, child in children for path in paths_of(child, (*here, key)))]


@st.composite
def bent(draw: st.DrawFn, value: Any) -> Any:
    """A copy of nested data with up to three places changed: of the same type, of any, gone, or under another name."""
    copy = _copied(value)
    for _ in range(draw(st.integers(1, 3))):
        path = draw(st.sampled_from(paths_of(copy)))
        place = copy
        for key in path[:-1]:
            place = place[key]
        key, how = path[-1], draw(st.sampled_from(["alike", "alike", "alike", "any", "gone", "renamed"]))
        old = place[key]
        if how == "gone":
            del place[key]
        elif how == "renamed" and isinstance(place, dict):
            place[draw(names)] = place.pop(key)
        elif how == "any":
            place[key] = draw(anything)
        else:
            place[key] = draw(_alike(old))
        if not paths_of(copy):
            break
    return copy


def _alike(old: Any) -> st.SearchStrategy[Any]:
    if isinstance(old, str):
        return names
    if isinstance(old, bool) or old is None:
        return st.booleans() | st.none() | names
    if isinstance(old, int | float):
        return extremes
    if isinstance(old, list):
        return st.lists(st.sampled_from(old), max_size=4) if old else st.lists(anything, max_size=2)
    return st.dictionaries(names, st.sampled_from([*old.values(), {}]), max_size=3)


def _copied(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _copied(item) for key, item in value.items()}
    return [_copied(item) for item in value] if isinstance(value, list | tuple) else value


# ------------------------------------------------------------------------------------------------------- oracle
def survives(kind: str, call: Callable[[], T], *folders: Path, memory: int = MEMORY) -> T | None:
    """Call a reader; return what it read, or None where it refused.

    Args:
        kind: for the count of cases.
        call: the reader on its hostile file.
        folders: where it may write; nowhere else.
        memory: bytes that it may add to the process's peak.
    """
    TRIED[kind] += 1
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    try:
        with watched(*folders) as broken:
            found = call()
    except BenchError as error:
        REFUSED[kind] += 1
        assert str(error).strip(), f"a {type(error).__name__} without a word"
        found = None
    assert not broken, f"{kind}: {broken}"
    grown = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) * 1024
    assert grown < memory, f"{kind}: took {grown:,} bytes"
    return found


@contextmanager
def watched(*folders: Path) -> Iterator[list[str]]:
    """Give a list that fills with all that is written outside of some folders, started, connected to or unpickled."""
    _install()
    watch = _Watch(tuple(os.path.realpath(folder) for folder in folders))
    _active.append(watch)
    try:
        yield watch.broken
    finally:
        _active.remove(watch)


class _Watch:
    def __init__(self, folders: tuple[str, ...]) -> None:
        self.folders = folders
        self.broken: list[str] = []

    def see(self, event: str, arguments: tuple[Any, ...]) -> None:
        if event in _FORBIDDEN:
            self.broken.append(f"{event} {arguments}")
        elif event == "open":
            path, _, flags = arguments
            if isinstance(flags, int) and flags & _WRITES and not self._may(path):
                self.broken.append(f"{event} {path!r}")
        elif event in _CHANGES:
            folder = arguments[-1] if event in _RELATIVE and arguments[-1] != -1 else None
            for path in arguments[: _CHANGES[event]]:
                if folder is not None and isinstance(path, str | bytes):
                    path = os.path.join(os.readlink(f"/proc/self/fd/{folder}"), os.fsdecode(path))
                if not self._may(path):
                    self.broken.append(f"{event} {path!r}")

    def _may(self, path: Any) -> bool:
        if not isinstance(path, str | bytes | os.PathLike):
            return True  # what was opened before is known by number
        text = os.fsdecode(path)
        if text in ("/dev/null", ":memory:") or "__pycache__" in text:
            return True
        real = os.path.join(os.path.realpath(os.path.dirname(text) or "."), os.path.basename(text))
        return any(real == folder or real.startswith(f"{folder}{os.sep}") for folder in self.folders)


_WRITES = os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_APPEND
_FORBIDDEN = frozenset(
    {
        *("subprocess.Popen", "os.system", "os.exec", "os.posix_spawn", "os.spawn", "os.fork", "pty.spawn"),
        *("socket.connect", "socket.getaddrinfo", "webbrowser.open", "pickle.find_class"),
    }
)
_CHANGES = {
    **dict.fromkeys(("os.mkdir", "os.remove", "os.rmdir", "os.truncate", "os.chmod", "os.chown", "os.utime"), 1),
    **dict.fromkeys(("os.rename", "os.link", "shutil.copyfile", "shutil.move"), 2),
    **dict.fromkeys(("shutil.rmtree", "shutil.unpack_archive", "sqlite3.connect"), 1),
}
_RELATIVE = frozenset({"os.mkdir", "os.remove", "os.rmdir"})
"""Events whose last argument is the folder that a path is relative to, by its number."""
_active: list[_Watch] = []
_installing = threading.Lock()
_installed = False


def _install() -> None:
    """Listen to Python's audit events; a hook stays for as long as the process lives."""
    global _installed
    with _installing:
        if not _installed:
            sys.addaudithook(lambda event, arguments: [watch.see(event, arguments) for watch in _active] and None)
            _installed = True


@contextmanager
def scratch() -> Iterator[Path]:
    """An empty folder for one case."""
    with tempfile.TemporaryDirectory(prefix="bench-fuzz-") as folder:
        yield Path(folder)
