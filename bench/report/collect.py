"""Selection of records for a report: those that hold scores, and what is left out said."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
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
    yield from done(
        (
            record
            for record in found.records.values()
            if (not methods or record.cell.method in methods) and (not datasets or record.cell.dataset in datasets)
        ),
        say,
    )


def done(records: Iterable[Record], say: Callable[[str], None]) -> Iterator[Record]:
    """Yield the records that hold scores, and say which are of failed cells."""
    for record in records:
        if record.error is None:
            yield record
        else:
            say(f"skipped: {record.cell.title}, seed {record.cell.seed} failed: {record.error.type}")
