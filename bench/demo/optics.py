"""What the demo's pictures are made of: noise fields, soft edges, a relief under a lamp, and a camera.

Lengths are pixels of the finished picture, colours fractions of white, angles radians. A field is float32
[SIDE, SIDE], rows first. Every random draw comes from the generator that is handed in.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from math import cos, hypot, pi, sin
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageDraw
from scipy import ndimage

SIDE = 192
"""Width and height of every picture in pixels."""

Field: TypeAlias = npt.NDArray[np.float32]
Colour: TypeAlias = tuple[float, float, float]
Rng: TypeAlias = np.random.Generator

Y, X = (axis.astype(np.float32) + np.float32(0.5) for axis in np.mgrid[0:SIDE, 0:SIDE])
_FINE = 4


@dataclass(slots=True)
class Surface:
    """A thing as it lies there, before light falls on it."""

    albedo: Field
    """[SIDE, SIDE, 3], colour under white light."""
    height: Field
    """Relief in pixels; a drop casts a shadow."""
    gloss: Field
    """Strength of the highlight, 0 for chalk."""
    body: Field
    """Share of each pixel that the product covers; 1 everywhere on a texture."""

    def paint(self, cover: Field, colour: Colour | Field, strength: float = 1.0) -> None:
        """Lay an opaque colour (or a [SIDE, SIDE, 3] picture) over the pixels that `cover` selects."""
        share = (cover * np.float32(strength))[..., None]
        self.albedo += share * (np.asarray(colour, np.float32) - self.albedo)

    def tint(self, cover: Field, colour: Colour, strength: float = 1.0) -> None:
        """Multiply by a colour where `cover` selects, as a transparent stain does."""
        share = (cover * np.float32(strength))[..., None]
        self.albedo *= 1 + share * (np.asarray(colour, np.float32) - 1)

    def window(self, x: float, y: float, reach: float) -> tuple[slice, slice]:
        """Return the rows and columns at most `reach` pixels away from a point."""
        top, left = (int(min(max(at - reach, 0), SIDE - 1)) for at in (y, x))
        return slice(top, max(int(y + reach) + 1, top + 1)), slice(left, max(int(x + reach) + 1, left + 1))

    def part(self, where: tuple[slice, slice]) -> Surface:
        """Return a window of the surface; what is painted on it shows on the whole."""
        return Surface(self.albedo[where], self.height[where], self.gloss[where], self.body[where])


def flat(colour: Colour, gloss: float = 0.0) -> Surface:
    """Return an even sheet of one colour that covers the whole picture."""
    albedo = np.broadcast_to(np.asarray(colour, np.float32), (SIDE, SIDE, 3)).copy()
    even = (np.full((SIDE, SIDE), value, np.float32) for value in (0, gloss, 1))
    return Surface(albedo, *even)


def noise(rng: Rng, rows: int, columns: int | None = None) -> Field:
    """Return smooth noise of about zero mean and unit spread, with so many bumps down and across the picture."""
    columns = rows if columns is None else columns
    coarse = rng.standard_normal((rows + 3, columns + 3)).astype(np.float32)
    box = (1.5, 1.5, columns + 1.5, rows + 1.5)
    fine: Field = np.array(Image.fromarray(coarse).resize((SIDE, SIDE), Image.Resampling.BICUBIC, box=box))
    fine *= np.float32(1.4)
    return fine


def fractal(rng: Rng, cells: int, octaves: int = 3) -> Field:
    """Return noise with detail at several scales, the coarsest with `cells` bumps across."""
    layers = (noise(rng, cells * 2**k) * np.float32(0.5**k) for k in range(octaves))
    whole: Field = sum(layers, np.zeros((SIDE, SIDE), np.float32)) / np.float32(1.2)
    return whole


def edge(distance: npt.NDArray[np.floating[Any]], softness: float = 1.0) -> Field:
    """Turn a signed distance (negative inside) into coverage 0..1 with an edge `softness` pixels wide."""
    cover: Field = np.clip(0.5 - distance / np.float32(softness), 0, 1).astype(np.float32, copy=False)
    return cover


def local(x: float, y: float, angle: float) -> tuple[Field, Field]:
    """Return each pixel's coordinates in a frame centred at (x, y) and turned by `angle`."""
    c, s = cos(angle), sin(angle)
    dx, dy = X - np.float32(x), Y - np.float32(y)
    return dx * c + dy * s, dy * c - dx * s


def box(u: Field, v: Field, width: float, height: float, corner: float = 0.0) -> Field:
    """Return the signed distance to a rectangle round the frame's origin, with rounded corners."""
    qu = np.abs(u) - np.float32(width / 2 - corner)
    qv = np.abs(v) - np.float32(height / 2 - corner)
    outside = np.hypot(np.maximum(qu, 0), np.maximum(qv, 0))
    return outside + np.minimum(np.maximum(qu, qv), 0) - np.float32(corner)


def blot(rng: Rng, x: float, y: float, radius: float, ragged: float = 0.16, stretch: float = 1.0) -> Field:
    """Return the signed distance to an irregular spot; `ragged` is the outline's relative unrest."""
    u, v = local(x, y, rng.uniform(0, pi))
    theta = np.arctan2(v, u)
    wobble = np.zeros_like(theta)
    for k in range(2, 8):
        wobble += np.float32(rng.normal() / k) * np.cos(k * theta + np.float32(rng.uniform(0, 2 * pi)))
    reach = np.float32(radius) * np.maximum(1 + np.float32(ragged) * wobble, 0.3)
    distance: Field = np.hypot(u / np.float32(stretch), v) - reach
    return distance


def stroke(*paths: Sequence[tuple[float, float, float]]) -> Field:
    """Return the coverage of lines through points, each given as (x, y, width there)."""
    sheet = Image.new("L", (SIDE * _FINE, SIDE * _FINE), 0)
    pen = ImageDraw.Draw(sheet)
    for path in paths:
        for (x0, y0, w0), (x1, y1, w1) in pairwise(path):
            steps = max(int(hypot(x1 - x0, y1 - y0) * 2), 1)
            for k in range(steps + 1):
                x, y, width = (_FINE * (a + (b - a) * k / steps) for a, b in ((x0, x1), (y0, y1), (w0, w1)))
                pen.ellipse((x - width / 2, y - width / 2, x + width / 2, y + width / 2), fill=255)
    return shrink(sheet)


def shrink(sheet: Image.Image) -> Field:
    """Reduce a drawing made four times too large to a field (or [SIDE, SIDE, 3]) of 0..1."""
    return np.asarray(sheet.reduce(_FINE), np.float32) / np.float32(255)


@dataclass(frozen=True, slots=True)
class Light:
    """One lamp and one camera: what differs between two shots of the same thing."""

    azimuth: float
    elevation: float
    slope: tuple[float, float]
    """Relative change of brightness across the picture, rightwards and downwards."""
    cast: Colour
    """Colour of the light times exposure."""
    blur: float
    grain: float
    """Standard deviation of the sensor's noise at mid grey."""

    @classmethod
    def draw(cls, rng: Rng) -> Light:
        """Return the usual lamp, upper left, with the scatter of a station that holds its products in a jig."""
        exposure = rng.uniform(0.97, 1.03)
        warm = rng.normal(0, 0.006)
        return cls(
            azimuth=pi * 1.25 + rng.normal(0, 0.04),
            elevation=0.85 + rng.normal(0, 0.02),
            slope=(rng.normal(-0.05, 0.015), rng.normal(-0.05, 0.015)),
            cast=(exposure * (1 + warm), exposure, exposure * (1 - warm)),
            blur=rng.uniform(0.45, 0.55),
            grain=rng.uniform(0.006, 0.009),
        )


def expose(surface: Surface, light: Light) -> Field:
    """Return the noise-free picture, [SIDE, SIDE, 3]: Lambert and Blinn shading, cast shadows, lens blur."""
    c, s = cos(light.azimuth), sin(light.azimuth)
    lamp = np.array((c * cos(light.elevation), s * cos(light.elevation), sin(light.elevation)), np.float32)
    halfway = lamp + np.array([0, 0, 1], np.float32)
    halfway /= np.linalg.norm(halfway)
    down, right = np.gradient(surface.height)
    length = np.sqrt(1 + down * down + right * right)
    diffuse = np.maximum((lamp[2] - right * lamp[0] - down * lamp[1]) / length, 0) / lamp[2]
    mirror = np.maximum((halfway[2] - right * halfway[0] - down * halfway[1]) / length, 0) ** np.float32(24)
    tall = np.pad(surface.height, 12, mode="edge")
    shade = np.zeros_like(surface.height)
    for reach in (2, 4, 7, 10):
        dx, dy = 12 + round(c * reach), 12 + round(s * reach)
        wall = tall[dy : dy + SIDE, dx : dx + SIDE] - surface.height
        shade = np.maximum(shade, np.clip((wall - np.float32(0.55 * reach)) / 3, 0, 1))
    shade = ndimage.gaussian_filter(shade, 1.2)
    lit = (0.35 + 0.65 * diffuse) * (1 - np.float32(0.55) * shade)
    u, v = X / SIDE - np.float32(0.5), Y / SIDE - np.float32(0.5)
    even = 1 + light.slope[0] * 2 * u + light.slope[1] * 2 * v - np.float32(0.12) * (u * u + v * v)
    picture = (surface.albedo * lit[..., None] + (surface.gloss * mirror)[..., None]) * even[..., None]
    picture = picture * np.asarray(light.cast, np.float32)
    blurred: Field = ndimage.gaussian_filter(picture, (light.blur, light.blur, 0)).astype(np.float32)
    return blurred


def develop(picture: Field, light: Light, rng: Rng) -> npt.NDArray[np.uint8]:
    """Add the sensor's noise, stronger in bright areas, and return uint8 [SIDE, SIDE, 3]."""
    clean = np.clip(picture, 0, 1)
    grain = rng.standard_normal(picture.shape).astype(np.float32) * np.float32(light.grain)
    return np.clip(np.rint((clean + grain * (0.6 + 0.8 * clean)) * 255), 0, 255).astype(np.uint8)
