"""Late maps and metrics of a finished cell, made by its kept model without a training.

What was recorded before stays as it is, to the bit; a metric that is new stands beside it.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import nullcontext
from pathlib import Path

import numpy as np
import numpy.typing as npt

from bench import regular
from bench.encoders import frozen
from bench.errors import StoreError, UnwritableError
from bench.files import atomic_folder
from bench.loading.pixel_cache import PixelCache
from bench.machine.precision import set_precision
from bench.machine.progress import Progress
from bench.machine.timing import Stopwatch
from bench.plan.planned import Planned
from bench.run import kept_model, recording, scoring
from bench.run.cell import Options
from bench.run.extractor import Extractor
from bench.run.scoring import Scored
from bench.run.single_defects import read_defects
from bench.store import record as records
from bench.store.facts import ClassScores
from bench.store.record import Record

AGREES = 1e-3
"""Most by which image scores may differ from the recorded ones, as a share of their range, and what is new be kept:
more than rounding on another device, less than another model."""


def run(item: Planned, options: Options, progress: Progress) -> Record:
    """Add maps, metrics or both to a finished cell and return its record; one of a failure where they cannot be made.

    The finished record stays as it is until all is there.

    Raises:
        UnwritableError: the maps or the record cannot be written.
    """
    try:
        return _run(item, options, progress)
    except UnwritableError:
        raise
    except Exception as error:
        return recording.failed(item.cell, options.device, options.command, error)


def _run(item: Planned, options: Options, progress: Progress) -> Record:
    cell, device, record = item.cell, options.device, item.record
    assert record is not None, "only a finished cell has a model"
    path = cell.path(options.results)
    set_precision(cell.precision)
    pixels = PixelCache(
        *(cell.task.dataset, cell.task.hashes, cell.protocol.resize_for(cell.input_size), cell.input_size),
        say=progress.say,
    )
    with progress.phase("decode", len(cell.task.test)) as advance:
        masks = scoring.read_masks(cell.task, cell.protocol, cell.input_size)
        defects = read_defects(cell.task, cell.protocol, cell.input_size, item.unmeasured)
        pixels.decode(cell.task.test, lambda done: advance(done, ""))
    encoder = frozen.build(cell.encoder, cell.weights, cell.input_size).to(device)
    module, _ = kept_model.read(record, path, cell.method, encoder, device)
    extract = Extractor(cell.method, encoder, pixels, device, progress.say)
    folder = path.with_suffix(".maps") if "maps" in item.lacking else None
    with atomic_folder(folder) if folder is not None else nullcontext() as draft:
        found = scoring.score(
            *(cell.task, cell.protocol, scoring.predictor(cell, extract, module, options.inference_batch)),
            *(masks, Stopwatch(), progress),
            metrics=item.unmeasured,
            keep_maps=draft,
            defects=defects,
        )
        if draft is not None and not any(draft.iterdir()):
            progress.say(f"{cell.method.name} gives image scores alone: there are no maps to keep")
        _compare(dict(zip(found.rows["id"], found.rows["score"], strict=True)), record, path, progress)
    record = with_metrics(record, found, item.unmeasured)
    if folder is not None:
        record = record.model_copy(update={"maps": folder.name})
    records.write(record, path)
    return record


def with_metrics(record: Record, found: Scored, metrics: Sequence[str]) -> Record:
    """Return a record with some metrics more; what it held before is not touched."""
    new = recording.scores(found, metrics)
    pooled = record.pooled
    return record.model_copy(
        update={
            "scores": {cls: _beside(scores, new["scores"][cls], metrics) for cls, scores in record.scores.items()},
            "mean": record.mean | new["mean"],
            "pooled": _beside(pooled, new["pooled"], metrics) if pooled and new["pooled"] else pooled,
            "protocol": record.protocol.model_copy(update={"metrics": (*record.protocol.metrics, *metrics)}),
            "variant_versions": record.variant_versions | recording.versions(metrics),
            "units": record.units | recording.units(metrics),
        }
    )


def _beside(known: ClassScores, new: ClassScores, metrics: Sequence[str]) -> ClassScores:
    """Return the scores of a class with the new metrics behind the recorded ones."""
    values = {metric: new.values[metric] for metric in metrics if metric in new.values}
    reasons = {metric: why for metric, why in new.undefined.items() if metric in values}
    return known.model_copy(update={"values": {**known.values, **values}, "undefined": {**known.undefined, **reasons}})


def _compare(found: dict[str, float], record: Record, path: Path, progress: Progress) -> None:
    """Refuse a model that gives other image scores than are recorded; say where it rounds otherwise."""
    known = _recorded(path.with_suffix(".parquet"))
    if known.keys() != found.keys():
        raise StoreError(f"{path.stem}.parquet holds other images than the cell has. --again runs it again")
    old = np.array(list(known.values()))
    apart = float(np.abs(old - np.array([found[name] for name in known])).max())
    if apart > AGREES * max(float(np.ptp(old)), 1e-12):
        raise StoreError(f"the kept model gives image scores up to {apart:.3g} from those recorded. --again makes both")
    if apart:
        progress.say(f"the model rounds otherwise here than when it was recorded: scores differ by up to {apart:.3g}")


def _recorded(path: Path) -> dict[str, float]:
    """Return the recorded image scores by id. Raises StoreError where they cannot be read."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        regular.check(path)
        table = pq.read_table(path, columns=["id", "score"], page_checksum_verification=True)
        scores: npt.NDArray[np.float64] = table["score"].to_numpy().astype(np.float64)
        return dict(zip(table["id"].to_pylist(), scores.tolist(), strict=True))
    except (OSError, ValueError, TypeError, pa.ArrowException, KeyError) as error:
        raise StoreError(f"{path}, the per-image scores, cannot be read: {error}. --again makes them again") from error
