"""UniFormaly: Towards Task-Agnostic Unified Framework for Visual Anomaly Detection.

Yujin Lee, Harin Lim, Seoyoon Jang, Hyunsoo Yoon. 2023, arXiv 2307.12540 (formerly SelFormaly). Official code:
github.com/YoojLee/Uniformaly, read at commit 44ec1e8; "code" below means it.

PatchCore on a self-supervised ViT, in the foreground alone: where the class token attends to. A coreset of normal
images' foreground patches is remembered, and an image is as anomalous as its foreground is far from it.

Differences from the official code:
- What counts as foreground is decided image by image. The code scales attention by the highest of its batch, and
  remembers every place that is foreground in some image of it, with zeros for the others: its memory depends on how
  images were batched (16 a batch on multi-class MVTec AD).
- Candidates are bounded: of more than `candidates` patches a uniform sample enters the coreset search, which starts
  from one random patch, and projects by a Gaussian.
- Scores are not scaled to the range of the test set: ranks are the same.
- The code pads images of CIFAR with zeros, and takes iBOT's ViT-B/16 on semantic sets, which timm does not have; here
  images are resized as by every method, and the encoder is DINO's there too. Numbers of the paper on these sets are not
  this method's.
- Features are taken in full precision; the code takes half.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Any, ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor

from bench.api import (
    Batch,
    BlockOutputs,
    EncoderInfo,
    EncoderRequest,
    Memory,
    MemoryConfig,
    Prediction,
    Protocol,
    sourced,
)
from bench.errors import UsageError

from . import _class_token
from ._coreset import coreset
from ._maps import gaussian, resized
from ._memory import Bank, sampled

PATCHES = 28
"""Patches a side where no input size is given: the code's 224 pixels at patches of 8."""


class Config(MemoryConfig):
    """UniFormaly's settings; defaults are those of one model for all classes of MVTec AD."""

    encoder: str = sourced("vit_base_patch8_224.dino", "code", "frozen ViT with class token, by timm name")
    input_size: int | None = sourced(None, "code: 224", "input side in pixels; null = 28 patches", gt=0)
    layers: tuple[int, ...] | None = sourced(
        None, "code: 2 to 9 of 12", "blocks whose mean is taken, from 0; null = without the first and the last sixth"
    )
    window: int = sourced(7, "code", "odd side of the square that attention is averaged over", gt=0)
    threshold: float = sourced(
        0.1, "code", "share of an image's highest attention above which it is foreground; 0 = everywhere", ge=0, lt=1
    )
    candidates: int = sourced(200_000, "ours", "patches that the coreset is chosen from; bounds memory", gt=0)
    share: float = sourced(
        0.05, "code: 0.05, MVTec AD class by class 0.1", "share of the candidates that is remembered", gt=0, le=1
    )
    projection: int = sourced(128, "code", "dimensions that the coreset search is projected to", gt=0)
    score_share: float = sourced(0.05, "code", "share of the highest foreground distances in the score", gt=0, le=1)
    smoothing_sigma: float = sourced(4.0, "code", "sigma in pixels of the map's Gaussian", gt=0)


class UniFormaly(Memory[Config, Bank]):
    """Distance of each place to a coreset of normal foreground."""

    name = "uniformaly"
    family = "memory"
    encoders = ("vit",)
    paper = Protocol("paper:uniformaly", crop=224 / 256, eval_size=224)
    overrides: ClassVar[Mapping[str, Mapping[str, Any]]] = {"single": {"share": 0.1}}

    def __init__(self, config: Config) -> None:
        super().__init__(config)
        if config.window % 2 == 0:
            raise UsageError(f"uniformaly.window is {config.window}, expected an odd number")

    def encoder(self) -> EncoderRequest:
        """Return the request: blocks in the middle of a ViT, with what its class token attends to."""
        config = self.config
        fits = "vit_base_patch8_224.dino or vit_small_patch16_224.dino"
        native = _class_token.described(self.name, config.encoder, fits, attention=True)
        layers = config.layers
        if layers is None:
            layers = tuple(range(native.depth // 6, native.depth - native.depth // 6))
        if not layers:
            raise UsageError("uniformaly.layers is empty, expected at least one block")
        if max(layers) >= native.depth or min(layers) < 0:
            raise UsageError(
                f"uniformaly.layers {list(layers)} do not fit encoder '{config.encoder}' of {native.depth} blocks. "
                f"Expected some of 0 to {native.depth - 1}"
            )
        size = config.input_size or PATCHES * native.patch
        if config.window > 2 * (size // native.patch) - 1:
            raise UsageError(
                f"uniformaly.window {config.window} reaches beyond all of {size // native.patch} patches a side. "
                "Expected a smaller odd number"
            )
        return EncoderRequest(name=config.encoder, blocks=tuple(sorted(layers)), input_size=size, attention=True)

    def features(self, blocks: Mapping[int, Tensor], info: EncoderInfo) -> dict[str, Tensor]:
        """Return `patches` float [B, h*w, dim], the mean over blocks, and `foreground` [B, h*w], 1 and 0."""
        assert isinstance(blocks, BlockOutputs), "attention comes with BlockOutputs"
        patches = torch.stack([block[:, info.prefix :] for block in blocks.values()]).mean(dim=0)
        rows = torch.stack([row[:, :, info.prefix :].mean(dim=1) for row in blocks.attention.values()]).mean(dim=0)
        config = self.config
        return {"patches": patches, "foreground": foreground(rows, info.grid, config.window, config.threshold)}

    def build(self, info: EncoderInfo) -> Bank:
        """Return the memory at its largest, not filled yet."""
        return Bank(max(1, round(self.config.share * self.config.candidates)), info.dim)

    def fit(self, module: Bank, batches: Iterable[Batch]) -> None:
        """Remember a coreset of the training images' foreground."""

        def foregrounds() -> Iterator[Tensor]:
            for batch in batches:
                for patches, inside in zip(batch["patches"].float(), batch["foreground"], strict=True):
                    yield patches[inside > 0]

        config = self.config
        module.bank = coreset(sampled(foregrounds(), config.candidates), config.share, config.projection)

    def anomaly(self, module: Bank, batch: Batch, info: EncoderInfo, size: int) -> Prediction:
        """Return smoothed maps of squared distances to the memory, and the mean of the foreground's highest."""
        found, _ = module.nearest(batch["patches"].flatten(0, 1), 1)
        distances = found.view(len(batch["patches"]), -1).square()
        inside = distances * batch["foreground"].to(distances.dtype)
        count = max(1, round(self.config.score_share * inside.shape[1]))
        maps = gaussian(resized(distances.view(-1, *info.grid), size), self.config.smoothing_sigma)
        return Prediction(scores=inside.topk(count, dim=1).values.mean(dim=1), maps=maps)


def foreground(rows: Tensor, grid: tuple[int, int], window: int, threshold: float) -> Tensor:
    """Return where the class token attends to, as 1 and 0: float [B, h*w].

    Args:
        rows: attention to each patch [B, h*w].
        grid: h and w.
        window: odd side of the square that it is averaged over; beyond the border nothing is attended to.
        threshold: share of an image's highest mean above which a place is foreground.
    """
    means = F.avg_pool2d(rows.view(-1, 1, *grid), window, stride=1, padding=window // 2).flatten(1)
    return (means > threshold * means.amax(dim=1, keepdim=True)).to(rows.dtype)
