"""Cells one after another: skip what is done, go on after a failure, never run one cell twice at once."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from bench.run import cell as cells
from bench.run.cell import Options
from bench.run.plan import Planned, look_up
from bench.run.progress import Progress
from bench.store.files import try_lock
from bench.store.record import Record


def run(
    planned: Sequence[Planned],
    options: Options,
    progress: Progress,
    finished: Callable[[Planned, Record], None] = lambda cell, record: None,
) -> int:
    """Run every cell that is not done and return the sweep's exit code: 0, or the highest among failed cells.

    Args:
        planned: cells with what the results folder holds of them.
        options: how to run.
        progress: told of the work inside each cell.
        finished: called with each record as soon as it is written, also where another process wrote it meanwhile.
    """
    code = 0
    todo = [item for item in planned if item.state != "done"]
    for number, item in enumerate(todo, start=1):
        path = item.cell.path(options.results)
        with try_lock(path.with_suffix(".lock")) as mine:
            if not mine:
                progress.say(f"[{number}/{len(todo)}] {item.cell.name}: another process is running it, skipped")
                continue
            # another process may have ended this cell since the plan was made
            (now,) = look_up([item.cell], options.results)
            if now.record is not None and now.state == "done":
                progress.say(f"[{number}/{len(todo)}] {item.cell.name}: done by another process")
                finished(now, now.record)
                continue
            progress.say(f"[{number}/{len(todo)}] {item.cell.name}")
            record = cells.run(item.cell, options, progress)
        if record.error is not None:
            code = max(code, record.error.exit_code)
        finished(item, record)
    return code
