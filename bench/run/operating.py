"""Operating points: what thresholds, set before the test images were seen, find in them and raise false alarms at."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from fractions import Fraction
from typing import Any

import numpy as np
import numpy.typing as npt

from bench.metrics import Ranks, find_regions, rank
from bench.metrics.ranks import f1_max
from bench.store.calibration import Hindsight, ImagePoint, OperatingPoints, PixelPoint, Share

SIZES = {"<0.1%": 0.001, "0.1-1%": 0.01, ">=1%": math.inf}
"""Sizes of regions, by the share of their image that they end below."""
RECALLS = ("0.95", "1")
ALARMS = ("0.01", "0.05")
"""Of which hindsight tells the price."""

Array = npt.NDArray[Any]


class Tally:
    """What is above some thresholds, counted class after class."""

    def __init__(self, image: Mapping[str, float], pixel: Mapping[str, float]) -> None:
        """Count nothing yet.

        Args:
            image: rule -> threshold on image scores.
            pixel: rule -> threshold on maps; empty where there are none.
        """
        self._image, self._pixel = image, pixel
        self._scores: list[Array] = []
        self._labels: list[npt.NDArray[np.bool_]] = []
        self._by_image: list[float] = []
        self._counts = {rule: np.zeros(3, dtype=np.int64) for rule in pixel}
        """Rule -> true and false positive pixels, and pixels of normal images above the threshold."""
        self._positive = self._normal = 0
        self._highest: list[Array] = []
        self._areas: list[Array] = []

    def add(
        self, maps: Array | None, truth: npt.NDArray[np.bool_] | None, scores: Array, labels: Sequence[int]
    ) -> None:
        """Count a class.

        Args:
            maps: [N, S, S]; None without maps.
            truth: [N, S, S], anomalous pixels True; None without masks.
            scores: of the images, [N].
            labels: 0 or 1, [N].
        """
        anomalous = np.asarray(labels, dtype=np.bool_)
        self._scores.append(scores)
        self._labels.append(anomalous)
        if maps is None or truth is None:
            return
        marked, normal = maps[truth], maps[~anomalous]
        self._positive += len(marked)
        self._normal += normal.size
        for rule, threshold in self._pixel.items():
            hits = int(np.count_nonzero(marked > threshold))
            alarms = int(np.count_nonzero(maps > threshold)) - hits
            self._counts[rule] += (hits, alarms, int(np.count_nonzero(normal > threshold)))
        regions = find_regions(truth)
        highest = np.full(len(regions.areas), -np.inf)
        np.maximum.at(highest, regions.index, marked)
        self._highest.append(highest)
        self._areas.append(regions.areas / truth[0].size)
        for one, mask in zip(maps, truth, strict=True):
            if mask.any():
                self._by_image.append(f1_max(rank(one.ravel(), mask.ravel(), "pixel")))

    def points(self, images: int, f1_pooled: float | None = None) -> OperatingPoints:
        """Return what was counted.

        Args:
            images: normal images that the thresholds were set on.
            f1_pooled: highest F1 of the pixels at one threshold, where it was measured.
        """
        scores, anomalous = np.concatenate(self._scores), np.concatenate(self._labels)
        image = {}
        for rule, threshold in self._image.items():
            above = scores > threshold
            image[rule] = ImagePoint(
                threshold=threshold, false_alarms=_share(above[~anomalous]), found=_share(above[anomalous])
            )
        return OperatingPoints(
            images=images,
            image=image,
            pixel={rule: self._at(rule) for rule in self._pixel} if self._highest else {},
            hindsight=Hindsight(
                **_hindsight(scores, anomalous),
                f1_pooled=f1_pooled,
                f1_by_image=sum(self._by_image) / len(self._by_image) if self._by_image else None,
            ),
        )

    def _at(self, rule: str) -> PixelPoint:
        threshold = self._pixel[rule]
        hits, alarms, normal = (int(count) for count in self._counts[rule])
        missed, areas = np.concatenate(self._highest) <= threshold, np.concatenate(self._areas)
        sizes, begin = {}, 0.0
        for size, end in SIZES.items():
            sizes[size] = _share(missed[(areas >= begin) & (areas < end)])
            begin = end
        return PixelPoint(
            threshold=threshold,
            f1=2 * hits / (hits + alarms + self._positive) if self._positive else None,
            marked=normal / self._normal if self._normal else None,
            missed=sizes,
        )


def _share(chosen: npt.NDArray[np.bool_]) -> Share:
    return Share(count=int(np.count_nonzero(chosen)), of=len(chosen))


def _hindsight(scores: Array, anomalous: npt.NDArray[np.bool_]) -> dict[str, dict[str, Share]]:
    """Return false alarms at recalls, and recalls at false alarms; empty without both kinds of images."""
    if anomalous.all() or not anomalous.any():
        return {"false_alarms_at_recall": {}, "found_at_false_alarms": {}}
    ranks: Ranks = rank(scores, anomalous, "image")
    positives, negatives = ranks.positives, ranks.negatives
    recalls = {
        recall: Share(count=ranks.alarms(math.ceil(Fraction(recall) * positives)), of=negatives) for recall in RECALLS
    }
    found = {}
    for share in ALARMS:
        within = ranks.hits[ranks.at_least <= math.floor(Fraction(share) * negatives)]
        found[share] = Share(count=int(within.max(initial=0)), of=positives)
    return {"false_alarms_at_recall": recalls, "found_at_false_alarms": found}
