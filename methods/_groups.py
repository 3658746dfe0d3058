"""Groups of a frozen ViT's blocks, rebuilt by a decoder: what Dinomaly and the methods that come from it share.

The encoder's eight middle blocks fall into groups, and the mean of each group's outputs is a target. A decoder gives
the targets back from the mean of all eight; where an image's maps differ, it is anomalous. What stands between, how it
is trained and with which loss is each method's own.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Annotated, Literal

import torch
import torch.nn.functional as F
from pydantic import Field
from torch import Tensor, nn
from typing_extensions import TypeVar

from bench.api import EncoderInfo, EncoderRequest, MethodConfig, Prediction, Trained
from bench.encoders import catalog
from bench.errors import UsageError

from ._maps import gaussian_5x5, top_mean
from ._stable_adamw import StableAdamW
from ._vit import cosine_distance

Groups = tuple[tuple[int, ...], ...]
Pair = tuple[Tensor, Tensor]
"""Float [B, C, h, w] twice: a map of the encoder's, without gradient, and the decoder's reconstruction of it."""
Position = Literal["auto", "dinov2", "timm"]
Beta = Annotated[float, Field(ge=0, lt=1)]

LAYERS = {12: tuple(range(2, 10)), 24: tuple(range(4, 20, 2))}
"""Encoder blocks (0-based) by encoder depth; Dinomaly's code; its paper only says eight middle-level layers."""
PATCHES = 28
"""Feature map side for every backbone; Dinomaly's preprint A.3, pre-trained foundations."""


class GroupConfig(MethodConfig):
    """Settings that these methods have in common; each method's file gives their values and sources."""

    encoder: str
    position: Position
    layers: tuple[int, ...] | None
    """Encoder blocks, from 0; None for those of `LAYERS`."""
    groups: Groups
    """Places in the layers that are averaged into each target."""
    decoder_groups: Groups
    """Places among the decoder's blocks, last block first, that are averaged to rebuild each target."""
    decoder_depth: int
    lr: float
    final_lr: float
    warmup: int
    weight_decay: float
    betas: tuple[Beta, Beta]
    eps: float
    amsgrad: bool
    clip_norm: float
    smoothing_sigma: float
    score_share: float


ConfigT = TypeVar("ConfigT", bound=GroupConfig, covariant=True)
ModuleT = TypeVar("ModuleT", bound=nn.Module)


class GroupReconstruction(Trained[ConfigT, ModuleT]):
    """Targets, distances, maps, optimizer and schedule; what is trained is a method's own."""

    def __init__(self, config: ConfigT) -> None:
        super().__init__(config)
        self.clip_norm = self.config.clip_norm
        self.groups, self.decoder_groups = self._paired()
        self._check()

    def encoder(self) -> EncoderRequest:
        """Return the request: 28 patches a side and the published blocks unless the configuration says otherwise."""
        config = self.config
        native = catalog.describe(config.encoder)
        if native.family != "vit":
            raise UsageError(
                f"{self.name} needs a ViT, encoder '{config.encoder}' is a CNN. "
                f"Try vit_base_patch14_reg4_dinov2.lvd142m"
            )
        layers = self._layers(native.depth)
        members = sorted(index for group in self.groups for index in group)
        if self.groups == config.groups and members != list(range(len(layers))):
            raise UsageError(
                f"{self.name}.groups {config.groups} must name each of the {len(layers)} places in layers "
                f"{layers} exactly once"
            )
        position = config.position
        if position == "auto":
            position = "dinov2" if by_dinos_rule(config.encoder) else "timm"
        size = config.input_size or PATCHES * native.patch
        return EncoderRequest(name=config.encoder, blocks=layers, input_size=size, position=position)

    def features(self, blocks: Mapping[int, Tensor], info: EncoderInfo) -> dict[str, Tensor]:
        """Return each group's mean block output, all tokens kept: group0, group1, ... float [B, prefix + h*w, dim].

        Where the groups leave layers out, `fused` is the mean of all layers; else it follows from the groups.
        """
        ordered = [blocks[index] for index in self._layers(info.depth)]
        found = {
            f"group{number}": torch.stack([ordered[place] for place in group]).mean(dim=0)
            for number, group in enumerate(self.groups)
        }
        if sum(map(len, self.groups)) < len(ordered):
            found["fused"] = torch.stack(ordered).mean(dim=0)
        return found

    def optimizer(self, module: ModuleT) -> torch.optim.Optimizer:
        """Return StableAdamW over all trainable tensors, decay included on every one."""
        return self._stable_adamw([{"params": list(module.parameters())}])

    def learning_rate(self, step: int) -> float:
        """Return the rate: linear from 0 to the peak at the last warm-up step, then cosine to the final rate."""
        config = self.config
        if step < config.warmup:
            return config.lr * step / max(config.warmup - 1, 1)
        return self._cosine(step)

    def _stable_adamw(self, groups: list[dict[str, object]]) -> StableAdamW:
        config = self.config
        return StableAdamW(
            groups,
            lr=config.lr,
            betas=config.betas,
            eps=config.eps,
            weight_decay=config.weight_decay,
            amsgrad=config.amsgrad,
        )

    def _cosine(self, step: int) -> float:
        """Return the rate behind the warm-up: from the peak, half a cosine to the final one."""
        config = self.config
        assert config.steps is not None, "a schedule is asked of Method.settled"
        progress = (step - config.warmup) / max(config.steps - config.warmup, 1)
        return config.final_lr + 0.5 * (config.lr - config.final_lr) * (1.0 + math.cos(math.pi * progress))

    def _discrepancy(self, pairs: Sequence[Pair]) -> Tensor:
        """Return [B] in [0, 2], the mean over groups of 1 - cosine between an image's whole maps."""
        terms = [1.0 - torch.cosine_similarity(target.flatten(1), output.flatten(1), dim=1) for target, output in pairs]
        return torch.stack(terms).mean(dim=0)

    def _read_off(self, pairs: Sequence[Pair], info: EncoderInfo, size: int) -> Prediction:
        """Return maps at `size` pixels a side and the scores read off them."""
        distances = [
            F.interpolate(
                cosine_distance(target, output).unsqueeze(1),
                size=(info.input_size, info.input_size),
                mode="bilinear",
                align_corners=True,
            )
            for target, output in pairs
        ]
        mean = torch.stack(distances).mean(dim=0)
        mean = F.interpolate(mean, size=(size, size), mode="bilinear", align_corners=False)
        maps = gaussian_5x5(mean, self.config.smoothing_sigma).squeeze(1)
        return Prediction(scores=top_mean(maps, self.config.score_share).float(), maps=maps.float())

    def _layers(self, depth: int) -> tuple[int, ...]:
        layers = self.config.layers or LAYERS.get(depth)
        if layers is None:
            raise UsageError(
                f"{self.name} has no published layers for the {depth} blocks of encoder '{self.config.encoder}' "
                f"(only for {' and '.join(map(str, LAYERS))}). Set them: --set {self.name}.layers=[...]"
            )
        return layers

    def _means(self, features: Mapping[str, Tensor]) -> list[Tensor]:
        """Return the mean of each group's blocks, as `features` does."""
        return [features[f"group{number}"] for number in range(len(self.groups))]

    def _fused(self, features: Mapping[str, Tensor]) -> Tensor:
        """Return the mean of all stored blocks; where it is not kept, from the means of groups that differ in size."""
        if "fused" in features:
            return features["fused"]
        sizes = [len(group) for group in self.groups]
        means = zip(self._means(features), sizes, strict=True)
        return torch.stack([mean * (size / sum(sizes)) for mean, size in means]).sum(dim=0)

    def _paired(self) -> tuple[Groups, Groups]:
        """Return the encoder's groups (places in layers), the decoder's (places among its blocks, last one first)."""
        return self.config.groups, self.config.decoder_groups

    def _check(self) -> None:
        groups, decoder_groups, depth = self.groups, self.decoder_groups, self.config.decoder_depth
        if len(groups) != len(decoder_groups) or not all((*groups, *decoder_groups)):
            raise UsageError(
                f"{self.name}.groups and {self.name}.decoder_groups must hold equally many groups, none of them empty; "
                f"found {groups} and {decoder_groups}"
            )
        outside = [place for group in decoder_groups for place in group if not 0 <= place < depth]
        if outside:
            raise UsageError(
                f"{self.name}.decoder_groups names blocks {outside}; the decoder's {depth} blocks "
                f"count from 0 to {depth - 1}, last block first"
            )


def by_dinos_rule(encoder: str) -> bool:
    """Return whether Dinomaly's code has this encoder: its two ViT files resize positions by one rule, DINO's."""
    architecture, _, tag = encoder.partition(".")
    deit = architecture.startswith("deit_") and "distilled" not in architecture
    return "dinov2" in architecture or tag in ("dino", "mae") or deit
