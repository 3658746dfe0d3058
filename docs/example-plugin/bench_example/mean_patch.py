"""Mean patch: how far each patch lies from the mean patch of normal images. An example, and a floor for real methods.

Nobody's paper. Nothing is trained: `fit` sees the training images' features once and keeps their mean.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from bench.api import Batch, EncoderInfo, EncoderRequest, Memory, MemoryConfig, Prediction, sourced
from bench.encoders import catalog
from bench.errors import UsageError


class Config(MemoryConfig):
    """Settings; every default says where it comes from."""

    encoder: str = sourced("vit_small_patch16_224.dino", "ours", "frozen ViT, by timm name")
    input_size: int = sourced(224, "ours", "input side in pixels", gt=0)


class MeanPatch(Memory[Config, nn.Module]):
    """Cosine distance to the mean patch token."""

    name = "mean_patch"
    family = "memory"
    encoders = ("vit",)

    def encoder(self) -> EncoderRequest:
        """Ask for the last block of the encoder."""
        config = self.config
        native = catalog.describe(config.encoder)
        if native.family != "vit":
            raise UsageError(f"mean_patch needs a ViT, encoder '{config.encoder}' is a CNN")
        return EncoderRequest(config.encoder, (native.depth,), config.input_size)

    def features(self, blocks: Mapping[int, Tensor], info: EncoderInfo) -> dict[str, Tensor]:
        """Keep the patch tokens: `patches` float [B, h*w, dim], of length 1."""
        return {"patches": F.normalize(blocks[info.depth][:, info.prefix :], dim=-1)}

    def build(self, info: EncoderInfo) -> nn.Module:
        """Make room for the mean. What a method remembers lies in buffers, so that it goes into checkpoints."""
        module = nn.Module()
        module.register_buffer("mean", torch.zeros(info.dim))
        return module

    def fit(self, module: nn.Module, batches: Iterable[Batch]) -> None:
        """Take the mean over all patches of all training images."""
        images = [batch["patches"].float().mean(dim=1) for batch in batches]
        module.mean = F.normalize(torch.cat(images).mean(dim=0), dim=0)

    def anomaly(self, module: nn.Module, batch: Batch, info: EncoderInfo, size: int) -> Prediction:
        """Score patches by their distance from the mean, images by their highest patch."""
        mean = cast("Tensor", module.mean)
        distances = 1 - batch["patches"].float() @ mean
        grid = distances.reshape(len(distances), 1, *info.grid)
        maps = F.interpolate(grid, (size, size), mode="bilinear", align_corners=False)[:, 0]
        return Prediction(scores=maps.amax(dim=(1, 2)), maps=maps)
