"""Catalogue of frozen encoders and their shapes; needs no weights, networks are laid out on the meta device.

Every timm name works whose network is a plain ViT (timm's VisionTransformer, or its Eva in DINOv3's form: rotary
positions and no others) or a CNN with staged features. Names that
end in `.bench` are encoders embedded in this package (encoders/embedded/<stem>.safetensors); their layout is read off
the tensor shapes in the file, so that file and description cannot disagree.
"""

from __future__ import annotations

import difflib
from collections.abc import Sequence
from dataclasses import replace
from functools import lru_cache
from pathlib import Path
from typing import Any

import timm
import torch
from safetensors import safe_open
from timm.models.eva import Eva
from timm.models.resnet import ResNet
from timm.models.vision_transformer import VisionTransformer
from torch import nn

from bench.api import EncoderInfo, EncoderRequest
from bench.errors import UsageError, WeightsError

EMBEDDED = Path(__file__).parent / "embedded"
SUFFIX = ".bench"
IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_STD = (0.229, 0.224, 0.225)


def embedded_file(name: str) -> Path | None:
    """Return the file of an encoder embedded in this package; None for every other name."""
    if not name.endswith(SUFFIX):
        return None
    path = EMBEDDED / f"{name.removesuffix(SUFFIX)}.safetensors"
    return path if path.is_file() else None


def embedded() -> list[str]:
    """Return the names of the encoders that are in this package."""
    return sorted(f"{path.stem}{SUFFIX}" for path in EMBEDDED.glob("*.safetensors"))


def names() -> list[str]:
    """Return every encoder name: the embedded ones first, then all that timm has weights for."""
    return [*embedded(), *timm.list_models(pretrained=True)]


def check(name: str) -> None:
    """Raise UsageError, with the nearest names, unless `name` is a known encoder."""
    if embedded_file(name) is not None:
        return
    architecture, _, tag = name.partition(".")
    known = timm.is_model(architecture)
    if known and tag:
        known = name in timm.list_models(f"{architecture}.*", pretrained=True)
    if known:
        return
    near = difflib.get_close_matches(name, names(), n=4, cutoff=0.6)
    if not near and timm.is_model(architecture):
        near = timm.list_models(f"{architecture}*", pretrained=True)[:4]
    hint = f" Did you mean: {', '.join(near)}?" if near else ""
    raise UsageError(
        f"unknown encoder '{name}'.{hint} Encoders are timm model names with their weights' tag "
        f"(architecture.tag) or the embedded names ending in '{SUFFIX}'."
    )


def create(name: str, input_size: int | None = None) -> nn.Module:
    """Return the untrained network without classifier, on torch's current default device.

    Args:
        name: encoder by catalogue name.
        input_size: side of the input in pixels, which fixes the ViT's position grid; None for the native size.

    Raises:
        UsageError: unknown name.
    """
    check(name)
    options: dict[str, Any] = {"num_classes": 0}
    if embedded_file(name) is not None or _family(name) == "vit":
        if input_size is not None:
            options["img_size"] = input_size
        if torch.get_default_device().type == "meta" and not _is_eva(name):
            # there are no values, yet timm's ways to them take most of the time; Eva has no such switch
            options["weight_init"] = "skip"
    embedded = embedded_file(name)
    if embedded is not None:
        return VisionTransformer(**_embedded_layout(embedded) | options)
    module: nn.Module = timm.create_model(name, pretrained=False, **options)
    return module


@lru_cache(maxsize=64)
def describe(name: str, input_size: int | None = None, blocks: tuple[int, ...] = ()) -> EncoderInfo:
    """Return the shape of an encoder at an input size, without any weights.

    Args:
        name: encoder by catalogue name.
        input_size: side of the square input in pixels; None for the size the encoder was trained at.
        blocks: requested blocks; only a CNN's `channels`, `dim`, `patch` and `grid` depend on them.

    Raises:
        UsageError: the name is unknown, its kind of network is not supported, or the size or blocks do not fit it.
    """
    with torch.device("meta"):
        module: Any = create(name)
    mean, std, native = _statistics(name, module)
    info = EncoderInfo(
        name=name,
        family="vit" if _is_vit(module) else "cnn",
        dim=0,
        depth=0,
        heads=0,
        patch=0,
        prefix=0,
        grid=(0, 0),
        input_size=input_size or native,
        mean=mean,
        std=std,
    )
    info = _describe_vit(module, info) if info.family == "vit" else _describe_cnn(module, info, blocks)
    # a CNN may be trained at a size that its strides do not divide
    if input_size is not None and (input_size <= 0 or input_size % info.patch):
        lower = max(info.input_size // info.patch, 1) * info.patch
        raise UsageError(
            f"input size {info.input_size} does not fit encoder '{name}': it must be a multiple of {info.patch}, "
            f"for example {lower} or {lower + info.patch}"
        )
    _check_blocks(info, blocks)
    side = info.input_size // info.patch
    return replace(info, grid=(side, side))


def requested(request: EncoderRequest) -> EncoderInfo:
    """Return the shape and pixel statistics of an encoder as a method asks for it. Raises as `describe`."""
    info = describe(request.name, request.input_size, request.blocks)
    return replace(info, mean=IMAGENET_MEAN, std=IMAGENET_STD) if request.statistics == "imagenet" else info


def bytes_of(name: str) -> int:
    """Return about how large the weights file is: the backbone in float32. Raises UsageError for an unknown name."""
    with torch.device("meta"):
        return sum(4 * parameter.numel() for parameter in create(name).parameters())


@lru_cache(maxsize=64)
def has_class_token(name: str) -> bool:
    """Return whether the encoder's first token is a class token. Raises UsageError for an unknown name."""
    with torch.device("meta"):
        return getattr(create(name), "cls_token", None) is not None


@lru_cache(maxsize=64)
def gives_attention(name: str) -> bool:
    """Return whether the class token's attention can be read: of a plain ViT that has one. Raises as above."""
    with torch.device("meta"):
        plain = isinstance(create(name), VisionTransformer)
    return plain and has_class_token(name)


@lru_cache(maxsize=64)
def is_resnet(name: str) -> bool:
    """Return whether the encoder is a ResNet, whose stages end in a ReLU. Raises UsageError for an unknown name."""
    with torch.device("meta"):
        return isinstance(create(name), ResNet)


@lru_cache(maxsize=64)
def strides(name: str) -> tuple[int, ...]:
    """Return the input pixels a step of every stage of a CNN. Raises UsageError for an unknown name."""
    with torch.device("meta"):
        return tuple(stage["reduction"] for stage in _stages(create(name)))


def stages_at(name: str, wanted: Sequence[int]) -> tuple[int, ...] | None:
    """Return the last stage of a CNN at each of the wanted strides; None if it lacks one. Raises as `strides`."""
    found = {stride: index for index, stride in enumerate(strides(name))}
    return tuple(found[stride] for stride in wanted) if all(stride in found for stride in wanted) else None


def folded_parameters(info: EncoderInfo) -> int:
    """Return how many parameters of the official checkpoint timm's layout does not hold.

    DINOv2 carries a mask token, used in its own pre-training only, which timm drops. With registers timm also adds the
    class token's position into the class token. Published parameter counts include both.
    """
    if info.family != "vit" or "dinov2" not in info.name:
        return 0
    return info.dim * (2 if info.prefix > 1 else 1)


@lru_cache(maxsize=64)
def _skeleton(name: str) -> nn.Module:
    """Return a network of timm's without values, at its native size."""
    with torch.device("meta"):
        module: nn.Module = timm.create_model(name, pretrained=False)
    return module


def _is_eva(name: str) -> bool:
    return embedded_file(name) is None and isinstance(_skeleton(name), Eva)


def _family(name: str) -> str:
    return "vit" if _is_vit(_skeleton(name)) else "cnn"


def rotates(module: nn.Module) -> bool:
    """Return whether a ViT tells positions by rotating queries and keys alone, as DINOv3 does."""
    mixed = getattr(module, "rope_mixed", False)
    return isinstance(module, Eva) and module.rope is not None and module.pos_embed is None and not mixed


def _is_vit(module: nn.Module) -> bool:
    return isinstance(module, VisionTransformer) or rotates(module)


def _describe_vit(module: Any, info: EncoderInfo) -> EncoderInfo:
    return replace(
        info,
        dim=module.embed_dim,
        depth=len(module.blocks),
        heads=module.blocks[0].attn.num_heads,
        patch=module.feature_info[0]["reduction"],
        prefix=module.num_prefix_tokens,
    )


def _describe_cnn(module: Any, info: EncoderInfo, blocks: tuple[int, ...]) -> EncoderInfo:
    stages = _stages(module)
    # attention networks other than the plain ViT have feature stages too, but their tokens follow other rules
    if not stages or not hasattr(module, "forward_intermediates") or hasattr(module, "pos_embed"):
        raise UsageError(
            f"encoder '{info.name}' is a {type(module).__name__}: supported are timm's plain VisionTransformer family, "
            f"DINOv3 and CNNs with staged features, for example vit_base_patch14_reg4_dinov2.lvd142m or wide_resnet50_2"
        )
    wanted = [stages[index] for index in blocks if index < len(stages)] or stages[-1:]
    return replace(
        info,
        dim=wanted[-1]["num_chs"],
        depth=len(stages),
        patch=wanted[-1]["reduction"],
        channels=tuple(stage["num_chs"] for stage in wanted),
    )


def _stages(module: Any) -> list[dict[str, Any]]:
    stages = getattr(module, "feature_info", None) or ()
    return list(getattr(stages, "info", stages))


def _check_blocks(info: EncoderInfo, blocks: Sequence[int]) -> None:
    first, last = (-1, info.depth) if info.family == "vit" else (0, info.depth - 1)
    if list(blocks) != sorted(set(blocks)) or any(not first <= index <= last for index in blocks):
        extra = (
            f", -1 for its input, {info.depth} for the normed output of the last one" if info.family == "vit" else ""
        )
        raise UsageError(
            f"blocks {list(blocks)} do not fit encoder '{info.name}': expected ascending indices "
            f"from 0 to {info.depth - 1}{extra}"
        )


def _statistics(name: str, module: Any) -> tuple[tuple[float, float, float], tuple[float, float, float], int]:
    """Return the encoder's pixel mean, standard deviation and native input side."""
    embedded = embedded_file(name)
    if embedded is not None:
        return IMAGENET_MEAN, IMAGENET_STD, _embedded_layout(embedded)["img_size"]
    settings = module.pretrained_cfg
    return tuple(settings["mean"]), tuple(settings["std"]), settings["input_size"][-1]


def _embedded_layout(path: Path) -> dict[str, Any]:
    """Return VisionTransformer arguments that the tensors of an embedded encoder's file ask for."""
    with safe_open(path, framework="numpy") as file:
        shapes = {key: tuple(file.get_slice(key).get_shape()) for key in file.keys()}  # noqa: SIM118
    try:
        dim, _, patch, _ = shapes["patch_embed.proj.weight"]
        tokens = shapes["pos_embed"][1] - shapes["cls_token"][1]
    except (KeyError, ValueError) as error:
        raise WeightsError(f"{path} is not a ViT in timm's layout: it has no usable tensor {error}") from error
    blocks = {int(key.split(".")[1]) for key in shapes if key.startswith("blocks.")}
    return {
        "img_size": round(tokens**0.5) * patch,
        "patch_size": patch,
        "embed_dim": dim,
        "depth": len(blocks),
        "num_heads": dim // 64,
    }
