"""Verdicts: a baseline's series against what is there now, line by line and metric by metric."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from statistics import fmean
from typing import Literal

from bench.checks import differences
from bench.checks.series import MEAN, Series, higher_is_better, identity, series, subject
from bench.checks.tolerance import Tolerances
from bench.store.record import Record

Verdict = Literal["same", "better", "worse", "missing", "not comparable"]
FAILING: frozenset[Verdict] = frozenset({"worse", "missing", "not comparable"})
"""What makes a check fail. What cannot be compared fails too: a gate that lets it pass guards nothing."""


@dataclass(frozen=True, slots=True)
class Comparison:
    """One comparison and its outcome."""

    line: str
    """Class, part or `mean`; name of a benchmark; empty where a whole baseline has one verdict."""
    metric: str
    """Metric id, or `speed`; empty where a whole baseline has one verdict."""
    verdict: Verdict
    baseline: float | None = None
    """Mean over the baseline's seeds, a fraction; for speeds time in units of the calibration kernel's."""
    current: float | None = None
    tolerance: float | None = None
    """Largest difference that counts as the same: absolute for scores, a share of the baseline for speeds."""
    reason: str = ""
    unit: str = ""
    """Of a metric that is no share; its numbers are shown as they are."""

    @property
    def failed(self) -> bool:
        """Return whether the check fails by it."""
        return self.verdict in FAILING


@dataclass(frozen=True, slots=True)
class Checked:
    """One baseline and all that was found."""

    title: str
    against: str
    """What was compared in words: `seeds 0,1,2 against baseline seeds 0,1,2,3,4`."""
    findings: tuple[Comparison, ...]
    notes: tuple[str, ...] = ()
    """What else differs; no verdict depends on it."""

    @property
    def failed(self) -> bool:
        """Return whether any finding fails the check."""
        return any(finding.failed for finding in self.findings)

    @property
    def summary(self) -> str:
        """Return counts by verdict: `47 same, 2 worse`."""
        counts = Counter(finding.verdict for finding in self.findings)
        order: Sequence[Verdict] = ("same", "better", "worse", "missing", "not comparable")
        return ", ".join(f"{counts[verdict]} {verdict}" for verdict in order if counts[verdict])


def check(
    baselines: Sequence[Series], current: Iterable[Record], tolerances: Tolerances, any_precision: bool = False
) -> list[Checked]:
    """Compare every baseline with the records that are nearest to it.

    A baseline's counterpart has the same dataset, method, setting, shots and protocol name, or where there is none
    another protocol. Of several series the one that differs least is taken, and of those the newest.

    Args:
        baselines: what was recorded.
        current: done and failed records of now.
        tolerances: how far scores may move.
        any_precision: whether records of another arithmetic compare; it is a note then.
    """
    records = list(current)
    found = series(records)
    checked = []
    for baseline in baselines:
        same = [other for other in found if identity(other.head) == identity(baseline.head)]
        same = same or [other for other in found if subject(other.head) == subject(baseline.head)]
        if not same:
            checked.append(Checked(baseline.title, _seeds(baseline, None), (_absent(baseline, records),)))
            continue
        newest = sorted(same, key=lambda other: max(record.created for record in other.records), reverse=True)
        nearest = min(newest, key=lambda other: len(reasons(baseline, other, any_precision)))
        checked.append(judge(baseline, nearest, tolerances, any_precision))
    return checked


def reasons(baseline: Series, current: Series, any_precision: bool = False) -> list[str]:
    """Return why two series do not compare; empty where they do."""
    left_out = differences.precision(baseline.head, current.head) if any_precision else []
    method = differences.method(baseline.head, current.head)
    return [
        *differences.evaluation(baseline.rows[0], current.rows[0]),
        *(reason for reason in method if reason not in left_out),
    ]


def judge(baseline: Series, current: Series, tolerances: Tolerances, any_precision: bool = False) -> Checked:
    """Compare two series of the same identity."""
    against = _seeds(baseline, current)
    notes = differences.circumstances(baseline.head, current.head)
    if any_precision:
        notes = [*differences.precision(baseline.head, current.head), *notes]
    said = (f"also differs: {', '.join(notes)}",) if notes else ()
    if why := reasons(baseline, current, any_precision):
        finding = Comparison("", "", "not comparable", reason="; ".join(why))
        return Checked(baseline.title, against, (finding,), said)
    findings = [
        found
        for line in baseline.lines
        for metric in baseline.metrics
        if (found := _compare(baseline, current, line, metric, tolerances)) is not None
    ]
    return Checked(baseline.title, against, tuple(findings), said)


def _compare(baseline: Series, current: Series, line: str, metric: str, tolerances: Tolerances) -> Comparison | None:
    before = baseline.values(line, metric)
    if not before:
        # undefined in the baseline, for example pixel scores of a class without masks
        return None
    unit = next((record.units[metric] for record in baseline.records if metric in record.units), "")
    after = current.values(line, metric)
    if len(after) < len(current.rows):
        why = _why_missing(current, line, metric)
        return Comparison(line, metric, "missing", fmean(before), reason=why, unit=unit)
    names = [name for name in baseline.lines if name != MEAN]
    peers = [values for name in names if (values := baseline.values(name, metric))]
    allowed = tolerances.of(metric, before, peers, len(after), mean=line == MEAN, share=not unit)
    was, now = fmean(before), fmean(after)
    # a difference of exactly the tolerance is within it, also after rounding
    beyond = abs(now - was) > allowed + 1e-12
    # of a metric that is not at hand nobody knows which way is better, and a change that nobody can judge is no gain
    better = higher_is_better(metric)
    verdict: Verdict = "same" if not beyond else "better" if better is not None and (now > was) == better else "worse"
    return Comparison(line, metric, verdict, was, now, allowed, unit=unit)


def _why_missing(current: Series, line: str, metric: str) -> str:
    for row in current.rows:
        if line == MEAN and row.missing:
            return f"only {row.missing}"
        if line in row.lines and metric in row.lines[line].undefined:
            return row.lines[line].undefined[metric]
    return "no such class, part or metric" if line != MEAN else "a class or part has no value"


def _absent(baseline: Series, records: Iterable[Record]) -> Comparison:
    for record in records:
        if subject(record) == subject(baseline.head) and record.error is not None:
            last = (record.error.message.strip() or record.error.type).splitlines()[-1]
            return Comparison("", "", "missing", reason=f"the cell failed: {last}")
    return Comparison("", "", "missing", reason="no record of this dataset, method and setting")


def _seeds(baseline: Series, current: Series | None) -> str:
    def text(one: Series) -> str:
        return f"{'seed' if len(one.seeds) == 1 else 'seeds'} {','.join(str(seed) for seed in one.seeds)}"

    return f"{text(current) if current else 'nothing'} against baseline {text(baseline)}"
