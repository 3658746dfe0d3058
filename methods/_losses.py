"""Losses: distances of feature maps, those that ViTAD's table XI compares, and DRAEM's on images and masks."""

from __future__ import annotations

from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor

from ._precision import full_precision
from ._vit import cosine_distance

FeatureLoss = Literal["cosine_flat", "cosine_point", "l1", "mse"]

WINDOW, SIGMA = 11, 1.5
"""Side and standard deviation in pixels of SSIM's window."""
SURE = 1e-5
"""How far the focal loss's targets stay from 0 and 1."""


def feature_loss(kind: FeatureLoss, target: Tensor, output: Tensor) -> Tensor:
    """Return the scalar distance of two maps [B, C, h, w]; the target passes no gradient on.

    Args:
        kind: `cosine_flat`: mean over images of 1 - cosine between whole maps, flattened over C, h and w;
            `cosine_point`: mean over images and positions of 1 - cosine over C; `l1`, `mse`: mean over all elements.
        target: the frozen encoder's map.
        output: the rebuilt map.
    """
    target = target.detach()
    if kind == "cosine_flat":
        return (1.0 - torch.cosine_similarity(target.flatten(1), output.flatten(1), dim=1)).mean()
    if kind == "cosine_point":
        return cosine_distance(target, output).mean()
    return F.l1_loss(output, target) if kind == "l1" else F.mse_loss(output, target)


def dissimilarity(rebuilt: Tensor, images: Tensor) -> Tensor:
    """Return 1 - SSIM of images [B, C, H, W], the mean over everything; zeros lie beyond the border.

    The range of values goes by the first: up to 1 or, where it goes above 128, 255; from 0 or, where it goes below
    -0.5, from -1.
    """
    highest = torch.where(rebuilt.amax() > 128, 255.0, 1.0)
    span = highest - torch.where(rebuilt.amin() < -0.5, -1.0, 0.0)
    offsets = torch.arange(WINDOW, device=images.device, dtype=images.dtype) - WINDOW // 2
    profile = torch.exp(-(offsets**2) / (2 * SIGMA**2))
    profile = profile / profile.sum()
    moments = torch.stack([rebuilt, images, rebuilt**2, images**2, rebuilt * images])
    with full_precision(images):
        rows = F.conv2d(moments.flatten(0, 2).unsqueeze(1), profile.view(1, 1, -1, 1), padding=(WINDOW // 2, 0))
        means = F.conv2d(rows, profile.view(1, 1, 1, -1), padding=(0, WINDOW // 2)).view_as(moments)
    one, other, one_square, other_square, product = means.unbind()
    small, large = (0.01 * span) ** 2, (0.03 * span) ** 2
    alike = (2 * one * other + small) * (2 * (product - one * other) + large)
    spread = (one**2 + other**2 + small) * (one_square - one**2 + other_square - other**2 + large)
    return 1 - (alike / spread).mean()


def focal(probabilities: Tensor, mask: Tensor, focus: int) -> Tensor:
    """Return the mean of -(1 - p)^focus log p, p the probability of what a pixel is.

    Args:
        probabilities: float [B, 2, H, W] of normal and anomalous.
        mask: float [B, 1, H, W], 1 where anomalous.
        focus: exponent.
    """
    targets = torch.cat([1 - mask, mask], dim=1).clamp(SURE, 1 - SURE)
    right = (targets * probabilities).sum(dim=1) + SURE
    return -((1 - right) ** focus * right.log()).mean()
