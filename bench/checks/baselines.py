"""Baselines: plain records in a folder, one a seed and part, kept in git. `bench check` compares with them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from pathlib import Path

from bench.checks.series import Series, identity, series
from bench.errors import StoreError, UsageError
from bench.files import file_name
from bench.store import record as records
from bench.store.folder import find
from bench.store.record import Record

PATTERN = "*.json"
"""Baselines lie in the folder itself; speeds lie below it, see `bench.checks.speed`."""


def read(folder: Path) -> list[Series]:
    """Return the baselines of a folder.

    Raises:
        StoreError: no such folder, or a file in it is no record.
    """
    if not folder.is_dir():
        raise StoreError(f"no baselines folder {folder}. Record one with: bench check --record --baselines {folder}")
    found = find([folder], PATTERN)
    if found.unreadable:
        raise StoreError(found.unreadable[0])
    return series(found.records.values())


@dataclass(frozen=True, slots=True)
class Written:
    """What recording did."""

    files: tuple[Path, ...]
    removed: tuple[Path, ...]
    """Files of older baselines that the new ones replace."""


def write(wanted: Sequence[Series], folder: Path) -> Written:
    """Write series as baselines. Each replaces all that the folder had of its identity, other seeds included.

    Seeds recorded with different code would show a spread that no code has, so they are never mixed.

    Raises:
        UsageError: nothing to record, or a row lacks parts.
        StoreError: the folder cannot be read or written.
    """
    if not wanted:
        raise UsageError("nothing to record: no finished records here. Run first: bench run --suite demo")
    for one in wanted:
        for row in one.rows:
            if row.missing:
                raise UsageError(f"{one.title}, seed {row.head.cell.seed}: only {row.missing}. Expected all of them")
    names = _names([record for one in wanted for record in one.records])
    new = {identity(one.head) for one in wanted}
    known = find([folder], PATTERN).records if folder.is_dir() else {}
    old = {path for path, record in known.items() if identity(record) in new}
    files = []
    for name, record in names.items():
        path = folder / name
        # what lies beside the record stays where it is
        records.write(record.model_copy(update={"predictions": None, "maps": None, "model": None}), path)
        files.append(path)
    removed = sorted(old - set(files))
    for path in removed:
        path.unlink(missing_ok=True)
    return Written(tuple(files), tuple(removed))


def _names(found: Sequence[Record]) -> dict[str, Record]:
    """Return file name -> record; the fingerprint is added where two configurations would share a name."""
    taken = Counter(_name(record) for record in found)
    return {
        f"{_name(record)}-{record.cell.fingerprint}.json"
        if taken[_name(record)] > 1
        else f"{_name(record)}.json": record
        for record in found
    }


def _name(record: Record) -> str:
    cell = record.cell
    parts = [cell.dataset, cell.method, f"{cell.setting}{cell.shots or ''}", cell.part, f"s{cell.seed}"]
    if cell.protocol != "common":
        parts.insert(3, cell.protocol)
    return file_name("-".join(part for part in parts if part))


def select(baselines: Sequence[Series], methods: Collection[str] = (), datasets: Collection[str] = ()) -> list[Series]:
    """Return the baselines of some methods and datasets; of all where none are named."""
    return [
        one
        for one in baselines
        if (not methods or one.head.cell.method in methods) and (not datasets or one.head.cell.dataset in datasets)
    ]
