"""PANDA: Adapting Pretrained Features for Anomaly Detection and Segmentation.

Tal Reiss, Niv Cohen, Liron Bergman, Yedid Hoshen. CVPR 2021, arXiv 2010.05903. Facts of its code
(github.com/talreiss/PANDA at commit 6b5aac9, of a licence that is not free) are from a description of it; none of it
was read for this file.

The upper half of a pretrained CNN is trained a little further, so that its pooled features of normal images lie closer
to where they were on average. An image is as anomalous as it is far from its two nearest training images by then.
Without training (`steps=0`) this is DN2 (Bergman, Cohen, Hoshen 2020).

Differences from the official code:
- The variant of it that ends training early is this one: a fixed number of epochs. The other, which holds weights back
  by a diagonal of Fisher information that its authors hand out, is not here.
- Images are resized to a square of 256 pixels before the crop (`--protocol paper`); the code resizes the shorter side.
- Which half is trained: of a ResNet its last two layers, as in the code; of any other CNN its last two parts that have
  parameters, as timm divides it.
- An epoch goes through whole batches. One model is for all classes, where the code's is for one.
- Seeding, precision and batching are the harness's.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any, ClassVar, Self, TypeVar

import torch
from pydantic import model_validator
from torch import Tensor, nn

from bench.api import Batch, EncoderInfo, EncoderRequest, MethodConfig, Prediction, Protocol, Trained, sourced
from bench.encoders import catalog
from bench.errors import UsageError

from ._epochs import length, refuse_two_lengths
from ._memory import Bank, Rows, images_in

PAPER = Protocol("paper:panda", crop=224 / 256, metrics=("image/auroc", "image/ap", "image/f1max"))
STAND_IN = 16
"""Rows of the bank before there is one."""


class Config(MethodConfig):
    """PANDA's settings; defaults are those of its early-stopping variant."""

    encoder: str = sourced("resnet152.tv_in1k", "code", "CNN that is trained further, by timm name")
    input_size: int | None = sourced(224, "code", "input side in pixels; null = 224", gt=0)
    trained_parts: int = sourced(2, "code: layer3 and layer4", "parts of the CNN that are trained, the last ones", gt=0)
    epochs: int = sourced(15, "code, early stopping", "passes over the images", gt=0)
    steps: int | None = sourced(None, "code: in epochs", "training iterations; null = those of the epochs", ge=0)
    batch_size: int = sourced(32, "code", "images a step", gt=0)
    lr: float = sourced(1e-2, "code", "learning rate", gt=0)
    momentum: float = sourced(0.9, "code", "of the gradient", ge=0, lt=1)
    weight_decay: float = sourced(5e-5, "code", "added to the gradient", ge=0)
    clip_norm: float | None = sourced(1e-3, "code", "global gradient-norm clip; null = none", gt=0)
    neighbours: int = sourced(2, "code", "training images that an image is held against", gt=0)

    @model_validator(mode="before")
    @classmethod
    def _one_length(cls, values: Any) -> Any:
        if isinstance(values, dict):
            refuse_two_lengths(values)
        return values


class Adapted(nn.Module):
    """Trainable part: the CNN's copy, the centre of its features before training, and those after it.

    Args:
        trunk: images [B, 3, S, S] in [0, 1] to {stage: [B, C, h, w]}, with gradient.
        dim: channels of its last stage.
        trained_parts: of the copy, from its end.

    Attributes:
        centre: float32 [C].
    """

    centre: Tensor

    def __init__(self, trunk: nn.Module, dim: int, trained_parts: int) -> None:
        super().__init__()
        self.trunk = trunk
        self.bank = Bank(STAND_IN, dim)
        self.register_buffer("centre", torch.zeros(dim))
        parts = parts_of(trunk)
        for part in parts[:-trained_parts]:
            part.requires_grad_(False)
        self.train()

    def train(self, mode: bool = True) -> Self:
        """Set the mode; the copy's BatchNorms keep their statistics, as in the code."""
        super().train(mode)
        self.trunk.eval()
        return self

    def forward(self, images: Tensor) -> Tensor:
        """Return the last stage's mean over places of images [B, 3, S, S] in [0, 1]: float [B, C]."""
        (stage,) = self.trunk(images).values()
        return stage.mean(dim=(2, 3))


def parts_of(trunk: nn.Module) -> list[nn.Module]:
    """Return the parts of a CNN's copy that have parameters, in the order in which they run."""
    parts: list[nn.Module] = []
    for name, part in getattr(trunk, "backbone", trunk).named_children():
        # timm has the stages of EfficientNet and its like, and of ConvNeXt, in one list
        parts += part.children() if name in ("blocks", "stages") else [part]
    return [part for part in parts if next(part.parameters(), None) is not None]


ConfigT = TypeVar("ConfigT", bound=Config, covariant=True)


class Adaptation(Trained[ConfigT, Adapted]):
    """What PANDA and MSC share: all but the loss and what a feature's length is."""

    network: ClassVar[type[Adapted]] = Adapted

    def __init__(self, config: ConfigT) -> None:
        super().__init__(config)
        self.clip_norm = config.clip_norm

    def steps(self, images: int) -> int:
        """Return the iterations of the recipe's epochs, or those given."""
        return length(self.config, images)

    def encoder(self) -> EncoderRequest:
        """Return the request: the last stage of a CNN."""
        config = self.config
        if catalog.describe(config.encoder).family != "cnn":
            raise UsageError(
                f"{self.name} needs a CNN, encoder '{config.encoder}' is a ViT. Try resnet152.tv_in1k, "
                "resnet18.tv_in1k or mobilenetv2_100; for ViTs there is knn"
            )
        strides = catalog.strides(config.encoder)
        size = config.input_size or 224
        if size % strides[-1]:
            lower = max(size // strides[-1], 1) * strides[-1]
            raise UsageError(
                f"input size {size} does not fit {self.name} on encoder '{config.encoder}': its last stage has stride "
                f"{strides[-1]}, so it must be a multiple of that, for example {lower} or {lower + strides[-1]}"
            )
        return EncoderRequest(name=config.encoder, blocks=(len(strides) - 1,), input_size=size)

    def build(self, info: EncoderInfo, trunk: nn.Module) -> Adapted:  # type: ignore[override]
        """Return the copy as it is, with nothing known yet."""
        if self.config.trained_parts > len(parts_of(trunk)):
            raise UsageError(
                f"{self.name}.trained_parts is {self.config.trained_parts}, encoder '{self.config.encoder}' has "
                f"{len(parts_of(trunk))} parts. Expected no more"
            )
        return self.network(trunk, info.channels[-1], self.config.trained_parts)

    def fit(self, module: Adapted, batches: Iterable[Batch]) -> None:
        """Find the centre: the mean of the training images' features before any step."""
        total, count = torch.zeros_like(module.centre, dtype=torch.float64), 0
        for features in _features(module, batches):
            total += features.double().sum(dim=0)
            count += len(features)
        module.centre.copy_(total / count)

    def finish(self, module: Adapted, batches: Iterable[Batch]) -> None:
        """Remember the training images' features as they are after the last step."""
        rows = Rows(images_in(batches), module.centre.device)
        for features in _features(module, batches):
            rows.add(features)
        module.bank.bank = rows.all()

    def anomaly(self, module: Adapted, batch: Batch, info: EncoderInfo, size: int) -> Prediction:
        """Return the sum of squared distances to the nearest training images, without maps."""
        distances, _ = module.bank.nearest(module(batch.pixels), self.config.neighbours)
        return Prediction(scores=distances.square().sum(dim=1))

    def optimizer(self, module: Adapted) -> torch.optim.Optimizer:
        """Return SGD with momentum over what is trained."""
        config = self.config
        trained = [param for param in module.parameters() if param.requires_grad]
        return torch.optim.SGD(trained, lr=config.lr, momentum=config.momentum, weight_decay=config.weight_decay)

    def learning_rate(self, step: int) -> float:
        """Return the constant rate."""
        return self.config.lr


class PANDA(Adaptation[Config]):
    """Pretrained features drawn together, and the distance to the nearest of them."""

    name = "panda"
    family = "memory"
    encoders = ("cnn",)
    needs = frozenset({"images", "trunk"})
    paper = PAPER

    def loss(self, module: Adapted, batch: Batch, step: int) -> Tensor:
        """Return the mean squared distance of features to the centre, over images and channels."""
        return (module(batch.pixels) - module.centre).square().mean()


def _features(module: Adapted, batches: Iterable[Batch]) -> Iterator[Tensor]:
    for batch in batches:
        yield module(batch.pixels).float()
