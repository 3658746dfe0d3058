"""SimpleNet: A Simple Network for Image Anomaly Detection and Localization.

Zhikang Liu, Yiming Zhou, Yuansheng Xu, Zilei Wang. CVPR 2023, arXiv 2303.15140. Two recipes carry the name.
`variant=ader`, the default, is the multi-class baseline of the tables: configuration `simplenet` of
github.com/zhangzjn/ADer, read at commit 902937a. `variant=original` is the authors' github.com/DonaldRR/SimpleNet, read
at commit 351a2b8, made for a model a class; "code" below means it.

A frozen CNN sees the image. Its locally aware patch features, as PatchCore joins them, go through one Linear layer, the
adaptor. A small discriminator learns to tell them from copies with Gaussian noise; what it takes for noisy is
anomalous.

Differences from the official codes:
- The checkpoint is the last. The authors' is the best of forty tests by image AUROC on the test set, which flatters it
  (SuperSimpleNet, issue 6).
- Noise is drawn from each step's generator, on the training's device.
- Layers are stored as the encoder gives them and joined in every step; same numbers, in half the memory.
- The authors resize an image's shorter side to 329 and crop; here images are resized to a square first, as everywhere.
- Their AUPRO, which widens predictions for the overlap and not for the false positives, is not offered, nor are colour
  and affine augmentations, which their command leaves off.
- ADer's schedule would lower the rate at 80 of 100 epochs, but of an optimizer that is never used: its rates stay. It
  runs backward twice, once for each optimizer, which is the same as once.
- Any CNN with stages at strides 8 and 16 serves, and ViTs, as in `patchcore`. The encoder ends with the last one asked
  for; published counts (72.8 M parameters) hold WRN50's last stage and classifier, which both codes run for nothing.
- Epochs are counted as iterations of whole batches; the authors keep an epoch's last incomplete batch, which counts
  here as a whole one. ADer: see `_ader.py`.
- Maps are resized straight to the evaluation size; the codes' is the input size, which is the evaluation size of both
  protocols.
- Seeding, precision and batching are the harness's.

Multi-class training is unstable: ADer's run is at 95.4 on MVTec-AD after 100 epochs and at 79.2 after 300.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from itertools import groupby
from typing import Any, ClassVar, Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from bench.api import Batch, EncoderInfo, EncoderRequest, Prediction, Protocol, sourced

from . import _ader, _patches
from ._maps import gaussian
from ._switches import refuse_idle

SLOPE = 0.2
"""Of the discriminator's LeakyReLU; both codes."""
ORIGINAL = {
    "input_size": 288,
    "epochs": 160,
    "batch_size": 8,
    "clip_norm": None,
    "decay_vectors": True,
    "image_score": "patches",
}
"""Values of the authors' own code where they differ from ADer's."""


class Config(_ader.Recipe):
    """SimpleNet's settings; defaults are ADer's multi-class recipe, under `variant` original those of the authors."""

    variant: Literal["ader", "original"] = sourced(
        "ader", "ADer's configuration `simplenet`", "whose recipe the other defaults are"
    )
    encoder: str = sourced("wide_resnet50_2.tv_in1k", "section 4.2, both codes", "frozen CNN or ViT, by timm name")
    input_size: int | None = sourced(
        256, "ADer; original: 288", "input side in pixels; null = 28 patches of the first layer", gt=0
    )
    layers: tuple[int, ...] | None = sourced(
        None,
        "both codes: layer2 and layer3 of ResNet; ours for others",
        "CNN stages or ViT blocks, from 0; null = the stages at strides 8 and 16, or half and three quarters deep",
    )
    neighbourhood: int = sourced(
        3, "section 4.2, both codes", "odd side of the square that features are averaged over", gt=0
    )
    dim: int = sourced(1536, "section 4.2, both codes", "width of a patch's features", gt=0)
    adaptor_layers: int = sourced(1, "section 3.2, both codes; table 5", "Linear layers of the adaptor; 0 = none", ge=0)
    width: int = sourced(1024, "both codes", "width of the discriminator's hidden layer", gt=0)
    noise: float = sourced(0.015, "section 4.2, both codes", "standard deviation of the noise on features", gt=0)
    loss: Literal["hinge", "cross_entropy"] = sourced(
        "hinge", "section 3.5, both codes; table 5", "what is trained: both margins, or binary cross-entropy"
    )
    margin: float = sourced(0.5, "section 3.5, both codes", "how far scores are pushed from 0 on either side", gt=0)
    epochs: int = sourced(100, "ADer; original: 40 x 4", "times that each training image is seen", gt=0)
    steps: int | None = sourced(None, "both codes: in epochs", "training iterations; null = those of the epochs", ge=0)
    batch_size: int = sourced(32, "ADer; original: 8", "images a step", gt=0)
    lr: float = sourced(
        1e-4,
        "both codes; ADer: 1e-4 * batch / 32",
        "the adaptor's learning rate; unless given, with the batch under `variant` ader",
        gt=0,
    )
    discriminator_lr: float = sourced(
        2e-4,
        "both codes; ADer: 2e-4 * batch / 32",
        "the discriminator's; unless given, with the batch under `variant` ader",
        gt=0,
    )
    decay_at: float = sourced(1.0, "both codes: never", "share of the steps before the rates drop", gt=0, le=1)
    decay: float = sourced(0.1, "ours; both codes: none", "what the rates are multiplied by there", gt=0, le=1)
    weight_decay: float = sourced(0.01, "both codes (AdamW's own)", "the adaptor's, decoupled from its gradient", ge=0)
    discriminator_decay: float = sourced(1e-5, "both codes", "the discriminator's, added to its gradient", ge=0)
    decay_vectors: bool = sourced(False, "ADer; original: true", "decay biases and norms as well")
    betas: tuple[float, float] = sourced((0.9, 0.999), "both codes", "decay of both optimizers' moments")
    eps: float = sourced(1e-8, "both codes", "both optimizers' epsilon", gt=0)
    clip_norm: float | None = sourced(
        5.0, "ADer; original: none", "gradient-norm clip, of adaptor and discriminator apart; null = none", gt=0
    )
    image_score: Literal["map", "patches"] = sourced(
        "map", "ADer; original: patches", "whose highest value is the image's score: the smoothed map or raw patches"
    )
    smoothing_sigma: float = sourced(4.0, "both codes", "sigma in pixels of the map's Gaussian", gt=0)

    @classmethod
    def implied(cls, values: Mapping[str, Any]) -> Mapping[str, Any]:
        """Return the variant's own values; the authors' learning rates do not follow the batch."""
        if values.get("variant") == "original":
            return ORIGINAL
        followed = super().implied(values)
        if not followed:
            return followed
        fields = cls.model_fields
        return {
            **followed,
            "discriminator_lr": followed["lr"] * fields["discriminator_lr"].default / fields["lr"].default,
        }


class Scorer(nn.Module):
    """Trainable part: adaptor [N, dim] to [N, dim], and discriminator [N, dim] to [N, 1], higher = more normal."""

    def __init__(self, config: Config, dim: int) -> None:
        super().__init__()
        self.adaptor = nn.Sequential(*(nn.Linear(dim, dim) for _ in range(config.adaptor_layers)))
        self.discriminator = nn.Sequential(
            nn.Linear(dim, config.width),
            nn.BatchNorm1d(config.width),
            nn.LeakyReLU(SLOPE),
            nn.Linear(config.width, 1, bias=False),
        )
        for layer in self.modules():
            # biases keep torch's own initial values, as in both codes
            if isinstance(layer, nn.Linear):
                nn.init.xavier_normal_(layer.weight)


class TwoRules(torch.optim.Adam):
    """AdamW for the adaptor and Adam with coupled decay for the discriminator, each part's gradient clipped by itself.

    Args:
        config: rates, decays and clip.
        module: its parts.
    """

    def __init__(self, config: Config, module: Scorer) -> None:
        rules = {
            "adaptor": (module.adaptor, config.lr, config.weight_decay),
            "discriminator": (module.discriminator, config.discriminator_lr, config.discriminator_decay),
        }
        groups = [
            {
                "part": name,
                "params": [one for one in part.parameters() if (one.ndim > 1) is matrices],
                "lr": lr,
                "weight_decay": decay if matrices or config.decay_vectors else 0.0,
                "decoupled_weight_decay": name == "adaptor",
                "clip_norm": config.clip_norm,
            }
            for name, (part, lr, decay) in rules.items()
            for matrices in (True, False)
        ]
        filled = [group for group in groups if group["params"]]
        super().__init__(filled, lr=config.lr, betas=config.betas, eps=config.eps, fused=True)

    def step(self, closure: Callable[[], float] | None = None) -> float | None:  # type: ignore[override]
        """Take a step, see `torch.optim.Adam.step`."""
        for _, groups in groupby(self.param_groups, key=lambda group: group["part"]):
            of_part = list(groups)
            if of_part[0]["clip_norm"] is not None:
                whole = [one for group in of_part for one in group["params"]]
                nn.utils.clip_grad_norm_(whole, of_part[0]["clip_norm"])
        return super().step(closure)


class SimpleNet(_ader.EpochTraining[Config, Scorer]):
    """A discriminator tells adapted patch features of normal images from copies with noise."""

    name = "simplenet"
    family = "discrimination"
    paper = _ader.protocol("simplenet")
    variant_papers: ClassVar[Mapping[str, Protocol]] = {
        "original": Protocol("paper:simplenet", crop=288 / 329, eval_size=288, mask_rule="full")
    }

    def __init__(self, config: Config) -> None:
        super().__init__(config)
        # the harness would clip both parts as one
        self.clip_norm = None
        if self.config.decay_at == 1.0:
            refuse_idle(self, ("decay",), "decay_at 1")
        if self.config.loss != "hinge":
            refuse_idle(self, ("margin",), f"loss {self.config.loss}")
        if not self.config.adaptor_layers:
            refuse_idle(self, ("weight_decay",), "adaptor_layers 0")

    @property
    def drops_last(self) -> bool:
        """Return whether an epoch ends with its last whole batch: in ADer."""
        return self.config.variant == "ader"

    def encoder(self) -> EncoderRequest:
        """Return the request: mid-level stages or blocks."""
        return _patches.request(self)

    def features(self, blocks: Mapping[int, Tensor], info: EncoderInfo) -> dict[str, Tensor]:
        """Return the layers as they are: layer0, layer1, ... float [B, C, h, w], the shallowest first."""
        return {f"layer{number}": layer for number, layer in enumerate(_patches.as_maps(blocks, info))}

    def build(self, info: EncoderInfo) -> Scorer:
        """Return adaptor and discriminator, freshly initialised."""
        return Scorer(self.config, self.config.dim)

    def patches(self, features: Mapping[str, Tensor]) -> Tensor:
        """Return locally aware patch features, float [B, h*w, dim], on the grid of the first layer."""
        maps = [features[f"layer{number}"] for number in range(len(features))]
        dim = self.config.dim
        return _patches.joined(maps, self.config.neighbourhood, [dim] * len(maps), dim)

    def loss(self, module: Scorer, batch: Batch, step: int) -> Tensor:
        """Return how far the scores of adapted patches and of their noisy copies are on the wrong side."""
        adapted = module.adaptor(self.patches(batch).flatten(0, 1))
        noise = torch.randn(adapted.shape, generator=batch.random, device=adapted.device, dtype=adapted.dtype)
        # BatchNorm sees both at once
        normal, noisy = module.discriminator(torch.cat([adapted, adapted + self.config.noise * noise])).chunk(2)
        if self.config.loss == "cross_entropy":
            return F.softplus(-normal).mean() + F.softplus(noisy).mean()
        margin = self.config.margin
        return (margin - normal).clamp(min=0).mean() + (margin + noisy).clamp(min=0).mean()

    def anomaly(self, module: Scorer, batch: Batch, info: EncoderInfo, size: int) -> Prediction:
        """Return smoothed maps of the negative scores, and the highest value of each."""
        patches = self.patches(batch)
        found = -module.discriminator(module.adaptor(patches.flatten(0, 1))).float()
        grid = found.view(len(patches), 1, *batch["layer0"].shape[-2:])
        maps = F.interpolate(grid, size=(size, size), mode="bilinear", align_corners=False)
        smooth = gaussian(maps.squeeze(1), self.config.smoothing_sigma)
        highest = (smooth if self.config.image_score == "map" else grid).flatten(1).amax(dim=1)
        return Prediction(scores=highest, maps=smooth)

    def optimizer(self, module: Scorer) -> torch.optim.Optimizer:
        """Return both rules in one optimizer."""
        return TwoRules(self.config, module)
