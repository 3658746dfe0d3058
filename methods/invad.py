"""InvAD: Learning Feature Inversion for Multi-class Anomaly Detection under General-purpose COCO-AD Benchmark.

Jiangning Zhang, Chengjie Wang, Xiangtai Li, Guanzhong Tian, Zhucun Xue, Yong Liu, Guansong Pang, Dacheng Tao. 2024,
arXiv 2404.10760. Code: configuration `invad` of github.com/zhangzjn/ADer at commit 902937a.

A frozen CNN sees the image. Its three middle stages are fused into style maps, and a StyleGAN-like network makes the
stages anew from a learnt constant that only the styles modulate: what normal images never had cannot be asked for.
Where the stages and what is made of them differ, the image is anomalous.

The file was written from the method's formulas alone. The code's decoder derives from StyleMapGAN, whose licence
forbids commercial use; none of it was used, or looked at, for what stands here.

Differences from the official code:
- Epochs are counted as iterations, see `_ader.py`.
- Maps are resized straight to the evaluation size; the code goes through the shallowest stage's side first, then to
  four times it, which is 256 too.
- Any CNN with stages at strides 4, 8 and 16 serves; the decoder takes its widths from them.
- Pixels are normalised as the encoder was trained; the code takes ImageNet's mean and std, the same for ResNets.
- Evaluation: see `_ader.py`. Seeding, precision and batching are the harness's.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from bench.api import Batch, EncoderInfo, EncoderRequest, Prediction, sourced

from . import _ader, _stages
from ._losses import FeatureLoss
from ._maps import gaussian
from ._vit import cosine_distance

PLAIN_SCALE = 0.01
"""The fuser's transposed convolutions learn weights a hundred times as large, at a hundredth of their effect."""
FUSED_EPS = 1e-6
"""Of the fuser's own BatchNorms; its bottleneck has torch's."""
LITE = {"encoder": "resnet34.bt_in1k", "blocks": 4}


class Config(_ader.StageRecipe):
    """InvAD's settings; defaults are ADer's."""

    variant: Literal["base", "lite"] = sourced(
        "base", "ADer's configurations `invad` and `invad-lite`", "whose encoder and depth the other defaults are"
    )
    encoder: str = sourced(
        "wide_resnet50_2.racm_in1k", "ADer (timm's default weights); lite: resnet34.bt_in1k", "frozen CNN, by timm name"
    )
    input_size: int | None = sourced(256, "ADer", "input side in pixels; null = 256", gt=0)
    stages: tuple[int, int, int] | None = sourced(
        None, "ADer: layer1 to layer3 of ResNet", "CNN stages, from 0; null = those at strides 4, 8 and 16"
    )
    style_width: int = sourced(64, "ADer", "channels of the fused map and of the styles", gt=0)
    latent_width: int = sourced(16, "ADer", "channels of what modulates a level of the decoder", gt=0)
    blocks: int = sourced(2, "ADer; lite: 4", "styled residual blocks a level", gt=0)
    loss: FeatureLoss = sourced("mse", "ADer", "distance that is trained on; see ViTAD's table XI")
    epochs: int = sourced(100, "ADer; a second table: 300", "times that each training image is seen", gt=0)
    steps: int | None = sourced(None, "ADer: in epochs", "training iterations; null = those of the epochs", ge=0)
    batch_size: int = sourced(32, "ADer", "images a step", gt=0)
    lr: float = sourced(4e-3, "ADer: 0.001 * batch / 8", "initial learning rate; unless given, with the batch", gt=0)
    betas: tuple[float, float] = sourced((0.0, 0.99), "ADer", "decay of Adam's moments")
    decay_at: float = sourced(0.8, "ADer: after 80 of 100 epochs", "share of the steps before the drop", gt=0, le=1)
    decay: float = sourced(0.1, "ADer", "what the learning rate is multiplied by there", gt=0, le=1)
    clip_norm: float | None = sourced(5.0, "ADer", "global gradient-norm clip; null = none", gt=0)
    smoothing_sigma: float = sourced(4.0, "ADer", "sigma in pixels of the map's Gaussian", gt=0)

    @classmethod
    def implied(cls, values: Mapping[str, Any]) -> Mapping[str, Any]:
        """Return the variant's own values, and the learning rate of another batch size."""
        return {**(LITE if values.get("variant") == "lite" else {}), **super().implied(values)}


class Scaled(nn.Module):
    """Convolution with weights of N(0, 1), scaled to unit variance of what leaves whenever it runs (EqLR).

    Args:
        entering: channels that come in.
        leaving: channels that go out.
        side: of the kernel, odd.
        up: double the map's side: a transposed convolution at stride 2, then the blur.
        bias: what the bias starts at; None for none.
        activated: end in a leaky ReLU times the root of 2, which keeps the variance.
        scale: what the weights are learnt at the inverse of.
    """

    def __init__(
        self,
        entering: int,
        leaving: int,
        side: int,
        *,
        up: bool = False,
        bias: float | None = 0.0,
        activated: bool = True,
        scale: float = 1.0,
    ) -> None:
        super().__init__()
        self.up, self.activated = up, activated
        self.conv: nn.Module
        if up:
            self.conv = nn.ConvTranspose2d(entering, leaving, side, stride=2, bias=False)
        else:
            self.conv = nn.Conv2d(entering, leaving, side, padding=side // 2, bias=False)
        nn.init.normal_(self.conv.weight, std=1.0 / scale)
        self.bias = None if bias is None else nn.Parameter(torch.full((leaving,), bias))
        self.factor = scale / (entering * side**2) ** 0.5
        self.pad = 2 - side // 2

    def forward(self, x: Tensor) -> Tensor:
        """Return [B, leaving, h, w] for [B, entering, h, w]; twice the side where it goes up."""
        # scaling what enters is scaling the weights
        out: Tensor = self.conv(x * self.factor)
        if self.up:
            out = blurred(out, self.pad)
        if self.bias is not None:
            out = out + self.bias.view(-1, 1, 1)
        return 2**0.5 * F.leaky_relu(out, 0.2) if self.activated else out


def blurred(x: Tensor, pad: int) -> Tensor:
    """Return maps [B, C, h, w] smoothed by the binomial taps, whose sum is 4: [B, C, h + 2 pad - 3, ...].

    The sum makes up for the zeros that stride 2 puts between values.
    """
    # 1, 3, 3, 1, made on the device: a copy to it would keep every step waiting
    taps = 4.0 - (2.0 * torch.arange(4, device=x.device, dtype=x.dtype) - 3.0).abs()
    kernel = torch.outer(taps, taps) / 16.0
    channels = x.shape[1]
    return F.conv2d(x, kernel.expand(channels, 1, -1, -1), padding=pad, groups=channels)


class Styled(nn.Module):
    """Norm over the whole map, factor and offset a place and channel from the latent, convolution, leaky ReLU.

    Args:
        entering: channels that come in.
        leaving: channels that go out.
        latent: channels of what modulates; None for a norm alone.
        up: double the map's side.
    """

    def __init__(self, entering: int, leaving: int, latent: int | None, up: bool = False) -> None:
        super().__init__()
        self.factor: Scaled | None = None
        if latent is not None:
            self.factor = Scaled(latent, entering, 3, bias=1.0, activated=False)
            self.offset = Scaled(latent, entering, 3, activated=False)
        self.conv = Scaled(entering, leaving, 3, up=up)

    def forward(self, x: Tensor, latent: Tensor) -> Tensor:
        """Return [B, leaving, h', w'] for a map [B, entering, h, w] and a latent [B, ., h, w]."""
        x = F.layer_norm(x, x.shape[1:])
        if self.factor is not None:
            x = x * self.factor(latent) + self.offset(latent)
        found: Tensor = self.conv(x)
        return found


class Block(nn.Module):
    """Two styled convolutions beside a 1x1 shortcut, their sum over the root of 2.

    Where the level goes up, the first convolution does, without modulation: its map has another side than the latent.
    """

    def __init__(self, entering: int, leaving: int, latent: int, up: bool) -> None:
        super().__init__()
        self.first = Styled(entering, leaving, None if up else latent, up)
        self.second = Styled(leaving, leaving, latent)
        self.shortcut = Scaled(entering, leaving, 1, up=up, bias=None, activated=False)

    def forward(self, x: Tensor, latent: Tensor) -> Tensor:
        """Return [B, leaving, h', w']."""
        out: Tensor = (self.second(self.first(x, latent), latent) + self.shortcut(x)) / 2**0.5
        return out


class Fuser(nn.Module):
    """Three stages to three style maps of one width, at the sides of the stages, the smallest first."""

    def __init__(self, channels: Sequence[int], width: int) -> None:
        super().__init__()
        self.brought = nn.ModuleList(
            nn.Sequential(nn.Conv2d(wide, wide, side, stride=side), nn.BatchNorm2d(wide, eps=FUSED_EPS))
            for wide, side in zip(channels, (4, 2, 1), strict=True)
        )
        inner = max(width // 4, 1)
        self.fused = nn.Sequential(
            nn.Conv2d(sum(channels), width, 1, bias=False), nn.BatchNorm2d(width, eps=FUSED_EPS), nn.ReLU()
        )
        self.residual = nn.Sequential(
            *(nn.Conv2d(width, inner, 1, bias=False), nn.BatchNorm2d(inner), nn.ReLU()),
            *(nn.Conv2d(inner, inner, 3, padding=1, bias=False), nn.BatchNorm2d(inner), nn.ReLU()),
            *(nn.Conv2d(inner, width, 1, bias=False), nn.BatchNorm2d(width)),
        )
        self.styles = nn.ModuleList(
            nn.Sequential(
                Scaled(width, width, 3, up=level > 0, scale=PLAIN_SCALE if level > 0 else 1.0), Scaled(width, width, 3)
            )
            for level in range(len(channels))
        )

    def forward(self, stages: Sequence[Tensor]) -> list[Tensor]:
        """Return [B, width, h, w], [B, width, 2h, 2w], [B, width, 4h, 4w], h the deepest stage's side."""
        x = self.fused(torch.cat([layer(stage) for layer, stage in zip(self.brought, stages, strict=True)], dim=1))
        x = (x + self.residual(x)).relu()
        styles = []
        for level in self.styles:
            x = level(x)
            styles.append(x)
        return styles


class Level(nn.Module):
    """One side of the decoder: the latent of its style, and its blocks."""

    def __init__(self, entering: int, leaving: int, config: Config, up: bool) -> None:
        super().__init__()
        style, latent = config.style_width, config.latent_width
        self.latent = nn.Sequential(Scaled(style, style, 3), Scaled(style, latent, 3))
        self.blocks = nn.ModuleList(
            Block(leaving if number else entering, leaving, latent, up and not number)
            for number in range(config.blocks)
        )

    def forward(self, x: Tensor, style: Tensor) -> Tensor:
        """Return [B, leaving, h', w']."""
        latent = self.latent(style)
        for block in self.blocks:
            x = block(x, latent)
        return x


class Inverter(nn.Module):
    """Trainable part: fuser, and decoder from a constant.

    Args:
        channels: widths of the encoder's stages, shallowest first.
        side: of the deepest stage.
        config: widths and depth.
    """

    def __init__(self, channels: Sequence[int], side: int, config: Config) -> None:
        super().__init__()
        self.fuser = Fuser(channels, config.style_width)
        widths = list(reversed(channels))
        self.constant = nn.Parameter(torch.randn(1, widths[0], side, side))
        self.start = Scaled(widths[0], widths[0], 3)
        self.levels = nn.ModuleList(
            Level(entering, leaving, config, up=number > 0)
            for number, (entering, leaving) in enumerate(zip([widths[0], *widths], widths, strict=False))
        )

    def forward(self, stages: Sequence[Tensor]) -> list[Tensor]:
        """Return the stages made anew, shallowest first, shaped as they came."""
        styles = self.fuser(stages)
        x = self.start(self.constant).expand(len(styles[0]), -1, -1, -1)
        made: list[Tensor] = []
        for level, style in zip(self.levels, styles, strict=True):
            x = level(x, style)
            made.append(x)
        return made[::-1]


class InvAD(_ader.StageReconstruction[Config, Inverter]):
    """Feature inversion: a styled decoder makes a frozen CNN's stages anew from a learnt constant."""

    name = "invad"
    family = "reconstruction"
    encoders = ("cnn",)
    paper = _ader.protocol("invad")

    def encoder(self) -> EncoderRequest:
        """Return the request: three stages, each of half the side of the one before."""
        return _stages.request(self, self.config.stages, coarser=1)

    def features(self, blocks: Mapping[int, Tensor], info: EncoderInfo) -> dict[str, Tensor]:
        """Return the stages as they are: stage0 to stage2, float [B, C, h, w], shallowest first."""
        return _stages.named(blocks)

    def build(self, info: EncoderInfo) -> Inverter:
        """Return fuser and decoder, freshly initialised."""
        return Inverter(info.channels, info.grid[0], self.config)

    def pairs(self, module: Inverter, features: Mapping[str, Tensor]) -> list[tuple[Tensor, Tensor]]:
        """Return each stage and what is made of it, the shallowest first."""
        stages = _stages.listed(features)
        return list(zip(stages, module(stages), strict=True))

    def anomaly(self, module: Inverter, batch: Batch, info: EncoderInfo, size: int) -> Prediction:
        """Return smoothed maps of the cosine distance over all stages at once, and the highest pixel of each."""
        pairs = self.pairs(module, batch)
        target, made = (_together(side) for side in zip(*pairs, strict=True))
        grid = cosine_distance(target, made).float().unsqueeze(1)
        maps = F.interpolate(grid, size=(size, size), mode="bilinear", align_corners=True).squeeze(1)
        maps = gaussian(maps, self.config.smoothing_sigma)
        return Prediction(scores=maps.amax(dim=(1, 2)), maps=maps)

    def optimizer(self, module: Inverter) -> torch.optim.Optimizer:
        """Return Adam over all trainable tensors, without weight decay."""
        return torch.optim.Adam(module.parameters(), lr=self.config.lr, betas=self.config.betas, fused=True)


def _together(stages: Sequence[Tensor]) -> Tensor:
    """Return maps [B, ., h, w] at the first one's side, each place of length 1, joined along the channels."""
    side = stages[0].shape[-2:]
    unit = [F.normalize(stage, dim=1) for stage in stages]
    return torch.cat([F.interpolate(one, size=side, mode="bilinear", align_corners=True) for one in unit], dim=1)
