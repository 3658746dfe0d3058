"""DRAEM: A discriminatively trained reconstruction embedding for surface anomaly detection.

Vitjan Zavrtanik, Matej Kristan, Danijel Skocaj. ICCV 2021, arXiv 2108.07610. Official code:
github.com/VitjanZ/DRAEM, read at commit 2dbf673; "code" below means it.

Perlin-shaped blots of other textures are painted into normal images. One network learns to give back the image without
them, another to mark them, from the painted image beside what the first made of it. What that one marks is anomalous.
There is no frozen encoder, and images are what they are in [0, 1]: ImageNet's statistics ruin the method.

Of the multi-class numbers in print, those of ADer's benchmark (image AUROC 54.5 on MVTec-AD, 55.1 on VisA; table 22 of
dual student cites them) are of a run without any painted anomaly: its configuration names the plain dataset, so that
all masks were empty, and normalises pixels. This file will not give them, nor should it (`painted=0` comes near). The
row to compare with is that of ViTAD's tables 5 to 7: 88.8 on MVTec-AD, 79.5 on VisA. Its settings are not published.

Differences from the official code:
- One model for all classes, over as many epochs as ViTAD states for its re-run, 300; the code trains one a class for
  700. Epochs are counted as iterations of whole batches, and go through all images; the code draws with replacement.
- Textures are DTD's where it is at hand, antialiased; else generated ones, of which the record says so. No published
  number belongs to these. How they are changed: see `_corruption.py`.
- Channels are RGB, the code's are BGR; images are resized with antialiasing, the code's OpenCV does without.
- `--protocol paper` is ADer's, by which ViTAD's tables are; the code labels images by their folder, and of resized
  masks counts pixels alone that are fully white.
- Maps are resized to the evaluation size where the input is of another.
- The authors' released checkpoints, one a class, are not read.
- Seeding, precision and batching are the harness's.
"""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import torch
import torch.nn.functional as F
from pydantic import model_validator
from torch import Tensor, nn

from bench.api import Batch, EncoderInfo, MethodConfig, Prediction, Trained, sourced
from bench.errors import UsageError

from . import _ader
from ._corruption import AUGMENTERS, corrupted, turned
from ._epochs import length, refuse_two_lengths
from ._losses import dissimilarity, focal
from ._maps import resized
from ._precision import full_precision, widened
from ._switches import refuse_idle

STRIDE = 32
"""Of the discriminative network's deepest level."""


class Config(MethodConfig):
    """DRAEM's settings; defaults are those of its code, but for the length of training."""

    input_size: int = sourced(256, "code", "input side in pixels", gt=0, multiple_of=STRIDE)
    width: int = sourced(128, "code", "base width of the reconstructive network", gt=0)
    mark_width: int = sourced(64, "code", "base width of the discriminative network", gt=0)
    rotated: float = sourced(0.3, "code", "probability that an image is first turned by up to 90 degrees", ge=0, le=1)
    painted: float = sourced(0.5, "code", "probability that an image is painted on", ge=0, le=1)
    shown: float = sourced(0.8, "code", "how much of the image may show through paint, at most", ge=0, le=1)
    threshold: float = sourced(0.5, "code", "Perlin noise above it is painted", gt=-1, lt=1)
    augmenters: int = sourced(3, "code", "augmenters a texture goes through", ge=0, le=len(AUGMENTERS))
    ssim_weight: float = sourced(1.0, "code", "weight of the structural similarity loss", ge=0)
    focal_weight: float = sourced(1.0, "code", "weight of the focal loss", gt=0)
    focus: int = sourced(2, "code", "exponent of the focal loss", ge=0)
    epochs: int = sourced(300, "ViTAD's table 13; code: 700 a class", "passes over the images", gt=0)
    steps: int | None = sourced(None, "code: in epochs", "training iterations; null = those of the epochs", ge=0)
    batch_size: int = sourced(8, "code", "images a step", gt=0)
    lr: float = sourced(1e-4, "code", "learning rate", gt=0)
    decay_at: tuple[float, ...] = sourced((0.8, 0.9), "code; ADer: 0.8 alone", "shares of the steps before rates drop")
    decay: float = sourced(0.2, "code; ADer: 0.1", "what the learning rate is multiplied by there", gt=0, le=1)
    clip_norm: float | None = sourced(None, "code: none; ADer: 5", "global gradient-norm clip; null = none", gt=0)
    score_pool: int = sourced(21, "code", "odd side of the square over which the map is averaged for the score", gt=0)

    @model_validator(mode="before")
    @classmethod
    def _one_length(cls, values: Any) -> Any:
        if isinstance(values, dict):
            refuse_two_lengths(values)
        return values


def _layers(*widths: int) -> list[nn.Module]:
    """Return 3x3 convolutions between these widths, each with BatchNorm and ReLU."""
    made: list[nn.Module] = []
    for entering, leaving in pairwise(widths):
        made += [nn.Conv2d(entering, leaving, 3, padding=1), nn.BatchNorm2d(leaving), nn.ReLU()]
    return made


def _doubled(*widths: int) -> nn.Sequential:
    """Return the same after a resize to twice the side."""
    return nn.Sequential(nn.Upsample(scale_factor=2, mode="bilinear", align_corners=True), *_layers(*widths))


class Reconstructive(nn.Module):
    """Images [B, 3, S, S] to the same without what was painted, through a sixteenth of the side and no way around."""

    def __init__(self, width: int) -> None:
        super().__init__()
        one, two, four, eight = (width * factor for factor in (1, 2, 4, 8))
        down = _layers(3, one, one)
        for widths in pairwise((one, two, four, eight, eight)):
            down += [nn.MaxPool2d(2), *_layers(*widths, widths[1])]
        # the width changes in the last of three convolutions
        up = [
            _doubled(entering, entering, entering, leaving)
            for entering, leaving in pairwise((eight, four, two, one, one))
        ]
        self.layers = nn.Sequential(*down, *up, nn.Conv2d(one, 3, 3, padding=1))

    def forward(self, images: Tensor) -> Tensor:
        """Return them, unbounded."""
        return self.layers(images)


class Discriminative(nn.Module):
    """What was made of an image beside the image, [B, 6, S, S], to logits of normal and anomalous, [B, 2, S, S]."""

    def __init__(self, width: int) -> None:
        super().__init__()
        down = [width * factor for factor in (1, 2, 4, 8, 8, 8)]
        up = [width * factor for factor in (8, 4, 2, 1, 1)]
        self.down = nn.ModuleList(
            nn.Sequential(*_layers(entering, leaving, leaving)) for entering, leaving in pairwise([6, *down])
        )
        self.up = nn.ModuleList(_doubled(entering, leaving) for entering, leaving in pairwise([down[-1], *up]))
        self.joined = nn.ModuleList(
            nn.Sequential(*_layers(leaving + skip, leaving, leaving))
            for leaving, skip in zip(up, reversed(down[:-1]), strict=True)
        )
        self.last = nn.Conv2d(width, 2, 3, padding=1)

    def forward(self, pairs: Tensor) -> Tensor:
        """Return the logits."""
        found: list[Tensor] = []
        for level in self.down:
            found.append(level(F.max_pool2d(found[-1], 2) if found else pairs))
        x = found.pop()
        for up, joined in zip(self.up, self.joined, strict=True):
            x = joined(torch.cat([up(x), found.pop()], dim=1))
        return self.last(x)


class Networks(nn.Module):
    """Trainable part: both networks, one after the other."""

    def __init__(self, width: int, mark_width: int) -> None:
        super().__init__()
        self.clean, self.mark = Reconstructive(width), Discriminative(mark_width)
        for layer in self.modules():
            # biases of convolutions keep torch's own initial values, as in the code
            if isinstance(layer, nn.Conv2d):
                nn.init.normal_(layer.weight, std=0.02)
            elif isinstance(layer, nn.BatchNorm2d):
                nn.init.normal_(layer.weight, mean=1.0, std=0.02)

    def forward(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """Return what images [B, 3, S, S] would be without defects, and logits of normal and defect, [B, 2, S, S]."""
        clean = self.clean(images)
        return clean, self.mark(torch.cat([clean, images], dim=1))


class DRAEM(Trained[Config, Networks]):
    """Painted defects: one network removes them, another marks them by the difference."""

    name = "draem"
    family = "discrimination"
    encoders = ()
    needs = frozenset({"images", "textures"})
    paper = _ader.protocol("draem")

    def __init__(self, config: Config) -> None:
        super().__init__(config)
        self.clip_norm = config.clip_norm
        pool, side = config.score_pool, config.input_size
        if pool % 2 == 0 or pool > side:
            raise UsageError(f"draem.score_pool is {pool}. Expected an odd number up to draem.input_size, {side}")
        if list(config.decay_at) != sorted(set(config.decay_at)) or not all(0 < at <= 1 for at in config.decay_at):
            raise UsageError(f"draem.decay_at is {list(config.decay_at)}. Expected ascending shares above 0, up to 1")
        if side == STRIDE and config.batch_size == 1:
            raise UsageError(
                f"draem: single images of {side} pixels leave BatchNorm one value a channel. "
                "Expected a batch_size of 2 or a larger input_size"
            )
        if not config.painted:
            refuse_idle(self, ("shown", "threshold", "augmenters"), "painted 0")
        if not config.decay_at:
            refuse_idle(self, ("decay",), "decay_at []")

    def steps(self, images: int) -> int:
        """Return the iterations of the recipe's epochs, or those given."""
        return length(self.config, images)

    def build(self, info: EncoderInfo) -> Networks:
        """Return both networks, freshly initialised."""
        return Networks(self.config.width, self.config.mark_width)

    def painted(self, batch: Batch) -> tuple[Tensor, Tensor, Tensor]:
        """Return clean images, some of them turned, the same with painted defects, and where these are (0 and 1).

        Float [B, 3, S, S] twice and [B, 1, S, S], all of it drawn from the step's generator.
        """
        config, images, random = self.config, batch.pixels, batch.random
        with full_precision(images):
            draws = torch.rand(2, len(images), generator=random, device=images.device)
            clean = torch.where(
                (draws[0] < config.rotated)[:, None, None, None], turned(images, 180 * draws[1] - 90), images
            )
        how = (config.painted, (0.0, config.shown), config.threshold, config.augmenters)
        return clean, *corrupted(clean, batch.textures(len(images)), random, *how)

    def loss(self, module: Networks, batch: Batch, step: int) -> Tensor:
        """Return how far the images are from clean ones, by value and by structure, and how wrongly they are marked."""
        config = self.config
        clean, spoilt, mask = self.painted(batch)
        rebuilt, logits = (widened(one) for one in module(spoilt))
        structure = config.ssim_weight * dissimilarity(rebuilt, clean)
        return (
            F.mse_loss(rebuilt, clean) + structure + config.focal_weight * focal(logits.softmax(1), mask, config.focus)
        )

    def anomaly(self, module: Networks, batch: Batch, info: EncoderInfo, size: int) -> Prediction:
        """Return the probability of a defect at each pixel, and its highest mean over a square."""
        pool = self.config.score_pool
        _, logits = module(batch.pixels)
        marks = widened(logits).softmax(dim=1)[:, 1]
        # zeros beyond the border count
        means = F.avg_pool2d(marks.unsqueeze(1), pool, stride=1, padding=pool // 2)
        return Prediction(scores=means.amax(dim=(1, 2, 3)), maps=resized(marks, size))

    def optimizer(self, module: Networks) -> torch.optim.Optimizer:
        """Return Adam over both networks, without weight decay."""
        return torch.optim.Adam(module.parameters(), lr=self.config.lr, fused=True)

    def learning_rate(self, step: int) -> float:
        """Return the rate, which drops at shares of the steps."""
        config = self.config
        assert config.steps is not None, "a schedule is asked of Method.settled"
        return config.lr * config.decay ** sum(step >= round(config.steps * at) for at in config.decay_at)
