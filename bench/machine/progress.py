"""Progress by phases, reported without knowing who listens."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import Protocol

Advance = Callable[[int, str], None]
"""Called with the number of units done since the last call and a short note (the loss, for example)."""


class Progress(Protocol):
    """A listener of a run."""

    def phase(self, name: str, total: int, done: int = 0) -> AbstractContextManager[Advance]:
        """Announce a phase of `total` units, of which `done` were done earlier; the block reports progress."""

    def say(self, text: str) -> None:
        """Tell the user one line."""


class Silent:
    """Listens to nothing; for library use and tests."""

    @contextmanager
    def phase(self, name: str, total: int, done: int = 0) -> Iterator[Advance]:
        """Ignore the phase."""
        yield lambda units, note: None

    def say(self, text: str) -> None:
        """Ignore the line."""
