"""EfficientAD's two small networks: the patch description network of teacher and student, and the autoencoder."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import pairwise

import torch.nn.functional as F
from torch import Tensor, nn

UNIT = 32
"""Input sides are multiples of it; the autoencoder halves five times."""
SHAPES: Mapping[str, tuple[int, Sequence[tuple[int, int, int]]]] = {
    "s": (128, ((4, 1, 3), (4, 2, 3), (3, 2, 1))),
    "m": (256, ((4, 1, 3), (4, 2, 3), (1, 2, 0), (3, 2, 1))),
}
"""First width, and of each convolution but the last ones its kernel, times the first width, padding in distillation."""
POOLED = 2
"""Convolutions that a pooling to half follows, the first ones."""
MARGIN = 4
"""Places at each border of a map that no feature is of."""


class PatchNetwork(nn.Module):
    """Patch description network (PDN): each place sees 33 pixels.

    Args:
        size: of the two.
        width: channels of its first layer; None for the published one's.
        dim: channels of its features.
    """

    def __init__(self, size: str, width: int | None, dim: int) -> None:
        super().__init__()
        first, shape = SHAPES[size]
        first = width or first
        widths = [3, *(times * first for _, times, _ in shape)]
        layers = [nn.Conv2d(*between, kernel) for between, (kernel, _, _) in zip(pairwise(widths), shape, strict=True)]
        layers.append(nn.Conv2d(widths[-1], dim, 4))
        if size == "m":
            layers.append(nn.Conv2d(dim, dim, 1))
        self.layers = nn.ModuleList(layers)
        self.paddings = [*(padding for _, _, padding in shape), *([0] * (len(layers) - len(shape)))]

    def forward(self, images: Tensor, padded: bool = False) -> Tensor:
        """Return features of normalised images [B, 3, S, S]: float [B, dim, S/4 - 8, .], or [B, dim, S/4, .] padded."""
        x = images
        for place, (layer, padding) in enumerate(zip(self.layers, self.paddings, strict=True)):
            x = F.pad(x, (padding * padded,) * 4) if padded else x
            x = layer(x)
            if place + 1 < len(self.layers):
                x = F.relu(x)
            if place < POOLED:
                x = F.avg_pool2d(x, 2, padding=int(padded))
        return x


def side_of(input_size: int) -> int:
    """Return the side of a PDN's features without padding."""
    return input_size // 4 - 2 * MARGIN


class Autoencoder(nn.Module):
    """From normalised images [B, 3, S, S] by way of one vector to [B, dim, S/4 - 8, S/4 - 8].

    Args:
        input_size: S.
        width: of the widest layers.
        dim: channels of what it gives.
        dropout: in the decoder.
    """

    def __init__(self, input_size: int, width: int, dim: int, dropout: float) -> None:
        super().__init__()
        widths = (3, width // 2, width // 2, width, width, width)
        down: list[nn.Module] = []
        for between in pairwise(widths):
            down += [nn.Conv2d(*between, 4, 2, 1), nn.ReLU()]
        self.encoder = nn.Sequential(*down, nn.Conv2d(width, width, input_size // UNIT))
        up: list[nn.Module] = []
        for level in (64, 32, 16, 8, 4, 2):
            # an even kernel adds one to the side, which is taken off before where it would be too much
            side = input_size // level - (level in (64, 16, 4, 2))
            up += [nn.Upsample(side or 1, mode="bilinear"), nn.Conv2d(width, width, 4, padding=2)]
            up += [nn.ReLU(), nn.Dropout(dropout)]
        up += [nn.Upsample(side_of(input_size), mode="bilinear"), nn.Conv2d(width, width, 3, padding=1), nn.ReLU()]
        self.decoder = nn.Sequential(*up, nn.Conv2d(width, dim, 3, padding=1))

    def forward(self, images: Tensor) -> Tensor:
        """Return what it makes of the images."""
        return self.decoder(self.encoder(images))
