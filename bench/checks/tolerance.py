"""Tolerances: how far a score may lie from its baseline, from the spread of the baseline's seeds.

The difference of two means, over n recorded and m new seeds, wobbles by s * sqrt(1/n + 1/m), where s is the standard
deviation between seeds. The tolerance is MULTIPLE times that. A handful of seeds estimates s badly, and worst for a
class that happened to repeat itself, so s is at least what the classes show together: their root mean square, divided
by the root of their number for a mean over them. FLOOR bounds it from below, since a score that was the same in
all seeds (1.0, mostly) may still lose one image; it is smaller for a mean, where the classes' steps average out.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from statistics import fmean, stdev

from bench.checks.series import higher_is_better
from bench.errors import UsageError
from bench.metrics.ids import parse

MULTIPLE = 5.0
FLOOR = 0.01
MEAN_FLOOR = 0.002
DEFAULT = 0.01
"""Where the baseline has one seed, and no spread can be known."""


@dataclass(frozen=True, slots=True)
class Tolerances:
    """How tolerances are found."""

    multiple: float = MULTIPLE
    given: dict[str, float] = field(default_factory=dict)
    """Metric id -> tolerance (a fraction) that is taken instead; the empty id stands for all others."""

    def of(
        self,
        metric: str,
        own: Sequence[float],
        peers: Sequence[Sequence[float]],
        runs: int,
        *,
        mean: bool,
        share: bool = True,
    ) -> float:
        """Return the tolerance of one line and metric, in the metric's unit.

        Args:
            metric: its id.
            own: the baseline's values, one a seed.
            peers: the baseline's values of every class or part, this one included.
            runs: number of new seeds.
            mean: whether the line is the mean over the peers.
            share: whether the metric is a share; of other numbers the smallest tolerances are shares of the value.
        """
        chosen = self.given.get(metric, self.given.get(""))
        if chosen is not None:
            return chosen
        size = 1.0 if share else abs(fmean(own))
        if len(own) < 2:
            return DEFAULT * size
        variances = [stdev(values) ** 2 for values in peers if len(values) > 1]
        pooled = math.sqrt(sum(variances) / len(variances)) if variances else 0.0
        if mean:
            pooled /= math.sqrt(len(peers))
        spread = max(stdev(own), pooled)
        wobble = self.multiple * spread * math.sqrt(1 / len(own) + 1 / max(runs, 1))
        return max(wobble, (MEAN_FLOOR if mean else FLOOR) * size)


def parse_tolerances(options: Sequence[str], multiple: float) -> Tolerances:
    """Read `--tolerance` options: `0.002` for all metrics, `pixel/ap=0.02` for one.

    Raises:
        UsageError: not of that form, or no fraction in [0, 1].
    """
    given = {}
    for option in options:
        metric, equals, number = option.rpartition("=")
        metric = metric.strip()
        if equals and higher_is_better(metric) is None:
            parse(metric)  # says what there is
        try:
            fraction = float(number)
        except ValueError:
            fraction = math.nan
        if not 0 <= fraction <= 1:
            raise UsageError(
                f"--tolerance '{option}': expected a fraction such as 0.002 for all metrics, or pixel/ap=0.02 for one"
            )
        given[metric] = fraction
    return Tolerances(multiple, given)
