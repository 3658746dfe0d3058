"""DeSTSeg: Segmentation Guided Denoising Student-Teacher for Anomaly Detection.

Xuan Zhang, Shiyu Li, Xi Li, Ping Huang, Jiulong Shan, Ting Chen. CVPR 2023, arXiv 2211.11317. `variant=ader`, the
default, is the multi-class baseline of ADer's benchmark (configuration `destseg` of github.com/zhangzjn/ADer).
`variant=original` is the authors' github.com/apple/ml-destseg, read at commit f6ea31f, made for a model a class.

Perlin-shaped blots of textures are painted into normal images. First a student learns to give of the painted image the
stages that a frozen CNN has of the clean one. Then a network learns to mark the paint by where the two differ.

Differences from the official codes:
- The authors turn the images of some classes at random, by a list of MVTec-AD's classes; ADer does not, nor does this.
- Textures are DTD's where it is at hand, else generated ones, of which the record says so. They are painted as they
  are. Channels are RGB, ADer's are BGR.
- ADer leaves biases and norms of the student out of weight decay; here, as in the authors' code, it acts on all.
- ADer draws images with replacement; here an epoch goes through all of them, in whole batches.
- The codes run the frozen CNN twice on a test image, once for each of its parts; here once. Same numbers.
- Any CNN with stages at strides 4, 8 and 16 serves; the student's encoder is ResNet-18's whichever it is, and its
  decoder gives that one's stages.
- Maps are resized straight to the evaluation size; the codes' is the input size, 256 at both.
- Seeding, precision and batching are the harness's.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import pairwise
from typing import Any, ClassVar, Literal

import torch
import torch.nn.functional as F
from pydantic import model_validator
from torch import Tensor, nn

from bench.api import Batch, EncoderInfo, EncoderRequest, MethodConfig, Prediction, Trained, sourced
from bench.errors import UsageError

from . import _ader, _stages
from ._corruption import corrupted
from ._epochs import length, refuse_two_lengths
from ._maps import resized
from ._precision import widened
from ._switches import refuse_idle
from ._vit import cosine_distance

ORIGINAL = {"steps": 5_000, "clip_norm": None, "image_score": "top"}
"""Values of the authors' own code where they differ from ADer's."""
STAGE_BLOCKS = (2, 2, 2, 2)
"""ResNet-18's, of which each of the decoder's stages has as many."""
DILATIONS = (6, 12, 18)
SMALL = 1e-12
"""Added to lengths that vectors are divided by."""


class Config(MethodConfig):
    """DeSTSeg's settings; defaults are ADer's multi-class recipe, under `variant` original those of the authors."""

    variant: Literal["ader", "original"] = sourced("ader", "ADer's `destseg`", "whose recipe the other defaults are")
    encoder: str = sourced("resnet18.tv_in1k", "both codes", "frozen CNN, by timm name")
    input_size: int | None = sourced(256, "both codes", "input side in pixels; null = 256", gt=0)
    student_width: int = sourced(64, "both codes: ResNet-18", "width of the student's first stage", gt=0)
    mark_width: int = sourced(256, "both codes", "width of the network that marks", gt=0)
    painted: float = sourced(1.0, "both codes", "probability that an image is painted on", gt=0, le=1)
    shown: float = sourced(0.8, "both codes", "how much of the image may show through paint, at most", ge=0, le=1)
    threshold: float = sourced(0.5, "both codes", "Perlin noise above it is painted", gt=-1, lt=1)
    student_share: float = sourced(0.2, "both codes", "share of the steps in which the student learns", gt=0, lt=1)
    epochs: int = sourced(100, "ADer; original: in steps", "passes over the images", gt=0)
    steps: int | None = sourced(None, "ADer: in epochs; original: 5,000", "training iterations; null = epochs", ge=0)
    batch_size: int = sourced(32, "both codes", "images a step", gt=0)
    lr: float = sourced(0.4, "both codes", "learning rate of the student", gt=0)
    residual_lr: float = sourced(0.1, "both codes", "learning rate of the marking network's two blocks", gt=0)
    head_lr: float = sourced(0.01, "both codes", "learning rate of its head", gt=0)
    momentum: float = sourced(0.9, "both codes", "of the gradient", ge=0, lt=1)
    weight_decay: float = sourced(1e-4, "both codes", "added to the gradient, on all tensors", ge=0)
    focus: int = sourced(4, "both codes", "exponent of the focal loss", ge=0)
    clip_norm: float | None = sourced(5.0, "ADer; original: none", "global gradient-norm clip; null = none", gt=0)
    image_score: Literal["max", "top"] = sourced(
        "max", "ADer; original: top", "highest pixel of the resized map, or mean of the map's highest `score_pixels`"
    )
    score_pixels: int = sourced(100, "original", "pixels of the map that `image_score=top` averages", gt=0)

    @model_validator(mode="before")
    @classmethod
    def _complete(cls, values: Any) -> Any:
        """Let the variant's own values stand where they are not given themselves."""
        if not isinstance(values, dict):
            return values
        refuse_two_lengths(values)
        if values.get("variant") != "original":
            return values
        return {**{key: value for key, value in ORIGINAL.items() if key != "steps" or "epochs" not in values}, **values}


class BasicBlock(nn.Module):
    """ResNet's basic block: two 3x3 convolutions with BatchNorm, and a shortcut. Maps [B, entering, h, w]."""

    def __init__(self, entering: int, leaving: int, stride: int = 1) -> None:
        super().__init__()
        self.body = nn.Sequential(
            nn.Conv2d(entering, leaving, 3, stride, 1, bias=False),
            nn.BatchNorm2d(leaving),
            nn.ReLU(),
            nn.Conv2d(leaving, leaving, 3, 1, 1, bias=False),
            nn.BatchNorm2d(leaving),
        )
        other = (nn.Conv2d(entering, leaving, 1, stride, bias=False), nn.BatchNorm2d(leaving))
        self.shortcut = nn.Sequential(*other) if stride > 1 or entering != leaving else nn.Identity()

    def forward(self, x: Tensor) -> Tensor:
        """Return [B, leaving, h / stride, w / stride]."""
        out: Tensor = self.body(x) + self.shortcut(x)
        return out.relu()


def _stage(entering: int, leaving: int, stride: int = 1) -> nn.Sequential:
    return nn.Sequential(BasicBlock(entering, leaving, stride), BasicBlock(leaving, leaving))


def _started(module: nn.Module) -> None:
    """Give convolutions ResNet's initial values; BatchNorms have them already."""
    for layer in module.modules():
        if isinstance(layer, nn.Conv2d):
            nn.init.kaiming_normal_(layer.weight, mode="fan_out", nonlinearity="relu")


class Student(nn.Module):
    """ResNet-18 and a decoder. Maps images [B, 3, S, S] to the frozen CNN's stages, the shallowest first.

    Args:
        channels: widths of these stages, the shallowest first.
        width: of its own first stage.
    """

    def __init__(self, channels: Sequence[int], width: int) -> None:
        super().__init__()
        widths = [width * 2**level for level in range(len(STAGE_BLOCKS))]
        self.stem = nn.Sequential(
            nn.Conv2d(3, width, 7, 2, 3, bias=False), nn.BatchNorm2d(width), nn.ReLU(), nn.MaxPool2d(3, 2, 1)
        )
        self.down = nn.Sequential(
            _stage(width, width), *(_stage(entering, leaving, 2) for entering, leaving in pairwise(widths))
        )
        self.bottom = _stage(widths[-1], widths[-1])
        self.up = nn.ModuleList(
            _stage(entering, leaving) for entering, leaving in pairwise((widths[-1], *reversed(channels)))
        )
        _started(self)
        for block in self.down.modules():
            # each branch begins as nothing, as timm's does; the decoder's do not
            if isinstance(block, BasicBlock):
                nn.init.zeros_(block.body[-1].weight)  # type: ignore[arg-type]

    def forward(self, images: Tensor) -> list[Tensor]:
        """Return [B, C, h, w] of each stage."""
        x = self.bottom(self.down(self.stem(images)))
        found: list[Tensor] = []
        for stage in self.up:
            x = stage(F.interpolate(x, scale_factor=2.0, mode="bilinear", align_corners=False))
            found.append(x)
        return found[::-1]


class Pyramid(nn.Module):
    """What lies around a place, near and far (ASPP): the mean of all, and three convolutions with holes."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.everywhere = nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Conv2d(width, width, 1, bias=False), *_tail(width))
        self.around = nn.ModuleList(
            nn.Sequential(nn.Conv2d(width, width, 3, padding=hole, dilation=hole, bias=False), *_tail(width))
            for hole in DILATIONS
        )
        self.fused = nn.Sequential(
            nn.Conv2d((1 + len(DILATIONS)) * width, width, 3, padding=1, bias=False), *_tail(width)
        )

    def forward(self, x: Tensor) -> Tensor:
        """Return [B, width, h, w], as it came."""
        parts = [self.everywhere(x).expand_as(x), *(layer(x) for layer in self.around)]
        return self.fused(torch.cat(parts, dim=1))


def _tail(width: int) -> list[nn.Module]:
    return [nn.BatchNorm2d(width), nn.ReLU()]


class Marker(nn.Module):
    """Segmentation: where frozen CNN and student differ, to logits [B, 1, h, w] at the shallowest stage's size."""

    def __init__(self, channels: Sequence[int], width: int) -> None:
        super().__init__()
        self.residual = _stage(sum(channels), width)
        _started(self.residual)
        self.head = nn.Sequential(
            Pyramid(width), nn.Conv2d(width, width, 3, padding=1, bias=False), *_tail(width), nn.Conv2d(width, 1, 1)
        )

    def forward(self, frozen: Sequence[Tensor], student: Sequence[Tensor]) -> Tensor:
        """Return logits of a defect."""
        size = frozen[0].shape[-2:]
        products = [-_unit(one) * _unit(other) for one, other in zip(frozen, student, strict=True)]
        joined = [F.interpolate(one, size, mode="bilinear", align_corners=False) for one in products]
        return self.head(self.residual(torch.cat(joined, dim=1)))


def _unit(x: Tensor) -> Tensor:
    return x / (x.norm(dim=1, keepdim=True) + SMALL)


class Networks(nn.Module):
    """Trainable part: student and marker; the student sees images normalised as the frozen CNN's are."""

    mean: Tensor
    std: Tensor

    def __init__(self, info: EncoderInfo, config: Config) -> None:
        super().__init__()
        self.student = Student(info.channels, config.student_width)
        self.marker = Marker(info.channels, config.mark_width)
        for name in ("mean", "std"):
            self.register_buffer(name, torch.tensor(getattr(info, name)).view(3, 1, 1), persistent=False)

    def denoised(self, images: Tensor) -> list[Tensor]:
        """Return what the student makes of images [B, 3, S, S] in [0, 1]: its stages, the shallowest first."""
        return self.student((images - self.mean) / self.std)

    def forward(self, images: Tensor, frozen: Sequence[Tensor]) -> Tensor:
        """Return logits [B, 1, h, w] of images [B, 3, S, S] in [0, 1] and the frozen CNN's stages of them."""
        return self.marker(frozen, self.denoised(images))


def marking_loss(logits: Tensor, mask: Tensor, focus: int) -> Tensor:
    """Return the mean of -(1 - p)^focus log p, p the probability of what a place is, plus that of 1 - p.

    Args:
        logits: float [B, 1, h, w].
        mask: 1 where painted, likewise.
        focus: exponent.
    """
    signed = logits * (2 * mask - 1)
    wrong = torch.sigmoid(-signed)
    return -(wrong**focus * F.logsigmoid(signed)).mean() + wrong.mean()


class DeSTSeg(Trained[Config, Networks]):
    """Denoising student: what it does not clean of painted defects is marked by a second network."""

    name = "destseg"
    family = "discrimination"
    encoders = ("cnn",)
    needs = frozenset({"features", "images", "textures"})
    paper = _ader.protocol("destseg")
    overrides: ClassVar[Mapping[str, Mapping[str, Any]]] = {"single": ORIGINAL}

    def __init__(self, config: Config) -> None:
        super().__init__(config)
        self.clip_norm = config.clip_norm
        if config.batch_size == 1 and config.steps != 0:
            raise UsageError(
                "destseg cannot train on single images: BatchNorm of their means would see one value a channel. "
                "Expected a batch_size of 2 or more"
            )
        if config.image_score == "max":
            refuse_idle(self, ("score_pixels",), "image_score max")

    def steps(self, images: int) -> int:
        """Return the iterations of the recipe's epochs, or those given."""
        return length(self.config, images)

    def encoder(self) -> EncoderRequest:
        """Return the request: three stages, each of half the side of the one before."""
        return _stages.request(self, None, coarser=2)

    def features(self, blocks: Mapping[int, Tensor], info: EncoderInfo) -> dict[str, Tensor]:
        """Return the stages as they are: stage0 to stage2, float [B, C, h, w], shallowest first."""
        return _stages.named(blocks)

    def build(self, info: EncoderInfo) -> Networks:
        """Return student and marker, freshly initialised."""
        return Networks(info, self.config)

    def student_learns(self, step: int) -> bool:
        """Return whether a step is the student's; those after it are the marker's."""
        assert self.config.steps is not None, "phases are asked of Method.settled"
        return step < round(self.config.student_share * self.config.steps)

    def loss(self, module: Networks, batch: Batch, step: int) -> Tensor:
        """Return how far the student is from clean stages, summed over images, or how wrongly paint is marked."""
        config, images = self.config, batch.pixels
        how = (config.painted, (0.0, config.shown), config.threshold, 0)
        spoilt, mask = corrupted(images, batch.textures(len(images)), batch.random, *how)
        first = self.student_learns(step)
        # the one that does not learn is as it will be used
        module.student.train(first)
        module.marker.train(not first)
        if first:
            rebuilt = module.denoised(spoilt)
            pairs = zip(_stages.listed(batch), rebuilt, strict=True)
            return torch.stack([cosine_distance(*pair).mean(dim=(1, 2)).sum() for pair in pairs]).sum()
        with torch.no_grad():
            student = module.denoised(spoilt)
        frozen = _stages.listed(batch.encode(spoilt))
        logits = widened(module.marker(frozen, student))
        small = F.interpolate(mask, logits.shape[-2:], mode="bilinear", align_corners=False)
        return marking_loss(logits, (small >= 0.5).to(logits.dtype), config.focus)

    def anomaly(self, module: Networks, batch: Batch, info: EncoderInfo, size: int) -> Prediction:
        """Return the probability of a defect at each place, and the highest, or the mean of the highest."""
        marks = widened(module(batch.pixels, _stages.listed(batch))).sigmoid().squeeze(1)
        config = self.config
        if config.image_score == "top":
            flat = marks.flatten(1)
            scores = flat.topk(min(config.score_pixels, flat.shape[1]), dim=1).values.mean(dim=1)
        else:
            scores = resized(marks, info.input_size).amax(dim=(1, 2))
        return Prediction(scores=scores, maps=resized(marks, size))

    def optimizer(self, module: Networks) -> torch.optim.Optimizer:
        """Return SGD with momentum over all trainable tensors, each part at a rate of its own."""
        config = self.config
        parts = (
            (module.student, config.lr),
            (module.marker.residual, config.residual_lr),
            (module.marker.head, config.head_lr),
        )
        groups = [{"params": list(part.parameters()), "lr_scale": rate / config.lr} for part, rate in parts]
        return torch.optim.SGD(groups, lr=config.lr, momentum=config.momentum, weight_decay=config.weight_decay)

    def learning_rate(self, step: int) -> float:
        """Return the constant rate."""
        return self.config.lr
