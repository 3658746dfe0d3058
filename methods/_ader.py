"""What ADer's recipes share: epochs as iterations, stages compared pair by pair, and its tables' evaluation.

Code: github.com/zhangzjn/ADer, read at commit 902937a. Its evaluation differs from the protocol here where that would
not be a measurement, or is not offered:
- It takes an image's label from the resized mask, so that a defect that vanishes in the resize counts as normal; here
  the dataset's own label holds.
- ViTAD's paper reports the epoch of ten with the best pixel AUROC on the test set; here the last weights count.
- Its pixel F1-max (21 thresholds) and AUPRO (100) are taken over as the variants that they are. Since June 2024 it runs
  ADEval's histograms for pixel AUROC, AP and AUPRO instead; the papers' own tables are older.
- On MVTec LOCO it trains on the validation images too; here they are in neither part, and an epoch is the other 1,778.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping
from typing import Any, cast

import torch
from torch import Tensor, nn

from bench.api import Method, MethodConfig
from bench.protocol import Protocol

from ._losses import FeatureLoss, feature_loss
from ._maps import upsampled_sum
from ._vit import cosine_distance

TRAIN_IMAGES = {
    "mvtec": 3629,
    "visa": 8659,
    "realiad": 36_465,
    "mvtec_loco": 1778,
    "btad": 1799,
    "mpdd": 888,
    "medical": 13_339,
}
"""Normal training images of all classes, by dataset; lengths of training follow from them."""


def iterations(dataset: str, epochs: int, batch_size: int) -> int:
    """Return the iterations of so many epochs, each dropping its last incomplete batch."""
    return TRAIN_IMAGES[dataset] // batch_size * epochs


def lengths(epochs: int, batch_size: int) -> Mapping[str, Mapping[str, Any]]:
    """Return `steps` by dataset, as `Method.overrides` takes them, for every dataset but the default MVTec-AD."""
    return {
        dataset: {"steps": iterations(dataset, epochs, batch_size)} for dataset in TRAIN_IMAGES if dataset != "mvtec"
    }


def protocol(method: str) -> Protocol:
    """Return ADer's evaluation: whole image, 256 x 256, masks resized bilinearly and cut at one half."""
    return Protocol(
        name=f"paper:{method}",
        version=1,
        crop=1.0,
        eval_size=256,
        mask_rule="ader",
        label_rule="dataset",
        metrics=(
            "image/auroc",
            "image/ap",
            "image/f1max",
            "pixel/auroc",
            "pixel/ap",
            "pixel/f1max:grid21",
            "pixel/aupro@0.3:grid100",
        ),
        checkpoint="last",
    )


class Recipe(MethodConfig):
    """Settings that ADer's recipes have in common; each method's file gives their values and sources."""

    loss: FeatureLoss
    lr: float
    decay_at: float
    """Share of the steps before the learning rate drops."""
    decay: float
    """What the learning rate is multiplied by there."""
    clip_norm: float | None


class StageReconstruction(Method):
    """A student gives back stages of a frozen encoder; each stage counts alike in the loss and in the map."""

    def __init__(self, config: MethodConfig) -> None:
        super().__init__(config)
        self.recipe = cast("Recipe", config)
        self.clip_norm = self.recipe.clip_norm

    @abstractmethod
    def pairs(self, module: nn.Module, features: Mapping[str, Tensor]) -> list[tuple[Tensor, Tensor]]:
        """Return target and rebuilt map of each stage, float [B, C, h, w] twice, the shallowest target first."""

    def loss(self, module: nn.Module, features: Mapping[str, Tensor], step: int) -> Tensor:
        """Return the sum over stages of the distance between target and rebuilt map."""
        return torch.stack([feature_loss(self.recipe.loss, *pair) for pair in self.pairs(module, features)]).sum()

    def distances(self, module: nn.Module, features: Mapping[str, Tensor], size: int) -> Tensor:
        """Return float32 [B, size, size]: the sum over stages of the cosine distance at each place."""
        return upsampled_sum((cosine_distance(*pair) for pair in self.pairs(module, features)), size).float()

    def learning_rate(self, step: int) -> float:
        """Return the rate: constant until its drop."""
        recipe = self.recipe
        return recipe.lr * (recipe.decay if step >= round(recipe.steps * recipe.decay_at) else 1.0)
