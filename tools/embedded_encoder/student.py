"""The student: timm's plain ViT, its start values, its reading of parts of an image, and its export as safetensors."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save
from timm.models.vision_transformer import VisionTransformer
from torch import Tensor, nn

from .teacher import IMAGENET_MEAN, IMAGENET_STD

IMG_SIZE, PATCH, DEPTH, GRID = 128, 8, 12, 16
TAPS = (4, 7, 10)  # blocks, counted from 1, whose patch tokens get a dense target besides the last


def build(embed_dim: int) -> VisionTransformer:
    """The architecture, with timm's own random start."""
    return VisionTransformer(
        img_size=IMG_SIZE,
        patch_size=PATCH,
        embed_dim=embed_dim,
        depth=DEPTH,
        num_heads=embed_dim // 64,
        num_classes=0,
        class_token=True,
    )


@torch.no_grad()
def start_well(model: VisionTransformer, patches: Tensor) -> None:
    """Start values that spare a short training a plain ViT's slow beginning; patches: float32 [N, 192], normalised.

    Patch embedding = partly whitened principal components of real patches; positions = 2-D sines; residual branches
    are scaled down by depth; query-key products start near the identity and value-projection products near its
    negative, as trained ViTs have them (mimetic initialisation, Trockman and Kolter 2023).
    """
    dim, width = model.embed_dim, patches.shape[1]
    values, vectors = torch.linalg.eigh(torch.cov(patches.T.double()))
    scale = (values + values.sum() * 2e-3).rsqrt()
    rows = (vectors * scale).T.flip(0)[:dim].float()
    weight = torch.zeros(dim, width)
    weight[: len(rows)] = rows
    model.patch_embed.proj.weight.copy_(weight.view(dim, 3, PATCH, PATCH))
    model.patch_embed.proj.bias.copy_(-weight @ patches.mean(0))
    position_embedding(model)[:, 1:].copy_(0.5 * sines(dim))
    blocks: Any = model.blocks
    for block in blocks:
        query_key = torch.linalg.qr(torch.randn(dim, dim))[0] * 0.7
        block.attn.qkv.weight[:dim].copy_(query_key + torch.randn(dim, dim) * 0.3 / dim**0.5)
        block.attn.qkv.weight[dim : 2 * dim].copy_(query_key + torch.randn(dim, dim) * 0.3 / dim**0.5)
        value = torch.linalg.qr(torch.randn(dim, dim))[0]
        block.attn.qkv.weight[2 * dim :].copy_(value)
        block.attn.proj.weight.copy_(-0.3 * value.T + torch.randn(dim, dim) * 0.3 / dim**0.5)
        nn.init.normal_(block.mlp.fc1.weight, std=dim**-0.5)
        nn.init.normal_(block.mlp.fc2.weight, std=(4 * dim) ** -0.5 / (2 * DEPTH) ** 0.5)


def position_embedding(model: VisionTransformer) -> Tensor:
    """float32 [1, 257, D], the class token's first; timm types it as optional."""
    assert model.pos_embed is not None
    return model.pos_embed


def sines(dim: int) -> Tensor:
    """Two-dimensional sine-cosine positions, float32 [256, dim]."""
    place = torch.arange(GRID, dtype=torch.float32)
    rate = 10000 ** -(torch.arange(dim // 4) / (dim // 4))
    angle = place[:, None] * rate
    one = torch.cat([angle.sin(), angle.cos()], 1)
    rows = one[:, None].expand(GRID, GRID, -1)
    return torch.cat([rows, one[None].expand(GRID, GRID, -1)], -1).reshape(GRID * GRID, dim)


def tokens(model: VisionTransformer, x: Tensor, positions: Tensor) -> tuple[dict[int, Tensor], Tensor]:
    """Patch tokens of every block and the normed final sequence.

    x: float32 [B, 3, 8h, 8w]; positions: float32 [B or 1, h * w, D], the part of the position embedding to use.
    Returns {block: [B, h * w, D]} and [B, 1 + h * w, D].
    """
    seq = model.patch_embed.proj(x).flatten(2).transpose(1, 2) + positions
    assert model.cls_token is not None
    cls = (model.cls_token + position_embedding(model)[:, :1]).expand(len(seq), -1, -1)
    seq = torch.cat([cls.to(seq.dtype), seq], 1)
    tapped = {}
    for number, block in enumerate(model.blocks, start=1):
        seq = block(seq)
        tapped[number] = seq[:, 1:]
    return tapped, model.norm(seq)


def normalised(crops: Tensor) -> Tensor:
    """uint8 [B, H, W, 3] to float32 [B, 3, H, W] with ImageNet's mean and std."""
    mean, std = (torch.tensor(v, device=crops.device) for v in (IMAGENET_MEAN, IMAGENET_STD))
    return ((crops.float() / 255 - mean) / std).permute(0, 3, 1, 2).contiguous()


def export(state: Mapping[str, Tensor], path: Path, recipe_hash: str) -> str:
    """Writes the weights as float16 with what is needed to use them in the header, atomically; returns the sha256."""
    half = {key: value.detach().to("cpu", torch.float16).contiguous() for key, value in state.items()}
    dim = half["cls_token"].shape[-1]
    metadata = {
        "name": "vit_tiny_patch8_128.bench",
        "architecture": "timm.models.vision_transformer.VisionTransformer",
        "img_size": str(IMG_SIZE),
        "patch_size": str(PATCH),
        "embed_dim": str(dim),
        "depth": str(DEPTH),
        "num_heads": str(dim // 64),
        "num_classes": "0",
        "mean": " ".join(map(str, IMAGENET_MEAN)),
        "std": " ".join(map(str, IMAGENET_STD)),
        "licence": "Apache-2.0; see CARD.md for the images and teachers it was trained with",
        "recipe": recipe_hash,
    }
    data = _in_order(save(half, metadata))
    partial = path.with_suffix(".partial")
    partial.write_bytes(data)
    partial.replace(path)
    return hashlib.sha256(data).hexdigest()


def _in_order(data: bytes) -> bytes:
    """Return a safetensors file with the keys of its header sorted: the writer puts the metadata in any order."""
    length = int.from_bytes(data[:8], "little")
    header = json.dumps(json.loads(data[8 : 8 + length]), sort_keys=True, separators=(",", ":")).encode()
    # padded with spaces, so that the tensors begin at a multiple of eight bytes
    header += b" " * (-len(header) % 8)
    return len(header).to_bytes(8, "little") + header + data[8 + length :]
