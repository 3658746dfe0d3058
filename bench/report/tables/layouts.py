"""Table layouts: datasets by methods, classes by methods, half-splits, seeds, costs."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace

from bench.combined import INSIDE, groups
from bench.report.tables.body import BY_MACHINE, BY_ROW, cells, finished, metric_column, rows, unmarked
from bench.report.tables.costs import COSTS, SINGLE
from bench.report.tables.groups import marked
from bench.report.tables.line import Line
from bench.report.tables.names import dataset_title, explained, heading, in_order
from bench.report.tables.ours import OurLine
from bench.report.tables.seeds_of import Seeds
from bench.report.tables.table import Column, RowBlock, Table, TableCell, TableRow

COSTS_NOTE = (
    "Training is feature extraction, fitting and training. MACs are of convolutions and linear layers for one image. "
    "Memory is the highest of the device, or of the process where there is none. Published costs are of the papers' "
    "own machines and training sets."
)
SINGLE_NOTE = (
    "Our latency is of one image alone, from decoded pixels to map and score: the median, and what 95 % stay below. "
    "Energy is of the GPU or the processor, with all else that ran there."
)
POOLED_NOTE = "Pooled: all classes in one ranking, as one threshold for all of them sees them."
MAX_CONFIGURATIONS = 16
"""Configurations of ours in a table of classes, a column a metric each; more are neither read nor quickly drawn."""
MAX_SEED_BLOCKS = 100
"""Blocks in a table of seeds."""
RANK_METRIC = "image/auroc"
"""Metric whose mean says which are the best."""


def overview(
    name: str,
    title: str,
    lines: Sequence[Line],
    datasets: Iterable[str],
    metrics: Iterable[str] = (),
    decimals: int = 1,
) -> Table:
    """Return datasets as blocks, methods as rows, metrics as columns: those given, else all that there are."""
    datasets = tuple(datasets)
    columns = _columns(lines, datasets, metrics)
    rules = unmarked(lines, datasets)
    blocks = []
    for dataset in datasets:
        own = [line for line in lines if dataset in line.datasets]
        notes = [line.notes(dataset, rules) for line in own]
        blocks.append(RowBlock(dataset_title(dataset), rows(own, columns, decimals, notes, dataset), dataset))
    table = Table(name, title, "method", columns, tuple(blocks), "dataset", decimals=decimals)
    return _explained(finished(table, lines, rules))


def _columns(lines: Sequence[Line], datasets: Iterable[str], metrics: Iterable[str]) -> tuple[Column, ...]:
    """Return a column for each metric given, else for each that a record holds, the field's seven first."""
    pairs = [(line, dataset) for line in lines for dataset in datasets]
    units = {metric: unit for line, dataset in pairs for metric, unit in line.units(dataset).items()}
    chosen = tuple(metrics) or in_order(metric for line, dataset in pairs for metric in line.extra(dataset))
    return tuple(metric_column(metric, units) for metric in chosen)


def _explained(table: Table) -> Table:
    """Return the table with what its metrics beside the seven are."""
    return replace(table, notes=(*table.notes, *explained(column.metric for column in table.columns)))


def splits(
    name: str,
    title: str,
    lines: Sequence[Line],
    datasets: Iterable[str],
    metric: str = "image/auroc",
    decimals: int = 1,
) -> Table:
    """Return semantic sets: methods as rows, the half-splits of each set and their mean as columns."""
    columns = [
        Column(cls or "mean", dataset_title(dataset), metric, dataset, cls)
        for dataset in datasets
        for cls in (*_classes(lines, dataset), "")
    ]
    return _matrix(name, title, lines, columns, decimals)


def by_dataset(
    name: str,
    title: str,
    lines: Sequence[Line],
    datasets: Iterable[str],
    metric: str = "image/auroc",
    decimals: int = 1,
) -> Table:
    """Return methods as rows and one metric on each dataset as columns."""
    columns = [Column(dataset_title(dataset), "", metric, dataset) for dataset in datasets]
    return _matrix(name, title, lines, columns, decimals)


def _matrix(name: str, title: str, lines: Sequence[Line], columns: Sequence[Column], decimals: int) -> Table:
    datasets = list(dict.fromkeys(column.dataset for column in columns))
    rules = unmarked(lines, datasets)
    title = f"{title}, {heading(columns[0].metric)}" if columns else title
    notes = [tuple(dict.fromkeys(note for one in datasets for note in line.notes(one, rules))) for line in lines]
    body = rows(lines, columns, decimals, notes)
    return finished(
        Table(name, title, "method", tuple(columns), (RowBlock("", body),), decimals=decimals), lines, rules
    )


def classes(
    name: str,
    title: str,
    lines: Sequence[Line],
    dataset: str,
    decimals: int = 1,
    metrics: Sequence[str] = (),
) -> Table:
    """Return classes as rows and methods as columns, by metric and source; of one line alone, metrics as columns.

    Below the mean stands what all classes ranked together score, where records have it.
    """
    rules = unmarked(lines, [dataset])
    known = [line for line in lines if line.classes(dataset)]
    own = _best(known, dataset)
    own.sort(key=lambda line: line.source != "published")
    printed = sum(line.source == "published" for line in own)
    sides = [side for side in (range(printed), range(printed, len(own))) if side]
    found = _classes(own, dataset)
    plain = _columns(own, [dataset], metrics)
    metrics = [column.metric for column in plain]
    alone = len(own) == 1
    columns = []
    for of_metric in plain:
        for line in own:
            notes = () if alone else line.notes(dataset, rules)
            named = replace(of_metric, method=line.method, source=line.source, notes=notes)
            group = f"{of_metric.title}, {line.source}" if len(sides) > 1 else of_metric.title
            columns.append(named if alone else replace(named, title=line.title, group=group))

    def line_of(label: str, numbers: Sequence[TableCell], cls: str = "") -> TableRow:
        across: list[TableCell] = []
        # methods are compared along the row, metric by metric
        for place, metric in enumerate(metrics):
            first = place * len(own)
            keys = [line.comparable(dataset, metric) for line in own]
            across += marked(numbers[first : first + len(own)], keys, sides, columns[first], decimals)
        return TableRow(label, tuple(across), dataset=dataset, cls=cls, summary=not cls)

    body = [
        line_of(cls or f"mean of {len(found)}", cells(own * len(metrics), columns, dataset, cls), cls)
        for cls in (*found, "")
    ]
    body[-1:-1] = [
        line_of(f"mean of {len(inside)} of {part}", cells(own * len(metrics), columns, dataset, f"{part}{INSIDE}"))
        for part, inside in groups(dataset, found).items()
    ]
    pooled = [line.pooled(dataset, metric) for metric in metrics for line in own]
    general = []
    if any(cell.value is not None for cell in pooled):
        body.append(line_of("pooled", pooled))
        general.append(POOLED_NOTE)
    if len(own) < len(known):
        general.append(
            f"Of ours {MAX_CONFIGURATIONS} of {MAX_CONFIGURATIONS + len(known) - len(own)} configurations, "
            f"the best by {heading(RANK_METRIC)}; --methods chooses others."
        )
    if alone:
        # what is true of every column is no footnote
        general = [*(f"{note[0].upper()}{note[1:]}." for note in own[0].notes(dataset, rules)), *general]
    title = f"{title}, {own[0].title}" if alone else title
    stub = "split" if found and set(found) <= set("ABCD") else "class"
    table = Table(name, title, stub, tuple(columns), (RowBlock("", tuple(body), dataset),), decimals=decimals)
    return _explained(finished(replace(table, notes=tuple(general)), own, rules, BY_ROW))


def _best(lines: Sequence[Line], dataset: str) -> list[Line]:
    """Return all lines, or of very many the published ones and the best of ours, in the same order."""
    ours = [line for line in lines if line.source == "ours"]
    if len(ours) <= MAX_CONFIGURATIONS:
        return list(lines)
    kept = sorted(ours, key=lambda line: line.cell(dataset, "", RANK_METRIC).value or 0.0, reverse=True)[
        :MAX_CONFIGURATIONS
    ]
    return [line for line in lines if line in kept or line.source == "published"]


def seeds(name: str, title: str, lines: Sequence[OurLine], decimals: int = 2, metrics: Sequence[str] = ()) -> Table:
    """Return each seed's means, and their mean and sample standard deviation, a block an entry of several seeds."""
    columns = _columns(lines, {dataset: None for line in lines for dataset in line.datasets}, metrics)
    rules = unmarked(lines, {dataset for line in lines for dataset in line.datasets})
    several = [
        (line, dataset, entry) for line in lines for dataset, entry in line.entries.items() if len(entry.rows) > 1
    ]
    blocks = []
    for line, dataset, entry in several[:MAX_SEED_BLOCKS]:
        each = [(f"seed {row.head.cell.seed}", Seeds((row,))) for row in entry.rows]
        body = [
            TableRow(label, tuple(one.cell("", column.metric) for column in columns), "ours", line.method, dataset)
            for label, one in (*each, ("mean ± std", entry))
        ]
        body[-1] = replace(body[-1], summary=True, notes=entry.notes(rules))
        blocks.append(RowBlock(f"{dataset_title(dataset)}, {line.title}", tuple(body), dataset))
    table = Table(name, title, "seed", columns, tuple(blocks), "dataset, method", decimals=decimals)
    if len(several) > MAX_SEED_BLOCKS:
        first = f"The first {MAX_SEED_BLOCKS} of {len(several)}"
        left = f"{first}; --methods and --datasets choose others, numbers.csv has all."
        table = replace(table, notes=(left,))
    return _explained(finished(table, lines, rules))


def efficiency(name: str, title: str, lines: Sequence[Line], datasets: Iterable[str]) -> Table:
    """Return what the methods cost, a block a dataset."""
    known = {
        cost.metric
        for cost in COSTS
        if any(line.cell(dataset, "", cost.metric).value is not None for line in lines for dataset in line.datasets)
    }
    columns = tuple(replace(metric_column(cost.metric), group="") for cost in COSTS if cost.metric in known)
    notes = (COSTS_NOTE, SINGLE_NOTE) if known & {*SINGLE} else (COSTS_NOTE,)
    blocks = []
    for dataset in datasets:
        own = [
            line
            for line in lines
            if dataset in line.datasets and any(line.cell(dataset, "", cost).value is not None for cost in known)
        ]
        machines = [line.machine(dataset) for line in own]
        blocks.append(RowBlock(dataset_title(dataset), rows(own, columns, 0, machines, dataset), dataset))
    table = Table(name, title, "method", columns, tuple(blocks), "dataset", notes=notes)
    return finished(table, lines, None, BY_MACHINE)


def _classes(lines: Sequence[Line], dataset: str) -> tuple[str, ...]:
    """Return the classes or half-splits that any line has, in the order of ours where there are some."""
    first = sorted(lines, key=lambda line: line.source)
    return tuple(dict.fromkeys(cls for line in first for cls in line.classes(dataset)))
