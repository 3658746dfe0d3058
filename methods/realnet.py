"""RealNet: A Feature Selection Network with Realistic Synthetic Anomaly for Anomaly Detection.

Ximiao Zhang, Min Xu, Xiuzhuang Zhou. CVPR 2024, arXiv 2403.05897. Official code: github.com/cnulab/RealNet, read at
commit ab75012; "code" below means it.

Of a frozen CNN's channels those are kept that tell painted defects best. Networks learn to give the kept features of a
clean image back from those of the painted one. What they miss by is looked at in the few channels that show most of it
in that image, where a last network marks the defect.

This is the recipe that the authors give for one model of all classes (their issue 17): textures in place of their
diffusion model's pictures, plain reconstruction in place of U-Nets, no foreground masks. No published number belongs to
it: those in print, ADer's among them, are of the diffusion's pictures and the U-Nets.

Differences from the official code:
- How many residual blocks a reconstruction has is not stated there; two are taken.
- Channels are chosen in one pass over as many images as the code's four, chosen at random, for all stages; the code
  takes other images for each.
- Painted images are not rounded to 8 bits. Textures are DTD's where it is at hand, else generated ones, and the record
  says which. How they are changed: see `_corruption.py`.
- Epochs are counted as iterations of whole batches, and their number and the learning rate's fall are ADer's; the code
  trains one model a class for 1,000 and keeps the best test.
- Seeding, precision and batching are the harness's.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import torch
import torch.nn.functional as F
from pydantic import model_validator
from torch import Tensor, nn

from bench.api import Batch, EncoderInfo, EncoderRequest, MethodConfig, Prediction, Trained, sourced
from bench.encoders import catalog
from bench.errors import UsageError

from . import _ader, _stages
from ._corruption import AUGMENTERS, corrupted
from ._epochs import length, refuse_two_lengths
from ._maps import resized
from ._memory import images_in
from ._precision import widened
from ._switches import refuse_idle

STRIDES = (4, 8, 16, 32)
"""Of a ResNet's four stages."""
SMALLEST = 4
"""Side of the deepest stage at least: it is halved twice, and normed over more than one place before."""
SPREAD = 1e-4
"""Added to the range that distances are scaled by."""
MOMENTUM = 0.9
POOL = 16


class Config(MethodConfig):
    """RealNet's settings; defaults are of the authors' recipe for all classes, its length and rates ADer's."""

    encoder: str = sourced("wide_resnet50_2.racm_in1k", "code", "frozen CNN, by timm name")
    input_size: int | None = sourced(256, "code", "input side in pixels; null = 256", gt=0)
    stages: tuple[int, int, int, int] | None = sourced(
        None, "code: layer1 to layer4 of ResNet", "CNN stages, from 0; null = those at strides 4, 8, 16 and 32"
    )
    kept: tuple[float, float, float, float] = sourced(
        (1.0, 1.0, 0.5, 0.125), "code: 256, 512, 512 and 256 channels", "share of each stage's channels that is kept"
    )
    selection_batches: int = sourced(64, "code", "batches by which channels are chosen", gt=0)
    residual_blocks: int = sourced(2, "ours: not stated", "residual blocks of a reconstruction", ge=0)
    highest: int = sourced(
        256, "code", "channels of an image that miss most at one place, which the last network sees", ge=0
    )
    widest: int = sourced(256, "code", "channels that miss most on average, likewise", ge=0)
    painted: float = sourced(0.5, "code", "probability that an image is painted on", ge=0, le=1)
    shown: float = sourced(0.8, "code", "how much of the image may show through paint, at most", ge=0, le=1)
    threshold: float = sourced(0.5, "code", "Perlin noise above it is painted", gt=-1, lt=1)
    augmenters: int = sourced(3, "code", "augmenters a texture goes through", ge=0, le=len(AUGMENTERS))
    epochs: int = sourced(100, "ADer; code: 1000 a class", "passes over the images", gt=0)
    steps: int | None = sourced(None, "code: in epochs", "training iterations; null = those of the epochs", ge=0)
    batch_size: int = sourced(16, "code", "images a step", gt=0)
    lr: float = sourced(1e-4, "code", "learning rate", gt=0)
    decay_at: float = sourced(0.8, "ADer; code: never", "share of the steps before the rate drops", gt=0, le=1)
    decay: float = sourced(0.1, "ADer", "what the learning rate is multiplied by there", gt=0, le=1)

    @model_validator(mode="before")
    @classmethod
    def _one_length(cls, values: Any) -> Any:
        if isinstance(values, dict):
            refuse_two_lengths(values)
        return values


# ------------------------------------------------------------------------------------------------------ networks
class Residual(nn.Module):
    """x + 1x1(ReLU(3x3(ReLU x))), without biases."""

    def __init__(self, width: int, hidden: int) -> None:
        super().__init__()
        self.spatial = nn.Conv2d(width, hidden, 3, padding=1, bias=False)
        self.mixing = nn.Conv2d(hidden, width, 1, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        """Return [B, width, h, w]."""
        out: Tensor = x + self.mixing(F.relu(self.spatial(F.relu(x))))
        return out


def _normed(entering: int, leaving: int) -> list[nn.Module]:
    return [nn.Conv2d(entering, leaving, 3, padding=1), nn.InstanceNorm2d(leaving), nn.ReLU()]


class Reconstruction(nn.Module):
    """Features [B, C, h, w] to features of the same shape, by way of a quarter of the side; h and w multiples of 4."""

    def __init__(self, width: int, blocks: int) -> None:
        super().__init__()
        self.upper = nn.Sequential(*_normed(width, width), *_normed(width, 2 * width))
        self.lower = nn.Sequential(*_normed(2 * width, 2 * width), *_normed(2 * width, 4 * width))
        self.residual = nn.Sequential(*(Residual(4 * width, 2 * width) for _ in range(blocks)), nn.ReLU())
        self.rise = nn.ConvTranspose2d(8 * width, 2 * width, 4, 2, 1)
        self.leave = nn.ConvTranspose2d(4 * width, width, 4, 2, 1)

    def forward(self, x: Tensor) -> Tensor:
        """Return [B, C, h, w]."""
        half = F.avg_pool2d(self.upper(x), 2)
        quarter = F.avg_pool2d(self.lower(half), 2)
        risen = F.relu(self.rise(torch.cat([self.residual(quarter), quarter], dim=1)))
        out: Tensor = self.leave(torch.cat([risen, half], dim=1))
        return out


class Marker(nn.Module):
    """Marks defects by what is missed, in the channels of each image that miss most.

    Args:
        widths: channels of each stage.
        highest: channels chosen for their highest place.
        widest: channels chosen for their mean; one may be chosen twice.
    """

    def __init__(self, widths: Sequence[int], highest: int, widest: int) -> None:
        super().__init__()
        self.highest, self.widest = highest, widest
        width = highest + widest
        # what it norms is compared, and not looked at
        self.scale = nn.BatchNorm2d(sum(widths), affine=False, momentum=MOMENTUM)
        self.residual = nn.Sequential(Residual(width, width), Residual(width, width), nn.ReLU())
        self.narrow = nn.Sequential(
            *(nn.Conv2d(width, 128, 3, padding=1), nn.BatchNorm2d(128), nn.ReLU()),
            *(nn.Conv2d(128, 32, 3, padding=1), nn.ReLU(), nn.Conv2d(32, 8, 3, padding=1), nn.ReLU()),
        )
        self.mark = nn.Sequential(nn.Conv2d(8, 4, 3, padding=1), nn.ReLU(), nn.Conv2d(4, 2, 3, padding=1))

    def chosen(self, missed: Tensor) -> Tensor:
        """Return the channels of each image, int64 [B, highest + widest], each part in descending order."""
        scaled = self.scale(missed)
        peak = scaled.amax(dim=(2, 3)).topk(self.highest, dim=1).indices
        return torch.cat([peak, scaled.mean(dim=(2, 3)).topk(self.widest, dim=1).indices], dim=1)

    def forward(self, missed: Sequence[Tensor]) -> Tensor:
        """Return logits [B, 2, 4 h, 4 w] for squared distances [B, C, h, w] of each stage, h and w of the first."""
        size = missed[0].shape[-2:]
        joined = torch.cat([_enlarged(one, size) for one in missed], dim=1)
        channels = self.chosen(joined)[:, :, None, None].expand(-1, -1, *size)
        x = self.narrow(self.residual(joined.gather(1, channels)))
        height, width = size
        marks = self.mark(_enlarged(x, (2 * height, 2 * width)))
        return _enlarged(marks, (4 * height, 4 * width))


def _enlarged(x: Tensor, size: Sequence[int]) -> Tensor:
    return F.interpolate(x, tuple(size), mode="bilinear", align_corners=True)


class Networks(nn.Module):
    """Trainable part: a reconstruction of each stage's kept channels, and the marker.

    Attributes:
        kept0 ... kept3: int64 [k], ascending: which channels of a stage are kept.
    """

    def __init__(self, channels: Sequence[int], config: Config) -> None:
        super().__init__()
        widths = [max(round(share * width), 1) for share, width in zip(config.kept, channels, strict=True)]
        self.reconstructions = nn.ModuleList(Reconstruction(width, config.residual_blocks) for width in widths)
        self.marker = Marker(widths, config.highest, config.widest)
        for stage, width in enumerate(widths):
            self.register_buffer(f"kept{stage}", torch.arange(width))

    def selected(self, features: Mapping[str, Tensor]) -> list[Tensor]:
        """Return the kept channels of each stage among features."""
        kept = [getattr(self, f"kept{stage}") for stage in range(len(self.reconstructions))]
        return [one.index_select(1, which) for one, which in zip(_stages.listed(features), kept, strict=True)]

    def forward(self, selected: Sequence[Tensor]) -> tuple[list[Tensor], Tensor]:
        """Return what is given back of each stage, and the logits of being a defect."""
        rebuilt = [layer(one) for layer, one in zip(self.reconstructions, selected, strict=True)]
        missed = [(one - other).square() for one, other in zip(selected, rebuilt, strict=True)]
        return rebuilt, self.marker(missed)


# ------------------------------------------------------------------------------------------------------ selection
def separation(spoilt: Tensor, clean: Tensor, mask: Tensor) -> Tensor:
    """Return how far each channel is from showing the mask and nothing else: float [C], lower is better.

    Args:
        spoilt: features of painted images, float [B, C, h, w].
        clean: of the same without paint.
        mask: where paint is, 0 and 1, float [B, 1, S, S].
    """
    apart = (spoilt - clean).square()
    low, high = apart.amin(dim=(0, 2, 3), keepdim=True), apart.amax(dim=(0, 2, 3), keepdim=True)
    shown = (apart - low) / (high - low + SPREAD)
    return (shown - F.interpolate(mask, shown.shape[-2:], mode="nearest")).square().mean(dim=(0, 2, 3))


class RealNet(Trained[Config, Networks]):
    """What cannot be given back of painted features is marked, in the channels that show it best."""

    name = "realnet"
    family = "discrimination"
    encoders = ("cnn",)
    needs = frozenset({"features", "images", "textures"})
    paper = _ader.protocol("realnet")

    def __init__(self, config: Config) -> None:
        super().__init__(config)
        if not all(0 < share <= 1 for share in config.kept):
            raise UsageError(f"realnet.kept is {list(config.kept)}. Expected four shares above 0, up to 1")
        if not config.highest + config.widest:
            raise UsageError("realnet.highest and realnet.widest are both 0. Expected one of them above")
        if config.decay_at == 1:
            refuse_idle(self, ("decay",), "decay_at 1")
        if not config.painted:
            refuse_idle(self, ("shown", "threshold", "augmenters"), "painted 0")

    def steps(self, images: int) -> int:
        """Return the iterations of the recipe's epochs, or those given."""
        return length(self.config, images)

    def encoder(self) -> EncoderRequest:
        """Return the request: four stages, each of half the side of the one before."""
        config = self.config
        if catalog.describe(config.encoder).family != "cnn":
            raise UsageError(f"realnet needs a CNN, encoder '{config.encoder}' is a ViT. {_stages.FITS}")
        stages = config.stages or catalog.stages_at(config.encoder, STRIDES)
        strides = catalog.strides(config.encoder)
        if stages is None:
            raise UsageError(
                f"realnet needs stages at strides 4, 8, 16 and 32, those of encoder '{config.encoder}' are at "
                f"{', '.join(map(str, strides))}. {_stages.FITS}"
            )
        info = catalog.describe(config.encoder, None, stages)  # refuses stages that the encoder does not have
        at = [strides[stage] for stage in stages]
        if [2 * stride for stride in at[:-1]] != at[1:]:
            raise UsageError(
                f"realnet.stages {stages} of encoder '{config.encoder}' are at strides {', '.join(map(str, at))}; "
                "expected each to be twice the one before"
            )
        size, unit = config.input_size or _stages.SIDE, SMALLEST * at[-1]
        if size % unit:
            lower = max(size // unit, 1) * unit
            raise UsageError(
                f"input size {size} does not fit realnet on encoder '{config.encoder}': it halves the stage of stride "
                f"{at[-1]} twice, so it must be a multiple of {unit}, for example {lower} or {lower + unit}"
            )
        held = sum(max(round(share * width), 1) for share, width in zip(config.kept, info.channels, strict=True))
        if max(config.highest, config.widest) > held:
            raise UsageError(
                f"realnet.highest {config.highest} and realnet.widest {config.widest} choose among {held} kept "
                f"channels of encoder '{config.encoder}'. Expected no more, for example {held // 6} each"
            )
        return EncoderRequest(name=config.encoder, blocks=tuple(stages), input_size=size)

    def features(self, blocks: Mapping[int, Tensor], info: EncoderInfo) -> dict[str, Tensor]:
        """Return the stages as they are: stage0 to stage3, float [B, C, h, w], shallowest first."""
        return _stages.named(blocks)

    def build(self, info: EncoderInfo) -> Networks:
        """Return all networks, freshly initialised, that keep the first channels of each stage."""
        return Networks(info.channels, self.config)

    def painted(self, images: Tensor, by: Batch) -> tuple[Tensor, Tensor]:
        """Return images with painted defects and where these are, drawn from a batch's generator."""
        config = self.config
        how = (config.painted, (0.0, config.shown), config.threshold, config.augmenters)
        return corrupted(images, by.textures(len(images)), by.random, *how)

    def fit(self, module: Networks, batches: Iterable[Batch]) -> None:
        """Choose the channels that are kept: those that show painted defects, all images painted, and little else."""
        shown, first = self._some(batches)
        always = self.config.model_copy(update={"painted": 1.0})
        totals: list[Tensor] = []
        for images in torch.split(shown, self.config.batch_size):
            images = images.float().div_(255)
            spoilt, mask = RealNet(always).painted(images, first)
            pairs = zip(*(_stages.listed(first.encode(one)) for one in (spoilt, images)), strict=True)
            found = [separation(one, other, mask) for one, other in pairs]
            totals = [one + two for one, two in zip(totals, found, strict=True)] if totals else found
        for stage, total in enumerate(totals):
            kept = getattr(module, f"kept{stage}")
            kept.copy_(total.nan_to_num(torch.inf).argsort()[: len(kept)].sort().values)

    def _some(self, batches: Iterable[Batch]) -> tuple[Tensor, Batch]:
        """Return as many images as channels are chosen by, uint8 [N, 3, S, S] in random order, and the first batch."""
        total, wanted = images_in(batches), self.config.selection_batches * self.config.batch_size
        # on the CPU, so that it is the same on every device; where nobody says how many there are, the first ones
        order = torch.randperm(total, device="cpu")[:wanted] if total else torch.arange(wanted, device="cpu")
        place, held, first = 0, [], None
        for batch in batches:
            first = first or batch
            pixels = (batch.pixels * 255).round().byte()
            inside = order[(order >= place) & (order < place + len(pixels))] - place
            held += [pixels[row] for row in inside.sort().values.tolist()]
            place += len(pixels)
        assert first is not None, "every training set has an image"
        return torch.stack(held)[order[order < place].argsort().argsort()], first

    def loss(self, module: Networks, batch: Batch, step: int) -> Tensor:
        """Return how far the features given back are from clean ones, and how wrongly pixels are marked."""
        spoilt, mask = self.painted(batch.pixels, batch)
        clean = module.selected(batch)
        rebuilt, logits = module(module.selected(batch.encode(spoilt)))
        apart = [F.mse_loss(widened(one), other) for one, other in zip(rebuilt, clean, strict=True)]
        marks = _enlarged(widened(logits), mask.shape[-2:])
        return torch.stack(apart).sum() + F.cross_entropy(marks, mask.squeeze(1).long())

    def anomaly(self, module: Networks, batch: Batch, info: EncoderInfo, size: int) -> Prediction:
        """Return the probability of a defect at each pixel, and its highest mean over a square of 16 pixels."""
        _, logits = module(module.selected(batch))
        marks = widened(logits).softmax(dim=1)[:, 1]
        maps = resized(marks, size)
        means = F.avg_pool2d(maps.unsqueeze(1), min(POOL, size), stride=1)
        return Prediction(scores=means.amax(dim=(1, 2, 3)), maps=maps)

    def optimizer(self, module: Networks) -> torch.optim.Optimizer:
        """Return Adam over all networks, without weight decay."""
        return torch.optim.Adam(module.parameters(), lr=self.config.lr, fused=True)

    def learning_rate(self, step: int) -> float:
        """Return the rate, which drops once."""
        config = self.config
        assert config.steps is not None, "a schedule is asked of Method.settled"
        return config.lr * (config.decay if step >= round(config.steps * config.decay_at) else 1.0)
