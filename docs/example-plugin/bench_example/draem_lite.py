"""DRAEM, much reduced: a network learns to undo painted defects, and another to mark where they were. An example.

After Zavrtanik, Kristan, Skocaj, ICCV 2021: smooth random shapes filled with textures stand for defects. It has no
frozen encoder and needs the images themselves; all that it draws comes from the step's own generator.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from bench.api import Batch, EncoderInfo, MethodConfig, Prediction, Trained, sourced


class Config(MethodConfig):
    """Settings; every default says where it comes from."""

    input_size: int = sourced(256, "section 4.1", "input side in pixels", gt=0, multiple_of=4)
    width: int = sourced(16, "ours", "channels of the networks", gt=0)
    steps: int = sourced(2000, "ours", "training iterations", ge=0)
    batch_size: int = sourced(8, "section 4.1", "images a step", gt=0)
    lr: float = sourced(1e-3, "ours", "learning rate", gt=0)


class Networks(nn.Module):
    """Images [B, 3, S, S] to what they would be without defects, [B, 3, S, S], and defect logits, [B, 1, S, S]."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.clean = _hourglass(3, width, 3)
        self.mark = _hourglass(6, width, 1)

    def forward(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """Return both."""
        clean = self.clean(images)
        return clean, self.mark(torch.cat([images, clean], dim=1))


def _hourglass(entering: int, width: int, leaving: int) -> nn.Module:
    down = [nn.Conv2d(entering, width, 3, 2, 1), nn.ReLU(), nn.Conv2d(width, 2 * width, 3, 2, 1), nn.ReLU()]
    up = [nn.ConvTranspose2d(2 * width, width, 2, 2), nn.ReLU(), nn.ConvTranspose2d(width, leaving, 2, 2)]
    return nn.Sequential(*down, *up)


def painted(batch: Batch) -> tuple[Tensor, Tensor]:
    """Return images with blots of other textures, and where these are: [B, 3, S, S] and [B, 1, S, S] of 0 and 1."""
    images = batch.pixels
    coarse = torch.rand(len(images), 1, 5, 5, device=images.device, generator=batch.random)
    mask = (F.interpolate(coarse, images.shape[-2:], mode="bilinear", align_corners=False) > 0.65).float()
    return torch.lerp(images, batch.textures(len(images)), 0.8 * mask), mask


class DraemLite(Trained[Config, Networks]):
    """Painted defects, undone and marked."""

    name = "draem_lite"
    family = "discrimination"
    encoders = ()
    needs = frozenset({"images", "textures"})

    def build(self, info: EncoderInfo) -> Networks:
        """Return both networks."""
        return Networks(self.config.width)

    def loss(self, module: Networks, batch: Batch, step: int) -> Tensor:
        """Return the error of what was undone plus that of where it was marked."""
        spoilt, mask = painted(batch)
        clean, logits = module(spoilt)
        return F.mse_loss(clean, batch.pixels) + F.binary_cross_entropy_with_logits(logits.float(), mask)

    def anomaly(self, module: Networks, batch: Batch, info: EncoderInfo, size: int) -> Prediction:
        """Return the marks, smoothed, and the highest of each image."""
        _, logits = module(batch.pixels)
        marks = F.avg_pool2d(logits.float().sigmoid(), 5, stride=1, padding=2)
        maps = F.interpolate(marks, (size, size), mode="bilinear", align_corners=False)[:, 0]
        return Prediction(scores=maps.amax(dim=(1, 2)), maps=maps)

    def optimizer(self, module: Networks) -> torch.optim.Optimizer:
        """Return Adam; the network that marks learns twice as fast as the one that undoes."""
        groups = [{"params": module.clean.parameters()}, {"params": module.mark.parameters(), "lr_scale": 2.0}]
        return torch.optim.Adam(groups, fused=True)

    def learning_rate(self, step: int) -> float:
        """Return the constant learning rate of the network that undoes."""
        return self.config.lr
