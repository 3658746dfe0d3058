"""Shared parts of ADer's recipes: stages compared pair by pair, and the evaluation of its tables.

Code: github.com/zhangzjn/ADer, read at commit 902937a. Its evaluation differs from the protocol here where that would
not be a measurement, or is not offered:
- It reads one mask file an image; on MVTec LOCO, where defects have several, here their union counts.
- ViTAD's paper reports the epoch of ten with the best pixel AUROC on the test set; here the last weights count.
- Its pixel F1-max (21 thresholds) and AUPRO (100) are taken over as the variants that they are. Since June 2024 it runs
  ADEval's histograms for pixel AUROC, AP and AUPRO instead; the papers' own tables are older.
- On MVTec LOCO it trains on the validation images too; here they are in neither part, and an epoch is the other 1,778.

Epochs are counted as iterations, those of the images that a model trains on: 100 epochs of ViTAD are 45,300 on all of
MVTec-AD and 2,600 on its bottles. The learning rate grows with the batch, as in its configurations.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping
from typing import Any

import torch
from pydantic import model_validator
from torch import Tensor, nn
from typing_extensions import TypeVar

from bench.api import Batch, MethodConfig, Protocol, Trained

from ._epochs import length, refuse_two_lengths
from ._losses import FeatureLoss, feature_loss
from ._maps import upsampled_sum
from ._vit import cosine_distance


def protocol(method: str) -> Protocol:
    """Return ADer's evaluation: whole image, 256 x 256, masks resized bilinearly and cut at one half.

    Its image labels come from those masks, so that an image whose defect vanishes in the resize counts as normal.
    """
    return Protocol(
        f"paper:{method}",
        version=2,
        mask_rule="ader",
        label_rule="mask",
        metrics=(
            "image/auroc",
            "image/ap",
            "image/f1max",
            "pixel/auroc",
            "pixel/ap",
            "pixel/f1max:grid21",
            "pixel/aupro@0.3:grid100",
        ),
    )


class Recipe(MethodConfig):
    """Settings that ADer's recipes have in common; each method's file gives their values and sources."""

    epochs: int
    lr: float
    """Unless given, in proportion to the batch."""
    decay_at: float
    """Share of the steps before the learning rate drops."""
    decay: float
    """What the learning rate is multiplied by there."""
    clip_norm: float | None

    @model_validator(mode="before")
    @classmethod
    def _complete(cls, values: Any) -> Any:
        """Let values that follow from given ones stand where they are not given themselves."""
        if not isinstance(values, dict):
            return values
        refuse_two_lengths(values)
        return {**cls.implied(values), **values}

    @classmethod
    def implied(cls, values: Mapping[str, Any]) -> Mapping[str, Any]:
        """Return what follows from given raw values: the learning rate of another batch size."""
        batch, fields = values.get("batch_size"), cls.model_fields
        if not isinstance(batch, int | float):
            return {}
        return {"lr": fields["lr"].default * batch / fields["batch_size"].default}


class StageRecipe(Recipe):
    """Settings of those that give back stages of a frozen encoder."""

    loss: FeatureLoss


RecipeT = TypeVar("RecipeT", bound=Recipe, covariant=True)
StageRecipeT = TypeVar("StageRecipeT", bound=StageRecipe, covariant=True)
ModuleT = TypeVar("ModuleT", bound=nn.Module)


class EpochTraining(Trained[RecipeT, ModuleT]):
    """A training of so many epochs, with one drop of the learning rate."""

    def __init__(self, config: RecipeT) -> None:
        super().__init__(config)
        self.clip_norm = self.config.clip_norm

    @property
    def drops_last(self) -> bool:
        """Return whether an epoch ends with its last whole batch; else its incomplete one counts as one more."""
        return True

    def steps(self, images: int) -> int:
        """Return the iterations of the recipe's epochs, or those given."""
        return length(self.config, images, self.drops_last)

    def learning_rate(self, step: int) -> float:
        """Return the rate: constant until its drop."""
        config = self.config
        return config.lr * (config.decay if step >= round(self.total * config.decay_at) else 1.0)

    @property
    def total(self) -> int:
        """Return the iterations in all, which are known of a settled method only."""
        assert self.config.steps is not None, "a schedule is asked of Method.settled"
        return self.config.steps


class StageReconstruction(EpochTraining[StageRecipeT, ModuleT]):
    """A student gives back stages of a frozen encoder; each stage counts alike in the loss and in the map."""

    @abstractmethod
    def pairs(self, module: ModuleT, features: Mapping[str, Tensor]) -> list[tuple[Tensor, Tensor]]:
        """Return target and rebuilt map of each stage, float [B, C, h, w] twice, the shallowest target first."""

    def loss(self, module: ModuleT, batch: Batch, step: int) -> Tensor:
        """Return the sum over stages of the distance between target and rebuilt map."""
        return torch.stack([feature_loss(self.config.loss, *pair) for pair in self.pairs(module, batch)]).sum()

    def distances(self, module: ModuleT, features: Mapping[str, Tensor], size: int) -> Tensor:
        """Return float32 [B, size, size]: the sum over stages of the cosine distance at each place."""
        return upsampled_sum((cosine_distance(*pair) for pair in self.pairs(module, features)), size).float()
