"""Anomaly maps at the evaluation size from coarse grids, and image scores from maps."""

from __future__ import annotations

from collections.abc import Iterable

import torch
import torch.nn.functional as F
from torch import Tensor

from ._precision import full_precision, widened

TRUNCATE = 4.0
"""Standard deviations at which scipy's `gaussian_filter` cuts its kernel by default."""


def upsampled_sum(distances: Iterable[Tensor], size: int) -> Tensor:
    """Return the sum of grids [B, h, w] of any sizes, each resized bilinearly with aligned corners: [B, size, size]."""
    resized = [
        F.interpolate(distance.unsqueeze(1), size=(size, size), mode="bilinear", align_corners=True)
        for distance in distances
    ]
    return torch.stack(resized).sum(dim=0).squeeze(1)


def gaussian(maps: Tensor, sigma: float, radius: int | None = None) -> Tensor:
    """Return maps [B, H, W] smoothed as `scipy.ndimage.gaussian_filter` does.

    Beyond a border the map goes on as its own mirror image (edge pixel repeated).

    Args:
        maps: float [B, H, W].
        sigma: standard deviation in pixels.
        radius: of the kernel in pixels; None for scipy's default, 4 sigma.
    """
    if radius is None:
        radius = int(TRUNCATE * sigma + 0.5)
    maps = widened(maps)
    offsets = torch.arange(-radius, radius + 1, device=maps.device, dtype=torch.float64)
    profile = torch.exp(-(offsets**2) / (2.0 * sigma**2))
    kernel = (profile / profile.sum()).to(maps.dtype).view(1, 1, -1)
    height, width = maps.shape[-2:]
    rows = (
        maps.index_select(1, _mirrored(height, radius, maps.device)).transpose(1, 2).reshape(-1, 1, height + 2 * radius)
    )
    with full_precision(maps):
        smooth = F.conv1d(rows, kernel).reshape(-1, width, height).transpose(1, 2)
        columns = smooth.index_select(2, _mirrored(width, radius, maps.device)).reshape(-1, 1, width + 2 * radius)
        return F.conv1d(columns, kernel).reshape(maps.shape)


def resized(maps: Tensor, size: int) -> Tensor:
    """Return maps [B, h, w] resized bilinearly, pixels' areas aligned (half-pixel centres): [B, size, size]."""
    if maps.shape[-2:] == (size, size):
        return maps
    return F.interpolate(maps.unsqueeze(1), size=(size, size), mode="bilinear", align_corners=False).squeeze(1)


def box_gaussian(maps: Tensor, sigma: float, window: int) -> Tensor:
    """Return maps [B, H, W] smoothed by a Gaussian that is cut to a window, as OpenCV's `GaussianBlur` does.

    Beyond a border the map goes on as its own mirror image (edge pixel not repeated). A window much narrower than sigma
    is nearly a mean.

    Args:
        maps: float [B, H, W].
        sigma: standard deviation in pixels.
        window: odd side of the window, less than twice the maps'.
    """
    maps = widened(maps)
    offsets = torch.arange(window, device=maps.device, dtype=torch.float64) - window // 2
    profile = torch.exp(-(offsets**2) / (2.0 * sigma**2))
    kernel = (profile / profile.sum()).to(maps.dtype)
    wide = F.pad(maps.unsqueeze(1), (window // 2,) * 4, mode="reflect")
    with full_precision(maps):
        rows = F.conv2d(wide, kernel.view(1, 1, -1, 1))
        return F.conv2d(rows, kernel.view(1, 1, 1, -1)).squeeze(1)


def top_mean(maps: Tensor, share: float) -> Tensor:
    """Return the mean of each map's highest values, a share of them rounded down, or its highest: [B] for [B, ...]."""
    values = maps.flatten(1)
    return values.topk(max(1, int(share * values.shape[1])), dim=1).values.mean(dim=1)


def gaussian_5x5(maps: Tensor, sigma: float) -> Tensor:
    """Convolve [B, 1, S, S] with a normalised 5x5 Gaussian; zeros beyond the border dim the outermost pixels."""
    maps = widened(maps)
    offsets = torch.arange(-2, 3, device=maps.device, dtype=maps.dtype)
    profile = torch.exp(-(offsets**2) / (2.0 * sigma**2))
    kernel = torch.outer(profile, profile)
    with full_precision(maps):
        return F.conv2d(maps, (kernel / kernel.sum())[None, None], padding=2)


def _mirrored(length: int, radius: int, device: torch.device) -> Tensor:
    """Return int64 [length + 2 * radius]: the pixel that each place of the mirrored row takes; any radius works."""
    place = torch.arange(-radius, length + radius, device=device) % (2 * length)
    return torch.where(place < length, place, 2 * length - 1 - place)
