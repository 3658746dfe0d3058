"""Dataset verification: files against the card and against each other (`bench data verify`).

Nothing here stops at the first defect. A dataset that can be read tolerantly says so by an `inspect` method; of one
that cannot, the first DatasetError of `samples` becomes the one finding.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Protocol, runtime_checkable

from bench.api import Counts, Dataset, Finding, Sample, Verification, by_class
from bench.curate.twins import digest, twins
from bench.errors import DatasetError
from bench.loading import images, masks
from bench.loading.images import PLAIN, Traits
from bench.loading.masks import AlphaError, Mask, MaskTraits, fits
from bench.loading.surprises import Surprises
from bench.machine.threads import cores


@runtime_checkable
class Inspectable(Protocol):
    """A dataset whose index can be read although something is wrong with it."""

    def inspect(self) -> tuple[tuple[Sample, ...], tuple[Finding, ...]]:
        """Return every sample that can be made out, and every defect of the layout."""
        ...


@runtime_checkable
class WithNormalMasks(Protocol):
    """A dataset that has masks of normal images, which a run does not read."""

    normal_masks: Mapping[str, tuple[Path, ...]]
    """Sample id -> mask files; filled by `inspect`."""


@dataclass(frozen=True, slots=True)
class _Look:
    """What decoding one sample gave."""

    digest: str
    """SHA-256 over the decoded pixels; empty where the image cannot be read."""
    findings: tuple[Finding, ...]
    traits: Traits = PLAIN
    masks: tuple[tuple[Path, MaskTraits], ...] = ()
    empty: bool = False
    """Whether the sample is anomalous and its masks, all of them read, mark nothing."""


def verify(
    dataset: Dataset, progress: Callable[[int, int], None] = lambda done, total: None, workers: int | None = None
) -> Verification:
    """Decode every image and mask and report every defect.

    Kinds of findings: see `bench.api.Finding`. A `duplicate` is the same pixels in two splits, or under two labels; in
    a semantic set, where a class is what is told apart, in two classes, too.

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
    normal_masks = dataset.normal_masks if isinstance(dataset, WithNormalMasks) else {}
    surprises = Surprises(dataset.root)
    looks: list[_Look] = []
    pool = ThreadPoolExecutor(workers or min(8, cores()))
    try:
        # each file is read once: what decoding shows is passed on from here, in the samples' order
        for sample, look in zip(
            samples, pool.map(lambda one: _look(dataset, one, normal_masks.get(one.id, ())), samples), strict=True
        ):
            surprises.image(sample, look.traits)
            for path, traits in look.masks:
                surprises.mask(sample, path, traits)
            if look.empty:
                surprises.empty(sample)
            looks.append(replace(look, masks=()))
            progress(len(looks), len(samples))
    finally:
        pool.shutdown(cancel_futures=True)
    # what is wrong with a file of many images is told once
    findings += dict.fromkeys(finding for look in looks for finding in look.findings)
    findings += surprises.findings()
    findings += _duplicates(dataset, zip(samples, (look.digest for look in looks), strict=True))
    order = {cls: rank for rank, cls in enumerate(expected)}
    findings.sort(key=lambda finding: (order.get(finding.cls, -1), finding.where, finding.kind))
    return Verification(seen={cls: seen[cls] for cls in expected if cls in seen}, findings=tuple(findings))


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
    unlabelled = sum(split == "unlabelled" for split, _ in kinds)
    train = sum(split == "train" for split, _ in kinds)
    return Counts(train, kinds.count(("test", 0)), kinds.count(("test", 1)), val, unlabelled)


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
            ("unlabelled images", found.unlabelled, expected.unlabelled),
        ):
            if have != want:
                text = f"{cls}: {have} {what}. Expected {want}, as published"
                findings.append(Finding(cls, "count", cls, text, stops=False))
    return findings


def _sum(counts: Iterable[Counts]) -> Counts:
    columns = zip(*((one.train, one.good, one.bad, one.val) for one in counts), strict=True)
    return Counts(*(sum(column) for column in columns))


def _look(dataset: Dataset, sample: Sample, normal_masks: Sequence[Path]) -> _Look:
    try:
        own = dataset.reads_images_itself
        image = dataset.read_image(sample) if own else images.read_rgb(sample.image, sums=True)
    except DatasetError as error:
        return _Look("", (_finding(dataset, sample, sample.image, "unreadable", _short(error)),))
    findings: list[Finding] = []
    drawn: list[tuple[Path, MaskTraits]] = []
    # what an unreadable mask holds is unknown, so it is not called empty as well
    marked = False
    for path, found in _masks(dataset, sample):
        if isinstance(found, DatasetError):
            kind = "mask-alpha" if isinstance(found, AlphaError) else "unreadable"
            findings.append(_finding(dataset, sample, path, kind, _short(found)))
            marked = True
            continue
        mask, of_mask = found
        marked = marked or bool(mask.any())
        if not fits(mask.shape, (image.height, image.width), sample.scaled_masks):
            height, width = mask.shape
            text = f"{path}: {width}x{height} pixels. Expected {image.width}x{image.height}, as {sample.image}"
            findings.append(_finding(dataset, sample, path, "mask-size", text))
        elif of_mask is not None:
            drawn.append((path, of_mask))
    findings += _marks_of_normal(dataset, sample, normal_masks)
    empty = bool(sample.label and sample.masks and not marked)
    return _Look(digest(image), tuple(findings), images.traits(image), tuple(drawn), empty)


def _masks(dataset: Dataset, sample: Sample) -> Iterator[tuple[Path, tuple[Mask, MaskTraits | None] | DatasetError]]:
    """Yield what each mask file of a sample holds, or why it cannot be read."""
    if type(dataset).read_mask is Dataset.read_mask:
        for path in sample.masks:
            try:
                yield path, masks.look(path, sums=True)
            except DatasetError as error:
                yield path, error
    elif sample.masks:  # a dataset with a reader of its own, of which only the result can be looked at
        try:
            yield sample.masks[0], (dataset.read_mask(sample), None)
        except DatasetError as error:
            yield sample.masks[0], error


def _marks_of_normal(dataset: Dataset, sample: Sample, files: Sequence[Path]) -> Iterator[Finding]:
    for path in files:
        try:
            share = masks.look(path)[1].share
        except DatasetError:
            continue  # nobody reads it
        if share:
            text = f"{path}: it marks {share:.1%} of {sample.image}, which is normal by its folder or list"
            text += ". Expected all zero, or the image among the anomalous ones"
            yield _finding(dataset, sample, path, "normal-mask", text, stops=False)


def _finding(dataset: Dataset, sample: Sample, path: Path, kind: str, text: str, stops: bool = True) -> Finding:
    return Finding(sample.cls, kind, _relative(path, dataset.root), text, stops)


def _duplicates(dataset: Dataset, looked: Iterable[tuple[Sample, str]]) -> list[Finding]:
    return [
        Finding(
            twin.sample.cls,
            "duplicate",
            _relative(twin.sample.image, dataset.root),
            f"{twin.sample.id} shows the same pixels as {twin.other.id}: {twin.why}. Expected different images",
            stops=False,
        )
        for twin in twins(looked, semantic=dataset.card.kind == "semantic")
    ]


def _relative(path: Path, root: Path) -> str:
    return path.relative_to(root).as_posix() if path.is_relative_to(root) else path.as_posix()


def _short(error: DatasetError) -> str:
    """Leave out the hint to run the very command that is running."""
    return re.split(r" (?:List every such file|List all|Check) with: bench data verify", str(error))[0]
