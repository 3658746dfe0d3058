"""Score tables on the terminal, with their footnotes and costs."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial

from rich.console import Console
from rich.table import Table
from rich.text import Text

from bench.cli import operating_table
from bench.machine.terminal import duration
from bench.report.tables.names import heading
from bench.store.record import UNCHECKED, Record
from bench.store.rows import Row, value

CROWDED_SHARE = 0.1
"""Of a cell's time: from here on it says more of the machine's other work than of the method."""
UNBOUNDED = 1_000_000
"""Columns that no table has."""


def score_table(row: Row) -> Table:
    """Return the paper-style table of one row: a line a class or part and their mean, in percent; a dash for undefined.

    Where classes were also ranked together, a last line says what one threshold for all of them is worth.
    """
    head = row.head
    title = f"{row.run}, protocol {head.cell.protocol}"
    table = Table(title=Text(title), title_justify="left", header_style="bold")
    table.add_column("split" if row.unit == "splits" else "class")
    units = {metric: unit for record in row.records for metric, unit in record.units.items()}
    for metric in row.metrics:
        unit = f" ({units[metric]})" if metric in units else ""
        table.add_column(Text(f"{heading(metric)}{unit}"), justify="right")

    def shown(values: Callable[[str], float | None]) -> list[str]:
        return [number(values(metric), units.get(metric, "")) for metric in row.metrics]

    for name, scores in row.lines.items():
        table.add_row(Text(name), *shown(partial(value, scores)))
    table.add_section()
    for name, lines in row.groups.items():
        table.add_row(f"mean of {len(lines)} of {name}", *shown(partial(row.mean_of, lines)))
    table.add_row(Text(_mean_label(row), "bold"), *(Text(text, "bold") for text in shown(row.mean)))
    if head.pooled is not None:
        table.add_row("pooled", *shown(partial(value, head.pooled)))
    return table


def _mean_label(row: Row) -> str:
    if row.missing:
        return row.missing
    count, known = len(row.lines), row.head.dataset.classes_known
    return f"mean of {count}" if count == known or row.unit == "splits" else f"mean of {count} (of {known} classes)"


def score_line(record: Record) -> str:
    """Return a part's scores in one line, undefined ones left out: `A  I-AUROC 98.1, I-AP 97.0`."""
    own = [scores for name, scores in record.scores.items() if name == record.cell.part]
    pairs = ((metric, found) for scores in own for metric, found in scores.values.items() if found is not None)
    known = (f"{heading(metric)} {number(found, record.units.get(metric, ''))}" for metric, found in pairs)
    return f"{record.cell.part}  {', '.join(known)}"


def footnotes(row: Row) -> list[str]:
    """Return what a reader must know beside the table: departures from the paper, undefined values, lost masks."""
    notes = []
    if row.head.changed:
        changes = ", ".join(f"{key} = {row.head.config[key]}" for key in row.head.changed)
        notes.append(f"not the paper's settings: {changes}")
    if row.head.reduced_note is not None:
        notes.append(row.head.reduced_note)
    notes += [origin.note for origin in (row.head.external, row.head.imported) if origin is not None]
    lines = {name: scores.undefined for name, scores in row.lines.items()}
    if row.head.pooled is not None:
        lines["pooled"] = row.head.pooled.undefined
        notes.append("pooled: all classes ranked together, as one threshold for all of them sees them")
    missing: dict[tuple[str, tuple[str, ...]], list[str]] = {}
    for metric in row.metrics:
        for reason in dict.fromkeys(undefined[metric] for undefined in lines.values() if metric in undefined):
            names = tuple(name for name, undefined in lines.items() if undefined.get(metric) == reason)
            missing.setdefault((reason, names), []).append(metric)
    notes.extend(
        f"– {', '.join(metrics)}: {reason} ({', '.join(names)})" for (reason, names), metrics in missing.items()
    )
    if row.relabelled_note is not None:
        notes.append(row.relabelled_note)
    if any(record.calibration is not None for record in row.records):
        notes.append(operating_table.NOTE)
    lost = {name: count for record in row.records for name, count in record.dataset.masks_vanished.items()}
    if lost:
        notes.append(f"masks smaller than half an evaluation pixel, counted as normal pixels: {_counts(lost)}")
    notes.extend(dict.fromkeys(note for record in row.records for note in record.dataset.notes))
    if any(record.unchecked for record in row.records):
        notes.append(UNCHECKED)
    return notes


def _counts(counts: Mapping[str, int]) -> str:
    return ", ".join(f"{name} {count}" for name, count in counts.items())


def number(value: float | None, unit: str) -> str:
    """Return a metric's value as tables show it: a share in percent, any other number as it is, a dash for none."""
    return "–" if value is None else f"{value:.3f}" if unit else percent(value)


def percent(value: float | None) -> str:
    """Return a fraction as percent with one decimal, or a dash."""
    return "–" if value is None else f"{100 * value:.1f}"


def fits(table: Table, out: Console) -> bool:
    """Return whether a table can be printed without a cell being broken."""
    return out.measure(table, options=out.options.update(max_width=UNBOUNDED)).maximum <= out.width


def say(out: Console, text: str) -> None:
    """Print a line as it is."""
    out.print(text, highlight=False, markup=False, soft_wrap=True)


def print_row(row: Row, out: Console) -> None:
    """Print a table of scores and what a reader must know beside it."""
    out.print(score_table(row))
    if (table := operating_table.made(row)) is not None:
        out.print(table)
    for note in footnotes(row):
        out.print(note, highlight=False, markup=False)


def print_scores(record: Record, out: Console) -> None:
    """Print what a record holds: scores or a failure, and what they cost."""
    if record.error is not None:
        last = (record.error.message.strip() or record.error.type).splitlines()[-1]
        out.print(f"FAILED  {record.cell.title}: {last}", highlight=False, markup=False)
    elif record.cell.part:
        say(out, score_line(record))
    else:
        print_row(Row((record,)), out)
    if record.efficiency is not None:
        spent = ", ".join(f"{name} {duration(value)}" for name, value in record.efficiency.seconds.items())
        out.print(f"time    {spent}", highlight=False, markup=False)
        crowded, total = record.efficiency.crowded_seconds or 0.0, sum(record.efficiency.seconds.values())
        if crowded > CROWDED_SHARE * total:
            say(out, f"        other processes wanted the cores for {duration(crowded)}: no measure of this machine")
