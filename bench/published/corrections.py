"""Corrections of printed numbers, from corrections.toml: what is used in their place, and why."""

from __future__ import annotations

import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

FILE = Path(__file__).parent / "corrections.toml"


@dataclass(frozen=True, slots=True)
class Correction:
    """What some printed numbers ought to be."""

    value: str
    """Digits to use; empty where what is meant is not known, and the printed ones are compared with nothing."""
    reason: str
    count: int
    """How many printed numbers it is about."""
    match: tuple[tuple[str, tuple[str, ...]], ...]
    """(name of a Score's field, the values of which it has one)."""

    def names(self, score: Any) -> bool:
        """Return whether a Score is one of the printed numbers."""
        return all(getattr(score, key) in wanted for key, wanted in self.match)

    def __str__(self) -> str:
        return ", ".join("/".join(values) for _, values in self.match)


@cache
def corrections() -> tuple[Correction, ...]:
    """Return corrections.toml."""
    return tuple(map(_correction, tomllib.loads(FILE.read_text(encoding="utf-8"))["correction"]))


def correction_of(score: Any) -> Correction | None:
    """Return the correction of a Score; None for nearly all."""
    for one in _by_table().get((score.paper, score.table), ()):
        if one.names(score):
            return one
    return None


@cache
def _by_table() -> dict[tuple[str, str], list[Correction]]:
    found: dict[tuple[str, str], list[Correction]] = {}
    for one in corrections():
        wanted = dict(one.match)
        for paper in wanted["paper"]:
            for table in wanted["table"]:
                found.setdefault((paper, table), []).append(one)
    return found


def _correction(entry: Mapping[str, Any]) -> Correction:
    what = {key: value for key, value in entry.items() if key not in ("value", "reason", "count")}
    if "printed" in what:
        what["value"] = what.pop("printed")
    match = tuple((key, (value,) if isinstance(value, str) else tuple(value)) for key, value in what.items())
    return Correction(entry.get("value", ""), entry["reason"], entry["count"], match)
