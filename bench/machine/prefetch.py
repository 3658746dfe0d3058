"""Prefetching in a thread: what is wanted next is made while the caller is busy with what it has."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Generic, TypeVar

K = TypeVar("K")
R = TypeVar("R")


class Beforehand(Generic[K, R]):
    """One result at a time, made before it is asked for.

    Args:
        work: from a key to its result. Runs in one thread for what was expected, in the caller's for all else.
    """

    def __init__(self, work: Callable[[K], R]) -> None:
        self._work = work
        self._thread = ThreadPoolExecutor(max_workers=1)
        self._pending: tuple[K, Future[R]] | None = None

    def expect(self, key: K) -> None:
        """Start on what will be taken next; what was expected before and not taken is given up."""
        self._drop()
        self._pending = key, self._thread.submit(self._work, key)

    def take(self, key: K) -> R:
        """Return the key's result; raises here what `work` raised, also where it ran in the thread."""
        if self._pending is not None and self._pending[0] == key:
            future = self._pending[1]
            self._pending = None
            return future.result()
        self._drop()
        return self._work(key)

    def _drop(self) -> None:
        if self._pending is not None:
            self._pending[1].cancel()
            self._pending = None


def one_behind(work: Callable[[K], R], items: Iterable[K]) -> Iterator[R]:
    """Yield work(item) for every item, in order; a thread works on an item while the caller draws the next.

    Items are drawn by the caller's thread, and no more than two exist at once: the one that is worked on and the one
    that is being drawn. What `work` raises is raised here, before another item is drawn.
    """
    with ThreadPoolExecutor(max_workers=1) as thread:
        running: Future[R] | None = None
        for item in items:
            if running is not None:
                yield running.result()
            running = thread.submit(work, item)
            del item
        if running is not None:
            yield running.result()
