"""MSC: Mean-Shifted Contrastive Loss for Anomaly Detection.

Tal Reiss, Yedid Hoshen. AAAI 2023, arXiv 2106.03844. Facts of its code (of a licence that is not free) are from a
description of it; none of it was read for this file.

As PANDA (see panda.py) with another loss. Features have length 1. Two random views of an image are drawn together and
from those of all others apart, by their directions as seen from the features' mean before training instead of zero,
which keeps them close to where they were.

Differences from the official code:
- Images are resized to a square of 256 pixels before the crop (`--protocol paper`); the code resizes the shorter side.
- Views are cut from the image as the protocol prepares it, the code's from the whole one; see _views.py for what else.
- Which half is trained: as in panda.py. The code's ResNet18 is trained whole: `encoder=resnet18.tv_in1k`, then
  `trained_parts=6`.
- Every batch is whole; there are as many as the code has with its incomplete last ones. One model is for all classes,
  where the code's is for one.
- Seeding, precision and batching are the harness's.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace

import torch
import torch.nn.functional as F
from torch import Tensor

from bench.api import Batch, sourced
from bench.errors import UsageError

from . import panda
from ._epochs import length
from ._precision import full_precision
from ._views import views


class Config(panda.Config):
    """MSC's settings; defaults are those of its ResNet152."""

    epochs: int = sourced(20, "code", "passes over the images", gt=0)
    batch_size: int = sourced(64, "code", "images a step, each of which is seen twice", gt=0)
    lr: float = sourced(1e-5, "code", "learning rate", gt=0)
    momentum: float = sourced(0.0, "code", "of the gradient", ge=0, lt=1)
    clip_norm: float | None = sourced(None, "code", "global gradient-norm clip; null = none", gt=0)
    temperature: float = sourced(0.25, "code", "that similarities are divided by", gt=0)
    angular: bool = sourced(False, "code's option", "also draw features to the centre, which then has length 1")


class Directions(panda.Adapted):
    """The same whose features have length 1."""

    def forward(self, images: Tensor) -> Tensor:
        """Return the last stage's mean over places of images [B, 3, S, S] in [0, 1], of length 1: float [B, C]."""
        return F.normalize(super().forward(images).float(), dim=1)


class MSC(panda.Adaptation[Config]):
    """Pretrained directions, those of an image's views drawn together, and the distance to the nearest of them."""

    name = "msc"
    family = "memory"
    encoders = ("cnn",)
    needs = frozenset({"images", "trunk"})
    paper = replace(panda.PAPER, name="paper:msc")
    network = Directions

    def __init__(self, config: Config) -> None:
        super().__init__(config)
        if config.batch_size == 1 and config.steps != 0:
            raise UsageError(
                "msc cannot train on single images: there would be no other image to draw views apart from. "
                "Expected a batch_size of 2 or more"
            )

    def steps(self, images: int) -> int:
        """Return the iterations of the recipe's epochs, their last batch counted, or those given."""
        return length(self.config, images, drops_last=False)

    def fit(self, module: panda.Adapted, batches: Iterable[Batch]) -> None:
        """Find the centre: the mean of the training images' features before any step, as it is or of length 1."""
        super().fit(module, batches)
        if self.config.angular:
            module.centre.copy_(F.normalize(module.centre, dim=0))

    def loss(self, module: panda.Adapted, batch: Batch, step: int) -> Tensor:
        """Return the contrastive loss of two views of each image; `angular` adds both mean squared distances."""
        images, random = batch.pixels, batch.random
        found = module(torch.cat([views(images, random), views(images, random)]))
        loss = contrast(found, module.centre, self.config.temperature)
        if self.config.angular:
            # the mean over both views is half the sum of the code's two means
            loss = loss + 2 * (found - module.centre).square().sum(dim=1).mean()
        return loss


def contrast(features: Tensor, centre: Tensor, temperature: float) -> Tensor:
    """Return the cross-entropy of finding a view's other one among all views, by cosines as seen from the centre.

    Args:
        features: float [2 B, C], one view of each image, then the other one.
        centre: float [C].
        temperature: that cosines are divided by.
    """
    with full_precision(features):
        shifted = F.normalize(features.float() - centre, dim=1)
        count = len(shifted)
        itself = torch.eye(count, dtype=torch.bool, device=shifted.device)
        likeness = (shifted @ shifted.T / temperature).masked_fill(itself, -torch.inf)
        other = torch.arange(count, device=shifted.device).roll(count // 2)
        return F.cross_entropy(likeness, other)
