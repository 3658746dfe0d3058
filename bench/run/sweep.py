"""Sweep over cells: skip what is done, go on after a failure, wherever an executor runs them."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, closing, suppress
from itertools import chain
from pathlib import Path

from bench.errors import UnwritableError
from bench.files import try_lock
from bench.machine.progress import Progress
from bench.plan.cells import expand
from bench.plan.history import recorded_with_other_data
from bench.plan.planned import Planned, checkpoint_of, ended_since, look_up
from bench.plan.request import Request
from bench.plan.shard import Shard
from bench.plan.task import IndexedDataset
from bench.run.cell import Options
from bench.run.executors import Executor
from bench.run.executors.in_process import Here
from bench.run.kept_model import check_room
from bench.store.record import Record
from bench.words import counted


def prepare(
    request: Request,
    options: Options,
    progress: Progress,
    sources: Mapping[str, IndexedDataset] | None = None,
    *,
    again: bool = False,
    fetch: bool = True,
    checkpoint: Path | None = None,
    shard: Shard | None = None,
) -> list[Planned]:
    """Return the cells of a request with what the results folder holds of them.

    Args:
        request: what the user asked for.
        options: how to run.
        progress: told of the hashing of data, and of records that cannot be read.
        sources: the datasets as `bench.plan.request.sources` has found them; None to look for them here.
        again: finished cells are to be run again.
        fetch: whether weights that are not here are fetched.
        checkpoint: weights that the authors of the one method released, in the place of a training.
        shard: which of the cells; all of them where None.

    Raises:
        UsageError, DatasetError, WeightsError: something does not exist or does not fit, or models have no room.
    """
    cells = expand(request, progress, sources, fetch=fetch, checkpoint=checkpoint)
    if shard is not None:
        total, cells = len(cells), shard.take(cells)
        progress.say(f"shard {shard.number} of {shard.of}: {len(cells)} of {counted(total, 'cell')}")
    keep = [what for what, is_wanted in (("maps", options.keep_maps), ("model", options.keep_model)) if is_wanted]
    planned = look_up(cells, options.results, progress.say, keep=keep, again=again)
    if options.keep_model:
        check_room([item.cell.method for item in planned if item.todo and not item.by_model], options.results)
    return planned


def run(
    planned: Sequence[Planned],
    options: Options,
    progress: Progress,
    finished: Callable[[Planned, Record], None] = lambda cell, record: None,
    executor: Executor | None = None,
) -> int:
    """Run every cell with something to do and return the sweep's exit code: 0, or the highest among failed cells.

    It is 1 at least where another process still has a cell, of which there is no record to show then.

    Args:
        planned: cells with what the results folder holds of them.
        options: how to run.
        progress: told of the work inside each cell.
        finished: called with each record as soon as it is written, also where another process wrote it meanwhile.
        executor: runs the cells; None for one after another in this process.

    Raises:
        UnwritableError: the results folder is read-only or full. Records that were written stay.
    """
    code = 0
    todo = [item for item in planned if item.todo]
    for item in planned:
        if not item.todo:
            _tidy(item.cell.path(options.results))
        elif item.state == "new" and (other := recorded_with_other_data(item.cell, options.results)) is not None:
            progress.say(
                f"the data changed since {other.name} was recorded: {item.cell.name} is another, that one stays"
            )
    left = {item.cell.fingerprint: item for item in todo}
    # closed whatever happens: nothing runs on that nobody waits for
    with ExitStack() as running:
        parts = [
            # a kept model lies here, and takes no time worth sending it elsewhere
            (Here(), [item for item in todo if item.by_model]),
            (executor or Here(), [item for item in todo if not item.by_model]),
        ]
        records = [running.enter_context(closing(place.run(part, options, progress))) for place, part in parts if part]
        for item, record in chain(*records, _ended_since(left, options.results)):
            left.pop(item.cell.fingerprint, None)
            if record.error is not None:
                code = max(code, record.error.exit_code)
            finished(item, record)
    if left and not (executor is not None and executor.detached):
        which = ", ".join(item.cell.name for item in left.values())
        progress.say(f"no record yet of {which}: another process has it. Once that is done, the same command shows it")
        code = max(code, 1)
    return code


def _ended_since(left: Mapping[str, Planned], results: Path) -> Iterator[tuple[Planned, Record]]:
    """Yield the cells that were left to other processes and have been recorded by them, when first asked."""
    for item in list(left.values()):
        if (record := ended_since(item, results)) is not None:
            yield item, record


def _tidy(path: Path) -> None:
    """Remove what a process left that was killed between writing the record and cleaning up."""
    lock, checkpoint = path.with_suffix(".lock"), checkpoint_of(path)
    if lock.exists() or checkpoint.exists():
        # of no use in a folder that can only be read, and no harm either
        with suppress(UnwritableError), try_lock(lock) as mine:
            if mine and _is_older(checkpoint, path):
                checkpoint.unlink(missing_ok=True)


def _is_older(checkpoint: Path, record: Path) -> bool:
    """Return whether a checkpoint is of the training that the record tells of, not of one that was to replace it."""
    try:
        return checkpoint.stat().st_mtime_ns <= record.stat().st_mtime_ns
    except FileNotFoundError:
        return False
