"""Checkpoints named and shaped as the authors of Dinomaly, INP-Former and ViTAD release theirs, from our modules."""

from __future__ import annotations

import re
from collections.abc import Mapping

import torch
from torch import Tensor

State = Mapping[str, Tensor]


def dinomaly(module: State, encoder: State) -> dict[str, Tensor]:
    """The state of the authors' network: `encoder.*`, `bottleneck.0.fc1.*`, `decoder.N.attn.qkv.*`, and no other."""
    found = {f"encoder.{key}": value for key, value in encoder.items()}
    for key, value in module.items():
        found[re.sub(r"^bottleneck\.", "bottleneck.0.", key.replace(".attention.", ".attn."))] = value
    return found


def inp_former(module: State, encoder: State) -> dict[str, Tensor]:
    """`encoder.*`, `prototype_token`, `aggregation.0.*`, `bottleneck.0.*`, `decoder.N.attn.{q,kv,proj,learn_scale}`."""
    found = {f"encoder.{key}": value for key, value in encoder.items()}
    for key, value in module.items():
        name = key.replace(".attention.scale", ".attn.learn_scale").replace(".attention.", ".attn.")
        for ours, theirs in (("prototypes", "prototype_token"), ("extractor.", "aggregation.0.")):
            name = name.replace(ours, theirs)
        found[re.sub(r"^bottleneck\.", "bottleneck.0.", name)] = value
    return found


def vitad(module: State, encoder: State) -> dict[str, Tensor]:
    """`net_t.*`, `net_fusion.fc.*`, `net_s.*` in timm's names, with what ADer's decoder carries and never runs."""
    dim = module["position"].shape[-1]
    found = {f"net_t.{key}": value for key, value in encoder.items()}
    for key, value in module.items():
        if key == "position":
            found["net_s.pos_embed"] = value
        elif key.startswith("fuser."):
            found[f"net_fusion.fc.{key.removeprefix('fuser.')}"] = value
        else:
            found[f"net_s.{key.replace('.attention.', '.attn.')}"] = value
    unused = {
        "cls_token": (1, 1, dim),
        "patch_embed.proj.weight": (dim, 3, 16, 16),
        "patch_embed.proj.bias": (dim,),
        "norm.weight": (dim,),
        "norm.bias": (dim,),
        "head.weight": (1000, dim),
        "head.bias": (1000,),
    }
    return found | {f"net_s.{key}": torch.randn(shape) for key, shape in unused.items()}


LAID_OUT = {"dinomaly": dinomaly, "inp_former": inp_former, "vitad": vitad}
