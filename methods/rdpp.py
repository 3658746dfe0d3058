"""RD++: Revisiting Reverse Distillation for Anomaly Detection.

Tran Dinh Tien, Anh Tuan Nguyen, Nguyen Hoang Tran, Ta Duc Huy, Soan T.M. Duong, Chanh D. Tr. Nguyen, Steven Q. H.
Truong. CVPR 2023. Code: configuration `rd++` of github.com/zhangzjn/ADer at commit 902937a, of the multi-class tables,
and the authors' github.com/tientrandinh/Revisiting-Reverse-Distillation at commit 7f2ceb7.

RD4AD, whose student no longer sees the frozen CNN's stages but trainable projections of them, which are to leave out
what tells an anomaly. The student still gives back the stages themselves. The projections' own loss looks at a second
copy of each image with a rectangle of simplex noise, through the frozen CNN at every step: they are to be near for both
(`rec`), and unlike the noised stages (`con`).

Differences from the official codes:
- The noise touches 0.6 % of an image on average, and `rec` adds 1e-4 to a loss of 1. `noise=0` leaves it out: `con`
  then takes the clean stages in the noised ones' place, and no image is looked at but by stored features.
- Where the input has not 256 pixels, rectangles still have the codes' 10 to 31, as far as they fit.
- The transport loss is left out, for it is zero: both codes take the Sinkhorn divergence between a batch of projected
  stages and the same batch in another order, which is the same set of points. Its value and its gradient are nothing
  but rounding.
- ADer clears the gradients before each batch and steps after every second one, so half of its batches move nothing but
  BatchNorm's averages. Here those are not drawn: an update is counted as a step, and 100 epochs of MVTec-AD are 11,300
  (`update_every`). The authors' code sums the gradients of the two.
- Images are resized with antialiasing, as for all methods here; the codes' OpenCV does without.
- The authors train each class of MVTec-AD for 10 to 300 epochs, set by hand, and keep the best test of all epochs.
- Rates never fall, as in both codes; ADer's schedule drives an optimizer that is never stepped.
- Network, map, other CNNs and evaluation: as `rd4ad` and `_ader.py` say.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import pairwise

import numpy as np
import torch
from torch import Generator, Tensor, nn

from bench.api import Batch, EncoderInfo, EncoderRequest, Prediction, sourced
from bench.encoders import catalog

from . import _ader, _stages
from ._losses import FeatureLoss, feature_loss
from ._maps import gaussian
from ._switches import refuse_idle
from .rd4ad import RD4ADStudent

NEARNESS, CONTRAST = 0.01 / 1.11, 0.1 / 1.11
"""Shares of `rec` and `con` among the projections' losses, whose weights 1, 0.01 and 0.1 are divided by their sum."""
SMALLEST, LARGEST = 10, 31
"""Sides of a rectangle of noise in pixels."""
OCTAVES, FADING, COARSEST = 6, 0.6, 32
"""Of the noise: how many, what each has of the one before, and pixels that the first of them takes for a unit."""


class Config(_ader.StageRecipe):
    """RD++'s settings; defaults are ADer's."""

    encoder: str = sourced(
        "wide_resnet50_2.racm_in1k", "ADer (timm's default weights); authors: tv_in1k", "frozen CNN, by timm name"
    )
    input_size: int | None = sourced(256, "both codes", "input side in pixels; null = 256", gt=0)
    stages: tuple[int, int, int] | None = sourced(
        None, "both codes: layer1 to layer3 of ResNet", "CNN stages, from 0; null = those at strides 4, 8 and 16"
    )
    fuser_width: int = sourced(64, "ADer", "base width of the fuser's bottlenecks", gt=0)
    rectified: bool | None = sourced(
        None, "both codes: true; ours for CNNs other than ResNets", "end decoder stages in a ReLU; null = by encoder"
    )
    loss: FeatureLoss = sourced("cosine_flat", "both codes", "distance that the student is trained on")
    projection_weight: float = sourced(0.2, "both codes", "weight of the projections' own loss; 0 = none", ge=0)
    noise: float = sourced(
        0.2, "both codes", "of the noise added to images in [0, 1]; 0 = none, and `rec` neither", ge=0
    )
    margin: float = sourced(0.5, "both codes", "cosine to its stage up to which a projection is let be", ge=-1, lt=1)
    epochs: int = sourced(100, "ADer; a second table: 300", "times that each training image is drawn", gt=0)
    update_every: int = sourced(
        2, "ADer's trainer", "batches of the epochs for one update; only the last of them is looked at", gt=0
    )
    steps: int | None = sourced(None, "both codes: in epochs", "updates; null = those of the epochs", ge=0)
    batch_size: int = sourced(16, "both codes", "images a step", gt=0)
    lr: float = sourced(
        5e-3, "both codes, with batch 16", "learning rate of fuser and decoder; unless given, with the batch", gt=0
    )
    projection_lr: float = sourced(0.2, "both codes: 0.001 of 0.005", "the projections' rate over `lr`", gt=0)
    betas: tuple[float, float] = sourced((0.5, 0.999), "both codes", "decay of Adam's moments")
    decay_at: float = sourced(1.0, "both codes: never", "share of the steps before the rate drops", gt=0, le=1)
    decay: float = sourced(0.1, "ADer", "what the learning rate is multiplied by there", gt=0, le=1)
    clip_norm: float | None = sourced(5.0, "ADer; authors: none", "global gradient-norm clip; null = none", gt=0)
    smoothing_sigma: float = sourced(4.0, "both codes", "sigma in pixels of the map's Gaussian", gt=0)


def projection(width: int) -> nn.Sequential:
    """Return four 3x3 convolutions through a quarter of the width, each normed over its image; keeps [B, C, h, w]."""
    widths = (width, max(width // 2, 1), max(width // 4, 1), max(width // 2, 1), width)
    layers: list[nn.Module] = []
    for entering, leaving in pairwise(widths):
        layers += [nn.Conv2d(entering, leaving, 3, padding=1), nn.InstanceNorm2d(leaving), nn.LeakyReLU()]
    return nn.Sequential(*layers)


class Projected(nn.Module):
    """Trainable part: a projection of each stage, and RD4AD's student of the projections.

    Attributes:
        noise: float32 [3, 31, 31], the one field that all rectangles are cut from; without noise it is empty.
    """

    noise: Tensor

    def __init__(self, channels: Sequence[int], fuser_width: int, rectified: bool, noisy: bool) -> None:
        super().__init__()
        self.projections = nn.ModuleList(projection(width) for width in channels)
        self.student = RD4ADStudent(channels, fuser_width, rectified)
        # drawn once a training, as in the codes
        drawn = int(torch.randint(2**31, (), device="cpu")) if noisy else None
        self.register_buffer("noise", torch.zeros(0) if drawn is None else simplex(drawn, 3, LARGEST, LARGEST))

    def project(self, stages: Sequence[Tensor]) -> list[Tensor]:
        """Return the stages projected, shaped as they came."""
        return [layer(stage) for layer, stage in zip(self.projections, stages, strict=True)]

    def forward(self, stages: Sequence[Tensor]) -> tuple[list[Tensor], list[Tensor]]:
        """Return the stages projected and the stages rebuilt, shallowest first, shaped as they came."""
        projected = self.project(stages)
        return projected, self.student(projected)


def simplex(seed: int, depth: int, height: int, width: int) -> Tensor:
    """Return octaves of simplex noise, float32 [depth, height, width], where a torch device context says.

    Args:
        seed: of the permutation that the noise is made of.
        depth: channels: a picture's colours are neighbours in the noise as its pixels are.
        height: in pixels.
        width: in pixels.
    """
    # here alone: what does not paint noise needs none of it
    from opensimplex import OpenSimplex

    source, total = OpenSimplex(seed), np.zeros((depth, height, width))
    for octave in range(OCTAVES):
        scale = 2**octave / COARSEST
        # point by point: after its function for arrays, a parallel kernel of numba's, training crashes in this process
        for place in np.ndindex(total.shape):
            z, y, x = place
            total[place] += FADING**octave * source.noise3(x * scale, y * scale, z * scale)
    made = torch.zeros(total.shape)
    return made if made.is_meta else made.copy_(torch.from_numpy(total))


def noised(images: Tensor, field: Tensor, amplitude: float, random: Generator) -> Tensor:
    """Return images [B, 3, S, S] with noise added in a rectangle of each, wherever that is; nothing is clipped.

    Args:
        images: float, square.
        field: [3, n, n]: every rectangle is cut from its upper left corner.
        amplitude: what the noise is multiplied by.
        random: the generator to draw places and sizes from, on the images' device.
    """
    count, side = len(images), images.shape[-1]
    u = torch.rand(4, count, 1, generator=random, device=images.device)
    # a pixel at least stays between the rectangle and the image's border
    largest = min(field.shape[-1], side - 2)
    smallest = min(SMALLEST, largest)
    length = smallest + (u[:2] * (largest - smallest + 1)).floor()
    place = torch.arange(side, device=images.device) - 1 - (u[2:] * (side - 1 - length)).floor()
    inside = (place >= 0) & (place < length)
    row, column = place.long().clamp(0, largest - 1)
    patch = field[:, row[:, :, None], column[:, None, :]].transpose(0, 1)
    return images + amplitude * patch * (inside[0, :, None, :, None] & inside[1, :, None, None, :])


def nearness(one: Tensor, other: Tensor) -> Tensor:
    """Return how far maps [B, C, h, w] are apart: the mean over images and places of one minus their cosine."""
    return (1 - torch.cosine_similarity(one, other, dim=1)).mean()


def contrast(stage: Tensor, projected: Tensor, margin: float) -> Tensor:
    """Return by how much the cosine of whole maps [B, C, h, w], flattened, is above the margin: the images' mean."""
    cosine = torch.cosine_similarity(stage.flatten(1), projected.flatten(1), dim=1)
    return (cosine - margin).clamp(min=0).mean()


class RDPP(_ader.StageReconstruction[Config, Projected]):
    """Reverse distillation whose student sees trainable projections of a frozen CNN's stages."""

    name = "rdpp"
    family = "distillation"
    encoders = ("cnn",)
    needs = frozenset({"features", "images"})
    paper = _ader.protocol("rdpp")

    def __init__(self, config: Config) -> None:
        super().__init__(config)
        if config.projection_weight == 0:
            refuse_idle(self, ("margin", "noise"), "projection_weight 0")
        self.noisy = config.noise > 0 and config.projection_weight > 0
        if not self.noisy:
            self.needs = frozenset({"features"})
        if config.decay_at == 1:
            refuse_idle(self, ("decay",), "decay_at 1")

    def steps(self, images: int) -> int:
        """Return the updates of the recipe's epochs, or those given."""
        steps = super().steps(images)
        return max(steps // self.config.update_every, 1) if self.config.steps is None else steps

    def encoder(self) -> EncoderRequest:
        """Return the request: three stages, each of half the side of the one before; the fused map halves once more."""
        return _stages.request(self, self.config.stages, coarser=2)

    def features(self, blocks: Mapping[int, Tensor], info: EncoderInfo) -> dict[str, Tensor]:
        """Return the stages as they are: stage0 to stage2, float [B, C, h, w], shallowest first."""
        return _stages.named(blocks)

    def build(self, info: EncoderInfo) -> Projected:
        """Return projections, fuser and decoder, freshly initialised."""
        config = self.config
        rectified = catalog.is_resnet(info.name) if config.rectified is None else config.rectified
        return Projected(info.channels, config.fuser_width, rectified, self.noisy)

    def pairs(self, module: Projected, features: Mapping[str, Tensor]) -> list[tuple[Tensor, Tensor]]:
        """Return each stage and what is rebuilt of it, the shallowest first."""
        stages = _stages.listed(features)
        return list(zip(stages, module(stages)[1], strict=True))

    def loss(self, module: Projected, batch: Batch, step: int) -> Tensor:
        """Return the student's distance and the projections' nearness to the stages, each summed over these."""
        config, stages = self.config, _stages.listed(batch)
        projected, rebuilt = module(stages)
        apart = [feature_loss(config.loss, *pair) for pair in zip(stages, rebuilt, strict=True)]
        own = self._projections_loss(module, stages, projected, batch)
        return torch.stack(apart).sum() + config.projection_weight * own

    def _projections_loss(
        self, module: Projected, stages: list[Tensor], projected: list[Tensor], batch: Batch
    ) -> Tensor:
        config, other = self.config, stages
        far = projected[0].new_zeros(())
        if self.noisy:
            spoilt = noised(batch.pixels, module.noise, config.noise, batch.random)
            other = _stages.listed(batch.encode(spoilt))
            far = torch.stack([nearness(*pair) for pair in zip(module.project(other), projected, strict=True)]).sum()
        near = [contrast(*pair, config.margin) for pair in zip(other, projected, strict=True)]
        return NEARNESS * far + CONTRAST * torch.stack(near).sum()

    def anomaly(self, module: Projected, batch: Batch, info: EncoderInfo, size: int) -> Prediction:
        """Return smoothed maps of the summed cosine distance, and the highest pixel of each."""
        maps = gaussian(self.distances(module, batch, size), self.config.smoothing_sigma)
        return Prediction(scores=maps.amax(dim=(1, 2)), maps=maps)

    def optimizer(self, module: Projected) -> torch.optim.Optimizer:
        """Return Adam over all trainable tensors, the projections at a rate of their own, without weight decay."""
        config = self.config
        groups = [
            {"params": list(module.student.parameters()), "lr_scale": 1.0},
            {"params": list(module.projections.parameters()), "lr_scale": config.projection_lr},
        ]
        return torch.optim.Adam(groups, lr=config.lr, betas=config.betas, fused=True)
