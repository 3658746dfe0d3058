"""RD4AD: Anomaly Detection via Reverse Distillation from One-Class Embedding.

Hanqiu Deng, Xingyu Li. CVPR 2022, arXiv 2201.10703. Two networks carry the name. `variant=ader`, the default, is the
multi-class baseline of the tables: configuration `rd` of github.com/zhangzjn/ADer, read at commit 902937a.
`variant=original` is the authors' github.com/hq-deng/RD4AD, read at commit 6554076, made for a model a class.

A frozen CNN sees the image. Its three middle stages are fused into one small map, and a mirrored CNN learns to give
the stages back from it. Where it fails to, the image is anomalous.

Differences from the official codes:
- The original's fuser carries a 1x1 convolution and a BatchNorm that never run, 8,392,704 parameters that do not exist
  here.
- Epochs are counted as iterations, see `_ader.py`. The original keeps an epoch's last incomplete batch, so that 200
  epochs of MVTec-AD's 209 bottles are 2,800 iterations; here these are of whole batches.
- The original's teacher passes gradients on to nothing but itself; here it has none. Same numbers.
- Maps are resized straight to the evaluation size; the codes' is the input size, 256 at both.
- Evaluation: see `_ader.py`. The original's AUPRO, one value an image, is `pixel/aupro@0.3:image200`.
- Any CNN with stages at strides 4, 8 and 16 serves; the student is WRN50's with widths that follow its stages. The
  codes know ResNets only, and build ResNet-18's and 34's students from basic blocks. ResNets' stages end in a ReLU, and
  so do the decoder's; those of other CNNs hold negative values too, which the decoder then gives back by leaving its
  stages' last ReLU off [rectified].
- Pixels are normalised as the encoder was trained; the codes take ImageNet's mean and std, the same for ResNets.
- ADer divides the map by 9; here it is the sum, which ranks pixels alike.
- Seeding, precision, clipping and batching are the harness's.

The loss flattens whole maps, as both codes do. The paper's equations 1 and 2 compare position by position
(`loss=cosine_point`), and do not reproduce its numbers (hq-deng/RD4AD issue 22).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Literal

import torch
from torch import Tensor, nn

from bench.api import Batch, EncoderInfo, EncoderRequest, Prediction, sourced
from bench.encoders import catalog

from . import _ader, _stages
from ._losses import FeatureLoss
from ._maps import gaussian

FUSER_BLOCKS = 3
DECODER_BLOCKS = (3, 4, 6)
"""Blocks of the decoder's stages, deepest first; WRN50's numbers, as in both codes."""

ORIGINAL = {
    "encoder": "wide_resnet50_2.tv_in1k",
    "fuser_width": 128,
    "clip_norm": None,
    "decay_at": 1.0,
    "epochs": 200,
    "lr": 5e-3,
}
"""Values of the authors' own code where they differ from ADer's."""


class Config(_ader.StageRecipe):
    """RD4AD's settings; defaults are ADer's multi-class recipe, under `variant` original those of the authors' code."""

    variant: Literal["ader", "original"] = sourced(
        "ader", "ADer's configuration `rd`", "whose network and recipe the other defaults are"
    )
    encoder: str = sourced(
        "wide_resnet50_2.racm_in1k", "ADer (timm's default weights); original: tv_in1k", "frozen CNN, by timm name"
    )
    input_size: int | None = sourced(256, "both codes", "input side in pixels; null = 256", gt=0)
    stages: tuple[int, int, int] | None = sourced(
        None, "both codes: layer1 to layer3 of ResNet", "CNN stages, from 0; null = those at strides 4, 8 and 16"
    )
    fuser_width: int = sourced(64, "ADer; original: 128", "base width of the fuser's bottlenecks", gt=0)
    rectified: bool | None = sourced(
        None, "both codes: true; ours for CNNs other than ResNets", "end decoder stages in a ReLU; null = by encoder"
    )
    loss: FeatureLoss = sourced("cosine_flat", "both codes", "distance that is trained on; see ViTAD's table XI")
    epochs: int = sourced(100, "ADer; original: 200", "times that each training image is seen", gt=0)
    steps: int | None = sourced(None, "both codes: in epochs", "training iterations; null = those of the epochs", ge=0)
    batch_size: int = sourced(16, "both codes", "images a step", gt=0)
    lr: float = sourced(
        5e-3,
        "both codes; ADer: 0.005 * batch / 16",
        "initial learning rate; unless given, with the batch under `variant` ader",
        gt=0,
    )
    betas: tuple[float, float] = sourced((0.5, 0.999), "both codes", "decay of Adam's moments")
    decay_at: float = sourced(
        0.8, "ADer: after 80 of 100 epochs; original: never", "share of the steps before the rate drops", gt=0, le=1
    )
    decay: float = sourced(0.1, "ADer", "what the learning rate is multiplied by there", gt=0, le=1)
    clip_norm: float | None = sourced(5.0, "ADer; original: none", "global gradient-norm clip; null = none", gt=0)
    smoothing_sigma: float = sourced(4.0, "both codes", "sigma in pixels of the map's Gaussian", gt=0)

    @classmethod
    def implied(cls, values: Mapping[str, Any]) -> Mapping[str, Any]:
        """Return the variant's own values."""
        return ORIGINAL if values.get("variant") == "original" else super().implied(values)


def _activated(*layers: nn.Module, width: int) -> list[nn.Module]:
    return [*layers, nn.BatchNorm2d(width), nn.ReLU()]


class MapBottleneck(nn.Module):
    """ResNet's bottleneck: 1x1, 3x3, 1x1 with BatchNorm, and a shortcut. Maps [B, entering, h, w] to [B, leaving, ...].

    Args:
        entering: channels that come in.
        inner: channels between.
        leaving: channels that go out.
        resize: None keeps the side; `down` halves it (stride 2), `up` doubles it (transposed 2x2), in the middle layer
            and in the shortcut.
        rectified: end in a ReLU.
    """

    def __init__(
        self,
        entering: int,
        inner: int,
        leaving: int,
        resize: Literal["down", "up"] | None = None,
        rectified: bool = True,
    ) -> None:
        super().__init__()
        self.rectified = rectified
        middle: nn.Module
        shortcut: nn.Module
        if resize == "up":
            middle = nn.ConvTranspose2d(inner, inner, 2, stride=2, bias=False)
            shortcut = nn.ConvTranspose2d(entering, leaving, 2, stride=2, bias=False)
        else:
            stride = 2 if resize == "down" else 1
            middle = nn.Conv2d(inner, inner, 3, stride=stride, padding=1, bias=False)
            shortcut = nn.Conv2d(entering, leaving, 1, stride=stride, bias=False)
        self.body = nn.Sequential(
            *_activated(nn.Conv2d(entering, inner, 1, bias=False), width=inner),
            *_activated(middle, width=inner),
            nn.Conv2d(inner, leaving, 1, bias=False),
            nn.BatchNorm2d(leaving),
        )
        self.shortcut = nn.Identity() if resize is None else nn.Sequential(shortcut, nn.BatchNorm2d(leaving))

    def forward(self, x: Tensor) -> Tensor:
        """Return [B, leaving, h', w']."""
        out: Tensor = self.body(x) + self.shortcut(x)
        return out.relu() if self.rectified else out


class Fuser(nn.Module):
    """Three stages to one map of twice the deepest one's width and half its side (MFF and OCBE in the paper)."""

    def __init__(self, channels: Sequence[int], width: int) -> None:
        super().__init__()
        shallow, middle, deep = channels
        self.shallow = nn.Sequential(*_halved(shallow, middle), *_halved(middle, deep))
        self.middle = nn.Sequential(*_halved(middle, deep))
        inner = max(deep // 2 * width // 64, 1)
        self.residual = nn.Sequential(
            MapBottleneck(3 * deep, inner, 2 * deep, resize="down"),
            *(MapBottleneck(2 * deep, inner, 2 * deep) for _ in range(FUSER_BLOCKS - 1)),
        )

    def forward(self, stages: Sequence[Tensor]) -> Tensor:
        """Return [B, 2C, h/2, w/2] for the stages [B, ., 4h, 4w], [B, ., 2h, 2w], [B, C, h, w]."""
        shallow, middle, deep = stages
        fused: Tensor = self.residual(torch.cat([self.shallow(shallow), self.middle(middle), deep], dim=1))
        return fused


def _halved(entering: int, leaving: int) -> list[nn.Module]:
    return _activated(nn.Conv2d(entering, leaving, 3, stride=2, padding=1, bias=False), width=leaving)


class RD4ADStudent(nn.Module):
    """Trainable part: fuser and mirrored decoder.

    Args:
        channels: widths of the teacher's stages, shallowest first.
        fuser_width: base width of the fuser's bottlenecks; 64 gives half the deepest stage's.
        rectified: end the decoder's stages in a ReLU.
    """

    def __init__(self, channels: Sequence[int], fuser_width: int, rectified: bool) -> None:
        super().__init__()
        self.fuser = Fuser(channels, fuser_width)
        entering = 2 * channels[-1]
        self.decoder = nn.ModuleList()
        for leaving, blocks in zip(reversed(channels), DECODER_BLOCKS, strict=True):
            inner = max(leaving // 2, 1)
            stage = [MapBottleneck(entering, inner, leaving, resize="up")]
            stage += [MapBottleneck(leaving, inner, leaving) for _ in range(blocks - 2)]
            stage += [MapBottleneck(leaving, inner, leaving, rectified=rectified)]
            self.decoder.append(nn.Sequential(*stage))
            entering = leaving
        for layer in self.modules():
            # transposed convolutions keep torch's own initial values, as in both codes
            if isinstance(layer, nn.Conv2d):
                nn.init.kaiming_normal_(layer.weight, mode="fan_out", nonlinearity="relu")

    def forward(self, stages: Sequence[Tensor]) -> list[Tensor]:
        """Return the stages rebuilt, shallowest first, shaped as they came."""
        x = self.fuser(stages)
        rebuilt: list[Tensor] = []
        for stage in self.decoder:
            x = stage(x)
            rebuilt.append(x)
        return rebuilt[::-1]


class RD4AD(_ader.StageReconstruction[Config, RD4ADStudent]):
    """Reverse distillation: a mirrored CNN gives back a frozen CNN's stages from their fusion."""

    name = "rd4ad"
    family = "distillation"
    encoders = ("cnn",)
    paper = _ader.protocol("rd4ad")

    @property
    def drops_last(self) -> bool:
        """Return whether an epoch ends with its last whole batch: in ADer."""
        return self.config.variant == "ader"

    def encoder(self) -> EncoderRequest:
        """Return the request: three stages, each of half the side of the one before; the fused map halves once more."""
        return _stages.request(self, self.config.stages, coarser=2)

    def features(self, blocks: Mapping[int, Tensor], info: EncoderInfo) -> dict[str, Tensor]:
        """Return the stages as they are: stage0 to stage2, float [B, C, h, w], shallowest first."""
        return _stages.named(blocks)

    def build(self, info: EncoderInfo) -> RD4ADStudent:
        """Return fuser and decoder, freshly initialised."""
        config = self.config
        rectified = catalog.is_resnet(info.name) if config.rectified is None else config.rectified
        return RD4ADStudent(info.channels, config.fuser_width, rectified)

    def pairs(self, module: RD4ADStudent, features: Mapping[str, Tensor]) -> list[tuple[Tensor, Tensor]]:
        """Return each stage and what is rebuilt of it, the shallowest first."""
        stages = _stages.listed(features)
        return list(zip(stages, module(stages), strict=True))

    def anomaly(self, module: RD4ADStudent, batch: Batch, info: EncoderInfo, size: int) -> Prediction:
        """Return smoothed maps of the summed cosine distance, and the highest pixel of each."""
        maps = gaussian(self.distances(module, batch, size), self.config.smoothing_sigma)
        return Prediction(scores=maps.amax(dim=(1, 2)), maps=maps)

    def optimizer(self, module: RD4ADStudent) -> torch.optim.Optimizer:
        """Return Adam over all trainable tensors, without weight decay."""
        return torch.optim.Adam(module.parameters(), lr=self.config.lr, betas=self.config.betas, fused=True)
