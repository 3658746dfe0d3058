"""Dinomaly2: One Dinomaly2 Detect Them All, a Unified Framework for Full-Spectrum Unsupervised Anomaly Detection.

Jia Guo, Shuai Lu, Lei Fan, Zelin Li, Donglin Di, Yang Song, Weihang Zhang, Wenbing Zhu, Hong Yan, Fang Chen, Huiqi Li,
Hongen Liao. Preprint 2025, arXiv 2510.17611. Official code: guojiajeremy/Dinomaly2, a preview, read at commit 1745c61
in a fork that holds it unchanged; "code" below means it. "Dinomaly" is arXiv 2405.14325, as in dinomaly.py: what is not
named here is its.

Dinomaly with three changes. The bottleneck is narrow at its entrance (d -> 256 -> 4d -> d, dropout behind each Linear
layer, none before the first), and that entrance learns ten times more slowly. Each target is recentred by its context:
the group's mean class token is subtracted from its patch tokens, and each is brought to mean 0 and variance 1, so that
what all of an image has in common need not be rebuilt. And the schedule is four times as long, and constant.

Differences from the official code, beside those that dinomaly.py lists:
- The 2-D script starts from ViT-S, the others and the paper's tables from ViT-B; ViT-B here. The code says of itself
  that some of its configuration is not exactly the paper's.
- Real-IAD's views are single images here: trained as the multi-view script does, each view scored by itself. Its score
  of an object, the highest 1 % over all its views' pixels, is not taken; `sample/auroc` is of the highest view.
- BTAD is run at 392 without a centre crop there; `--protocol paper` crops 392 from 448 on every dataset.
- Where gradients are not finite, the code's optimizer stops within a step; here the harness stops the training.
- The code's sparse constraints rebuild the deepest of each 2 or 4 layers, and leave the decoder's last blocks
  untrained; here they take the shallowest, as Dinomaly's do.
- Several modalities (RGB-3D, RGB-IR), and the few-shot script's augmentation, are not offered.

The ablations are Dinomaly's settings, with `recentre` for the context and `bottleneck_width` for the entrance.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any, ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from bench.api import Batch, EncoderInfo, EncoderRequest, Prediction, sourced
from bench.encoders import catalog
from bench.errors import UsageError

from . import dinomaly
from ._groups import Beta
from ._reconstruction import Reconstructor

TARGET_EPS = 1e-8
"""Epsilon of the targets' norm; code."""


class Config(dinomaly.Config):
    """Dinomaly2's settings; those not named here are Dinomaly's."""

    encoder: str = sourced(
        "vit_base_patch14_reg4_dinov2.lvd142m",
        "table II; the 2-D script's default is ViT-S",
        "frozen ViT, by timm name",
    )
    recentre: bool = sourced(
        True, "code (context-aware recentering)", "targets: patch tokens less their group's class token, each normed"
    )
    bottleneck_width: int = sourced(256, "code, for every encoder", "width behind the bottleneck's first layer", gt=0)
    bottleneck_lr_scale: float = sourced(
        0.1, "code, 2-D script; 1 in the multi-view one", "learning rate of that layer, relative to the others'", gt=0
    )
    dropout: float = sourced(
        0.4, "code", "dropout behind each of the bottleneck's three Linear layers; 0 = noiseless", ge=0, lt=1
    )
    attention_eps: float = sourced(
        1e-8, "code; its README would change it if a dataset gives NaN", "added to linear attention's denominator", ge=0
    )
    hard_mining: float = sourced(0.9, "code", "share of easy points whose gradient shrinks; 0 = off", ge=0, le=1)
    hard_mining_steps: int = sourced(1000, "code", "steps until that share is reached", gt=0)
    hard_mining_factor: float = sourced(0.1, "code", "what those points' gradient is multiplied by", ge=0)
    steps: int = sourced(40_000, "code, 2-D script", "training iterations", ge=0)
    batch_size: int = sourced(16, "code", "images a step", gt=0)
    lr: float = sourced(2e-3, "code", "learning rate behind the warm-up", gt=0)
    final_lr: float = sourced(2e-3, "code (decay ratio 1: constant)", "learning rate that the cosine ends at", ge=0)
    warmup: int = sourced(100, "code", "steps of linear warm-up from 0", ge=0)
    weight_decay: float = sourced(1e-4, "code", "decoupled, on every trainable tensor", ge=0)
    betas: tuple[Beta, Beta] = sourced((0.9, 0.999), "code", "decay of StableAdamW's moments")
    eps: float = sourced(1e-10, "code", "StableAdamW's epsilon", gt=0)
    amsgrad: bool = sourced(False, "code", "use the running maximum of the second moment")
    clip_norm: float = sourced(0.1, "code", "global gradient-norm clip", gt=0)


class Bottleneck(nn.Module):
    """Three Linear layers, dim -> width -> hidden -> dim: dropout behind each, GELU behind the second alone."""

    def __init__(self, dim: int, width: int, hidden: int, dropout: float) -> None:
        super().__init__()
        self.entrance = nn.Linear(dim, width)
        self.fc1 = nn.Linear(width, hidden)
        self.fc2 = nn.Linear(hidden, dim)
        self.dropout = nn.Dropout(dropout)

    def forward(self, x: Tensor) -> Tensor:
        """Return [..., dim] for [..., dim]."""
        narrow = self.dropout(self.entrance(x))
        hidden = self.dropout(F.gelu(self.fc1(narrow)))
        out: Tensor = self.dropout(self.fc2(hidden))
        return out


class Dinomaly2(dinomaly.Reconstruction[Config, Reconstructor]):
    """Dinomaly with targets recentred by their class token, a narrow entrance and a long constant schedule."""

    name = "dinomaly2"
    family = "reconstruction"
    encoders = ("vit",)
    paper = replace(dinomaly.Dinomaly.paper, name="paper:dinomaly2")
    # code: the multi-view script, which has one learning rate for all
    overrides: ClassVar[Mapping[str, Mapping[str, Any]]] = {"realiad": {"steps": 100_000, "bottleneck_lr_scale": 1.0}}

    @property
    def revision(self) -> str:
        """Nothing: the same settings were never computed otherwise."""
        return ""

    def encoder(self) -> EncoderRequest:
        """Return Dinomaly's request.

        Raises:
            UsageError: targets are recentred and the encoder has no class token.
        """
        wanted = super().encoder()
        if self.config.recentre and not catalog.has_class_token(wanted.name):
            raise UsageError(
                f"{self.name} recentres its targets by class tokens, encoder '{wanted.name}' has none. "
                f"Try vit_base_patch14_reg4_dinov2.lvd142m, or --set {self.name}.recentre=false"
            )
        return wanted

    def build(self, info: EncoderInfo) -> Reconstructor:
        """Return the bottleneck and decoder, freshly initialised."""
        config = self.config
        hidden = int(info.dim * config.mlp_ratio)
        narrow = Bottleneck(info.dim, config.bottleneck_width, hidden, config.dropout)
        return Reconstructor(config, info, self.decoder_groups, narrow)

    def loss(self, module: Reconstructor, batch: Batch, step: int) -> Tensor:
        """Return Dinomaly's loss against the recentred targets."""
        return self._discrepancy(self._pairs(module, batch, step)).mean()

    def anomaly(self, module: Reconstructor, batch: Batch, info: EncoderInfo, size: int) -> Prediction:
        """Return Dinomaly's maps and scores against the recentred targets."""
        return self._read_off(self._pairs(module, batch), info, size)

    def optimizer(self, module: Reconstructor) -> torch.optim.Optimizer:
        """Return StableAdamW over all trainable tensors, the bottleneck's entrance at its own learning rate."""
        entrance: list[nn.Parameter] = []
        rest: list[nn.Parameter] = []
        for name, param in module.named_parameters():
            (entrance if name.startswith("bottleneck.entrance.") else rest).append(param)
        scale = self.config.bottleneck_lr_scale
        return self._stable_adamw([{"params": entrance, "lr_scale": scale}, {"params": rest}])

    def learning_rate(self, step: int) -> float:
        """Return the rate: linear from 0, the peak at the first step behind the warm-up, then cosine to the final."""
        config = self.config
        return config.lr * step / config.warmup if step < config.warmup else self._cosine(step)

    def _target(self, mean: Tensor, prefix: int) -> Tensor:
        patches = super()._target(mean, prefix)
        if not self.config.recentre:
            return patches
        return F.layer_norm(patches - mean[:, :1], patches.shape[-1:], eps=TARGET_EPS)
