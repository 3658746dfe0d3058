"""Reconstruction losses on feature maps: those that ViTAD's table XI compares."""

from __future__ import annotations

from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor

from ._vit import cosine_distance

FeatureLoss = Literal["cosine_flat", "cosine_point", "l1", "mse"]


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
