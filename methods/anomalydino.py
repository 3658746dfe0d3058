"""AnomalyDINO: Boosting Patch-based Few-shot Anomaly Detection with DINOv2.

Simon Damm, Mike Laszkiewicz, Johannes Lederer, Asja Fischer. WACV 2025, arXiv 2405.14529.
Official code: github.com/dammsi/AnomalyDINO, as it was at commit b3435f0; "code" below means it.

Every patch of the normal images is remembered by the direction of its features, and a test image's patch is as
anomalous as its cosine distance to the nearest one. Of few images, eight turned copies each are remembered. Where an
object stands before a background, a mask from the image's own first principal component keeps the background out.

The paper remembers each class by itself (`--setting few-shot-single`, `single`). One memory of all classes (`multi`,
`few-shot`) is this project's: the paper has no such number.

Differences from the official code:
- Images are squares of one size; the code keeps their aspect, 448 pixels the shorter side.
- Images are turned as the network sees them; the code turns them at their own size.
- Masking is on or off for a data set. The code's list has all classes of VisA, on by default here, and five of MVTec
  AD's (capsule, hazelnut, pill, screw, toothbrush): `--classes capsule,hazelnut,pill,screw,toothbrush --set
  anomalydino.masking=true` is the same for those. A method that is not told classes cannot choose.
- The component is computed exactly, and its sign is that of its largest loading; the code's solver is randomised.
- Maps are made at the input's size, the code's at the image's own, both smoothed by 4 pixels there.
- The few images are chosen as bench chooses them for every method; the code takes the first ones by name.
- Scoring test images by each other ("batched zero-shot") is not offered.
- The code's README scores few shots. Its full-shot run would turn images too (`agnostic`); of all images, here none is.

The memory lies where there is room for it, see `bench.api.room`: 5.3 GiB for MVTec AD, 54 GiB for Real-IAD. `limit`
bounds it, and with it the time that a search takes.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping

import torch
import torch.nn.functional as F
from torch import Tensor

from bench.api import Batch, EncoderInfo, EncoderRequest, Memory, MemoryConfig, Prediction, Protocol, sourced
from bench.encoders import catalog
from bench.errors import UsageError

from ._maps import gaussian, resized, top_mean
from ._memory import Bank, Rows, images_in, sampled
from ._rotation import rotated
from ._switches import refuse_idle

PATCHES = 32
"""Patches a side where no input size is given: 448 pixels at patches of 14."""
CENTRE = (0.2, 0.8)
"""The part of the image along each side where an object is expected."""
COVERED = 0.35
"""Share of that part which a mask has to cover, or else its opposite is taken."""


class Config(MemoryConfig):
    """AnomalyDINO's settings."""

    encoder: str = sourced("vit_small_patch14_dinov2.lvd142m", "paper, code: dinov2_vits14", "frozen ViT, by timm name")
    input_size: int | None = sourced(
        None, "code: 448; the paper's other size is 672", "input side in pixels; null = 32 patches", gt=0
    )
    copies: int = sourced(
        1,
        "code, `agnostic`: 8 of few images; ours of all: the image alone",
        "copies of each image that are remembered, turned evenly round; 1 = as it is",
        gt=0,
    )
    limit: int | None = sourced(
        None, "code: none", "patches that are remembered at most, drawn at random from all; null = every one", gt=0
    )
    neighbours: int = sourced(1, "paper, code", "nearest patches whose squared distances are averaged", gt=0)
    masking: bool = sourced(
        False, "code: all classes of VisA, five of MVTec AD", "keep test patches of the background out"
    )
    masked_memory: bool = sourced(False, "code: off by default", "keep the background out of the memory, too")
    mask_threshold: float = sourced(10.0, "code", "first principal component from which on a patch is the object's")
    smoothing_sigma: float = sourced(4.0, "code", "sigma in pixels of the map's Gaussian", gt=0)
    score_share: float = sourced(
        0.01, "paper, code", "share of the highest patch distances averaged to the image score", gt=0, le=1
    )


class AnomalyDINO(Memory[Config, Bank]):
    """Cosine distance of each patch to the nearest patch of normal images."""

    name = "anomalydino"
    family = "memory"
    encoders = ("vit",)
    needs = frozenset({"features", "images"})
    paper = Protocol("paper:anomalydino", eval_size=448, mask_rule="nearest")
    overrides = {  # noqa: RUF012
        "few-shot": {"copies": 8},
        "few-shot-single": {"copies": 8},
        "visa": {"masking": True},
    }

    def __init__(self, config: Config) -> None:
        super().__init__(config)
        if not (self.config.masking or self.config.masked_memory):
            refuse_idle(self, ["mask_threshold"], "masking and masked_memory off")

    def encoder(self) -> EncoderRequest:
        """Return the request: the last block's output after the final norm."""
        config = self.config
        native = catalog.describe(config.encoder)
        if native.family != "vit":
            raise UsageError(
                f"anomalydino needs a ViT, encoder '{config.encoder}' is a CNN; patchcore takes CNNs. "
                "Try vit_small_patch14_dinov2.lvd142m or vit_base_patch14_reg4_dinov2.lvd142m"
            )
        return EncoderRequest(
            name=config.encoder,
            blocks=(native.depth,),
            input_size=config.input_size or PATCHES * native.patch,
            position="dinov2" if "dinov2" in config.encoder else "timm",
        )

    def features(self, blocks: Mapping[int, Tensor], info: EncoderInfo) -> dict[str, Tensor]:
        """Return the patch tokens: `patches` float [B, h*w, dim]."""
        return {"patches": blocks[info.depth][:, info.prefix :]}

    def build(self, info: EncoderInfo) -> Bank:
        """Return the memory, not filled yet; what stands in for it, and is counted in costs, is one image's."""
        return Bank(info.grid[0] * info.grid[1], info.dim)

    def fit(self, module: Bank, batches: Iterable[Batch]) -> None:
        """Remember the direction of every patch of the training images, and of their turned copies."""
        config, known = self.config, self._directions(module, batches)
        if config.limit is not None:
            module.bank = sampled(known, config.limit)
            return
        rows = Rows(config.copies * images_in(batches) * len(module.bank), module.bank.device)
        for directions in known:
            rows.add(directions)
        module.bank = rows.all()

    def _directions(self, module: Bank, batches: Iterable[Batch]) -> Iterator[Tensor]:
        """Yield what is to be remembered of each image and of its turned copies: float32 [n, dim]."""
        config, side = self.config, round(len(module.bank) ** 0.5)
        shown, masks = 0, config.masking or config.masked_memory
        for batch in batches:
            for patches in self._looks(batch):
                if masks:
                    mask = foreground(patches, (side, side), config.mask_threshold)
                    shown += int(mask.sum())
                    patches = patches[mask] if config.masked_memory else patches
                yield F.normalize(patches.float(), dim=1)
        if masks and not shown:
            raise UsageError(
                f"anomalydino.mask_threshold = {config.mask_threshold:g} leaves nothing of any training image: the "
                f"features of {config.encoder} are not as large as DINOv2's, which it is for. Expected a lower one"
            )

    def _looks(self, batch: Batch) -> Iterable[Tensor]:
        """Yield patches [h*w, dim] of each image and of its turned copies, whatever the batch in the same order."""
        looks = [batch["patches"]]
        for turn in range(1, self.config.copies):
            degrees = torch.full((batch.count,), 360.0 * turn / self.config.copies, device=looks[0].device)
            looks.append(batch.encode(rotated(batch.pixels, degrees, border="reflection"))["patches"])
        for copies in zip(*looks, strict=True):
            yield from copies

    def anomaly(self, module: Bank, batch: Batch, info: EncoderInfo, size: int) -> Prediction:
        """Return smoothed maps of the cosine distance, and the mean of each image's highest ones, not smoothed."""
        config, patches = self.config, batch["patches"]
        found, _ = module.nearest(F.normalize(patches.float(), dim=2).flatten(0, 1), config.neighbours)
        # of unit vectors, half the squared distance
        distances = found.square().mean(dim=1).div(2).view(patches.shape[:2])
        if config.masking:
            masks = torch.stack([foreground(image, info.grid, config.mask_threshold) for image in patches])
            distances = distances * masks
        maps = resized(distances.view(-1, *info.grid), info.input_size)
        maps = resized(gaussian(maps, config.smoothing_sigma), size)
        return Prediction(scores=top_mean(distances, config.score_share), maps=maps)


def foreground(patches: Tensor, grid: tuple[int, int], threshold: float) -> Tensor:
    """Return which patches of an image show its object: bool [h*w].

    They are those whose first principal component among the image's patches lies above the threshold; where these cover
    too little of the centre, those that lie as far on the other side. Gaps are filled and borders grow by a patch.

    Args:
        patches: float [h*w, dim].
        grid: h and w.
        threshold: of the component.
    """
    component = first_component(patches).view(grid)
    rows, columns = (slice(*(int(share * side) for share in CENTRE)) for side in grid)
    above = component > threshold
    covered = above[rows, columns].float().mean()
    # of a centre without patches, nothing is known
    chosen = torch.where(covered <= COVERED, -component > threshold, above)
    grown = _dilated(chosen.float()[None, None])
    closed = -_dilated(-_dilated(grown))
    return closed.flatten() > 0.5


def first_component(patches: Tensor) -> Tensor:
    """Return the first principal component of points float [n, dim]: float32 [n], its largest loading positive."""
    centred = patches.double() - patches.double().mean(dim=0)
    _, vectors = torch.linalg.eigh(centred.T @ centred)
    axis = vectors[:, -1]
    largest = axis.gather(0, axis.abs().argmax(dim=0, keepdim=True))
    return (centred @ (axis * largest.sign())).float()


def _dilated(maps: Tensor) -> Tensor:
    return F.max_pool2d(maps, 3, stride=1, padding=1)
