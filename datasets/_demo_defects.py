"""What goes wrong in the demo's factory: faults in a product's layout, and marks left on its surface.

An `edit` takes (layout, rng) and returns the faulty layout. A `mark` takes (surface, layout, rng) and spoils it in
place. Both draw only from their own generator, so that the same product without its fault can be drawn again.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from functools import partial
from math import cos, pi, sin
from typing import Any, TypeAlias

import numpy as np
from scipy import ndimage

from ._demo_objects import CIRCLE, HIGH, WIDE, Biscuit, Board, Flange
from ._demo_optics import SIDE, Colour, Field, Rng, Surface, blot, edge, fractal, noise, stroke
from ._demo_textures import Cloth, chip, cloth_frame, inlay

Edit: TypeAlias = Callable[[Any, Rng], Any]
Mark: TypeAlias = Callable[[Surface, Any, Rng], None]


def spot_on(body: Field, rng: Rng, margin: int) -> tuple[float, float]:
    """Return a point of the product at least `margin` pixels away from its edge and from the picture's."""
    inner = ndimage.distance_transform_edt(np.pad(body > 0.5, 1))[1:-1, 1:-1] > margin
    rows, columns = np.nonzero(inner)
    pick = int(rng.integers(len(rows)))
    return float(columns[pick]), float(rows[pick])


# ------------------------------------------------------------------------------------------------------- marks
def scratch(sheet: Surface, layout: Any, rng: Rng, colour: Colour, depth: float = 0.7, most: int = 3) -> None:
    """Drag something hard across: one to `most` slightly bent lines, thin at both ends."""
    heading = rng.uniform(0, pi)
    for _ in range(int(rng.integers(1, most + 1))):
        x, y = spot_on(sheet.body, rng, 12)
        length, bend = rng.uniform(45, 95), rng.normal(0, 0.06)
        turn = heading + rng.normal(0, 0.15)
        width = rng.uniform(1.5, 2.5)
        path = []
        for t in np.linspace(-0.5, 0.5, 12).tolist():
            at = turn + 4 * bend * t
            path.append((x + length * t * cos(at), y + length * t * sin(at), max(width * (1 - (2 * t) ** 4), 0.7)))
        cover = stroke(path) * sheet.body
        sheet.paint(cover, colour, rng.uniform(0.6, 0.9))
        sheet.height -= np.float32(depth) * cover


def crack(sheet: Surface, layout: Any, rng: Rng, colour: Colour, depth: float = 2.0) -> None:
    """Break the surface along a jagged line with a branch or two."""
    x, y = spot_on(sheet.body, rng, 30)
    heading = rng.uniform(0, 2 * pi)
    paths = []
    starts = [(x, y, heading, 2.4, 13), (x, y, heading + pi + rng.normal(0, 0.3), 2.2, 11)]
    while starts:
        x, y, heading, width, steps = starts.pop()
        path = [(x, y, width)]
        for k in range(steps):
            turn = heading + rng.normal(0, 0.55)
            x, y = x + 5 * cos(turn), y + 5 * sin(turn)
            path.append((x, y, max(width * (1 - k / steps), 0.8)))
            if width > 2 and k == 4:
                starts.append((x, y, heading + float(rng.choice((-1, 1))) * 0.9, 1.6, 7))
        paths.append(path)
    cover = stroke(*paths) * sheet.body
    sheet.paint(cover, colour, 0.9)
    sheet.height -= np.float32(depth) * cover


def stain(
    sheet: Surface, layout: Any, rng: Rng, colour: Colour, radius: tuple[float, float], most: int = 3, rim: float = 0.25
) -> None:
    """Spill something see-through: a few drops, each with a darker rim where it dried."""
    for k in range(int(rng.integers(1, most + 1))):
        size = rng.uniform(*radius) * (1.0 if k == 0 else 0.55)
        x, y = spot_on(sheet.body, rng, int(size * 0.8))
        distance = blot(rng, x, y, size)
        fill = edge(distance, 3.0) * (1 - np.float32(rim) + np.float32(rim) * edge(np.abs(distance + 2) - 1.5, 3.0))
        uneven = 1 - 0.22 * np.clip(fractal(rng, 24, 2) + 1, 0, 2)
        sheet.tint(fill * uneven * sheet.body, colour, rng.uniform(0.85, 1.1))


def discolour(sheet: Surface, layout: Any, rng: Rng, colour: Colour, radius: tuple[float, float]) -> None:
    """Change the colour of one large soft-edged area."""
    size = rng.uniform(*radius)
    x, y = spot_on(sheet.body, rng, int(size * 0.7))
    uneven = 1 + 0.12 * np.clip(noise(rng, 8), -2, 2)
    fill = edge(blot(rng, x, y, size, 0.3, rng.uniform(1, 1.5)), 8.0) * uneven * sheet.body
    sheet.tint(fill, colour, rng.uniform(0.75, 1.0))


def grains(sheet: Surface, layout: Any, rng: Rng, colours: tuple[Colour, ...], radius: tuple[float, float]) -> None:
    """Drop two to five foreign bodies that lie on top."""
    colour = colours[int(rng.integers(len(colours)))]
    for _ in range(int(rng.integers(2, 6))):
        size = rng.uniform(*radius)
        x, y = spot_on(sheet.body, rng, 8)
        distance = blot(rng, x, y, size, 0.3, rng.uniform(1, 1.6))
        cover = edge(distance)
        sheet.paint(cover, colour)
        sheet.height += np.sqrt(np.clip(-distance, 0, None)) * 1.2 * cover
        sheet.gloss = np.maximum(sheet.gloss, 0.15 * cover)


def pits(sheet: Surface, layout: Any, rng: Rng, colour: Colour, radius: tuple[float, float], most: int) -> None:
    """Break material out: dark hollows with a bright worn edge."""
    for _ in range(int(rng.integers(1, most + 1))):
        size = rng.uniform(*radius)
        x, y = spot_on(sheet.body, rng, int(size) + 4)
        distance = blot(rng, x, y, size, 0.18)
        sheet.paint(edge(np.abs(distance - 0.8) - 0.8, 1.5), (0.86, 0.80, 0.72), 0.45)
        sheet.paint(edge(distance), colour)
        sheet.height -= 4 * edge(distance, 2.0)


def thread(sheet: Surface, layout: Any, rng: Rng, colours: tuple[Colour, ...]) -> None:
    """Leave a loose end of another yarn on the cloth."""
    colour = colours[int(rng.integers(len(colours)))]
    x, y = spot_on(sheet.body, rng, 40)
    heading, curl = rng.uniform(0, 2 * pi), rng.normal(0, 0.09)
    path = []
    for _ in range(int(rng.integers(18, 34))):
        path.append((x, y, 2.6))
        heading, curl = heading + curl, curl + rng.normal(0, 0.06)
        x, y = x + 4 * cos(heading), y + 4 * sin(heading)
    cover = stroke(path)
    sheet.paint(cover, colour)
    np.maximum(sheet.height, 4.5 * cover, out=sheet.height)


def odd_chips(sheet: Surface, layout: Any, rng: Rng, colour: Colour) -> None:
    """Press in one to three chips of something that is no marble."""
    chips = [(chip(rng, *spot_on(sheet.body, rng, 16), rng.uniform(9, 14)), colour) for _ in range(rng.integers(1, 4))]
    cover, _ = inlay(chips)
    sheet.paint(cover, colour)
    np.maximum(sheet.gloss, 0.10 * cover, out=sheet.gloss)


# ------------------------------------------------------------------------------------------------------- edits
def tear(layout: Cloth, rng: Rng) -> Cloth:
    """Wear one or two holes: warp and weft give way in different outlines, so loose ends stick out."""
    yarns = [np.floor(axis).astype(np.intp) % 96 for axis in cloth_frame(layout)]
    spots = [rng.uniform(40, SIDE - 40, 2) for _ in range(int(rng.integers(1, 3)))]
    gone = []
    for yarn in yarns:
        ends = rng.normal(0, 1.8, 96).astype(np.float32)[yarn]
        holes = [edge(blot(rng, float(x), float(y), rng.uniform(11, 17), 0.18) + ends) for x, y in spots]
        gone.append(np.maximum.reduce(holes))
    return replace(layout, torn_warp=gone[0], torn_weft=gone[1])


def misweave(layout: Cloth, rng: Rng) -> Cloth:
    """Let the loom run the diagonal backwards over a block of yarns."""
    u, v = cloth_frame(layout)
    wide, high = rng.uniform(6, 11, 2)
    x, y = rng.uniform(50, SIDE - 50, 2)
    i, j = np.floor(u), np.floor(v)
    at_i, at_j = float(u[int(y), int(x)]), float(v[int(y), int(x)])
    block = (np.abs(i - at_i) < wide / 2) & (np.abs(j - at_j) < high / 2)
    return replace(layout, miswoven=block.astype(np.float32))


def undrilled(layout: Flange, rng: Rng) -> Flange:
    """Forget one or two bolt holes."""
    gone = rng.choice(6, int(rng.integers(1, 3)), replace=False)
    return replace(layout, holes=tuple(hole for k, hole in enumerate(layout.holes) if k not in gone))


def misdrilled(layout: Flange, rng: Rng) -> Flange:
    """Drill one bolt hole beside its place."""
    holes = list(layout.holes)
    k = int(rng.integers(6))
    side = float(rng.choice((-1, 1)))
    holes[k] = (holes[k][0] + side * rng.uniform(0.20, 0.36), CIRCLE + float(rng.uniform(-3, 5)))
    return replace(layout, holes=tuple(holes))


def without(layout: Board, rng: Rng) -> Board:
    """Leave one or two components off the board."""
    gone = set(rng.choice(len(layout.parts), int(rng.integers(1, 3)), replace=False).tolist())
    return replace(layout, parts=tuple(part for k, part in enumerate(layout.parts) if k not in gone))


def misplaced(layout: Board, rng: Rng) -> Board:
    """Put one or two components down crooked or beside their pads."""
    parts = list(layout.parts)
    for k in rng.choice(len(parts), int(rng.integers(1, 3)), replace=False):
        part = parts[k]
        side = float(rng.choice((-1, 1)))
        if part.kind in ("chip", "driver", "socket", "can"):
            turn, shift = side * rng.uniform(0.25, 0.45), rng.uniform(2, 5)
        else:
            turn, shift = side * rng.uniform(0.6, 1.2), rng.uniform(3, 6)
        way = rng.uniform(0, 2 * pi)
        parts[k] = replace(
            part,
            x=part.x + shift * cos(way),
            y=part.y + shift * sin(way),
            angle=part.angle + float(turn),
        )
    return replace(layout, parts=tuple(parts))


def swapped(layout: Board, rng: Rng) -> Board:
    """Fit one or two small components of the wrong kind."""
    parts = list(layout.parts)
    small = [k for k, part in enumerate(parts) if part.kind in ("resistor", "capacitor", "diode")]
    for k in rng.choice(small, int(rng.integers(1, 3)), replace=False):
        others = [kind for kind in ("resistor", "capacitor", "diode") if kind != parts[k].kind]
        parts[k] = replace(parts[k], kind=others[int(rng.integers(2))])
    return replace(layout, parts=tuple(parts))


def bite(layout: Biscuit, rng: Rng) -> Biscuit:
    """Break a corner or a piece of the rim off, sometimes both."""
    pieces = []
    for _ in range(int(rng.integers(1, 3))):
        side_u, side_v = rng.choice((-1.0, 1.0), 2)
        if rng.random() < 0.5:
            u, v, size = side_u * WIDE * 0.5, side_v * HIGH * 0.5, rng.uniform(18, 30)
        else:
            u, v, size = rng.uniform(-0.35, 0.35) * WIDE, side_v * HIGH * 0.52, rng.uniform(11, 19)
        x, y = layout.pose.at(float(u), float(v))
        pieces.append(blot(rng, x, y, float(size), 0.20))
    return replace(layout, bitten=tuple(pieces))


_STEEL_RUST: Colour = (0.66, 0.36, 0.17)

FAULTS: dict[str, dict[str, tuple[Edit | None, Mark | None]]] = {
    "fabric": {
        "colour": (None, partial(discolour, colour=(1.14, 0.74, 0.76), radius=(17, 28))),
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
        "crack": (None, partial(crack, colour=(0.33, 0.31, 0.29))),
        "missing": (None, partial(pits, colour=(0.42, 0.40, 0.37), radius=(7, 12), most=3)),
        "spot": (None, partial(stain, colour=(0.66, 0.38, 0.18), radius=(14, 22))),
    },
    "flange": {
        "misplaced": (misdrilled, None),
        "missing": (undrilled, None),
        "scratch": (None, partial(scratch, colour=(0.93, 0.94, 0.96))),
        "spot": (None, partial(stain, colour=_STEEL_RUST, radius=(6, 12), most=4)),
    },
    "board": {
        "misplaced": (misplaced, None),
        "missing": (without, None),
        "scratch": (None, partial(scratch, colour=(0.80, 0.66, 0.42), most=2)),
        "spot": (None, partial(grains, colours=((0.84, 0.84, 0.82), (0.80, 0.62, 0.20)), radius=(2.6, 4.6))),
        "swapped": (swapped, None),
    },
    "biscuit": {
        "colour": (None, partial(discolour, colour=(0.46, 0.31, 0.22), radius=(16, 28))),
        "crack": (None, partial(crack, colour=(0.36, 0.20, 0.09))),
        "missing": (bite, None),
        "spot": (
            None,
            partial(grains, colours=((0.13, 0.11, 0.10), (0.24, 0.42, 0.22), (0.55, 0.16, 0.14)), radius=(2.2, 4.2)),
        ),
    },
}
"""Fault kinds of each class: how the layout changes, how the surface is marked."""
