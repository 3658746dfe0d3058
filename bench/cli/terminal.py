"""What users see in the terminal: progress while a run works, the score table at its end."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn
from rich.table import Table
from rich.text import Text

from bench.run.progress import Advance
from bench.store.record import Record

HEADINGS = {
    "image/auroc": "I-AUROC",
    "image/ap": "I-AP",
    "image/f1max": "I-F1max",
    "pixel/auroc": "P-AUROC",
    "pixel/ap": "P-AP",
    "pixel/f1max": "P-F1max",
    "pixel/aupro@0.3": "AUPRO",
}
PLAIN_EVERY_SECONDS = 10.0
PIPED_WIDTH = 10_000
"""Columns; wider than any line, since what reads a pipe wants lines whole."""


class _Console(Console):
    def on_broken_pipe(self) -> None:
        """Leave it to bench.cli.main, where rich would exit with code 1 as if a cell had failed."""
        raise


def console(stderr: bool = False) -> Console:
    """Return a console that neither breaks lines nor colours when piped, and shows names like `:bug:` as they are."""
    out = _Console(stderr=stderr, emoji=False)
    return out if out.is_terminal else _Console(stderr=stderr, emoji=False, width=PIPED_WIDTH, no_color=True)


class TerminalProgress:
    """Live bars on a terminal; elsewhere a line every ten seconds and at the end of each phase."""

    def __init__(self, out: Console) -> None:
        self._out = out

    def say(self, text: str) -> None:
        """Print one line."""
        self._out.print(text, highlight=False, markup=False, soft_wrap=True)

    @contextmanager
    def phase(self, name: str, total: int, done: int = 0) -> Iterator[Advance]:
        """Show a phase of `total` units; see bench.run.progress.Progress."""
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
            TextColumn("left"),
            TimeRemainingColumn(),
            TextColumn("{task.fields[note]}", markup=False),
        )
        with Progress(*columns, console=self._out) as bars:
            bar = bars.add_task(name, total=total, completed=done, note="")
            yield lambda units, note: bars.update(bar, advance=units, note=note)

    @contextmanager
    def _lines(self, name: str, total: int, done: int) -> Iterator[Advance]:
        start = last = time.monotonic()
        finished = done

        def advance(units: int, note: str) -> None:
            nonlocal finished, last
            finished += units
            now = time.monotonic()
            if now - last >= PLAIN_EVERY_SECONDS and finished > done:
                last = now
                left = (now - start) / (finished - done) * (total - finished)
                self.say(f"  {name} {finished}/{total}, {duration(left)} left{', ' if note else ''}{note}")

        yield advance
        self.say(f"  {name} {finished}/{total} in {duration(time.monotonic() - start)}")


def duration(seconds: float) -> str:
    """Return seconds as a short text: 4 s, 2 min 5 s, 3 h 20 min."""
    if seconds < 10:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    if not minutes:
        return f"{rest} s"
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes} min" if hours else f"{minutes} min {rest} s"


def score_table(record: Record) -> Table:
    """Return the paper-style table of one record: a row a class and their mean, in percent; a dash where undefined."""
    metrics = tuple(record.protocol.fields["metrics"])
    facts = record.cell
    title = f"{facts.method} on {facts.dataset}, {facts.setting}, seed {facts.seed}, protocol {facts.protocol}"
    table = Table(title=Text(title), title_justify="left", header_style="bold")
    table.add_column("class")
    for metric in metrics:
        table.add_column(HEADINGS.get(metric) or _variant(metric), justify="right")
    for cls, scores in record.scores.items():
        table.add_row(Text(cls), *(percent(scores.values[metric]) for metric in metrics))
    table.add_section()
    count, known = len(facts.classes), record.dataset.classes_known
    label = f"mean of {count}" if count == known else f"mean of {count} (of {known} classes)"
    table.add_row(Text(label, "bold"), *(Text(percent(record.mean[metric]), "bold") for metric in metrics))
    return table


def footnotes(record: Record) -> list[str]:
    """Return what a reader must know beside the table: departures from the paper, undefined values, lost masks."""
    notes = []
    if record.changed:
        changes = ", ".join(f"{key} = {record.config[key]}" for key in record.changed)
        notes.append(f"not the paper's settings: {changes}")
    reasons: dict[str, list[str]] = {}
    for cls, scores in record.scores.items():
        for metric, reason in scores.undefined.items():
            reasons.setdefault(f"{metric}: {reason}", []).append(cls)
    notes.extend(f"– {text} ({', '.join(classes)})" for text, classes in reasons.items())
    if lost := record.dataset.masks_vanished:
        counts = ", ".join(f"{cls} {count}" for cls, count in lost.items())
        notes.append(f"masks smaller than half an evaluation pixel, counted as normal pixels: {counts}")
    return notes


def percent(value: float | None) -> str:
    """Return a fraction as percent with one decimal, or a dash."""
    return "–" if value is None else f"{100 * value:.1f}"


def _variant(metric: str) -> str:
    base, _, variant = metric.partition(":")
    return f"{HEADINGS.get(base, base)}:{variant}" if variant else base
