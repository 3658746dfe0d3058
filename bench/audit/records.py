"""Records beside a dataset: images that every method gets wrong, and scores with and without the disputed images."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence, Set
from dataclasses import dataclass
from statistics import fmean

import numpy as np
import numpy.typing as npt

from bench.api import Sample
from bench.audit.dispute import Dispute
from bench.metrics import evaluate_class
from bench.stats import Images
from bench.store.evidence import EvidenceFiles, Lacking
from bench.store.record import Record

METHODS = 2
"""That must agree before an image is called wrong for all of them."""


@dataclass(frozen=True, slots=True)
class Kept:
    """What one record keeps of the dataset's test images."""

    method: str
    images: Mapping[str, Images]
    """By class."""


@dataclass(frozen=True, slots=True)
class MethodScores:
    """Image AUROC of a method, the mean over its records and classes; None where a class loses a label."""

    method: str
    records: int
    every: float | None
    without_data: float | None
    """Without the images that the data dispute."""
    without_all: float | None
    """Without those that every method gets wrong as well."""


def kept(records: Sequence[Record], evidence: EvidenceFiles, samples: Sequence[Sample]) -> tuple[list[Kept], list[str]]:
    """Return what records keep of these samples, and why others are left out.

    Args:
        records: of the dataset by its name.
        evidence: finds the files beside them.
        samples: test images of the dataset as it lies here.
    """
    labels = {sample.id: sample.label for sample in samples}
    found: list[Kept] = []
    left: list[str] = []
    for record in records:
        name = record.cell.file.as_posix()
        if record.cell.part:
            left.append(f"{name}: of a part of the dataset, whose labels are its own")
            continue
        try:
            images = evidence.images(record)
        except Lacking as error:
            left.append(f"{name}: {error}")
            continue
        foreign = sum(
            labels.get(one) != int(label)
            for own in images.values()
            for one, label in zip(own.ids, own.labels, strict=True)
        )
        if foreign:
            left.append(f"{name}: {foreign} of its images are not here, or have another label")
            continue
        found.append(Kept(record.cell.method, images))
    return found, left


def always_wrong(found: Sequence[Kept], cls: str) -> Iterator[Dispute]:
    """Yield a class's images that each record has on the wrong side, see `missed`; of two methods at least."""
    methods = sorted({one.method for one in found if cls in one.images})
    if len(methods) < METHODS:
        return
    wrong: dict[str, int] = {}
    total = 0
    for one in found:
        if (images := one.images.get(cls)) is None:
            continue
        total += 1
        for place in np.flatnonzero(missed(images)):
            wrong[images.ids[place]] = wrong.get(images.ids[place], 0) + 1
    for image, count in wrong.items():
        if count == total:
            yield Dispute("wrong", cls, image, f"wrong in {total} records of {', '.join(methods)}")


def missed(images: Images) -> npt.NDArray[np.bool_]:
    """Return which images lie on the wrong side of the other label's median, bool [N].

    A threshold would say nothing where a method is near chance: the best one then calls every image anomalous.
    """
    labels, scores = images.labels, images.scores
    if labels.all() or not labels.any():
        return np.zeros(len(labels), np.bool_)
    return np.where(labels, scores < np.median(scores[~labels]), scores > np.median(scores[labels]))


def scores(found: Sequence[Kept], disputed: Set[str], wrong: Set[str]) -> list[MethodScores]:
    """Return each method's image AUROC with and without some images, by the methods' names."""
    rows = []
    for method in sorted({one.method for one in found}):
        own = [one for one in found if one.method == method]
        every, by_data, by_all = (
            _mean([_over_classes(one, without) for one in own]) for without in (set(), disputed, disputed | wrong)
        )
        rows.append(MethodScores(method, len(own), every, by_data, by_all))
    return rows


def _over_classes(one: Kept, without: Set[str]) -> float | None:
    return _mean([_auroc(images, without) for images in one.images.values()])


def _auroc(images: Images, without: Set[str]) -> float | None:
    stays = np.array([image not in without for image in images.ids], np.bool_)
    labels = images.labels[stays]
    if labels.all() or not labels.any():
        return None
    return evaluate_class(None, None, images.scores[stays], labels, metrics=("image/auroc",))["image/auroc"]


def _mean(values: Sequence[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return fmean(known) if known and len(known) == len(values) else None
