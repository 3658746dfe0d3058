"""The published number that a record is compared with: over the same classes, from the paper that is named."""

from __future__ import annotations

from collections.abc import Sequence
from statistics import fmean

from bench.errors import UsageError
from bench.published import MEAN, Score, lookup, papers
from bench.registry import did_you_mean
from bench.store.record import Record


def check(paper: str) -> None:
    """Raise UsageError, with the nearest name, unless numbers of this paper are here."""
    if paper not in papers():
        raise UsageError(f"--paper '{paper}'.{did_you_mean(paper, papers())} Known: {', '.join(papers())}")


def protocol_tag(record: Record, paper: str, method: str) -> str:
    """Return by which protocol tag the paper's numbers of a method on a record's dataset were computed.

    Raises:
        UsageError: it prints none.
    """
    for metric in record.mean:
        for score in _printed(record, paper, method, MEAN, metric):
            return score.protocol
    raise UsageError(
        f"{paper} prints no number of {method} on {record.cell.dataset}, {record.cell.setting}. "
        f"Expected another --paper ({', '.join(papers())}) or --method"
    )


def number(record: Record, paper: str, method: str, metric: str) -> tuple[float | None, str]:
    """Return the published mean over the record's classes, a fraction, and where it stands.

    Of fewer classes than the dataset has it is made of the numbers by class; None where one of these is not printed.
    """
    classes: Sequence[str] = list(record.scores)
    if len(classes) == record.dataset.classes_known:
        for score in _printed(record, paper, method, MEAN, metric):
            if score.amount is not None:
                return score.amount, score.where
        return None, ""
    found = [next(iter(_printed(record, paper, method, cls, metric)), None) for cls in classes]
    amounts = [score.amount for score in found if score is not None and score.amount is not None]
    if len(amounts) < len(classes):
        return None, ""
    return fmean(amounts), f"{found[0].where}, {_over(classes)}" if found[0] else ""


def _over(classes: Sequence[str]) -> str:
    return classes[0] if len(classes) == 1 else f"recomputed over {len(classes)} classes"


def _printed(record: Record, paper: str, method: str, cls: str, metric: str) -> list[Score]:
    known = lookup(method, record.cell.dataset, cls, metric, setting=record.cell.setting)
    return [score for score in known if score.paper == paper]
