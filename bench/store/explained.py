"""Explanations of a record: from its numbers to a paper's, rule by rule, kept beside the record for the page.

The file is `<record>.<paper>.explained`, JSON. `bench explain --keep` writes it.
"""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from pydantic import ValidationError

from bench import regular
from bench.errors import StoreError
from bench.files import atomic, file_name
from bench.store.fields import Number, RecordPart, Text
from bench.store.record import Record

SUFFIX = ".explained"
MOST_BYTES = 1 << 20
SAME = 1e-9
"""Numbers of one record that were measured twice differ by rounding alone."""

NAMES = {
    "crop": "crop",
    "mask_rule": "mask rule",
    "label_rule": "image label rule",
    "image_score": "image score",
    "metric": "metric code",
}
"""Rule -> what it is called in a ladder."""


class RuleStep(RecordPart):
    """One rule of a ladder."""

    rule: str
    """A key of NAMES."""
    ours: Text
    theirs: Text
    moved: Number
    """Fraction."""


class Explanation(RecordPart):
    """From our number to theirs."""

    metric: str
    classes: tuple[Text, ...]
    ours: Number
    """As recorded: the mean over the classes, a fraction."""
    steps: tuple[RuleStep, ...]
    reached: Number
    """With all rules changed, measured: `ours` and what the steps moved."""
    published: Number | None
    """None where no paper prints it over these classes."""
    where: str = ""

    @property
    def unexplained(self) -> float | None:
        """Return what no rule accounts for: training, weights, and what no record tells."""
        return None if self.published is None else self.published - self.reached


class Explained(RecordPart):
    """What `bench explain` found of one record and one paper."""

    schema_version: Literal[1] = 1
    fingerprint: str
    """Of the record's cell."""
    paper: str
    method: str
    """Whose row of the paper."""
    beside: str
    """What no record tells of the paper's rules."""
    ladders: tuple[Explanation, ...]

    def of(self, record: Record) -> bool:
        """Return whether a record still has the numbers that were explained."""
        if self.fingerprint != record.cell.fingerprint:
            return False
        known = [(one.ours, record.mean.get(one.metric)) for one in self.ladders]
        return all(now is not None and abs(then - now) < SAME for then, now in known)


def place(record: Path, paper: str) -> Path:
    """Return the file of a record's explanation."""
    return record.with_name(f"{record.stem}.{file_name(paper)}{SUFFIX}")


def write(explained: Explained, path: Path) -> None:
    """Write an explanation. Raises UnwritableError."""
    with atomic(path) as file:
        file.write(f"{explained.model_dump_json(indent=1)}\n".encode())


def read(path: Path) -> Explained:
    """Return an explanation. Raises StoreError where the file is none."""
    try:
        return Explained.model_validate_json(regular.read_bytes(path, MOST_BYTES))
    except (OSError, ValidationError) as error:
        why = error.strerror if isinstance(error, OSError) else error.errors()[0]["msg"]
        raise StoreError(f"{path} is no explanation: {why}. Expected what bench explain --keep writes") from error
