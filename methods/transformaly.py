"""Transformaly - Two (Feature Spaces) Are Better Than One.

Matan Jacob Cohen, Shai Avidan. CVPR Workshops 2022, arXiv 2112.04185; "code" below means the authors'. Facts of it are
from a description; none of it was read for this file, since its licence names another project's author.

Blocks of a fresh ViT learn on normal images to do what those of a frozen one do, each for itself, from the frozen one's
own tokens. An image is told by two normal distributions, both fitted to the training images: one of the frozen ViT's
class token, and one of how far each fresh block is from its frozen one.

Differences from the official code:
- Dropout is of the student alone; the code's is of the frozen ViT as well, whose targets are noisy for that. Here they
  are computed once and kept.
- The last step is what is scored; the code keeps the epoch with the lowest distance on normal test images.
- Where one principal component alone holds more than the share of the variance, it is kept; the code then has none and
  ends with an error.
- Every batch is whole; there are as many as the code has with its incomplete last ones. One model is for all classes,
  where the code's is for one.
- Which weights its ViT has is not quite known: a port's names; timm's of the same size, data and pixel statistics stand
  here.
- Seeding, precision and batching are the harness's.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import torch
import torch.nn.functional as F
from pydantic import model_validator
from torch import Generator, Tensor, nn

from bench.api import Batch, EncoderInfo, EncoderRequest, MethodConfig, Prediction, Protocol, Trained, sourced
from bench.errors import UsageError

from . import _class_token
from ._epochs import length, refuse_two_lengths
from ._gaussian import Gaussian, Moments
from ._vit import SoftmaxAttention, dropped

NORM_EPS = 1e-6
BIAS_STD = 1e-6
FLOOR = 1e-6
"""Added to every variance."""
LEAST = 1e-12
"""Variance that components are scaled by at least, where all training images are alike."""


class Config(MethodConfig):
    """Transformaly's settings; defaults are the code's."""

    encoder: str = sourced(
        "vit_base_patch16_384.orig_in21k_ft_in1k", "code, by its port's name", "frozen ViT with class token"
    )
    input_size: int | None = sourced(None, "code: 384", "input side in pixels; null = the encoder's own", gt=0)
    first_block: int = sourced(2, "code", "blocks from this one on, from 0, tell an anomaly; all are trained", ge=0)
    variance: float = sourced(
        0.9, "code", "share that the class token's principal components fall short of", gt=0, lt=1
    )
    mlp_ratio: float = sourced(4.0, "code: that of its ViT", "hidden width of a fresh block over the ViT's", gt=0)
    dropout: float = sourced(0.1, "code", "share dropped of attention weights and both branches", ge=0, lt=1)
    epochs: int = sourced(30, "code", "passes over the images", gt=0)
    steps: int | None = sourced(None, "code: in epochs", "training iterations; null = those of the epochs", ge=0)
    batch_size: int = sourced(32, "README's command; script: 6", "images a step", gt=0)
    lr: float = sourced(1e-4, "code", "learning rate", gt=0)

    @model_validator(mode="before")
    @classmethod
    def _one_length(cls, values: Any) -> Any:
        if isinstance(values, dict):
            refuse_two_lengths(values)
        return values


class Block(nn.Module):
    """A plain pre-norm transformer block, freshly initialised, with dropout of its attention weights and branches."""

    def __init__(self, dim: int, heads: int, hidden: int, dropout: float) -> None:
        super().__init__()
        self.dropout = dropout
        self.norm1, self.norm2 = nn.LayerNorm(dim, eps=NORM_EPS), nn.LayerNorm(dim, eps=NORM_EPS)
        self.attention = SoftmaxAttention(dim, heads)
        self.expand, self.reduce = nn.Linear(dim, hidden), nn.Linear(hidden, dim)
        # queries, keys and values are layers of their own in the code
        for weight in (*self.attention.qkv.weight.chunk(3), *(one.weight for one in self._others())):
            nn.init.xavier_uniform_(weight)
        for layer in (self.attention.qkv, *self._others()):
            nn.init.normal_(layer.bias, std=BIAS_STD)

    def _others(self) -> tuple[nn.Linear, ...]:
        return self.attention.proj, self.expand, self.reduce

    def forward(self, x: Tensor, random: Generator | None = None) -> Tensor:
        """Return [B, T, dim] for [B, T, dim]; `random` draws the dropout, None drops nothing."""
        share = self.dropout
        x = x + dropped(self.attention(self.norm1(x), share, random), share, random)
        hidden = self.reduce(F.gelu(self.expand(self.norm2(x))))
        return x + dropped(hidden, share, random)


class Student(nn.Module):
    """Trainable part: a fresh block for each frozen one. What is known of normal images lies in two distributions."""

    def __init__(self, info: EncoderInfo, config: Config) -> None:
        super().__init__()
        hidden = int(info.dim * config.mlp_ratio)
        self.blocks = nn.ModuleList(Block(info.dim, info.heads, hidden, config.dropout) for _ in range(info.depth))
        self.tokens, self.distances = Gaussian(info.dim), Gaussian(info.depth - config.first_block)

    def forward(self, sequences: list[Tensor], random: Generator | None = None) -> Tensor:
        """Return how far each fresh block is from its frozen one: float32 [B, depth], means of squares.

        Args:
            sequences: [B, T, dim] each: what enters the first frozen block, then what leaves each of them.
            random: draws the dropout.
        """
        pairs = zip(self.blocks, sequences, sequences[1:], strict=False)
        apart = [(block(given, random) - wanted).float().square().mean(dim=(1, 2)) for block, given, wanted in pairs]
        return torch.stack(apart, dim=1)


class Transformaly(Trained[Config, Student]):
    """Densities of a frozen ViT's class token and of how far freshly trained blocks are from its own."""

    name = "transformaly"
    family = "density"
    encoders = ("vit",)
    paper = Protocol("paper:transformaly", metrics=("image/auroc", "image/ap", "image/f1max"))

    def steps(self, images: int) -> int:
        """Return the iterations of the recipe's epochs, their last batch counted, or those given."""
        return length(self.config, images, drops_last=False)

    def encoder(self) -> EncoderRequest:
        """Return the request: what enters the first block, what leaves each, and the last with the final norm."""
        config = self.config
        fits = "vit_base_patch16_384.orig_in21k_ft_in1k or vit_base_patch14_reg4_dinov2.lvd142m"
        native = _class_token.described(self.name, config.encoder, fits)
        if config.first_block >= native.depth:
            raise UsageError(
                f"transformaly.first_block is {config.first_block}, encoder '{config.encoder}' has {native.depth} "
                f"blocks (0 to {native.depth - 1})"
            )
        return EncoderRequest(
            name=config.encoder,
            blocks=tuple(range(-1, native.depth + 1)),
            input_size=config.input_size or native.input_size,
            position="dinov2" if "dinov2" in config.encoder else "timm",
        )

    def features(self, blocks: Mapping[int, Tensor], info: EncoderInfo) -> dict[str, Tensor]:
        """Return `sequence0` to `sequence<depth>` [B, T, dim], and the normed class token `token` [B, dim]."""
        found = {f"sequence{place}": blocks[place - 1] for place in range(info.depth + 1)}
        return {**found, "token": blocks[info.depth][:, 0]}

    def build(self, info: EncoderInfo) -> Student:
        """Return fresh blocks, with nothing known yet."""
        return Student(info, self.config)

    def fit(self, module: Student, batches: Iterable[Batch]) -> None:
        """Fit the distribution of the class token, in its first principal components."""
        mean, covariance, count = _moments(module.tokens, (batch["token"] for batch in batches))
        values, vectors = torch.linalg.eigh(covariance)
        values, vectors = values.flip(0).clamp(min=0), vectors.flip(1)
        kept = int((values.cumsum(0) <= self.config.variance * values.sum()).sum())
        values, vectors = values[: max(kept, 1)], vectors[:, : max(kept, 1)]
        # the code scales components by the unbiased variance, and then takes the biased one of what it got
        scales = torch.full_like(values, (count - 1) / count + FLOOR)
        module.tokens.know(mean, vectors / (values.clamp(min=LEAST) * scales).sqrt(), scales)

    def finish(self, module: Student, batches: Iterable[Batch]) -> None:
        """Fit the distribution of the blocks' distances after the last step."""
        mean, covariance, count = _moments(module.distances, (self._distances(module, batch) for batch in batches))
        values, vectors = torch.linalg.eigh(covariance * ((count - 1) / count))
        values = values.clamp(min=0) + FLOOR
        module.distances.know(mean, vectors / values.sqrt(), values)

    def loss(self, module: Student, batch: Batch, step: int) -> Tensor:
        """Return the mean squared distance over images, blocks, tokens and channels."""
        out: Tensor = module(_sequences(module, batch), batch.random if module.training else None).mean()
        return out

    def anomaly(self, module: Student, batch: Batch, info: EncoderInfo, size: int) -> Prediction:
        """Return what speaks against both log-densities, without maps."""
        distances = self._distances(module, batch)
        found = module.tokens.log_density(batch["token"]) + module.distances.log_density(distances)
        return Prediction(scores=-found)

    def optimizer(self, module: Student) -> torch.optim.Optimizer:
        """Return Adam over all trainable tensors, without weight decay."""
        return torch.optim.Adam(module.parameters(), lr=self.config.lr, fused=True)

    def learning_rate(self, step: int) -> float:
        """Return the constant rate."""
        return self.config.lr

    def _distances(self, module: Student, batch: Batch) -> Tensor:
        found: Tensor = module(_sequences(module, batch))
        # negative as in the code, which changes no density
        return -found[:, self.config.first_block :]


def _sequences(module: Student, batch: Batch) -> list[Tensor]:
    return [batch[f"sequence{place}"] for place in range(len(module.blocks) + 1)]


def _moments(of: Gaussian, points: Iterable[Tensor]) -> tuple[Tensor, Tensor, int]:
    moments = Moments(len(of.mean), of.mean.device)
    for part in points:
        moments.add(part.unsqueeze(1))
    return *moments.mean_and_covariance(), moments.count
