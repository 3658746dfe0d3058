"""The demo's three textures: twill fabric, planed wood, terrazzo.

Each has a layout (what a fault may change) and a draw function that turns a layout into a surface; two draws from equal
layouts and equally seeded generators agree in every pixel.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from math import pi, sqrt
from typing import TypeAlias

import numpy as np

from .exact import Chance, cos, hypot, power, sin
from .optics import SIDE, Colour, Field, Surface, flat, fractal, local, noise, shares_of
from .raster import FINE, fill

Outline: TypeAlias = tuple[tuple[float, float], ...]

_NOWHERE: Field = np.zeros((SIDE, SIDE), np.float32)


@dataclass(frozen=True, slots=True)
class Cloth:
    """A twill: warp runs down, weft across."""

    angle: float
    phase: tuple[float, float]
    warp: Colour
    weft: Colour
    torn_warp: Field = field(default_factory=lambda: _NOWHERE)
    """1 where warp yarns are gone."""
    torn_weft: Field = field(default_factory=lambda: _NOWHERE)
    miswoven: Field = field(default_factory=lambda: _NOWHERE)
    """1 where the diagonal runs the other way."""


SQRT2 = sqrt(2)
YARN = 7.0
"""Distance between neighbouring yarns in pixels."""


def cloth(rng: Chance) -> Cloth:
    """Return a piece of denim-blue twill as it lies on the table."""
    shade = rng.normal(0, 0.012)
    return Cloth(
        angle=rng.normal(0, 0.02),
        phase=(rng.uniform(0, 4 * YARN), rng.uniform(0, 4 * YARN)),
        warp=(0.25 + shade, 0.36 + shade, 0.50 + shade),
        weft=(0.62 + shade, 0.63 + shade, 0.62 + shade),
    )


def cloth_frame(layout: Cloth) -> tuple[Field, Field]:
    """Return each pixel's position across and along the warp, in yarns."""
    u, v = local(SIDE / 2, SIDE / 2, layout.angle)
    return (u + np.float32(SIDE + layout.phase[0])) / YARN, (v + np.float32(SIDE + layout.phase[1])) / YARN


def draw_cloth(layout: Cloth, rng: Chance) -> Surface:
    """Weave it: two sets of round yarns, whichever lies higher is seen."""
    u, v = cloth_frame(layout)
    u = u + noise(rng, 3, 8) * np.float32(0.10)
    v = v + noise(rng, 8, 3) * np.float32(0.10)
    i, j = np.floor(u), np.floor(v)
    across, along = u - i - np.float32(0.5), v - j - np.float32(0.5)
    turn = np.where(layout.miswoven > 0.5, 1 - i, i)
    rise = np.clip(SQRT2 * cos(pi / 2 * (v - 0.5 - turn) - pi / 4), -1, 1)
    sway = np.where(layout.miswoven > 0.5, 1.5 - u, u - 0.5)
    fall = -np.clip(SQRT2 * cos(pi / 2 * (j - sway) - pi / 4), -1, 1)
    thick = 1 + 0.12 * rng.normals((2, 96)).astype(np.float32)
    tone = 1 + 0.06 * rng.normals((2, 96)).astype(np.float32)
    warp_id, weft_id = i.astype(np.intp) % 96, j.astype(np.intp) % 96
    round_warp = np.sqrt(np.maximum(1 - power(1.9 * across / thick[0][warp_id], 2), 0))
    round_weft = np.sqrt(np.maximum(1 - power(1.9 * along / thick[1][weft_id], 2), 0))
    warp = np.where((round_warp > 0.25) & (layout.torn_warp < 0.5), 1.3 * round_warp + 0.7 * rise, -3)
    weft = np.where((round_weft > 0.25) & (layout.torn_weft < 0.5), 1.3 * round_weft + 0.7 * fall, -3)
    sheet = flat((0.10, 0.10, 0.11))
    sheet.height = np.maximum(np.maximum(warp, weft), -1.6).astype(np.float32)
    over = (warp >= weft) & (warp > -3)
    under = ~over & (weft > -3)
    hair_warp, hair_weft = noise(rng, 24, 128) * 0.07, noise(rng, 128, 24) * 0.07
    sheet.paint(over.astype(np.float32), np.asarray(layout.warp) * (tone[0][warp_id] * (1 + hair_warp))[..., None])
    sheet.paint(under.astype(np.float32), np.asarray(layout.weft) * (tone[1][weft_id] * (1 + hair_weft))[..., None])
    sheet.albedo *= (1 + 0.04 * fractal(rng, 3, 2))[..., None]
    return sheet


@dataclass(frozen=True, slots=True)
class Plank:
    """A planed board; its grain runs down the picture."""

    angle: float
    pith: float
    """Where the heart of the tree lies, in pixels beside the picture's middle."""
    pitch: float
    """Width of a year ring in pixels."""
    light: Colour
    dark: Colour


def plank(rng: Chance) -> Plank:
    """Return a piece of pale oak."""
    shade = rng.normal(0, 0.02)
    return Plank(
        angle=rng.normal(0, 0.03),
        pith=rng.choice((-1, 1)) * rng.uniform(120, 260),
        pitch=rng.uniform(13, 17),
        light=(0.80 + shade, 0.62 + shade, 0.41 + shade),
        dark=(0.60 + shade, 0.41 + shade, 0.235 + shade),
    )


def draw_plank(layout: Plank, rng: Chance) -> Surface:
    """Cut through the year rings: slow light wood, a sudden dark late line, short pores."""
    u, v = local(SIDE / 2, SIDE / 2, layout.angle)
    bend = noise(rng, 2, 3) * 5 + noise(rng, 5, 5) * np.float32(1.6)
    ring = hypot(u + np.float32(layout.pith) + bend, v * np.float32(0.22)) / np.float32(layout.pitch)
    number = np.floor(ring)
    late = power(ring - number, 3) * (1 + 0.25 * sin(number * np.float32(12.9898)))
    fibre = noise(rng, 14, 150)
    pores = np.clip(noise(rng, 22, 130) - np.float32(1.15), 0, 1) * (0.35 + late)
    share = np.clip(0.85 * late + 0.10 * fibre + 0.12 * noise(rng, 2, 4) + 0.1, 0, 1)[..., None]
    sheet = flat((0, 0, 0), gloss=0.03)
    sheet.albedo = (np.asarray(layout.light) * (1 - share) + np.asarray(layout.dark) * share).astype(np.float32)
    sheet.tint(np.clip(pores, 0, 1).astype(np.float32), (0.45, 0.36, 0.28))
    sheet.height = (-0.5 * pores + 0.12 * fibre - 0.2 * late).astype(np.float32)
    return sheet


@dataclass(frozen=True, slots=True)
class Stone:
    """Marble chips in cement, ground flat."""

    cement: Colour
    chips: tuple[tuple[Outline, Colour], ...]
    """Outline and colour of each chip."""


_MARBLE: tuple[Colour, ...] = (
    (0.86, 0.84, 0.80),
    (0.74, 0.65, 0.51),
    (0.63, 0.53, 0.46),
    (0.41, 0.42, 0.43),
    (0.58, 0.60, 0.58),
)
_SHARES = (0.36, 0.18, 0.12, 0.14, 0.20)
_BASALT: Colour = (0.16, 0.16, 0.17)


def chip(rng: Chance, x: float, y: float, radius: float) -> Outline:
    """Return the outline of one angular chip."""
    corners = np.sort((np.arange(6) + rng.uniforms(-0.35, 0.35, 6)) * pi / 3 + rng.uniform(0, 1))
    reach = radius * rng.uniforms(0.7, 1.15, 6)
    return tuple(zip((x + reach * cos(corners)).tolist(), (y + reach * sin(corners)).tolist(), strict=True))


def stone(rng: Chance) -> Stone:
    """Return a slab: large chips first, small ones in the gaps, none overlapping; a few black grains anywhere."""
    placed = np.full((600, 3), 1e4)
    chips: list[tuple[Outline, Colour]] = []
    for radius, tries in ((6.5, 110), (4.8, 200), (3.4, 260)):
        tried = rng.uniforms((-6, -6, 0.85 * radius), (SIDE + 6, SIDE + 6, 1.15 * radius), (tries, 3))
        for x, y, r in tried.tolist():
            if np.all(power(x - placed[:, 0], 2) + power(y - placed[:, 1], 2) > power(r + 1 + placed[:, 2], 2)):
                placed[len(chips)] = x, y, r
                tone = rng.normal(1, 0.04)
                base = rng.choice(_MARBLE, _SHARES)
                chips.append((chip(rng, x, y, r), (base[0] * tone, base[1] * tone, base[2] * tone)))
    for x, y, r in rng.uniforms((0, 0, 0.8), (SIDE, SIDE, 1.7), (45, 3)).tolist():
        chips.append((chip(rng, x, y, r), _BASALT))
    shade = rng.normal(0, 0.012)
    return Stone((0.72 + shade, 0.70 + shade, 0.66 + shade), tuple(chips))


def inlay(chips: Sequence[tuple[Outline, Colour]]) -> tuple[Field, Field]:
    """Return the chips' coverage and, [SIDE, SIDE, 3], their colours times coverage."""
    corners = [[(int(FINE * x), int(FINE * y)) for x, y in outline] for outline, _ in chips]
    paints = [(0, 0, 0), *((int(255 * r), int(255 * g), int(255 * b)) for _, (r, g, b) in chips)]
    owner = fill(np.array(corners), SIDE * FINE)
    cover = np.where(owner > 0, np.uint8(255), np.uint8(0))
    return shares_of(cover), shares_of(np.take(np.array(paints, np.uint8), owner, axis=0))


def draw_stone(layout: Stone, rng: Chance) -> Surface:
    """Pour it: cement with sand, chips with faint veins, polished to an even height."""
    cover, colours = inlay(layout.chips)
    slab = flat(layout.cement, gloss=0.04)
    slab.albedo *= (1 + 0.035 * noise(rng, 110) + 0.02 * noise(rng, 5))[..., None]
    veins = 1 + 0.05 * fractal(rng, 20, 3)
    slab.albedo = slab.albedo * (1 - cover[..., None]) + colours * veins[..., None]
    slab.height = (0.08 * noise(rng, 90) * (1 - cover)).astype(np.float32)
    return slab
