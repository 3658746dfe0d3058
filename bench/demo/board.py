"""The demo's circuit board: where its components belong, and how they look."""

from __future__ import annotations

from dataclasses import dataclass
from math import pi

import numpy as np

from .exact import Chance, cos, hypot, sin
from .objects import Pose, pose
from .optics import Colour, Field, Surface, box, edge, flat, fractal, local, noise, stroke


@dataclass(frozen=True, slots=True)
class Component:
    """A component: its kind, middle and turn in the board's frame."""

    kind: str
    x: float
    y: float
    angle: float = 0.0


@dataclass(frozen=True, slots=True)
class Board:
    """A small circuit board on a grey bench."""

    pose: Pose
    parts: tuple[Component, ...]
    green: Colour
    torn: tuple[Component, ...] = ()
    """Components that were torn off and took the lacquer below them along."""


BODIES: dict[str, tuple[float, float, float, Colour]] = {
    "chip": (42, 42, 5.0, (0.11, 0.11, 0.12)),
    "driver": (20, 28, 4.0, (0.12, 0.12, 0.13)),
    "resistor": (19, 11, 2.5, (0.10, 0.10, 0.11)),
    "capacitor": (19, 12, 3.5, (0.72, 0.55, 0.33)),
    "diode": (19, 11, 3.0, (0.68, 0.20, 0.13)),
    "tantalum": (19, 12, 4.0, (0.93, 0.68, 0.12)),
    "film": (19, 12, 3.5, (0.15, 0.30, 0.68)),
    "can": (25, 25, 8.0, (0.74, 0.75, 0.77)),
    "socket": (18, 54, 6.0, (0.88, 0.86, 0.80)),
}
"""Length, width, height (pixels) and colour of each kind of component."""

SMALL = ("resistor", "capacitor", "diode")
"""Kinds that sit on two pads."""

STRAYS = ("tantalum", "film")
"""Kinds of the same size that have no place on this board."""

_PARTS = (
    Component("chip", -6, -2),
    Component("driver", -56, 40),
    Component("can", 48, -42),
    Component("socket", 62, 22),
    *(Component("resistor", -58, y) for y in (-43, -22, -1)),
    *(Component("capacitor", x, -52) for x in (-26, 4)),
    *(Component("capacitor", x, 51, pi / 2) for x in (-26, -6)),
    *(Component("diode", x, 51, pi / 2) for x in (14, 34)),
    Component("resistor", 36, 4, pi / 2),
)
_TRACES = (
    ((-48, -43), (-40, -43), (-24, -26), (-24, -22)),
    ((-48, -22), (-42, -22), (-32, -12)),
    ((-48, -1), (-32, -1)),
    ((-36, -52), (-40, -52), (-40, -34), (-28, -20)),
    ((-16, -52), (-12, -46), (-12, -24)),
    ((-6, -52), (-6, -24)),
    ((14, -52), (22, -44), (22, -28), (12, -20)),
    ((48, -28), (48, -20), (36, -8)),
    ((36, 14), (36, 24), (52, 24)),
    ((16, -2), (26, -2), (36, -8)),
    ((-26, 41), (-20, 34), (-20, 20)),
    ((-6, 41), (-8, 20)),
    ((14, 41), (4, 30), (2, 20)),
    ((34, 41), (34, 36), (12, 20)),
    ((-46, 36), (-36, 30), (-36, 14), (-30, 8)),
    ((-46, 48), (-38, 62), (40, 64), (56, 48)),
    ((52, 36), (44, 36), (20, 14), (16, 14)),
)


def board(rng: Chance) -> Board:
    """Return a board with every part in place, within a pick-and-place machine's tolerance."""
    parts = tuple(
        Component(p.kind, p.x + rng.normal(0, 0.25), p.y + rng.normal(0, 0.25), p.angle + rng.normal(0, 0.01))
        for p in _PARTS
    )
    shade = rng.normal(0, 0.010)
    return Board(pose(rng, 1.0, 0.01), parts, (0.07 + shade, 0.33 + shade, 0.20 + shade))


def draw_board(layout: Board, rng: Chance) -> Surface:
    """Etch, solder and place."""
    bench = flat((0.60, 0.61, 0.63))
    bench.albedo *= (1 + 0.01 * noise(rng, 100) + 0.01 * noise(rng, 3))[..., None]
    u, v = local(layout.pose.x, layout.pose.y, layout.pose.angle)
    drills = np.full_like(u, 999)
    for x, y in ((-70, -62), (70, -62), (-70, 62), (70, 62)):
        drills = np.minimum(drills, hypot(u - x, v - y))
    panel = np.maximum(box(u, v, 166, 150, 5), 4 - drills)
    cover = edge(panel)
    bench.paint(cover, layout.green)
    copper = stroke(*([(*layout.pose.at(*point), 2.4) for point in trace] for trace in _TRACES))
    bench.paint(copper, (layout.green[0] * 1.35 + 0.03, layout.green[1] * 1.35 + 0.03, layout.green[2] * 1.35 + 0.03))
    bench.paint(edge(np.abs(drills - 6) - 2) * cover, (0.83, 0.68, 0.33))
    bench.albedo *= (1 + 0.01 * fractal(rng, 40, 2) * cover)[..., None]
    bench.gloss = 0.05 * cover
    bench.height = (4 * edge(panel, 2.0) + 0.3 * copper).astype(np.float32)
    for put, parts in ((_pads, _PARTS), (_scar, layout.torn), (_place, layout.parts)):
        for part in parts:
            where = bench.window(*layout.pose.at(part.x, part.y), 40)
            put(bench.part(where), *_frame(u[where], v[where], part), part)
    bench.body = cover
    return bench


def _frame(u: Field, v: Field, part: Component) -> tuple[Field, Field]:
    c, s = cos(part.angle), sin(part.angle)
    return (u - part.x) * c + (v - part.y) * s, (v - part.y) * c - (u - part.x) * s


def _pads(sheet: Surface, a: Field, b: Field, part: Component) -> None:
    """Tin the pads that belong to a component's place and print its outline, whether or not it is there."""
    length, width, _, _ = BODIES[part.kind]
    if part.kind in SMALL:
        pads = box(np.abs(a) - np.float32(length / 2), b, 6, width + 2, 1)
    elif part.kind == "can":
        pads = box(np.abs(a) - np.float32(length / 2 - 1), b, 8, 7, 1)
    else:
        pads = np.full_like(a, 999)
    sheet.paint(edge(pads), (0.80, 0.79, 0.74))
    frame = np.abs(box(a, b, length + 8, width + 5, 2)) - 0.5
    sheet.paint(edge(frame), (0.86, 0.89, 0.86), 0.75)


def _scar(sheet: Surface, a: Field, b: Field, part: Component) -> None:
    """Lay the laminate bare where a component was torn off."""
    length, width, _, _ = BODIES[part.kind]
    sheet.paint(edge(box(a, b, length - 2, width - 2, 3), 2.0), (0.60, 0.49, 0.28))


def _legs(a: Field, b: Field, length: float, width: float) -> Field:
    """Return the distance to a chip's legs, along its two or four sides."""
    fold = (np.mod(b + 2.5, 5.0) - 2.5) * (np.abs(b) < width / 2 - 3) + 99 * (np.abs(b) >= width / 2 - 3)
    return box(np.abs(a) - np.float32(length / 2), fold, 7, 2.4)


def _place(sheet: Surface, a: Field, b: Field, part: Component) -> None:
    """Set one component on the board."""
    length, width, tall, colour = BODIES[part.kind]
    body = box(a, b, length, width, 1.5)
    if part.kind == "can":
        body = hypot(a, b) - np.float32(length / 2)
    if part.kind in ("chip", "driver"):
        legs = _legs(a, b, length, width)
        if part.kind == "chip":
            legs = np.minimum(legs, _legs(b, a, width, length))
        sheet.paint(edge(legs), (0.80, 0.80, 0.80))
        np.maximum(sheet.height, 5.2 * edge(legs, 2.0), out=sheet.height)
    cover = edge(body)
    sheet.paint(cover, colour)
    np.maximum(sheet.gloss * (1 - cover), 0.03 * cover, out=sheet.gloss)
    np.maximum(sheet.height, (4 + tall) * edge(body, 2.5), out=sheet.height)
    if part.kind in SMALL + STRAYS:
        sheet.paint(cover * edge(np.float32(length / 2 - 4) - np.abs(a)), (0.84, 0.84, 0.82))
    if part.kind == "can":
        sheet.paint(cover * edge(-5.5 - a), (0.16, 0.17, 0.24))
        sheet.paint(edge(np.abs(body + 1.6) - 0.7), (0.58, 0.59, 0.61))
    if part.kind in ("chip", "driver"):
        sheet.paint(edge(hypot(a + length / 2 - 5, b + width / 2 - 5) - 2), (0.36, 0.36, 0.37))
        for row, span in enumerate((0.52, 0.36)):
            mark = box(a, b - (row * 5 - 2), length * span, 1.6)
            sheet.paint(edge(mark), (0.62, 0.62, 0.62), 0.7)
    if part.kind in ("diode", "tantalum"):
        sheet.paint(cover * edge(np.abs(a - 2.6) - 1.0), (0.93, 0.92, 0.88))
    if part.kind == "socket":
        well = box(a + 1.5, np.mod(b + 4.5, 9.0) - 4.5, 8, 5.5)
        inside = edge(well) * edge(np.abs(b) - np.float32(width / 2 - 3))
        sheet.paint(inside, (0.20, 0.19, 0.18))
        sheet.height -= 3 * inside
