"""Rotated copies of images, for memories that shall know an object from every side."""

from __future__ import annotations

from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor


def rotated(images: Tensor, degrees: Tensor, border: Literal["zeros", "reflection"]) -> Tensor:
    """Return images turned counter-clockwise, each by its own angle, about the point (S/2, S/2), taken bilinearly.

    Pixel i lies at i, as OpenCV has it, so that an image turned by 0 degrees is itself.

    Args:
        images: float [B, C, S, S].
        degrees: float [B].
        border: what lies beyond: nothing, or the image mirrored at the centres of its outermost pixels.
    """
    side = images.shape[-1]
    angle = torch.deg2rad(degrees.double())
    cos, sin = angle.cos().view(-1, 1, 1), angle.sin().view(-1, 1, 1)
    place = torch.arange(side, dtype=torch.float64, device=images.device) - side / 2
    down, across = place.view(1, -1, 1), place.view(1, 1, -1)
    source = torch.stack([cos * across - sin * down, sin * across + cos * down], dim=-1) + side / 2
    # grid_sample wants the outermost pixels' centres at -1 and 1
    grid = (source * (2 / (side - 1)) - 1).to(images.dtype)
    return F.grid_sample(images, grid, mode="bilinear", padding_mode=border, align_corners=True)
