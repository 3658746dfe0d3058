"""Checking a dataset's files against its card and against each other: what `bench data verify` runs.

Nothing here stops at the first defect. A dataset that can be read tolerantly says so by an `inspect` method; of one
that cannot, the first DatasetError of `samples` becomes the one finding.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol, runtime_checkable

from bench.api import Counts, Dataset, Finding, Report, Sample, by_class
from bench.errors import DatasetError
from bench.loading.images import opened
from bench.loading.masks import read_mask_file
from bench.machine.threads import cores


@runtime_checkable
class Inspectable(Protocol):
    """A dataset whose index can be read although something is wrong with it."""

    def inspect(self) -> tuple[tuple[Sample, ...], tuple[Finding, ...]]:
        """Return every sample that can be made out, and every defect of the layout."""
        ...


@dataclass(frozen=True, slots=True)
class _Look:
    """What decoding one sample gave."""

    digest: str
    """SHA-256 over the decoded pixels; empty where the image cannot be read."""
    findings: tuple[Finding, ...]


def verify(
    dataset: Dataset, progress: Callable[[int, int], None] = lambda done, total: None, workers: int | None = None
) -> Report:
    """Decode every image and mask and report every defect.

    Findings are of kind `layout`, `name`, `count`, `unreadable`, `missing-mask`, `orphan-mask`, `empty-mask`,
    `mask-size`, `duplicate-id` and `duplicate` (the same pixels in two splits, or under two labels; in a semantic set,
    where a class is what is told apart, in two classes, too).

    Args:
        dataset: located, not necessarily intact.
        progress: called as progress(done, total) after each image, from the calling thread.
        workers: decoding threads; by default one a core, at most eight.

    Returns:
        Counts seen by class, and findings ordered by class and file.
    """
    samples, findings = _index(dataset)
    expected = list(dict.fromkeys([*dataset.card.classes, *(sample.cls for sample in samples)]))
    seen = {cls: _count(found) for cls, found in by_class(samples).items()}
    findings += _check_counts(dataset, seen)
    looks: list[_Look] = []
    pool = ThreadPoolExecutor(workers or min(8, cores()))
    try:
        for look in pool.map(lambda sample: _look(dataset, sample), samples):
            looks.append(look)
            progress(len(looks), len(samples))
    finally:
        pool.shutdown(cancel_futures=True)
    # what is wrong with a file of many images is told once
    findings += dict.fromkeys(finding for look in looks for finding in look.findings)
    findings += _duplicates(dataset, zip(samples, looks, strict=True))
    order = {cls: rank for rank, cls in enumerate(expected)}
    findings.sort(key=lambda finding: (order.get(finding.cls, -1), finding.where, finding.kind))
    return Report(seen={cls: seen[cls] for cls in expected if cls in seen}, findings=tuple(findings))


def _index(dataset: Dataset) -> tuple[Sequence[Sample], list[Finding]]:
    if isinstance(dataset, Inspectable):
        samples, findings = dataset.inspect()
        return samples, list(findings)
    try:
        return dataset.samples(), []
    except DatasetError as error:
        return (), [Finding("", "layout", ".", str(error))]


def _count(samples: Iterable[Sample]) -> Counts:
    kinds = [(sample.split, sample.label) for sample in samples]
    val = sum(split == "val" for split, _ in kinds)
    return Counts(kinds.count(("train", 0)), kinds.count(("test", 0)), kinds.count(("test", 1)), val)


def _check_counts(dataset: Dataset, seen: dict[str, Counts]) -> list[Finding]:
    findings = []
    card = dataset.card
    test = "test images" if card.kind == "semantic" else "normal test images"
    pairs = [(cls, found, card.counts.get(cls, found)) for cls, found in seen.items()]
    # some of the classes have no stated total
    if card.totals is not None and set(card.classes) <= set(seen):
        pairs.append(("all classes", _sum(seen.values()), card.totals))
    for cls, found, expected in pairs:
        for what, have, want in (
            ("training images", found.train, expected.train),
            (test, found.good, expected.good),
            ("anomalous test images", found.bad, expected.bad),
            ("validation images", found.val, expected.val),
        ):
            if have != want:
                findings.append(Finding(cls, "count", cls, f"{cls}: {have} {what}. Expected {want}, as published"))
    return findings


def _sum(counts: Iterable[Counts]) -> Counts:
    columns = zip(*((one.train, one.good, one.bad, one.val) for one in counts), strict=True)
    return Counts(*(sum(column) for column in columns))


def _look(dataset: Dataset, sample: Sample) -> _Look:
    findings: list[Finding] = []

    def find(kind: str, path: Path, text: str) -> None:
        findings.append(Finding(sample.cls, kind, _relative(path, dataset.root), text))

    try:
        image = dataset.read_image(sample)
        if not sample.member:
            _check_sums(sample.image)
    except DatasetError as error:
        find("unreadable", sample.image, _short(error))
        return _Look("", tuple(findings))
    marked = False
    for path in sample.masks:
        try:
            _check_sums(path)
            mask = read_mask_file(path)
        except DatasetError as error:
            find("unreadable", path, _short(error))
            marked = True  # what an unreadable mask holds is unknown, so it is not called empty as well
            continue
        if mask.shape != (image.height, image.width):
            height, width = mask.shape
            text = f"{path}: {width}x{height} pixels. Expected {image.width}x{image.height}, as {sample.image}"
            find("mask-size", path, text)
        marked = marked or bool(mask.any())
    if sample.label and sample.masks and not marked:
        find("empty-mask", sample.masks[0], f"{sample.masks[0]}: all zero. Expected the defect of {sample.image} in it")
    digest = hashlib.sha256(f"{image.size}".encode())
    digest.update(image.tobytes())
    return _Look(digest.hexdigest(), tuple(findings))


def _check_sums(path: Path) -> None:
    """Check a PNG's chunk checksums, which decoding skips, so that a flipped bit shows. Other formats have none."""
    with opened(path) as image:
        if image.format == "PNG":
            image.verify()


def _duplicates(dataset: Dataset, looked: Iterable[tuple[Sample, _Look]]) -> list[Finding]:
    # of images that are the same in all that counts the first stands for all, or a thousand black ones take a million
    # comparisons
    first: dict[str, dict[tuple[str, int, str], Sample]] = {}
    semantic = dataset.card.kind == "semantic"
    findings = []
    for sample, look in looked:
        if not look.digest:
            continue
        twins = first.setdefault(look.digest, {})
        for twin in twins.values():
            if twin.split != sample.split:
                why = f"in both {twin.split} and {sample.split}"
            elif twin.label != sample.label:
                why = "called both normal and anomalous"
            elif semantic and twin.cls != sample.cls:
                why = f"called both {twin.cls} and {sample.cls}"
            else:
                continue
            text = f"{sample.id} shows the same pixels as {twin.id}: {why}. Expected different images"
            findings.append(Finding(sample.cls, "duplicate", _relative(sample.image, dataset.root), text))
            break
        twins.setdefault((sample.split, sample.label, sample.cls), sample)
    return findings


def _relative(path: Path, root: Path) -> str:
    return path.relative_to(root).as_posix() if path.is_relative_to(root) else path.as_posix()


def _short(error: DatasetError) -> str:
    """Leave out the hint to run the very command that is running."""
    return re.split(r" (?:List every such file|List all|Check) with: bench data verify", str(error))[0]
