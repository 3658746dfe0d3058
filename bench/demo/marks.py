"""Marks that a defect leaves on the demo's products: scratches, cracks, stains, holes, foreign bodies.

A mark takes (surface, layout, rng, its own settings) and spoils the surface in place. It draws only from the generator
it is given, so that the same product without its mark can be drawn again.
"""

from __future__ import annotations

from math import pi
from typing import Any

import numpy as np
from scipy import ndimage

from .exact import Chance, cos, power, sin
from .optics import Colour, Field, Surface, blot, edge, fractal, noise, stroke
from .textures import chip, inlay


def spot_on(body: Field, rng: Chance, margin: int) -> tuple[float, float]:
    """Return a point of the product at least `margin` pixels away from its edge and from the picture's."""
    inner = ndimage.distance_transform_edt(np.pad(body > 0.5, 1))[1:-1, 1:-1] > margin
    rows, columns = np.nonzero(inner)
    pick = rng.integer(0, len(rows))
    return float(columns[pick]), float(rows[pick])


def scratch(
    sheet: Surface, layout: Any, rng: Chance, colour: Colour, depth: float = 0.7, most: int = 3, wide: float = 1.0
) -> None:
    """Drag something hard across: one to `most` slightly bent lines, thin at both ends."""
    heading = rng.uniform(0, pi)
    for _ in range(rng.integer(1, most + 1)):
        x, y = spot_on(sheet.body, rng, 20)
        length, bend = rng.uniform(55, 100), rng.normal(0, 0.06)
        turn = heading + rng.normal(0, 0.15)
        width = wide * rng.uniform(1.8, 2.8)
        path = []
        for t in np.linspace(-0.5, 0.5, 12).tolist():
            at = turn + 4 * bend * t
            path.append((x + length * t * cos(at), y + length * t * sin(at), max(width * (1 - power(2 * t, 4)), 0.7)))
        cover = stroke(path) * sheet.body
        sheet.paint(cover, colour, rng.uniform(0.7, 0.95))
        sheet.height -= np.float32(depth) * cover


def crack(sheet: Surface, layout: Any, rng: Chance, colour: Colour, depth: float = 2.0, wide: float = 1.0) -> None:
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
                starts.append((x, y, heading + rng.choice((-1, 1)) * 0.9, 1.6, 7))
        paths.append(path)
    cover = stroke(*([(x, y, wide * width) for x, y, width in path] for path in paths)) * sheet.body
    sheet.paint(cover, colour, 0.9)
    sheet.height -= np.float32(depth) * cover


def stain(sheet: Surface, layout: Any, rng: Chance, colour: Colour, radius: tuple[float, float], most: int = 3) -> None:
    """Spill something see-through: a few drops, each with a darker rim where it dried."""
    for k in range(rng.integer(1, most + 1)):
        size = rng.uniform(*radius) * (1.0 if k == 0 else 0.55)
        x, y = spot_on(sheet.body, rng, int(size * 0.8))
        distance = blot(rng, x, y, size)
        fill = edge(distance, 3.0) * (np.float32(0.75) + np.float32(0.25) * edge(np.abs(distance + 2) - 1.5, 3.0))
        uneven = 1 - 0.22 * np.clip(fractal(rng, 24, 2) + 1, 0, 2)
        sheet.tint(fill * uneven * sheet.body, colour, rng.uniform(0.85, 1.1))


def discolour(sheet: Surface, layout: Any, rng: Chance, colour: Colour, radius: tuple[float, float]) -> None:
    """Change the colour of one large soft-edged area."""
    size = rng.uniform(*radius)
    x, y = spot_on(sheet.body, rng, int(size * 0.7))
    uneven = 1 + 0.12 * np.clip(noise(rng, 8), -2, 2)
    fill = edge(blot(rng, x, y, size, 0.22, rng.uniform(1, 1.5)), 8.0) * uneven * sheet.body
    sheet.tint(fill, colour, rng.uniform(0.75, 1.0))


def grains(sheet: Surface, layout: Any, rng: Chance, colours: tuple[Colour, ...], radius: tuple[float, float]) -> None:
    """Drop two to five foreign bodies that lie on top."""
    colour = rng.choice(colours)
    for _ in range(rng.integer(2, 6)):
        size = rng.uniform(*radius)
        x, y = spot_on(sheet.body, rng, 8)
        distance = blot(rng, x, y, size, 0.2, rng.uniform(1, 1.6))
        cover = edge(distance)
        sheet.paint(cover, colour)
        sheet.height += np.sqrt(np.clip(-distance, 0, None)) * 1.2 * cover
        sheet.gloss = np.maximum(sheet.gloss, 0.15 * cover)


def pits(sheet: Surface, layout: Any, rng: Chance, colour: Colour, radius: tuple[float, float], most: int) -> None:
    """Break material out: dark hollows with a bright worn edge."""
    for _ in range(rng.integer(1, most + 1)):
        size = rng.uniform(*radius)
        x, y = spot_on(sheet.body, rng, int(size) + 4)
        distance = blot(rng, x, y, size, 0.18)
        sheet.paint(edge(np.abs(distance - 0.8) - 0.8, 1.5), (0.86, 0.80, 0.72), 0.45)
        sheet.paint(edge(distance), colour)
        sheet.height -= 4 * edge(distance, 2.0)


def thread(sheet: Surface, layout: Any, rng: Chance, colours: tuple[Colour, ...]) -> None:
    """Leave a loose end of another yarn on the cloth."""
    colour = rng.choice(colours)
    x, y = spot_on(sheet.body, rng, 40)
    heading, curl = rng.uniform(0, 2 * pi), rng.normal(0, 0.09)
    path = []
    for _ in range(rng.integer(18, 34)):
        path.append((x, y, 2.6))
        heading, curl = heading + curl, curl + rng.normal(0, 0.06)
        x, y = x + 4 * cos(heading), y + 4 * sin(heading)
    cover = stroke(path)
    sheet.paint(cover, colour)
    np.maximum(sheet.height, 4.5 * cover, out=sheet.height)


def odd_chips(sheet: Surface, layout: Any, rng: Chance, colour: Colour) -> None:
    """Press in one to three chips of something that is no marble."""
    chips = [(chip(rng, *spot_on(sheet.body, rng, 16), rng.uniform(9, 14)), colour) for _ in range(rng.integer(1, 4))]
    cover, _ = inlay(chips)
    sheet.paint(cover, colour)
    np.maximum(sheet.gloss, 0.10 * cover, out=sheet.gloss)
