"""ViTAD: Exploring Plain Vision Transformer Reconstruction for Multi-class Unsupervised Anomaly Detection.

Jiangning Zhang, Xuhai Chen, Yabiao Wang, Chengjie Wang, Yong Liu, Xiangtai Li, Ming-Hsuan Yang, Dacheng Tao.
arXiv 2312.07495, 2023; CVIU 2025 has it as "Exploring plain ViT features for multi-class unsupervised visual anomaly
detection". Official code: github.com/zhangzjn/ADer, configuration `vitad_256_100e`, read at commit 902937a; "code"
below means it. Sections and tables are those of the preprint's first version.

A frozen DINO ViT sees the image. Its last block's patch tokens go through one Linear layer and a decoder of plain ViT
blocks, whose stages learn to give back the encoder's stages in reverse order. Where they fail to, the image is
anomalous.

Differences from the official code:
- Its decoder carries a patch embedding, class token, final norm and 1000-way head that never run: 681,448 parameters,
  which the published 38.6 M count and which do not exist here.
- Maps are resized straight to the evaluation size; the code's is the input size, 256 at both.
- Of CLIP encoders it leaves out the norm before the first block, which runs here; no suite has one.
- Epochs and evaluation: see `_ader.py`. Seeding, precision, clipping and batching are the harness's.
- The augmentations of table XII are not offered: nothing is augmented here, and with them the method fails.

Not stated in the paper, chosen here:
- Fuser variants (table VIII, figure 7): ViT and convolution blocks stand in place of the Linear layer; concatenation
  and sum are followed by it. A convolution block is ResNet's bottleneck of the tokens' width.
- Stage 0 is the embedded input, position included. Restraining it too (table II) takes a decoder of one stage more.
- Every loss of table XI is summed over stages, and maps stay cosine distances whatever the loss.
- Class tokens that are kept (table III) run through fuser and decoder and are cut off before loss and map.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from itertools import accumulate, pairwise
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from bench.api import Batch, EncoderInfo, EncoderRequest, Prediction, Released, sourced
from bench.encoders import catalog
from bench.errors import UsageError

from . import _ader
from ._losses import FeatureLoss
from ._maps import gaussian
from ._switches import refuse_idle
from ._vit import Block, SoftmaxAttention, init_truncated, to_grid

STAGES = 4
"""Equal parts that the encoder's blocks fall into; section 4.5.4."""
COSINE_END = 0.01
"""Share of the learning rate that the cosine schedule ends at; code: lr_min."""


class Config(_ader.StageRecipe):
    """ViTAD's settings; defaults are the paper's for MVTec-AD."""

    encoder: str = sourced("vit_small_patch16_224.dino", "section 3.3.2, table I", "frozen ViT, by timm name")
    input_size: int | None = sourced(256, "section 4.1", "input side in pixels; null = the encoder's own", gt=0)
    statistics: Literal["imagenet", "encoder"] = sourced(
        "imagenet",
        "code: for every encoder",
        "mean and std of the pixels: ImageNet's, or what the encoder was trained by",
    )
    targets: tuple[int, ...] | None = sourced(
        None,
        "section 3.3.2, table II; code: blocks 2, 5, 8 of 12",
        "encoder blocks to give back, from 0, -1 = the embedded input; null = where the first three quarters end",
    )
    fused: tuple[int, ...] | None = sourced(
        None,
        "section 3.3.2, code: block 11 of 12, before the norm",
        "encoder blocks that the fuser sees, from 0, -1 = the embedded input, depth = after the norm; null = the last",
    )
    decoder: tuple[int, ...] | None = sourced(
        None, "table X, code: 3, 3, 3", "blocks in each of the decoder's stages; null = the encoder's, reversed"
    )
    fuser: Literal["linear", "none", "vit", "conv"] = sourced(
        "linear", "section 3.3.3, tables III and VIII", "what turns the fused tokens into the decoder's input"
    )
    fuser_depth: int = sourced(1, "table VIII", "ViT or convolution blocks in the fuser", gt=0)
    fuse: Literal["concat", "add"] = sourced("concat", "table VIII", "how several fused blocks are joined")
    class_token: bool = sourced(False, "section 3.3.3, table III", "keep class and register tokens in the decoder")
    position_embedding: bool = sourced(
        True, "section 3.3.3, table III", "add learned position embeddings to the decoder's input"
    )
    mlp_ratio: float = sourced(4.0, "code", "hidden width over width of the decoder's MLPs", gt=0)
    norm_eps: float = sourced(1e-6, "code", "epsilon of the decoder's LayerNorms", gt=0)
    init_std: float = sourced(0.02, "code", "standard deviation of the decoder's initial weights and positions", gt=0)
    loss: FeatureLoss = sourced("cosine_flat", "section 4.5.5, table XI; code", "distance that is trained on")
    epochs: int = sourced(100, "section 4.1", "times that each training image is seen", gt=0)
    steps: int | None = sourced(None, "section 4.1: in epochs", "training iterations; null = those of the epochs", ge=0)
    batch_size: int = sourced(8, "section 4.1", "images a step", gt=0)
    lr: float = sourced(
        1e-4, "section 4.1; code: 1e-4 * batch / 8", "initial learning rate; unless given, with the batch", gt=0
    )
    schedule: Literal["step", "cosine"] = sourced(
        "step", "section 4.1, table XII; code: cosine ends at lr / 100", "how the learning rate falls"
    )
    decay_at: float = sourced(0.8, "section 4.1: after 80 epochs", "share of the steps before it drops", gt=0, le=1)
    decay: float = sourced(0.1, "section 4.1", "what the learning rate is multiplied by there", gt=0, le=1)
    weight_decay: float = sourced(
        1e-4, "section 4.1; code: tensors of two dimensions or more", "decoupled; biases and norms are spared", ge=0
    )
    betas: tuple[float, float] = sourced((0.9, 0.999), "code", "decay of AdamW's moments")
    eps: float = sourced(1e-8, "code", "AdamW's epsilon", gt=0)
    clip_norm: float | None = sourced(5.0, "code", "global gradient-norm clip; null = none", gt=0)
    smoothing_sigma: float = sourced(4.0, "code", "sigma in pixels of the map's Gaussian", gt=0)
    score_pool: int = sourced(
        16, "section 3.3.5; code", "side in pixels of the mean whose maximum is the image score", gt=0
    )


class TokenBottleneck(nn.Module):
    """ResNet's bottleneck on patch tokens [B, h*w, dim] of one grid: 1x1, 3x3, 1x1 with BatchNorm, and a shortcut."""

    def __init__(self, dim: int, grid: tuple[int, int]) -> None:
        super().__init__()
        self.grid = grid
        inner = max(dim // 4, 1)
        self.body = nn.Sequential(
            nn.Conv2d(dim, inner, 1, bias=False),
            nn.BatchNorm2d(inner),
            nn.ReLU(),
            nn.Conv2d(inner, inner, 3, padding=1, bias=False),
            nn.BatchNorm2d(inner),
            nn.ReLU(),
            nn.Conv2d(inner, dim, 1, bias=False),
            nn.BatchNorm2d(dim),
        )

    def forward(self, tokens: Tensor) -> Tensor:
        """Return [B, h*w, dim] for [B, h*w, dim]."""
        maps = to_grid(tokens, 0, self.grid)
        return F.relu(maps + self.body(maps)).flatten(2).transpose(1, 2)


class ViTADStudent(nn.Module):
    """Trainable part: fuser and decoder.

    Args:
        config: what the fuser is, widths and initial values.
        info: the encoder's shape.
        targets: encoder blocks to give back, ascending.
        fused: encoder blocks that the fuser joins.
        decoder: blocks in each of the decoder's stages.

    Attributes:
        targets: names of the features to give back, the shallowest first.
        fused: names of the features that `forward` takes.
        prefix: class and register tokens that come before the patches.
        grid: patch rows and columns.
    """

    def __init__(
        self, config: Config, info: EncoderInfo, targets: Sequence[int], fused: Sequence[int], decoder: Sequence[int]
    ) -> None:
        super().__init__()
        self.targets = tuple(_named(index) for index in targets)
        self.fused = tuple(_named(index) for index in fused)
        self.prefix = info.prefix if config.class_token else 0
        self.grid = info.grid
        self.ends = tuple(accumulate(decoder))
        self.concat = config.fuse == "concat"

        def block() -> Block:
            return Block(info.dim, SoftmaxAttention(info.dim, info.heads), config.mlp_ratio, config.norm_eps)

        self.fuser: nn.Module = nn.Identity()
        if config.fuser == "linear":
            self.fuser = nn.Linear(info.dim * (len(fused) if self.concat else 1), info.dim)
        elif config.fuser == "vit":
            self.fuser = nn.Sequential(*(block() for _ in range(config.fuser_depth)))
            init_truncated(self.fuser, config.init_std, cut=2.0)
        elif config.fuser == "conv":
            self.fuser = nn.Sequential(*(TokenBottleneck(info.dim, info.grid) for _ in range(config.fuser_depth)))
        self.position: nn.Parameter | None = None
        if config.position_embedding:
            self.position = nn.Parameter(torch.empty(1, self.prefix + info.grid[0] * info.grid[1], info.dim))
            nn.init.trunc_normal_(self.position, std=config.init_std)
        self.blocks = nn.ModuleList(block() for _ in range(self.ends[-1]))
        init_truncated(self.blocks, config.init_std, cut=2.0)

    def forward(self, fused: Sequence[Tensor]) -> list[Tensor]:
        """Rebuild the encoder's stages.

        Args:
            fused: [B, prefix + h*w, dim] each, the encoder blocks that the fuser joins.

        Returns:
            One [B, dim, h, w] a decoder stage, the last stage first: it faces the encoder's shallowest target.
        """
        tokens = self.fuser(torch.cat(list(fused), dim=-1) if self.concat else torch.stack(list(fused)).sum(dim=0))
        if self.position is not None:
            tokens = tokens + self.position
        outputs: list[Tensor] = []
        for number, block in enumerate(self.blocks, start=1):
            tokens = block(tokens)
            if number in self.ends:
                outputs.append(self.maps(tokens))
        return outputs[::-1]

    def maps(self, tokens: Tensor) -> Tensor:
        """Return the patches of [B, prefix + h*w, dim] as [B, dim, h, w]."""
        return to_grid(tokens, self.prefix, self.grid)


class ViTAD(_ader.StageReconstruction[Config, ViTADStudent]):
    """Plain-ViT reconstruction of a frozen plain ViT's stages from its last one."""

    name = "vitad"
    family = "reconstruction"
    encoders = ("vit",)
    paper = _ader.protocol("vitad")
    released = Released(
        source="as github.com/zhangzjn/ADer links them",
        encoder="net_t.",
        names=(
            (r"net_fusion\.fc\.(.*)", r"fuser.\1"),
            (r"net_s\.pos_embed", "position"),
            (r"net_s\.(blocks\.\d+\.)attn(\..*)", r"\1attention\2"),
            (r"net_s\.(blocks\.\d+\.(?:norm[12]|mlp)\..*)", r"\1"),
        ),
        # never run: see the differences above
        unused=r"net_s\.(?:cls_token|(?:patch_embed|norm|head)\..*)",
    )

    def __init__(self, config: Config) -> None:
        super().__init__(config)
        if self.config.fuser in ("linear", "none"):
            refuse_idle(self, ("fuser_depth",), f"fuser {self.config.fuser}")
        if self.config.schedule == "cosine":
            refuse_idle(self, ("decay", "decay_at"), "schedule cosine")
        if len(self.config.fused or ("last",)) == 1:
            refuse_idle(self, ("fuse",), "a single fused block")

    def encoder(self) -> EncoderRequest:
        """Return the request: the blocks to give back and those that the fuser sees."""
        config = self.config
        native = catalog.describe(config.encoder)
        if native.family != "vit":
            raise UsageError(
                f"vitad needs a plain ViT, encoder '{config.encoder}' is a CNN. Try vit_small_patch16_224.dino; "
                "for CNNs there is rd4ad"
            )
        targets, fused, decoder = self._targets(native.depth), self._fused(native.depth), self._decoder(native.depth)
        if not targets or len(targets) != len(decoder) or min(decoder) < 1:
            raise UsageError(
                f"vitad.decoder {decoder} must hold a positive number of blocks for each of the {len(targets)} "
                f"vitad.targets {targets}. Set both: --set vitad.targets=[...] --set vitad.decoder=[...]"
            )
        joined = config.fuser == "linear" or config.fuse == "add" or len(fused) == 1
        if not fused or not joined or (config.fuser == "conv" and config.class_token):
            raise UsageError(
                f"vitad.fuser '{config.fuser}' does not fit fused {fused}, fuse '{config.fuse}', class_token "
                f"{config.class_token}: at least one block is fused, only 'linear' takes several concatenated ones "
                "(others: --set vitad.fuse=add), and 'conv' takes no class token"
            )
        return EncoderRequest(
            name=config.encoder,
            blocks=tuple(sorted({*targets, *fused})),
            input_size=config.input_size or native.input_size,
            statistics=config.statistics,
        )

    def features(self, blocks: Mapping[int, Tensor], info: EncoderInfo) -> dict[str, Tensor]:
        """Return each requested block's tokens: block2, block5, ... float [B, h*w, dim].

        With `class_token` the tokens before the patches are kept.
        """
        start = 0 if self.config.class_token else info.prefix
        return {_named(index): tokens[:, start:] for index, tokens in blocks.items()}

    def build(self, info: EncoderInfo) -> ViTADStudent:
        """Return fuser and decoder, freshly initialised."""
        depth = info.depth
        return ViTADStudent(self.config, info, self._targets(depth), self._fused(depth), self._decoder(depth))

    def pairs(self, module: ViTADStudent, features: Mapping[str, Tensor]) -> list[tuple[Tensor, Tensor]]:
        """Return each target and what the decoder's facing stage gives, the shallowest target first."""
        rebuilt = module([features[name] for name in module.fused])
        targets = [module.maps(features[name]) for name in module.targets]
        return list(zip(targets, rebuilt, strict=True))

    def anomaly(self, module: ViTADStudent, batch: Batch, info: EncoderInfo, size: int) -> Prediction:
        """Return smoothed maps of the summed cosine distance, and the highest mean over a square of each map."""
        # the code weighs each stage 1, divides by the weights' sum, and by the number of stages again
        weight = 1.0 / len(self._targets(info.depth)) ** 2
        maps = gaussian(weight * self.distances(module, batch, size), self.config.smoothing_sigma)
        pool = min(self.config.score_pool, size)
        scores = F.avg_pool2d(maps.unsqueeze(1), pool, stride=1).amax(dim=(1, 2, 3))
        return Prediction(scores=scores, maps=maps)

    def optimizer(self, module: ViTADStudent) -> torch.optim.Optimizer:
        """Return AdamW with decay on matrices, kernels and position embeddings, none on biases and norms."""
        config = self.config
        params = [param for param in module.parameters() if param.requires_grad]
        groups = [
            {"params": [param for param in params if param.ndim > 1], "weight_decay": config.weight_decay},
            {"params": [param for param in params if param.ndim <= 1], "weight_decay": 0.0},
        ]
        return torch.optim.AdamW(groups, lr=config.lr, betas=config.betas, eps=config.eps, fused=True)

    def learning_rate(self, step: int) -> float:
        """Return the rate: constant until its drop, or half a cosine to a hundredth."""
        config = self.config
        if config.schedule == "cosine":
            fallen = 0.5 * (1.0 - math.cos(math.pi * step / self.total))
            return config.lr * (1.0 - (1.0 - COSINE_END) * fallen)
        return super().learning_rate(step)

    def _targets(self, depth: int) -> tuple[int, ...]:
        if self.config.targets is not None:
            return tuple(sorted(self.config.targets))
        return tuple(end - 1 for end in _stage_ends(depth)[:-1])

    def _fused(self, depth: int) -> tuple[int, ...]:
        return (depth - 1,) if self.config.fused is None else self.config.fused

    def _decoder(self, depth: int) -> tuple[int, ...]:
        if self.config.decoder is not None:
            return self.config.decoder
        ends = _stage_ends(depth)
        return tuple(end - start for start, end in pairwise(ends))[::-1]


def _named(block: int) -> str:
    return f"block{block}"


def _stage_ends(depth: int) -> tuple[int, ...]:
    """Return after how many of an encoder's blocks each of its four stages ends: 3, 6, 9, 12 of 12."""
    return tuple(depth * number // STAGES for number in range(1, STAGES + 1))
