"""Transformer parts that several methods build their trainable networks from."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn


class Mlp(nn.Module):
    """Two Linear layers with exact GELU; dropout, where asked, before, between and after them.

    Maps [..., dim] to [..., dim]; no residual, no norm.
    """

    def __init__(self, dim: int, hidden: int, dropout: float = 0.0) -> None:
        super().__init__()
        self.fc1 = nn.Linear(dim, hidden)
        self.fc2 = nn.Linear(hidden, dim)
        self.dropout = nn.Dropout(dropout)

    def forward(self, x: Tensor) -> Tensor:
        """Return [..., dim]."""
        hidden = self.dropout(F.gelu(self.fc1(self.dropout(x))))
        out: Tensor = self.dropout(self.fc2(hidden))
        return out


class LinearAttention(nn.Module):
    """Multi-head attention with the kernel elu(x) + 1 in place of softmax (Katharopoulos et al. 2020).

    Per head: out_s = f(q_s) . (sum_t f(k_t)^T v_t) / (f(q_s) . sum_t f(k_t) + eps). Queries are not scaled.
    """

    def __init__(self, dim: int, heads: int, eps: float = 0.0) -> None:
        super().__init__()
        self.heads = heads
        self.eps = eps
        self.qkv = nn.Linear(dim, 3 * dim)
        self.proj = nn.Linear(dim, dim)

    def forward(self, x: Tensor) -> Tensor:
        """Return [B, T, dim] for [B, T, dim]."""
        batch, tokens, dim = x.shape
        q, k, v = self.qkv(x).reshape(batch, tokens, 3, self.heads, dim // self.heads).permute(2, 0, 3, 1, 4)
        q, k = F.elu(q) + 1.0, F.elu(k) + 1.0
        context = k.transpose(-2, -1) @ v
        weight = q @ k.sum(dim=-2).unsqueeze(-1)
        mixed = (q @ context) / (weight + self.eps)
        out: Tensor = self.proj(mixed.transpose(1, 2).reshape(batch, tokens, dim))
        return out


class Block(nn.Module):
    """Pre-norm transformer block without dropout, drop path or LayerScale: x + attention(n(x)), x + mlp(n(x))."""

    def __init__(self, dim: int, attention: nn.Module, mlp_ratio: float, norm_eps: float) -> None:
        super().__init__()
        self.norm1 = nn.LayerNorm(dim, eps=norm_eps)
        self.attention = attention
        self.norm2 = nn.LayerNorm(dim, eps=norm_eps)
        self.mlp = Mlp(dim, int(dim * mlp_ratio))

    def forward(self, x: Tensor) -> Tensor:
        """Return [B, T, dim] for [B, T, dim]."""
        x = x + self.attention(self.norm1(x))
        out: Tensor = x + self.mlp(self.norm2(x))
        return out


def init_truncated(module: nn.Module, std: float, cut: float) -> None:
    """Set every Linear below `module` to a normal of `std` truncated at +-`cut`, its bias to 0, LayerNorms to 1 and 0.

    Args:
        module: tree of layers.
        std: standard deviation before truncation.
        cut: largest absolute weight.
    """
    for layer in module.modules():
        if isinstance(layer, nn.Linear):
            nn.init.trunc_normal_(layer.weight, std=std, a=-cut, b=cut)
            if layer.bias is not None:
                nn.init.zeros_(layer.bias)
        elif isinstance(layer, nn.LayerNorm):
            nn.init.ones_(layer.weight)
            nn.init.zeros_(layer.bias)


def to_grid(tokens: Tensor, prefix: int, grid: tuple[int, int]) -> Tensor:
    """Return patch tokens as maps: [B, prefix + h*w, C] to [B, C, h, w]."""
    patches = tokens[:, prefix:]
    return patches.transpose(1, 2).reshape(len(patches), -1, *grid)


def cosine_distance(a: Tensor, b: Tensor) -> Tensor:
    """Return 1 - cosine similarity over the channels: [B, C, h, w] twice to [B, h, w], in [0, 2]."""
    distance: Tensor = 1.0 - torch.cosine_similarity(a, b, dim=1)
    return distance
