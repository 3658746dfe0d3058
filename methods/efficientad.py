"""EfficientAD: Accurate Visual Anomaly Detection at Millisecond-Level Latencies.

Kilian Batzner, Lars Heckler, Rebecca Koenig. WACV 2024, arXiv 2303.14535. Facts are of the code at
github.com/nelson1425/EfficientAD, which is not its authors' and reaches their numbers to 0.2; "code" below means it.

A small network, the teacher, is taught to give what a large frozen CNN sees. A student learns to give the teacher's
features of normal images, an autoencoder to give them by way of a bottleneck, and the student's other half to give the
autoencoder's. An image is anomalous where these disagree: the first pair at a place, the second as a whole.

Differences from the code:
- Its teacher was distilled on ImageNet; here, unless `teacher` names the file of one, on textures and the
  training images themselves, at the beginning of each training. Its features respond to less, so scores are of this
  teacher and not the published one's; records and tables say so.
- The frozen CNN sees the same image enlarged twice; the code loads it once more at twice the size.
- Student and teacher are kept apart (penalty) on textures, where both take ImageNet.
- Maps are scaled by quantiles over the training images; the code holds a tenth of these back, on MVTec LOCO its
  validation set.
- Images whose every pixel lies below the low quantile all score 0 in the code, the value of its margin; here they are
  ranked by their highest pixel within it, below all others.
- Colours are changed after the resize, not before, and nothing is rounded to 8 bits.
- One model is for all classes: statistics and quantiles are taken over all of them.
- Seeding, precision and batching are the harness's.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Generator, Tensor, nn

from bench.api import Batch, EncoderInfo, EncoderRequest, MethodConfig, Prediction, Protocol, Trained, sourced
from bench.encoders import catalog, checkpoints, digest
from bench.errors import UsageError, WeightsError

from . import _patches, _stages
from ._gaussian import Spread
from ._maps import resized
from ._pdn import MARGIN, UNIT, Autoencoder, PatchNetwork
from ._precision import widened
from ._switches import refuse_idle
from ._views import grey, greyed

MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
"""By which the small networks' images are normalised."""
TARGET = 1024
"""Width of each stage of the frozen CNN in what is distilled, at most."""
GREYED, PENALTY_GREYED = 0.1, 0.3
"""Share of images without colour, in distillation and in the penalty."""
JITTER = 0.2
"""How far brightness, contrast or saturation goes from 1."""
AT_ONCE = 16
"""Textures that the frozen CNN sees at once."""
SMALL = 1e-6
"""Least distance of quantiles."""


class Config(MethodConfig):
    """EfficientAD's settings; defaults are EfficientAD-S of the paper."""

    encoder: str = sourced("wide_resnet101_2.tv_in1k", "code", "frozen CNN that the teacher learns from, by timm name")
    teacher: str | None = sourced(
        None, "code: given", "PyTorch file (.pth) of a teacher's weights; null = one is distilled"
    )
    input_size: int | None = sourced(256, "code", "input side in pixels; null = 256", gt=0)
    size: Literal["s", "m"] = sourced("s", "code", "the small or the medium network")
    width: int | None = sourced(None, "code: 128 or 256", "channels of its first layer; null = 128, of m 256", gt=0)
    dim: int = sourced(384, "code", "channels of the teacher's features", gt=0)
    autoencoder_width: int = sourced(64, "code", "channels of the autoencoder's widest layers", gt=1)
    dropout: float = sourced(0.2, "code", "dropout in the autoencoder's decoder", ge=0, lt=1)
    distillation_steps: int = sourced(60_000, "code", "iterations in which the teacher is distilled", ge=0)
    distilled_textures: int = sourced(15, "ours; code: 16 images", "textures beside a step's images in it", ge=0)
    statistics_textures: int = sourced(10_000, "code: images", "textures by which what is distilled is scaled", gt=0)
    training_steps: int = sourced(70_000, "code", "iterations in which student and autoencoder learn", gt=0)
    steps: int | None = sourced(
        None, "code: both", "training iterations in all, divided in the ratio of the two; null = both", ge=0
    )
    batch_size: int = sourced(1, "code", "images a step", gt=0)
    lr: float = sourced(1e-4, "code", "learning rate", gt=0)
    weight_decay: float = sourced(1e-5, "code", "added to the gradient", ge=0)
    decay_at: float = sourced(
        0.95, "code: step 66,500", "share of the student's steps before the rate drops", ge=0, le=1
    )
    decay: float = sourced(0.1, "code", "what the learning rate is multiplied by there", gt=0, le=1)
    hard_share: float = sourced(0.001, "code", "share of the highest differences that is learnt from", gt=0, le=1)
    penalty: float = sourced(1.0, "code", "weight of the student's squared features of textures", ge=0)
    low_quantile: float = sourced(0.9, "code", "quantile of normal pixels that becomes 0", ge=0, lt=1)
    high_quantile: float = sourced(0.995, "code", "quantile of normal pixels that becomes 0.1", gt=0, le=1)


# ------------------------------------------------------------------------------------------------------ networks
class Networks(nn.Module):
    """Trainable part: teacher, student and autoencoder, with what is known of normal images.

    Attributes:
        target_mean, target_std: of what is distilled, by channel, float [D].
        teacher_mean, teacher_std: of the teacher's features of the training images.
        quantiles: low and high one of both maps, float [2, 2].
    """

    target_mean: Tensor
    target_std: Tensor
    teacher_mean: Tensor
    teacher_std: Tensor
    quantiles: Tensor
    mean: Tensor
    std: Tensor

    def __init__(self, input_size: int, dim: int, config: Config) -> None:
        super().__init__()
        self.teacher = PatchNetwork(config.size, config.width, dim)
        self.student = PatchNetwork(config.size, config.width, 2 * dim)
        self.autoencoder = Autoencoder(input_size, config.autoencoder_width, dim, config.dropout)
        for name in ("target", "teacher"):
            self.register_buffer(f"{name}_mean", torch.zeros(dim))
            self.register_buffer(f"{name}_std", torch.ones(dim))
        self.register_buffer("quantiles", torch.tensor([[0.0, 1.0], [0.0, 1.0]]))
        for name, values in (("mean", MEAN), ("std", STD)):
            self.register_buffer(name, torch.tensor(values).view(3, 1, 1), persistent=False)

    def normalised(self, images: Tensor) -> Tensor:
        """Return images in [0, 1] as the networks expect them."""
        return (images - self.mean) / self.std

    @torch.no_grad()
    def taught(self, images: Tensor) -> Tensor:
        """Return the teacher's scaled features of normalised images."""
        return _scaled(widened(self.teacher(images)), self.teacher_mean, self.teacher_std)

    def forward(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """Return where teacher and student, and autoencoder and student, disagree, float [B, h, w] each."""
        images = self.normalised(images)
        follows, mimics = widened(self.student(images)).chunk(2, dim=1)
        made = widened(self.autoencoder(images))
        return (self.taught(images) - follows).square().mean(dim=1), (made - mimics).square().mean(dim=1)


def _scaled(features: Tensor, mean: Tensor, std: Tensor) -> Tensor:
    return (features - mean[:, None, None]) / std[:, None, None]


# ------------------------------------------------------------------------------------------------------ pieces
def hard_mean(differences: Tensor, share: float) -> Tensor:
    """Return the mean of the differences that reach their quantile 1 - share (linear between neighbours): scalar."""
    values = differences.flatten()
    place = (1 - share) * (len(values) - 1)
    lower = min(int(place), len(values) - 1)
    highest = values.topk(len(values) - lower).values
    with torch.no_grad():
        below, above = highest[-1], highest[-2] if len(highest) > 1 else highest[-1]
        hard = highest >= torch.lerp(below, above, place - lower)
    return torch.where(hard, highest, 0).sum() / hard.sum()


def joined_maps(maps: Sequence[Tensor], quantiles: Tensor) -> Tensor:
    """Return the mean of maps [B, h, w], each scaled so that its low quantile is 0 and its high one 0.1."""
    scaled = [
        0.1 * (one - low) / (high - low).clamp(min=SMALL)
        for one, (low, high) in zip(maps, quantiles.unbind(), strict=True)
    ]
    return torch.stack(scaled).mean(dim=0)


def recoloured(images: Tensor, random: Generator) -> Tensor:
    """Return each image [B, 3, S, S] in [0, 1] with its brightness, its contrast or its saturation changed."""
    count, device = len(images), images.device
    which = torch.randint(3, (count,), generator=random, device=device)
    factor = 1 + JITTER * (2 * torch.rand(count, 1, 1, 1, generator=random, device=device) - 1)
    dull = grey(images)
    bases = torch.stack([torch.zeros_like(images), dull.mean(dim=(1, 2, 3), keepdim=True).expand_as(images), dull])
    return torch.lerp(bases[which, torch.arange(count, device=device)], images, factor).clamp(0, 1)


# ------------------------------------------------------------------------------------------------------ the method
class EfficientAD(Trained[Config, Networks]):
    """Student, teacher and autoencoder, small and fast, and where they disagree."""

    name = "efficientad"
    family = "distillation"
    encoders = ("cnn",)
    needs = frozenset({"images", "textures"})
    paper = Protocol("paper:efficientad")

    def __init__(self, config: Config) -> None:
        super().__init__(config)
        if config.low_quantile >= config.high_quantile:
            raise UsageError(
                f"efficientad.low_quantile {config.low_quantile} is not below efficientad.high_quantile "
                f"{config.high_quantile}. Expected a scale that rises"
            )
        if config.teacher is not None:
            idle = ("encoder", "distillation_steps", "distilled_textures", "statistics_textures")
            refuse_idle(self, idle, "a teacher given")
        elif not config.distillation_steps:
            refuse_idle(self, ("distilled_textures", "statistics_textures"), "distillation_steps 0")
        if config.decay_at == 1:
            refuse_idle(self, ("decay",), "decay_at 1")
        if not (config.penalty or self._distils):
            self.needs = frozenset({"images"})

    @property
    def _distils(self) -> bool:
        return self.config.teacher is None

    @property
    def revision(self) -> str:
        """What the teacher's file holds, if one is given."""
        return "" if self.config.teacher is None else f"teacher {digest.fingerprint(_file(self.config.teacher))}"

    @property
    def note(self) -> str:
        """Whose teacher it is."""
        config = self.config
        if config.teacher is not None:
            return f"efficientad's teacher is of a file, sha256 {digest.fingerprint(_file(config.teacher))[:16]}"
        return f"efficientad's teacher was distilled here from {config.encoder}, and is not its authors'"

    def steps(self, images: int) -> int:
        """Return the iterations of both phases, or those given in all."""
        config = self.config
        return config.training_steps + self._distillation if config.steps is None else config.steps

    @property
    def _distillation(self) -> int:
        return self.config.distillation_steps if self._distils else 0

    @property
    def begin(self) -> int:
        """The iteration at which student and autoencoder begin; of `Method.settled`."""
        config = self.config
        assert config.steps is not None, "phases are asked of Method.settled"
        return round(config.steps * self._distillation / (self._distillation + config.training_steps))

    def phases(self) -> tuple[int, ...]:
        """Return the iteration at which the teacher is done."""
        return (self.begin,)

    def encoder(self) -> EncoderRequest | None:
        """Return the request: the stages of a CNN at strides 8 and 16; none where a teacher is given."""
        config = self.config
        size = config.input_size or _stages.SIDE
        if size % UNIT or size < 2 * UNIT:
            lower = max(size // UNIT, 2) * UNIT
            raise UsageError(
                f"input size {size} does not fit efficientad, whose autoencoder halves images five times. Expected a "
                f"multiple of {UNIT} from {2 * UNIT} on, for example {lower} or {lower + UNIT}"
            )
        if not self._distils:
            return None
        if catalog.describe(config.encoder).family != "cnn":
            raise UsageError(f"efficientad needs a CNN, encoder '{config.encoder}' is a ViT. {_stages.FITS}")
        stages = catalog.stages_at(config.encoder, _patches.STRIDES)
        if stages is None:
            raise UsageError(
                f"efficientad's teacher learns from stages at strides 8 and 16, encoder '{config.encoder}' lacks one. "
                f"{_stages.FITS}"
            )
        return EncoderRequest(name=config.encoder, blocks=tuple(stages), input_size=size)

    def features(self, blocks: Mapping[int, Tensor], info: EncoderInfo) -> dict[str, Tensor]:
        """Return what is distilled of images: `target` float [B, D, h, w], PatchCore's features of them."""
        maps = _patches.as_maps(blocks, info)
        height, width = maps[0].shape[-2:]
        patches = _patches.joined(maps, 3, self._widths(info.channels), self.config.dim)
        return {"target": patches.transpose(1, 2).reshape(len(patches), -1, height, width)}

    def _widths(self, channels: Sequence[int]) -> list[int]:
        return [min(TARGET, 2 * count) for count in channels]

    def build(self, info: EncoderInfo) -> Networks:
        """Return all networks, freshly initialised."""
        dim = min(self.config.dim, sum(self._widths(info.channels))) if self._distils else self.config.dim
        module = Networks(info.input_size, dim, self.config)
        module.teacher.requires_grad_(self._distils)
        return module

    def fit(self, module: Networks, batches: Iterable[Batch]) -> None:
        """Take the teacher in, or find mean and standard deviation of what is distilled, over textures."""
        if self.config.teacher is not None:
            # not where it is built: a kept model has it, and may be where the file is not
            _fill(module.teacher, _file(self.config.teacher), self.config.size)
            return
        first, spread = None, Spread()
        for batch in batches:
            first = first or batch
        assert first is not None, "every training set has an image"
        for start in range(0, self.config.statistics_textures, AT_ONCE):
            count = min(AT_ONCE, self.config.statistics_textures - start)
            spread.add(self._seen(first.textures(count), first))
        spread.into(module.target_mean, module.target_std)

    def _seen(self, images: Tensor, by: Batch) -> Tensor:
        """Return what the frozen CNN sees of images enlarged twice."""
        return by.encode(F.interpolate(images, scale_factor=2.0, mode="bilinear", align_corners=False))["target"]

    def enter(self, module: Networks, batches: Iterable[Batch]) -> None:
        """Find mean and standard deviation of the teacher's features of the training images."""
        spread = Spread()
        for batch in batches:
            spread.add(module.teacher(module.normalised(batch.pixels)))
        spread.into(module.teacher_mean, module.teacher_std)

    def finish(self, module: Networks, batches: Iterable[Batch]) -> None:
        """Find the quantiles of both maps over all pixels of the training images."""
        config = self.config
        found = [module(batch.pixels) for batch in batches]
        for place, maps in enumerate(zip(*found, strict=True)):
            values = torch.cat([one.flatten() for one in maps]).sort().values
            scale = [_quantile(values, share) for share in (config.low_quantile, config.high_quantile)]
            module.quantiles[place] = torch.stack(scale)

    def loss(self, module: Networks, batch: Batch, step: int) -> Tensor:
        """Return the teacher's distance to the frozen CNN, or the sum of the four losses."""
        if step < self.begin:
            return self._distillation_loss(module, batch)
        config, images, random = self.config, batch.pixels, batch.random
        changed = recoloured(images, random)
        shown = [images, changed]
        if config.penalty:
            shown.append(greyed(batch.textures(len(images)), PENALTY_GREYED, random))
        seen = module.normalised(torch.cat(shown))
        follows, mimics = widened(module.student(seen)).chunk(2, dim=1)
        clean, _, *other = torch.split(follows, len(images))
        mimicked = torch.split(mimics, len(images))[1]
        targets = module.taught(seen[: 2 * len(images)])
        made = widened(module.autoencoder(seen[len(images) : 2 * len(images)]))
        hard = hard_mean((targets[: len(images)] - clean).square(), config.hard_share)
        apart = F.mse_loss(made, targets[len(images) :]) + F.mse_loss(mimicked, made)
        return hard + apart + sum(config.penalty * one.square().mean() for one in other)

    def _distillation_loss(self, module: Networks, batch: Batch) -> Tensor:
        """Return the mean squared distance of the teacher's features to what the frozen CNN sees."""
        images, count = batch.pixels, self.config.distilled_textures
        if count:
            images = torch.cat([images, batch.textures(count)])
        images = greyed(images, GREYED, batch.random)
        wanted = _scaled(self._seen(images, batch), module.target_mean, module.target_std)
        return F.mse_loss(widened(module.teacher(module.normalised(images), padded=True)), wanted)

    def anomaly(self, module: Networks, batch: Batch, info: EncoderInfo, size: int) -> Prediction:
        """Return the mean of both scaled maps, 0 where no feature is, and its highest pixel at the input's size."""
        maps = F.pad(joined_maps(module(batch.pixels), module.quantiles), (MARGIN,) * 4)
        pixels = resized(maps, info.input_size)
        # pixels that no margin has a share in
        border = round((MARGIN + 0.5) * info.input_size / maps.shape[-1])
        inner = pixels[:, border:-border, border:-border].amax(dim=(1, 2))
        highest = pixels.amax(dim=(1, 2))
        return Prediction(scores=torch.where(highest > 0, highest, inner), maps=resized(maps, size))

    def optimizer(self, module: Networks) -> torch.optim.Optimizer:
        """Return Adam over all that is trained; what a phase does not train has no gradient in it, and stays."""
        config = self.config
        trained = [param for param in module.parameters() if param.requires_grad]
        return torch.optim.Adam(trained, lr=config.lr, weight_decay=config.weight_decay, fused=True)

    def learning_rate(self, step: int) -> float:
        """Return the rate, which drops once near the end."""
        config = self.config
        assert config.steps is not None, "a schedule is asked of Method.settled"
        drop = self.begin + int(config.decay_at * (config.steps - self.begin))
        return config.lr * (config.decay if step >= drop else 1.0)


def _quantile(ordered: Tensor, share: float) -> Tensor:
    """Return a quantile of ascending values, linear between neighbours; `torch.quantile` refuses many."""
    place = share * (len(ordered) - 1)
    lower = int(place)
    return torch.lerp(ordered[lower], ordered[min(lower + 1, len(ordered) - 1)], place - lower)


def _file(name: str) -> Path:
    path = Path(name).expanduser()
    if not path.is_file():
        raise WeightsError(f"efficientad.teacher: there is no file {name}. Expected a teacher's weights, or null")
    return path


def _fill(teacher: PatchNetwork, path: Path, size: str) -> None:
    """Take a file's tensors in, whatever they are called: the layers come in the order in which they run."""
    found, own = checkpoints.read(path), teacher.state_dict()
    shapes, wanted = ([list(one.shape) for one in state.values()] for state in (found, own))
    if shapes != wanted:
        raise WeightsError(
            f"{path} holds tensors of shapes {shapes}, and not the teacher of efficientad.size {size}: "
            f"{wanted}. Expected the file of that network"
        )
    teacher.load_state_dict(dict(zip(own, found.values(), strict=True)))
