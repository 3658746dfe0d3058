"""A threshold for verdicts: taken from a record's calibration or from a file, with what it is worth."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from pydantic import ValidationError

from bench import regular
from bench.errors import StoreError, UsageError
from bench.files import atomic
from bench.home import expanded
from bench.metrics.thresholds import RULES, SPREAD, WORDS, at_false_alarms, expected
from bench.registry import did_you_mean
from bench.store.calibration import OperatingPoints, Share
from bench.store.evidence import EvidenceFiles, Lacking
from bench.store.fields import Count, Number, RecordPart
from bench.store.record import Record
from bench.words import counted

USUAL = 0.05
"""False alarms that a threshold is chosen for where nobody says more; with too few images for it, the highest score."""
MOST_BYTES = 1 << 16


@dataclass(frozen=True, slots=True)
class Threshold:
    """A score above which an image is called anomalous, and what is known of it."""

    value: float
    rule: str = "given"
    """One of `bench.metrics.thresholds.RULES`, `far` for a share of false alarms, or `given` by the user."""
    cls: str = ""
    """Class whose images it was set on; empty for all of the record's classes."""
    images: int = 0
    """Normal images that it was set on; none where it was given."""
    expected: float | None = None
    """Share of new normal images that is expected above it at most, told by those images alone."""
    false_alarms: Share | None = None
    """Normal test images above it."""
    found: Share | None = None
    """Anomalous test images above it."""

    @property
    def words(self) -> str:
        """Return in a sentence how it was set: `highest score of 12 normal images held back`."""
        if not self.images:
            return "as given"
        what = WORDS.get(self.rule, "lowest score that keeps false alarms within the share asked for")
        where = f"{counted(self.images, 'normal image')} held back"
        if self.expected is not None:
            return f"{what}, of {where}: at most {percent(self.expected)} false alarms expected"
        return f"{what}, of {where}"

    @property
    def worth(self) -> str:
        """Return in a sentence what it gives on the record's test images; empty where that is not known."""
        parts = []
        for share, told in ((self.false_alarms, "normal ones above it"), (self.found, "anomalous ones found")):
            if share is not None and share.of:
                parts.append(f"{share.count:,} of {share.of:,} {told} ({measured(share)})")
        return ", ".join(parts)


class ThresholdFile(RecordPart):
    """A threshold as `bench export threshold` writes it, for `bench predict --threshold FILE` and other programs."""

    schema_version: Literal[1] = 1
    record: str
    """Fingerprint of the record's cell."""
    model_sha256: str | None
    """Of the kept model's file; null where none was kept."""
    method: str
    dataset: str
    cls: str
    """Class that it is for; empty for all of the record's classes."""
    threshold: Number
    """An image is anomalous where its score is above it."""
    rule: str
    words: str
    calibration_images: Count
    expected_false_alarms: Number | None
    """Share of new normal images above it, at most, as the calibration images tell; null of a rule that tells none."""
    false_alarms: Share | None
    """Normal test images above it; null where their scores do not lie beside the record."""
    false_alarms_interval: tuple[Number, Number] | None
    """95 % Clopper-Pearson interval of that share."""
    found: Share | None
    """Anomalous test images above it."""
    pixel_threshold: Number | None
    """On maps, by the same rule; null where there is none."""
    map_scale: tuple[Number, Number] | None
    """Scores at which the colours of maps begin and end; null without a model or maps."""


def chosen(
    record: Record, path: Path, *, text: str = "", rule: str = "", far: float | None = None, cls: str = ""
) -> Threshold | None:
    """Return the threshold that a user gives as text, see `given`, or else one of the record, see `of_record`.

    Raises:
        UsageError: several ways at once, or as `given` and `of_record`.
        StoreError: as `given`.
    """
    if text and (rule or far is not None):
        raise UsageError(f"--threshold {text} beside --rule or --far: each chooses a threshold. Expected one of them")
    return given(text, record) if text else of_record(record, path, rule=rule, far=far, cls=cls)


def of_record(
    record: Record, path: Path, *, rule: str = "", far: float | None = None, cls: str = ""
) -> Threshold | None:
    """Return a record's threshold by a rule, for a share of false alarms, or the usual one.

    Args:
        record: with or without calibration.
        path: of the record; its per-image scores lie beside it.
        rule: one of `bench.metrics.thresholds.RULES`; empty for none.
        far: share of new normal images that may be above it, in (0, 1).
        cls: class of the images; empty for one threshold for all classes.

    Returns:
        None where the record has no thresholds and none was asked for.

    Raises:
        UsageError: no such rule, class or thresholds, or too few calibration images for so few false alarms.
    """
    if rule and rule not in RULES:
        raise UsageError(f"--rule '{rule}'.{did_you_mean(rule, RULES)} Expected one of {', '.join(RULES)}")
    if rule and far is not None:
        raise UsageError(f"--rule {rule} and --far {far:g}: each chooses a threshold. Expected one of them")
    if record.calibration is None:
        if rule or far is not None:
            raise UsageError(
                f"{path} has no thresholds: no normal images were held back. bench run --calibrate 0.25 holds some back"
            )
        return None
    found = record.calibration.of(cls)
    if found is None:
        known = record.calibration.classes
        raise UsageError(
            f"--class {cls}: the record has no such class.{did_you_mean(cls, known)} Known: {', '.join(known)}"
        )
    points, scores = found
    value: float | None
    if rule:
        if rule not in points.image:
            raise UsageError(
                f"--rule {rule}: {counted(points.images, 'image')} held back are too few. Expected another"
            )
        value = points.image[rule].threshold
    else:
        if far is not None:
            check_far(far, len(scores))
        value = at_false_alarms(scores, USUAL if far is None else far)
        rule, value = ("max", scores[-1]) if value is None else ("far", value)
    alarms, hits = _on_test(record, path, points, rule, value, cls)
    return Threshold(
        value=value,
        rule=rule,
        cls=cls or (next(iter(record.calibration.classes)) if len(record.calibration.classes) == 1 else ""),
        images=points.images,
        expected=None if rule == SPREAD else expected(scores, value),
        false_alarms=alarms,
        found=hits,
    )


def check_far(far: float, images: int, cls: str = "") -> None:
    """Refuse a share of false alarms that so many calibration images cannot tell.

    Raises:
        UsageError: no share, or one below 1 in images + 1.
    """
    if not 0 < far < 1:
        raise UsageError(f"--far {far:g}: expected a share of normal images in (0, 1)")
    if at_false_alarms(range(images), far) is None:
        raise UsageError(
            f"--far {far:g}: {counted(images, 'normal image')}{f' of {cls}' if cls else ''} held back cannot tell so "
            f"few false alarms. Expected at least {1 / (images + 1):.3g}, or more normal images"
        )


def _on_test(
    record: Record, path: Path, points: OperatingPoints, rule: str, value: float, cls: str
) -> tuple[Share | None, Share | None]:
    """Return false alarms and hits on the test images: the record's own, or counted for a threshold of no rule."""
    if rule in points.image:
        return points.image[rule].false_alarms, points.image[rule].found
    try:
        images = EvidenceFiles((path.parent,)).images(record)
    except Lacking:
        return None, None
    chosen = [one for name, one in images.items() if not cls or name == cls]
    counts = [0, 0, 0, 0]
    for one in chosen:
        above = one.scores > value
        for place, of in enumerate((~one.labels, one.labels)):
            counts[2 * place] += int((above & of).sum())
            counts[2 * place + 1] += int(of.sum())
    return Share(count=counts[0], of=counts[1]), Share(count=counts[2], of=counts[3])


def write(path: Path, record: Record, threshold: Threshold, map_scale: tuple[float, float] | None) -> None:
    """Write a record's threshold as JSON. Raises UnwritableError."""
    found = record.calibration.of(threshold.cls) if record.calibration is not None else None
    pixel = found[0].pixel.get(threshold.rule) if found is not None else None
    file = ThresholdFile(
        record=record.cell.fingerprint,
        model_sha256=record.model.sha256 if record.model is not None else None,
        method=record.cell.method,
        dataset=record.cell.dataset,
        cls=threshold.cls,
        threshold=threshold.value,
        rule=threshold.rule,
        words=threshold.words,
        calibration_images=threshold.images,
        expected_false_alarms=threshold.expected,
        false_alarms=threshold.false_alarms,
        false_alarms_interval=threshold.false_alarms.interval if threshold.false_alarms is not None else None,
        found=threshold.found,
        pixel_threshold=pixel.threshold if pixel is not None else None,
        map_scale=map_scale,
    )
    with atomic(path) as out:
        out.write((json.dumps(file.model_dump(mode="json"), indent=1) + "\n").encode())


def given(text: str, record: Record) -> Threshold:
    """Return the threshold that a user gives: a number, or a file that `bench export threshold` wrote.

    Raises:
        UsageError: neither, or a file of another record.
        StoreError: a file that cannot be read as a threshold.
    """
    try:
        return Threshold(float(text))
    except ValueError:
        path = expanded(text)
    if not path.exists():
        raise UsageError(f"--threshold {text}: no number and no such file. Expected one of bench export threshold")
    try:
        file = ThresholdFile.model_validate_json(regular.read_bytes(path, MOST_BYTES))
    except (OSError, ValidationError, ValueError) as error:
        why = error.errors()[0]["msg"] if isinstance(error, ValidationError) else error
        raise StoreError(f"{path} is no threshold: {why}. Expected a file of bench export threshold") from error
    if file.record != record.cell.fingerprint:
        raise UsageError(
            f"{path} is of another record, {file.method} on {file.dataset} {file.record}: scores of two models do not "
            f"compare. Expected one of {record.cell.fingerprint}"
        )
    return Threshold(
        value=file.threshold,
        rule=file.rule,
        cls=file.cls,
        images=file.calibration_images,
        expected=file.expected_false_alarms,
        false_alarms=file.false_alarms,
        found=file.found,
    )


def measured(share: Share) -> str:
    """Return a share in percent with its interval: `4.4 %, 95 % interval 0.5 to 15.1`."""
    assert share.value is not None and share.interval is not None
    low, high = share.interval
    return f"{percent(share.value)}, 95 % interval {100 * low:.1f} to {100 * high:.1f}"


def percent(value: float) -> str:
    """Return a fraction as text: `4.4 %`."""
    return f"{100 * value:.1f} %"
