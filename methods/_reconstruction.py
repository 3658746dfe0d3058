"""The trainable part of Dinomaly and its heirs, bottleneck and decoder, with the variants of the ablation tables."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from bench.api import EncoderInfo

from ._vit import Block, LinearAttention, Mlp, SoftmaxAttention, init_truncated, neighbour_mask, to_grid

if TYPE_CHECKING:
    from .dinomaly import Config


class FeatureJitter(nn.Module):
    """UniAD's noise on tokens (NeurIPS 2022), in training only: x + scale * |x| / dim * n, n from N(0, 1).

    |x| is each token's L2 norm, dim the width. Keeps the shape [B, T, dim].
    """

    def __init__(self, scale: float) -> None:
        super().__init__()
        self.scale = scale

    def forward(self, x: Tensor) -> Tensor:
        """Return the tokens with noise; unchanged in evaluation or at scale 0, which draws no random numbers."""
        if not (self.training and self.scale):
            return x
        spread = self.scale * x.norm(dim=-1, keepdim=True) / x.shape[-1]
        return x + spread * torch.randn_like(x)


class Reconstructor(nn.Module):
    """Noisy bottleneck and decoder.

    Args:
        config: widths, depth, attention and noise.
        info: the encoder's shape.
        groups: places among the decoder's blocks, last block first, averaged to rebuild each target.
        bottleneck: from tokens [B, prefix + h*w, dim] to the same shape; by default Dinomaly's, an MLP with dropout.

    Attributes:
        prefix: class and register tokens that come before the patches.
        grid: patch rows and columns.
    """

    def __init__(
        self,
        config: Config,
        info: EncoderInfo,
        groups: Sequence[Sequence[int]],
        bottleneck: nn.Module | None = None,
    ) -> None:
        super().__init__()
        self.prefix = info.prefix
        self.grid = info.grid
        self.groups = groups
        self.jitter = FeatureJitter(config.jitter)
        hidden = int(info.dim * config.mlp_ratio)
        self.bottleneck = Mlp(info.dim, hidden, config.dropout) if bottleneck is None else bottleneck
        self.decoder = nn.ModuleList(
            Block(info.dim, _attention(config, info), mlp_ratio=config.mlp_ratio, norm_eps=config.norm_eps)
            for _ in range(config.decoder_depth)
        )
        init_truncated(self, std=config.init_std, cut=3 * config.init_std)

    def forward(self, fused: Tensor) -> list[Tensor]:
        """Rebuild the encoder's group means.

        Args:
            fused: [B, prefix + h*w, dim], mean of all stored encoder blocks.

        Returns:
            One [B, dim, h, w] a group, shallow encoder group first.
        """
        tokens = self.bottleneck(self.jitter(fused))
        outputs: list[Tensor] = []
        for block in self.decoder:
            tokens = block(tokens)
            outputs.append(tokens)
        # the last decoder block faces the shallowest encoder block
        outputs.reverse()
        means = [torch.stack([outputs[index] for index in group]).mean(dim=0) for group in self.groups]
        return [to_grid(mean, self.prefix, self.grid) for mean in means]


def _attention(config: Config, info: EncoderInfo) -> nn.Module:
    mask = neighbour_mask(config.neighbour_mask, info.prefix, info.grid) if config.neighbour_mask else None
    if config.attention == "softmax":
        return SoftmaxAttention(info.dim, info.heads, mask)
    return LinearAttention(info.dim, info.heads, config.attention_eps, mask)
