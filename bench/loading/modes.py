"""Colour modes and transparency of images; the rule is fixed per mode, never per picture.

- `L`, `1`: the grey value in all three channels. `P`, `PA`: the palette's colours.
- `CMYK`, `YCbCr`, `LAB`, `HSV`: converted to RGB, so that black is 0 whatever the channels hold.
- `RGBA`, `LA`, `RGBa` and whatever names a transparent colour: alpha is dropped and the colours are kept, as
  `convert("RGB")` does in the papers' code.
- 16-bit grey (`I;16`, and `I` within 0..65535): the high byte, `value >> 8`; 16-bit colour is decoded so by PIL.
- `F` and 32-bit values beyond 65535 have no agreed range.
"""

from __future__ import annotations

from functools import cache
from typing import Any

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageCms

_PREMULTIPLIED = {"RGBa": "RGBA", "La": "LA"}


def is_wide(image: Image.Image) -> bool:
    """Whether a picture has one channel of more than 8 bits."""
    return image.mode in ("I", "F") or image.mode.startswith("I;16")


def to_rgb(image: Image.Image) -> Image.Image:
    """Return a decoded picture in mode RGB.

    Raises:
        ValueError: its mode has no agreed brightness range.
    """
    if is_wide(image):
        return Image.merge("RGB", [_high_byte(image)] * 3)
    if image.mode == "LAB":
        return _from_lab(image)
    if image.mode in _PREMULTIPLIED:
        image = image.convert(_PREMULTIPLIED[image.mode])
    if image.mode == "PA" or (image.mode == "P" and "transparency" in image.info):
        image = image.convert("RGBA")
    return image.convert("RGB")


def alpha(image: Image.Image) -> npt.NDArray[np.uint8] | None:
    """Return uint8 [H, W], 0 transparent to 255 opaque; None for a picture that has no transparency at all."""
    if image.mode in ("RGBA", "LA", "RGBa", "La"):
        return np.asarray(image.getchannel(image.mode[-1]))
    if image.mode == "PA" or (image.mode in ("P", "1", "L", "RGB") and "transparency" in image.info):
        return np.asarray(image.convert("RGBA").getchannel("A"))
    if image.mode.startswith("I;16") and isinstance(image.info.get("transparency"), int):
        return np.where(np.asarray(image) == image.info["transparency"], 0, 255).astype(np.uint8)
    return None


def _high_byte(image: Image.Image) -> Image.Image:
    values = np.asarray(image)
    if values.dtype.kind == "f" or values.min() < 0 or values.max() > 65535:
        raise ValueError(
            f"mode {image.mode} with values {values.min():g}..{values.max():g} has no agreed brightness range"
        )
    return Image.fromarray((values >> 8).astype(np.uint8), "L")


@cache
def _lab_to_rgb() -> Any:
    lab, rgb = ImageCms.createProfile("LAB"), ImageCms.createProfile("sRGB")
    return ImageCms.buildTransform(lab, rgb, "LAB", "RGB")


def _from_lab(image: Image.Image) -> Image.Image:
    found = ImageCms.applyTransform(image, _lab_to_rgb())
    assert found is not None
    return found
