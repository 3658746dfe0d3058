"""Writing of a submission: kept models look at the unlabelled images, and their maps become the server's files."""

from __future__ import annotations

import gzip
import tarfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
import tifffile
from PIL import Image

from bench import regular
from bench.api import Dataset, Sample
from bench.errors import StoreError, UsageError
from bench.files import atomic
from bench.loading.decoding import peek_size
from bench.loading.masks import to_evaluation
from bench.loading.own_size import to_own_size
from bench.machine.progress import Progress
from bench.metrics import evaluate_class
from bench.prediction import predictor
from bench.prediction.loose_images import ImageGroup
from bench.prediction.predictor import Model
from bench.registry import did_you_mean
from bench.submission.layout import BINARY, MAPS, path_in

RULE = "q0.999"
"""Of pixels: above it a pixel is anomalous, where nobody says more."""
ROUNDED = ("pixel/ap", "pixel/aupro@0.05")
"""What is measured before and after maps are rounded to float16."""


@dataclass(frozen=True, slots=True)
class Rounding:
    """What float16 does to a class's public test maps, at the evaluation size."""

    values: int
    """Different scores of its pixels."""
    rounded: int
    """Of which so many are still different in float16."""
    change: Mapping[str, float | None]
    """Metric -> what it moves by; None where it is undefined."""


def thresholds(model: Model, path: Path, classes: Sequence[str], rule: str) -> dict[str, float]:
    """Return a model's pixel threshold of some classes, set on normal images that it was not trained on.

    Raises:
        UsageError: the record has none, or none by that rule.
    """
    calibration = model.record.calibration
    if calibration is None:
        raise UsageError(
            f"{path} has no thresholds, which the binary maps need. bench run --calibrate 0.1 --keep-model sets them, "
            "on the validation images where the dataset has some"
        )
    found = {}
    for cls in classes:
        rules = calibration.classes[cls].pixel
        if rule not in rules:
            raise UsageError(f"--rule '{rule}'.{did_you_mean(rule, rules)} {cls} has: {', '.join(rules) or 'none'}")
        found[cls] = rules[rule].threshold
    return found


def check_whole(model: Model, path: Path) -> None:
    """Refuse models whose maps leave a part of the image out, or that make none. Raises UsageError."""
    if model.protocol.crop != 1:
        raise UsageError(
            f"{path}: the protocol {model.protocol.name} crops images, and the server wants every pixel scored. "
            "Expected a record of the protocol common"
        )
    if model.record.is_mapless:
        raise UsageError(f"{path}: {model.method.name} gives image scores alone, and a submission is made of maps")


def write(
    model: Model, images: Mapping[str, Sequence[Sample]], limits: Mapping[str, float], out: Path, progress: Progress
) -> None:
    """Write the maps of some classes' unlabelled images; memory is bounded by a batch.

    Args:
        model: kept by a run.
        images: class -> its unlabelled samples.
        limits: class -> the score above which a pixel is anomalous.
        out: folder of the submission.
        progress: told of each image.

    Raises:
        DatasetError: an image cannot be read.
        StoreError: a map is beyond what float16 holds.
    """
    with progress.phase("score", sum(map(len, images.values()))) as advance:
        for cls, samples in images.items():
            group = ImageGroup(samples[0].image.parent, tuple(sample.image for sample in samples))
            found = predictor.predict(model, [group], cls=cls, maps=True, say=progress.say)
            for sample, seen in zip(samples, found, strict=True):
                if seen.map is None:
                    raise StoreError(f"{sample.image}: {seen.trouble}. A submission without it would be refused")
                _write_one(seen.map, sample, limits[cls], out)
                advance(1, sample.id)


def _write_one(anomaly: npt.NDArray[np.float32], sample: Sample, limit: float, out: Path) -> None:
    scores = to_own_size(anomaly, peek_size(sample.image))
    with np.errstate(over="ignore"):
        small = scores.astype(np.float16)
    if not np.isfinite(small).all():
        raise StoreError(
            f"{sample.id}: scores up to {np.abs(scores).max():.6g}. Expected at most 65504, where float16 ends, which "
            "is what the server takes"
        )
    for kind in (MAPS, BINARY):
        (out / path_in(kind, sample)).parent.mkdir(parents=True, exist_ok=True)
    tifffile.imwrite(out / path_in(MAPS, sample), small, metadata=None, compression=None)
    Image.fromarray((scores > limit).astype(np.uint8) * 255, "L").save(out / path_in(BINARY, sample))


def rounding(model: Model, dataset: Dataset, cls: str) -> Rounding:
    """Measure what float16 does to the maps of a class's public test images."""
    samples = [sample for sample in dataset.samples() if sample.cls == cls and sample.split == "test"]
    group = ImageGroup(dataset.root, tuple(sample.image for sample in samples))
    maps = np.stack(
        [seen.map for seen in predictor.predict(model, [group], cls=cls, maps=True) if seen.map is not None]
    )
    masks = np.stack([to_evaluation(dataset.read_mask(one), model.protocol, model.input_size) for one in samples])
    small = maps.astype(np.float16)
    before, after = (evaluate_class(one, masks, metrics=ROUNDED) for one in (maps, small))
    change = {}
    for metric in ROUNDED:
        old, new = before[metric], after[metric]
        change[metric] = None if old is None or new is None else new - old
    return Rounding(len(np.unique(maps)), len(np.unique(small)), change)


def archive(folder: Path, out: Path) -> int:
    """Write a folder as a tar.gz, the same bytes for the same files, and return its size in bytes."""
    with (
        atomic(out) as raw,
        gzip.GzipFile("", "wb", 1, raw, mtime=0) as packed,
        tarfile.TarFile(fileobj=packed, mode="w") as tar,
    ):
        for kind in (MAPS, BINARY):
            for path in sorted((folder / kind).rglob("*")):
                member = tar.gettarinfo(path, path.relative_to(folder).as_posix())
                member.mtime, member.uid, member.gid, member.uname, member.gname = 0, 0, 0, "", ""
                if path.is_file():
                    with regular.opened(path) as file:
                        tar.addfile(member, file)
    return out.stat().st_size
