"""RAD: Is Task-Specific Training Necessary for Anomaly Detection?

Xingwu Zhang, Guanxuan Li, Paul Henderson, Gerardo Aragon-Camarasa, Zijun Long. ICML 2026, arXiv 2601.22763.
Official code: github.com/longkukuhi/RAD, read at commit 59847f4; "code" below means it, and its README's commands where
they give values.

Normal images of all classes are remembered as they are, in four layers. A test image looks up the normal images most
like it as a whole, by its class token, and each of its patches is as anomalous as it is far from those images' patches
near the same place. One memory serves all classes, as in the paper, and nobody tells it which class an image is of.

Differences from the official code:
- Of fewer training images than `images`, all are taken; the code fails.
- Windows are compared image by image of the memory as one batched product; the code loops over places. The numbers are
  the same up to rounding.
- Directions are remembered, the code brings features to length 1 at each look-up.
- Numbers of images and windows by data set seem chosen on its test images; for others they are MVTec AD's here.

Not stated in the paper, chosen here:
- Which blocks of a trunk that is not of 12: those where its quarters end, the last of them one earlier.

The memory takes 9.6 MB an image at the default size: 33 GiB for MVTec AD, 326 GiB for Real-IAD, half of it with
`precision=fp16`. It lies where there is room for it, see `bench.api.room`, and `limit` bounds it.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor

from bench.api import Batch, EncoderInfo, EncoderRequest, Memory, MemoryConfig, Prediction, Protocol, sourced
from bench.errors import UsageError

from . import _class_token
from ._maps import gaussian_5x5, resized, top_mean
from ._memory import Known, Rows, images_in
from ._precision import full_precision

PATCHES = 28
"""Patches a side where no input size is given: the code's 448 pixels at patches of 16."""
AT_ONCE = 2**28
"""Bytes of remembered images that are looked at together."""


class Config(MemoryConfig):
    """RAD's settings."""

    encoder: str = sourced(
        "vit_base_patch16_dinov3.lvd1689m", "paper, code: dinov3_vitb16", "frozen ViT with class token, by timm name"
    )
    input_size: int | None = sourced(None, "code: 448", "input side in pixels; null = 28 patches", gt=0)
    layers: tuple[int, ...] | None = sourced(
        None, "code: 3, 6, 9 and 11 of 12", "blocks that are remembered, from 0; null = at the quarters of the depth"
    )
    layer_weights: tuple[float, ...] | None = sourced(
        None, "code: all alike", "weight of each layer in the mean, in any unit; null = all alike"
    )
    images: int = sourced(
        150, "code: 150 for MVTec AD, 900 for VisA and Real-IAD", "most alike normal images that are looked up", gt=0
    )
    radius: int | None = sourced(
        1,
        "code: 1 for MVTec AD, 2 for VisA, 0 for Real-IAD",
        "patches around its place that a patch is compared with; null = all",
        ge=0,
    )
    limit: int | None = sourced(
        None, "code: none", "images that are remembered at most, drawn at random from all; null = every one", gt=0
    )
    precision: Literal["fp32", "fp16"] = sourced("fp32", "code; anomalib's port: fp16", "of what is remembered")
    smoothing_sigma: float = sourced(1.0, "code", "sigma in pixels of the map's Gaussian, 5 pixels wide", gt=0)
    score_share: float = sourced(
        0.01, "code", "share of the highest map pixels averaged to the image score", gt=0, le=1
    )


class Library(Known):
    """Normal images as they are.

    Attributes:
        tokens: float32 [N, dim], directions of the class tokens of the last layer.
        patches: [N, layers, h*w, dim], directions of the patch tokens, float32 or float16.
    """

    tokens: Tensor
    patches: Tensor


class RAD(Memory[Config, Library]):
    """Cosine distance of each patch to those near its place in the normal images most like the whole."""

    name = "rad"
    family = "memory"
    encoders = ("vit",)
    paper = Protocol("paper:rad", crop=448 / 512, mask_rule="dinomaly")
    overrides = {  # noqa: RUF012
        "visa": {"images": 900, "radius": 2},
        "realiad": {"images": 900, "radius": 0},
    }

    def encoder(self) -> EncoderRequest:
        """Return the request: four blocks, each after the final norm, with a class token before their patches."""
        config = self.config
        fits = "vit_base_patch16_dinov3.lvd1689m or vit_base_patch14_reg4_dinov2.lvd142m"
        native = _class_token.described(self.name, config.encoder, fits)
        layers = self._layers(native.depth)
        if config.layer_weights is not None and (
            len(config.layer_weights) != len(layers) or min(config.layer_weights) < 0 or sum(config.layer_weights) <= 0
        ):
            raise UsageError(
                f"rad.layer_weights is {list(config.layer_weights)}, expected a number of at least 0 for each of the "
                f"{len(layers)} layers, not all 0"
            )
        return EncoderRequest(
            name=config.encoder,
            blocks=layers,
            input_size=config.input_size or PATCHES * native.patch,
            norm=True,
            position="dinov2" if "dinov2" in config.encoder else "timm",
        )

    def _layers(self, depth: int) -> tuple[int, ...]:
        if self.config.layers is None:
            return tuple(sorted({depth // 4, depth // 2, depth * 3 // 4, depth - 1}))
        if not self.config.layers:
            raise UsageError("rad.layers is empty, expected at least one block")
        return tuple(sorted(self.config.layers))

    def features(self, blocks: Mapping[int, Tensor], info: EncoderInfo) -> dict[str, Tensor]:
        """Return directions: `token` float [B, dim], `patches` float [B, layers, h*w, dim]."""
        ordered = [blocks[index] for index in sorted(blocks)]
        patches = torch.stack([block[:, info.prefix :] for block in ordered], dim=1)
        return {"token": F.normalize(ordered[-1][:, 0], dim=-1), "patches": F.normalize(patches, dim=-1)}

    def build(self, info: EncoderInfo) -> Library:
        """Return the memory, not filled yet; where only costs are asked for, of as many images as are looked up."""
        meta = torch.get_default_device().type == "meta"
        count, places = self.config.images if meta else 1, info.grid[0] * info.grid[1]
        return Library(tokens=(count, info.dim), patches=(count, len(self._layers(info.depth)), places, info.dim))

    def fit(self, module: Library, batches: Iterable[Batch]) -> None:
        """Remember the training images."""
        device, limit = module.tokens.device, self.config.limit
        kept = torch.float16 if self.config.precision == "fp16" else torch.float32
        expected = images_in(batches) if limit is None else min(limit, images_in(batches))
        tokens, patches = Rows(expected, device), Rows(expected, device)
        ranks: list[float] = []
        for batch in batches:
            for token, image in zip(batch["token"].float(), batch["patches"], strict=True):
                # from the global generator on the CPU, image by image: the same on every device, whatever the batch
                rank = float(torch.rand(())) if limit is not None else 0.0
                if limit is None or len(ranks) < limit:
                    tokens.add(token[None])
                    patches.add(image[None], kept)
                    ranks.append(rank)
                elif rank < (last := max(ranks)):
                    place = ranks.index(last)
                    tokens.replace(place, token)
                    patches.replace(place, image)
                    ranks[place] = rank
        module.tokens, module.patches = tokens.all().to(device), patches.all()

    def anomaly(self, module: Library, batch: Batch, info: EncoderInfo, size: int) -> Prediction:
        """Return smoothed maps of the mean over layers of the cosine distance, and the mean of their highest pixels."""
        config = self.config
        with full_precision(batch["token"]):
            like = most_alike(batch["token"], module.tokens, config.images)
            nearest = self._nearest(module, batch["patches"].float(), like, info.grid)
        weights = nearest.new_tensor(config.layer_weights or [1.0] * nearest.shape[1])
        distances = ((1.0 - nearest) * (weights / weights.sum())[:, None]).sum(dim=1)
        maps = gaussian_5x5(resized(distances.view(-1, *info.grid), size).unsqueeze(1), config.smoothing_sigma)
        return Prediction(scores=top_mean(maps, config.score_share), maps=maps.squeeze(1))

    def _nearest(self, module: Library, queries: Tensor, like: Tensor, grid: tuple[int, int]) -> Tensor:
        """Return each patch's highest cosine to patches of the images looked up: float32 [B, layers, h*w].

        Images that several of the batch look up are brought to the device once.

        Args:
            module: the memory.
            queries: float32 [B, layers, h*w, dim].
            like: int64 [B, k], which images each one looks up.
            grid: h and w.
        """
        near = windows(grid, self.config.radius).to(queries.device)
        highest = torch.full(queries.shape[:3], -1.0, device=queries.device)
        for wanted, chosen in looked_up(like, max(1, AT_ONCE // (4 * module.patches[:1].numel()))):
            images = module.patches[wanted.to(module.patches.device)].to(queries.device).float()
            for number, rows in enumerate(chosen):
                found = [
                    highest_cosine(query, images[rows, layer], near) for layer, query in enumerate(queries[number])
                ]
                highest[number] = torch.maximum(highest[number], torch.stack(found))
        return highest


def most_alike(tokens: Tensor, known: Tensor, count: int) -> Tensor:
    """Return int64 [B, k]: rows of `known` [N, dim] of the highest cosine to tokens [B, dim], both of length 1.

    Products are taken in double precision: which image comes last among the k must not hang on rounding.
    """
    return (tokens.double() @ known.double().T).topk(min(count, len(known)), dim=1).indices


def looked_up(like: Tensor, at_once: int) -> Iterator[tuple[Tensor, list[Tensor]]]:
    """Yield rows of the memory that a batch looks up, some at a time, and for each image which of these are its own.

    Args:
        like: int64 [B, k], rows that each image looks up.
        at_once: most rows at a time.

    Returns:
        Rows int64 [n], ascending, and for each of the B images places among them, int64 [up to n].
    """
    if like.is_meta:  # there are no values, and costs are those of one image
        yield like[0], [torch.arange(like.shape[1], device=like.device)]
        return
    rows: Tensor = like.unique()  # type: ignore[no-untyped-call]
    for part in torch.split(rows, at_once):
        yield part, [torch.isin(part, own).nonzero().flatten() for own in like]


def windows(grid: tuple[int, int], radius: int | None) -> Tensor:
    """Return which places lie near each one: int64 [h*w, (2 radius + 1)^2], -1 beyond the border.

    The window's entries mirror each other: if the first of j is i, then the last of i is j. Without a radius, or with
    one that reaches everywhere from everywhere, all places are one window: int64 [h*w, 0].
    """
    height, width = grid
    if radius is None or radius >= max(grid) - 1:
        return torch.empty(height * width, 0, dtype=torch.int64)
    reach = torch.arange(-radius, radius + 1)
    rows = torch.arange(height).view(-1, 1, 1, 1) + reach.view(-1, 1)
    columns = torch.arange(width).view(-1, 1, 1) + reach
    inside = (rows >= 0) & (rows < height) & (columns >= 0) & (columns < width)
    return torch.where(inside, rows * width + columns, -1).view(height * width, -1)


def highest_cosine(query: Tensor, images: Tensor, near: Tensor) -> Tensor:
    """Return each patch's highest product with patches near its place in any of some images: float32 [h*w].

    Args:
        query: float32 [h*w, dim].
        images: float32 [n, h*w, dim].
        near: as `windows` gives it.

    Returns:
        -1 everywhere where there is no image.
    """
    if not len(images):
        return query.new_full((len(query),), -1.0)
    if not near.shape[1]:
        return (query @ images.flatten(0, 1).T).amax(dim=1)
    outside = near < 0
    # of each place, its patches in all images with all queries in its window: what was remembered is read once
    around = query[near.clamp(min=0)]
    products = (images.transpose(0, 1) @ around.transpose(1, 2)).amax(dim=1)
    # and back: where a query lies in the window of a place that lies in its own
    back = torch.arange(near.shape[1] - 1, -1, -1, device=near.device).expand_as(near)
    return products[near.clamp(min=0), back].masked_fill(outside, -1.0).amax(dim=1)
