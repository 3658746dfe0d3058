"""Verdicts on a table's numbers: what cannot be, with the arithmetic that shows it."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from decimal import Decimal
from fractions import Fraction
from itertools import pairwise
from statistics import fmean
from typing import Literal

from bench.claims.counts import PrintedInterval, TestSet
from bench.claims.numbers import Claim, counts
from bench.published.read import MEAN, lookup

Kind = Literal["impossible", "ties", "mean", "differs", "resolution"]
KINDS: dict[Kind, str] = {
    "impossible": "cannot be: no ranking of the official test images gives it",
    "ties": "only where images score equal",
    "mean": "not the mean of its rows",
    "differs": "not what the papers at hand print",
    "resolution": "a difference below what two images make",
}
IMAGE = ("image/auroc", "image/f1max", "image/ap")


@dataclass(frozen=True, slots=True)
class Verdict:
    """What is wrong with some numbers."""

    kind: Kind
    claims: tuple[Claim, ...]
    proof: str
    """The arithmetic, in a sentence."""


def judge(found: Sequence[Claim]) -> Iterator[Verdict]:
    """Yield all verdicts on the numbers of a table, those that cannot be first."""
    verdicts = [*attainable(found), *_means(found), *_transcribed(found), *_resolution(found)]
    yield from sorted(verdicts, key=lambda verdict: list(KINDS).index(verdict.kind))


def attainable(found: Iterable[Claim]) -> Iterator[Verdict]:
    """Yield which image scores no run can have given, by method and class, and by method of means over all classes."""
    lines: dict[tuple[str, str, str, str], dict[str, Claim]] = defaultdict(dict)
    for claim in found:
        if claim.metric in IMAGE:
            lines[claim.where, claim.method, claim.dataset, claim.cls].setdefault(claim.metric, claim)
    for (_, _, dataset, cls), line in lines.items():
        test = counts(dataset).get(cls)
        if cls == MEAN:
            yield from _mean_below_all_called(line, list(counts(dataset).values()))
        elif test is not None and test.pairs:
            yield from _line(line, test)


def _line(line: dict[str, Claim], test: TestSet) -> Iterator[Verdict]:
    """Yield what is wrong with one method's numbers of one class; each number at most once."""
    auroc, f1, ap = (line.get(metric) for metric in IMAGE)
    ranges = {claim.metric: PrintedInterval.of(claim.value, claim.unit) for claim in line.values()}
    if f1 is not None and (why := _f1(f1, ranges[f1.metric], test)):
        yield Verdict("impossible", (f1,), why)
        f1 = None
    if auroc is not None and not auroc.averaged:
        if not test.auroc_steps(ranges[auroc.metric], ties=True):
            yield Verdict("impossible", (auroc,), _steps(test, 2))
            auroc = None
        elif not test.auroc_steps(ranges[auroc.metric], ties=False):
            yield Verdict("ties", (auroc,), _steps(test, 1))
    if auroc is None or auroc.averaged:
        return
    if f1 is not None and not f1.averaged:
        reached = [test.auroc_at(*at) for at in test.confusions(ranges[f1.metric])]
        if not any(ranges[auroc.metric].meets(*limits) for limits in reached):
            low, high = min(low for low, _ in reached), max(high for _, high in reached)
            only = "every anomalous image above every normal one, so AUROC" if low >= 0.999999 else "an AUROC"
            end = f" to {_percent(high)}" if high - low > 1e-6 else ""
            text = f"F1-max {f1.text} of {_images(test)} means {only} {_percent(low)}{end}, not {auroc.text}"
            yield Verdict("impossible", (f1, auroc), text)
    if ap is not None and not ap.averaged:
        kinds: tuple[tuple[bool, Kind], ...] = ((True, "impossible"), (False, "ties"))
        for ties, kind in kinds:
            low, high = test.ap_beside(ranges[auroc.metric], ties)
            if not ranges[ap.metric].meets(low, high):
                text = f"AUROC {auroc.text} of {_images(test)} allows AP from {_percent(low, 2)} to {_percent(high, 2)}"
                yield Verdict(kind, (ap, auroc), text + ("" if ties else " without ties"))
                break


def _f1(f1: Claim, printed: PrintedInterval, test: TestSet) -> str:
    """Return why an F1-max cannot be; empty where it can."""
    n, p = test.normal, test.anomalous
    if printed.high < test.all_called:
        text = f"calling all {n + p} images anomalous gives 2 x {p} / (2 x {p} + {n}) = {_percent(test.all_called)}"
        most = _anomalous_at_most(printed.high, n + p)
        return f"{text}, and F1-max is no less" + (
            f"; it can be where at most {most} of the {p} count as anomalous and the others as normal" if most else ""
        )
    if f1.averaged or any(True for _ in test.confusions(printed)):
        return ""
    below, above = (_percent(one, 2) for one in test.nearest_f1(f1.value))
    return f"no 2 TP / ({p} + TP + FP) with TP up to {p} and FP up to {n} rounds to it; nearest are {below} and {above}"


def _anomalous_at_most(f1: Fraction, images: int) -> int:
    """Return of how many anomalous ones among all images the F1 of calling all anomalous is no more than `f1`."""
    return int(f1 * images / (2 - f1))


def _mean_below_all_called(line: dict[str, Claim], tests: Sequence[TestSet]) -> Iterator[Verdict]:
    f1 = line.get("image/f1max")
    if f1 is None or not tests or not all(test.pairs for test in tests):
        return
    floor = fmean(float(test.all_called) for test in tests)
    if float(PrintedInterval.of(f1.value, f1.unit).high) < floor:
        text = f"calling every image anomalous gives a mean of {_percent(floor)} over the {len(tests)} classes"
        yield Verdict("impossible", (f1,), f"{text}, and F1-max is no less in any")


def _steps(test: TestSet, per_pair: int) -> str:
    pairs = test.pairs * per_pair
    equal = " (half pairs, as where images score equal)" if per_pair == 2 else ""
    return f"{_images(test)} make {test.pairs} pairs, so AUROC is a multiple of 1/{pairs}{equal}; none rounds to it"


def _means(found: Iterable[Claim]) -> Iterator[Verdict]:
    lines: dict[tuple[str, ...], dict[str, Claim]] = defaultdict(dict)
    for claim in found:
        lines[claim.where, claim.method, claim.dataset, claim.metric].setdefault(claim.cls, claim)
    for line in lines.values():
        printed = line.pop(MEAN, None)
        if printed is None or len(line) < max(2, len(counts(printed.dataset))):
            continue  # a table of some classes may well print the mean of all
        parts = list(line.values())
        mean = sum((part.value for part in parts), Decimal(0)) / len(parts)
        slack = sum((part.unit for part in parts), Decimal(0)) / len(parts) / 2 + printed.unit / 2
        if abs(mean - printed.value) > slack:
            text = f"the {len(parts)} rows give {mean:.3f}, which rounding moves by {slack:.3f} at most"
            yield Verdict("mean", (printed,), text)


def _transcribed(found: Iterable[Claim]) -> Iterator[Verdict]:
    """Yield numbers of which every printing at hand of the same method differs, as far as both print digits."""
    for claim in found:
        known = lookup(claim.method, claim.dataset, claim.cls, claim.metric)
        printed: dict[Decimal, list[str]] = defaultdict(list)
        for score in known:
            printed[score.number].append(score.where)
        if printed and all(abs(value - claim.value) > max(claim.unit, Decimal("0.1")) / 2 for value in printed):
            text = "; ".join(f"{value} in {_several(places)}" for value, places in printed.items())
            yield Verdict("differs", (claim,), text)


def _several(places: Sequence[str]) -> str:
    more = f" and {len(places) - 1} more" if len(places) > 1 else ""
    return f"{places[0]}{more}"


def _resolution(found: Iterable[Claim]) -> Iterator[Verdict]:
    """Yield the best two AUROCs of a class that fewer than one swapped pair of images tells apart."""
    columns: dict[tuple[str, str, str], list[Claim]] = defaultdict(list)
    for claim in found:
        if claim.metric == "image/auroc" and claim.cls != MEAN:
            columns[claim.where, claim.dataset, claim.cls].append(claim)
    for column in columns.values():
        test = column[0].test
        best = sorted(column, key=lambda claim: -claim.value)[:2]
        for first, second in pairwise(best):
            if test is not None and 0 < first.value - second.value < Decimal(100) / test.pairs:
                text = f"{first.value - second.value} apart, where one swapped pair of {_images(test)} makes "
                yield Verdict("resolution", (first, second), text + f"{100 / test.pairs:.2f}")


def _images(test: TestSet) -> str:
    return f"{test.normal} normal and {test.anomalous} anomalous images"


def _percent(share: Fraction | float, places: int = 1) -> str:
    return f"{100 * float(share):.{places}f}"
