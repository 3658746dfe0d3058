"""All tables that a set of records fills."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Sequence
from dataclasses import replace

from bench.registry import DATASETS, METHODS
from bench.report.tables import layouts, ours, subset, theirs
from bench.report.tables.line import Line
from bench.report.tables.names import dataset_title
from bench.report.tables.operating import operating
from bench.report.tables.table import Table
from bench.setting import find as find_setting
from bench.setting import is_each
from bench.store.record import Record


def tables(
    records: Iterable[Record],
    *,
    methods: Collection[str] = (),
    classes: Sequence[str] = (),
    metrics: Sequence[str] = (),
    published: bool = True,
    decimals: int = 1,
    say: Callable[[str], None] = lambda text: None,
) -> list[Table]:
    """Return every table that the records fill, setting by setting; published rows stand before ours.

    Args:
        records: done ones, in any order.
        methods: of which published rows may be shown; empty for all methods that bench has.
        classes: that means are over; empty for all, or for those that all of ours have where none has all.
        metrics: the columns; empty for every metric that a record holds, the field's seven first.
        published: whether they are shown at all.
        decimals: of percentages.
        say: told of records that another of the same configuration replaces.
    """
    records = tuple(records)
    entries = ours.group(records)
    wanted = subset.asked(classes, records) if classes else None
    made: list[Table] = []
    for setting, shots in dict.fromkeys((entry.head.cell.setting, entry.head.cell.shots) for entry in entries):
        chosen = [entry for entry in entries if (entry.head.cell.setting, entry.head.cell.shots) == (setting, shots)]
        scopes = subset.common(chosen) if wanted is None else wanted
        chosen = [found for entry in chosen if (found := subset.restricted(entry, scopes))]
        mine = ours.lines([entry for entry in chosen if wanted is None or entry.head.cell.dataset in wanted], say)
        datasets = in_order(DATASETS.names(), (name for line in mine for name in line.datasets))
        named = in_order(METHODS.names(), sorted({*(line.method for line in mine), *(methods or METHODS.names())}))
        printed = theirs.beside(named, datasets, setting, shots, scopes) if published else []
        both: list[Line] = [line for name in named for line in (*printed, *mine) if line.method == name]
        where = f"{setting}-{shots}" if shots else setting
        asked = find_setting(setting)
        title = asked.title(shots) if asked is not None else setting
        halves = {record.cell.dataset for line in mine for record in line.heads if _by_halves(record)}
        semantic = [name for name in datasets if name in halves]
        own: list[Table] = []
        if rest := [name for name in datasets if name not in halves]:
            table = layouts.overview(f"overview-{where}", f"Overview, {title}", both, rest, metrics, decimals)
            own.append(replace(table, caption=f"Means over the classes of each dataset, in percent; {title}"))
        if semantic:
            own.append(
                layouts.overview(f"semantic-{where}", f"Semantic sets, {title}", both, semantic, metrics, decimals)
            )
            known = [line for line in both if set(line.datasets) & halves]
            own.append(layouts.splits(f"splits-{where}", f"Half-splits, {title}", known, semantic, decimals=decimals))
        for name in datasets:
            by_class = f"{dataset_title(name)} by {'half-split' if name in halves else 'class'}, {title}"
            own.append(layouts.classes(f"classes-{name}-{where}", by_class, both, name, decimals, metrics))
        for name in datasets:
            at = f"{dataset_title(name)} at a threshold one could set, {title}"
            own.append(operating(f"operating-{name}-{where}", at, mine, name))
        own.append(layouts.seeds(f"seeds-{where}", f"Seeds, {title}", mine, decimals + 1, metrics))
        made += [subset.labelled(table, scopes) for table in own]
        made.append(layouts.efficiency(f"efficiency-{where}", f"Cost, {title}", both, datasets))
    return [table for table in made if any(cell.value is not None for row in table.rows for cell in row.cells)]


def in_order(order: Sequence[str], names: Iterable[str]) -> list[str]:
    """Return names without repeats, those that bench has in its order, others after them as they come."""
    return sorted(dict.fromkeys(names), key=lambda name: order.index(name) if name in order else len(order))


def _by_halves(record: Record) -> bool:
    return record.dataset.kind == "semantic" and not is_each(record.cell.setting)
