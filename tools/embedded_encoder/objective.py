"""What the student is asked for: ways of reading a crop, the heads, and the losses against the teachers' targets."""

from __future__ import annotations

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from .student import GRID, PATCH, TAPS, normalised
from .teacher import WIDTHS

Targets = dict[str, Tensor]


class Heads(nn.Module):
    """From student tokens to teacher channels; thrown away after training."""

    def __init__(self, dim: int) -> None:
        super().__init__()
        out = {4: WIDTHS["mid"], 7: WIDTHS["deep"], 10: WIDTHS["deep"] + WIDTHS["top"]}
        self.dense = nn.ModuleDict({str(k): nn.Sequential(nn.LayerNorm(dim), nn.Linear(dim, out[k])) for k in TAPS})
        self.last = nn.Linear(dim, WIDTHS["top"])
        self.pooled = nn.Linear(dim, WIDTHS["top"])


def view(
    crops: Tensor, targets: Targets, mode: str, pos: Tensor, rng: np.random.Generator
) -> tuple[Tensor, Targets, Tensor]:
    """One way to read crops: all of each, each at half size, or the same random quarter of each.

    Args:
        crops: uint8 [B, 128, 128, 3].
        targets: float32 [B, g, g, C] per level.
        mode: "whole", "half" or "window".
        pos: float32 [1, 257, D], the student's position embedding.
        rng: Places the window.

    Returns:
        Images float32 [B, 3, H, W], targets cut alike, and positions float32 [1, n, D] of the n patches.
    """
    grid = pos[0, 1:].view(GRID, GRID, -1)
    if mode == "whole":
        return normalised(crops), targets, grid.flatten(0, 1)[None]
    if mode == "half":
        small = F.avg_pool2d(normalised(crops), 2)
        pooled = {level: half(t) if t.shape[1] == GRID else t for level, t in targets.items()}
        return small, pooled, half(grid[None]).flatten(1, 2)
    top, left = (int(v) * 2 for v in rng.integers(0, GRID // 4 + 1, 2))
    end, right = top + GRID // 2, left + GRID // 2
    part = {}
    for level, t in targets.items():
        f = GRID // t.shape[1]
        part[level] = t[:, top // f : end // f, left // f : right // f]
    images = normalised(crops[:, top * PATCH : end * PATCH, left * PATCH : right * PATCH])
    return images, part, grid[top:end, left:right].flatten(0, 1)[None]


def half(maps: Tensor) -> Tensor:
    """Averages 2x2 neighbours; [B, g, g, C] to [B, g/2, g/2, C]."""
    return F.avg_pool2d(maps.permute(0, 3, 1, 2), 2).permute(0, 2, 3, 1)


def losses(
    tapped: dict[int, Tensor], final: Tensor, heads: Heads, targets: Targets, spread: Tensor
) -> dict[str, Tensor]:
    """Unexplained variance of each dense target, of the pooled one, and of the batch's similarity structure.

    Args:
        tapped: Patch tokens [B, n, D] by block.
        final: Normed last sequence [B, 1 + n, D].
        heads: See Heads.
        targets: float32 [B, g, g, C] per level.
        spread: float32 [C] of level "top": components that varied little weigh little.

    Returns:
        Scalars: block4, block7, block10, last, pooled, gram_cls, gram_mean; about 1 where nothing is explained.
    """
    side = int(tapped[4].shape[1] ** 0.5)
    small = targets["top"].permute(0, 3, 1, 2)
    top = F.interpolate(small, size=side, mode="bilinear").permute(0, 2, 3, 1).flatten(1, 2)
    dense = {4: targets["mid"].flatten(1, 2), 7: targets["deep"].flatten(1, 2)}
    dense[10] = torch.cat([targets["deep"].flatten(1, 2), top], -1)
    out = {f"block{k}": F.mse_loss(heads.dense[str(k)](tapped[k]).float(), dense[k]) for k in TAPS}
    weight = spread.sqrt() / spread.sqrt().mean()
    out["last"] = ((heads.last(final[:, 1:]).float() - top).square() * weight).mean()
    pooled = targets["top"].mean((1, 2))
    unit = pooled.square().mean().clamp_min(1e-3)
    out["pooled"] = ((heads.pooled(final[:, 0]).float() - pooled).square() * weight).mean() / unit
    truth = similarity(pooled * spread)
    for name, feature in (("gram_cls", final[:, 0]), ("gram_mean", final[:, 1:].mean(1))):
        out[name] = (similarity(feature.float()) - truth).square().mean() / truth.square().mean()
    return out


def total(parts: dict[str, Tensor], gram_weight: float, stream_weight: float) -> Tensor:
    """The scalar that is minimised."""
    weighted = ("gram_cls", "gram_mean", "stream")
    plain = torch.stack([value for name, value in parts.items() if name not in weighted]).sum()
    loss = plain + gram_weight * (parts["gram_cls"] + 0.5 * parts["gram_mean"])
    return loss + stream_weight * parts["stream"] if "stream" in parts else loss


def similarity(features: Tensor) -> Tensor:
    """Cosine of every pair of rows about their mean, float32 [B, B]."""
    unit = F.normalize(features - features.mean(0), dim=-1)
    return unit @ unit.T
