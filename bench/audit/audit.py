"""The whole audit of a dataset, class by class, so that memory is that of one class."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace

import torch

from bench.api import Dataset, Sample, by_class
from bench.audit import copies
from bench.audit import records as recorded
from bench.audit.dispute import BY_DATA, KINDS, Dispute
from bench.curate import cues
from bench.errors import UsageError
from bench.loading.masks import to_evaluation
from bench.protocol import COMMON
from bench.store.evidence import EvidenceFiles
from bench.store.record import Record


@dataclass(frozen=True, slots=True)
class Audited:
    """What is audited.

    Attributes:
        dataset: located and intact.
        classes: only these; empty for all.
        size: side in pixels at which masks are evaluated, by the rules of the common protocol.
        records: of this dataset, finished.
        evidence: finds the files beside them.
        device: where features are computed.
    """

    dataset: Dataset
    classes: Sequence[str]
    size: int
    records: Sequence[Record]
    evidence: EvidenceFiles
    device: torch.device


@dataclass(frozen=True, slots=True)
class Audit:
    """What was found."""

    disputes: tuple[Dispute, ...]
    """By kind, class and image."""
    scores: tuple[recorded.MethodScores, ...]
    notes: tuple[str, ...]
    """What could not be looked at, and why, a sentence each."""

    def images(self, *kinds: str) -> frozenset[str]:
        """Return the images that are disputed by some kinds of findings."""
        return frozenset(one.image for one in self.disputes if one.kind in kinds and one.image)


def audit(asked: Audited, progress: Callable[[int, int], None] = lambda done, total: None) -> Audit:
    """Audit a dataset.

    Args:
        asked: what and by what.
        progress: called as progress(done, total) after each batch of images.

    Raises:
        UsageError: a class that the dataset does not have.
        DatasetError: an image or a mask cannot be read.
    """
    dataset = asked.dataset
    found = by_class([sample for sample in dataset.samples() if sample.split in ("train", "test")])
    for cls in asked.classes:
        if cls not in found:
            raise UsageError(f"--classes: {dataset.card.name} has no '{cls}' here. It has: {', '.join(found)}")
    groups = {cls: own for cls, own in found.items() if not asked.classes or cls in asked.classes}
    notes: list[str] = []
    disputes = list(_of_images(asked, groups, notes, progress))
    tested = [sample for own in groups.values() for sample in own if sample.split == "test"]
    known, left = recorded.kept(asked.records, asked.evidence, tested)
    notes += [f"left out {one}" for one in left]
    if len({one.method for one in known}) < recorded.METHODS:
        notes.append(f"what every method gets wrong takes records of {recorded.METHODS} methods or more (--results)")
    for cls in groups:
        disputes += recorded.always_wrong(known, cls)
    order = {kind: place for place, kind in enumerate(KINDS)}
    disputes.sort(key=lambda one: (order[one.kind], list(groups).index(one.cls), one.image))
    made = Audit(tuple(disputes), (), tuple(notes))
    rows = recorded.scores(known, made.images(*BY_DATA), made.images("wrong"))
    return Audit(made.disputes, tuple(rows), made.notes)


def _of_images(
    asked: Audited, groups: dict[str, list[Sample]], notes: list[str], progress: Callable[[int, int], None]
) -> Iterator[Dispute]:
    looker, done, total = copies.Looker(asked.device), 0, sum(map(len, groups.values()))

    def more(count: int) -> None:
        nonlocal done
        done += count
        progress(done, total)

    few = []
    name, semantic = asked.dataset.card.name, asked.dataset.card.kind == "semantic"
    if semantic:
        notes.append(f"no cues: {name}: its images are normal or not only by the split that is chosen")
    for cls, samples in groups.items():
        seen = looker.look(asked.dataset, samples, more)
        yield from copies.twins(seen)
        yield from copies.near(seen)
        if sum(sample.split == "train" for sample in samples) < copies.FEWEST:
            few.append(cls)
        yield from _vanished(asked, samples)
        if not semantic and cues.complete(samples):
            yield from _cues(cls, seen)
    if few:
        reason = f"fewer than {copies.FEWEST} training images say nothing about how near they usually are"
        notes.append(f"no near copies looked for in {', '.join(few)}: {reason}")


def _vanished(asked: Audited, samples: Sequence[Sample]) -> Iterator[Dispute]:
    size, rules = asked.size, replace(COMMON, eval_size=asked.size)
    for sample in samples:
        if not (sample.split == "test" and sample.label and sample.masks):
            continue
        mask = asked.dataset.read_mask(sample)
        if not to_evaluation(mask, rules, size).any():
            area = int(mask.sum())
            text = f"{area} of {mask.size:,} pixels in its mask, none at {size}x{size}"
            yield Dispute("vanished", sample.cls, sample.id, text)


def _cues(cls: str, seen: copies.Looks) -> Iterator[Dispute]:
    for cue in cues.separate(cls, seen.samples, seen.plain):
        if cue.strong:
            text = (
                f"{cue.name}: AUROC {100 * cue.auroc:.1f}, of its distance from training {100 * cue.distance_auroc:.1f}"
            )
            yield Dispute("cue", cue.cls, "", text)
