"""What users see in the terminal: progress while a run works, the score table at its end."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from functools import partial

from rich.console import Console, ConsoleOptions, RenderableType
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn
from rich.segment import Segment
from rich.table import Table
from rich.text import Text

from bench.cli import operating_table
from bench.machine.progress import Advance, Silent
from bench.machine.progress import Progress as Listener
from bench.names import harmless
from bench.report.tables.names import heading
from bench.store.record import UNCHECKED, Record
from bench.store.rows import Row, value

PLAIN_EVERY_SECONDS, PLAIN_AT_MOST_SECONDS = 10.0, 60.0
"""Between the lines of a phase: so long before the first, then twice as long each time, up to the most."""
SHARE_BEFORE_ETA = 0.05
"""Of a phase: the first units, while caches fill, say nothing of the rest."""
PIPED_WIDTH = 10_000
"""Columns; wider than any line, since what reads a pipe wants lines whole."""
CROWDED_SHARE = 0.1
"""Of a cell's time: from here on it says more of the machine's other work than of the method."""
UNBOUNDED = 1_000_000
"""Columns that no table has."""


class _Console(Console):
    def render(self, renderable: RenderableType, options: ConsoleOptions | None = None) -> Iterable[Segment]:
        """Spell control characters of names instead of sending them; those that move the cursor are rich's own."""
        for segment in super().render(renderable, options):
            yield segment if segment.control else Segment(harmless(segment.text), segment.style)


def console(stderr: bool = False) -> Console:
    """Return a console that neither breaks lines nor colours when piped, and shows names like `:bug:` as they are."""
    out = _Console(stderr=stderr, emoji=False)
    return out if out.is_terminal else _Console(stderr=stderr, emoji=False, width=PIPED_WIDTH, no_color=True)


class TerminalProgress:
    """Live bars on a terminal; elsewhere a line now and then, and at the end of each phase."""

    def __init__(self, out: Console) -> None:
        self._out = out

    @classmethod
    def of(cls, quiet: bool) -> Listener:
        """Return a listener that talks on stderr, where it is in nobody's way, or one that says nothing."""
        return Silent() if quiet else cls(console(stderr=True))

    def say(self, text: str) -> None:
        """Print one line."""
        self._out.print(text, highlight=False, markup=False, soft_wrap=True)

    @contextmanager
    def phase(self, name: str, total: int, done: int = 0) -> Iterator[Advance]:
        """Show a phase of `total` units; see bench.machine.progress.Progress."""
        shown = self._bar(name, total, done) if self._out.is_terminal else self._lines(name, total, done)
        with shown as advance:
            yield advance

    @contextmanager
    def _bar(self, name: str, total: int, done: int) -> Iterator[Advance]:
        columns = (
            TextColumn("  {task.description:9}", markup=False),
            BarColumn(bar_width=28),
            MofNCompleteColumn(),
            TimeElapsedColumn(),
            TextColumn("{task.fields[left]}", markup=False),
            TextColumn("{task.fields[note]}", markup=False),
        )
        start, finished = time.monotonic(), done
        with Progress(*columns, console=self._out) as bars:
            bar = bars.add_task(name, total=total, completed=done, left="", note="")

            def advance(units: int, note: str) -> None:
                nonlocal finished
                finished += units
                left = time_left(time.monotonic() - start, finished - done, total - done)
                bars.update(bar, advance=units, left=f"{left} left" if left else "", note=note)

            yield advance

    @contextmanager
    def _lines(self, name: str, total: int, done: int) -> Iterator[Advance]:
        start = last = time.monotonic()
        every, finished = PLAIN_EVERY_SECONDS, done

        def advance(units: int, note: str) -> None:
            nonlocal every, finished, last
            finished += units
            now = time.monotonic()
            if now - last >= every and finished > done:
                last, every = now, min(2 * every, PLAIN_AT_MOST_SECONDS)
                left = time_left(now - start, finished - done, total - done)
                words = (f"  {name} {finished}/{total}", f"{left} left" if left else "", note)
                self.say(", ".join(word for word in words if word))

        yield advance
        self.say(f"  {name} {finished}/{total} in {duration(time.monotonic() - start)}")


def time_left(passed: float, done: int, total: int) -> str:
    """Return how long the rest of a phase will take; empty as long as that would be a guess.

    Args:
        passed: seconds since the phase began.
        done: units done in that time.
        total: units to be done, those included.
    """
    enough = done >= SHARE_BEFORE_ETA * total or passed >= PLAIN_AT_MOST_SECONDS
    if not (done and enough and passed >= PLAIN_EVERY_SECONDS):
        return ""
    return duration(passed / done * (total - done))


def duration(seconds: float) -> str:
    """Return seconds as a short text: 4 s, 2 min 5 s, 3 h 20 min."""
    if seconds < 10:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    if not minutes:
        return f"{rest} s"
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes} min" if hours else f"{minutes} min {rest} s"


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
