"""The images that speed is measured on: gratings under noise, the same pixels on every machine."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from bench.demo.exact import Chance, sin

NOISE = 1.5
"""Grey levels; makes a PNG of 900 x 900 pixels about a megabyte long, as MVTec AD's are."""


def grating(number: int, side: int) -> npt.NDArray[np.uint8]:
    """Return one of many images, uint8 [side, side, 3]."""
    rng = Chance(number)
    x, y = np.meshgrid(np.arange(side, dtype=np.float32), np.arange(side, dtype=np.float32))
    wave = sin((x * (number % 5 + 1) + y * 2) / 17 + rng.uniform(0, 6))
    tint = rng.uniforms(60, 120, 3)
    noise = NOISE * rng.normals((side, side, 1)) + NOISE / 3 * rng.normals((side, side, 3))
    pixels = tint + 40 * wave[..., None] + noise
    return np.clip(pixels, 0, 255).astype(np.uint8)
