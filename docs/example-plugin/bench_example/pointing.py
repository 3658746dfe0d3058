"""The pointing game: does the highest pixel of an anomalous image's map lie on the defect?

Zhang et al., Top-down Neural Attention by Excitation Backprop, ECCV 2016, with defects for objects.
"""

from __future__ import annotations

import numpy as np

from bench.metrics import Evidence, Metric, Undefined, Whole


class Pointing(Metric):
    """Share of the anomalous images whose highest pixel lies on the defect."""

    id = "pixel/pointing"
    heading = "Pointing"
    definition = "share of the images with a mask whose highest pixels, all where several tie, lie in the mask"
    undefined = "without an anomalous pixel"
    source = "Zhang et al., Top-down Neural Attention by Excitation Backprop, ECCV 2016"
    needs = "scores"  # of single images: ranks over the whole class do not tell

    def compute(self, evidence: Evidence) -> float:
        """Return the share of hits among the images with a mask."""
        data = evidence.whole
        shown = data.truth.any(axis=(1, 2))
        if not shown.any():
            raise Undefined("no anomalous pixel")
        maps, masks = data.scores[shown], data.truth[shown]
        highest = maps == maps.max(axis=(1, 2), keepdims=True)
        return float(np.mean(~(highest & ~masks).any(axis=(1, 2))))

    def oracle(self, data: Whole) -> float | None:
        """Look at one image after the other."""
        hits = []
        for scores, mask in zip(data.scores, data.truth, strict=True):
            if mask.any():
                peak = scores.max()
                hits.append(all(mask[place] for place in zip(*np.nonzero(scores == peak), strict=True)))
        return sum(hits) / len(hits) if hits else None
