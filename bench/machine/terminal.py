"""Progress on the terminal: bars where there is one, lines now and then elsewhere."""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager

from rich.console import Console, ConsoleOptions, RenderableType
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn
from rich.segment import Segment

from bench.machine.progress import Advance, Silent
from bench.machine.progress import Progress as Listener
from bench.names import harmless

PLAIN_EVERY_SECONDS, PLAIN_AT_MOST_SECONDS = 10.0, 60.0
"""Between the lines of a phase: so long before the first, then twice as long each time, up to the most."""
SHARE_BEFORE_ETA = 0.05
"""Of a phase: the first units, while caches fill, say nothing of the rest."""
PIPED_WIDTH = 10_000
"""Columns; wider than any line, since what reads a pipe wants lines whole."""


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
