"""Objects of the demo, a turned flange and a butter biscuit, and how an object lies in the picture.

As with the textures, a layout says what lies where and may be changed by a fault; drawing is separate and repeatable.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import pi

import numpy as np

from .exact import Chance, cos, exp, hypot, power, sin
from .optics import SIDE, Colour, Field, Surface, blur, box, edge, flat, fractal, harmonic, local, noise

_MIDDLE = SIDE / 2


@dataclass(frozen=True, slots=True)
class Pose:
    """Where an object lies: its middle and its turn."""

    x: float
    y: float
    angle: float

    def at(self, u: float, v: float) -> tuple[float, float]:
        """Return the picture position of a point given in the object's own frame."""
        c, s = cos(self.angle), sin(self.angle)
        return self.x + u * c - v * s, self.y + u * s + v * c


def pose(rng: Chance, shift: float, turn: float) -> Pose:
    """Return a pose near the middle: `shift` pixels and `turn` radians at most."""
    x, y = rng.uniform(-shift, shift), rng.uniform(-shift, shift)
    return Pose(_MIDDLE + x, _MIDDLE + y, rng.uniform(-turn, turn))


# ------------------------------------------------------------------------------------------------------ flange
@dataclass(frozen=True, slots=True)
class Flange:
    """A steel flange on a dark mat: bore, raised hub, bolt holes (angle and radius of the circle they lie on)."""

    pose: Pose
    holes: tuple[tuple[float, float], ...]
    tone: float
    broken: tuple[Field, ...] = ()
    """Signed distances of the pieces that are broken out."""


OUTER, HUB, BORE, HOLE, CIRCLE = 80.0, 44.0, 27.0, 8.5, 62.0


def flange(rng: Chance) -> Flange:
    """Return a flange with its six holes, turned a little."""
    holes = tuple((k * pi / 3, CIRCLE) for k in range(6))
    return Flange(pose(rng, 1.0, 0.015), holes, rng.normal(0.60, 0.006))


def draw_flange(layout: Flange, rng: Chance) -> Surface:
    """Turn it on the lathe: tool marks run in circles and give the bow-tie highlight."""
    mat = flat((0.13, 0.15, 0.18))
    mat.albedo *= (1 + 0.04 * noise(rng, 120) + 0.02 * noise(rng, 6))[..., None]
    u, v = local(layout.pose.x, layout.pose.y, layout.pose.angle)
    radius = hypot(u, v)
    groove = _between(rng.normals(120).astype(np.float32), radius)
    solid = np.maximum(radius - OUTER, BORE - radius)
    holes = np.full_like(solid, 999)
    for at, circle in layout.holes:
        holes = np.minimum(holes, hypot(u - circle * cos(at), v - circle * sin(at)) - HOLE)
    solid = np.maximum(solid, -holes)
    for piece in layout.broken:
        solid = np.maximum(solid, -piece)
    bow = harmonic(u, v, 2, 2 * (layout.pose.angle - 0.9)) * 0.5 + 0.5
    metal = layout.tone * (0.82 + 0.34 * power(bow, 3)) + 0.008 * groove + 0.005 * noise(rng, 100)
    hub = edge(radius - HUB, 4.0)
    metal = metal + 0.06 * hub * (0.5 + bow)
    bevel = edge(np.abs(radius - (OUTER - 2.0)) - 1.0, 1.5) + edge(np.abs(holes - 1.2) - 0.6, 1.2)
    metal = metal + 0.13 * np.clip(bevel, 0, 1) * (0.4 + bow)
    for piece in layout.broken:
        metal = metal - 0.22 * edge(np.abs(piece - 2.0) - 2.0, 1.5)
    cover = edge(solid)
    mat.paint(cover, metal[..., None] * np.array((0.98, 1.0, 1.03), np.float32))
    mat.gloss = 0.05 * cover
    mat.height = (7 * edge(solid, 2.0) + 3 * hub * cover).astype(np.float32)
    mat.body = cover
    return mat


def _between(values: Field, place: Field) -> Field:
    """Return the values at 0, 1, 2, ... joined by straight lines, and the last beyond them, at each place."""
    left = np.minimum(np.floor(place), len(values) - 2)
    start, end = values[left.astype(np.intp)], values[left.astype(np.intp) + 1]
    share: Field = np.minimum(place - left, 1)
    return start + (end - start) * share


# ----------------------------------------------------------------------------------------------------- biscuit
@dataclass(frozen=True, slots=True)
class Biscuit:
    """A toothed butter biscuit on a blue cloth."""

    pose: Pose
    gold: Colour
    bitten: tuple[Field, ...] = ()
    """Signed distances of the pieces that are broken off."""


WIDE, HIGH = 148.0, 116.0


def biscuit(rng: Chance) -> Biscuit:
    """Return one biscuit of the day's batch."""
    bake = rng.normal(0, 0.01)
    return Biscuit(pose(rng, 1.5, 0.02), (0.86 - 0.6 * bake, 0.65 - bake, 0.36 - bake))


def draw_biscuit(layout: Biscuit, rng: Chance) -> Surface:
    """Cut, dock, emboss and bake."""
    tray = flat((0.36, 0.46, 0.56))
    tray.albedo *= (1 + 0.012 * noise(rng, 110) + 0.015 * noise(rng, 3))[..., None]
    u, v = local(layout.pose.x, layout.pose.y, layout.pose.angle)
    inner = box(u, v, WIDE, HIGH, 8)
    along = np.where(np.abs(u) * HIGH > np.abs(v) * WIDE, v, u)
    rim = inner - np.float32(3.4) * np.sqrt(np.abs(cos(along * np.float32(pi / 10.6)))) + np.float32(1.5)
    for piece in layout.bitten:
        rim = np.maximum(rim, -piece)
    cover = edge(rim)
    crumb = fractal(rng, 34, 3)
    brown = exp(np.minimum(inner, 0) / np.float32(7)) * 0.55 + 0.04 * noise(rng, 4) + 0.03 * crumb
    brown = np.clip(brown, 0, 1)[..., None]
    tray.paint(cover, np.asarray(layout.gold) * (1 - brown) + np.array((0.60, 0.34, 0.13), np.float32) * brown)
    holes = np.full_like(u, 999)
    for x in (-48, -24, 0, 24, 48):
        for y in (-30, 0, 30):
            holes = np.minimum(holes, hypot(u - np.float32(x), v - np.float32(y)))
    frame = edge(np.abs(box(u, v, WIDE - 22, HIGH - 22, 6)) - 1.2, 2.0)
    dome = 7 * edge(rim, 5.0) + 2 * np.clip(-inner / 30, 0, 1)
    relief = dome + 0.12 * crumb * cover - 1.3 * frame * cover - 2.6 * edge(holes - 2.6, 2.5) * cover
    tray.tint(edge(holes - 2.2, 1.5) * cover, (0.60, 0.50, 0.42))
    tray.tint(frame * cover, (0.93, 0.88, 0.82))
    for piece in layout.bitten:
        broken = edge(np.abs(piece - 1.5) - 1.5, 2.0) * cover
        tray.paint(broken, (0.80, 0.64, 0.40), 0.7)
    tray.height = blur(relief, 0.6)
    tray.body = cover
    return tray
