"""Frozen encoders: images in, raw outputs of the requested blocks out."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any, Self

import torch
import torch.nn.functional as F
from timm.layers.pos_embed import resample_abs_pos_embed
from torch import Tensor, nn

from bench.api import BlockOutputs, EncoderInfo, EncoderRequest
from bench.encoders import catalog, digest, weights
from bench.encoders.attention import class_attention
from bench.errors import UsageError

DINOV2_OFFSET = 0.1
"""Added to the grid side before dividing by the native side; see `dinov2_positions`."""


class Encoder(nn.Module):
    """A pretrained network that gives the outputs of some of its blocks.

    Attributes:
        info: shape at the requested input size.
        blocks: requested block indices, ascending.
        memory_format: in which images go through, and maps come out: channels last for a CNN, whose convolutions are
            faster so on CPUs and on tensor cores; a network trained on its maps does well to take it over.
    """

    _mean: Tensor
    _std: Tensor

    def __init__(
        self,
        backbone: nn.Module,
        info: EncoderInfo,
        blocks: tuple[int, ...],
        norm: bool = False,
        attention: bool = False,
    ) -> None:
        super().__init__()
        self.memory_format = torch.channels_last if info.family == "cnn" else torch.contiguous_format
        self.backbone: Any = backbone.to(memory_format=self.memory_format)
        self.info = info
        self.blocks = blocks
        self.norm = norm
        self.attention = attention
        self.register_buffer("_mean", torch.tensor(info.mean).view(1, 3, 1, 1), persistent=False)
        self.register_buffer("_std", torch.tensor(info.std).view(1, 3, 1, 1), persistent=False)

    def normalised(self, images: Tensor) -> Tensor:
        """Return images, float [B, 3, S, S] in [0, 1], as the encoder expects them."""
        return (images - self._mean).div_(self._std)

    def outputs(self, images: Tensor) -> BlockOutputs:
        """Return the output of every requested block; blocks after the last requested one do not run.

        Args:
            images: float32 [B, 3, S, S], normalised with info.mean and info.std, S = info.input_size.

        Returns:
            block index -> float32 [B, prefix + h*w, dim] for a ViT: the residual stream after the block, class and
            register tokens first, without the final norm unless it was asked for; index info.depth is the last block's
            output after the final norm. For a CNN stage index -> float32 [B, C, h, w].
        """
        if not self.blocks:
            return BlockOutputs()
        images = images.contiguous(memory_format=self.memory_format)
        backbone = self.backbone
        if self.info.family == "cnn":
            maps = backbone.forward_intermediates(
                images, indices=list(self.blocks), intermediates_only=True, stop_early=True
            )
            return BlockOutputs(zip(self.blocks, maps, strict=True))
        outputs = BlockOutputs()
        tokens, turned = backbone._pos_embed(backbone.patch_embed(images)), {}
        if catalog.rotates(backbone):
            tokens, rope = tokens
            turned = {"rope": rope}
        else:
            tokens = backbone.patch_drop(tokens)
        tokens = backbone.norm_pre(tokens)
        if -1 in self.blocks:
            outputs[-1] = tokens
        for index, block in enumerate(backbone.blocks[: self.blocks[-1] + 1]):
            if self.attention and index in self.blocks:
                with class_attention(block.attn) as attended:
                    tokens = block(tokens, **turned)
                outputs.attention[index] = attended()
            else:
                tokens = block(tokens, **turned)
            if index in self.blocks:
                outputs[index] = backbone.norm(tokens) if self.norm else tokens
        if self.info.depth in self.blocks:
            outputs[self.info.depth] = backbone.norm(tokens)
        return outputs


class FrozenEncoder(Encoder):
    """An encoder that is never trained: always in evaluation mode, without gradients.

    Attributes:
        weights_sha256: hash of the weights file; empty for a network without weights.
    """

    def __init__(
        self,
        backbone: nn.Module,
        info: EncoderInfo,
        blocks: tuple[int, ...],
        weights_sha256: str,
        norm: bool = False,
        attention: bool = False,
    ) -> None:
        super().__init__(backbone.requires_grad_(False), info, blocks, norm, attention)
        self.weights_sha256 = weights_sha256
        self.eval()

    def train(self, mode: bool = True) -> Self:
        """Stay in evaluation mode whatever is asked, so that `model.train()` around it cannot wake dropout or BN."""
        return super().train(False)

    @torch.no_grad()
    def forward(self, images: Tensor) -> BlockOutputs:
        """Return the output of every requested block; see `Encoder.outputs`."""
        return self.outputs(images)

    def trunk(self) -> Trunk:
        """Return a copy to be trained, with the same weights."""
        return Trunk(copy.deepcopy(self.backbone), self.info, self.blocks, self.norm)


class Trunk(Encoder):
    """A trainable copy of an encoder, up to its last requested block. It starts in training mode, as every module."""

    def __init__(self, backbone: nn.Module, info: EncoderInfo, blocks: tuple[int, ...], norm: bool) -> None:
        super().__init__(backbone.requires_grad_(True), info, blocks, norm)
        if info.family == "vit":
            # what never runs would get no gradient, and has no place in an optimizer or a checkpoint
            self.backbone.blocks = self.backbone.blocks[: blocks[-1] + 1]
            if not norm and info.depth not in blocks:
                self.backbone.norm = nn.Identity()
            for name in ("fc_norm", "head", "head_drop", "attn_pool"):
                if isinstance(getattr(self.backbone, name, None), nn.Module):
                    setattr(self.backbone, name, nn.Identity())

    def forward(self, images: Tensor) -> BlockOutputs:
        """Return the outputs of images, float [B, 3, S, S] in [0, 1], with gradient; see `Encoder.outputs`."""
        return self.outputs(self.normalised(images))


def build(request: EncoderRequest | None, path: Path | None, input_size: int = 0) -> FrozenEncoder:
    """Return the requested encoder with the weights of a safetensors file, on the CPU.

    Args:
        request: encoder name, blocks, input size, pixel statistics and position rule; None for no encoder.
        path: weights, as `weights.locate` finds them; half precision is widened to float32. None for no encoder.
        input_size: side of the images in pixels, which only counts without an encoder.

    Raises:
        UsageError: the input size or a block does not fit the encoder.
        WeightsError: the file is not safetensors or does not fit the network.
    """
    if request is None or path is None:
        return absent(input_size)
    info = _info(request)
    with torch.device("meta"):
        native = catalog.create(request.name)
    state = weights.read(path, native)
    with torch.random.fork_rng(devices=[]):
        # the throw-away initialisation must not move the generator that seeds the method
        backbone = _laid_out(request, info)
    if info.family == "vit" and "pos_embed" in state:
        state["pos_embed"] = positions(state["pos_embed"], native, info, request.position)
    backbone.load_state_dict(state, strict=True)
    pruned = _pruned(backbone, request, info)
    return FrozenEncoder(pruned, info, request.blocks, digest.fingerprint(path), request.norm, request.attention)


def absent(input_size: int) -> FrozenEncoder:
    """Return what stands for the encoder of a method that has none: it gives no block of images of `input_size`."""
    info = EncoderInfo(
        *("none", "none", 0, 0, 0, 1, 0, (input_size, input_size), input_size, (0.0, 0.0, 0.0), (1.0, 1.0, 1.0))
    )
    return FrozenEncoder(nn.Identity(), info, (), "")


def skeleton(request: EncoderRequest | None, input_size: int = 0, device: str = "meta") -> FrozenEncoder:
    """Return the requested encoder on the meta device, without weights: shapes and costs only.

    Args:
        request: what a method asks for; None for no encoder.
        input_size: side of the images in pixels, which only counts without an encoder.
        device: another device than meta, where tensors have no memory on it either.

    Raises:
        UsageError: the name is unknown, or the input size or a block does not fit the encoder.
    """
    if request is None:
        with torch.device(device):
            return absent(input_size)
    info = _info(request)
    with torch.device(device):
        pruned = _pruned(_laid_out(request, info), request, info)
        return FrozenEncoder(pruned, info, request.blocks, "", request.norm, request.attention)


def positions(native: Tensor, module: nn.Module, info: EncoderInfo, rule: str) -> Tensor:
    """Return position embeddings for the grid in `info`.

    Args:
        native: float32 [1, (prefix) + H*W, dim] as trained; prefix positions, where there are any, stay untouched.
        module: the network in its native layout.
        info: the encoder at the requested input size.
        rule: `dinov2` or `timm`, see EncoderRequest.position.
    """
    backbone: Any = module
    rows, columns = backbone.patch_embed.grid_size
    prefix = native.shape[1] - rows * columns
    if (rows, columns) == info.grid:
        return native
    if rule == "timm":
        resized: Tensor = resample_abs_pos_embed(
            native, new_size=list(info.grid), old_size=[rows, columns], num_prefix_tokens=prefix
        )
        return resized
    grid = native[:, prefix:].reshape(1, rows, columns, -1).permute(0, 3, 1, 2)
    return torch.cat([native[:, :prefix], dinov2_positions(grid, info.grid).flatten(2).transpose(1, 2)], dim=1)


def dinov2_positions(grid: Tensor, size: tuple[int, int]) -> Tensor:
    """Resize a position grid as DINO's and DINOv2's own code do: float32 [1, dim, H, W] to [1, dim, h, w].

    Bicubic (a = -0.75), not antialiased, borders clamped. The scale handed to the kernel is (h + 0.1) / H rather than
    h / H, so that target row j reads source row (j + 0.5) * H / (h + 0.1) - 0.5. The offset was meant to guard the
    rounding of the output size, but it shifts every sample, and the published weights are used with it.
    """
    scale = tuple((new + DINOV2_OFFSET) / old for new, old in zip(size, grid.shape[-2:], strict=True))
    resized = F.interpolate(grid, scale_factor=scale, mode="bicubic", antialias=False)
    assert resized.shape[-2:] == size, "the offset exists to make this hold"
    return resized


def _info(request: EncoderRequest) -> EncoderInfo:
    if not request.blocks:
        raise UsageError(f"no block of encoder '{request.name}' was requested")
    info = catalog.requested(request)
    if request.norm and info.family == "cnn":
        raise UsageError(f"encoder '{request.name}' is a CNN, which has no final norm for its stages. Expected a ViT")
    if request.attention and not catalog.gives_attention(request.name):
        raise UsageError(f"encoder '{request.name}' is no plain ViT with a class token, whose attention could be read")
    return info


def _laid_out(request: EncoderRequest, info: EncoderInfo) -> nn.Module:
    return catalog.create(request.name, request.input_size if info.family == "vit" else None)


def _pruned(backbone: Any, request: EncoderRequest, info: EncoderInfo) -> nn.Module:
    """Cut off a CNN's stages after the last requested one; a ViT stays whole, its unrun blocks being cheap to keep."""
    if info.family == "cnn":
        backbone.prune_intermediate_layers(list(request.blocks), prune_head=True)
    module: nn.Module = backbone
    return module
