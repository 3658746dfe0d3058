"""SubspaceAD: Training-Free Few-Shot Anomaly Detection via Subspace Modeling.

Camile Lendering, Erkut Akdag, Egor Bondarev. CVPR 2026, arXiv 2602.23013.
Official code: github.com/CLendering/SubspaceAD, as it was at commit 2ca687e; "code" below means it.

Patch features of normal images lie near a linear subspace: that of the principal components which hold most of their
variance. What of a test image's patch is left outside of it is its anomaly. Nothing is trained, and what is remembered
is one mean and one matrix, however many images there were.

The paper fits one subspace a class, from 1, 2 or 4 images that are rotated at random (`--setting few-shot-single`), or
from all of them, not rotated (`single`). One subspace of all classes (`multi`, `few-shot`) is this project's: the paper
has no such number.

Differences from the official code:
- Mean and covariance are summed in one pass, in double precision, so that each image's rotations are the same for both;
  the code draws them anew for the covariance.
- Every class is rotated; the code leaves MVTec AD's transistor as it is, which here takes
  `--classes transistor --set subspacead.rotations=0`: a method that is not told classes cannot know.
- Images are rotated as the network sees them, a resized square, and taken bilinearly.
- Fitting on the test images themselves ("batched zero-shot") is not offered.
- The few images are chosen as bench chooses them for every method; the code takes seeds 42 to 46.
- AUPRO is exact; the code reads it off 300 thresholds.

Not stated in the paper, chosen here:
- The image itself is fitted beside its rotations.
- Which blocks of a trunk that the paper does not have: the rule that gives the paper's for each that it has.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor

from bench.api import Batch, EncoderInfo, EncoderRequest, Memory, MemoryConfig, Prediction, Protocol, sourced
from bench.encoders import catalog
from bench.errors import UsageError

from ._gaussian import Moments
from ._maps import box_gaussian, resized, top_mean
from ._memory import Known
from ._precision import full_precision
from ._rotation import rotated

PATCHES = 48
"""Patches a side where no input size is given: the paper's 672 pixels at patches of 14."""
DEPTHS = (0.55, 0.7)
"""Shares of a trunk's depth between which its blocks are averaged. They give the paper's blocks: 22 to 28 of the 40 of
ViT-g, 13 to 17 of the 24 of ViT-L, 7 and 8 of the 12 of ViT-B and ViT-S."""
TURN = 345.0
"""Degrees up to which rotations are drawn."""


class Config(MemoryConfig):
    """SubspaceAD's settings."""

    encoder: str = sourced(
        "vit_giant_patch14_reg4_dinov2.lvd142m", "paper, code: DINOv2-G with registers", "frozen ViT, by timm name"
    )
    input_size: int | None = sourced(None, "paper, code: 672", "input side in pixels; null = 48 patches", gt=0)
    position: Literal["timm", "dinov2"] = sourced(
        "timm", "code: transformers', as timm's", "how position embeddings are resized"
    )
    layers: tuple[int, ...] | None = sourced(
        None,
        "code: 22 to 28 of 40; paper's ablation: 13 to 17 of 24, 7 and 8 of 12",
        "blocks to average, from 0; null = those from 0.55 to 0.7 of the depth",
    )
    unit_length: bool = sourced(False, "code: as they are", "scale each block's tokens to length 1 before averaging")
    variance: float = sourced(0.99, "paper, code", "share of the variance that the subspace has to hold", gt=0, lt=1)
    rotations: int = sourced(
        0, "paper, code: none of all images, 30 of few", "random rotations of each image that are fitted too", ge=0
    )
    smoothing_sigma: float = sourced(4.0, "code", "sigma in pixels of the map's Gaussian", gt=0)
    smoothing_window: int = sourced(3, "code", "odd side of the window that the Gaussian is cut to; 1 = none", gt=0)
    score_share: float = sourced(
        0.01, "paper, code", "share of the highest map pixels averaged to the image score", gt=0, le=1
    )


class Subspace(Known):
    """An affine subspace.

    Attributes:
        mean: float32 [dim], a point of it.
        basis: float32 [dim, k], orthonormal directions; k = dim stands in for it.
    """

    mean: Tensor
    basis: Tensor

    def __init__(self, dim: int) -> None:
        super().__init__(mean=(dim,), basis=(dim, dim))

    def distances(self, points: Tensor) -> Tensor:
        """Return the squared distance of each point to the subspace: float32 [...] for float [..., dim]."""
        with full_precision(points):
            apart = points.float() - self.mean
            return (apart - apart @ self.basis @ self.basis.T).square().sum(dim=-1)


class SubspaceAD(Memory[Config, Subspace]):
    """Distance of each patch's features to the principal subspace of those of normal images."""

    name = "subspacead"
    family = "memory"
    encoders = ("vit",)
    needs = frozenset({"features", "images"})
    paper = Protocol("paper:subspacead", eval_size=672, mask_rule="nearest")
    # papers' few-shot tables are of a model a class; from few images the other way does the same
    overrides = {"few-shot": {"rotations": 30}, "few-shot-single": {"rotations": 30}}  # noqa: RUF012

    def __init__(self, config: Config) -> None:
        super().__init__(config)
        if self.config.smoothing_window % 2 == 0:
            raise UsageError(f"subspacead.smoothing_window is {self.config.smoothing_window}, expected an odd number")

    def encoder(self) -> EncoderRequest:
        """Return the request: blocks somewhat above the middle, 48 patches a side where no input size is given."""
        config = self.config
        native = catalog.describe(config.encoder)
        if native.family != "vit":
            raise UsageError(
                f"subspacead needs a ViT, encoder '{config.encoder}' is a CNN. "
                "Try vit_base_patch14_reg4_dinov2.lvd142m or vit_small_patch14_reg4_dinov2.lvd142m"
            )
        first, last = (round(share * native.depth) for share in DEPTHS)
        layers = tuple(range(first, last + 1)) if config.layers is None else tuple(sorted(config.layers))
        if not layers:
            raise UsageError("subspacead.layers is empty, expected at least one block")
        return EncoderRequest(
            name=config.encoder,
            blocks=layers,
            input_size=config.input_size or PATCHES * native.patch,
            position=config.position,
        )

    def features(self, blocks: Mapping[int, Tensor], info: EncoderInfo) -> dict[str, Tensor]:
        """Return the mean of the blocks' patch tokens: `patches` float [B, h*w, dim]."""
        tokens = torch.stack([blocks[index][:, info.prefix :] for index in sorted(blocks)])
        if self.config.unit_length:
            tokens = F.normalize(tokens, dim=-1)
        return {"patches": tokens.mean(dim=0)}

    def build(self, info: EncoderInfo) -> Subspace:
        """Return the subspace, not known yet."""
        return Subspace(info.dim)

    def fit(self, module: Subspace, batches: Iterable[Batch]) -> None:
        """Take the principal components of the training images' patches, and of their rotations' where asked for."""
        moments = Moments(len(module.mean), module.mean.device)
        for batch in batches:
            for patches in self._looks(batch):
                moments.add(patches)
        mean, covariance = moments.mean_and_covariance()
        module.mean = mean.float().to(module.mean.device)
        module.basis = principal(covariance, self.config.variance).float().to(module.mean.device)

    def _looks(self, batch: Batch) -> Iterable[Tensor]:
        """Yield patches [B, h*w, dim] of the images, and of each of their rotations.

        Each image draws its own angles, so that they do not depend on how images were batched; from torch's global
        generator on the CPU, so that they are the same on every device.
        """
        yield batch["patches"]
        if not self.config.rotations:
            return
        angles = torch.stack([torch.rand(self.config.rotations) for _ in range(batch.count)]) * TURN
        for turn in angles.unbind(dim=1):
            yield batch.encode(rotated(batch.pixels, turn.to(batch.pixels.device), border="zeros"))["patches"]

    def anomaly(self, module: Subspace, batch: Batch, info: EncoderInfo, size: int) -> Prediction:
        """Return maps of the squared distance to the subspace, and the mean of each one's highest pixels.

        Maps are made at the input's size, which the window and the share are of, and then brought to `size`.
        """
        config = self.config
        distances = module.distances(batch["patches"]).view(-1, *info.grid)
        maps = box_gaussian(resized(distances, info.input_size), config.smoothing_sigma, config.smoothing_window)
        return Prediction(scores=top_mean(maps, config.score_share), maps=resized(maps, size))


def principal(covariance: Tensor, share: float) -> Tensor:
    """Return the fewest eigenvectors whose eigenvalues make up a share of their sum: float64 [dim, k], k >= 1.

    Args:
        covariance: float64 [dim, dim].
        share: of the variance.
    """
    values, vectors = torch.linalg.eigh(covariance)
    held = values.clamp(min=0.0).flip(0).cumsum(0)
    count = int(torch.searchsorted(held, share * held[-1:])) + 1
    return vectors.flip(1)[:, :count]
