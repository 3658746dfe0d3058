"""`bench submit`: the archive that a benchmark's server takes, of a kept model's maps, checked before it is offered."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from bench.cli.echo import echo, quoted, suggest
from bench.cli.options import PATH, data_root_option, device_option, quiet_option, weights_option
from bench.words import counted

if TYPE_CHECKING:
    from collections.abc import Sequence

    from bench.api import Dataset
    from bench.machine.progress import Progress
    from bench.store.record import Record

EPILOG = """\b
Examples:
  bench run --methods dinomaly --datasets mvtec_ad2 --data-root /data --protocol ad2 --calibrate 0.1 --keep-model
  bench submit results/runs/mvtec_ad2 --data-root /data --out submission
  bench submit --check submission.tar.gz --data-root /data

The records, one or one a class, need kept models and thresholds (--calibrate; MVTec AD 2's are set on its validation
images). Every private image is scored at its own size: a float16 TIFF, and a PNG of what is above the threshold. Then
all is checked as the server would, and packed.
Exit code: 0 nothing to complain of, 1 the check found something, 2 something given was wrong.
"""
DATASET = "mvtec_ad2"
SHOWN = 10
"""Complaints that are printed."""


@click.command(epilog=EPILOG)
@click.argument("records", nargs=-1, type=PATH, metavar="RECORDS...")
@click.option("--out", metavar="DIR", type=PATH, default=Path("submission"), show_default=True, help="Folder to write.")
@click.option("--check", "checked", metavar="PLACE", type=PATH, help="Only check a folder or tar.gz, of any program.")
@click.option(
    "--rule",
    metavar="RULE",
    default="",
    help="Pixel threshold: q0.95, q0.99, q0.999 (default), max or mean+3sd of normal pixels.",
)
@data_root_option()
@weights_option()
@device_option()
@quiet_option()
def submit(
    records: tuple[Path, ...],
    out: Path,
    checked: Path | None,
    rule: str,
    data_roots: tuple[str, ...],
    weights: Path | None,
    device: str,
    quiet: bool,
) -> int:
    """Score the private images of MVTec AD 2 by the models that RECORDS kept, and make the server's archive."""
    from bench.errors import UsageError
    from bench.machine.terminal import TerminalProgress

    progress = TerminalProgress.of(quiet)
    if (checked is None) == (not records):
        raise UsageError("Expected either records whose models were kept, or --check with a submission to look at")
    if checked is not None:
        return _tell(checked, _dataset(DATASET, data_roots, None), progress)
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise UsageError(f"--out {out}: not empty. Expected a new folder: what else lies in it would be submitted too")
    return _make(records, out, rule, data_roots, weights, device, progress)


def _make(
    places: Sequence[Path],
    out: Path,
    rule: str,
    data_roots: tuple[str, ...],
    weights: Path | None,
    device: str,
    progress: Progress,
) -> int:
    from bench.errors import UsageError
    from bench.machine import devices
    from bench.store.folder import find
    from bench.submission import layout

    devices.check(device)
    found = {path: one for path, one in find(places).records.items() if one.model is not None}
    if not found:
        raise UsageError(f"{', '.join(map(str, places))}: no record kept its model. bench run --keep-model makes one")
    names = {record.cell.dataset for record in found.values()}
    if len(names) > 1:
        raise UsageError(f"records of {', '.join(sorted(names))}. Expected those of one dataset")
    dataset = _dataset(names.pop(), data_roots, next(iter(found.values())))
    images = layout.wanted(dataset)
    owners = _owners(found, list(images))
    progress.say("loading torch")

    from bench.prediction import predictor
    from bench.submission import write

    where, chosen = devices.choose(device), rule or write.RULE
    for path, classes in owners.items():
        model = predictor.model_of(path, weights, where)
        write.check_whole(model, path)
        limits = write.thresholds(model, path, classes, chosen)
        write.write(model, {cls: images[cls] for cls in classes}, limits, out, progress)
        for cls in classes:
            lost = write.rounding(model, dataset, cls)
            moved = ", ".join(f"{name} {100 * by:+.3f}" for name, by in lost.change.items() if by is not None)
            echo(f"{cls}: float16 leaves {lost.rounded:,} of {lost.values:,} different scores (public images: {moved})")
    code = _tell(out, dataset, progress)
    if not code:
        packed = out.absolute().with_name(f"{out.absolute().name}.tar.gz")
        size = write.archive(out, packed)
        echo(f"wrote {packed}, {size / 2**20:,.1f} MiB")
        suggest(f"bench submit --check {quoted(packed)}, then the server: https://benchmark.mvtec.com")
    return code


def _dataset(name: str, data_roots: tuple[str, ...], record: Record | None) -> Dataset:
    from bench.data_roots import data_root
    from bench.registry import DATASETS

    root = data_root(name, data_roots)
    if root is None and record is not None and record.dataset.root is not None:
        root = Path(record.dataset.root)
    kind = DATASETS.load(name)
    return kind(kind.locate(root))


def _owners(found: dict[Path, Record], classes: list[str]) -> dict[Path, list[str]]:
    """Return record -> the classes that its model scores. Raises UsageError where a class has none, or several."""
    from bench.errors import UsageError

    by_cls: dict[str, list[Path]] = {
        cls: [path for path, record in found.items() if cls in record.cell.classes] for cls in classes
    }
    if without := [cls for cls, paths in by_cls.items() if not paths]:
        raise UsageError(f"no record here is of {', '.join(without)}. A submission needs a model of every class")
    for cls, paths in by_cls.items():
        if len(paths) > 1:
            raise UsageError(f"{cls}: {len(paths)} records, {', '.join(map(str, paths))}. Expected one a class")
    owners: dict[Path, list[str]] = {}
    for cls, (path,) in by_cls.items():
        owners.setdefault(path, []).append(cls)
    return owners


def _tell(place: Path, dataset: Dataset, progress: Progress) -> int:
    from bench.submission import check, layout

    images = layout.wanted(dataset)
    complaints = check.check(place, images, progress)
    for text in complaints[:SHOWN]:
        echo(text)
    if len(complaints) > SHOWN:
        echo(f"... and {len(complaints) - SHOWN:,} more")
    count = sum(map(len, images.values()))
    verdict = counted(len(complaints), "complaint") if complaints else "nothing to complain of"
    echo(f"{place}: {verdict}; {counted(count, 'image')} of {counted(len(images), 'class', 'classes')} are wanted")
    return 1 if complaints else 0
