"""Time profile of the plain way and of ours, and what each change was to gain and has gained."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from bench.report.tables.table import Table, TableCell, TableRow
from bench.speed.layout import by_machine, columns, provenance
from bench.speed.record import MethodSpeed, SpeedRecord, WorkloadFacts

PHASES = ("decode", "features", "fit", "train", "inference", "metrics", "record", "set-up and record")
SHARES_NOTE = (
    "The plain way's rows follow from its rates over the whole workload, with metrics and record as ours: decoding and "
    "features are those of every step. The features of test images are part of inference in both."
)
GAINS_NOTE = (
    "Predicted from what is left out: decoding by its share of the plain way's seconds, features by the counted "
    "operations. 'Pixels kept' is our way without kept features against the plain way, in our precision; measured with "
    "--again."
)


def shares(records: Sequence[SpeedRecord]) -> Table:
    """Return the share of each phase in the whole workload, before and after."""
    known = {phase.name for one in records for method in one.methods.values() for phase in method.phases}
    names = [name for name in PHASES if name in known]
    heads = (*columns("Share (%)", *((name, 1) for name in names)), *columns("Whole", ("seconds", 0)))

    def rows(title: str, speed: MethodSpeed, record: SpeedRecord) -> Iterator[TableRow]:
        ours = {phase.name: phase.seconds for phase in speed.phases}
        both = ((f"{title}, plain way", plain(speed, record.workload), ()), (title, ours, provenance(speed)))
        for name, taken, notes in both:
            total = sum(taken.values())
            cells = [TableCell(value=100 * taken[phase] / total) if phase in taken else TableCell() for phase in names]
            yield TableRow(name, (*cells, TableCell(value=total)), notes=notes)

    return by_machine("speed-shares", "Where the time goes", records, heads, rows, (SHARES_NOTE,))


def plain(speed: MethodSpeed, workload: WorkloadFacts) -> dict[str, float]:
    """Return the seconds by phase that the plain way takes for the whole workload, from its rates."""
    scoring, learning = speed.plain_parts["inference"], speed.plain_parts["train" if speed.train else "fit"]
    tested = workload.test / speed.inference.plain.median
    learnt = (speed.steps if speed.train else workload.train) / speed.learning.plain.median
    found = {
        "decode": learnt * learning["decode"] + tested * scoring["decode"],
        "features": learnt * learning["features"],
        "train" if speed.train else "fit": learnt * (1 - learning["decode"] - learning["features"]),
        "inference": tested * (1 - scoring["decode"]),
    }
    for phase in speed.phases:
        # a memory is filled alike in both ways; with metrics and record our choice of way has nothing to do
        if phase.name in ("metrics", "record", "fit"):
            found[phase.name] = found.get(phase.name, 0.0) + phase.seconds
    return found


def gains(records: Sequence[SpeedRecord]) -> Table:
    """Return what each change was to gain, and has gained: times the rate before it."""
    heads = (
        *columns("Training: pixels kept", ("predicted", 2), ("measured", 2)),
        *columns("Training: features kept", ("predicted", 2), ("measured", 2)),
        *columns("Training: both", ("predicted", 2), ("measured", 2)),
        *columns("Inference: pixels kept", ("predicted", 2), ("measured", 2)),
    )

    def rows(title: str, speed: MethodSpeed, record: SpeedRecord) -> Iterator[TableRow]:
        train, scoring = speed.train, 1 / (1 - speed.plain_parts["inference"]["decode"])
        cells = [TableCell() for _ in heads]
        if train is not None:
            pixels, again = 1 / (1 - speed.plain_parts["train"]["decode"]), train.again
            values = (
                *(pixels, again.median / train.plain.median if again else None),
                *(train.allowed, train.over_again.median if train.over_again else None),
                *(pixels * train.allowed if train.allowed else None, train.over_plain.median),
            )
            cells = [TableCell(value=value) for value in values]
        inference = (TableCell(value=scoring), TableCell(value=speed.inference.over_plain.median))
        yield TableRow(title, (*cells[:6], *inference), notes=provenance(speed))

    return by_machine("speed-gains", "Gain of each change", records, heads, rows, (GAINS_NOTE,))
