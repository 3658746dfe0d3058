"""`bench predict`: a kept model on any images."""

from __future__ import annotations

import csv
import io
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import click

from bench.cli.echo import echo, print_json
from bench.cli.options import PATH, device_option, json_option, quiet_option, weights_option
from bench.cli.threshold_options import facts_of, threshold_options

if TYPE_CHECKING:
    from rich.console import Console

    from bench.prediction.loose_images import ImageGroup
    from bench.prediction.predictor import Model, Seen
    from bench.prediction.threshold import Threshold

EPILOG = """\b
Examples:
  bench predict results/runs/folder/patchcore/multi/s0-1f3c5e7a9b0d.json incoming --out today
  bench predict results/runs photo.jpg --threshold 2.4
  bench predict results/runs incoming --far 0.01

Needs a record whose model was kept (bench run --keep-model). Written: scores.csv (image, score, and with a threshold a
verdict), overlays of the heat maps, on request raw maps. Higher scores are more anomalous; they compare with those of
the same model alone. A record of bench run --calibrate, or bench try, has thresholds: without --threshold, --rule or
--far the one above which 5 % of normal images are expected at most.
Exit code: 0 all images read, 1 some could not be, 2 something given was wrong.
"""
SIDE = 768
"""Longest side of an overlay in pixels."""
HIGHEST = 5
"""Images that are printed, those of the highest scores."""


@click.command(epilog=EPILOG)
@click.argument("record", type=PATH)
@click.argument("images", type=PATH, nargs=-1, required=True)
@click.option("--out", metavar="DIR", type=PATH, default=Path("predictions"), show_default=True, help="Where files go.")
@threshold_options
@click.option(
    "--threshold",
    metavar="T",
    default="",
    help="Scores above it are anomalous: a number, or a file of bench export threshold.",
)
@click.option("--overlays/--no-overlays", default=True, show_default=True, help="Each image with its map over it.")
@click.option("--maps", is_flag=True, help="Also write raw maps (npy, float32, of the network's input).")
@click.option(
    "--class",
    "cls",
    metavar="C",
    default="",
    help="Class of the images: its own threshold, and for methods that need it.",
)
@weights_option()
@device_option()
@quiet_option()
@json_option()
def predict(
    record: Path,
    images: tuple[Path, ...],
    out: Path,
    rule: str,
    far: float | None,
    threshold: str,
    overlays: bool,
    maps: bool,
    cls: str,
    weights: Path | None,
    device: str,
    quiet: bool,
    as_json: bool,
) -> int:
    """Score IMAGES, files or folders, by the model that RECORD kept; RECORD may be a folder with one such record.

    They pass through the recorded configuration: encoder, crop and sizes. Memory is bounded, however many they are.
    """
    from bench.machine import devices
    from bench.machine.terminal import TerminalProgress, console
    from bench.prediction.loose_images import gather
    from bench.prediction.threshold import chosen
    from bench.store import record as records
    from bench.store.folder import with_model

    devices.check(device)
    groups = gather(images)
    path = with_model(record)
    limit = chosen(records.read(path), path, text=threshold, rule=rule, far=far, cls=cls)
    value = limit.value if limit is not None else None
    progress = TerminalProgress.of(quiet)
    progress.say("loading torch")

    from bench.prediction import predictor

    model = predictor.model_of(path, weights, devices.choose(device))
    pictures = overlays and model.scale is not None
    found = predictor.predict(
        *(model, groups), cls=cls, maps=maps or pictures, side=SIDE if pictures else 0, say=progress.say
    )
    names = _names(groups)
    rows: list[ScoredImage] = []
    try:
        with progress.phase("predict", len(names)) as advance:
            for name, seen in zip(names, found, strict=True):
                rows.append(ScoredImage(seen.path, seen.score))
                if seen.trouble:
                    progress.say(seen.trouble)
                if pictures and seen.map is not None:
                    _write_overlay(out / "overlays" / f"{name}.jpg", seen, model)
                if maps and seen.map is not None:
                    _write_map(out / "maps" / f"{name}.npy", seen)
                advance(1, seen.path.name)
    except BaseException:
        if rows:
            _write_scores(out / "scores.csv", rows, value)
            progress.say(f"scores of {len(rows)} of {len(names)} images are in {out / 'scores.csv'}")
        raise
    _write_scores(out / "scores.csv", rows, value)
    if as_json:
        lines = [
            {"image": str(row.path), "score": row.score, "verdict": predictor.verdict(row.score, value)} for row in rows
        ]
        facts = facts_of(limit) if limit is not None and limit.images else None
        print_json(record=str(path), threshold=value, calibration=facts, scores=str(out / "scores.csv"), images=lines)
    else:
        _tell(console(), rows, limit, _recorded(path))
        echo(f"wrote {out / 'scores.csv'}{f', {out}/overlays' if pictures else ''}")
    if (maps or overlays) and model.scale is None:
        progress.say(f"{model.method.name} gives image scores alone: there are no maps")
    return 1 if any(row.score is None for row in rows) else 0


@dataclass(frozen=True, slots=True)
class ScoredImage:
    """A line of scores.csv."""

    path: Path
    score: float | None
    """None where the image cannot be read."""


def _names(groups: Sequence[ImageGroup]) -> list[str]:
    """Return a name of its own for each image, as a path below a folder."""
    from bench.files import file_name

    taken: Counter[str] = Counter()
    names = []
    for group, above in zip(groups, _told_apart([group.root.resolve() for group in groups]), strict=True):
        for path in group.files:
            name = "/".join(file_name(part) for part in (*above, *path.relative_to(group.root).parts))
            taken[name] += 1
            names.append(f"{name}-{taken[name]}" if taken[name] > 1 else name)
    return names


def _told_apart(roots: Sequence[Path]) -> list[tuple[str, ...]]:
    """Return as many last parts of each folder's path as tell them apart; none of a single one."""
    depth = 0
    most = max(len(root.parts) for root in roots)
    while len({root.parts[len(root.parts) - depth :] for root in roots}) < len(set(roots)) and depth < most:
        depth += 1
    return [root.parts[max(0, len(root.parts) - depth) :] for root in roots]


def _write_overlay(path: Path, seen: Seen, model: Model) -> None:
    import numpy as np
    from PIL import Image

    from bench.files import atomic
    from bench.report.figures.gallery import overlay, uncropped

    assert seen.picture is not None and seen.map is not None and model.scale is not None
    heat = uncropped(seen.map, seen.picture.size, model.record)
    heat = (heat - model.scale.low) / (model.scale.high - model.scale.low)
    with atomic(path, durable=False) as file:
        Image.fromarray(overlay(np.asarray(seen.picture), heat)).save(file, "JPEG", quality=88)


def _write_map(path: Path, seen: Seen) -> None:
    import numpy as np

    from bench.files import atomic

    assert seen.map is not None
    with atomic(path, durable=False) as file:
        np.save(file, seen.map)


def _write_scores(path: Path, rows: Sequence[ScoredImage], threshold: float | None) -> None:
    from bench.files import atomic
    from bench.prediction import predictor
    from bench.report.formats.csv import inert

    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(["image", "score", *([] if threshold is None else ["verdict"])])
    for row in rows:
        verdict = [] if threshold is None else [predictor.verdict(row.score, threshold)]
        # all digits: the same bits are read again
        writer.writerow([inert(str(row.path)), "" if row.score is None else repr(row.score), *verdict])
    with atomic(path) as file:
        file.write(text.getvalue().encode())


def _recorded(path: Path) -> dict[int, list[float]]:
    """Return the test images' scores by label, 0 normal and 1 anomalous; nothing where they do not lie there."""
    import pyarrow.parquet as pq

    from bench import regular

    found: dict[int, list[float]] = {0: [], 1: []}
    try:
        regular.check(path.with_suffix(".parquet"))
        table = pq.read_table(path.with_suffix(".parquet"), columns=["label", "score"]).to_pydict()
        for label, score in zip(table["label"], table["score"], strict=True):
            found[int(label)].append(float(score))
    except Exception:  # they are told for orientation; whatever is wrong with the file, the new scores stand
        return {0: [], 1: []}
    return found


def _tell(
    out: Console, rows: Sequence[ScoredImage], threshold: Threshold | None, recorded: dict[int, list[float]]
) -> None:
    from bench.cli.terminal import say
    from bench.words import counted

    def between(scores: Sequence[float]) -> str:
        return f"{min(scores):.4g} to {max(scores):.4g}"

    scored = [(row.score, row.path) for row in rows if row.score is not None]
    text = f"{counted(len(scored), 'image')}"
    if scored:
        text += f", scores {between([score for score, _ in scored])}"
    if threshold is not None:
        above = sum(score > threshold.value for score, _ in scored)
        text += f": {above:,} anomalous, {len(scored) - above:,} normal at {threshold.value:.6g}"
    say(out, text)
    if threshold is not None and threshold.images:
        say(out, f"threshold {threshold.value:.6g}: {threshold.words}")
        if threshold.worth:
            say(out, f"on the record's test images: {threshold.worth}")
    if recorded[0] and recorded[1]:
        say(out, f"test images of the record: normal {between(recorded[0])}, anomalous {between(recorded[1])}")
    for score, path in sorted(scored, reverse=True)[:HIGHEST]:
        say(out, f"  {score:.4g}  {path}")
    if unread := len(rows) - len(scored):
        say(out, f"{counted(unread, 'image')} could not be read")
