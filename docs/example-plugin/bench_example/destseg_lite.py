"""DeSTSeg, much reduced: a student sees spoilt images as the teacher sees clean ones; where they differ is marked.

After Zhang et al., CVPR 2023. Features of clean images come from the store, of spoilt ones from `Batch.encode`.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from bench.api import Batch, EncoderInfo, EncoderRequest, MethodConfig, Prediction, Trained, sourced
from bench.encoders import catalog
from bench.errors import UsageError


class Config(MethodConfig):
    """Settings; every default says where it comes from."""

    encoder: str = sourced("resnet18.tv_in1k", "section 4.1", "frozen CNN, by timm name")
    input_size: int = sourced(256, "section 4.1", "input side in pixels", gt=0)
    stage: int = sourced(2, "ours", "stage of the CNN, from 0; the paper takes three", ge=0)
    steps: int = sourced(2000, "ours", "training iterations", ge=0)
    batch_size: int = sourced(8, "ours", "images a step", gt=0)
    lr: float = sourced(1e-3, "ours", "learning rate", gt=0)


class Networks(nn.Module):
    """The student, images [B, 3, S, S] to [B, C, h, w], and what marks defects in [B, C, h, w]: logits [B, 1, h, w]."""

    def __init__(self, width: int, grid: tuple[int, int]) -> None:
        super().__init__()
        pool = nn.AdaptiveAvgPool2d(grid)
        self.student = nn.Sequential(nn.Conv2d(3, 32, 5, 4, 2), nn.ReLU(), pool, nn.Conv2d(32, width, 3, 1, 1))
        self.mark = nn.Sequential(nn.Conv2d(width, 32, 3, 1, 1), nn.ReLU(), nn.Conv2d(32, 1, 1))

    def forward(self, images: Tensor) -> Tensor:
        """Return what the student sees, of length 1 over C."""
        return F.normalize(self.student(images), dim=1)


class DestsegLite(Trained[Config, Networks]):
    """Student and teacher on spoilt images."""

    name = "destseg_lite"
    family = "discrimination"
    encoders = ("cnn",)
    needs = frozenset({"features", "images"})

    def encoder(self) -> EncoderRequest:
        """Ask for one stage of a CNN."""
        if catalog.describe(self.config.encoder).family != "cnn":
            raise UsageError(f"destseg_lite needs a CNN, {self.config.encoder} is a ViT. Try resnet18.tv_in1k")
        return EncoderRequest(self.config.encoder, (self.config.stage,), self.config.input_size)

    def features(self, blocks: Mapping[int, Tensor], info: EncoderInfo) -> dict[str, Tensor]:
        """Keep the stage: `stage` float [B, C, h, w], of length 1 over C."""
        return {"stage": F.normalize(blocks[self.config.stage], dim=1)}

    def build(self, info: EncoderInfo) -> Networks:
        """Return both networks."""
        return Networks(info.dim, info.grid)

    def loss(self, module: Networks, batch: Batch, step: int) -> Tensor:
        """Return the student's error on clean features plus that of where its disagreement is marked."""
        images = batch.pixels
        coarse = torch.rand(len(images), 1, 5, 5, device=images.device, generator=batch.random)
        mask = (F.interpolate(coarse, images.shape[-2:], mode="bilinear", align_corners=False) > 0.65).float()
        spoilt = torch.lerp(images, images.roll(1, dims=0).flip(-1), mask)
        student = module(spoilt)
        taught = 1 - (student * batch["stage"]).sum(dim=1).mean()
        logits = module.mark(student.detach() * batch.encode(spoilt)["stage"]).float()
        return taught + F.binary_cross_entropy_with_logits(logits, F.adaptive_max_pool2d(mask, logits.shape[-2:]))

    def anomaly(self, module: Networks, batch: Batch, info: EncoderInfo, size: int) -> Prediction:
        """Return the marks, and the highest of each image."""
        marks = module.mark(module(batch.pixels) * batch["stage"]).float().sigmoid()
        maps = F.interpolate(marks, (size, size), mode="bilinear", align_corners=False)[:, 0]
        return Prediction(scores=maps.amax(dim=(1, 2)), maps=maps)

    def optimizer(self, module: Networks) -> torch.optim.Optimizer:
        """Return Adam over both networks."""
        return torch.optim.Adam(module.parameters(), fused=True)

    def learning_rate(self, step: int) -> float:
        """Return the constant rate."""
        return self.config.lr
