"""Rendering of the demo: from a seed and a picture's name to the picture and its exact mask.

Every picture has its own random streams, so it does not depend on which others are made, in what order or where. The
mask is what changed: the faulty product is photographed beside the same product without its fault, same lamp, same
noise, and the mask is where the two noise-free pictures differ.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any
from zlib import crc32

import numpy as np
import numpy.typing as npt
from scipy import ndimage

from .board import board, draw_board
from .contents import SEED, Picture
from .defects import FAULTS
from .exact import Chance, seeds
from .objects import biscuit, draw_biscuit, draw_flange, flange
from .optics import Field, Light, Surface, develop, expose
from .textures import cloth, draw_cloth, draw_plank, draw_stone, plank, stone

PRODUCTS: dict[str, tuple[Callable[[Chance], Any], Callable[[Any, Chance], Surface]]] = {
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


def shoot(picture: Picture, seed: int = SEED) -> Shot:
    """Make one picture; equal arguments give equal pixels, on every machine."""
    cls, defect = picture.cls, picture.defect
    key = (seed, *(crc32(word.encode()) for word in (cls, picture.split, defect)), picture.index)
    scene, paint, lamp, fault, sensor = seeds(key, 5)
    arrange, draw = PRODUCTS[cls]
    layout = arrange(Chance(scene))
    light = Light.draw(Chance(lamp))
    surface = draw(layout, Chance(paint))
    before = expose(surface, light)
    clean = develop(before, light, Chance(sensor))
    if defect == "good":
        return Shot(clean, clean, np.zeros(clean.shape[:2], np.bool_))
    edit, mark = FAULTS[cls][defect]
    chance = Chance(fault)
    if edit is not None:
        surface = draw(edit(layout, chance), Chance(paint))
    if mark is not None:
        mark(surface, layout, chance)
    after, mask = compare(before, expose(surface, light), GAPS.get((cls, defect), 2))
    return Shot(develop(after, light, Chance(sensor)), clean, mask)


def compare(before: Field, after: Field, gap: int) -> tuple[Field, npt.NDArray[np.bool_]]:
    """Return the faulty picture, rid of invisible specks, and the mask of what visibly changed."""
    changed = np.abs(np.clip(after, 0, 1) - np.clip(before, 0, 1)).max(axis=2) > VISIBLE
    y, x = np.mgrid[-gap : gap + 1, -gap : gap + 1]
    disc = x * x + y * y <= (gap + 0.3) * (gap + 0.3)
    closed = ndimage.binary_closing(np.pad(changed, 2 * gap), disc)[2 * gap : -2 * gap, 2 * gap : -2 * gap]
    filled = ndimage.binary_fill_holes(closed)
    regions, count = ndimage.label(filled, np.ones((3, 3)))
    sizes = ndimage.sum_labels(filled, regions, np.arange(count + 1))
    keep = sizes >= min(SPECK, sizes.max())
    mask = np.asarray(keep[regions] & filled, np.bool_)
    specks = ndimage.binary_dilation(filled & ~mask, iterations=2) & ~mask
    return np.where(specks[..., None], before, after), mask
