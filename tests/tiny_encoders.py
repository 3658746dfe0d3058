"""Tiny networks under the names of real encoders, and their files as the encoders' authors publish them."""

from __future__ import annotations

from typing import Any

import torch
from timm.models.resnet import BasicBlock, ResNet
from timm.models.vision_transformer import VisionTransformer
from torch import Tensor, nn

DINO, DINOV2 = "vit_small_patch16_224.dino", "vit_base_patch14_reg4_dinov2.lvd142m"
RESNET = "wide_resnet50_2.tv_in1k"


def tiny(name: str) -> nn.Module:
    shape: dict[str, Any] = {"img_size": 28, "patch_size": 14, "embed_dim": 24, "depth": 2, "num_heads": 2}
    if name == DINOV2:
        return VisionTransformer(num_classes=0, init_values=1e-5, reg_tokens=4, no_embed_class=True, **shape)
    return (
        ResNet(BasicBlock, (1, 1, 1, 1), num_classes=0) if name == RESNET else VisionTransformer(num_classes=0, **shape)
    )


def filled(name: str) -> dict[str, Tensor]:
    torch.manual_seed(1)
    state = tiny(name).state_dict()
    return {key: torch.randn(value.shape) if value.is_floating_point() else value for key, value in state.items()}


def as_published(name: str) -> dict[str, Tensor]:
    """The same network under the names and in the shapes of its authors' file."""
    state = filled(name)
    if name == DINOV2:
        # the class token has a position of its own, registers have none, and a mask token is left of the training
        first = torch.randn(1, 1, 24)
        state["pos_embed"] = torch.cat([first, state["pos_embed"]], dim=1)
        state["cls_token"] = state["cls_token"] - first
        state["register_tokens"] = state.pop("reg_token")
        state["mask_token"] = torch.zeros(1, 24)
    return state
