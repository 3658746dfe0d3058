"""Dinomaly: The Less Is More Philosophy in Multi-Class Unsupervised Anomaly Detection.

Jia Guo, Shuai Lu, Weihang Zhang, Fang Chen, Huiqi Li, Hongen Liao. CVPR 2025, arXiv 2405.14325.
Official code: github.com/guojiajeremy/Dinomaly, read at commit c5c76d0; "code" below means it.
Sections are the paper's.

A frozen DINOv2 (with registers) sees the image; the mean of eight of its block outputs goes through an MLP with dropout
and a decoder of eight linear-attention blocks, which learns to give back the mean of the shallow and of the deep four
blocks on normal images. Where it fails to, the image is anomalous.

Differences from the official code:
- The encoder's two group means are computed once and stored; the bottleneck's input is derived from them. Same numbers
  up to float rounding.
- The hard-mining threshold takes at least one point; the code's count becomes 0 on tiny batches, and indexing fails.
- Layers of encoders other than the 12- and 24-block DINOv2 can be set; the code names two of them only.
- Pixels are normalised as the encoder was trained; the code takes ImageNet's mean and std for every encoder, which is
  the same for all that it has but BEiT.
- Masks are binarised (any non-zero value) before they are resized; the code resizes the grey values, which is the same
  for masks of 0 and 255. Where an image has several masks (MVTec LOCO) their union counts; the code reads the first.
- Deterministic seeding, precision, gradient clipping and batching are the harness's.

The ablations of the paper and its preprint are settings: `dropout` (0 = off) or `jitter` for the noisy bottleneck,
`attention` and `neighbour_mask` for the spatial mixer, `constraint` (or free `groups`) for the loose constraint,
`hard_mining` (0 = off) for the loose loss, `encoder` and `input_size`. Not among them: the convolutional mixers,
layer-to-cat-layer (its projection is not described), and foundations that timm does not hold as plain ViTs (BEiTv2,
D-iGPT, iBOT, MoCoV3).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar, Literal, cast

import torch
from torch import Tensor, nn
from typing_extensions import TypeVar

from bench.api import Batch, EncoderInfo, EncoderRequest, Prediction, Protocol, Released, sourced
from bench.encoders import catalog
from bench.errors import UsageError
from bench.protocol import SEVEN

from ._groups import LAYERS, Beta, GroupConfig, GroupReconstruction, Groups, Pair, Position, by_dinos_rule
from ._reconstruction import Reconstructor
from ._switches import refuse_idle
from ._vit import cosine_distance, to_grid

EVERY = {"layer-to-layer": 1, "layer-to-layer-2": 2, "layer-to-layer-4": 4}
"""Of how many layers one is a target, in the preprint's table 5."""
ADVISED_EPS = 1e-6
"""Of linear attention, where a dataset gives NaN; the official README."""


class Config(GroupConfig):
    """Dinomaly's settings; defaults are the official multi-class recipe for MVTec-AD and VisA."""

    encoder: str = sourced("vit_base_patch14_reg4_dinov2.lvd142m", "section 4.1", "frozen ViT, by timm name")
    input_size: int | None = sourced(
        None, "section 4.1: 392 for /14; preprint A.3: 448 for /16", "input side in pixels; null = 28 patches", gt=0
    )
    position: Position = sourced(
        "auto",
        "code",
        "how position embeddings are resized; auto = by DINO's own rule where the code has the encoder (DINOv2, DINO, "
        "MAE, DeiT), else as timm does",
    )
    layers: tuple[int, ...] | None = sourced(
        None, "code; section 3.1 (eight middle-level layers)", "encoder blocks, from 0; null = by depth"
    )
    constraint: Literal["groups", "1-group", "layer-to-layer", "layer-to-layer-2", "layer-to-layer-4"] = sourced(
        "groups",
        "section 3.4; preprint table 5 (which layers the sparse ones take is ours: the shallowest of each 2 or 4)",
        "what is rebuilt: the groups below, all layers as one, or single layers (every one, every 2nd, every 4th)",
    )
    groups: Groups = sourced(
        ((0, 1, 2, 3), (4, 5, 6, 7)), "section 3.4, code", "places in `layers` that are averaged into each group"
    )
    decoder_groups: Groups = sourced(
        ((0, 1, 2, 3), (4, 5, 6, 7)),
        "code",
        "places among the decoder's blocks, last block first, averaged to rebuild each group",
    )
    decoder_depth: int = sourced(8, "section 3.1", "blocks of the decoder", gt=0)
    dropout: float = sourced(
        0.2, "section 4.1", "noisy bottleneck's dropout: its input, hidden layer and output; 0 = noiseless", ge=0, lt=1
    )
    jitter: float = sourced(
        0.0,
        "preprint table A6, after UniAD",
        "scale of Gaussian noise on the bottleneck's input; 0 = none",
        ge=0,
    )
    mlp_ratio: float = sourced(4.0, "code", "hidden width over width, bottleneck and decoder", gt=0)
    norm_eps: float = sourced(1e-8, "code", "epsilon of the decoder's LayerNorms", gt=0)
    attention: Literal["linear", "softmax"] = sourced("linear", "section 3.3", "the decoder's spatial mixer")
    neighbour_mask: int = sourced(
        0, "preprint table A5, after UniAD", "odd side of the patch square hidden from each query; 0 = no mask", ge=0
    )
    attention_eps: float = sourced(
        0.0, "code; its README advises 1e-6 if a dataset gives NaN", "added to linear attention's denominator", ge=0
    )
    init_std: float = sourced(0.01, "code", "standard deviation of initial Linear weights, cut at three times it", gt=0)
    hard_mining: float = sourced(0.9, "section 3.4", "share of easy points whose gradient shrinks; 0 = off", ge=0, le=1)
    hard_mining_steps: int = sourced(
        1000, "section 3.4, code (the preprint's 500 is not in the code)", "steps until that share is reached", gt=0
    )
    hard_mining_factor: float = sourced(0.1, "section 3.4", "what those points' gradient is multiplied by", ge=0)
    steps: int = sourced(10_000, "section 4.1 (MVTec-AD, VisA)", "training iterations", ge=0)
    batch_size: int = sourced(16, "code", "images a step", gt=0)
    lr: float = sourced(2e-3, "section 4.1", "peak learning rate", gt=0)
    final_lr: float = sourced(2e-4, "preprint A.2, code", "learning rate that the cosine ends at", ge=0)
    warmup: int = sourced(100, "preprint A.2, code", "steps of linear warm-up from 0", ge=0)
    weight_decay: float = sourced(1e-4, "section 4.1", "decoupled, on every trainable tensor", ge=0)
    betas: tuple[Beta, Beta] = sourced((0.9, 0.999), "section 4.1", "decay of StableAdamW's moments")
    eps: float = sourced(1e-10, "preprint A.2, code (multi-class scripts)", "StableAdamW's epsilon", gt=0)
    amsgrad: bool = sourced(True, "section 4.1", "use the running maximum of the second moment")
    clip_norm: float = sourced(0.1, "code", "global gradient-norm clip", gt=0)
    smoothing_sigma: float = sourced(4.0, "code", "sigma in pixels of the map's 5x5 Gaussian", gt=0)
    score_share: float = sourced(
        0.01, "preprint A.2", "share of the highest map pixels averaged to the image score", gt=0, le=1
    )

    @classmethod
    def __pydantic_init_subclass__(cls, **kwargs: Any) -> None:
        """Say of what a later method takes over that its source is Dinomaly's: section 4.1 is another paper's there."""
        super().__pydantic_init_subclass__(**kwargs)
        for name in cls.model_fields.keys() - vars(cls)["__annotations__"].keys():
            field = cls.model_fields[name]
            source = cast("dict[str, str]", field.json_schema_extra)["source"]
            field.json_schema_extra = {"source": f"Dinomaly: {source.removeprefix('Dinomaly: ')}"}


ConfigT = TypeVar("ConfigT", bound=Config, covariant=True)
ModuleT = TypeVar("ModuleT", bound=nn.Module)


class Reconstruction(GroupReconstruction[ConfigT, ModuleT]):
    """What Dinomaly, dual student and Dinomaly2 share: constraints, spatial mixers, hard mining."""

    def encoder(self) -> EncoderRequest:
        """Return the request; see `GroupReconstruction.encoder`."""
        wanted, config = super().encoder(), self.config
        native = catalog.describe(config.encoder)
        side = wanted.input_size // native.patch
        if not native.prefix and config.neighbour_mask // 2 >= side / 2:
            raise UsageError(
                f"{self.name}.neighbour_mask {config.neighbour_mask} hides all {side}x{side} patches from the middle "
                f"one, and encoder '{config.encoder}' has no other tokens. Take a smaller odd number, or 0 for no mask"
            )
        return wanted

    @property
    def revision(self) -> str:
        """What is computed otherwise than the same settings once did, see `Method.revision`."""
        config, found = self.config, []
        if config.position == "auto" and by_dinos_rule(config.encoder) and "dinov2" not in config.encoder:
            found.append("positions by DINO's rule")
        if config.attention == "softmax" and config.neighbour_mask:
            found.append("mask after the softmax")
        return ", ".join(found)

    def remedy(self) -> str:
        """Return the official README's advice, where it was not taken yet."""
        config = self.config
        untried = config.attention == "linear" and config.attention_eps < ADVISED_EPS
        return f"--set {self.name}.attention_eps={ADVISED_EPS:g}" if untried else ""

    def _pairs(self, module: Reconstructor, features: Mapping[str, Tensor], step: int | None = None) -> list[Pair]:
        """Return by group the encoder's map and the decoder's; hard mining acts on the latter from here on.

        Args:
            module: bottleneck and decoder.
            features: as `features` returns them.
            step: iteration, from 0, that hard mining stands at; None for none.
        """
        config, rebuilt = self.config, module(self._fused(features))
        reached = 0.0 if step is None else config.hard_mining * step / config.hard_mining_steps
        pairs = []
        for mean, output in zip(self._means(features), rebuilt, strict=True):
            expected = to_grid(self._target(mean, module.prefix), 0, module.grid).detach()
            _shrink_easy(expected, output, min(reached, config.hard_mining), config.hard_mining_factor)
            pairs.append((expected, output))
        return pairs

    def _target(self, mean: Tensor, prefix: int) -> Tensor:
        """Return what is rebuilt of a group's mean tokens [B, prefix + h*w, dim]: [B, h*w, dim]."""
        return mean[:, prefix:]

    def _paired(self) -> tuple[Groups, Groups]:
        config = self.config
        if config.constraint == "groups":
            return config.groups, config.decoder_groups
        refuse_idle(self, ("groups", "decoder_groups"), f"constraint {config.constraint}")
        # every published list of layers is as long as any other
        count = len(config.layers or LAYERS[12])
        if config.constraint == "1-group":
            return (tuple(range(count)),), (tuple(range(config.decoder_depth)),)
        # from the shallowest layer on: the last decoder block faces it, and would otherwise not be trained
        single = tuple((place,) for place in range(0, count, EVERY[config.constraint]))
        return single, single

    def _check(self) -> None:
        super()._check()
        mask = self.config.neighbour_mask
        if mask and mask % 2 == 0:
            raise UsageError(
                f"{self.name}.neighbour_mask {mask} has no middle patch: it must be odd, for example {mask - 1} or "
                f"{mask + 1}, or 0 for no mask"
            )


class Dinomaly(Reconstruction[Config, Reconstructor]):
    """Reconstruction of frozen features through a noisy bottleneck, with loose group-wise targets."""

    name = "dinomaly"
    family = "reconstruction"
    encoders = ("vit",)
    paper = Protocol(
        "paper:dinomaly",
        crop=392 / 448,
        mask_rule="dinomaly",
        metrics=(*SEVEN[:-1], "pixel/aupro@0.3:grid200"),
    )
    released = Released(
        source="as github.com/guojiajeremy/Dinomaly links them",
        encoder="encoder.",
        names=(
            (r"bottleneck\.0\.(fc[12]\..*)", r"bottleneck.\1"),
            (r"(decoder\.\d+\.)attn(\..*)", r"\1attention\2"),
            (r"(decoder\.\d+\.(?:norm[12]|mlp)\..*)", r"\1"),
        ),
    )
    # section 4.1; code: the scripts of one model a class, whose steps preprint A.2 states too
    overrides: ClassVar[Mapping[str, Mapping[str, Any]]] = {
        "realiad": {"dropout": 0.4, "steps": 50_000},
        "single": {"steps": 5_000},
        "realiad/single": {"dropout": 0.2},
        **{f"{name}/single": {"eps": 1e-8} for name in ("mvtec", "visa", "mpdd")},
    }

    def build(self, info: EncoderInfo) -> Reconstructor:
        """Return the bottleneck and decoder, freshly initialised."""
        return Reconstructor(self.config, info, self.decoder_groups)

    def loss(self, module: Reconstructor, batch: Batch, step: int) -> Tensor:
        """Return the mean over images and groups of 1 - cosine between whole maps, flattened over C, h and w.

        Hard mining leaves this value alone: it shrinks the gradient of points that are rebuilt well already.
        """
        return self._discrepancy(self._pairs(module, batch, step)).mean()

    def anomaly(self, module: Reconstructor, batch: Batch, info: EncoderInfo, size: int) -> Prediction:
        """Return smoothed maps of the mean cosine distance, and the mean of each map's highest pixels."""
        return self._read_off(self._pairs(module, batch), info, size)


def _shrink_easy(target: Tensor, output: Tensor, share: float, factor: float) -> None:
    """Hook `output` so that its easiest points pass only `factor` of their gradient on.

    Args:
        target: encoder map [B, C, h, w], without gradient.
        output: decoder map [B, C, h, w].
        share: share of points, over the whole batch, that count as easy.
        factor: what their gradient is multiplied by.
    """
    if not (share and output.requires_grad):
        return
    with torch.no_grad():
        distance = cosine_distance(target, output)
        # floor of a float product, as published: 12,544 points at a share of 0.9 keep 1254
        count = max(1, int(distance.numel() * (1.0 - share)))
        threshold = distance.flatten().topk(count).values[-1]
        weight = torch.ones_like(distance).masked_fill(distance < threshold, factor).unsqueeze(1).to(output.dtype)
    output.register_hook(lambda gradient: gradient * weight)  # type: ignore[no-untyped-call]
