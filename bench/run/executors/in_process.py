"""In-process executor: cells one after another, with bars for every phase; further seeds share the features."""

from __future__ import annotations

from collections.abc import Generator, Sequence

from bench.machine.progress import Progress
from bench.plan.planned import Planned
from bench.run.cell import Options
from bench.run.executors import Executor
from bench.run.executors.cell_lock import claim, work
from bench.store.record import Record


class Here(Executor):
    """Runs cells in the calling process; see bench.run.executors.Executor."""

    devices_at_once = 1

    def run(
        self, todo: Sequence[Planned], options: Options, progress: Progress
    ) -> Generator[tuple[Planned, Record], None, None]:
        """Run cells in the order of the plan."""
        for number, item in enumerate(todo, start=1):
            with claim(item, options.results) as held:
                note = "" if held.mine else f": {held.note}"
                progress.say(f"[{number}/{len(todo)}] {item.cell.name}{note}")
                record = work(item, options, progress) if held.mine else held.done
            if record is not None:
                yield item, record
