"""Speed records as tables: rates, where the time goes, what was gained, how far each stage is from its floor."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from bench.report.tables.names import method_title
from bench.report.tables.table import RowBlock, Table, TableCell, TableRow
from bench.speed.layout import by_machine, columns, machine, ordered, provenance, ratio
from bench.speed.profile import gains, shares
from bench.speed.record import MethodSpeed, SpeedRecord, device_name
from bench.store.facts import Latency

RATES_NOTE = (
    "Rates are medians over blocks of steps or images, ours and the plain way's in turns within one run; a ratio is "
    "the median over neighbouring blocks, its range stands beside it."
)
PLAIN_NOTE = (
    "The plain way decodes its images and sends them through the encoder in every step, eagerly and in full precision, "
    "and waits for each loss, as the methods' official scripts do; networks, losses, optimizers and the allocator's "
    "settings are bench's own. "
    "Its inference decodes, too: the ratio with decoding counts that to ours as well."
)
USED_NOTE = (
    "Used: floating-point operations of all matrix products that a step or an image needs, over the rate that matrix "
    "products alone reached between the blocks. Memory is the highest until training had begun, with the features that "
    "were kept then; the store is that of all training images."
)
SINGLE_NOTE = (
    "One image: from a decoded image, alone in its batch, to map and score on the host; p95 takes 20 images, p99 100. "
    "Energy: what NVML counts of the GPU, or RAPL of the processor, others' work and idling included; a dash where "
    "nothing counts it."
)
FLOOR_NOTE = (
    "Predicted: operations at the rate that matrix products alone reached between the blocks, or bytes that have to be "
    "moved at the measured memory rate, whichever takes longer; a ratio below 1 can come of others that kept the "
    "machine busy while the products were timed. A patch memory is counted at its largest."
)


def tables(records: Sequence[SpeedRecord]) -> list[Table]:
    """Return four tables a workload, five where variants were timed; without a GPU, dashes and what fills them."""
    made = []
    for name in dict.fromkeys(one.workload.name for one in records):
        own = [one for one in records if one.workload.name == name]
        varied = [one for one in own if any(method.learning.variants for method in one.methods.values())]
        made += [rates(own), *([variants(varied)] if varied else []), shares(own), gains(own), floors(own)]
    return made


def rates(records: Sequence[SpeedRecord]) -> Table:
    """Return rates, ratios, memory and the share of the matrix rate: methods as rows, machines as blocks."""
    heads = (
        *columns("Training", ("steps/s", 3), ("images/s", 1), ("plain", 1), ("times plain", 2), ("range", 2)),
        *columns("Without store", ("times", 2), ("range", 2), ("allowed", 2)),
        *columns("Inference", ("images/s", 1), ("plain", 1), ("times plain", 2), ("range", 2), ("with decoding", 2)),
        *columns("One image (ms)", ("p50", 1), ("p95", 1), ("p99", 1)),
        *columns("Memory (MiB)", ("process", 0), ("device", 0), ("store", 0)),
        *columns("Energy (J)", ("a step", 2), ("an image", 3)),
        *columns("Used (%)", ("training", 0), ("inference", 0)),
        *columns("Whole", ("hours", 2)),
    )
    return by_machine("speed", "Speed", records, heads, _rates, (RATES_NOTE, PLAIN_NOTE, USED_NOTE, SINGLE_NOTE))


def variants(records: Sequence[SpeedRecord]) -> Table:
    """Return rates of our way in other arithmetics, compiled, and with features computed again; rows a variant."""
    heads = (
        *columns("Training", ("steps/s", 3), ("times plain", 2), ("range", 2)),
        *columns("Inference", ("images/s", 1), ("times plain", 2), ("range", 2)),
    )
    return by_machine("speed-variants", "Variants of our way", records, heads, _variants, (RATES_NOTE, PLAIN_NOTE))


def floors(records: Sequence[SpeedRecord]) -> Table:
    """Return each stage's operations and bytes, the seconds they take at least, and the seconds taken."""
    workload = records[0].workload.name
    heads = (
        *columns("One unit", ("GFLOP", 2), ("MB", 1)),
        *columns("Products alone", ("GFLOP/s", 0)),
        *columns("Seconds", ("predicted", 5), ("measured", 5), ("ratio", 2)),
    )
    blocks = tuple(
        RowBlock(f"{method_title(name)}, {device_name(record.environment.device)}", tuple(_floors(method)))
        for record in records
        for name, method in ordered(record)
    )
    title = f"Distance from the floor on {workload}"
    reached = (f"{machine(one)}: {_reached(one)}." for one in records)
    return Table(f"speed-floor-{workload}", title, "stage", heads, blocks, "method", (FLOOR_NOTE, *reached), 2)


def _rates(title: str, method: MethodSpeed, record: SpeedRecord) -> Iterator[TableRow]:
    learning, inference = method.learning, method.inference
    values = (
        learning.ours.median if method.train else None,
        learning.images * learning.ours.median,
        learning.images * learning.plain.median,
    )
    used = {floor.stage: floor.used for floor in method.floors}
    cells = (
        *(TableCell(value=value) for value in values),
        *(*ratio(learning.over_plain), *ratio(learning.over_again), TableCell(value=learning.allowed)),
        *(
            TableCell(value=inference.ours.median),
            TableCell(value=inference.plain.median),
            *ratio(inference.over_plain),
        ),
        TableCell(value=method.inference_with_decode / inference.plain.median),
        *_single(method.latency),
        *(TableCell(value=method.peak_memory_mib), TableCell(value=method.peak_device_memory_mib)),
        TableCell(value=method.store_mib or None),
        *(TableCell(value=method.train.joules if method.train else None), TableCell(value=inference.joules)),
        *(TableCell(value=100 * used[stage] if stage in used else None) for stage in ("train", "inference")),
        TableCell(value=method.seconds / 3600),
    )
    yield TableRow(title, cells, notes=provenance(method))


def _single(latency: Latency | None) -> Iterator[TableCell]:
    for seconds in (latency.p50, latency.p95, latency.p99) if latency else (None, None, None):
        yield TableCell(value=None if seconds is None else 1e3 * seconds)


def _variants(title: str, method: MethodSpeed, record: SpeedRecord) -> Iterator[TableRow]:
    scoring = {(one.precision, one.compiled): one for one in method.inference.variants}
    for one in method.learning.variants:
        inference = scoring.get((one.precision, one.compiled)) if one.kept else None
        ways = (one.precision, "compiled" if one.compiled else "eager", "kept" if one.kept else "computed again")
        cells = (
            TableCell(value=one.rate.median),
            *ratio(one.over_plain),
            TableCell(value=inference.rate.median if inference else None),
            *ratio(inference.over_plain if inference else None),
        )
        yield TableRow(f"{title}, {', '.join(ways)}", cells)


def _floors(method: MethodSpeed) -> Iterator[TableRow]:
    for one in method.floors:
        unit = f"an {one.unit}" if one.unit[0] in "aeiou" else f"a {one.unit}"
        values = (one.flops / 1e9, one.bytes / 1e6, one.matrix_flops / 1e9, one.predicted, one.measured, one.distance)
        yield TableRow(f"{one.stage}, {unit}", tuple(TableCell(value=value) for value in values))


def _reached(record: SpeedRecord) -> str:
    rates = record.rates
    matrix = ", ".join(f"{value / 1e12:.3g} TFLOP/s in {name}" for name, value in rates.matrix_flops.items())
    return f"{matrix}, {rates.memory_bytes / 1e9:.3g} GB/s"
