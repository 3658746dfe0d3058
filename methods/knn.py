"""k nearest neighbours on class tokens: how far a frozen encoder alone gets at telling images apart.

Two papers mean two scores by it, both offered [variant, aggregate]:
- `dn2`, a mean: Bergman, Cohen, Hoshen, "Deep Nearest Neighbor Anomaly Detection" (DN2), 2020, arXiv 2002.10445: the
  mean squared distance to the k nearest training images. DN2 has no official code; the same group's PANDA (Reiss et
  al., CVPR 2021, arXiv 2010.05903), github.com/talreiss/PANDA, scores so, with k = 2; "code" below means it.
- `ood`, the k-th: Sun, Ming, Zhu, Li, "Out-of-Distribution Detection with Deep Nearest Neighbors", ICML 2022, official
  code github.com/deeplearning-wisc/knn-ood, as it was at commit 2afb2bb: the distance of the unit-length feature to the
  k-th nearest one of the training images. Dual student's tables cite this one for their KNN rows, and state neither
  encoder nor k nor input size: those rows cannot be rerun as they were. Taken here are the code's ViT and its k for
  CIFAR-10.

The training images are of all classes together. There is no map: pixel metrics stay empty.

Differences from the papers and the code:
- The class token of a ViT after its final norm, where DN2 pools a ResNet's last maps; Sun et al. take what enters the
  classifier, which of their ViT is that token.
- Tokens are brought to unit length by default in both, so that a squared distance is twice the cosine distance.
- The mean over the neighbours, where the code sums: ranks are the same.
- Every training image is kept, where Sun et al. also keep a random share. A million tokens of ViT-B take 2.9 GiB.

The search is exact. Its products are not in the network's MACs, as they grow with the training set.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, Literal

import torch
import torch.nn.functional as F
from pydantic import model_validator
from torch import Tensor

from bench.api import Batch, EncoderInfo, EncoderRequest, Memory, MemoryConfig, Prediction, Protocol, sourced

from . import _class_token
from ._memory import Bank

PATCHES = 28
"""Feature map side where no input size is given: Dinomaly's, so that both look through the same encoder."""


OOD: Mapping[str, Any] = {
    "encoder": "vit_base_patch16_384.orig_in21k_ft_in1k",
    "input_size": 384,
    "neighbours": 50,
    "aggregate": "kth",
}
"""What Sun et al.'s code has for its ViT, and for CIFAR-10."""


class Config(MemoryConfig):
    """Settings of k-NN on class tokens; defaults are DN2's with Dinomaly's encoder, of `variant` ood Sun et al.'s."""

    variant: Literal["dn2", "ood"] = sourced(
        "dn2", "DN2, as PANDA's code scores it; ood: Sun et al.", "whose score and encoder the other defaults are"
    )
    encoder: str = sourced(
        "vit_base_patch14_reg4_dinov2.lvd142m",
        "ours: Dinomaly's; ood: its code's ViT-B/16 at 384",
        "frozen ViT with class token, by timm name",
    )
    input_size: int | None = sourced(
        None, "ours: Dinomaly's; ood: 384", "input side in pixels; null = 28 patches", gt=0
    )
    neighbours: int = sourced(
        2,
        "code; ood: its code's for CIFAR-10 (k depends on the data set)",
        "k: training images that a score is made of, or the k-th of them",
        gt=0,
    )
    aggregate: Literal["mean", "kth"] = sourced(
        "mean", "code: mean (DN2); kth: Sun et al.", "mean squared distance to the k nearest, or distance to the k-th"
    )
    unit_length: bool = sourced(
        True, "ours: as DINO's k-NN evaluation (arXiv 2104.14294); ood: its code", "scale class tokens to length 1"
    )

    @model_validator(mode="before")
    @classmethod
    def _complete(cls, values: Any) -> Any:
        """Let the variant's values stand where they are not given themselves."""
        if isinstance(values, dict) and values.get("variant") == "ood":
            return {**OOD, **values}
        return values


class KNN(Memory[Config, Bank]):
    """Distance to the nearest class tokens of normal images."""

    name = "knn"
    family = "memory"
    encoders = ("vit",)
    paper = Protocol("paper:knn", crop=224 / 256, metrics=("image/auroc", "image/ap", "image/f1max"))

    def encoder(self) -> EncoderRequest:
        """Return the request: the last block's output after the final norm."""
        config = self.config
        fits = "vit_base_patch14_reg4_dinov2.lvd142m or vit_small_patch16_224.dino"
        native = _class_token.described(self.name, config.encoder, fits)
        return EncoderRequest(
            name=config.encoder,
            blocks=(native.depth,),
            input_size=config.input_size or PATCHES * native.patch,
            # DINOv2's published weights are used with its own rule
            position="dinov2" if "dinov2" in config.encoder else "timm",
        )

    def features(self, blocks: Mapping[int, Tensor], info: EncoderInfo) -> dict[str, Tensor]:
        """Return the class token: `token` float [B, dim]."""
        token = blocks[info.depth][:, 0]
        return {"token": F.normalize(token, dim=1) if self.config.unit_length else token}

    def build(self, info: EncoderInfo) -> Bank:
        """Return the memory, not filled yet."""
        return Bank(self.config.neighbours, info.dim)

    def fit(self, module: Bank, batches: Iterable[Batch]) -> None:
        """Remember the class token of every training image."""
        module.bank = torch.cat([batch["token"].float() for batch in batches])

    def anomaly(self, module: Bank, batch: Batch, info: EncoderInfo, size: int) -> Prediction:
        """Return the mean squared distance to the k nearest training images, or the distance to the k-th; no maps.

        Of fewer training images than k, all of them, or the farthest.
        """
        distances, _ = module.nearest(batch["token"], self.config.neighbours)
        kth = self.config.aggregate == "kth"
        return Prediction(scores=distances[:, -1] if kth else distances.square().mean(dim=1))
