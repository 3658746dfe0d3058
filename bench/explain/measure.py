"""A record's numbers measured again from its kept maps, by other rules than its own."""

from __future__ import annotations

from dataclasses import replace
from statistics import fmean
from typing import Any

import numpy as np
import numpy.typing as npt
from PIL import Image

from bench.errors import UsageError
from bench.explain.ladder import contributions
from bench.explain.rules import OWN_SCORE, Rules, changed, mixed
from bench.loading.masks import Mask, to_evaluation
from bench.machine.progress import Progress
from bench.metrics import evaluate_class
from bench.metrics.image_scores import IMAGE_SCORES
from bench.store.evidence import EvidenceFiles, protocol_of
from bench.store.explained import Explanation, RuleStep
from bench.store.record import Record


class Measured:
    """The maps, masks and image scores of a record's classes, and metrics of them by any rules."""

    def __init__(self, record: Record, evidence: EvidenceFiles, progress: Progress) -> None:
        """Read nothing but the scores by image yet.

        Raises:
            Lacking: these are not beside the record.
        """
        self._record, self._evidence, self._progress = record, evidence, progress
        self._images = {cls: evidence.images(record)[cls] for cls in record.scores}
        self._native: dict[str, list[Mask | None]] = {}
        self._known: dict[tuple[Rules, str], float] = {}

    def explain(
        self, metric: str, theirs: Rules, variant: str, published: tuple[float | None, str] = (None, "")
    ) -> Explanation:
        """Return the ladder of one metric.

        Args:
            metric: an id that the record holds.
            theirs: the other recipe.
            variant: the id by which it computes the metric; empty where that is not known.
            published: the number to reach, a fraction, and where it stands.

        Raises:
            Lacking: maps or masks that a rule needs are not at hand.
            UsageError: the metric has no value by some of the rules.
        """
        ours = Rules.of(protocol_of(self._record))
        differing = changed(ours, theirs, metric, variant)

        def value(some: frozenset[str]) -> float:
            return self.mean(mixed(ours, theirs, some), variant if "metric" in some else metric)

        parts = contributions(list(differing), value)
        steps = tuple(
            RuleStep(rule=rule, ours=differing[rule][0], theirs=differing[rule][1], moved=moved)
            for rule, moved in parts.items()
        )
        return Explanation(
            metric=metric,
            classes=tuple(self._images),
            ours=value(frozenset()),
            steps=steps,
            reached=value(frozenset(differing)),
            published=published[0],
            where=published[1],
        )

    def mean(self, rules: Rules, metric: str) -> float:
        """Return a metric's mean over the classes by some rules, a fraction. Raises as `explain`."""
        if metric.startswith("image/") and rules.image_score == OWN_SCORE:
            # the map plays no part then: the same number, measured once
            rules = replace(rules, crop=1.0, mask_rule=rules.mask_rule if rules.label_rule == "mask" else "area")
        if (rules, metric) not in self._known:
            with self._progress.phase(f"{metric}", len(self._images)) as advance:
                values = []
                for cls in self._images:
                    values.append(self._value(cls, rules, metric))
                    advance(1, cls)
            self._known[rules, metric] = fmean(values)
        return self._known[rules, metric]

    def _value(self, cls: str, rules: Rules, metric: str) -> float:
        images = self._images[cls]
        pixel = metric.startswith("pixel/")
        masks = self._masks(cls, rules) if pixel or rules.label_rule == "mask" else None
        labels = images.labels & masks.any(axis=(1, 2)) if masks is not None and rules.label_rule == "mask" else None
        labels = images.labels if labels is None else labels
        scores: npt.NDArray[Any] = images.scores
        maps = self._maps(cls, rules) if pixel or rules.image_score != OWN_SCORE else None
        if maps is not None and rules.image_score != OWN_SCORE:
            scores = np.asarray(IMAGE_SCORES[rules.image_score](maps), np.float64)
        found = evaluate_class(maps if pixel else None, masks if pixel else None, scores, labels, metrics=[metric])
        value = found[metric]
        if value is None:
            raise UsageError(f"{metric} of {cls} has no value by these rules: {found.reasons[metric]}")
        return value

    def _maps(self, cls: str, rules: Rules) -> npt.NDArray[Any]:
        maps = self._evidence.maps(self._record, cls)
        kept = protocol_of(self._record).crop
        if rules.crop == kept and rules.eval_size == maps.shape[1]:
            return np.asarray(maps)
        if rules.crop > kept:
            raise UsageError(f"the maps show the centre {kept:.4g} of the image. Expected maps of all of it")
        return np.stack([_cropped(one, rules.crop / kept, rules.eval_size) for one in maps])

    def _masks(self, cls: str, rules: Rules) -> npt.NDArray[np.bool_]:
        if cls not in self._native:
            images = self._images[cls]
            dataset, samples = self._evidence.samples(self._record, images.ids)
            self._native[cls] = [
                dataset.read_mask(sample) if anomalous else None
                for sample, anomalous in zip(samples, images.labels, strict=True)
            ]
        size = rules.eval_size
        masks = np.zeros((len(self._native[cls]), size, size), dtype=np.bool_)
        for place, mask in enumerate(self._native[cls]):
            if mask is not None:
                masks[place] = to_evaluation(mask, rules.protocol(), self._record.input_size)
        return masks


def _cropped(one: npt.NDArray[Any], share: float, size: int) -> npt.NDArray[np.float32]:
    """Return the centre of a map at another size, bilinear; float32."""
    side = one.shape[0]
    edge = side * (1 - share) / 2
    picture = Image.fromarray(np.asarray(one, np.float32))
    box = (edge, edge, side - edge, side - edge)
    return np.asarray(picture.resize((size, size), Image.Resampling.BILINEAR, box=box))
