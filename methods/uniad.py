"""UniAD: A Unified Model for Multi-class Anomaly Detection.

Zhiyuan You, Lei Cui, Yujun Shen, Kai Yang, Xin Lu, Yu Zheng, Xinyi Le. NeurIPS 2022, arXiv 2206.03687. Two recipes
carry the name. `variant=official`, the default, is the authors' github.com/zhiyuanyou/UniAD, read at commit a5b9d9d;
"code" below means it. `variant=ader` is the benchmark's: configuration `uniad` of github.com/zhangzjn/ADer, read at
commit 902937a.

A frozen CNN sees the image. Four of its stages, resized to one grid and joined, are given back place by place by a
transformer that reads a jittered copy of them, may not look at a place's own neighbourhood, and asks by queries that
each decoder layer learns for itself. Where it fails to give the joined map back, the image is anomalous.

Differences from the official codes:
- EfficientNet's padding is timm's, as in ADer. The authors' encoder pads for 380 pixels whatever the input, so that its
  features at strides 8 and 16 are shifted by one input cell against timm's at 224.
- The checkpoint is the last; the authors' is the best of a hundred by the mean pixel AUROC on the test set. Their
  AUROC, which turns values below one half around, is not offered.
- Maps are resized straight to the evaluation size; the codes' is the input size, which is the evaluation size of both
  papers' protocols.
- Epochs are counted as iterations of whole batches. The authors keep an epoch's last incomplete batch, which counts
  here as a whole one. ADer: see `_ader.py`.
- The encoder ends with the last stage asked for. Published counts (24.5 M parameters) hold what follows as well, which
  both codes run for nothing.
- Jitter is drawn in every step; the code's probability of it is 1 in every configuration.
- Where an image has several masks (MVTec LOCO) their union counts.
- Seeding, precision, clipping and batching are the harness's.

The ablations of the paper's table 4 are settings: `neighbour_mask` (0 = none) and `masked` for the attention mask,
`queries` for the layer-wise queries, `jitter` (0 = none), also `strides`, `encoder_depth` and `decoder_depth`.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar, Literal

import torch
import torch.nn.functional as F
from torch import Generator, Tensor, nn

from bench.api import Batch, EncoderInfo, EncoderRequest, Prediction, Protocol, sourced
from bench.encoders import catalog
from bench.errors import UsageError

from . import _ader
from ._losses import FeatureLoss, feature_loss
from ._maps import upsampled_sum
from ._switches import refuse_idle
from ._vit import dropped, neighbour_mask, to_grid

Place = Literal["encoder", "queries", "decoder"]
PLACES: tuple[Place, ...] = ("encoder", "queries", "decoder")
"""The three kinds of attention; the code's enc, dec1 and dec2."""

ADER = {
    "input_size": 256,
    "neighbour_mask": 8,
    "epochs": 100,
    "decay_at": 0.8,
    "decay_vectors": False,
    "clip_norm": 5.0,
}
"""Values of ADer's configuration where they differ from the authors'."""
SEMANTIC = {"strides": (2, 4, 8, 16, 32), "batch_size": 16, "image_score": "mean"}
"""The code's values for CIFAR-10."""


class Config(_ader.StageRecipe):
    """UniAD's settings; defaults are the authors' for MVTec-AD, under `variant` ader those of ADer's benchmark."""

    variant: Literal["official", "ader"] = sourced(
        "official", "code, which ViTAD's and Dinomaly's tables take UniAD from", "whose recipe the other defaults are"
    )
    encoder: str = sourced("tf_efficientnet_b4.aa_in1k", "section 4.1, code", "frozen CNN, by timm name")
    input_size: int | None = sourced(224, "section 4.1; ADer: 256", "input side in pixels; null = 224", gt=0)
    strides: tuple[int, ...] = sourced(
        (2, 4, 8, 16), "section 4.1, code: stages 1 to 4; on CIFAR-10 1 to 5", "CNN stages to give back, by stride"
    )
    grid_stride: int = sourced(
        16, "section 4.1, code", "input pixels a place of the joined map, which has one side", gt=0
    )
    width: int = sourced(256, "section 4.1, code", "width of the transformer's tokens", gt=0)
    heads: int = sourced(8, "code", "attention heads", gt=0)
    hidden: int = sourced(1024, "code", "width between the two Linear layers of each block", gt=0)
    encoder_depth: int = sourced(4, "section 4.1, code", "transformer layers of the encoder", ge=0)
    decoder_depth: int = sourced(4, "section 4.1, code", "transformer layers of the decoder", gt=0)
    dropout: float = sourced(0.1, "code", "dropout of attention weights, hidden layers and branches", ge=0, lt=1)
    neighbour_mask: int = sourced(
        7,
        "section 3.2, code; ADer: 8, which its rule (half, rounded down, to each side) makes 9",
        "side of the square of places hidden from each query; an even one counts as the next odd; 0 = none",
        ge=0,
    )
    masked: tuple[Place, ...] = sourced(PLACES, "table 4, code", "attentions that the mask acts on")
    queries: Literal["layerwise", "first"] = sourced(
        "layerwise",
        "section 3.2; first: ours, after table 4",
        "who learns queries: each decoder layer, or the first alone, and the others take up the output before them",
    )
    jitter: float = sourced(
        20.0, "section 3.3, code", "scale of the noise on tokens, over their length by width; 0 = none", ge=0
    )
    loss: FeatureLoss = sourced("mse", "section 3.1, code; ViTAD's table XI", "distance that is trained on")
    epochs: int = sourced(1000, "section 4.1, code; ADer: 100", "times that each training image is seen", gt=0)
    steps: int | None = sourced(None, "both codes: in epochs", "training iterations; null = those of the epochs", ge=0)
    batch_size: int = sourced(8, "both codes (the authors' a GPU); on CIFAR-10 16", "images a step", gt=0)
    lr: float = sourced(
        1e-4,
        "section 4.1; ADer: 1e-4 * batch / 8",
        "initial learning rate; unless given, with the batch under `variant` ader",
        gt=0,
    )
    decay_at: float = sourced(
        0.801,
        "code: a step after 800 epochs that acts from the 802nd on; ADer: after 80 of 100",
        "share of the steps before the rate drops",
        gt=0,
        le=1,
    )
    decay: float = sourced(0.1, "section 4.1, both codes", "what the learning rate is multiplied by there", gt=0, le=1)
    weight_decay: float = sourced(1e-4, "section 4.1, both codes", "decoupled weight decay", ge=0)
    decay_vectors: bool = sourced(True, "code; ADer: false", "decay biases and norms as well")
    betas: tuple[float, float] = sourced((0.9, 0.999), "both codes", "decay of AdamW's moments")
    eps: float = sourced(1e-8, "both codes", "AdamW's epsilon", gt=0)
    clip_norm: float | None = sourced(0.1, "code; ADer: 5", "global gradient-norm clip; null = none", gt=0)
    image_score: Literal["max", "mean", "std"] = sourced(
        "max", "code: max on MVTec-AD, mean on CIFAR-10", "what of a map is the image's score"
    )
    score_pool: int = sourced(16, "both codes", "side in pixels of the mean whose maximum the score is", gt=0)

    @classmethod
    def implied(cls, values: Mapping[str, Any]) -> Mapping[str, Any]:
        """Return the variant's own values; the authors' learning rate does not follow the batch."""
        return {**super().implied(values), **ADER} if values.get("variant") == "ader" else {}


class Attention(nn.Module):
    """Multi-head attention with biases: softmax(q k^T / sqrt(width / heads)) v, then a Linear layer.

    The three input matrices start as one [3 * width, width] does under Xavier's uniform rule, as in torch's own.
    """

    def __init__(self, width: int, heads: int, dropout: float) -> None:
        super().__init__()
        self.heads, self.dropout = heads, dropout
        self.query, self.key, self.value = (nn.Linear(width, width) for _ in range(3))
        self.out = nn.Linear(width, width)

    def forward(
        self, query: Tensor, key: Tensor, value: Tensor, mask: Tensor | None, random: Generator | None
    ) -> Tensor:
        """Return float [B, T, width].

        Args:
            query: [B, T, width].
            key: [B, U, width].
            value: [B, U, width].
            mask: bool [T, U], True where a query may read a key; None lets each read all.
            random: draws the dropout of the attention weights; None drops nothing.
        """
        q, k, v = (
            layer(x).unflatten(-1, (self.heads, -1)).transpose(1, 2)
            for layer, x in ((self.query, query), (self.key, key), (self.value, value))
        )
        if random is None or not self.dropout:
            mixed = F.scaled_dot_product_attention(q, k, v, attn_mask=mask)
        else:
            logits = q @ k.transpose(-2, -1) * q.shape[-1] ** -0.5
            if mask is not None:
                logits = logits.masked_fill(~mask, -torch.inf)
            mixed = dropped(logits.softmax(dim=-1), self.dropout, random) @ v
        out: Tensor = self.out(mixed.transpose(1, 2).flatten(2))
        return out


class Layer(nn.Module):
    """Post-norm transformer layer: attentions one after the other, then two Linear layers with ReLU; all residual.

    Args:
        config: width, heads, hidden width and dropout.
        attentions: one in the encoder, two in the decoder.
    """

    def __init__(self, config: Config, attentions: int) -> None:
        super().__init__()
        width = config.width
        self.dropout = config.dropout
        self.attentions = nn.ModuleList(Attention(width, config.heads, config.dropout) for _ in range(attentions))
        self.expand, self.reduce = nn.Linear(width, config.hidden), nn.Linear(config.hidden, width)
        self.norms = nn.ModuleList(nn.LayerNorm(width) for _ in range(attentions + 1))

    def forward(
        self,
        x: Tensor,
        memories: list[Tensor | None],
        position: Tensor,
        masks: list[Tensor | None],
        random: Generator | None,
    ) -> Tensor:
        """Return [B, T, width].

        Args:
            x: [B, T, width].
            memories: what each attention reads, [B, T, width]; None for its own input.
            position: [T, width], added to queries and keys and never to values.
            masks: of each attention, see `Attention.forward`.
            random: draws the dropout; None drops nothing.
        """
        for attention, norm, memory, mask in zip(self.attentions, self.norms[:-1], memories, masks, strict=True):
            read = x if memory is None else memory
            x = norm(x + self._dropped(attention(x + position, read + position, read, mask, random), random))
        hidden = self._dropped(F.relu(self.expand(x)), random)
        out: Tensor = self.norms[-1](x + self._dropped(self.reduce(hidden), random))
        return out

    def _dropped(self, x: Tensor, random: Generator | None) -> Tensor:
        return dropped(x, self.dropout, random)


class Reconstructor(nn.Module):
    """Trainable part: jitter, transformer encoder, decoder with its own queries.

    Args:
        config: widths, depths, mask and noise.
        channels: of the joined map.
        grid: its rows and columns.
    """

    mask: Tensor | None

    def __init__(self, config: Config, channels: int, grid: tuple[int, int]) -> None:
        super().__init__()
        rows, columns = grid
        self.grid, self.scale, self.masked = grid, config.jitter, config.masked
        self.enter, self.leave = nn.Linear(channels, config.width), nn.Linear(config.width, channels)
        self.rows = nn.Parameter(torch.rand(rows, config.width // 2))
        self.columns = nn.Parameter(torch.rand(columns, config.width // 2))
        self.encoder = nn.ModuleList(Layer(config, 1) for _ in range(config.encoder_depth))
        self.decoder = nn.ModuleList(Layer(config, 2) for _ in range(config.decoder_depth))
        learned = config.decoder_depth if config.queries == "layerwise" else 1
        self.queries = nn.ParameterList(torch.randn(rows * columns, config.width) for _ in range(learned))
        self.norm = nn.LayerNorm(config.width)
        mask = neighbour_mask(config.neighbour_mask, 0, grid) if config.neighbour_mask else None
        self.register_buffer("mask", mask, persistent=False)
        for layer in self.modules():
            if isinstance(layer, nn.Linear):
                nn.init.xavier_uniform_(layer.weight)
                nn.init.zeros_(layer.bias)
        for layer in self.modules():
            if isinstance(layer, Attention):
                bound = (6.0 / (4 * config.width)) ** 0.5
                for part in (layer.query, layer.key, layer.value):
                    nn.init.uniform_(part.weight, -bound, bound)

    def forward(self, joined: Tensor, random: Generator | None = None) -> Tensor:
        """Return the joined map given back, float [B, C, h, w].

        Args:
            joined: [B, C, h, w].
            random: draws jitter and dropout; None for neither, as in evaluation.
        """
        tokens = joined.flatten(2).transpose(1, 2)
        if random is not None and self.scale:
            noise = torch.randn(tokens.shape, generator=random, device=tokens.device, dtype=tokens.dtype)
            tokens = tokens + noise * tokens.norm(dim=-1, keepdim=True) / tokens.shape[-1] * self.scale
        position = self._position()
        first, second, third = (self.mask if place in self.masked else None for place in PLACES)
        memory = self.enter(tokens)
        for layer in self.encoder:
            memory = layer(memory, [None], position, [first], random)
        previous, query = memory, memory
        for number, layer in enumerate(self.decoder):
            if number < len(self.queries):
                query = self.queries[number].repeat(len(memory), 1, 1)
            previous = query = layer(query, [memory, previous], position, [second, third], random)
        return to_grid(self.leave(self.norm(previous)), 0, self.grid)

    def _position(self) -> Tensor:
        """Return [h*w, width]: the column's part, then the row's."""
        rows, columns = self.grid
        return torch.cat([self.columns.repeat(rows, 1), self.rows.repeat_interleave(columns, dim=0)], dim=1)


class UniAD(_ader.EpochTraining[Config, Reconstructor]):
    """A transformer gives back a frozen CNN's joined stages without seeing each place's neighbourhood."""

    name = "uniad"
    family = "reconstruction"
    encoders = ("cnn",)
    paper = Protocol("paper:uniad", eval_size=224, mask_rule="nearest", label_rule="mask")
    variant_papers: ClassVar[Mapping[str, Protocol]] = {"ader": _ader.protocol("uniad")}
    overrides: ClassVar[Mapping[str, Mapping[str, Any]]] = dict.fromkeys(
        # the code has CIFAR-10; the other semantic sets are treated alike here
        ("cifar10", "cifar100", "fmnist", "view"),
        SEMANTIC,
    )

    def __init__(self, config: Config) -> None:
        super().__init__(config)
        if not self.config.neighbour_mask:
            refuse_idle(self, ("masked",), "neighbour_mask 0")
        if self.config.image_score != "max":
            refuse_idle(self, ("score_pool",), f"image_score {self.config.image_score}")

    @property
    def drops_last(self) -> bool:
        """Return whether an epoch ends with its last whole batch: in ADer."""
        return self.config.variant == "ader"

    def encoder(self) -> EncoderRequest:
        """Return the request: the stages at the strides asked for."""
        config = self.config
        native = catalog.describe(config.encoder)
        fits = "Try tf_efficientnet_b4.aa_in1k, tf_efficientnet_lite0.in1k or mobilenetv2_100"
        if native.family != "cnn":
            raise UsageError(
                f"uniad needs a CNN with stages at strides {_listed(config.strides)}, encoder '{config.encoder}' is a "
                f"ViT. {fits}; for ViTs there are vitad and dinomaly"
            )
        stages = catalog.stages_at(config.encoder, config.strides)
        if not stages or len(set(stages)) < len(stages):
            raise UsageError(
                f"uniad.strides {_listed(config.strides)} must each be that of another stage; those of encoder "
                f"'{config.encoder}' are {_listed(catalog.strides(config.encoder))}. {fits}"
            )
        size = config.input_size or 224
        catalog.describe(config.encoder, size, tuple(sorted(stages)))
        side, rest = divmod(size, config.grid_stride)
        if rest or side < 1:
            raise UsageError(
                f"uniad.grid_stride {config.grid_stride} does not divide the input size {size}. Expected for example 16"
            )
        reach, middle = config.neighbour_mask // 2, side // 2
        if config.neighbour_mask and reach >= middle:
            raise UsageError(
                f"uniad.neighbour_mask {config.neighbour_mask} hides the whole map of {side}x{side} from its middle. "
                f"Expected {max(2 * middle - 1, 0)} or less at input size {size}"
            )
        if config.width % (2 * config.heads):
            raise UsageError(
                f"uniad.width {config.width} does not split into {config.heads} uniad.heads of even width. Expected a "
                f"multiple of {2 * config.heads}"
            )
        return EncoderRequest(name=config.encoder, blocks=tuple(sorted(stages)), input_size=size)

    def features(self, blocks: Mapping[int, Tensor], info: EncoderInfo) -> dict[str, Tensor]:
        """Return the stages joined: `joined` float [B, C, h, w], the shallowest first, on the one grid."""
        side = info.input_size // self.config.grid_stride
        resized = [
            F.interpolate(blocks[index], size=(side, side), mode="bilinear", align_corners=True)
            for index in sorted(blocks)
        ]
        return {"joined": torch.cat(resized, dim=1)}

    def build(self, info: EncoderInfo) -> Reconstructor:
        """Return the transformer, freshly initialised."""
        side = info.input_size // self.config.grid_stride
        return Reconstructor(self.config, sum(info.channels), (side, side))

    def loss(self, module: Reconstructor, batch: Batch, step: int) -> Tensor:
        """Return the distance between the joined map and what is given back of its jittered copy."""
        joined = batch["joined"]
        return feature_loss(self.config.loss, joined, module(joined, batch.random))

    def anomaly(self, module: Reconstructor, batch: Batch, info: EncoderInfo, size: int) -> Prediction:
        """Return maps of the distance between both maps, unsmoothed, and of each its highest pooled mean."""
        joined = batch["joined"]
        maps = upsampled_sum([(module(joined).float() - joined.float()).norm(dim=1)], size)
        return Prediction(scores=self._scores(maps), maps=maps)

    def _scores(self, maps: Tensor) -> Tensor:
        if self.config.image_score == "mean":
            return maps.mean(dim=(1, 2))
        if self.config.image_score == "std":
            return maps.std(dim=(1, 2), correction=0)
        pool = min(self.config.score_pool, maps.shape[-1])
        return F.avg_pool2d(maps.unsqueeze(1), pool, stride=1).amax(dim=(1, 2, 3))

    def optimizer(self, module: Reconstructor) -> torch.optim.Optimizer:
        """Return AdamW, with decay on all tensors, or on none of one dimension."""
        config = self.config
        spared = 0.0 if not config.decay_vectors else config.weight_decay
        groups = [
            {"params": [one for one in module.parameters() if one.ndim > 1], "weight_decay": config.weight_decay},
            {"params": [one for one in module.parameters() if one.ndim <= 1], "weight_decay": spared},
        ]
        return torch.optim.AdamW(groups, lr=config.lr, betas=config.betas, eps=config.eps, fused=True)


def _listed(numbers: tuple[int, ...]) -> str:
    return ", ".join(map(str, numbers))
