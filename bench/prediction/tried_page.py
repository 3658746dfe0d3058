"""The page of `bench try`: every picture with its score, heat map and verdict, the mistakes first."""

from __future__ import annotations

import base64
import csv
import io
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path

import jinja2
import numpy as np
from markupsafe import Markup
from PIL import Image

import bench
from bench.files import atomic
from bench.names import harmless
from bench.prediction.threshold import Threshold, percent
from bench.prediction.tried import Asked, TriedPicture
from bench.report.figures.gallery import overlay, uncropped
from bench.report.formats import html
from bench.report.formats.csv import inert
from bench.store.calibration import Share
from bench.words import counted

FOLDER = Path(__file__).parent
MAX_PICTURES = 800
"""Pictures that are shown; of more than these the last ones are lines without a picture, all are in scores.csv."""
OUTCOMES = {
    "missed": ("Missed", "Anomalous pictures at or below the threshold."),
    "alarm": ("False alarms", "Normal pictures above the threshold that were neither trained on nor set it."),
    "found": ("Found", "Anomalous pictures above the threshold."),
    "passed": ("Passed", "Normal pictures at or below the threshold that were neither trained on nor set it."),
    "held": ("Held back", "Normal pictures that set the threshold."),
    "trained": ("Trained on", "Normal pictures that the model has seen: their low scores say nothing."),
    "unread": ("No score", "Pictures that could not be read, or of which the model says nothing."),
}
"""In the order of the page, by what a reader looks for first."""
LANES = {"held": "held back", "normal": "normal", "anomalous": "anomalous"}


@dataclass(frozen=True, slots=True)
class Shown:
    """A picture as the template writes it."""

    name: str
    defect: str
    score: str
    verdict: str
    tiles: tuple[str, ...] = ()
    """Data URIs: the picture, and with its heat map over it."""
    size: tuple[int, int] = (0, 0)


@dataclass
class ClassPart:
    """What the page says of a class."""

    name: str
    threshold: Threshold
    scores: dict[str, list[float]] = field(default_factory=lambda: {lane: [] for lane in LANES})
    trained: int = 0

    @property
    def marks(self) -> list[tuple[str, str, list[float]]]:
        """Return name, title and places (0 to 1 from left to right) of the dots of each lane."""
        low, high = self._ends
        return [
            (lane, title, [(score - low) / (high - low) for score in self.scores[lane]])
            for lane, title in LANES.items()
            if self.scores[lane]
        ]

    @property
    def line(self) -> float:
        """Return the place of the threshold, as `marks`."""
        low, high = self._ends
        return (self.threshold.value - low) / (high - low)

    @property
    def ticks(self) -> list[tuple[float, str]]:
        """Return places and texts below the dots."""
        low, high = self._ends
        return [(share, f"{low + share * (high - low):.3g}") for share in (0.0, 0.25, 0.5, 0.75, 1.0)]

    @property
    def _ends(self) -> tuple[float, float]:
        every = [self.threshold.value, *(score for own in self.scores.values() for score in own)]
        low, high = min(every), max(every)
        return low, high if high > low else low + 1


@dataclass(frozen=True, slots=True)
class Tried:
    """What came of it."""

    page: Path
    summary: tuple[str, ...]
    """Lines for the terminal."""


def write(asked: Asked, pictures: Iterable[TriedPicture], out: Path, command: str) -> Tried:
    """Write index.html and scores.csv into a folder.

    Args:
        asked: the model and its thresholds.
        pictures: every one, as `Asked.pictures` yields them.
        out: the folder.
        command: by which new pictures get verdicts.

    Raises:
        UnwritableError: the folder cannot be written.
    """
    record = asked.model.record
    parts = {cls: ClassPart(cls, limit) for cls, limit in asked.thresholds.items()}
    several = len(parts) > 1
    sections: dict[str, list[tuple[float, Shown]]] = {outcome: [] for outcome in OUTCOMES}
    lines: list[tuple[str, ...]] = []
    shown = 0
    for picture in pictures:
        part = parts[picture.sample.cls]
        outcome = _outcome(picture, part.threshold.value)
        _count(part, picture)
        with_tiles = shown < MAX_PICTURES and picture.seen.picture is not None
        shown += with_tiles
        made = _shown(picture, outcome, asked, with_tiles)
        sections[outcome].append((picture.score if picture.score is not None else 0.0, made))
        lines.append(_line(picture, made))
    values = {
        "title": record.cell.dataset,
        "version": bench.__version__,
        "created": record.created[:10],
        "method": record.cell.method,
        "encoder": record.encoder.name if record.encoder is not None else "none",
        "size": record.input_size,
        "parts": list(parts.values()),
        "several": several,
        "summary": _summary(parts),
        "sections": [
            (outcome, *OUTCOMES[outcome], [made for _, made in sorted(own, key=lambda one: -one[0])])
            for outcome, own in sections.items()
            if own
        ],
        "left": max(0, len(lines) - shown),
        "notes": record.dataset.notes,
        "command": command,
        "style": Markup((html.FOLDER / "page.css").read_text(encoding="utf-8")),
        "own_style": Markup((FOLDER / "tried_page.css").read_text(encoding="utf-8")),
    }
    environment = jinja2.Environment(
        autoescape=True,
        finalize=lambda value: harmless(value) if isinstance(value, str) and not isinstance(value, Markup) else value,
        loader=jinja2.FileSystemLoader(FOLDER),
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {"percent": _percent, "interval": _interval}
    text = environment.get_template("tried_page.html.jinja").render(values)
    page = out / "index.html"
    with atomic(page, durable=False) as file:
        # a name from a file system may hold what is no text; it is spelt out
        file.write(text.encode("utf-8", "backslashreplace"))
    _write_scores(out / "scores.csv", lines)
    return Tried(page, tuple(_told(parts)))


def _outcome(picture: TriedPicture, threshold: float) -> str:
    if picture.score is None:
        return "unread"
    if picture.role != "test":
        return {"held": "held", "train": "trained"}[picture.role]
    above = picture.score > threshold
    return ("found" if above else "missed") if picture.sample.label else ("alarm" if above else "passed")


def _count(part: ClassPart, picture: TriedPicture) -> None:
    part.trained += picture.role == "train"
    if picture.score is None or picture.role == "train":
        return
    lane = "held" if picture.role == "held" else "anomalous" if picture.sample.label else "normal"
    part.scores[lane].append(picture.score)


def _shown(picture: TriedPicture, outcome: str, asked: Asked, with_tiles: bool) -> Shown:
    sample, score = picture.sample, picture.score
    limit = asked.thresholds[sample.cls].value
    verdict = "" if score is None or outcome == "trained" else "anomalous" if score > limit else "normal"
    tiles: list[str] = []
    size = (0, 0)
    if with_tiles and picture.seen.picture is not None:
        small, size = picture.seen.picture, picture.seen.picture.size
        tiles.append(_uri(small))
        scale = asked.model.scale
        if picture.seen.map is not None and scale is not None:
            heat = (uncropped(picture.seen.map, size, asked.model.record) - scale.low) / (scale.high - scale.low)
            tiles.append(_uri(Image.fromarray(overlay(np.asarray(small), heat))))
    return Shown(
        name=sample.id,
        defect=sample.defect if sample.label else "",
        score="–" if score is None else f"{score:.4g}",
        verdict=verdict,
        tiles=tuple(tiles),
        size=size,
    )


def _uri(tile: Image.Image) -> str:
    out = io.BytesIO()
    tile.save(out, "WEBP", quality=70, method=2)
    return f"data:image/webp;base64,{base64.b64encode(out.getvalue()).decode()}"


def _summary(parts: dict[str, ClassPart]) -> list[tuple[str, Share, Share]]:
    """Return false alarms and hits by class, and in sum where there are several."""
    rows = []
    for part in parts.values():
        alarms, found = part.threshold.false_alarms, part.threshold.found
        assert alarms is not None and found is not None, "the record's scores lie beside it"
        rows.append((part.name, alarms, found))
    if len(rows) > 1:
        rows.append(("all", _sum([alarms for _, alarms, _ in rows]), _sum([found for _, _, found in rows])))
    return rows


def _sum(shares: Iterable[Share]) -> Share:
    every = list(shares)
    return Share(count=sum(one.count for one in every), of=sum(one.of for one in every))


def _told(parts: dict[str, ClassPart]) -> list[str]:
    _, alarms, found = _summary(parts)[-1]
    lines = []
    if found.of:
        lines.append(f"{found.count} of {counted(found.of, 'anomalous picture')} found ({_percent(found)})")
    if alarms.of:
        lines.append(
            f"{alarms.count} of {counted(alarms.of, 'normal picture')} would be a false alarm ({_percent(alarms)}, "
            f"95 % interval {_interval(alarms)})"
        )
    for part in parts.values():
        where = f"{part.name}: " if len(parts) > 1 else ""
        lines.append(f"{where}threshold {part.threshold.value:.6g}, {part.threshold.words}")
    return lines


def _percent(share: Share) -> str:
    return "–" if share.value is None else percent(share.value)


def _interval(share: Share) -> str:
    if share.interval is None:
        return "–"
    low, high = share.interval
    return f"{100 * low:.1f} to {100 * high:.1f}"


def _line(picture: TriedPicture, made: Shown) -> tuple[str, ...]:
    sample, score = picture.sample, picture.score
    # all digits: the same bits are read again
    return (
        *(inert(str(sample.image)), sample.cls, picture.role, "anomalous" if sample.label else "normal"),
        *("" if score is None else repr(score), made.verdict),
    )


def _write_scores(path: Path, lines: Iterable[tuple[str, ...]]) -> None:
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(["image", "class", "role", "label", "score", "verdict"])
    writer.writerows(lines)
    with atomic(path, durable=False) as file:
        file.write(text.getvalue().encode("utf-8", "surrogateescape"))
