"""Images drawn from a seed: textures and machined-looking objects, so that regular patterns are not foreign to it."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageDraw, ImageFilter

U8 = npt.NDArray[np.uint8]
F32 = npt.NDArray[np.float32]


def spectral(rng: np.random.Generator, size: int) -> F32:
    """Noise whose spectrum falls as 1/f^a, with an orientation; float32 [size, size] in [0, 1]."""
    fy, fx = np.meshgrid(np.fft.fftfreq(size), np.fft.rfftfreq(size), indexing="ij")
    turn, stretch = rng.uniform(0, np.pi), np.exp(rng.uniform(0, 1.8))
    along, across = np.cos(turn) * fx + np.sin(turn) * fy, np.cos(turn) * fy - np.sin(turn) * fx
    radius = np.hypot(along * stretch, across / stretch) + 1.0 / size
    spectrum = (rng.normal(size=radius.shape) + 1j * rng.normal(size=radius.shape)) * radius ** -rng.uniform(0.4, 2.4)
    return unit(np.fft.irfft2(spectrum, s=(size, size)))


def periodic(rng: np.random.Generator, size: int) -> F32:
    """Stripes, checks, dots, bricks or weave, slightly warped; float32 [size, size] in [0, 1]."""
    y, x = np.mgrid[0:size, 0:size].astype(np.float32)
    turn, period = rng.uniform(0, np.pi), np.exp(rng.uniform(np.log(6), np.log(48)))
    warp = (spectral(rng, size) - 0.5) * rng.uniform(0, 8)
    u = (np.cos(turn) * x + np.sin(turn) * y + warp) / period
    v = (np.cos(turn) * y - np.sin(turn) * x + warp) / period * rng.uniform(0.4, 1.0)
    kind = rng.integers(5)
    if kind == 0:
        field = np.sin(2 * np.pi * u)
    elif kind == 1:
        field = np.sign(np.sin(2 * np.pi * u) * np.sin(2 * np.pi * v))
    elif kind == 2:
        field = -np.hypot(u % 1 - 0.5, v % 1 - 0.5)
    elif kind == 3:
        joint = rng.uniform(0.05, 0.2)
        field = ((v % 1 > joint) & ((u + 0.5 * np.floor(v)) % 1 > joint)).astype(np.float32)
    else:
        over = (np.floor(u) + np.floor(v)) % 2
        field = over * np.sin(np.pi * (u % 1)) + (1 - over) * np.sin(np.pi * (v % 1)) * 0.8
    return unit(field)


def cells(rng: np.random.Generator, size: int) -> F32:
    """Grains: distance to the nearest of random points, or each grain's own grey; float32 [size, size] in [0, 1]."""
    points = rng.uniform(0, size, (int(rng.integers(12, 160)), 2)).astype(np.float32)
    y, x = np.mgrid[0:size, 0:size].astype(np.float32)
    distance = np.stack([(y - a) ** 2 + (x - b) ** 2 for a, b in points])
    nearest = np.sqrt(np.partition(distance, 1, axis=0)[:2])
    if rng.random() < 0.5:
        return unit(np.minimum(nearest[1] - nearest[0], rng.uniform(2, 12)))
    return unit(rng.uniform(size=len(points))[distance.argmin(0)])


def unit(field: npt.NDArray[np.floating]) -> F32:
    """Stretched to [0, 1]."""
    low, high = float(field.min()), float(field.max())
    return ((field - low) / max(high - low, 1e-6)).astype(np.float32)


def texture(rng: np.random.Generator, size: int = 128) -> U8:
    """One coloured texture, uint8 [size, size, 3]: one or two fields mapped onto a random palette, with fine noise."""
    makers = (spectral, periodic, periodic, cells)
    field = makers[rng.integers(4)](rng, size)
    if rng.random() < 0.5:
        field = unit(field + rng.uniform(0.1, 0.6) * makers[rng.integers(4)](rng, size))
    base = rng.uniform(0, 1, 3)
    palette = np.clip(base + rng.normal(0, rng.choice([0.08, 0.25, 0.5]), (4, 3)), 0, 1)
    colour = np.stack([np.interp(field, np.linspace(0, 1, 4), palette[:, c]) for c in range(3)], axis=-1)
    colour += rng.normal(0, rng.choice([0.0, 0.02, 0.05]), (size, size, 1))
    return (np.clip(colour, 0, 1) * 255).astype(np.uint8)


def outline(rng: np.random.Generator) -> npt.NDArray[np.float64]:
    """A closed shape around the origin, float64 [180, 2], radius about 1: superellipse, polygon, gear or blob."""
    angle = np.linspace(0, 2 * np.pi, 180, endpoint=False)
    kind = rng.integers(4)
    if kind == 0:
        power = rng.uniform(0.4, 2.5)
        c, s = np.cos(angle), np.sin(angle)
        xy = np.stack([np.sign(c) * abs(c) ** power, np.sign(s) * abs(s) ** power], 1)
    else:
        if kind == 1:
            n = rng.integers(3, 9)
            r = np.cos(np.pi / n) / np.cos((angle % (2 * np.pi / n)) - np.pi / n)
        elif kind == 2:
            r = 1 + rng.uniform(0.05, 0.2) * np.tanh(4 * np.sin(rng.integers(5, 20) * angle))
        else:
            r = 1 + sum(rng.normal(0, 0.25 / k) * np.cos(k * angle + rng.uniform(0, 6)) for k in range(2, 7))
        xy = np.stack([r * np.cos(angle), r * np.sin(angle)], 1)
    return np.asarray(xy * np.array([1.0, np.exp(rng.uniform(-1.2, 0))]))


def drawn_object(rng: np.random.Generator, size: int = 256) -> Image.Image:
    """One object with parts, shading and surface texture on nothing: 'RGBA' [size, size]."""
    sheet = Image.new("RGBA", (size, size))
    centre = np.array([size / 2, size / 2])
    turn = rng.uniform(0, 2 * np.pi)
    rotation = np.array([[np.cos(turn), -np.sin(turn)], [np.sin(turn), np.cos(turn)]])
    colour, radius, parts = rng.uniform(30, 225, 3), size * rng.uniform(0.28, 0.46), int(rng.integers(1, 5))
    for part in range(parts):
        shape = outline(rng) * radius * (1 if part == 0 else rng.uniform(0.1, 0.6))
        shift = np.zeros(2) if part == 0 or rng.random() < 0.4 else rng.uniform(-0.35, 0.35, 2) * size * 0.8
        polygon = [(float(a), float(b)) for a, b in shape @ rotation.T + shift + centre]
        mask = Image.new("L", (size, size))
        ImageDraw.Draw(mask).polygon(polygon, fill=255)
        surface = np.array(Image.fromarray(texture(rng, 128)).resize((size, size))).astype(np.float32)
        soft = np.asarray(mask.filter(ImageFilter.GaussianBlur(size * rng.uniform(0.01, 0.06))), dtype=np.float32) / 255
        light = 0.35 + 0.65 * soft[..., None] + rng.normal(0, 0.1)
        mix = rng.choice([0.0, 0.15, 0.5])
        tint = colour if part == 0 else np.clip(colour + rng.normal(0, 70, 3), 0, 255)
        fill = np.clip((mix * surface + (1 - mix) * tint) * light, 0, 255).astype(np.uint8)
        sheet.paste(
            Image.fromarray(fill),
            mask=mask
            if part == 0
            else Image.fromarray(np.minimum(np.asarray(mask), np.asarray(sheet.getchannel("A")))),
        )
        if part == 0:
            sheet.putalpha(mask)
    return sheet
