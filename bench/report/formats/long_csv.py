"""Long-format CSV and Parquet: all numbers of a report, one a row, for people's own plots.

Scores are fractions at full precision; an undefined one has no value and its reason in `note`. Costs (`cost/...`) have
their unit in the metric's name.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from bench.files import atomic
from bench.published import MEAN, Score, scores
from bench.report.formats.csv import inert
from bench.report.tables.costs import COST_METRICS, cost
from bench.store.calibration import OperatingPoints
from bench.store.facts import AUTHORS, ClassScores
from bench.store.record import Record
from bench.store.rows import rows
from bench.words import counted

if TYPE_CHECKING:
    import pandas as pd

COLUMNS = {
    "source": "string",  # ours or published
    "method": "string",
    "variant": "string",  # what differs from the method's published settings
    "dataset": "string",
    "setting": "string",
    "shots": "int64",
    "seed": "int64",
    "of": "string",  # class, mean (over classes or half-splits), pooled (all classes ranked together), or cost
    "class": "string",  # class or half-split
    "metric": "string",  # with its variant
    "value": "float64",
    "std": "float64",
    "protocol": "string",
    "protocol_hash": "string",
    "metric_version": "int64",
    "encoder": "string",
    "precision": "string",
    "record": "string",  # fingerprint
    "paper": "string",
    "table": "string",
    "note": "string",
}
"""Column -> type, missing values included: pandas takes `Int64` for an int64 that may lack one."""
Number = dict[str, Any]


def numbers(records: Collection[Record], published: Iterable[Score] = ()) -> Iterator[Number]:
    """Yield the numbers of records, the means of their rows, and published ones."""
    for row in rows(records):
        for record in row.records:
            yield from _of_record(record)
        head = row.head
        # of a row of parts; without parts a mean belongs to its one record, and is over all classes or not given
        whole = not row.missing and (head.cell.part or len(row.lines) == head.dataset.classes_known)
        for metric in row.metrics if whole else ():
            value = row.mean(metric)
            note = "" if value is not None else "not every class has a value"
            fingerprint = "" if head.cell.part else head.cell.fingerprint
            yield _facts(head) | {
                "of": "mean",
                "metric": metric,
                "value": value,
                "note": note,
                "record": fingerprint,
            }
        for metric in COST_METRICS:
            value = cost(row.records, metric)
            if value is not None:
                yield _facts(head) | {"of": "cost", "metric": metric, "value": value}
    for score in published:
        yield _of_score(score)


def _of_record(record: Record) -> Iterator[Number]:
    for cls, found in record.scores.items():
        yield from (_facts(record) | {"of": "class", "class": cls} | number for number in _of_class(found))
    if record.pooled is not None:
        yield from (_facts(record) | {"of": "pooled"} | number for number in _of_class(record.pooled))
    if record.calibration is not None:
        for cls, points in record.calibration.classes.items():
            yield from (_facts(record) | {"of": "class", "class": cls} | number for number in _at_thresholds(points))
        if (pooled := record.calibration.pooled) is not None:
            yield from (_facts(record) | {"of": "pooled"} | number for number in _at_thresholds(pooled))


def _of_class(found: ClassScores) -> Iterator[Number]:
    for metric, value in {**found.values, **found.extra}.items():
        yield {"metric": metric, "value": value, "note": found.undefined.get(metric, "")}


def _at_thresholds(points: OperatingPoints) -> Iterator[Number]:
    note = f"at a threshold of {counted(points.images, 'normal image')} held back"
    for metric, value in points.worth.items():
        yield {"metric": metric, "value": value, "note": note}


def _facts(record: Record) -> Number:
    cell = record.cell
    return {
        "source": "ours",
        "method": cell.method,
        "variant": ";".join(
            [
                *([AUTHORS] if record.imported is not None else []),
                *(f"{name}={record.config.get(name)}" for name in record.changed),
            ]
        ),
        "dataset": cell.dataset,
        "setting": cell.setting,
        "shots": cell.shots,
        "seed": cell.seed,
        "protocol": record.protocol.name,
        "protocol_hash": record.protocol.hash,
        "metric_version": record.metric_version,
        "encoder": record.encoder_id[0],
        "precision": record.environment.precision,
        "record": cell.fingerprint,
    }


def _of_score(score: Score) -> Number:
    return {
        "source": "published",
        "method": score.method,
        "variant": score.variant,
        "dataset": score.dataset,
        "setting": score.setting,
        "of": "cost" if score.is_cost else "mean" if score.cls == MEAN else "class",
        "class": "" if score.cls == MEAN else score.cls,
        "metric": score.computed_as or score.metric,
        "value": score.amount,
        "std": float(score.std) / (1 if score.is_cost else 100) if score.std else None,
        "protocol": score.protocol,
        "paper": score.paper,
        "table": score.table,
        "note": score.remark,
    }


def chosen(methods: Collection[str], datasets: Collection[str]) -> tuple[Score, ...]:
    """Return the published numbers of some methods and datasets, costs included; empty for all."""
    return tuple(
        score
        for score in scores()
        if (not methods or score.method in methods) and (not datasets or score.dataset in datasets or not score.dataset)
    )


def frame(records: Collection[Record], published: Iterable[Score] = ()) -> pd.DataFrame:
    """Return the numbers of records, the means of their rows, and published ones, as a frame of COLUMNS."""
    import pandas as pd

    found = list(numbers(records, published))
    return pd.DataFrame(
        {
            name: pd.array([number.get(name) for number in found], dtype="Int64" if kind == "int64" else kind)
            for name, kind in COLUMNS.items()
        }
    )


def text(frame: pd.DataFrame) -> str:
    """Return the frame as CSV, every digit kept, a missing value an empty cell."""
    strings = [name for name, kind in COLUMNS.items() if kind == "string"]
    shown = frame.assign(**{name: frame[name].map(inert, na_action="ignore") for name in strings})
    return str(shown.to_csv(index=False, lineterminator="\n"))


def write_parquet(path: Path, frame: pd.DataFrame) -> None:
    """Write the frame as Parquet."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    schema = pa.schema(list(COLUMNS.items()))
    with atomic(path) as file:
        pq.write_table(pa.Table.from_pandas(frame, schema=schema, preserve_index=False), file)
