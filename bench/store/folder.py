"""Records found in folders, as every command that reads results finds them."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from bench import regular
from bench.errors import StoreError, UsageError
from bench.store import record as records
from bench.store.record import Record

SPEED = "speed"
"""Name of every folder of speeds: those of `bench speed`, and saved runs of pytest-benchmark; no cell's record."""


@dataclass(frozen=True, slots=True)
class Found:
    """What lay in some places."""

    records: dict[Path, Record]
    """File -> record, in the order of the files' names."""
    unreadable: tuple[str, ...]
    """A message for each file that is no record; files named by the user raise instead."""


def find(places: Iterable[Path], pattern: str = "**/*.json") -> Found:
    """Read every record below some folders, and the files that are named themselves.

    Args:
        places: folders, or record files.
        pattern: which files of a folder are looked at; `*.json` leaves out what lies deeper.

    Raises:
        StoreError: a place does not exist, or a file that was named is no record.
    """
    found: dict[Path, Record] = {}
    unreadable = []
    for place in places:
        if place.is_file():
            found[place] = records.read(place)
        elif not place.is_dir():
            why = regular.why_not(place, "no such file or folder")
            raise StoreError(f"{place}: {why}. Expected records, as bench run writes them")
        else:
            # a name that begins with a dot is a file that is being written
            files = (path for path in place.glob(pattern) if not path.name.startswith("."))
            for path in sorted(path for path in files if path.parent.name != SPEED):
                try:
                    found[path] = records.read(path)
                except StoreError as error:
                    unreadable.append(str(error))
    return Found(found, tuple(unreadable))


def with_model(place: Path) -> Path:
    """Return a file that was named, or the one record of a folder whose model was kept.

    Raises:
        UsageError: no record of the folder kept its model, or several did.
    """
    if not place.is_dir():
        return place
    kept = [path for path, record in find([place]).records.items() if record.model is not None]
    if len(kept) == 1:
        return kept[0]
    if not kept:
        raise UsageError(f"{place}: no record in it kept its model. bench run --keep-model makes one that does")
    raise UsageError(f"{place}: {len(kept)} records kept their models. Expected one of {', '.join(map(str, kept))}")
