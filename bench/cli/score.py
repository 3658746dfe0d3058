"""`bench score`: other programs' anomaly maps and image scores, under the same protocol and in the same tables."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from bench.cli.completing import completed
from bench.cli.echo import print_json, suggest_report
from bench.cli.options import (
    PATH,
    classes_option,
    data_root_option,
    json_option,
    metrics_option,
    names,
    results_option,
)
from bench.errors import UsageError

if TYPE_CHECKING:
    from bench.store.record import Record

EPILOG = """\b
Examples:
  bench score --method efficientad --datasets mvtec --data-root /data --maps results/anomaly_maps
  bench score --method mine --datasets visa --data-root /data --maps maps.npz --scores scores.csv --set epochs=100
  bench score --method clip --datasets fmnist --data-root /data --splits A --scores scores.csv

Maps: a file an image (npy, npz, tif, tiff, png), or one npz, named by the image's id or by MVTec's submission layout
(<class>/test/<defect>/<name>.tiff); one channel of raw scores, higher = more anomalous, covering the whole image, of
its size, of 256x256, or of --map-size. Scores: a CSV with columns id and score. Protocol: common.
Exit code: 0 scored and recorded, 2 something given was wrong.
"""


@click.command(epilog=EPILOG)
@click.option("--method", metavar="NAME", required=True, help="What to call it in tables; no name of bench's own.")
@click.option(
    "--datasets",
    "dataset",
    metavar="D",
    shell_complete=completed("datasets"),
    required=True,
    help="The dataset, or a folder of your own as ./DIR; see bench ls datasets.",
)
@click.option("--maps", metavar="PATH", type=PATH, help="Folder of anomaly maps, or one npz.")
@click.option("--scores", metavar="FILE", type=PATH, help="CSV of image scores.")
@click.option(
    "--image-score",
    metavar="RULE",
    default="max",
    show_default=True,
    help="Without --scores: image score from the map at 256x256: max, top1% or pool16-max.",
)
@click.option("--map-size", metavar="N", type=click.IntRange(1, 8192), help="Maps are NxN and cover the whole image.")
@data_root_option()
@classes_option()
@click.option("--setting", metavar="S", default="multi", show_default=True, help="How it was trained: multi or single.")
@click.option("--splits", metavar="A", help="Half-split of a semantic set.")
@click.option("--seed", metavar="N", type=click.IntRange(min=0), default=0, show_default=True, help="Its seed.")
@click.option("--encoder", metavar="TEXT", default="not stated", help="What it looks through, in your words.")
@click.option("--set", "pairs", metavar="KEY=VALUE", multiple=True, help="A fact about it that the record keeps.")
@click.option("--keep-maps", is_flag=True, help="Keep the maps at 256x256 beside the record, for figures and packs.")
@metrics_option()
@results_option("Where the record goes.")
@json_option()
def score(
    method: str,
    dataset: str,
    maps: Path | None,
    scores: Path | None,
    image_score: str,
    map_size: int | None,
    data_roots: tuple[str, ...],
    classes: str | None,
    setting: str,
    splits: str | None,
    seed: int,
    encoder: str,
    pairs: tuple[str, ...],
    keep_maps: bool,
    metrics: tuple[str, ...],
    results: Path,
    as_json: bool,
) -> int:
    """Score anomaly maps and image scores that another program wrote, and record them as a method of your naming."""
    facts = {}
    for pair in pairs:
        key, equals, value = pair.partition("=")
        if not (equals and key.strip()):
            raise UsageError(f"--set '{pair}': expected key=value, for example epochs=100")
        facts[key.strip()] = value
    from bench import own
    from bench.cli.terminal import footnotes, score_table
    from bench.external import cell
    from bench.machine.terminal import TerminalProgress, console
    from bench.store.rows import rows

    name, data_roots = own.only(dataset, data_roots)
    request = cell.ScoreRequest(
        method=method,
        dataset=name,
        maps=maps,
        scores=scores,
        results=results,
        setting=setting,
        seed=seed,
        classes=names(classes),
        splits=names(splits),
        map_size=map_size,
        image_score=image_score,
        encoder=encoder,
        facts=facts,
        data_roots=data_roots,
        command=("bench", *sys.argv[1:]),
        metrics=metrics,
        keep_maps=keep_maps,
    )
    out = console()
    found = cell.score(request, TerminalProgress.of(quiet=False))
    if as_json:
        print_json(records=[_facts(record, results) for record in found])
        return 0
    for row in rows(found):
        out.print(score_table(row))
        for note in footnotes(row):
            out.print(note, highlight=False, markup=False)
    for record in found:
        out.print(f"record  {results / record.cell.file}", highlight=False, markup=False, soft_wrap=True)
    suggest_report(results)
    return 0


def _facts(record: Record, results: Path) -> dict[str, Any]:
    """Return what a script reads of a record: what it is, where it lies, and its means."""
    return {
        **record.cell.model_dump(mode="json"),
        "record": str(results / record.cell.file),
        "mean": record.mean,
        "pooled": record.pooled.values if record.pooled is not None else None,
    }
