"""GeneralAD: Anomaly Detection Across Domains by Attending to Distorted Features.

Luc P.J. Strater, Mohammadreza Salehi, Efstratios Gavves, Cees G.M. Snoek, Yuki M. Asano. ECCV 2024, arXiv 2407.12427.
Code: github.com/LucStrater/GeneralAD, read at commit 6d1bae2.

A frozen ViT's patch tokens are distorted by noise, and one attention block learns to tell distorted patches from clean
ones. A patch of a test image is as anomalous as the block takes it for distorted. Industrial sets also show images of
which a random part is distorted; semantic sets, where an anomaly fills the image, show wholly distorted ones alone.

Differences from the official code:
- Patches are not shuffled. On MVTec LOCO the code also permutes those that the encoder's attention finds salient; here
  LOCO is trained as the other industrial sets are (the paper's table: 83.9 in place of 84.9 with its ViT-L).
- The last step counts. The code keeps the epoch with the best image AUROC on the test set.
- Semantic sets: the code draws 250 images anew each epoch; here as many steps go through all images in turn.
- Images are resized as all methods' here are; the code's filter is Lanczos.
- Masks: the code resizes by Lanczos too and takes what is above 0, so that its ringing lets them grow; protocol `paper`
  has a bilinear resize, above 0. The code's AUPRO widens predictions by a patch, for the overlap alone.
- Where a batch leaves no patch clean, the mean over these is nothing; the code's is not a number.
- Maps go through the input size, where the Gaussian is, to the evaluation size.
- Dropout and noise draw from the step's own generator. Precision and batching are the harness's.
- VisA's split and LOCO's masks are the owners'; the code has a split of its own, and reads one mask of several.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any, ClassVar, Literal

import torch
import torch.nn.functional as F
from torch import Generator, Tensor, nn

from bench.api import Batch, EncoderInfo, EncoderRequest, MethodConfig, Prediction, Protocol, Trained, sourced
from bench.encoders import catalog
from bench.errors import UsageError

from ._maps import gaussian, resized
from ._vit import SoftmaxAttention, dropped

SEMANTIC = {"noise": "base", "score_patches": 0, "epochs": 20, "epoch_images": 250}
"""What the job file sets where an anomaly fills the image."""


class Config(MethodConfig):
    """GeneralAD's settings; defaults are the code's job file for industrial sets, ViT-L."""

    encoder: str = sourced(
        "vit_large_patch14_dinov2.lvd142m", "code: README; small and base likewise", "frozen ViT, by timm name"
    )
    input_size: int | None = sourced(518, "code", "input side in pixels; null = the encoder's own", gt=0)
    noise: Literal["random", "base"] = sourced(
        "random",
        "code: `random` on industrial sets, `base` on semantic ones",
        "what is distorted: of each image a random part, and all; or all alone",
    )
    noise_std: float = sourced(0.25, "code", "standard deviation of the noise", gt=0)
    hidden: int = sourced(2048, "code", "width inside the block's two Linear layers", gt=0)
    heads: int = sourced(4, "code", "attention heads", gt=0)
    dropout: float = sourced(0.1, "code", "share dropped of attention weights, hidden and both branches", ge=0, lt=1)
    score_patches: int = sourced(
        10, "code; semantic sets: all", "patches, the highest, whose mean scores an image; 0 = all", ge=0
    )
    smoothing_sigma: float = sourced(16.0, "code", "sigma of the map's Gaussian in pixels of the input", gt=0)
    smoothing_radius: int = sourced(18, "code", "pixels of the input at which it is cut", ge=0)
    epochs: int = sourced(160, "code; semantic sets: 20", "epochs; the learning rate falls after each", gt=0)
    epoch_images: int | None = sourced(
        None, "code: all; semantic sets: 250", "images that an epoch counts at most; null = all", gt=0
    )
    steps: int | None = sourced(None, "code: in epochs", "training iterations; null = those of the epochs", ge=0)
    batch_size: int = sourced(16, "code", "images a step", gt=0)
    lr: float = sourced(5e-4, "code", "initial learning rate", gt=0)
    final_lr: float = sourced(1e-4, "code: 0.2 of the initial", "where the cosine over the epochs ends", ge=0)
    weight_decay: float = sourced(1e-5, "code", "AdamW's", ge=0)


class Discriminator(nn.Module):
    """Patch tokens to logits of being distorted: positions, one block with a single norm, a Linear layer.

    x = norm(x + attention(x)), then x + mlp(x), with dropout of attention weights, hidden values and both branches.
    """

    def __init__(self, dim: int, patches: int, config: Config) -> None:
        super().__init__()
        self.dropout = config.dropout
        self.position = nn.Parameter(torch.randn(1, patches, dim))
        self.attention = SoftmaxAttention(dim, config.heads)
        self.norm = nn.LayerNorm(dim)
        self.expand, self.reduce = nn.Linear(dim, config.hidden), nn.Linear(config.hidden, dim)
        self.logit = nn.Linear(dim, 1, bias=False)
        # as torch's own attention starts
        nn.init.xavier_uniform_(self.attention.qkv.weight)
        nn.init.zeros_(self.attention.qkv.bias)
        nn.init.zeros_(self.attention.proj.bias)

    def forward(self, tokens: Tensor, random: Generator | None = None) -> Tensor:
        """Return logits [B, T] of tokens [B, T, dim]; `random` draws the dropout, None drops nothing."""
        share = self.dropout
        x = tokens + self.position
        x = self.norm(x + dropped(self.attention(x, share, random), share, random))
        hidden = dropped(F.gelu(self.expand(x)), share, random)
        x = x + dropped(self.reduce(hidden), share, random)
        out: Tensor = self.logit(x).squeeze(-1)
        return out


class GeneralAD(Trained[Config, Discriminator]):
    """An attention block tells patches of a frozen ViT from ones distorted by noise."""

    name = "generalad"
    family = "discrimination"
    encoders = ("vit",)
    paper = Protocol("paper:generalad", eval_size=518, mask_rule="dinomaly")
    overrides: ClassVar[Mapping[str, Mapping[str, Any]]] = {
        "cifar10": SEMANTIC,
        "cifar100": SEMANTIC,
        "fmnist": SEMANTIC,
        "view": SEMANTIC,
    }

    def steps(self, images: int) -> int:
        """Return the iterations of the epochs, each without its last incomplete batch, or those given."""
        config = self.config
        if config.steps is not None:
            return config.steps
        counted = images if config.epoch_images is None else min(images, config.epoch_images)
        return config.epochs * max(counted // config.batch_size, 1)

    def encoder(self) -> EncoderRequest:
        """Return the request: the last block's tokens after the final norm."""
        config = self.config
        native = catalog.describe(config.encoder)
        if native.family != "vit":
            raise UsageError(
                f"generalad needs a ViT, encoder '{config.encoder}' is a CNN. Try vit_base_patch14_dinov2.lvd142m"
            )
        if native.dim % config.heads:
            raise UsageError(
                f"generalad.heads = {config.heads} does not divide the {native.dim} channels of encoder "
                f"'{config.encoder}'. Expected a divisor, for example {math.gcd(native.dim, 4)}"
            )
        return EncoderRequest(
            name=config.encoder,
            blocks=(native.depth,),
            input_size=config.input_size or native.input_size,
            position="dinov2" if "dinov2" in config.encoder else "timm",
        )

    def features(self, blocks: Mapping[int, Tensor], info: EncoderInfo) -> dict[str, Tensor]:
        """Return the patches: float [B, h*w, dim]."""
        (tokens,) = blocks.values()
        return {"patches": tokens[:, info.prefix :]}

    def build(self, info: EncoderInfo) -> Discriminator:
        """Return the block, freshly initialised."""
        return Discriminator(info.dim, info.grid[0] * info.grid[1], self.config)

    def loss(self, module: Discriminator, batch: Batch, step: int) -> Tensor:
        """Return the sum of the mean cross-entropies of clean, of distorted and of partly distorted images."""
        tokens, random, config = batch["patches"], batch.random, self.config
        distorted = [torch.ones(tokens.shape[:2], dtype=torch.bool, device=tokens.device)]
        if config.noise == "random":
            distorted.append(random_patches(len(tokens), tokens.shape[1], random, tokens.device))
        shown, truth = [tokens], [torch.zeros_like(distorted[0])]
        for mask in distorted:
            noise = torch.empty_like(tokens).normal_(0.0, config.noise_std, generator=random)
            shown.append(tokens + noise * mask.unsqueeze(-1))
            truth.append(mask)
        # at once: no image sees another
        logits = module(torch.cat(shown), random if module.training else None)
        return discrimination(logits.chunk(len(truth)), truth)

    def anomaly(self, module: Discriminator, batch: Batch, info: EncoderInfo, size: int) -> Prediction:
        """Return smoothed maps of the logits, and the mean of each image's highest ones, not smoothed."""
        config, logits = self.config, module(batch["patches"]).float()
        wanted = config.score_patches or logits.shape[1]
        scores = logits.topk(min(wanted, logits.shape[1]), dim=1).values.mean(dim=1)
        maps = resized(logits.view(-1, *info.grid), info.input_size)
        maps = gaussian(maps, config.smoothing_sigma, config.smoothing_radius)
        return Prediction(scores=scores, maps=resized(maps, size))

    def optimizer(self, module: Discriminator) -> torch.optim.Optimizer:
        """Return AdamW over all trainable tensors."""
        config = self.config
        return torch.optim.AdamW(module.parameters(), lr=config.lr, weight_decay=config.weight_decay, fused=True)

    def learning_rate(self, step: int) -> float:
        """Return the rate: half a cosine over the epochs, the same within each."""
        config = self.config
        assert config.steps is not None, "a schedule is asked of Method.settled"
        done = step * config.epochs // max(config.steps, 1) / config.epochs
        return config.final_lr + (config.lr - config.final_lr) * 0.5 * (1.0 + math.cos(math.pi * done))


def random_patches(images: int, patches: int, random: Generator, device: torch.device) -> Tensor:
    """Return which patches are distorted, bool [images, patches]: of each image one to all, chosen at random."""
    count = torch.empty(images, 1, device=device).uniform_(0.0, 1.0, generator=random).mul(patches).floor() + 1
    draws = torch.empty(images, patches, device=device).uniform_(0.0, 1.0, generator=random)
    return draws.argsort(dim=1).argsort(dim=1) < count


def discrimination(logits: tuple[Tensor, ...], truth: list[Tensor]) -> Tensor:
    """Return the sum over pairs of logits and truths [B, T] of the mean cross-entropy of its clean and its other ones.

    Where a pair holds no clean patch, or no other, that mean is left out.
    """
    total = torch.zeros((), device=logits[0].device)
    for found, distorted in zip(logits, truth, strict=True):
        wrong = F.binary_cross_entropy_with_logits(found.float(), distorted.float(), reduction="none")
        for chosen in (distorted, ~distorted):
            total = total + (wrong * chosen).sum() / chosen.sum().clamp(min=1)
    return total
