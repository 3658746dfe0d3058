"""Records for a report: those that hold scores, and what is left out said."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Sequence
from pathlib import Path

from bench.store.folder import find
from bench.store.record import Record


def read(
    folders: Sequence[Path],
    say: Callable[[str], None],
    methods: Collection[str] = (),
    datasets: Collection[str] = (),
) -> Iterator[Record]:
    """Yield the done records of some folders in the order of their paths, and say what is left out.

    Args:
        folders: searched with their subfolders.
        say: told of records that cannot be read, of failed cells, and of what is asked for and is not there.
        methods: only these; empty for all.
        datasets: only these; empty for all.

    Raises:
        StoreError: a folder does not exist.
    """
    found = find(folders)
    for message in found.unreadable:
        say(f"skipped: {message}")
    for kind, wanted in (("method", methods), ("dataset", datasets)):
        there = dict.fromkeys(getattr(record.cell, kind) for record in found.records.values())
        for name in wanted:
            if name not in there:
                say(f"no record of {kind} {name}. There: {', '.join(there) or 'none'}. bench run makes some")
    for record in found.records.values():
        cell = record.cell
        if (methods and cell.method not in methods) or (datasets and cell.dataset not in datasets):
            continue
        if record.error is not None:
            say(f"skipped: {cell.title}, seed {cell.seed} failed: {record.error.type}")
            continue
        yield record
