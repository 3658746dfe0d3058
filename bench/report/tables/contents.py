"""The contents of a report: its tables, and what a format may show beside them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from bench.published import Score
from bench.report.tables.arrange import Style
from bench.report.tables.table import Table
from bench.store.evidence import MapMaker
from bench.store.record import Record


@dataclass(frozen=True, slots=True)
class Report:
    """All that a format may show."""

    title: str
    tables: tuple[Table, ...]
    records: tuple[Record, ...]
    """What the numbers are from; a cell names its own by fingerprint."""
    published: tuple[Score, ...]
    """Every published number of the report's methods and datasets."""
    folders: tuple[Path, ...] = ()
    """Where the records were read from; per-image scores and maps lie beside them."""
    data_roots: tuple[str, ...] = ()
    """Where images for the gallery are, as `bench run --data-root` takes them."""
    open_model: Callable[[Path], MapMaker] | None = None
    """Opens the kept model of a record's file, for a gallery whose maps were not kept."""
    style: Style = field(default_factory=Style)
    """How Markdown and LaTeX are written."""
    say: Callable[[str], None] = lambda text: None
    """Told of what a reader of the files will miss in them."""
