"""`predict` and `score` from Python: a kept model on any images, and another program's maps."""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from bench.functions.arguments import Names, Roots, data_roots, names
from bench.home import expanded

if TYPE_CHECKING:
    import pandas as pd

    from bench.store.record import Record


def predict(
    record: str | Path,
    images: str | Path | Sequence[str | Path],
    *,
    threshold: float | str | Path | None = None,
    rule: str = "",
    far: float | None = None,
    cls: str = "",
    maps: bool = False,
    weights: str | Path | None = None,
    device: str = "auto",
    quiet: bool = True,
) -> pd.DataFrame:
    """Score images by the model that a record kept, as `bench predict` does, and return a row an image.

    Args:
        record: a record's file, or a folder with one record whose model was kept.
        images: files, or folders with their subfolders.
        threshold: scores above it are anomalous: a number, or a file of `bench export threshold`.
        rule: threshold of the record by a rule: q0.95, q0.99, q0.999, max or mean+3sd.
        far: threshold above which so large a share of normal images is expected at most; of a record with thresholds
            0.05 where none of the three is given.
        cls: class of the images: its own threshold, and for methods that need to know it.
        maps: whether maps are returned; all are in memory then.
        weights: folder of safetensors files; None for that of BENCH_WEIGHTS.
        device: auto, cpu, cuda or cuda:N.
        quiet: whether nothing is told on the way; else progress goes to stderr.

    Returns:
        `image` (path), `score` (float64, higher is more anomalous, missing where there is none), `trouble` (why there
        is none, else empty); with a threshold `verdict` (anomalous, normal, unreadable); with maps `map` (float32
        [S, S] of the network's input; None of a method that makes none).

    Raises:
        UsageError: an image, a folder or a class is not there, or several records kept a model.
        StoreError, WeightsError: the model or its encoder's weights cannot be had as they were recorded.

    Example:
        >>> import bench
        >>> how = {"encoder": "vit_tiny_patch8_128.bench", "device": "cpu"}
        >>> (record,) = bench.run("knn", "./parts", keep_model=True, results="kept", **how)
        >>> seen = bench.predict("kept", "parts/dots/test", threshold=0.5, device="cpu")
        >>> len(seen), list(seen.columns)
        (5, ['image', 'score', 'trouble', 'verdict'])
    """
    import pandas as pd

    from bench.machine import devices
    from bench.machine.terminal import TerminalProgress
    from bench.prediction.loose_images import gather
    from bench.prediction.threshold import chosen
    from bench.store import record as records
    from bench.store.folder import with_model

    devices.check(device)
    places = [images] if isinstance(images, (str, Path)) else images
    groups = gather([expanded(str(place)) for place in places])
    path = with_model(expanded(str(record)))
    text = "" if threshold is None else str(threshold)
    limit = chosen(records.read(path), path, text=text, rule=rule, far=far, cls=cls)
    progress = TerminalProgress.of(quiet)

    from bench.prediction import predictor

    model = predictor.model_of(path, None if weights is None else expanded(str(weights)), devices.choose(device))
    found = []
    with progress.phase("predict", sum(len(group.files) for group in groups)) as advance:
        for seen in predictor.predict(model, groups, cls=cls, maps=maps, say=progress.say):
            found.append(seen)
            advance(1, seen.path.name)
    columns: dict[str, Any] = {
        "image": pd.array([str(seen.path) for seen in found], dtype="string"),
        "score": pd.array([seen.score for seen in found], dtype="float64"),
        "trouble": pd.array([seen.trouble for seen in found], dtype="string"),
    }
    if limit is not None:
        verdicts = [predictor.verdict(seen.score, limit.value) for seen in found]
        columns["verdict"] = pd.array(verdicts, dtype="string")
    if maps:
        columns["map"] = pd.Series([seen.map for seen in found], dtype=object)
    return pd.DataFrame(columns)


def score(
    method: str,
    dataset: str | Path,
    *,
    maps: str | Path | None = None,
    scores: str | Path | None = None,
    image_score: str = "max",
    map_size: int | None = None,
    data_root: Roots = None,
    classes: Names = (),
    setting: str = "multi",
    splits: Names = (),
    seed: int = 0,
    encoder: str = "not stated",
    facts: Mapping[str, object] | None = None,
    metrics: Names = (),
    results: str | Path = "results/runs",
    quiet: bool = True,
) -> list[Record]:
    """Score anomaly maps and image scores of another program as `bench score` does, and return their records.

    Args:
        method: what to call it in tables; no name of bench's own.
        dataset: a dataset's name, or a folder of one's own images: `"./parts"`, or a path.
        maps: folder of anomaly maps, or one npz.
        scores: CSV of image scores with columns id and score.
        image_score: without `scores`, the image score from the map at 256x256: max, top1% or pool16-max.
        map_size: maps are of this side and cover the whole image; 1 to 8192.
        data_root: folder of the data, or a folder a dataset.
        classes: only these; empty for all.
        setting: how it was trained: multi or single.
        splits: half-split of a semantic set.
        seed: its seed, at least 0.
        encoder: what it looks through, in one's own words.
        facts: about it, which the record keeps.
        metrics: measured beside the protocol's own.
        results: where the record goes.
        quiet: whether nothing is told on the way; else progress goes to stderr.

    Returns:
        A record for each model that the setting makes of the dataset.

    Raises:
        UsageError: a name that cannot be, nothing to score, or maps and scores that do not fit the test images.
        DatasetError: the dataset is missing or incomplete.
        StoreError: a record cannot be written.

    Example:
        >>> import bench
        >>> (record,) = bench.score("mine", "folder", data_root="parts", maps="maps", facts={"epochs": 100})
        >>> record.cell.method, record.status, record.config
        ('mine', 'done', {'epochs': '100'})
    """
    from bench import own
    from bench.external import cell
    from bench.machine.terminal import TerminalProgress

    given = str(dataset.absolute()) if isinstance(dataset, Path) else dataset
    name, roots = own.only(given, data_roots(data_root))

    request = cell.ScoreRequest(
        method=method,
        dataset=name,
        maps=None if maps is None else expanded(str(maps)),
        scores=None if scores is None else expanded(str(scores)),
        results=expanded(str(results)),
        setting=setting,
        seed=seed,
        classes=names(classes),
        splits=names(splits),
        map_size=map_size,
        image_score=image_score,
        encoder=encoder,
        facts={name: str(value) for name, value in (facts or {}).items()},
        data_roots=roots,
        command=tuple(sys.argv),
        metrics=names(metrics),
    )
    return cell.score(request, TerminalProgress.of(quiet))
