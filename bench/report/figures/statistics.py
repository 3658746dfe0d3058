"""Statistics for a report: intervals in cells, rankings over classes, paired differences. See bench.stats."""

from __future__ import annotations

from collections.abc import Hashable, Iterable, Sequence
from dataclasses import replace
from itertools import combinations

from bench.errors import UsageError
from bench.report.figures.critical import critical
from bench.report.figures.drawing import Figure
from bench.report.figures.series import FigureSeries, best_first
from bench.report.tables.names import dataset_title, heading, level
from bench.report.tables.table import Column, RowBlock, Table, TableCell, TableRow
from bench.stats import (
    Difference,
    Images,
    Ranking,
    Resampled,
    delong,
    mean_difference,
    rank_methods,
    resampled,
    wilcoxon_holm,
)
from bench.stats.intervals import mean_of
from bench.store.evidence import EvidenceFiles, Lacking
from bench.store.record import Record
from bench.words import counted

METRIC = "image/auroc"
DECIMALS = 4
"""Of a fraction; scores that agree to a hundredth of a percent share a rank."""
MAX_METHODS = 10
"""Methods in one ranking or one list of pairs."""
MAX_INTERVALS = 2000
"""Classes of all records that are resampled, some hundredths of a second each; a report of more has no intervals."""
INTERVALS_NOTE = "Intervals: 95 %, percentile bootstrap over the test images of each class; training is not repeated."


def with_intervals(tables: Sequence[Table], records: Iterable[Record], evidence: EvidenceFiles) -> list[Table]:
    """Return tables whose cells of image metrics have an interval, wherever per-image scores lie beside the records.

    Reports of very many records have none, and say so.
    """
    known = {record.cell.fingerprint: record for record in records}
    if sum(len(record.scores) for record in known.values()) > MAX_INTERVALS:
        note = f"No intervals: more than {MAX_INTERVALS} classes to resample. --methods and --datasets choose fewer."
        return [replace(table, notes=(*table.notes, note)) for table in tables]
    intervals = _Intervals(known, evidence)
    return [_filled(table, intervals) for table in tables]


class _Intervals:
    """Intervals of cells; a record is resampled once, whatever the number of cells that show it."""

    def __init__(self, records: dict[str, Record], evidence: EvidenceFiles) -> None:
        self._records = records
        self._evidence = evidence
        self._known: dict[str, dict[str, dict[str, Resampled]]] = {}

    def of(self, cell: TableCell, cls: str, metric: str) -> tuple[float, float] | None:
        """Return the interval of a cell's value; None for other metrics than image ones, and where scores lack."""
        if level(metric) != "image" or cell.value is None or not cell.records:
            return None
        chosen = [self._records[name] for name in cell.records if name in self._records]
        if len(chosen) < len(cell.records):
            return None
        parts = []
        for record in chosen:
            classes = self._resampled(record)
            wanted = [cls] if cls else list(record.scores)
            # a cell of one class lists all records of its row, and each part has other classes
            parts += [classes[name][metric] for name in wanted if metric in classes.get(name, {})]
            if not cls and any(metric not in classes.get(name, {}) for name in wanted):
                return None
        if not parts:
            return None
        found = mean_of(parts)
        return found.interval() if abs(found.value - cell.value) < 1e-9 else None

    def _resampled(self, record: Record) -> dict[str, dict[str, Resampled]]:
        name = record.cell.fingerprint
        if name not in self._known:
            try:
                images = self._evidence.images(record)
                metrics = [metric for metric in record.protocol.metrics if level(metric) == "image"]
                self._known[name] = {cls: resampled(cls, images[cls], metrics=metrics) for cls in record.scores}
            except Lacking:
                self._known[name] = {}
        return self._known[name]


def _filled(table: Table, intervals: _Intervals) -> Table:
    blocks = []
    for block in table.blocks:
        rows = []
        for row in block.rows:
            pairs = zip(row.cells, table.columns, strict=True)
            cells = [
                replace(cell, interval=intervals.of(cell, column.cls or row.cls, column.metric))
                for cell, column in pairs
            ]
            rows.append(replace(row, cells=tuple(cells)))
        blocks.append(replace(block, rows=tuple(rows)))
    filled = replace(table, blocks=tuple(blocks))
    if any(cell.interval for row in filled.rows for cell in row.cells):
        filled = replace(filled, notes=(*filled.notes, INTERVALS_NOTE))
    return filled


def rankings(chosen: Sequence[FigureSeries], metric: str = METRIC) -> list[tuple[Table, Figure]]:
    """Return a table and a diagram for each group of at least three configurations that compare, over their classes."""
    groups: dict[Hashable, list[FigureSeries]] = {}
    for one in chosen:
        head = one.line.heads[0]
        key = (head.cell.setting, head.cell.shots, head.protocol.hash, head.metric_version)
        groups.setdefault(key, []).append(one)
    found = []
    for place, group in enumerate(groups.values()):
        shown = sorted(group, key=lambda one: -len(one.line.datasets))[:MAX_METHODS]
        scores = {one.label: _by_class(one, metric) for one in shown}
        try:
            ranking, pairs = rank_methods(scores, decimals=DECIMALS), wilcoxon_holm(scores)
        except UsageError:
            continue
        head = group[0].line.heads[0]
        what = f"{head.cell.setting}, protocol {head.protocol.name}"
        left = [f"{len(shown)} of {len(group)} configurations."] if len(shown) < len(group) else []
        found.append(_ranking(ranking, pairs, f"ranking-{place}", f"Ranking by {heading(metric)}, {what}", left))
    return found


def _by_class(one: FigureSeries, metric: str) -> dict[str, float | None]:
    found: dict[str, float | None] = {}
    for dataset in one.line.datasets:
        # other images are another block, even where the class has the same name
        images = one.line.comparable(dataset, metric)
        for cls in one.line.classes(dataset):
            found[f"{dataset}/{cls}/{images}"] = one.line.cell(dataset, cls, metric).value
    return found


def _ranking(
    ranking: Ranking, pairs: dict[tuple[str, str], float], name: str, title: str, left: Sequence[str]
) -> tuple[Table, Figure]:
    best = ranking.methods[0]
    rows = []
    for method, rank in zip(ranking.methods, ranking.ranks, strict=True):
        p = pairs.get((best, method), pairs.get((method, best)))
        apart = "yes" if rank - ranking.ranks[0] > ranking.distance else "no"
        rows.append(TableRow(method, (TableCell(rank), TableCell(text="" if method == best else apart), _p(p))))
    columns = (
        Column("mean rank", unit="number", decimals=2, higher_is_better=False),
        Column("differs from best (Nemenyi)", unit="number"),
        Column("p against best (Wilcoxon, Holm)", unit="number", decimals=3, higher_is_better=False),
    )
    caption = [
        f"{ranking.blocks} classes that every method was scored on; Friedman {_chi(ranking)}.",
        f"Methods joined by a bar are not told apart at the {ranking.level:g} level.",
        "Classes of one dataset are no independent sample, so p-values are a guide and no proof.",
        *(
            [f"Left out, not scored for every method: {counted(len(ranking.left_out), 'class', 'classes')}."]
            if ranking.left_out
            else []
        ),
        *left,
    ]
    table = Table(name, title, "method", columns, (RowBlock("", tuple(rows)),), notes=tuple(caption))
    return table, critical(ranking, f"critical-{name}", f"{title}: critical difference", " ".join(caption))


def _chi(ranking: Ranking) -> str:
    p = "p < 0.001" if ranking.p < 0.001 else f"p = {ranking.p:.3f}"
    return f"chi-square {ranking.statistic:.1f}, {p}"


def _p(value: float | None) -> TableCell:
    if value is None:
        return TableCell()
    return TableCell(text="< 0.001") if value < 0.001 else TableCell(value)


def pairs(chosen: Sequence[FigureSeries], dataset: str, evidence: EvidenceFiles) -> Table | None:
    """Return DeLong's paired differences in image AUROC on a dataset; None where fewer than two have stored scores."""
    usable = []
    for one in best_first(chosen, dataset, METRIC):
        if one.line.comparable(dataset, METRIC) is None:
            continue
        try:
            usable.append((one, one.images(dataset, evidence)))
        except Lacking:
            continue
    rows = []
    for (first, ours), (second, theirs) in combinations(usable[:MAX_METHODS], 2):
        if first.line.comparable(dataset, METRIC) != second.line.comparable(dataset, METRIC):
            continue
        try:
            found = mean_difference([_difference(images, theirs[cls]) for cls, images in ours.items()])
        except (KeyError, UsageError):
            continue
        low, high = found.interval() or (None, None)
        cells = (
            TableCell(found.first),
            TableCell(found.second),
            TableCell(found.value),
            TableCell(low),
            TableCell(high),
            _p(found.p),
        )
        rows.append(TableRow(f"{first.label} − {second.label}", cells, dataset=dataset))
    if not rows:
        return None
    titles = ("first", "second", "difference", "95 % from", "to")
    columns = (*(Column(title, decimals=2) for title in titles), Column("p", unit="number", decimals=3))
    notes = (
        "Mean over classes of paired image AUROC on the same test images, the first seed of each; DeLong's variance.",
        "p-values are not adjusted for their number, and seeds may differ by more than images do.",
    )
    title = f"{dataset_title(dataset)}: paired differences, {heading(METRIC)}"
    blocks = (RowBlock("", tuple(rows), dataset),)
    return Table(f"pairs-{dataset}", title, "pair", columns, blocks, notes=notes, decimals=2)


def _difference(first: Images, second: Images) -> Difference:
    """Return the paired difference of one class; the two may have read its images in different orders."""
    places = {name: place for place, name in enumerate(second.ids)}
    return delong(first.labels, first.scores, second.scores[[places[name] for name in first.ids]])
