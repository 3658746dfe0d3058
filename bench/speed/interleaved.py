"""Blocks of a running cell, timed one by one, with the same work done another way between them.

A ratio of two rates holds only if both were measured under the same conditions, and a shared machine is another one
every minute. So a cell is run as `bench run` runs it, and whenever a block of its steps or images is done it waits
while the other ways do as many.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Protocol

from bench.machine.energy import spent
from bench.machine.progress import Advance

OURS = "ours"


class Way(Protocol):
    """Another way of doing a phase's work."""

    def __call__(self, units: int) -> float:
        """Do so many steps or images and return the seconds that they took, preparations left out."""


@dataclass(frozen=True, slots=True)
class TimedBlock:
    """Units done and the wall seconds that they took."""

    units: int
    seconds: float
    joules: float | None = None
    """What the device took meanwhile; None where nothing counts it, and for other ways than ours."""


@dataclass
class Interleaved:
    """Listens to a cell and times its phases by blocks.

    Args:
        sizes: phase -> units of a block; phases without one are timed as a whole.
        ways: phase -> name -> another way, run once after each block of that phase.
        settle: waits until the device is idle; called before each reading of the clock.
        between: called after each block of ours, before the other ways; what ours alone takes may be read then.
        joules: counts the device's energy, see `bench.machine.energy`.
    """

    sizes: Mapping[str, int]
    ways: Mapping[str, Mapping[str, Way]]
    settle: Callable[[], None] = lambda: None
    between: Callable[[], None] = lambda: None
    joules: Callable[[], float | None] = lambda: None
    blocks: dict[str, dict[str, list[TimedBlock]]] = field(default_factory=dict)
    """Phase -> way -> its blocks in order; the cell's own are `ours`."""
    tails: dict[str, float] = field(default_factory=dict)
    """Phase -> seconds of ours after its last block."""

    @contextmanager
    def phase(self, name: str, total: int, done: int = 0) -> Iterator[Advance]:
        """Time a phase; see bench.machine.progress.Progress."""
        size = self.sizes.get(name)
        finished = 0
        self.settle()
        counted, start = self.joules(), time.perf_counter()

        def advance(units: int, note: str) -> None:
            nonlocal finished, counted, start
            finished += units
            if size is None or finished < size:
                return
            self.settle()
            taken = time.perf_counter() - start
            self._keep(name, OURS, TimedBlock(finished, taken, spent(counted, self.joules())))
            self.between()
            for way, run in self.ways.get(name, {}).items():
                self._keep(name, way, TimedBlock(finished, run(finished)))
            finished = 0
            self.settle()
            counted, start = self.joules(), time.perf_counter()

        yield advance
        self.settle()
        self.tails[name] = time.perf_counter() - start

    def say(self, text: str) -> None:
        """Leave the cell's remarks out: the cell is no result."""

    def _keep(self, phase: str, way: str, block: TimedBlock) -> None:
        self.blocks.setdefault(phase, {}).setdefault(way, []).append(block)
