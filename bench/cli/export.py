"""`bench export`: what other programs read of a record."""

from __future__ import annotations

from pathlib import Path

import click

from bench.cli.echo import echo, quoted, suggest
from bench.cli.options import PATH
from bench.cli.subcommands import Subcommands
from bench.cli.threshold_options import threshold_options


@click.group(
    cls=Subcommands, epilog="\b\nExample:\n  bench export threshold results/runs --far 0.05 --out threshold.json"
)
def export() -> None:
    """Write what other programs read of a record."""


@export.command(
    epilog="\b\nExamples:\n  bench export threshold results/runs/washers --out threshold.json\n"
    "  bench export threshold results/runs/washers/patchcore/multi/s0-1f3c5e7a9b0d.json --rule max --class bolt"
)
@click.argument("record", type=PATH)
@threshold_options
@click.option("--class", "cls", metavar="C", default="", help="Of this class (default: one threshold for all).")
@click.option("--out", metavar="FILE", type=PATH, default=Path("threshold.json"), show_default=True, help="Where to.")
def threshold(record: Path, rule: str, far: float | None, cls: str, out: Path) -> int:
    """Write a threshold of RECORD as JSON, with how it was set and what it is worth.

    RECORD is one of bench run --calibrate or bench try, or a folder with one that kept its model. An image is
    anomalous where its score is above the threshold; bench predict --threshold FILE gives such verdicts.
    """
    from bench.errors import UsageError
    from bench.prediction import threshold as thresholds
    from bench.store import record as records
    from bench.store.folder import with_model

    path = with_model(record)
    found = records.read(path)
    if found.calibration is None:
        raise UsageError(f"{path} has no thresholds: bench run --calibrate 0.25 holds normal images back for them")
    limit = thresholds.of_record(found, path, rule=rule, far=far, cls=cls)
    assert limit is not None
    scale = None
    if found.model is not None:
        from bench.run import kept_model

        scale = kept_model.scale_of(found, path)
    thresholds.write(out, found, limit, (scale.low, scale.high) if scale is not None else None)
    echo(f"wrote {out}: {limit.value:.6g}, {limit.words}")
    if limit.worth:
        echo(f"on the record's test images: {limit.worth}")
    if found.model is not None:
        suggest(f"bench predict {quoted(path)} IMAGES --threshold {quoted(out)}")
    return 0
