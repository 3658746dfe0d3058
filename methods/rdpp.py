"""RD++: Revisiting Reverse Distillation for Anomaly Detection, without its noise.

Tran Dinh Tien, Anh Tuan Nguyen, Nguyen Hoang Tran, Ta Duc Huy, Soan T.M. Duong, Chanh D. Tr. Nguyen, Steven Q. H.
Truong. CVPR 2023. Code: configuration `rd++` of github.com/zhangzjn/ADer at commit 902937a, of the multi-class tables,
and the authors' github.com/tientrandinh/Revisiting-Reverse-Distillation at commit 7f2ceb7.

RD4AD, whose student no longer sees the frozen CNN's stages but trainable projections of them, which are to leave out
what tells an anomaly. The student still gives back the stages themselves.

Differences from the official codes:
- Simplex noise is not painted into images. In the codes a second, noised copy of each image feeds two terms of the
  projections' loss: `rec`, how far the projected noised stages are from the clean ones (weight 0.2 * 0.01 / 1.11), is
  left out; `con`, which pushes projected stages away from the noised ones, takes the clean ones in their place. The
  noise touches 0.6 % of an image on average and adds 1e-4 to a loss of 1.
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

import torch
from torch import Tensor, nn

from bench.api import Batch, EncoderInfo, EncoderRequest, Prediction, sourced
from bench.encoders import catalog

from . import _ader, _stages
from ._losses import FeatureLoss, feature_loss
from ._maps import gaussian
from ._switches import refuse_idle
from .rd4ad import RD4ADStudent

CONTRAST = 0.1 / 1.11
"""Share of `con` among the projections' losses, whose weights 1, 0.01 and 0.1 are divided by their sum."""


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
    """Trainable part: a projection of each stage, and RD4AD's student of the projections."""

    def __init__(self, channels: Sequence[int], fuser_width: int, rectified: bool) -> None:
        super().__init__()
        self.projections = nn.ModuleList(projection(width) for width in channels)
        self.student = RD4ADStudent(channels, fuser_width, rectified)

    def forward(self, stages: Sequence[Tensor]) -> tuple[list[Tensor], list[Tensor]]:
        """Return the stages projected and the stages rebuilt, shallowest first, shaped as they came."""
        projected = [layer(stage) for layer, stage in zip(self.projections, stages, strict=True)]
        return projected, self.student(projected)


def contrast(stage: Tensor, projected: Tensor, margin: float) -> Tensor:
    """Return by how much the cosine of whole maps [B, C, h, w], flattened, is above the margin: the images' mean."""
    cosine = torch.cosine_similarity(stage.flatten(1), projected.flatten(1), dim=1)
    return (cosine - margin).clamp(min=0).mean()


class RDPP(_ader.StageReconstruction[Config, Projected]):
    """Reverse distillation whose student sees trainable projections of a frozen CNN's stages."""

    name = "rdpp"
    family = "distillation"
    encoders = ("cnn",)
    paper = _ader.protocol("rdpp")

    def __init__(self, config: Config) -> None:
        super().__init__(config)
        if config.projection_weight == 0:
            refuse_idle(self, ("margin",), "projection_weight 0")
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
        return Projected(info.channels, config.fuser_width, rectified)

    def pairs(self, module: Projected, features: Mapping[str, Tensor]) -> list[tuple[Tensor, Tensor]]:
        """Return each stage and what is rebuilt of it, the shallowest first."""
        stages = _stages.listed(features)
        return list(zip(stages, module(stages)[1], strict=True))

    def loss(self, module: Projected, batch: Batch, step: int) -> Tensor:
        """Return the student's distance and the projections' nearness to the stages, each summed over these."""
        config, stages = self.config, _stages.listed(batch)
        projected, rebuilt = module(stages)
        apart = [feature_loss(config.loss, *pair) for pair in zip(stages, rebuilt, strict=True)]
        near = [contrast(*pair, config.margin) for pair in zip(stages, projected, strict=True)]
        return torch.stack(apart).sum() + config.projection_weight * CONTRAST * torch.stack(near).sum()

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
