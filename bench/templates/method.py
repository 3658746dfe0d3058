"""template_method: say in one line what it is (bench ls methods prints this line).

Authors, title, venue, arXiv number. Official code: address, read at commit.

What it does, in a few sentences. As it stands: a small network learns to give back the frozen encoder's patch tokens
through a narrow middle. It sees normal images only, so it fails on what is not normal, and the failure is the map.

Differences from the official code:
- none known; list them here.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from bench.api import Batch, EncoderInfo, EncoderRequest, MethodConfig, Prediction, Protocol, Trained, sourced
from bench.encoders import catalog
from bench.errors import UsageError

PATCHES = 28
"""Feature map side where no input size is given."""


class Config(MethodConfig):
    """Settings: each has a default, where it comes from, and a meaning. `--set template_method.lr=1e-4` changes one."""

    encoder: str = sourced("vit_base_patch14_reg4_dinov2.lvd142m", "section ?", "frozen ViT, by timm name")
    input_size: int | None = sourced(None, "section ?", "input side in pixels; null = 28 patches", gt=0)
    width: int = sourced(64, "section ?", "width of the narrow middle", gt=0)
    steps: int = sourced(2000, "section ?", "training iterations", gt=0)
    batch_size: int = sourced(16, "section ?", "images a step", gt=0)
    lr: float = sourced(1e-3, "section ?", "learning rate", gt=0)


class TemplateMethod(Trained[Config, nn.Module]):
    """Reconstruction error of patch tokens."""

    name = "template_method"
    family = "reconstruction"
    encoders = ("vit",)
    # the published recipe: what --protocol paper means for this method; here nothing differs from `common` but the name
    paper = Protocol("paper:template_method")

    def encoder(self) -> EncoderRequest:
        """Return the request: the last block's tokens."""
        config = self.config
        native = catalog.describe(config.encoder)
        if native.family != "vit":
            raise UsageError(
                f"template_method needs a ViT, encoder '{config.encoder}' is a CNN. Try vit_small_patch16_224.dino"
            )
        return EncoderRequest(config.encoder, (native.depth,), config.input_size or PATCHES * native.patch)

    def features(self, blocks: Mapping[int, Tensor], info: EncoderInfo) -> dict[str, Tensor]:
        """Return the patch tokens without the class token: `patches` float [B, h*w, dim]. They are computed once."""
        return {"patches": blocks[info.depth][:, info.prefix :]}

    def build(self, info: EncoderInfo) -> nn.Module:
        """Return what is trained."""
        width = self.config.width
        return nn.Sequential(nn.Linear(info.dim, width), nn.GELU(), nn.Linear(width, info.dim))

    def loss(self, module: nn.Module, batch: Batch, step: int) -> Tensor:
        """Return the mean distance between tokens and their reconstruction."""
        return _distance(module, batch["patches"]).mean()

    def anomaly(self, module: nn.Module, batch: Batch, info: EncoderInfo, size: int) -> Prediction:
        """Return the distances as maps, and the highest of each map as the image's score."""
        distances = _distance(module, batch["patches"]).float()
        grid = distances.reshape(len(distances), 1, *info.grid)
        maps = F.interpolate(grid, (size, size), mode="bilinear", align_corners=False)[:, 0]
        return Prediction(scores=maps.amax(dim=(1, 2)), maps=maps)

    def optimizer(self, module: nn.Module) -> torch.optim.Optimizer:
        """Return AdamW over all that is trained; fused, as the plain one reads a number from the GPU at every step."""
        return torch.optim.AdamW(module.parameters(), lr=self.config.lr, fused=True)

    def learning_rate(self, step: int) -> float:
        """Return the constant learning rate."""
        return self.config.lr


def _distance(module: nn.Module, tokens: Tensor) -> Tensor:
    """Return one minus the cosine of each token [B, N, dim] and its reconstruction: [B, N]."""
    rebuilt: Tensor = module(tokens)
    return 1 - F.cosine_similarity(rebuilt, tokens, dim=-1)
