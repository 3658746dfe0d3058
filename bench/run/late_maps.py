"""Maps of a finished cell that were not asked for when it was run: had by its kept model, without a training."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import numpy.typing as npt

from bench import regular
from bench.api import by_class
from bench.encoders import frozen
from bench.errors import StoreError, UnwritableError
from bench.files import atomic, atomic_folder, file_name
from bench.loading.pixel_cache import PixelCache
from bench.machine.precision import set_precision
from bench.machine.progress import Progress
from bench.plan.planned import Planned
from bench.run import kept_model, recording, scoring
from bench.run.cell import Options
from bench.run.extractor import Extractor
from bench.store import record as records
from bench.store.record import Record

AGREES = 1e-3
"""Most by which image scores may differ from the recorded ones, as a share of their range, and the maps be kept: more
than rounding on another device, less than another model."""


def run(item: Planned, options: Options, progress: Progress) -> Record:
    """Add the maps to a finished cell and return its record; one of a failure where they cannot be had.

    The finished record stays as it is until the maps lie beside it.

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
        pixels.decode(cell.task.test, lambda done: advance(done, ""))
    encoder = frozen.build(cell.encoder, cell.weights, cell.input_size).to(device)
    module, _ = kept_model.read(record, path, cell.method, encoder, device)
    extract = Extractor(cell.method, encoder, pixels, device, progress.say)
    predict = scoring.predictor(cell, extract, module, options.inference_batch)
    folder = path.with_suffix(".maps")
    found: dict[str, float] = {}
    with atomic_folder(folder) as draft:
        with progress.phase("maps", len(cell.task.test)) as advance:
            for cls, samples in by_class(cell.task.test).items():
                maps, scores = predict(samples, True, advance)
                found |= dict(zip((sample.id for sample in samples), scores.tolist(), strict=True))
                if maps is not None:
                    with atomic(draft / f"{file_name(cls)}.npy") as file:
                        np.save(file, maps)
        if not any(draft.iterdir()):
            progress.say(f"{cell.method.name} gives image scores alone: there are no maps to keep")
        _compare(found, record, path, progress)
    record = record.model_copy(update={"maps": folder.name})
    records.write(record, path)
    return record


def _compare(found: dict[str, float], record: Record, path: Path, progress: Progress) -> None:
    """Refuse maps of a model that gives other image scores than are recorded; say where it rounds otherwise."""
    known = _recorded(path.with_suffix(".parquet"))
    if known.keys() != found.keys():
        raise StoreError(f"{path.stem}.parquet holds other images than the cell has. --again runs it again")
    old = np.array(list(known.values()))
    apart = float(np.abs(old - np.array([found[name] for name in known])).max())
    if apart > AGREES * max(float(np.ptp(old)), 1e-12):
        raise StoreError(f"the kept model gives image scores up to {apart:.3g} from those recorded. --again makes both")
    if apart:
        progress.say(f"the maps are rounded otherwise than the recorded scores: these differ by up to {apart:.3g}")


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
