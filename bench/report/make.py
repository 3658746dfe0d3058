"""Assembly of a report: records read, tables made and arranged, files written."""

from __future__ import annotations

import gc
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, get_args

from bench.config import load_suite
from bench.errors import UsageError
from bench.registry import did_you_mean
from bench.report import collect
from bench.report.formats import long_csv
from bench.report.formats.write import FORMATS, write
from bench.report.tables import arrange, build, suite
from bench.report.tables.arrange import Notes
from bench.report.tables.contents import Report
from bench.report.tables.table import Table
from bench.store.evidence import MapMaker

Layout = Literal["columns", "triples"]


@dataclass(frozen=True, slots=True)
class ReportRequest:
    """What a report is to hold, as the options of `bench report` say it; empty names are for all."""

    folders: tuple[Path, ...]
    """Where records are looked for, subfolders included."""
    out: Path
    """Where files go; those of a suite into a folder of its name."""
    suite: str | None = None
    """The table of this suite alone."""
    formats: tuple[str, ...] = ()
    methods: tuple[str, ...] = ()
    datasets: tuple[str, ...] = ()
    classes: tuple[str, ...] = ()
    """Means over these alone, published ones recomputed."""
    published: bool = True
    """Whether there are rows that papers print."""
    decimals: int | None = None
    """Of percentages; None for 1, of a suite as many as its paper prints."""
    tables: tuple[str, ...] = ()
    metrics: tuple[str, ...] = ()
    """Only these columns in this order, by heading or id."""
    layout: Layout = "columns"
    notes: Notes = "each"
    caption: str | None = None
    label: str | None = None
    cite: tuple[str, ...] = ()
    data_roots: tuple[str, ...] = ()
    """Where images for the gallery are."""
    open_model: Callable[[Path], MapMaker] | None = None
    """Opens the kept model of a record's file, for a gallery whose maps were not kept."""


@dataclass(frozen=True, slots=True)
class WrittenReport:
    """A report and the files that it was written to."""

    report: Report
    out: Path
    files: tuple[Path, ...]


def make(wanted: ReportRequest, say: Callable[[str], None]) -> WrittenReport:
    """Make a report and write it.

    Args:
        wanted: what it is to hold.
        say: told of what is left out, and of what a reader of the files will miss in them.

    Raises:
        UsageError: a name that there is not, no folder, or no record to report.
        UnwritableError: a file cannot be written.
    """
    with _uncollected():
        return _made(wanted, say)


def _made(wanted: ReportRequest, say: Callable[[str], None]) -> WrittenReport:
    formats = known(wanted.formats, FORMATS, "format") or tuple(FORMATS)
    chosen = load_suite(wanted.suite) if wanted.suite else None
    known((wanted.layout,), get_args(Layout), "layout")
    known((wanted.notes,), get_args(Notes), "place of notes")
    methods, datasets = wanted.methods, wanted.datasets
    if chosen is not None and datasets:
        chosen = chosen.model_copy(update={"datasets": known(datasets, chosen.datasets, "dataset of the suite")})
    found = collect.read(_folders(wanted.folders, chosen is not None), say, methods, datasets)
    records = tuple(record for record in found if chosen is None or suite.belongs(record, chosen))
    metrics = arrange.metrics(wanted.metrics, records)
    if chosen is None:
        speeds = _speeds(wanted.folders, methods)
        if not records and not speeds:
            where = ", ".join(map(str, wanted.folders))
            asked = " of these methods and datasets" if methods or datasets else ""
            raise UsageError(f"no finished record{asked} to report in {where}. Make some with: bench run --suite demo")
        made = build.tables(
            records,
            methods=methods,
            classes=wanted.classes,
            metrics=metrics,
            published=wanted.published,
            decimals=1 if wanted.decimals is None else wanted.decimals,
            say=say,
        )
        made += speeds
    else:
        made = suite.tables(
            str(wanted.suite),
            chosen,
            records,
            methods=methods,
            classes=wanted.classes,
            metrics=metrics,
            published=wanted.published,
            decimals=wanted.decimals,
            say=say,
        )
    out = wanted.out / wanted.suite if wanted.suite else wanted.out
    sets = datasets or (chosen.datasets if chosen else tuple(dict.fromkeys(one.cell.dataset for one in records)))
    if metrics:
        made = [part for table in made if (part := arrange.of_metrics(table, metrics)) is not None]
    if wanted.layout == "triples":
        made = [arrange.triples(table) for table in made]
    made = arrange.named(made, wanted.tables)
    report = Report(
        title=chosen.title if chosen else "bench report",
        tables=tuple(made),
        style=arrange.style(made, wanted.notes, wanted.caption, wanted.label, wanted.cite),
        records=records,
        published=long_csv.chosen(methods, sets) if wanted.published else (),
        folders=wanted.folders,
        data_roots=wanted.data_roots,
        open_model=wanted.open_model,
        say=say,
    )
    return WrittenReport(report, out, tuple(write(report, formats, out)))


def known(names: Sequence[str], expected: Collection[str], kind: str) -> tuple[str, ...]:
    """Return names that are all expected. Raises UsageError for one that is not."""
    for name in names:
        if name not in expected:
            raise UsageError(f"unknown {kind} '{name}'.{did_you_mean(name, expected)} Known: {', '.join(expected)}")
    return tuple(names)


@contextmanager
def _uncollected() -> Iterator[None]:
    """Leave garbage alone: all that is read is kept to the end, and looking through it takes a fifth of the time."""
    was = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was:
            gc.enable()


def _folders(folders: Iterable[Path], may_be_absent: bool) -> list[Path]:
    """Return the folders that exist; a suite's table may be made before anything was run."""
    found = [folder for folder in folders if folder.is_dir()]
    if not found and not may_be_absent:
        raise UsageError(
            f"no folder {', '.join(map(str, folders))} with records. "
            "Expected --results as bench run has it, or make some with: bench run --suite demo"
        )
    return found


def _speeds(folders: Iterable[Path], methods: Sequence[str]) -> list[Table]:
    """Return the tables of the speed records in results/speed, and in folders of that name below those given."""
    from bench.speed import record, tables

    found = record.find([record.RESULTS, *folders])
    return tables.tables([one for one in (record.only(one, methods) for one in found) if one.methods])
