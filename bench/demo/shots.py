"""From (seed, class, split, defect, index) to one picture of the demo and its exact mask.

Every picture has its own random streams, so it does not depend on which others are made, in what order or where. The
mask is what changed: the faulty product is photographed beside the same product without its fault, same lamp, same
noise, and the mask is where the two noise-free pictures differ.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any
from zlib import crc32

import numpy as np
import numpy.typing as npt
from scipy import ndimage

from .board import board, draw_board
from .defects import FAULTS
from .objects import biscuit, draw_biscuit, draw_flange, flange
from .optics import Field, Light, Rng, Surface, develop, expose
from .textures import cloth, draw_cloth, draw_plank, draw_stone, plank, stone

PRODUCTS: dict[str, tuple[Callable[[Rng], Any], Callable[[Any, Rng], Surface]]] = {
    "fabric": (cloth, draw_cloth),
    "wood": (plank, draw_plank),
    "terrazzo": (stone, draw_stone),
    "flange": (flange, draw_flange),
    "board": (board, draw_board),
    "biscuit": (biscuit, draw_biscuit),
}
"""How each class is laid out and drawn, in the card's order."""

VISIBLE = 0.05
"""Smallest change of a colour channel, as a fraction of white, that belongs to a mask."""

SPECK = 12
"""Separate changes of fewer pixels are undone: nobody sees them, yet each would count as a region of its own."""


GAPS = {("fabric", "misplaced"): 6}
"""How far apart changed pixels may lie and still be one area; 2 elsewhere. A wrong weave agrees with the right one here
and there, and is wrong as a whole."""


@dataclass(frozen=True, slots=True)
class Shot:
    """One picture: uint8 [SIDE, SIDE, 3]; `clean` shows the same product without its fault; `mask` is bool."""

    image: npt.NDArray[np.uint8]
    clean: npt.NDArray[np.uint8]
    mask: npt.NDArray[np.bool_]


def names(cls: str, train: int, good: int, each: int) -> Iterator[tuple[str, str, int]]:
    """Yield (split, defect, index) of a class's pictures: `each` is the number of each kind of defect."""
    yield from (("train", "good", index) for index in range(train))
    yield from (("test", "good", index) for index in range(good))
    yield from (("test", defect, index) for defect in FAULTS[cls] for index in range(each))


def shoot(seed: int, cls: str, split: str, defect: str, index: int) -> Shot:
    """Make one picture; equal arguments give equal pixels."""
    key = (seed, *(crc32(word.encode()) for word in (cls, split, defect)), index)
    scene, paint, lamp, fault, sensor = np.random.SeedSequence(key).spawn(5)
    arrange, draw = PRODUCTS[cls]
    layout = arrange(np.random.default_rng(scene))
    light = Light.draw(np.random.default_rng(lamp))
    surface = draw(layout, np.random.default_rng(paint))
    before = expose(surface, light)
    clean = develop(before, light, np.random.default_rng(sensor))
    if defect == "good":
        return Shot(clean, clean, np.zeros(clean.shape[:2], np.bool_))
    edit, mark = FAULTS[cls][defect]
    chance = np.random.default_rng(fault)
    if edit is not None:
        surface = draw(edit(layout, chance), np.random.default_rng(paint))
    if mark is not None:
        mark(surface, layout, chance)
    after, mask = compare(before, expose(surface, light), GAPS.get((cls, defect), 2))
    return Shot(develop(after, light, np.random.default_rng(sensor)), clean, mask)


def compare(before: Field, after: Field, gap: int) -> tuple[Field, npt.NDArray[np.bool_]]:
    """Return the faulty picture, rid of invisible specks, and the mask of what visibly changed."""
    changed = np.abs(np.clip(after, 0, 1) - np.clip(before, 0, 1)).max(axis=2) > VISIBLE
    disc = np.hypot(*np.mgrid[-gap : gap + 1, -gap : gap + 1]) <= gap + 0.3
    closed = ndimage.binary_closing(np.pad(changed, 2 * gap), disc)[2 * gap : -2 * gap, 2 * gap : -2 * gap]
    filled = ndimage.binary_fill_holes(closed)
    regions, count = ndimage.label(filled, np.ones((3, 3)))
    sizes = ndimage.sum_labels(filled, regions, np.arange(count + 1))
    keep = sizes >= min(SPECK, sizes.max())
    mask = np.asarray(keep[regions] & filled, np.bool_)
    specks = ndimage.binary_dilation(filled & ~mask, iterations=2) & ~mask
    return np.where(specks[..., None], before, after), mask
