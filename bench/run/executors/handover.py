"""Handover of a cell to another process. Importing this module loads no torch."""

from __future__ import annotations

import pickle
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from bench import plugins
from bench.machine import threads

if TYPE_CHECKING:
    from bench.plan.planned import Planned
    from bench.run.cell import Options


@dataclass(frozen=True, slots=True)
class Parcel:
    """A cell, how to run it, and the plug-in files that define its classes."""

    body: bytes
    """Pickle of (Planned, Options): made and opened by the same bench, sent over a channel of our own."""
    plugins: tuple[Path, ...]

    @classmethod
    def pack(cls, item: Planned, options: Options) -> Parcel:
        """Pack a cell so that its paths hold in any working directory; the features in memory stay behind."""
        from bench.run.feature_store import LastStore

        where = item.cell.weights.absolute() if item.cell.weights else None
        item = replace(item, cell=replace(item.cell, weights=where))
        options = replace(options, results=options.results.absolute(), last_store=LastStore())
        return cls(pickle.dumps((item, options)), plugins.loaded())

    def open(self) -> tuple[Planned, Options]:
        """Return the cell and its options.

        Raises:
            UsageError: a plug-in file is not there or cannot be imported.
        """
        for path in self.plugins:
            plugins.load(path)
        item, options = pickle.loads(self.body)
        return item, options


def set_threads(count: int) -> None:
    """Give this process `count` threads for torch and for the metrics; to be called before torch is loaded."""
    # what the user set himself is meant for each process
    threads.choose({threads.COUNT: str(count), "NUMBA_NUM_THREADS": str(count)})
    import torch

    torch.set_num_threads(count)
