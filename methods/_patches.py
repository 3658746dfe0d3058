"""Locally aware patch features: mid-level layers of a frozen network, averaged over neighbourhoods; PatchCore's."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from bench.api import EncoderInfo, EncoderRequest, Method
from bench.encoders import catalog
from bench.errors import UsageError

from ._vit import to_grid

STRIDES = (8, 16)
"""Strides of the CNN stages looked at: ResNet's second and third."""
PATCHES = 28
"""Feature map side where no input size is given: 224 pixels at stride 8."""


def request(method: Method[Any, Any]) -> EncoderRequest:
    """Return the request for mid-level layers of `method.config.encoder`, 28 patches a side where no size is given.

    Args:
        method: as configured; its `layers`, `encoder`, `input_size` and `neighbourhood` are named in refusals.

    Raises:
        UsageError: the encoder lacks a layer, there is none, or the neighbourhood has no middle.
    """
    config: Any = method.config
    name = method.name
    if config.neighbourhood % 2 == 0:
        raise UsageError(f"{name}.neighbourhood is {config.neighbourhood}, expected an odd number")
    native = catalog.describe(config.encoder)
    layers = config.layers
    if layers is None and native.family == "vit":
        layers = tuple(sorted({max(native.depth // 2 - 1, 0), native.depth * 3 // 4 - 1}))
    elif layers is None:
        layers = catalog.stages_at(config.encoder, STRIDES)
        if layers is None:
            raise UsageError(
                f"{name} looks at stages of stride 8 and 16, encoder '{config.encoder}' lacks one. "
                f"Try wide_resnet50_2.tv_in1k or mobilenetv2_100, or --set {name}.layers=[...]"
            )
    if not layers:
        raise UsageError(f"{name}.layers is empty, expected at least one stage or block")
    layers = tuple(sorted(layers))
    catalog.describe(config.encoder, None, layers)  # refuses layers that the encoder does not have
    first = native.patch if native.family == "vit" else catalog.strides(config.encoder)[layers[0]]
    return EncoderRequest(
        name=config.encoder,
        blocks=layers,
        input_size=config.input_size or PATCHES * first,
        position="dinov2" if "dinov2" in config.encoder else "timm",
    )


def as_maps(blocks: Mapping[int, Tensor], info: EncoderInfo) -> list[Tensor]:
    """Return the layers as maps, float [B, C, h, w] each, the shallowest first; those of a ViT on its one grid."""
    ordered = [blocks[index] for index in sorted(blocks)]
    return [to_grid(block, info.prefix, info.grid) if info.family == "vit" else block for block in ordered]


def joined(maps: Sequence[Tensor], side: int, widths: Sequence[int], dim: int) -> Tensor:
    """Return locally aware patch features, float [B, h*w, D], on the grid of the first map.

    Each map is averaged over a square of `side` places (zeros beyond the border) and over channels to its width,
    later ones are resized to the first one's grid, and all are joined and averaged to `dim` values, or to as many as
    there are.

    Args:
        maps: float [B, C, h, w] each.
        side: odd.
        widths: of each map's share; the mean runs over its C * side * side values, channel by channel.
        dim: most values of a patch.
    """
    grid = maps[0].shape[-2:]
    pooled = [
        F.interpolate(_aggregated(layer, side, width), size=grid, mode="bilinear", align_corners=False)
        for layer, width in zip(maps, widths, strict=True)
    ]
    patches = torch.cat(pooled, dim=1).flatten(2).transpose(1, 2)
    return F.adaptive_avg_pool1d(patches, min(dim, patches.shape[-1]))


def _aggregated(maps: Tensor, side: int, width: int) -> Tensor:
    """Return [B, C, h, w] averaged over neighbourhoods and groups of channels: [B, width, h, w]."""
    batch, _, rows, columns = maps.shape
    windows = F.unfold(maps, side, padding=side // 2).transpose(1, 2)
    pooled = F.adaptive_avg_pool1d(windows, width)
    return pooled.transpose(1, 2).reshape(batch, -1, rows, columns)
