"""A suite's table: the paper's rows in the paper's order, ours below each, a row of dashes where there is no record."""

from __future__ import annotations

import json
from collections.abc import Callable, Collection, Hashable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from bench.config import Suite, SuiteVariant
from bench.published import papers
from bench.report.tables import layouts, ours, subset, theirs
from bench.report.tables.build import tables as all_tables
from bench.report.tables.line import Line, Origin, Unmarked
from bench.report.tables.names import COLUMNS, dataset_title, method_title
from bench.report.tables.seeds_of import Seeds
from bench.report.tables.table import Source, Table, TableCell
from bench.store.record import Record


@dataclass
class Absent(Line):
    """Ours where nothing was run yet."""

    method: str
    title: str
    on: tuple[str, ...]
    """The datasets that were not run."""
    beside: Line | None
    """The printed line that it belongs to."""
    source: Source = "ours"

    def cell(self, dataset: str, cls: str, metric: str) -> TableCell:
        """Return an empty cell."""
        return TableCell()

    def notes(self, dataset: str, unmarked: Unmarked) -> tuple[str, ...]:
        """Return nothing: a dash says it."""
        return ()

    def comparable(self, dataset: str, metric: str) -> Hashable:
        """Return None."""
        return None

    def origin(self, dataset: str = "") -> Origin:
        """Return that there is none yet."""
        return Origin("ours", None, "Ours, not run yet")

    @property
    def datasets(self) -> tuple[str, ...]:
        """Return the datasets that were not run."""
        return self.on

    def classes(self, dataset: str) -> tuple[str, ...]:
        """Return those that are printed."""
        return self.beside.classes(dataset) if self.beside is not None and dataset in self.on else ()


def tables(
    name: str,
    suite: Suite,
    records: Iterable[Record],
    *,
    methods: Collection[str] = (),
    classes: Sequence[str] = (),
    metrics: Sequence[str] = (),
    published: bool = True,
    decimals: int | None = None,
    say: Callable[[str], None] = lambda text: None,
) -> list[Table]:
    """Return the suite's table, one a dataset where it is by class; of no paper and no variants, all of its records.

    Args:
        name: of the suite.
        suite: as read.
        records: those that are of the suite, see `belongs`.
        methods: only these; empty for all.
        classes: that means are over, as `bench.report.tables.build.tables` takes them.
        metrics: the columns; empty for those that the paper prints.
        published: whether the paper's rows are shown.
        decimals: of percentages; None for as many as the paper prints.
        say: told of records that another of the same configuration replaces.
    """
    if not (suite.published or suite.variants):
        decimals = 1 if decimals is None else decimals
        made = all_tables(
            records,
            methods=methods or suite.every_method,
            classes=classes,
            metrics=metrics,
            published=published,
            decimals=decimals,
            say=say,
        )
        return [replace(table, name=f"{name}-{table.name}") for table in made]
    records = tuple(records)
    entries = ours.group(records)
    scopes = subset.asked(classes, records, suite.datasets) if classes else subset.common(entries)
    if classes:
        suite = suite.model_copy(update={"datasets": tuple(name for name in suite.datasets if name in scopes)})
    entries = [found for entry in entries if (found := subset.restricted(entry, scopes))]
    printed = theirs.of_tables(suite.published, scopes)
    if decimals is None:
        digits = [
            score.value.partition(".")[2] for line in printed for score in line.scores.values() if not score.is_cost
        ]
        decimals = max(map(len, digits), default=1)
    lines = _together(suite, printed, entries, say)
    shown = tuple(metrics) or theirs.metrics_of(printed)
    lines = [line for line in lines if (published or line.source == "ours") and (not methods or line.method in methods)]
    if suite.layout == "classes":
        made = [
            layouts.classes(
                f"{name}-{dataset}", f"{suite.title}, {dataset_title(dataset)}", lines, dataset, decimals, metrics
            )
            for dataset in suite.datasets
        ]
    elif suite.layout == "overview":
        made = [layouts.overview(name, suite.title, lines, suite.datasets, shown, decimals)]
    else:
        matrix = layouts.splits if suite.layout == "splits" else layouts.by_dataset
        made = [matrix(name, suite.title, lines, suite.datasets, (shown or COLUMNS)[0], decimals)]
    sources = (_sources(suite.published),) if suite.published and published else ()
    return [subset.labelled(replace(table, notes=(*sources, *table.notes)), scopes) for table in made]


def belongs(record: Record, suite: Suite) -> bool:
    """Return whether a record is one that the suite's run makes, apart from `--set`."""
    cell = record.cell
    # `paper` stands for each method's own protocol, `paper:dinomaly` and so on
    same = cell.protocol.partition(":")[0] == suite.protocol
    return (
        same and cell.setting in suite.settings and cell.dataset in suite.datasets and cell.method in suite.every_method
    )


def _together(
    suite: Suite, printed: Sequence[theirs.PrintedLine], entries: Sequence[Seeds], say: Callable[[str], None]
) -> list[Line]:
    """Return each printed line followed by ours of the same configuration, and then ours that no paper prints."""
    lines: list[Line] = []
    left = list(suite.variants) or [
        SuiteVariant(name="", method=method, published=variant)
        for method in suite.methods
        for variant in _plain(printed)
    ]
    switches = {key for variant in suite.variants for key in variant.set}
    for line in printed:
        lines.append(line)
        for variant in left:
            if (variant.method, variant.published) == (line.method, line.variant) and line.setting in suite.settings:
                lines += _ours(suite, variant, switches, line, entries, say)
                left.remove(variant)
                break
    for variant in left:
        lines += _ours(suite, variant, switches, None, entries, say)
    return lines


def _plain(printed: Sequence[theirs.PrintedLine]) -> list[str]:
    """Return the variants of published rows that a method as its authors propose it is: one a number of shots."""
    few = dict.fromkeys(line.variant for line in printed if line.variant.startswith(theirs.SHOTS))
    return list(few) or [""]


def _ours(
    suite: Suite,
    variant: SuiteVariant,
    switches: Iterable[str],
    beside: Line | None,
    entries: Sequence[Seeds],
    say: Callable[[str], None],
) -> list[Line]:
    """Return our lines of one configuration, and one without numbers for the datasets that none of them has."""
    title = beside.title if beside is not None else variant.name or method_title(variant.method)
    own = [entry for entry in entries if _is(entry.head, variant, switches)]
    found: list[Line] = [*ours.lines(own, say, title, variant.set)]
    known = {dataset for line in found for dataset in line.datasets}
    missing = tuple(dataset for dataset in suite.datasets if dataset not in known)
    return (
        [*found, Absent(variant.method, title, missing, beside)]
        if missing and not (found and suite.layout in _MATRIX)
        else found
    )


_MATRIX = ("splits", "datasets")
"""Layouts in which one row holds all datasets."""


def _is(record: Record, variant: SuiteVariant, switches: Iterable[str]) -> bool:
    """Return whether a record is of a variant: it has the variant's values, and no other switch was touched."""
    if record.cell.method != variant.method:
        return False
    few = (variant.published or "").startswith(theirs.SHOTS)
    if few and variant.published != theirs.of_shots(record.cell.shots):
        return False
    wanted: Mapping[str, Any] = json.loads(json.dumps(variant.set))
    return all(
        record.config.get(key) == wanted[key] if key in wanted else key not in record.changed for key in switches
    )


def _sources(names: Sequence[str]) -> str:
    """Return papers and tables as a sentence."""
    tables: dict[str, list[str]] = {}
    for name in names:
        paper, _, table = name.partition(" ")
        tables.setdefault(paper, []).append(table)
    found = [
        f"{papers()[paper].title} ({papers()[paper].venue}), table{'s' * (len(own) > 1)} {', '.join(own)}"
        for paper, own in tables.items()
    ]
    return f"Published: {'; '.join(found)}."
