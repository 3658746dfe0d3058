"""Cells on the terminal: the plan before they are run, the scores of each after it."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table
from rich.text import Text

from bench.api import Method
from bench.cli.terminal import fits, print_scores, say
from bench.doctor import size
from bench.encoders import catalog
from bench.errors import StoreError
from bench.machine.terminal import duration
from bench.plan.planned import Planned
from bench.run import kept_model
from bench.run.cell import Options
from bench.speed.estimate import Estimate, estimates
from bench.store import record as records
from bench.store.apart import apart
from bench.store.record import Record
from bench.words import counted


def print_plan(planned: list[Planned], out: Console, options: Options, devices: int | None) -> None:
    """Print what there is to do, what is done and how long the rest will take.

    Args:
        planned: the cells.
        out: where to; cells get several lines each where one does not fit.
        options: how they will be run.
        devices: how many share the work; None where a cluster decides.
    """
    expectations = estimates(planned, options.results, options.device) if devices else [None] * len(planned)
    total = sum(expected.seconds for expected in expectations if expected)
    table = _wide(planned, expectations)
    if not fits(table, out):
        table = _narrow(planned, expectations)
    out.print(table, highlight=False)
    left = sum(item.todo for item in planned)
    guess = ""
    if left and devices:
        where = f"{devices} devices" if devices > 1 else f"{options.device}"
        guess = f", about {duration(total / devices)} on {where} (~ is counted from MACs, not measured)"
    say(out, f"{counted(len(planned), 'cell')}: {left} to do, {len(planned) - left} done{guess}")
    absent = (item.cell.encoder for item in planned if not item.cell.weights_sha256)
    for encoder in dict.fromkeys(wanted.name for wanted in absent if wanted is not None):
        say(out, f"weights of {encoder}: would be fetched, about {catalog.bytes_of(encoder) / 1e6:.0f} MB")
    if lacking := [item for item in planned if (item.lacking or item.unmeasured) and not item.todo]:
        which = lacking[0].cell.name if len(lacking) == 1 else f"{len(lacking)} finished cells"
        took = duration(sum(item.seconds for item in lacking))
        unkept = " and ".join(dict.fromkeys(what for item in lacking for what in item.lacking))
        unmeasured = " and ".join(dict.fromkeys(what for item in lacking for what in item.unmeasured))
        what = f"no {unkept} kept" if unkept else ""
        what = ", ".join(filter(None, (what, f"no {unmeasured} measured" if unmeasured else "")))
        say(out, f"{which}: {what}, and none to be had without running again: --again does (it took {took})")
    if options.keep_model and (running := [item.cell.method for item in planned if item.todo and not item.by_model]):
        memories = any(type(method).fit is not Method.fit for method in running)
        more = ", and what is remembered of the training images" if memories else ""
        room = size(sum(map(kept_model.size, running)))
        say(out, f"{counted(len(running), 'model')} to keep beside the records: {room}{more}")


def _wide(planned: list[Planned], expectations: Sequence[Estimate | None]) -> Table:
    table = Table(box=None, pad_edge=False, header_style="bold")
    for column in ("cell", "classes", "train", "test", "steps", "encoder", "state", "time"):
        table.add_column(column, justify="right" if column in ("classes", "train", "test", "steps", "time") else "left")
    for item, name, expected in zip(planned, _told_apart(planned), expectations, strict=True):
        task = item.cell.task
        counts = (len(task.classes), len(task.train), len(task.test), item.cell.steps)
        table.add_row(Text(name), *map(str, counts), Text(_encoder(item)), item.text, _time(expected))
    return table


def _narrow(planned: list[Planned], expectations: Sequence[Estimate | None]) -> Table:
    table = Table(box=None, pad_edge=False, header_style="bold")
    for column in ("cell", "state", "time"):
        table.add_column(column, justify="right" if column == "time" else "left")
    for item, name, expected in zip(planned, _told_apart(planned), expectations, strict=True):
        task, steps = item.cell.task, counted(item.cell.steps, "step")
        images = f"{counted(len(task.classes), 'class', 'classes')}, {len(task.train):,} + {len(task.test):,} images"
        table.add_row(Text(name), item.text, _time(expected))
        table.add_row(Text(f"  {_encoder(item)}", style="dim"))
        table.add_row(Text(f"  {images}, {steps}", style="dim"))
    return table


def _time(expected: Estimate | None) -> str:
    return f"{'' if expected.measured else '~'}{duration(expected.seconds)}" if expected else "–"


def facts(item: Planned, results: Path) -> dict[str, Any]:
    """Return a cell as JSON has it: what it is, and what the results folder now holds of it."""
    cell, path = item.cell, item.cell.path(results)
    record = None
    with suppress(StoreError):
        record = records.read(path) if path.is_file() else None
    return {
        "name": cell.name,
        **cell.key.model_dump(mode="json"),
        "encoder": cell.encoder.name if cell.encoder is not None else None,
        "input_size": cell.input_size,
        "steps": cell.steps,
        "train": len(cell.task.train),
        "test": len(cell.task.test),
        "planned": item.state,
        "lacking": list(item.lacking),
        "status": record.status if record else None,
        "record": str(path) if record else None,
        "mean": record.mean if record else {},
        "error": record.error.message if record and record.error else None,
    }


def _encoder(item: Planned) -> str:
    encoder = item.cell.encoder
    return f"{encoder.name if encoder is not None else 'none'} @ {item.cell.input_size}"


def _told_apart(planned: list[Planned]) -> list[str]:
    """Return the cells' names, of variants of one method with settings that tell them apart."""
    alike: dict[str, list[int]] = {}
    for place, item in enumerate(planned):
        alike.setdefault(item.cell.name, []).append(place)
    names = [item.cell.name for item in planned]
    for places in alike.values():
        own = apart([planned[place].cell.method.config.model_dump(mode="json") for place in places])
        for place, settings in zip(places, own, strict=True):
            names[place] = ", ".join([names[place], *(f"{key}={value}" for key, value in settings.items())])
    return names


def print_record(record: Record, item: Planned, results: Path, out: Console) -> None:
    """Print what became of a cell: its scores or its failure, its cost, and where the record lies."""
    print_scores(record, out)
    say(out, f"record  {item.cell.path(results)}")
