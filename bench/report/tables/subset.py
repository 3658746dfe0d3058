"""Tables of some classes: means over them, ours and, from the papers' numbers by class, the published ones.

By itself where none of ours has all classes of a dataset: then over those that all of ours have.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from decimal import Decimal
from types import MappingProxyType

from bench.errors import UsageError
from bench.published import MEAN, Score, papers, scores
from bench.registry import DATASETS, did_you_mean
from bench.report.tables.names import dataset_title
from bench.report.tables.seeds_of import Seeds
from bench.report.tables.table import Table
from bench.store.record import Record
from bench.store.rows import Row

Scopes = Mapping[str, tuple[str, ...]]
"""Dataset -> the classes or half-splits that its means are over; datasets of which all count are not in it."""
ALL: Scopes = MappingProxyType({})
NAMED = 3
"""More classes than these are counted in a heading, and named in a note."""


@dataclass(frozen=True, slots=True)
class RecomputedMean(Score):
    """A mean that no paper prints, of numbers that one prints."""

    @property
    def correction(self) -> None:
        """Return None: what was corrected is what it is made of."""
        return None


def asked(classes: Sequence[str], records: Iterable[Record], datasets: Iterable[str] = ()) -> Scopes:
    """Return the scopes of classes asked for; datasets that have none of them are in no scope.

    Args:
        classes: asked for.
        records: of whose datasets they may be.
        datasets: of which they may be, too.

    Raises:
        UsageError: a class that is in no record and in no card of these datasets.
    """
    known: dict[str, dict[str, None]] = {dataset: {} for dataset in datasets}
    for record in records:
        known.setdefault(record.cell.dataset, {}).update(dict.fromkeys(record.scores))
    for dataset, found in known.items():
        if dataset in DATASETS.targets:
            found.update(dict.fromkeys(DATASETS.load(dataset).card.classes))
    every = dict.fromkeys(cls for found in known.values() for cls in found)
    for cls in classes:
        if cls not in every:
            near = did_you_mean(cls, every)
            raise UsageError(f"--classes: no class '{cls}' in {', '.join(known)}.{near} Known: {', '.join(every)}")
    scopes = {dataset: tuple(cls for cls in classes if cls in found) for dataset, found in known.items()}
    return {dataset: scope for dataset, scope in scopes.items() if scope}


def common(entries: Iterable[Seeds]) -> Scopes:
    """Return the classes that all of ours have of the datasets of which none of ours has all."""
    by_dataset: dict[str, list[Seeds]] = {}
    for entry in entries:
        by_dataset.setdefault(entry.head.cell.dataset, []).append(entry)
    scopes = {}
    for dataset, own in by_dataset.items():
        shared = [cls for cls in own[0].classes if all(cls in entry.classes for entry in own)]
        if shared and all(entry.missing for entry in own):
            scopes[dataset] = tuple(shared)
    return scopes


def restricted(entry: Seeds, scopes: Scopes) -> Seeds | None:
    """Return an entry with the classes in scope, as if there were no others; None where it has none of them."""
    scope = scopes.get(entry.head.cell.dataset)
    if scope is None:
        return entry
    rows = (Row(tuple(found for record in row.records if (found := _within(record, scope)))) for row in entry.rows)
    kept = tuple(row for row in rows if row.records)
    return Seeds(kept) if kept else None


def _within(record: Record, scope: Collection[str]) -> Record | None:
    found = {cls: one for cls, one in record.scores.items() if cls in scope}
    if not found:
        return None
    parts = len(scope) if record.cell.part else record.dataset.parts_known
    known = record.dataset.model_copy(update={"classes_known": len(scope), "parts_known": parts})
    # what ranks all classes together says nothing of some of them
    pooled = record.pooled if len(found) == len(record.scores) else None
    return record.model_copy(update={"scores": found, "dataset": known, "pooled": pooled})


def printed(dataset: str, scope: Sequence[str]) -> list[Score]:
    """Return what papers print of the classes in scope, and the means over them where a paper has them all."""
    groups: dict[tuple[str, ...], dict[str, Score]] = {}
    for score in scores():
        if score.dataset == dataset and score.cls in scope:
            about = (score.method, score.setting, score.variant, score.label, score.metric, score.paper, score.table)
            groups.setdefault(about, {})[score.cls] = score
    found: list[Score] = []
    for parts in groups.values():
        found += parts.values()
        used = [Decimal(score.used) for score in parts.values() if score.used]
        if len(used) == len(scope):
            one = next(iter(parts.values()))
            digits = min(int(number.as_tuple().exponent) for number in used)
            value = (sum(used, Decimal(0)) / len(used)).quantize(Decimal(1).scaleb(digits))
            note = f"recomputed over {named(scope)}, by class in {papers()[one.paper].name}"
            found.append(
                RecomputedMean(
                    *(one.method, dataset, MEAN, one.setting, one.variant, one.label, one.metric, str(value), ""),
                    *(one.paper, one.table, one.protocol, note),
                )
            )
    return found


def named(scope: Sequence[str]) -> str:
    """Return the classes in words: `bottle and screw`, or `7 classes` where they are many."""
    if len(scope) > NAMED:
        return f"{len(scope)} classes"
    return " and ".join([", ".join(scope[:-1]), scope[-1]] if len(scope) > 1 else scope)


def labelled(table: Table, scopes: Scopes) -> Table:
    """Return the table with what its means are over in the headings of datasets, and a note that says it."""
    about = {column.dataset for column in table.columns} | {block.dataset for block in table.blocks}
    own = {dataset: scope for dataset, scope in scopes.items() if dataset in about}
    if not own:
        return table

    def title(text: str, dataset: str) -> str:
        return f"{text} ({named(own[dataset])})" if text and dataset in own else text

    columns = tuple(
        column if column.cls else replace(column, title=title(column.title, column.dataset)) for column in table.columns
    )
    blocks = tuple(replace(block, title=title(block.title, block.dataset)) for block in table.blocks)
    notes = [_note(dataset, scope, "published" in table.sources) for dataset, scope in own.items()]
    return replace(table, columns=columns, blocks=blocks, notes=(*table.notes, *notes))


def _note(dataset: str, scope: Sequence[str], beside: bool) -> str:
    alone = ", ".join(scope) if len(scope) > NAMED else named(scope)
    theirs = "; published ones are recomputed over the same, from the papers' numbers by class" if beside else ""
    return f"Means on {dataset_title(dataset)} are over {alone} alone{theirs}."
