"""The smallest defect that is found, of regions drawn with known areas and contrasts."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, cast

import numpy as np
import pytest
from made_records import made
from PIL import Image

from bench.metrics import find_regions
from bench.protocol import Protocol
from bench.report.figures.defect_regions import look, regions_of, seen
from bench.report.figures.detectability import detectability, measured, told
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
        self._pictures = np.full((*self._masks.shape, 3), 100, dtype=np.uint8)
        self.areas: list[int] = []
        for place in range(NORMAL, len(self._maps) if masks else NORMAL):
            side = int(rng.integers(2, 24))
            top, left = rng.integers(0, SIDE - side, 2)
            region = (place, slice(top, top + side), slice(left, left + side))
            self._masks[region] = True
            self.areas.append(side * side)
            self._pictures[region] += 40
            # with some luck smaller ones are found, with bad luck larger ones are not
            self._maps[region] = 0.2 + 0.9 * (side * side * rng.lognormal(0, 0.4) > NEEDED)

    def images(self, record: Record) -> Mapping[str, Images]:
        labels = np.arange(len(self._maps)) >= NORMAL
        return {"bottle": Images(tuple(map(str, range(len(labels)))), labels, labels.astype(float))}

    def maps(self, record: Record, cls: str) -> np.ndarray:
        return self._maps

    def masks(self, record: Record, cls: str) -> np.ndarray:
        return self._masks

    def samples(self, record: Record, ids: Sequence[str]) -> Any:
        return self, list(ids)

    def read_image(self, sample: str) -> Image.Image:
        return Image.fromarray(self._pictures[int(sample)])


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
    assert "regions found (%)" in svg and "contrast (% of the range)" in svg and "Dinomaly" in svg


def test_contrast_and_place_are_those_that_were_drawn() -> None:
    picture, mask = np.full((64, 64, 3), 0.5), np.zeros((64, 64), dtype=bool)
    mask[28:36, 28:36] = mask[0:4, 0:2] = mask[50, 60] = True
    picture[28:36, 28:36, 1] = 0.8  # green alone
    picture[0:4, 0:2] = 0.4
    picture[50:, 58:] = 0.9  # the region and all around it
    corner, middle, lone = look(picture, mask)
    assert middle == pytest.approx((0.3, 1.0)) and corner == pytest.approx((0.1, 2 * 1 / 64))
    assert lone[1] == pytest.approx(2 * 3.5 / 64) and lone[0] > 0


def test_regions_are_looked_at_in_the_order_in_which_they_are_found() -> None:
    rng = np.random.default_rng(3)
    for _ in range(20):
        mask = rng.random((40, 40)) < 0.3
        regions = find_regions(mask[None])
        picture = np.zeros((40, 40, 3))
        # each region has a colour of its own, which its contrast to black tells
        picture[mask] = (regions.index[:, None] + 1) / 1000
        alone = [one[0] for one in look(picture, mask)]
        assert len(alone) == len(regions.areas)
        assert alone == pytest.approx([(place + 1) / 1000 for place in range(len(alone))])


def test_a_crop_shows_what_it_leaves() -> None:
    image = Image.new("RGB", (200, 100))
    image.paste((255, 255, 255), (50, 25, 150, 75))
    assert seen(image, Protocol("half", crop=0.5))[4:-4, 4:-4].min() == 1.0  # beside the cut pixels of both mix
    assert seen(image, Protocol("whole")).mean() == pytest.approx(0.25, abs=0.01)


def test_the_contrast_from_which_on_regions_are_found_is_told_by_the_curve() -> None:
    class Faint(Drawn):
        def __init__(self) -> None:
            super().__init__()
            rng = np.random.default_rng(5)
            for place in range(NORMAL, NORMAL + ANOMALOUS):
                level = rng.uniform(2, 60)
                self._pictures[place][self._masks[place]] = 100 + round(level)
                self._maps[place][self._masks[place]] = 0.2 + 0.9 * (level * rng.lognormal(0, 0.2) > 20)

    chosen = series(ours.lines(ours.group([made(levels={"bottle": 0.9})])))
    regions = regions_of(chosen[0], "mvtec", "bottle", cast("EvidenceFiles", Faint()))
    assert regions is not None
    curve = fit(measured(regions, "contrast"), regions.found)
    half = curve.size_found(0.5)
    assert half is not None and half == pytest.approx(20 / 255, rel=0.15)
    # their area says nothing
    assert fit(regions.area, regions.found).size_interval(0.9) is None


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
