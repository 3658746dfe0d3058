"""INP-Former: Exploring Intrinsic Normal Prototypes within a Single Image for Universal Anomaly Detection.

Wei Luo, Yunkang Cao, Haiming Yao, Xiaotian Zhang, Jianan Lou, Yuqi Cheng, Weiming Shen, Wenyong Yu. CVPR 2025,
arXiv 2503.02424. Official code: github.com/luow23/INP-Former, read at commit 17d2653; "code" below means it. "Dinomaly"
is arXiv 2405.14325, on which it builds: encoder, layers, groups, map, score and optimizer are its.

Most of an anomalous image is normal. A few learnt queries gather that from the image itself, by one block of attention
over its patches: its intrinsic normal prototypes. A decoder that may read nothing but these prototypes, and whose
attention has no way around it, gives the patches back; what the prototypes do not hold it cannot make. The prototypes
are trained to have one near every patch of normal images (coherence), and points that are rebuilt badly weigh more
(soft mining).

What the paper does not say, or says otherwise than the code, by which this goes:
- Patch tokens alone are used, class and register tokens are dropped; the eight layers are averaged (paper: summed).
- In the decoder the attention's output replaces its input: there is no residual [residual]. Queries and keys are of
  unit length in each head, their products are scaled by a learnt number a head and pass a ReLU, which is not brought to
  a sum of 1 [attention].
- 200 epochs are 45,200 iterations on all of MVTec-AD and 455,800 on Real-IAD, four and nine times Dinomaly's.

Differences from the official code:
- `--protocol paper` counts every non-zero mask pixel as anomalous, as when the paper's numbers were taken (README). The
  code now cuts masks at one half, and computes pixel metrics by ADEval with 200 strips. Its pixel AP is below the
  print: 71.0 in the paper's table 2 on MVTec-AD, 65.2 in a public re-run (luow23/INP-Former#62); 47.5 on Real-IAD, of
  which the authors' own checkpoint gives 44.2 (#40). How much of that the mask rule makes is not known.
- Where a group is rebuilt without any error, soft mining leaves its gradient alone; the code divides 0 by 0.
- A model on fewer images than a batch trains on them as one batch; the code's loader would have none.
- Encoders, pixels, masks, seeding and precision: as dinomaly.py says.
- The few-shot script's 22 copies of each image, and maps of a model trained on another dataset, are not offered.

The ablation of table 5 is `soft_mining`, `coherence` and `prototypes` = 0, with which the decoder reads the image's
own patches; what stands in the prototypes' place in the paper's row is not described, so that is our reading.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any, Literal

import torch
import torch.nn.functional as F
from pydantic import model_validator
from torch import Tensor, nn

from bench.api import Batch, EncoderInfo, Prediction, Released, sourced

from . import dinomaly
from ._epochs import length, refuse_two_lengths
from ._groups import Beta, GroupConfig, GroupReconstruction, Groups, Pair, Position
from ._switches import refuse_idle
from ._vit import Mlp, cosine_distance, init_truncated, to_grid

Attention = Literal["relu", "softmax"]


class Config(GroupConfig):
    """INP-Former's settings; defaults are the official multi-class recipe."""

    encoder: str = sourced("vit_base_patch14_reg4_dinov2.lvd142m", "section 4, code", "frozen ViT, by timm name")
    input_size: int | None = sourced(None, "section 4, code: 392", "input side in pixels; null = 28 patches", gt=0)
    position: Position = sourced(
        "auto",
        "code",
        "how position embeddings are resized; auto = by DINO's own rule where Dinomaly's code has the encoder, else "
        "as timm does",
    )
    layers: tuple[int, ...] | None = sourced(None, "code", "encoder blocks, from 0; null = by depth")
    groups: Groups = sourced(((0, 1, 2, 3), (4, 5, 6, 7)), "code", "places in `layers` averaged into each target")
    decoder_groups: Groups = sourced(
        ((0, 1, 2, 3), (4, 5, 6, 7)),
        "code",
        "places among the decoder's blocks, last block first, averaged to rebuild each group",
    )
    decoder_depth: int = sourced(8, "code", "blocks of the decoder", gt=0)
    prototypes: int = sourced(
        6, "section 4, code", "intrinsic normal prototypes of an image; 0 = none, the decoder reads its patches", ge=0
    )
    attention: Attention = sourced(
        "relu", "code; softmax is ours", "what the decoder's products of queries and keys pass: a ReLU, or a softmax"
    )
    residual: bool = sourced(False, "code; true is ours", "whether the decoder's attention is added to its input")
    mlp_ratio: float = sourced(4.0, "code", "hidden width over width, everywhere", gt=0)
    norm_eps: float = sourced(1e-8, "code", "epsilon of the LayerNorms", gt=0)
    init_std: float = sourced(0.01, "code", "standard deviation of initial Linear weights, cut at three times it", gt=0)
    soft_mining: float = sourced(
        3.0, "code; table 5", "power of a point's relative error by which its gradient grows; 0 = off", ge=0
    )
    coherence: float = sourced(0.2, "code; table 5", "weight of the prototypes' coherence loss; 0 = off", ge=0)
    epochs: int = sourced(200, "section 4, code, on every dataset", "passes over the training images", gt=0)
    steps: int | None = sourced(None, "follows from epochs", "training iterations, in place of epochs", ge=0)
    batch_size: int = sourced(16, "code", "images a step", gt=0)
    lr: float = sourced(1e-3, "section 4, code", "peak learning rate", gt=0)
    final_lr: float = sourced(1e-4, "code", "learning rate that the cosine ends at", ge=0)
    warmup: int = sourced(100, "code", "steps of linear warm-up from 0", ge=0)
    weight_decay: float = sourced(1e-4, "section 4, code", "decoupled, on every trainable tensor", ge=0)
    betas: tuple[Beta, Beta] = sourced((0.9, 0.999), "code", "decay of StableAdamW's moments")
    eps: float = sourced(1e-10, "code", "StableAdamW's epsilon", gt=0)
    amsgrad: bool = sourced(True, "code", "use the running maximum of the second moment")
    clip_norm: float = sourced(0.1, "code", "global gradient-norm clip", gt=0)
    smoothing_sigma: float = sourced(4.0, "code", "sigma in pixels of the map's 5x5 Gaussian", gt=0)
    score_share: float = sourced(
        0.01, "code", "share of the highest map pixels averaged to the image score", gt=0, le=1
    )

    @model_validator(mode="before")
    @classmethod
    def _one_length(cls, values: Any) -> Any:
        if isinstance(values, dict):
            refuse_two_lengths(values)
        return values


class Reading(nn.Module):
    """Multi-head attention of tokens to others: softmax(q k^T / sqrt(dim / heads)) v, with biases."""

    def __init__(self, dim: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.q = nn.Linear(dim, dim)
        self.kv = nn.Linear(dim, 2 * dim)
        self.proj = nn.Linear(dim, dim)

    def forward(self, tokens: Tensor, others: Tensor) -> Tensor:
        """Return [B, N, dim] for tokens [B, N, dim] that read others [B, M, dim]."""
        q = self._by_head(self.q(tokens))
        k, v = map(self._by_head, self.kv(others).chunk(2, dim=-1))
        out: Tensor = self.proj(self.mix(q, k, v).transpose(1, 2).flatten(2))
        return out

    def mix(self, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        """Return [B, heads, N, dim / heads]: for each query [..., N, :] a sum of values [..., M, :]."""
        return F.scaled_dot_product_attention(q, k, v)

    def _by_head(self, tokens: Tensor) -> Tensor:
        return tokens.reshape(*tokens.shape[:2], self.heads, -1).transpose(1, 2)


class GuidedReading(Reading):
    """The same on queries and keys of unit length, with a learnt scale a head and a ReLU for the softmax."""

    def __init__(self, dim: int, heads: int, kind: Attention) -> None:
        super().__init__(dim, heads)
        self.kind = kind
        self.scale = nn.Parameter(torch.ones(heads, 1, 1))

    def mix(self, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        """Return the values weighted by relu(scale cos(q, k)), whose sum may be anything from 0 to M."""
        products = F.normalize(q, dim=-1) @ F.normalize(k, dim=-1).transpose(-2, -1) * self.scale
        return (F.relu(products) if self.kind == "relu" else products.softmax(dim=-1)) @ v


class ReadingBlock(nn.Module):
    """Attention to other tokens, with one norm for both, and an MLP; the attention's residual can be left out."""

    def __init__(self, attention: Reading, dim: int, config: Config, residual: bool) -> None:
        super().__init__()
        self.residual = residual
        self.norm1 = nn.LayerNorm(dim, eps=config.norm_eps)
        self.attention = attention
        self.norm2 = nn.LayerNorm(dim, eps=config.norm_eps)
        self.mlp = Mlp(dim, int(dim * config.mlp_ratio))

    def forward(self, tokens: Tensor, others: Tensor) -> Tensor:
        """Return [B, N, dim] for tokens [B, N, dim] that read others [B, M, dim]."""
        read = self.attention(self.norm1(tokens), self.norm1(others))
        if self.residual:
            read = tokens + read
        out: Tensor = read + self.mlp(self.norm2(read))
        return out


class Former(nn.Module):
    """Trainable part: prototypes and their extractor, where there are any, bottleneck and guided decoder.

    Attributes:
        grid: patch rows and columns.
    """

    prototypes: nn.Parameter | None
    extractor: ReadingBlock | None

    def __init__(self, config: Config, info: EncoderInfo, groups: Groups) -> None:
        super().__init__()
        dim, heads = info.dim, info.heads
        self.grid = info.grid
        self.groups = groups
        self.extractor = None
        if config.prototypes:
            self.extractor = ReadingBlock(Reading(dim, heads), dim, config, residual=True)
        self.bottleneck = Mlp(dim, int(dim * config.mlp_ratio))
        self.decoder = nn.ModuleList(
            ReadingBlock(GuidedReading(dim, heads, config.attention), dim, config, config.residual)
            for _ in range(config.decoder_depth)
        )
        init_truncated(self, std=config.init_std, cut=3 * config.init_std)
        self.prototypes = nn.Parameter(torch.randn(config.prototypes, dim)) if config.prototypes else None

    def forward(self, patches: Tensor) -> tuple[list[Tensor], Tensor | None]:
        """Rebuild the encoder's group means.

        Args:
            patches: [B, h*w, dim], mean of all stored encoder blocks.

        Returns:
            One [B, dim, h, w] a group, shallow encoder group first; and the prototypes of each image, [B, M, dim].
        """
        found = None
        if self.prototypes is not None and self.extractor is not None:
            found = self.extractor(self.prototypes.repeat(len(patches), 1, 1), patches)
        tokens, outputs = self.bottleneck(patches), []
        for block in self.decoder:
            tokens = block(tokens, patches if found is None else found)
            outputs.append(tokens)
        # the last decoder block faces the shallowest encoder block
        outputs.reverse()
        means = [torch.stack([outputs[place] for place in group]).mean(dim=0) for group in self.groups]
        return [to_grid(mean, 0, self.grid) for mean in means], found


class INPFormer(GroupReconstruction[Config, Former]):
    """Reconstruction from normal prototypes that each image holds itself."""

    name = "inp_former"
    family = "reconstruction"
    encoders = ("vit",)
    paper = replace(dinomaly.Dinomaly.paper, name="paper:inp_former")
    released = Released(
        source="as github.com/luow23/INP-Former links them",
        encoder="encoder.",
        names=(
            (r"prototype_token", "prototypes"),
            (r"bottleneck\.0\.(fc[12]\..*)", r"bottleneck.\1"),
            (r"aggregation\.0\.attn(\..*)", r"extractor.attention\1"),
            (r"aggregation\.0\.((?:norm[12]|mlp)\..*)", r"extractor.\1"),
            (r"(decoder\.\d+\.)attn\.learn_scale", r"\1attention.scale"),
            (r"(decoder\.\d+\.)attn(\.(?:q|kv|proj)\..*)", r"\1attention\2"),
            (r"(decoder\.\d+\.(?:norm[12]|mlp)\..*)", r"\1"),
        ),
    )

    def __init__(self, config: Config) -> None:
        super().__init__(config)
        if not self.config.prototypes:
            refuse_idle(self, ("coherence",), "prototypes 0")

    def steps(self, images: int) -> int:
        """Return the iterations of 200 epochs, each without its last incomplete batch, or those given."""
        return length(self.config, images)

    def features(self, blocks: Mapping[int, Tensor], info: EncoderInfo) -> dict[str, Tensor]:
        """Return each group's mean block output without class and register tokens, float [B, h*w, dim]."""
        return {name: tokens[:, info.prefix :] for name, tokens in super().features(blocks, info).items()}

    def build(self, info: EncoderInfo) -> Former:
        """Return prototypes, extractor, bottleneck and decoder, freshly initialised."""
        return Former(self.config, info, self.decoder_groups)

    def loss(self, module: Former, batch: Batch, step: int) -> Tensor:
        """Return the mean over images and groups of 1 - cosine between whole maps, and the weighted coherence loss.

        Soft mining leaves this value alone: it scales the gradient of each point of the decoder's maps.
        """
        pairs, prototypes = self._rebuilt(module, batch)
        for target, output in pairs:
            mine_softly(target, output, self.config.soft_mining)
        loss = self._discrepancy(pairs).mean()
        if prototypes is None or not self.config.coherence:
            return loss
        return loss + self.config.coherence * coherence_loss(self._fused(batch), prototypes)

    def anomaly(self, module: Former, batch: Batch, info: EncoderInfo, size: int) -> Prediction:
        """Return smoothed maps of the mean cosine distance, and the mean of each map's highest pixels."""
        return self._read_off(self._rebuilt(module, batch)[0], info, size)

    def _rebuilt(self, module: Former, features: Mapping[str, Tensor]) -> tuple[list[Pair], Tensor | None]:
        rebuilt, prototypes = module(self._fused(features))
        targets = [to_grid(mean, 0, module.grid).detach() for mean in self._means(features)]
        return list(zip(targets, rebuilt, strict=True)), prototypes


def coherence_loss(patches: Tensor, prototypes: Tensor) -> Tensor:
    """Return the mean over all patches [B, N, dim] of 1 - cosine to the nearest of their image's [B, M, dim]."""
    device = "cpu" if patches.is_meta else patches.device.type  # autocast knows no meta device
    with torch.autocast(device, enabled=False):
        similar = F.normalize(patches.float(), dim=-1) @ F.normalize(prototypes.float(), dim=-1).transpose(1, 2)
    return (1.0 - similar.amax(dim=-1)).mean()


def mine_softly(target: Tensor, output: Tensor, power: float) -> None:
    """Hook `output` so that the gradient of each point is multiplied by (m / mean m)^power.

    Args:
        target: encoder map [B, C, h, w], without gradient.
        output: decoder map [B, C, h, w]; m is its points' cosine distance, of which the mean is taken over the batch.
        power: 0 for no hook.
    """
    if not (power and output.requires_grad):
        return
    with torch.no_grad():
        distance = cosine_distance(target, output)
        mean = distance.mean()
        weight = torch.where(mean > 0, (distance / mean) ** power, 1.0).unsqueeze(1).to(output.dtype)
    output.register_hook(lambda gradient: gradient * weight)  # type: ignore[no-untyped-call]
