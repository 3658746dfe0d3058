"""Optics of the demo's pictures: noise fields, soft edges, a relief under a lamp, and a camera.

Lengths are pixels of the finished picture, colours fractions of white, angles radians. A field is float32
[SIDE, SIDE], rows first. Every random draw comes from the `Chance` that is handed in.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from itertools import pairwise
from math import fsum, pi
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt

from .exact import Chance, cos, exp, hypot, power, sin
from .raster import FINE, Levels, shrink, stamp

SIDE = 192
"""Width and height of every picture in pixels."""

Field: TypeAlias = npt.NDArray[np.float32]
Colour: TypeAlias = tuple[float, float, float]

Y, X = (axis.astype(np.float32) + np.float32(0.5) for axis in np.mgrid[0:SIDE, 0:SIDE])


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


def noise(rng: Chance, rows: int, columns: int | None = None) -> Field:
    """Return smooth noise of about zero mean and unit spread, with so many bumps down and across the picture.

    At most SIDE bumps; normal numbers on a coarse grid, enlarged by cubic convolution (Keys 1981, a = -1/2).
    """
    columns = rows if columns is None else columns
    coarse = rng.normals((rows + 3, columns + 3)).astype(np.float32)
    across, shares = _taps(columns)
    wide = _weighted([coarse[:, place] for place in across], shares)
    down, shares = _taps(rows)
    return _weighted([wide[place] for place in down], np.float32(1.4) * shares[..., None])


@cache
def _taps(cells: int) -> tuple[npt.NDArray[np.intp], Field]:
    """Return which four of `cells` + 3 coarse values each pixel of a line lies between, and their shares; [4, SIDE]."""
    middle = 1.5 + (np.arange(SIDE) + 0.5) * (cells / SIDE)
    places = np.floor(middle - 1.5) + np.arange(4)[:, None]
    d = np.abs(places + 0.5 - middle)
    shares = np.where(d < 1, (1.5 * d - 2.5) * d * d + 1, ((2.5 - 0.5 * d) * d - 4) * d + 2)
    return places.astype(np.intp), shares.astype(np.float32)


def _weighted(parts: Sequence[Field], shares: Sequence[Any] | Field) -> Field:
    """Return the sum of some fields, each times its share, in this order."""
    total: Field = parts[0] * shares[0]
    for part, share in zip(parts[1:], shares[1:], strict=True):
        total += part * share
    return total


def fractal(rng: Chance, cells: int, octaves: int = 3) -> Field:
    """Return noise with detail at several scales, the coarsest with `cells` bumps across."""
    layers = [noise(rng, cells << k) for k in range(octaves)]
    return _weighted(layers, [np.float32(1 / (1 << k)) for k in range(octaves)]) / np.float32(1.2)


def blur(field: Field, sigma: float) -> Field:
    """Return a field [SIDE, SIDE] or [SIDE, SIDE, 3] under a Gaussian blur; edges are mirrored."""
    reach = int(4 * sigma + 0.5)
    bell = [exp(-0.5 * (k / sigma) * (k / sigma)) for k in range(-reach, reach + 1)]
    shares = [np.float32(height / fsum(bell)) for height in bell]
    for _ in range(2):
        padded = np.pad(field, [(reach, reach), *[(0, 0)] * (field.ndim - 1)], mode="symmetric")
        field = _weighted([padded[k : k + SIDE] for k in range(2 * reach + 1)], shares).swapaxes(0, 1)
    return field


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
    outside = hypot(np.maximum(qu, 0), np.maximum(qv, 0))
    return outside + np.minimum(np.maximum(qu, qv), 0) - np.float32(corner)


def harmonic(u: Field, v: Field, times: int, ahead: float) -> Field:
    """Return cos(times * angle + ahead), the angle being that of (u, v) as arctan2(v, u) gives it."""
    length = np.maximum(hypot(u, v), np.float32(1e-6))
    c, s = u / length, v / length
    real, imaginary = c, s
    for _ in range(times - 1):
        real, imaginary = real * c - imaginary * s, imaginary * c + real * s
    wave: Field = real * np.float32(cos(ahead)) - imaginary * np.float32(sin(ahead))
    return wave


def blot(rng: Chance, x: float, y: float, radius: float, ragged: float = 0.16, stretch: float = 1.0) -> Field:
    """Return the signed distance to an irregular spot; `ragged` is the outline's relative unrest."""
    u, v = local(x, y, rng.uniform(0, pi))
    wobble = np.zeros_like(u)
    for k in range(2, 8):
        wobble += np.float32(rng.normal() / k) * harmonic(u, v, k, rng.uniform(0, 2 * pi))
    reach = np.float32(radius) * np.maximum(1 + np.float32(ragged) * wobble, 0.3)
    distance: Field = hypot(u / np.float32(stretch), v) - reach
    return distance


def stroke(*paths: Sequence[tuple[float, float, float]]) -> Field:
    """Return the coverage of lines through points, each given as (x, y, width there)."""
    sheet = np.zeros((SIDE * FINE, SIDE * FINE), np.bool_)
    for path in paths:
        for (x0, y0, w0), (x1, y1, w1) in pairwise(path):
            steps = max(int(hypot(x1 - x0, y1 - y0) * 2), 1)
            for k in range(steps + 1):
                x, y, width = (FINE * (a + (b - a) * k / steps) for a, b in ((x0, x1), (y0, y1), (w0, w1)))
                stamp(sheet, int(x - width / 2), int(y - width / 2), int(x + width / 2), int(y + width / 2))
    return shares_of(sheet.astype(np.uint8) * np.uint8(255))


def shares_of(levels: Levels) -> Field:
    """Reduce a drawing of 0..255, made four times too large, to a field (or [SIDE, SIDE, 3]) of 0..1."""
    return shrink(levels).astype(np.float32) / np.float32(255)


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
    def draw(cls, rng: Chance) -> Light:
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
    halfway /= np.sqrt(halfway[0] * halfway[0] + halfway[1] * halfway[1] + halfway[2] * halfway[2])
    down, right = np.gradient(surface.height)
    length = np.sqrt(1 + down * down + right * right)
    diffuse = np.maximum((lamp[2] - right * lamp[0] - down * lamp[1]) / length, 0) / lamp[2]
    mirror = power(np.maximum((halfway[2] - right * halfway[0] - down * halfway[1]) / length, 0), 24)
    tall = np.pad(surface.height, 12, mode="edge")
    shade = np.zeros_like(surface.height)
    for reach in (2, 4, 7, 10):
        dx, dy = 12 + round(c * reach), 12 + round(s * reach)
        wall = tall[dy : dy + SIDE, dx : dx + SIDE] - surface.height
        shade = np.maximum(shade, np.clip((wall - np.float32(0.55 * reach)) / 3, 0, 1))
    shade = blur(shade, 1.2)
    lit = (0.35 + 0.65 * diffuse) * (1 - np.float32(0.55) * shade)
    u, v = X / SIDE - np.float32(0.5), Y / SIDE - np.float32(0.5)
    even = 1 + light.slope[0] * 2 * u + light.slope[1] * 2 * v - np.float32(0.12) * (u * u + v * v)
    picture = (surface.albedo * lit[..., None] + (surface.gloss * mirror)[..., None]) * even[..., None]
    picture = picture * np.asarray(light.cast, np.float32)
    return blur(picture, light.blur)


def develop(picture: Field, light: Light, rng: Chance) -> npt.NDArray[np.uint8]:
    """Add the sensor's noise, stronger in bright areas, and return uint8 [SIDE, SIDE, 3]."""
    clean = np.clip(picture, 0, 1)
    grain = rng.normals(picture.shape).astype(np.float32) * np.float32(light.grain)
    return np.clip(np.rint((clean + grain * (0.6 + 0.8 * clean)) * 255), 0, 255).astype(np.uint8)
