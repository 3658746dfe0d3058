"""Stages of a frozen CNN, each of half the side of the one before: what the methods of the RD4AD lineage look at."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from torch import Tensor

from bench.api import EncoderRequest, Method
from bench.encoders import catalog
from bench.errors import UsageError

STRIDES = (4, 8, 16)
"""Strides of ResNet's first three stages."""
FITS = "Try wide_resnet50_2.racm_in1k, resnet18.tv_in1k, mobilenetv2_100 or tf_efficientnet_lite0.in1k"
SIDE = 256
"""Input side in pixels where none is given."""


def request(
    method: Method[Any, Any], given: Sequence[int] | None, wanted: tuple[int, int, int] = STRIDES, *, coarser: int = 0
) -> EncoderRequest:
    """Return the request for three stages of `method.config.encoder`.

    Args:
        method: as configured; its `stages`, `encoder`, `input_size` and `batch_size` are named in refusals.
        given: the stages asked for; None for those at the wanted strides.
        wanted: strides of the stages where none are asked for.
        coarser: how many pixels of the deepest stage, a side, are one of the coarsest map that BatchNorm sees, and it
            has to see more than one value a channel; 0 where there is none.

    Raises:
        UsageError: the encoder is no CNN, lacks a stage, or does not fit input size or batch.
    """
    config: Any = method.config
    name, encoder = method.name, config.encoder
    at = f"{', '.join(map(str, wanted[:-1]))} and {wanted[-1]}"
    if catalog.describe(encoder).family != "cnn":
        raise UsageError(
            f"{name} needs a CNN with stages at strides {at}, encoder '{encoder}' is a ViT. {FITS}; "
            "for ViTs there are vitad and dinomaly"
        )
    strides = catalog.strides(encoder)
    stages = tuple(given) if given else catalog.stages_at(encoder, wanted)
    if stages is None:
        raise UsageError(
            f"{name} needs stages at strides {at}, those of encoder '{encoder}' are at "
            f"{', '.join(map(str, strides))}. {FITS}"
        )
    catalog.describe(encoder, None, stages)  # refuses stages that the encoder does not have
    first, second, third = (strides[stage] for stage in stages)
    if (second, third) != (2 * first, 4 * first):
        raise UsageError(
            f"{name}.stages {stages} of encoder '{encoder}' are at strides {first}, {second} and {third}; "
            "expected each to be twice the one before"
        )
    size, coarsest = config.input_size or SIDE, max(coarser, 1) * third
    if size % coarsest:
        lower = max(size // coarsest, 1) * coarsest
        raise UsageError(
            f"input size {size} does not fit {name} on encoder '{encoder}': the coarsest map has stride {coarsest}, "
            f"so it must be a multiple of {coarsest}, for example {lower} or {lower + coarsest}"
        )
    if coarser and config.batch_size == 1 and size == coarsest and config.steps != 0:
        raise UsageError(
            f"{name} cannot train on single images of {size} pixels: BatchNorm would see one value a channel. "
            f"Expected {name}.batch_size of 2 or more, or {name}.input_size of {2 * coarsest} or more"
        )
    return EncoderRequest(name=encoder, blocks=stages, input_size=size)


def named(blocks: Mapping[int, Tensor]) -> dict[str, Tensor]:
    """Return stages as features: stage0, stage1, ... float [B, C, h, w], shallowest first."""
    return {f"stage{number}": blocks[index] for number, index in enumerate(sorted(blocks))}


def listed(features: Mapping[str, Tensor]) -> list[Tensor]:
    """Return the stages among features, shallowest first."""
    return [features[name] for name in sorted(features) if name.startswith("stage")]
