"""Datasets as the commands of `bench data` open and read them."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from bench.api import Dataset


def open_dataset(name: str, root: Path | None) -> Dataset:
    """Return the dataset of a name, or of one's own folder, where it lies; raises UsageError and DatasetError."""
    from bench import own
    from bench.errors import UsageError
    from bench.home import expanded
    from bench.registry import DATASETS

    if own.is_folder(name):
        if root is not None:
            raise UsageError(f"{name} --root {root}: two folders. Expected one, or a name of bench ls datasets")
        name, root = own.READER, expanded(name)
    dataset = DATASETS.load(name)
    return dataset(dataset.locate(root))


@contextmanager
def reading(verb: str) -> Iterator[Callable[[int, int], None]]:
    """Give a callback (done, total) that shows on stderr how far the work is."""
    from bench.machine.terminal import TerminalProgress, console

    with ExitStack() as stack:
        advance: Callable[[int, str], None] | None = None

        def update(done: int, total: int) -> None:
            nonlocal advance
            if advance is None:
                advance = stack.enter_context(TerminalProgress(console(stderr=True)).phase(verb, total, done - 1))
            advance(1, "")

        yield update
