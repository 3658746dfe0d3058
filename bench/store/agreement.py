"""Consistency of a record's scores: shares within [0, 1], units as the metrics have them, means of the classes.

A record may come from another program, or hold metrics of a plug-in that is not at hand. What can be told without that
is told when the record is read, before a table is made of it.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Iterable, Mapping

from bench.registry import METRICS

ROUNDING = 1e-9
"""How far rounding may take a share out of [0, 1], and a mean from that of its classes (as a share of its size)."""

Values = Mapping[str, float | None]
"""Metric id -> value, None where there is none."""


def mean(values: Iterable[float | None]) -> float | None:
    """Return the mean; None where a single value is missing: a mean over the others would not be comparable."""
    found = list(values)
    numbers = [value for value in found if value is not None]
    # rounded once: `sum` rounds otherwise from Python 3.12 on
    return math.fsum(numbers) / len(numbers) if numbers and len(numbers) == len(found) else None


def check_shares(found: Mapping[str, Values], units: Collection[str]) -> None:
    """Raise ValueError at a value outside [0, 1], unless its metric has a unit; `found` is by place in the record."""
    for place, values in found.items():
        for metric, value in values.items():
            if metric not in units and value is not None and not -ROUNDING <= value <= 1 + ROUNDING:
                raise ValueError(f"{place}: {metric} is {value}, expected a share in [0, 1]")


def check_units(units: Mapping[str, str]) -> None:
    """Raise ValueError at a unit that one of bench's own metrics does not have. Of others nobody knows."""
    for metric, unit in units.items():
        head, colon, variant = metric.partition(":")
        name = f"{head.partition('@')[0]}{colon}{variant}"
        if name in METRICS.builtin and METRICS.load(name).unit != unit:
            own = METRICS.load(name).unit
            raise ValueError(f"units: {metric} in {unit!r}, expected {repr(own) if own else 'a share in [0, 1]'}")


def check_means(means: Values, classes: Mapping[str, Values]) -> None:
    """Raise ValueError at a mean that is not that of the classes' values, null where one of them has none."""
    for metric, stated in means.items():
        found = mean(values.get(metric) for values in classes.values())
        if (stated is None) != (found is None) or (
            stated is not None and found is not None and abs(stated - found) > ROUNDING * max(1.0, abs(found))
        ):
            raise ValueError(f"mean: {metric} is {_text(stated)}, the classes' values give {_text(found)}")


def _text(value: float | None) -> str:
    return "null" if value is None else repr(value)
