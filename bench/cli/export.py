"""`bench export`: what other programs read of a record."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from bench.cli.echo import echo, quoted, suggest
from bench.cli.options import PATH
from bench.cli.subcommands import Subcommands
from bench.cli.threshold_options import threshold_options
from bench.words import counted

if TYPE_CHECKING:
    from bench.store.record import Record


@click.group(
    cls=Subcommands, epilog="\b\nExample:\n  bench export threshold results/runs --far 0.05 --out threshold.json"
)
def export() -> None:
    """Write what other programs read of records: thresholds, trackers' runs, model cards."""


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


@export.command(
    epilog="\b\nExamples:\n  bench export mlflow results/runs --experiment mvtec\n"
    "  bench export mlflow results/runs --uri http://tracking:5000"
)
@click.argument("records", nargs=-1, required=True, type=PATH)
@click.option("--uri", metavar="URI", help="Tracking server or folder (default: what MLflow is set to).")
@click.option("--experiment", metavar="NAME", default="bench", show_default=True, help="Made where there is none.")
def mlflow(records: tuple[Path, ...], uri: str | None, experiment: str) -> int:
    """Write finished RECORDS as MLflow runs; those that are there already are left alone."""
    from bench.exports import mlflow as exporter

    ids = exporter.export(_finished(records), uri, experiment)
    echo(f"{counted(len(ids), 'run')} in experiment {experiment}")
    return 0


@export.command(
    epilog="\b\nExample:\n  bench export wandb results/runs --project uad --offline && wandb sync wandb/offline-*"
)
@click.argument("records", nargs=-1, required=True, type=PATH)
@click.option("--project", metavar="NAME", default="bench", show_default=True, help="Its name.")
@click.option("--offline", is_flag=True, help="Write below ./wandb, for wandb sync.")
def wandb(records: tuple[Path, ...], project: str, offline: bool) -> int:
    """Write finished RECORDS as Weights & Biases runs; a second export writes the same runs again."""
    from bench.exports import wandb as exporter

    ids = exporter.export(_finished(records), project, offline)
    echo(f"{counted(len(ids), 'run')} in project {project}")
    return 0


@export.command(
    epilog="\b\nExample:\n  bench export huggingface results/runs/mvtec/dinomaly --model dinomaly-mvtec --out README.md"
)
@click.argument("records", nargs=-1, required=True, type=PATH)
@click.option("--model", metavar="NAME", required=True, help="The model's name, as the hub shows it.")
@click.option("--out", metavar="FILE", type=PATH, default=Path("README.md"), show_default=True, help="Where to.")
def huggingface(records: tuple[Path, ...], model: str, out: Path) -> int:
    """Write the head of a model card for the Hugging Face hub, with the results of RECORDS as means over seeds."""
    from bench.errors import UsageError
    from bench.exports.hugging_face import model_card
    from bench.files import atomic

    found = _finished(records)
    methods = sorted({record.cell.method for record in found.values()})
    if len(methods) > 1:
        raise UsageError(f"records of {', '.join(methods)}. Expected those of one method: a model card is of one model")
    if out.exists():
        raise UsageError(f"--out {out} is there already. Expected a new file: the head of a card goes before its text")
    text = model_card(found, model)
    with atomic(out) as file:
        file.write(text.encode())
    echo(f"wrote {out}: results of {counted(len(found), 'record')}")
    return 0


def _finished(places: tuple[Path, ...]) -> dict[Path, Record]:
    from bench.errors import UsageError
    from bench.store.folder import find

    found = {path: record for path, record in find(places).records.items() if record.status == "done"}
    if not found:
        raise UsageError(f"no finished record in {', '.join(map(str, places))}. Expected records of bench run")
    return found
