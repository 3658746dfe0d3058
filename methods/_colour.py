"""Images with their brightness changed, in six colour spaces.

The transforms are those that OpenCV's documentation states, of sRGB with the white of D65, and nothing between them is
rounded to 8 bits. Images are float [B, 3, H, W] between 0 and 255, RGB; results may lie beyond.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

Change = Callable[[Tensor], Tensor]
"""Of a brightness [B, 1, H, W] between 0 and 255."""

WHITE = (0.950456, 1.0, 1.088754)
"""X, Y and Z of D65."""
TO_XYZ = ((0.412453, 0.357580, 0.180423), (0.212671, 0.715160, 0.072169), (0.019334, 0.119193, 0.950227))
FROM_XYZ = ((3.240479, -1.537150, -0.498535), (-0.969256, 1.875991, 0.041556), (0.055648, -0.204043, 1.057311))


TINY = 1e-9
"""In place of a divisor of zero."""


def turned_hue(images: Tensor, turn: Tensor, saturation: Tensor | float = 0.0) -> Tensor:
    """Return images with hue turned by sixths of the circle and a number added to the saturation, as HSV has them.

    Args:
        images: whatever their brightest value is.
        turn: float [B, 1, 1, 1].
        saturation: likewise; the sum is kept between 0 and 1.
    """
    high, low = images.amax(dim=1, keepdim=True), images.amin(dim=1, keepdim=True)
    chroma, (red, green, blue) = high - low, images.chunk(3, dim=1)
    # in sixths of the circle
    other = torch.where(high == green, 2 * chroma + blue - red, 4 * chroma + red - green)
    angle = torch.where(high == red, green - blue, other) / chroma.clamp(min=TINY) + turn
    share = (chroma / high.clamp(min=TINY) + saturation).clamp(0, 1)
    place = torch.cat([angle + 5, angle + 3, angle + 1], dim=1) % 6
    return high * (1 - share * torch.minimum(place, 4 - place).clamp(0, 1))


def in_luma(images: Tensor, changed: Change) -> Tensor:
    """Change Y of YCrCb or YUV: all channels move alike."""
    luma = _mixed(images, ((0.299, 0.587, 0.114),))
    return images + changed(luma) - luma


def in_value(images: Tensor, changed: Change) -> Tensor:
    """Change V of HSV: all channels in proportion; black becomes grey."""
    value = images.amax(dim=1, keepdim=True)
    return torch.where(value > 0, images / value.clamp(min=1), 1.0) * changed(value)


def in_lightness(images: Tensor, changed: Change) -> Tensor:
    """Change L of HLS; the chroma stays the same share of what is possible."""
    light = (images.amax(dim=1, keepdim=True) + images.amin(dim=1, keepdim=True)) / 2
    new = changed(light)
    room, left = (255 - (2 * one - 255).abs() for one in (light, new))
    return new + (images - light) * left / room.clamp(min=1)


def in_lab(images: Tensor, changed: Change) -> Tensor:
    """Change L of Lab."""
    roots = _root(_xyz(images) / _white(images))
    light = 116 * roots[:, 1:2] - 16
    return _rgb(_unroot(roots + (changed(light * 2.55) / 2.55 - light) / 116) * _white(images))


def in_luv(images: Tensor, changed: Change) -> Tensor:
    """Change L of Luv, of which u and v are kept: dark colours pale when they brighten."""
    x, y, z = _xyz(images).chunk(3, dim=1)
    light = 116 * _root(y) - 16
    new = changed(light * 2.55) / 2.55
    divisor, ratio = (x + 15 * y + 3 * z).clamp(min=1e-9), light / new.clamp(min=1e-3)
    grey = WHITE[0] + 15 + 3 * WHITE[2]
    u = torch.lerp(torch.full_like(x, 4 * WHITE[0] / grey), 4 * x / divisor, ratio)
    v = torch.lerp(torch.full_like(x, 9 / grey), 9 * y / divisor, ratio).clamp(min=1e-3)
    y = _unroot((new + 16) / 116)
    return _rgb(torch.cat([y * 9 * u / (4 * v), y, y * (12 - 3 * u - 20 * v) / (4 * v)], dim=1))


SPACES = (in_luma, in_luma, in_value, in_lightness, in_lab, in_luv)
"""Of YCrCb, YUV, HSV, HLS, Lab and Luv: images with their brightness changed."""


def _xyz(images: Tensor) -> Tensor:
    values = images / 255
    return _mixed(torch.where(values > 0.04045, ((values + 0.055) / 1.055) ** 2.4, values / 12.92), TO_XYZ)


def _rgb(xyz: Tensor) -> Tensor:
    linear = _mixed(xyz, FROM_XYZ).clamp(0, 1)
    return 255 * torch.where(linear > 0.0031308, 1.055 * linear ** (1 / 2.4) - 0.055, 12.92 * linear)


def _root(share: Tensor) -> Tensor:
    return torch.where(share > 0.008856, share ** (1 / 3), 7.787 * share + 16 / 116)


def _unroot(root: Tensor) -> Tensor:
    return torch.where(root > 0.206893, root**3, (root - 16 / 116) / 7.787)


def _white(images: Tensor) -> Tensor:
    return torch.cat([torch.full_like(images[:1, :1, :1, :1], one) for one in WHITE], dim=1)


def _mixed(images: Tensor, rows: Sequence[Sequence[float]]) -> Tensor:
    red, green, blue = images.chunk(3, dim=1)
    return torch.cat([row[0] * red + row[1] * green + row[2] * blue for row in rows], dim=1)
