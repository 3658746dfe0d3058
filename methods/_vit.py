"""Transformer parts that several methods build their trainable networks from."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Generator, Tensor, nn


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


def dropped(x: Tensor, share: float, random: Generator | None) -> Tensor:
    """Return `x` with a random share of its elements 0 and the others larger by as much; as it is without `random`."""
    if random is None or not share:
        return x
    return x * torch.empty_like(x).bernoulli_(1.0 - share, generator=random) / (1.0 - share)


class LinearAttention(nn.Module):
    """Multi-head attention with the kernel elu(x) + 1 in place of softmax (Katharopoulos et al. 2020).

    Per head: out_s = f(q_s) . (sum_t f(k_t)^T v_t) / (f(q_s) . sum_t f(k_t) + eps). Queries are not scaled. With a mask
    (bool [T, T], see `neighbour_mask`) the sums run over the keys t that query s may read, and cost T x T products.
    """

    mask: Tensor | None

    def __init__(self, dim: int, heads: int, eps: float = 0.0, mask: Tensor | None = None) -> None:
        super().__init__()
        self.heads = heads
        self.eps = eps
        self.qkv = nn.Linear(dim, 3 * dim)
        self.proj = nn.Linear(dim, dim)
        self.register_buffer("mask", mask, persistent=False)

    def forward(self, x: Tensor) -> Tensor:
        """Return [B, T, dim] for [B, T, dim]."""
        batch, tokens, dim = x.shape
        q, k, v = self.qkv(x).reshape(batch, tokens, 3, self.heads, dim // self.heads).permute(2, 0, 3, 1, 4)
        q, k = F.elu(q) + 1.0, F.elu(k) + 1.0
        if self.mask is None:
            total = q @ (k.transpose(-2, -1) @ v)
            weight = q @ k.sum(dim=-2).unsqueeze(-1)
        else:
            weights = (q @ k.transpose(-2, -1)) * self.mask
            total = weights @ v
            weight = weights.sum(dim=-1, keepdim=True)
        mixed = total / (weight + self.eps)
        out: Tensor = self.proj(mixed.transpose(1, 2).reshape(batch, tokens, dim))
        return out


class SoftmaxAttention(nn.Module):
    """Multi-head attention as in the plain ViT: softmax(q k^T / sqrt(dim / heads)) v, with biases.

    With a mask (bool [T, T], see `neighbour_mask`) the softmax still runs over all keys; the weights of those that a
    query may not read are then set to 0, and the others sum to less than 1. So does Dinomaly's code (`Attention` in
    its models/vision_transformer.py); UniAD's own masking, before the softmax, would leave a sum of 1.
    """

    mask: Tensor | None

    def __init__(self, dim: int, heads: int, mask: Tensor | None = None) -> None:
        super().__init__()
        self.heads = heads
        self.qkv = nn.Linear(dim, 3 * dim)
        self.proj = nn.Linear(dim, dim)
        self.register_buffer("mask", mask, persistent=False)

    def forward(self, x: Tensor, dropout: float = 0.0, random: Generator | None = None) -> Tensor:
        """Return [B, T, dim] for [B, T, dim]; `random` draws which attention weights are dropped, None drops none."""
        batch, tokens, dim = x.shape
        q, k, v = self.qkv(x).reshape(batch, tokens, 3, self.heads, dim // self.heads).permute(2, 0, 3, 1, 4)
        if self.mask is None and (random is None or not dropout):
            mixed = F.scaled_dot_product_attention(q, k, v)
        else:
            weights = (q @ k.transpose(-2, -1) / (dim // self.heads) ** 0.5).softmax(dim=-1)
            mixed = dropped(weights if self.mask is None else weights * self.mask, dropout, random) @ v
        out: Tensor = self.proj(mixed.transpose(1, 2).reshape(batch, tokens, dim))
        return out


def neighbour_mask(side: int, prefix: int, grid: tuple[int, int]) -> Tensor:
    """Return which keys a query may read when its own neighbourhood is hidden from it (UniAD, NeurIPS 2022).

    Args:
        side: odd side of the hidden square of patches around each patch; 1 hides the patch itself.
        prefix: class and register tokens, which read and are read freely.
        grid: patch rows and columns.

    Returns:
        bool [T, T], T = prefix + h*w, queries by keys, True where reading is allowed.
    """
    rows, columns = grid
    row = torch.arange(rows).repeat_interleave(columns)
    column = torch.arange(columns).repeat(rows)
    reach = side // 2
    near = ((row[:, None] - row).abs() <= reach) & ((column[:, None] - column).abs() <= reach)
    return F.pad(~near, (prefix, 0, prefix, 0), value=True)


class LayerScale(nn.Module):
    """A learnt factor a channel, all `initial` at first (Touvron et al. 2021); keeps the shape [..., dim]."""

    def __init__(self, dim: int, initial: float) -> None:
        super().__init__()
        self.factor = nn.Parameter(torch.full((dim,), initial))

    def forward(self, x: Tensor) -> Tensor:
        """Return x times the factors."""
        return x * self.factor


class Block(nn.Module):
    """Pre-norm transformer block without dropout or drop path: x + s1(attention(n1(x))), x + s2(mlp(n2(x))).

    s1 and s2 are LayerScales that start at `layer_scale`, or nothing where that is None.
    """

    def __init__(
        self, dim: int, attention: nn.Module, mlp_ratio: float, norm_eps: float, layer_scale: float | None = None
    ) -> None:
        super().__init__()
        self.norm1 = nn.LayerNorm(dim, eps=norm_eps)
        self.attention = attention
        self.scale1 = nn.Identity() if layer_scale is None else LayerScale(dim, layer_scale)
        self.norm2 = nn.LayerNorm(dim, eps=norm_eps)
        self.mlp = Mlp(dim, int(dim * mlp_ratio))
        self.scale2 = nn.Identity() if layer_scale is None else LayerScale(dim, layer_scale)

    def forward(self, x: Tensor) -> Tensor:
        """Return [B, T, dim] for [B, T, dim]."""
        x = x + self.scale1(self.attention(self.norm1(x)))
        out: Tensor = x + self.scale2(self.mlp(self.norm2(x)))
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
