"""Shards of a plan: the cells that one of several shells or jobs takes, the same ones whoever asks."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TypeVar

from bench.errors import UsageError

T = TypeVar("T")
MAX_SHARDS = 10_000


@dataclass(frozen=True, slots=True)
class Shard:
    """One of several equal parts of a plan."""

    number: int
    """From 1."""
    of: int

    @classmethod
    def parse(cls, text: str) -> Shard:
        """Return the shard that `2/8` names. Raises UsageError for anything else, and for one that is not there."""
        form = re.fullmatch(r"(\d{1,5})/(\d{1,5})", text)
        if form is None:
            raise UsageError(f"--shard '{text}': expected K/N, for example 2/8 for the second of eight parts")
        shard = cls(int(form[1]), int(form[2]))
        if not 1 <= shard.number <= shard.of <= MAX_SHARDS:
            raise UsageError(
                f"--shard {text}: expected 1/{shard.of} to {shard.of}/{shard.of}, and at most {MAX_SHARDS}"
            )
        return shard

    def take(self, cells: Sequence[T]) -> list[T]:
        """Return every `of`-th cell in the plan's order, so that each shard has its share of each method's seeds.

        The plan's order follows from the command alone: what is finished already moves no cell to another shard.
        """
        return list(cells[self.number - 1 :: self.of])
