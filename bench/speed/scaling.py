"""Cost model of the full matrix of methods, datasets and seeds on several GPUs, over measured rates.

A cell costs decoding and features, which the seeds of a method on a dataset share where one worker runs them one after
another, and training, fitting, inference and metrics, which each seed pays. Workers are equal and do not slow each
other down. Cells go to them longest first (LPT), whose makespan is at most 4/3 of the best one (Graham, SIAM J. Appl.
Math., 1969); all seeds of a method and dataset stay together, or every cell is by itself and computes its own features,
whichever ends sooner.
"""

from __future__ import annotations

import heapq
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from bench.api import Card
from bench.config import configure
from bench.registry import DATASETS, METHODS
from bench.report.tables.table import Column, RowBlock, Table, TableCell, TableRow
from bench.speed.estimate import EFFICIENCY
from bench.speed.layout import fill, machine, on_gpu
from bench.speed.record import MethodSpeed, SpeedRecord
from bench.speed.workload import counts

MATRIX = ("mvtec", "mvtec_loco", "visa", "realiad", "cifar10", "cifar100", "fmnist", "view")
"""The eight datasets that bench compares methods on; the four semantic ones have four half-splits each."""
GPUS = (1, 8, 64)
SEEDS = 5
ASSUMED = (
    "A model, not a measurement: seconds a step and an image are those of the workload mvtec and hold for every "
    "dataset, as a method resizes all images to one size; the numbers of images and steps are those of the datasets' "
    "cards and of the methods' published settings.",
    "Decoding and features are shared by the seeds of a method on a dataset that one worker runs; images are local.",
    "Workers are equal and do not slow each other down. Cells go to them longest first.",
)


@dataclass(frozen=True, slots=True)
class CellGroup:
    """The cells of one method on one part of a dataset, a seed each."""

    method: str
    dataset: str
    shared: float
    """Seconds that the seeds share: decoding and features."""
    own: float
    """Seconds that each seed takes."""
    seeds: int

    @property
    def together(self) -> float:
        """Return the seconds of all seeds one after another."""
        return self.shared + self.seeds * self.own


@dataclass(frozen=True, slots=True)
class Schedule:
    """A matrix on some workers."""

    workers: int
    makespan: float
    """Wall seconds until the last cell is done."""
    busy: float
    """Seconds of all workers together."""
    grouped: bool
    """Whether the seeds of a method and dataset stay together."""


def groups(speed: dict[str, MethodSpeed], datasets: Iterable[str] = MATRIX, seeds: int = SEEDS) -> list[CellGroup]:
    """Return the groups of the matrix that methods with measured rates have on some datasets."""
    found = []
    for dataset in datasets:
        card = DATASETS.load(dataset).card
        for train, test in parts(card):
            for name, one in speed.items():
                kind = METHODS.load(name)
                steps = kind(configure(kind, dataset, {}, None)).steps(train)
                found.append(_group(name, one, dataset, (train, test, steps if one.steps else 0), seeds, card))
    return found


def parts(card: Card) -> list[tuple[int, int]]:
    """Return training and test images of every model that setting multi makes of a dataset."""
    every = counts(card)
    test = sum(one.good + one.bad for one in every.values())
    if card.kind == "semantic":
        return [(sum(every[cls].train for cls in normal), test) for normal in card.splits.values()]
    return [(sum(one.train for one in every.values()), test)]


def makespan(seconds: Iterable[float], workers: int) -> float:
    """Return when the last job ends, each going to whoever is free first, longest first."""
    free = [0.0] * workers
    for job in sorted(seconds, reverse=True):
        heapq.heapreplace(free, free[0] + job)
    return max(free)


def schedule(matrix: Sequence[CellGroup], workers: int) -> Schedule:
    """Return the sooner of two schedules: groups of seeds kept together, or every cell by itself."""
    together = [group.together for group in matrix]
    apart = [group.shared + group.own for group in matrix for _ in range(group.seeds)]
    kept, split = makespan(together, workers), makespan(apart, workers)
    if kept <= split:
        return Schedule(workers, kept, sum(together), True)
    return Schedule(workers, split, sum(apart), False)


def projected(method: MethodSpeed, tflops: float) -> MethodSpeed:
    """Return a method as it would be on a device of a matrix rate, at half of that rate; decoding and metrics stay."""
    rate = EFFICIENCY * tflops * 1e12
    each = {floor.stage: floor.flops / rate for floor in method.floors}
    phases = tuple(
        phase.model_copy(update={"seconds": each[phase.name] * phase.units}) if phase.name in each else phase
        for phase in method.phases
    )
    return method.model_copy(update={"phases": phases, "whole": False})


def table(records: Sequence[SpeedRecord], gpus: Sequence[int] = GPUS, assumed_tflops: float | None = None) -> Table:
    """Return the cost of the full matrix: machines as blocks, numbers of workers as rows.

    Args:
        records: of the workload mvtec.
        gpus: numbers of workers.
        assumed_tflops: also project onto a device of this matrix rate, marked as such.
    """
    titles = (("wall days", 2), ("device-days", 2), ("speed-up", 1), ("busy (%)", 1))
    columns = tuple(Column(title, unit="number", decimals=decimals) for title, decimals in titles)
    blocks, notes = [], list(ASSUMED)
    cuda = [one for one in records if on_gpu(one)]
    for record in records:
        workers = gpus if record in cuda else (1,)
        blocks.append(_block(f"{machine(record)}, {_counted(len(record.methods))}", record.methods, workers, columns))
        notes.append(f"{machine(record)}: {_measured(record.methods)}.")
    if not cuda:
        rows = tuple(TableRow(f"{count} GPU{'s' * (count > 1)}", tuple(TableCell() for _ in columns)) for count in gpus)
        blocks.append(RowBlock("CUDA", rows))
        notes.append(f"No GPU was at hand; on one, this fills the dashes: {fill('mvtec')}")
    if assumed_tflops is not None and records:
        speed = {name: projected(one, assumed_tflops) for name, one in records[0].methods.items()}
        title = f"projected, not measured: {assumed_tflops:g} TFLOP/s"
        blocks.append(_block(title, speed, gpus, columns))
        notes.append(
            f"The projection takes {EFFICIENCY:.0%} of {assumed_tflops:g} TFLOP/s for the counted operations, and "
            f"decoding and metrics as measured on {machine(records[0])}."
        )
    sets = ", ".join(DATASETS.load(name).card.title for name in MATRIX)
    title = f"Cost of the full matrix: methods x {len(MATRIX)} datasets x {SEEDS} seeds"
    notes.append(f"Datasets: {sets}; a semantic set counts its four half-splits.")
    return Table("scaling", title, "workers", columns, tuple(blocks), "machine", tuple(notes), 2)


def _block(title: str, speed: dict[str, MethodSpeed], workers: Iterable[int], columns: Sequence[Column]) -> RowBlock:
    matrix = groups(speed)
    alone = schedule(matrix, 1).makespan
    rows = []
    for count in workers:
        found = schedule(matrix, count)
        shares = (
            *(found.makespan / 86400, found.busy / 86400),
            *(alone / found.makespan, 100 * found.busy / (count * found.makespan)),
        )
        how = "seeds of a method and dataset on one worker" if found.grouped else "every cell computes its own features"
        rows.append(
            TableRow(f"{count}", tuple(TableCell(value=value) for value in shares), notes=(how,) if count > 1 else ())
        )
    return RowBlock(title, tuple(rows))


def _group(
    name: str, speed: MethodSpeed, dataset: str, work: tuple[int, int, int], seeds: int, card: Card
) -> CellGroup:
    train, test, steps = work
    units = {
        **{"decode": train + test, "features": train, "train": steps, "inference": test},
        "metrics": test if card.masks != "none" else 0,
    }
    # what comes once in the workload, such as the record, comes once in every cell
    taken = {
        phase.name: phase.seconds / max(phase.units, 1) * (1 if phase.units == 1 else units.get(phase.name, train))
        for phase in speed.phases
    }
    # a method with a memory looks at its images again for every seed, as nothing keeps its features
    common = ("decode", "features") if steps else ("decode",)
    shared = sum(taken.get(phase, 0.0) for phase in common)
    return CellGroup(name, dataset, shared, sum(taken.values()) - shared, seeds)


def _measured(methods: dict[str, MethodSpeed]) -> str:
    whole = [name for name, one in methods.items() if one.whole]
    part = [name for name in methods if name not in whole]
    said = [f"{', '.join(whole)} measured from end to end"] if whole else []
    said += [f"{', '.join(part)} extrapolated from timed blocks"] if part else []
    return "; ".join(said)


def _counted(methods: int) -> str:
    return f"{methods} method{'s' * (methods > 1)}"
