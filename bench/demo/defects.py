"""Defects of the demo's products, and those that change a product's layout before it is drawn.

An edit takes (layout, rng) and returns the faulty layout; marks on the surface are in `marks`.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from functools import partial
from math import pi
from typing import Any, TypeAlias

import numpy as np

from .board import SMALL, STRAYS, Board
from .exact import Chance, cos, sin
from .marks import crack, discolour, grains, odd_chips, pits, scratch, stain, thread
from .objects import CIRCLE, HIGH, OUTER, WIDE, Biscuit, Flange
from .optics import SIDE, Surface, blot, edge
from .textures import Cloth, cloth_frame

Edit: TypeAlias = Callable[[Any, Chance], Any]
Mark: TypeAlias = Callable[[Surface, Any, Chance], None]


def tear(layout: Cloth, rng: Chance) -> Cloth:
    """Wear one or two holes: warp and weft give way in different outlines, so loose ends stick out."""
    yarns = [np.floor(axis).astype(np.intp) % 96 for axis in cloth_frame(layout)]
    spots = [(rng.uniform(40, SIDE - 40), rng.uniform(40, SIDE - 40)) for _ in range(rng.integer(1, 3))]
    gone = []
    for yarn in yarns:
        ends = (1.8 * rng.normals(96)).astype(np.float32)[yarn]
        holes = [edge(blot(rng, x, y, rng.uniform(11, 17), 0.18) + ends) for x, y in spots]
        gone.append(np.maximum.reduce(holes))
    return replace(layout, torn_warp=gone[0], torn_weft=gone[1])


def misweave(layout: Cloth, rng: Chance) -> Cloth:
    """Let the loom run the diagonal backwards over a block of yarns."""
    u, v = cloth_frame(layout)
    wide, high = rng.uniform(6, 11), rng.uniform(6, 11)
    x, y = rng.uniform(50, SIDE - 50), rng.uniform(50, SIDE - 50)
    i, j = np.floor(u), np.floor(v)
    at_i, at_j = float(u[int(y), int(x)]), float(v[int(y), int(x)])
    block = (np.abs(i - at_i) < wide / 2) & (np.abs(j - at_j) < high / 2)
    return replace(layout, miswoven=block.astype(np.float32))


def broken(layout: Flange, rng: Chance) -> Flange:
    """Break one or two pieces out of the rim."""
    pieces = []
    for way in rng.uniforms(0, 2 * pi, rng.integer(1, 3)).tolist():
        x, y = layout.pose.at(OUTER * cos(way), OUTER * sin(way))
        pieces.append(blot(rng, x, y, rng.uniform(10, 15), 0.25))
    return replace(layout, broken=tuple(pieces))


def misdrilled(layout: Flange, rng: Chance) -> Flange:
    """Drill one bolt hole twice, the first time beside its place."""
    way, _ = rng.choice(layout.holes)
    side = rng.choice((-1, 1))
    wrong = (way + side * rng.uniform(0.40, 0.52), CIRCLE + rng.uniform(-3, 5))
    return replace(layout, holes=(*layout.holes, wrong))


def without(layout: Board, rng: Chance) -> Board:
    """Tear the driver or the can and one to three small components off the board, and its lacquer with them."""
    gone = {rng.integer(1, 3), *rng.sample(range(4, len(layout.parts)), rng.integer(1, 4))}
    kept = tuple(part for k, part in enumerate(layout.parts) if k not in gone)
    return replace(layout, parts=kept, torn=tuple(layout.parts[k] for k in sorted(gone)))


def misplaced(layout: Board, rng: Chance) -> Board:
    """Put one or two components down crooked or beside their pads."""
    parts = list(layout.parts)
    for k in rng.sample(range(len(parts)), rng.integer(1, 3)):
        part = parts[k]
        side = rng.choice((-1, 1))
        if part.kind in ("chip", "driver", "socket", "can"):
            turn, shift = side * rng.uniform(0.25, 0.45), rng.uniform(2, 5)
        else:
            turn, shift = side * rng.uniform(0.6, 1.2), rng.uniform(3, 6)
        way = rng.uniform(0, 2 * pi)
        parts[k] = replace(
            part,
            x=part.x + shift * cos(way),
            y=part.y + shift * sin(way),
            angle=part.angle + turn,
        )
    return replace(layout, parts=tuple(parts))


def swapped(layout: Board, rng: Chance) -> Board:
    """Fit one or two small components of the wrong kind."""
    parts = list(layout.parts)
    small = [k for k, part in enumerate(parts) if part.kind in SMALL]
    for k in rng.sample(small, rng.integer(1, 3)):
        parts[k] = replace(parts[k], kind=rng.choice(STRAYS))
    return replace(layout, parts=tuple(parts))


def bite(layout: Biscuit, rng: Chance) -> Biscuit:
    """Break a corner or a piece of the rim off, sometimes both."""
    pieces = []
    for _ in range(rng.integer(1, 3)):
        side_u, side_v = rng.choice((-1, 1)), rng.choice((-1, 1))
        if rng.uniform() < 0.5:
            u, v, size = side_u * WIDE * 0.5, side_v * HIGH * 0.5, rng.uniform(18, 30)
        else:
            u, v, size = rng.uniform(-0.35, 0.35) * WIDE, side_v * HIGH * 0.52, rng.uniform(11, 19)
        x, y = layout.pose.at(u, v)
        pieces.append(blot(rng, x, y, size, 0.20))
    return replace(layout, bitten=tuple(pieces))


FAULTS: dict[str, dict[str, tuple[Edit | None, Mark | None]]] = {
    "fabric": {
        "colour": (None, partial(discolour, colour=(1.18, 0.66, 0.68), radius=(17, 28))),
        "misplaced": (misweave, None),
        "missing": (tear, None),
        "spot": (None, partial(stain, colour=(0.40, 0.34, 0.26), radius=(10, 20))),
        "thread": (None, partial(thread, colours=((0.78, 0.22, 0.20), (0.88, 0.74, 0.25), (0.10, 0.11, 0.12)))),
    },
    "wood": {
        "colour": (None, partial(discolour, colour=(0.60, 0.48, 0.40), radius=(16, 28))),
        "missing": (None, partial(pits, colour=(0.16, 0.10, 0.07), radius=(3.4, 6.0), most=4)),
        "scratch": (None, partial(scratch, colour=(0.92, 0.83, 0.68))),
        "spot": (None, partial(stain, colour=(0.30, 0.34, 0.48), radius=(8, 16))),
    },
    "terrazzo": {
        "colour": (None, partial(odd_chips, colour=(0.26, 0.40, 0.66))),
        "crack": (None, partial(crack, colour=(0.16, 0.15, 0.14), depth=3.0, wide=1.9)),
        "missing": (None, partial(pits, colour=(0.22, 0.20, 0.18), radius=(10, 16), most=3)),
        "spot": (None, partial(stain, colour=(0.66, 0.38, 0.18), radius=(14, 22))),
    },
    "flange": {
        "misplaced": (misdrilled, None),
        "missing": (broken, None),
        "scratch": (None, partial(scratch, colour=(0.93, 0.94, 0.96), wide=1.5)),
        "spot": (None, partial(stain, colour=(0.60, 0.31, 0.14), radius=(8, 13), most=4)),
    },
    "board": {
        "misplaced": (misplaced, None),
        "missing": (without, None),
        "scratch": (None, partial(scratch, colour=(0.80, 0.66, 0.42), wide=1.5)),
        "spot": (None, partial(grains, colours=((0.84, 0.84, 0.82), (0.80, 0.62, 0.20)), radius=(4.5, 7.5))),
        "swapped": (swapped, None),
    },
    "biscuit": {
        "colour": (None, partial(discolour, colour=(0.46, 0.31, 0.22), radius=(16, 28))),
        "crack": (None, partial(crack, colour=(0.36, 0.20, 0.09))),
        "missing": (bite, None),
        "spot": (
            None,
            partial(grains, colours=((0.13, 0.11, 0.10), (0.24, 0.42, 0.22), (0.55, 0.16, 0.14)), radius=(5.0, 8.0)),
        ),
    },
}
"""Fault kinds of each class: how the layout changes, how the surface is marked."""
