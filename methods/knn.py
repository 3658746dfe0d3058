"""k nearest neighbours on class tokens: how far a frozen encoder alone gets at telling images apart.

The idea is Bergman, Cohen, Hoshen, "Deep Nearest Neighbor Anomaly Detection" (DN2), 2020, arXiv 2002.10445. It has no
official code; the same group's PANDA (Reiss et al., CVPR 2021, arXiv 2010.05903), github.com/talreiss/PANDA, scores so;
"code" below means it.

An image's score is the mean squared distance of its class token to the k nearest ones of the training images, of all
classes together. There is no map: pixel metrics stay empty.

Differences from the paper and the code:
- The class token of a ViT after its final norm, where they pool a ResNet's last maps.
- Tokens are brought to unit length by default, so that a squared distance is twice the cosine distance.
- The mean over the neighbours, where the code sums: ranks are the same.
- Every training image is kept. Neither says how to bound that; a million tokens of ViT-B take 2.9 GiB.

The search is exact. Its products are not in the network's MACs, as they grow with the training set.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from bench.api import EncoderInfo, EncoderRequest, MethodConfig, Prediction, sourced
from bench.encoders import catalog
from bench.errors import UsageError
from bench.protocol import Protocol

from ._memory import Memory, MemoryMethod

PATCHES = 28
"""Feature map side where no input size is given: Dinomaly's, so that both look through the same encoder."""


class Config(MethodConfig):
    """Settings of k-NN on class tokens."""

    encoder: str = sourced(
        "vit_base_patch14_reg4_dinov2.lvd142m", "ours: Dinomaly's", "frozen ViT with class token, by timm name"
    )
    input_size: int | None = sourced(None, "ours: Dinomaly's", "input side in pixels; null = 28 patches", gt=0)
    neighbours: int = sourced(2, "code", "training images that a score is averaged over", gt=0)
    unit_length: bool = sourced(
        True, "ours: as DINO's k-NN evaluation (arXiv 2104.14294)", "scale class tokens to length 1"
    )
    steps: int = sourced(0, "nothing is trained", "training iterations", ge=0, le=0)
    batch_size: int = sourced(1, "nothing is trained", "without effect", gt=0)


class KNN(MemoryMethod):
    """Distance to the nearest class tokens of normal images."""

    name = "knn"
    Config = Config
    paper = Protocol(
        name="paper:knn",
        version=1,
        crop=224 / 256,
        eval_size=256,
        mask_rule="area",
        label_rule="dataset",
        metrics=("image/auroc", "image/ap", "image/f1max"),
        checkpoint="last",
    )

    def __init__(self, config: MethodConfig) -> None:
        super().__init__(config)
        self.settings = cast("Config", config)

    def encoder(self) -> EncoderRequest:
        """Return the request: the last block's output after the final norm."""
        settings = self.settings
        native = catalog.describe(settings.encoder)
        if native.family != "vit" or not catalog.has_class_token(settings.encoder):
            kind = "CNN" if native.family == "cnn" else "ViT without one"
            raise UsageError(
                f"knn needs a ViT with a class token, encoder '{settings.encoder}' is a {kind}. "
                "Try vit_base_patch14_reg4_dinov2.lvd142m or vit_small_patch16_224.dino"
            )
        return EncoderRequest(
            name=settings.encoder,
            blocks=(native.depth,),
            input_size=settings.input_size or PATCHES * native.patch,
            # DINOv2's published weights are used with its own rule
            position="dinov2" if "dinov2" in settings.encoder else "timm",
        )

    def features(self, blocks: Mapping[int, Tensor], info: EncoderInfo) -> dict[str, Tensor]:
        """Return the class token: `token` float [B, dim]."""
        token = blocks[info.depth][:, 0]
        return {"token": F.normalize(token, dim=1) if self.settings.unit_length else token}

    def build(self, info: EncoderInfo) -> nn.Module:
        """Return the memory, not filled yet."""
        return Memory(self.settings.neighbours, info.dim)

    def fit(self, module: nn.Module, batches: Iterable[Mapping[str, Tensor]]) -> None:
        """Remember the class token of every training image."""
        cast("Memory", module).bank = torch.cat([batch["token"].float() for batch in batches])

    def anomaly(self, module: nn.Module, features: Mapping[str, Tensor], info: EncoderInfo, size: int) -> Prediction:
        """Return the mean squared distance to the nearest training images; no maps."""
        distances, _ = cast("Memory", module).nearest(features["token"], self.settings.neighbours)
        return Prediction(scores=distances.square().mean(dim=1))
