"""The smallest defect that is found, of regions drawn with known areas and contrasts."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, cast

import numpy as np
from made_records import made

from bench.report.figures.detectability import detectability, told
from bench.report.figures.series import series
from bench.report.tables import ours
from bench.stats import Images
from bench.stats.detection import fit
from bench.store.evidence import EvidenceFiles, Lacking
from bench.store.record import Record

SIDE = 256
NORMAL, ANOMALOUS = 30, 60
NEEDED = 64
"""Pixels from which on a drawn defect is bright enough."""


class Drawn:
    """Evidence of maps in which a defect is as bright as it is large, and normal pixels are noise below 1."""

    def __init__(self, masks: bool = True) -> None:
        rng = np.random.default_rng(0)
        self._masks = np.zeros((NORMAL + ANOMALOUS, SIDE, SIDE), dtype=bool)
        self._maps = rng.random(self._masks.shape, dtype=np.float32)
        self.areas: list[int] = []
        for place in range(NORMAL, len(self._maps) if masks else NORMAL):
            side = int(rng.integers(2, 24))
            top, left = rng.integers(0, SIDE - side, 2)
            region = (place, slice(top, top + side), slice(left, left + side))
            self._masks[region] = True
            self.areas.append(side * side)
            # with some luck smaller ones are found, with bad luck larger ones are not
            self._maps[region] = 0.2 + 0.9 * (side * side * rng.lognormal(0, 0.4) > NEEDED)

    def images(self, record: Record) -> Mapping[str, Images]:
        labels = np.arange(len(self._maps)) >= NORMAL
        return {"bottle": Images(tuple(map(str, range(len(labels)))), labels, labels.astype(float))}

    def maps(self, record: Record, cls: str) -> np.ndarray:
        return self._maps

    def masks(self, record: Record, cls: str) -> np.ndarray:
        return self._masks


def drawn(evidence: Any) -> Any:
    chosen = series(ours.lines(ours.group([made(levels={"bottle": 0.9})])))
    return detectability(chosen, "mvtec", cast("EvidenceFiles", evidence))


def test_the_size_that_was_drawn_is_the_size_that_is_told() -> None:
    evidence = Drawn()
    figure = drawn(evidence)
    areas = np.array(evidence.areas) / SIDE**2
    # found by construction: brighter than any normal pixel
    hits = np.array([evidence._maps[place][evidence._masks[place]].max() > 1 for place in range(NORMAL, 90)])
    curve = fit(areas, hits)
    assert told(curve) in figure.caption and "nine of ten are found from" in figure.caption
    half, interval = curve.size_found(0.5), curve.size_interval(0.5)
    assert half is not None and interval is not None
    assert interval[0] < NEEDED / SIDE**2 < interval[1], "where half are found is where the drawing says"
    svg = figure.svg()
    assert "regions found (%)" in svg and "Dinomaly" in svg


def test_regions_without_any_order_of_size_have_no_smallest() -> None:
    rng = np.random.default_rng(0)
    curve = fit(rng.uniform(0.001, 0.1, 40), rng.random(40) < 0.5)
    assert "of 40 regions found, which tells of no size" in told(curve)


def test_what_lacks_maps_or_regions_says_so() -> None:
    assert "fewer than 10 regions" in drawn(Drawn(masks=False)).absent

    class Without(Drawn):
        def maps(self, record: Record, cls: str) -> np.ndarray:
            raise Lacking("the anomaly maps were not kept")

    assert drawn(Without()).absent == "the anomaly maps were not kept"


def test_sizes_beyond_those_seen_are_said_to_be() -> None:
    rng = np.random.default_rng(0)
    areas = np.exp(rng.uniform(np.log(1e-3), np.log(2e-2), 600))
    # nine of ten from 4 % on, which no region has
    chance = 1 / (1 + np.exp(-(np.log(9) + 2 * np.log(areas / 0.04))))
    text = told(fit(areas, rng.random(600) < chance))
    assert text.startswith("nine of ten are found from") and text.endswith("more than any region here has")
    chance = 1 / (1 + np.exp(-(np.log(9) + 2 * np.log(areas / 0.0007))))
    text = told(fit(areas, rng.random(600) < chance))
    assert text.endswith("less than any region here has")
