"""ReContrast: Domain-Specific Anomaly Detection via Contrastive Reconstruction.

Jia Guo, Shuai Lu, Lize Jia, Weihang Zhang, Huiqi Li. NeurIPS 2023. Two networks carry the name. `variant=dinomaly`, the
default, is the multi-class baseline of Dinomaly's tables: the copy in github.com/guojiajeremy/Dinomaly, read at commit
c5c76d0. `variant=original` is github.com/guojiajeremy/ReContrast, read at commit 381ef13, with its multi-class script.

Two copies of a CNN see the image, one frozen and one trained. A mirrored CNN behind a bottleneck gives back the frozen
one's stages from those of the trained one, and the trained one's from those of the frozen one. Where either fails, the
image is anomalous. The trained copy learns as a source alone: no gradient passes through what is to be given back.

Differences from the official codes:
- The bottleneck carries a 1x1 convolution and a BatchNorm there that never run, 8,392,704 parameters that do not exist
  here.
- Each half of the batch goes through its own set of the decoder's output convolutions; the codes send both through
  both, 1.6 GMAC of 64.1 whose results they drop.
- Places whose gradient the codes multiply by 0 in a hook are detached. Same numbers.
- Maps are resized straight to the evaluation size; the codes' is the input size, 256 at both.
- The decoder's output convolutions start as its other convolutions do; how the codes start them is not known to us.
- The variants differ in decoder and optimizer. What the copy changes by dataset, AdamW for VisA and a longer training
  for Real-IAD, is set for that dataset whichever the variant.
- Of the authors' recipe for a model a class, 2,000 steps (VisA: 3,000) under AdamW with their decoder are set. Not
  theirs there: they choose by hand for which classes of MVTec-AD the trained copy's BatchNorms take the batch's
  statistics (`encoder_statistics`; fixed here unless set), and score by the highest pixel of a wider Gaussian.
- The reset of Adam's moments every 500 steps, the paper's remedy for spikes of the loss, is left out, as in its script.
- Any CNN with stages at strides 4, 8 and 16 serves; see `rd4ad`. Pixels are normalised as the encoder was trained.
- Seeding, precision and batching are the harness's.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar, Literal, Self

import torch
import torch.nn.functional as F
from pydantic import model_validator
from torch import Tensor, nn

from bench.api import Batch, EncoderInfo, EncoderRequest, MethodConfig, Prediction, Protocol, Trained, sourced
from bench.errors import UsageError
from bench.protocol import SEVEN

from . import _stages
from ._losses import feature_loss
from ._maps import gaussian_5x5, top_mean, upsampled_sum
from ._stable_adamw import StableAdamW
from ._switches import refuse_idle
from ._vit import cosine_distance
from .rd4ad import Fuser, MapBottleneck

ORIGINAL = {"decoder_blocks": (3, 4, 6), "optimizer": "adamw"}
"""Values of the authors' own code where they differ from the copy's."""

Pair = tuple[Tensor, Tensor]
"""A target and what is given back of it, float [B, C, h, w] twice."""


class Config(MethodConfig):
    """ReContrast's settings; defaults are those of Dinomaly's copy, under `variant` original of the authors' code."""

    variant: Literal["dinomaly", "original"] = sourced(
        "dinomaly", "Dinomaly's copy", "whose decoder and optimizer the other defaults are"
    )
    encoder: str = sourced("wide_resnet50_2.tv_in1k", "both codes", "CNN of both copies, by timm name")
    input_size: int | None = sourced(256, "both codes", "input side in pixels; null = 256", gt=0)
    stages: tuple[int, int, int] | None = sourced(
        None, "both codes: layer1 to layer3 of ResNet", "CNN stages, from 0; null = those at strides 4, 8 and 16"
    )
    encoder_statistics: Literal["fixed", "batch"] = sourced(
        "fixed", "both codes, multi-class", "what the trained copy's BatchNorms normalise by in training"
    )
    fuser_width: int = sourced(128, "both codes", "base width of the bottleneck's blocks", gt=0)
    decoder_blocks: tuple[int, int, int] = sourced(
        (6, 4, 3), "Dinomaly's copy; original: 3, 4, 6", "blocks of the decoder's stages, the deepest first"
    )
    hardness: float = sourced(
        1.0, "both codes", "standard deviations above the mean distance below which places have no gradient"
    )
    hardness_start: float = sourced(-3.0, "both codes", "the same at the first step")
    hardness_steps: int | None = sourced(
        None, "both codes: a tenth of the steps", "steps from `hardness_start` to `hardness`; null = a tenth", gt=0
    )
    steps: int = sourced(5_000, "both codes, multi-class", "training iterations", ge=0)
    batch_size: int = sourced(16, "both codes", "images a step", gt=0)
    optimizer: Literal["stable_adamw", "adamw"] = sourced(
        "stable_adamw", "Dinomaly's copy on MVTec-AD; original: adamw", "which optimizer"
    )
    lr: float = sourced(2e-3, "both codes", "learning rate of bottleneck and decoder", gt=0)
    encoder_lr: float = sourced(5e-3, "both codes: 1e-5 of 2e-3", "the trained copy's rate over `lr`", gt=0)
    decay_at: float = sourced(0.8, "both codes", "share of the steps before the rate drops", gt=0, le=1)
    decay: float = sourced(0.2, "both codes", "what the learning rate is multiplied by there", gt=0, le=1)
    betas: tuple[float, float] = sourced((0.9, 0.999), "both codes", "decay of Adam's moments")
    eps: float = sourced(1e-10, "both codes", "added to Adam's denominator", gt=0)
    weight_decay: float = sourced(1e-5, "both codes", "decoupled weight decay, on all tensors", ge=0)
    amsgrad: bool = sourced(True, "both codes", "divide by the largest second moment so far")
    smoothing_sigma: float = sourced(4.0, "both codes", "sigma in pixels of the map's 5x5 Gaussian", gt=0)
    score_share: float = sourced(0.01, "both codes, multi-class", "share of highest pixels in the score", gt=0, le=1)

    @model_validator(mode="before")
    @classmethod
    def _complete(cls, values: Any) -> Any:
        """Let the variant's own values stand where they are not given themselves."""
        original = isinstance(values, dict) and values.get("variant") == "original"
        return {**ORIGINAL, **values} if original else values


class SmoothBottleneck(MapBottleneck):
    """RD4AD's bottleneck with a GELU for every ReLU. Maps [B, entering, h, w] to [B, leaving, h', w']."""

    def __init__(self, entering: int, inner: int, leaving: int, resize: Literal["up"] | None = None) -> None:
        super().__init__(entering, inner, leaving, resize, rectified=False)
        self.body = nn.Sequential(*(nn.GELU() if isinstance(layer, nn.ReLU) else layer for layer in self.body))

    def forward(self, x: Tensor) -> Tensor:
        """Return [B, leaving, h', w']."""
        return F.gelu(super().forward(x))


class CrossDecoder(nn.Module):
    """Mirrored CNN with two 1x1 convolutions behind each stage: for the first and for the second half of a batch.

    Args:
        channels: widths of the stages that are given back, the shallowest first.
        blocks: how many blocks its own stages have, the deepest first.
    """

    def __init__(self, channels: Sequence[int], blocks: Sequence[int]) -> None:
        super().__init__()
        self.stages, self.first, self.second = nn.ModuleList(), nn.ModuleList(), nn.ModuleList()
        entering = 2 * channels[-1]
        for leaving, count in zip(reversed(channels), blocks, strict=True):
            inner = max(leaving // 2, 1)
            rest = (SmoothBottleneck(leaving, inner, leaving) for _ in range(count - 1))
            self.stages.append(nn.Sequential(SmoothBottleneck(entering, inner, leaving, "up"), *rest))
            self.first.append(nn.Conv2d(leaving, leaving, 1))
            self.second.append(nn.Conv2d(leaving, leaving, 1))
            entering = leaving

    def forward(self, x: Tensor) -> tuple[list[Tensor], list[Tensor]]:
        """Return the stages given back of either half of [2B, 2C, h, w]: float [B, ., ., .], the shallowest first."""
        first: list[Tensor] = []
        second: list[Tensor] = []
        for stage, one, other in zip(self.stages, self.first, self.second, strict=True):
            x = stage(x)
            upper, lower = x.chunk(2)
            first.append(one(upper))
            second.append(other(lower))
        return first[::-1], second[::-1]


class ReContrastNet(nn.Module):
    """Trainable part: a copy of the encoder, the bottleneck and the decoder.

    Args:
        trunk: images [B, 3, S, S] in [0, 1] to {stage: [B, C, h, w]}, with gradient.
        channels: widths of its stages, the shallowest first.
        config: the method's settings.
    """

    def __init__(self, trunk: nn.Module, channels: Sequence[int], config: Config) -> None:
        super().__init__()
        self.fixed = config.encoder_statistics == "fixed"
        self.trunk = trunk
        self.bottleneck = Fuser(channels, config.fuser_width)
        self.decoder = CrossDecoder(channels, config.decoder_blocks)
        for layer in (*self.bottleneck.modules(), *self.decoder.modules()):
            # transposed convolutions keep torch's own initial values, as RD4AD's do
            if isinstance(layer, nn.Conv2d):
                nn.init.kaiming_normal_(layer.weight, mode="fan_out", nonlinearity="relu")
        self.train()

    def train(self, mode: bool = True) -> Self:
        """Set the mode; the trained copy's BatchNorms keep their statistics where these are fixed."""
        super().train(mode)
        self.trunk.train(mode and not self.fixed)
        return self

    def forward(self, images: Tensor, frozen: Sequence[Tensor]) -> list[Pair]:
        """Return pairs of target, without gradient, and what is given back.

        Args:
            images: float [B, 3, S, S] in [0, 1].
            frozen: the frozen encoder's stages of them, float [B, C, h, w], the shallowest first.

        Returns:
            The frozen stages, the shallowest first, as given back from the trained ones; then the other way round.
        """
        trained = _stages.listed(_stages.named(self.trunk(images)))
        both = [torch.cat([mine, given]) for mine, given in zip(trained, frozen, strict=True)]
        of_frozen, of_trained = self.decoder(self.bottleneck(both))
        targets = [stage.detach() for stage in (*frozen, *trained)]
        return list(zip(targets, (*of_frozen, *of_trained), strict=True))


def hard_mined(target: Tensor, rebuilt: Tensor, hardness: float) -> Tensor:
    """Return the rebuilt map with gradient at hard places alone, its values unchanged: float [B, C, h, w].

    Args:
        target: float [B, C, h, w].
        rebuilt: float [B, C, h, w].
        hardness: places whose cosine distance is lower than the batch's mean plus so many standard deviations are easy.
    """
    distance = cosine_distance(target, rebuilt.detach())
    easy = distance < distance.mean() + hardness * distance.std()
    return torch.where(easy.unsqueeze(1), rebuilt.detach(), rebuilt)


class ReContrast(Trained[Config, ReContrastNet]):
    """Contrastive reconstruction: a frozen and a trained copy of a CNN, each given back from the other's stages."""

    name = "recontrast"
    family = "distillation"
    encoders = ("cnn",)
    needs = frozenset({"features", "images", "trunk"})
    paper = Protocol("paper:recontrast", mask_rule="dinomaly", metrics=(*SEVEN[:-1], "pixel/aupro@0.3:grid200"))
    overrides: ClassVar[Mapping[str, Mapping[str, Any]]] = {
        "visa": {"optimizer": "adamw"},
        "realiad": {"steps": 30_000, "hardness_steps": 1_000},
        "single": {**ORIGINAL, "steps": 2_000},
        "visa/single": {"steps": 3_000},
    }

    def __init__(self, config: Config) -> None:
        super().__init__(config)
        if config.hardness < config.hardness_start:
            raise UsageError(
                f"recontrast.hardness {config.hardness} is below recontrast.hardness_start {config.hardness_start}. "
                "Expected a threshold that rises, or both alike"
            )
        if min(config.decoder_blocks) < 1:
            raise UsageError(f"recontrast.decoder_blocks {config.decoder_blocks}: expected 1 or more of each stage")
        if config.hardness == config.hardness_start:
            refuse_idle(self, ("hardness_steps",), "hardness_start the same as hardness")
        if config.decay_at == 1:
            refuse_idle(self, ("decay",), "decay_at 1")

    def encoder(self) -> EncoderRequest:
        """Return the request: three stages, each of half the side of the one before; the fused map halves once more."""
        return _stages.request(self, self.config.stages, coarser=2)

    def features(self, blocks: Mapping[int, Tensor], info: EncoderInfo) -> dict[str, Tensor]:
        """Return the stages as they are: stage0 to stage2, float [B, C, h, w], shallowest first."""
        return _stages.named(blocks)

    def build(self, info: EncoderInfo, trunk: nn.Module) -> ReContrastNet:  # type: ignore[override]
        """Return the trunk as it is, and bottleneck and decoder freshly initialised."""
        return ReContrastNet(trunk, info.channels, self.config)

    def hardness(self, step: int) -> float:
        """Return the threshold at a step, in standard deviations above the mean: linear, then constant."""
        config = self.config
        rise = config.hardness_steps or config.steps / 10
        return min(
            config.hardness_start + (config.hardness - config.hardness_start) * step / max(rise, 1e-9), config.hardness
        )

    def loss(self, module: ReContrastNet, batch: Batch, step: int) -> Tensor:
        """Return half the sum over the six pairs of 1 - cosine between an image's whole maps, at hard places."""
        hardness = self.hardness(step)
        pairs = module(batch.pixels, _stages.listed(batch))
        apart = [feature_loss("cosine_flat", target, hard_mined(target, one, hardness)) for target, one in pairs]
        return torch.stack(apart).sum() / 2

    def anomaly(self, module: ReContrastNet, batch: Batch, info: EncoderInfo, size: int) -> Prediction:
        """Return smoothed maps of the six pairs' mean cosine distance, and the mean of each one's highest pixels."""
        pairs = module(batch.pixels, _stages.listed(batch))
        mean = upsampled_sum((cosine_distance(*pair) for pair in pairs), size) / len(pairs)
        maps = gaussian_5x5(mean.unsqueeze(1), self.config.smoothing_sigma).squeeze(1).float()
        return Prediction(scores=top_mean(maps, self.config.score_share), maps=maps)

    def optimizer(self, module: ReContrastNet) -> torch.optim.Optimizer:
        """Return the optimizer over all trainable tensors, the trained copy at a rate of its own."""
        config = self.config
        groups = [
            {"params": [*module.bottleneck.parameters(), *module.decoder.parameters()], "lr_scale": 1.0},
            {"params": list(module.trunk.parameters()), "lr_scale": config.encoder_lr},
        ]
        shared = {key: getattr(config, key) for key in ("lr", "betas", "eps", "weight_decay", "amsgrad")}
        if config.optimizer == "stable_adamw":
            return StableAdamW(groups, **shared)
        return torch.optim.AdamW(groups, **shared, fused=True)

    def learning_rate(self, step: int) -> float:
        """Return the rate: constant until its drop."""
        config = self.config
        return config.lr * (config.decay if step >= round(config.steps * config.decay_at) else 1.0)
