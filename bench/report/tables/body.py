"""Table bodies: lines against columns, cells with differences and ranks, notes of the whole table."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import replace
from types import MappingProxyType

from bench.metrics.ids import column
from bench.protocol import COMMON
from bench.report.tables.costs import COSTS, COUNTS
from bench.report.tables.groups import grouped, marked
from bench.report.tables.line import Line, Unmarked
from bench.report.tables.names import MAD
from bench.report.tables.seeds_of import protocol_title, variants
from bench.report.tables.table import Column, Table, TableCell, TableRow, chosen

_COMPARED = "where three or more compare: published numbers of one paper, ours of one protocol and data."
BY_COLUMN = f"Best in bold, second best underlined, within a column and group of rows, {_COMPARED}"
BY_MACHINE = (
    "Best in bold, second best underlined, within a column and group of rows, where three or more compare: counts, and "
    "times, memory and rates of one machine."
)
DIFFERENCES = "Small signed numbers are ours minus published."
BY_ROW = f"Best in bold, second best underlined, within a row and metric, {_COMPARED}"


DECIMALS = 3
"""Of a metric that is no share, and so not shown in percent."""


def metric_column(metric: str, units: Mapping[str, str] = MappingProxyType({})) -> Column:
    """Return a column of means of one metric, or of a cost.

    Args:
        metric: its id.
        units: what records say of metrics that are no shares.
    """
    cost = next((cost for cost in COSTS if cost.metric == metric), None)
    if cost is None:
        known = column(metric, units.get(metric, ""))
        if not known.unit:
            return Column(known.heading, known.group, metric, higher_is_better=known.higher_is_better)
        title, better = f"{known.heading} ({known.unit})", known.higher_is_better
        return Column(title, known.group, metric, unit="number", decimals=DECIMALS, higher_is_better=better)
    return Column(
        cost.title, "Cost", metric, unit="number", decimals=cost.decimals, higher_is_better=cost.higher_is_better
    )


def cells(lines: Sequence[Line], columns: Sequence[Column], dataset: str, cls: str = "") -> list[TableCell]:
    """Return a cell a pair of line and column, ours with its difference to the published one before it.

    Args:
        lines: one a column.
        columns: their dataset and class, where they have one, stand before the given ones.
        dataset: of the block.
        cls: of the row; empty for means.
    """
    found: list[TableCell] = []
    printed: dict[tuple[str, str], float | None] = {}
    for line, where in zip(lines, columns, strict=True):
        cell = line.cell(where.dataset or dataset, where.cls or cls, where.metric)
        if line.source == "published":
            printed[line.method, where.metric] = cell.value
        else:
            beside = printed.get((line.method, where.metric))
            machine = where.metric.startswith("cost/") and where.metric not in COUNTS
            other = where.metric in COUNTS and any("encoder" in head.changed for head in line.heads)
            if cell.value is not None and beside is not None and not (machine or other):
                cell = replace(cell, difference=cell.value - beside)
        found.append(cell)
    return found


def rows(
    lines: Sequence[Line], columns: Sequence[Column], decimals: int, notes: Sequence[tuple[str, ...]], dataset: str = ""
) -> tuple[TableRow, ...]:
    """Return the rows of one block, a row a line, group by group, ranked column by column within each.

    Args:
        lines: published ones before ours of the same method.
        columns: what is shown of each line.
        decimals: of percentages.
        notes: footnotes of each line.
        dataset: what the block is about, where the columns do not say it.
    """
    groups = grouped(lines, dataset)
    places = [own for _, own in groups]
    by_column = []
    for one in columns:
        keys = [line.comparable(one.dataset or dataset, one.metric) for line in lines]
        by_column.append(marked(cells(lines, [one] * len(lines), dataset), keys, places, one, decimals))
    return tuple(
        replace(_row(lines[place], [below[place] for below in by_column], notes[place], dataset), group=heading)
        for heading, own in groups
        for place in own
    )


def _row(line: Line, across: Sequence[TableCell], notes: tuple[str, ...], dataset: str) -> TableRow:
    # a note on every number of a row is one on the row
    known = [set(cell.notes) for cell in across if cell.value is not None]
    shared = set.intersection(*known) if len(known) > 1 else set()
    alone = [replace(cell, notes=tuple(note for note in cell.notes if note not in shared)) for cell in across]
    return TableRow(line.title, tuple(alone), line.source, line.method, dataset, notes=(*notes, *sorted(shared)))


def finished(table: Table, lines: Iterable[Line], rules: Unmarked | None, ranks: str = BY_COLUMN) -> Table:
    """Return the table without columns in which nothing is known, and with what holds for all of it.

    Args:
        table: as built.
        lines: what it was built from.
        rules: what rows without a mark have; None where it is not to be stated.
        ranks: how the best were found; stated where there is one.
    """
    known = [
        any(row.cells[place].value is not None or row.cells[place].text for row in table.rows)
        for place in range(len(table.columns))
    ]
    # a column of ours stays where others have the number: its dashes say what is still to be run
    asked = {one.metric for one, some in zip(table.columns, known, strict=True) if some}
    kept = [
        place
        for place, one in enumerate(table.columns)
        if known[place] or (one.source == "ours" and one.metric in asked)
    ]
    table = chosen(table, kept)
    general = [ranks] if any(cell.rank for row in table.rows for cell in row.cells) else []
    if any(cell.difference is not None for row in table.rows for cell in row.cells):
        general.append(DIFFERENCES)
    if any(one.metric == MAD for one in table.columns):
        printed = ", of published rows that of their printed numbers where the paper gives none"
        general.append(f"mAD is the mean of the seven metrics{printed if 'published' in table.sources else ''}.")
    for record in (record for line in lines for record in line.heads):
        if rules is not None and record.protocol.hash == rules.protocol:
            general.append(f"Ours, unless marked: protocol {protocol_title(record)}.")
            general += [f"{rule}." for rule in variants(record.protocol.metrics)]
            break
    return replace(table, notes=(*table.notes, *general))


def unmarked(lines: Iterable[Line], datasets: Collection[str]) -> Unmarked:
    """Return what goes without a mark: protocol common where it occurs, the newest metrics, the commonest images."""
    heads = [record for line in lines for record in line.heads if record.cell.dataset in datasets]
    hashes = [record.protocol.hash for record in heads]
    data: dict[str, Counter[str]] = {}
    for record in heads:
        data.setdefault(record.cell.dataset, Counter())[record.dataset.fingerprint] += 1
    return Unmarked(
        COMMON.hash() if COMMON.hash() in hashes or not hashes else hashes[0],
        max((record.metric_version for record in heads), default=0),
        {dataset: counts.most_common(1)[0][0] for dataset, counts in data.items()},
    )
