"""CFLOW-AD: Real-Time Unsupervised Anomaly Detection with Localization via Conditional Normalizing Flows.

Denis Gudovskiy, Shun Ishizaka, Kazuki Kozuka. WACV 2022, arXiv 2107.12571. Code: configuration `cflow` of
github.com/zhangzjn/ADer at commit 902937a, of the multi-class tables, after the authors' github.com/gudovskiy/cflow-ad,
whose blocks are FrEIA's.

Each of three stages of a frozen CNN has a normalizing flow: an invertible network that is told a place's coordinates
and turns the features found there into normally distributed ones. It gives the density of any feature at any place.
Where that is low, the image is anomalous.

Differences from the official codes:
- A stage's densities are compared with the highest of the training images. The codes take the highest of all test
  images, so that what an image scores depends on the others.
- Images are not rotated; the codes turn training images by up to 5 degrees.
- What is drawn at random is drawn by the step's own generator. The rotations between blocks are orthogonal matrices
  from a QR decomposition, reflections among them; FrEIA's are drawn from SO(C), and kept with their inverses.
- A batch of fewer vectors than a fibre is one fibre; the codes refuse it.
- Maps are resized straight to the evaluation size; the codes' is the input size, 256 at both.
- Any CNN with stages at strides 8, 16 and 32 serves. Pixels are normalised as the encoder was trained.
- Epochs are counted as iterations, and evaluation is ADer's: see `_ader.py`. An iteration is a batch of images, in
  which each fibre of vectors is an update.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping, Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from bench.api import Batch, EncoderInfo, EncoderRequest, MethodConfig, Prediction, Trained, sourced
from bench.errors import UsageError

from . import _ader, _stages
from ._maps import upsampled_sum

STRIDES = (8, 16, 32)
"""Strides of ResNet's last three stages."""
SUBNET_SCALE = 0.1
"""What a block's network says is taken a tenth of, as FrEIA does."""
GAIN_BETA = 0.5
"""Of the softplus that keeps gains positive; a tenth of its value is the gain."""
GAIN_START = 2.0 * math.log(math.exp(5.0) - 1.0)
"""Where a gain is 1."""
LOG_ROOT_TAU = 0.9189385332046727
"""Logarithm of the root of 2 pi."""
WARM_START = 0.1
"""Share of the learning rate that training starts with."""
FLOOR = 1e-3
"""Share of the learning rate that the cosine falls to."""


class Config(MethodConfig):
    """CFLOW-AD's settings; defaults are ADer's."""

    encoder: str = sourced("wide_resnet50_2.tv_in1k", "both codes: torchvision's weights", "frozen CNN, by timm name")
    input_size: int | None = sourced(256, "ADer", "input side in pixels; null = 256", gt=0)
    stages: tuple[int, int, int] | None = sourced(
        None, "both codes: layer2 to layer4 of ResNet", "CNN stages, from 0; null = those at strides 8, 16 and 32"
    )
    blocks: int = sourced(8, "both codes", "coupling blocks of a stage's flow", gt=0)
    condition: int = sourced(128, "both codes", "width of a place's code, a multiple of 4", gt=0)
    clamp: float = sourced(1.9, "both codes", "largest logarithm of a factor in a block", gt=0)
    fibre: int = sourced(256, "both codes", "vectors of an update", gt=0)
    meta_epochs: int = sourced(10, "ADer; authors: 25", "epochs of the learning rate", gt=0)
    sub_epochs: int = sourced(10, "ADer; authors: 8", "times that each training image is seen in one of them", gt=0)
    steps: int | None = sourced(None, "both codes: in epochs", "training iterations; null = those of the epochs", ge=0)
    batch_size: int = sourced(32, "both codes", "images whose vectors are shuffled together", gt=0)
    lr: float = sourced(2e-4, "both codes", "highest learning rate", gt=0)
    warm_epochs: int = sourced(2, "both codes", "meta epochs in which the rate rises", ge=0)
    score_pool: int = sourced(16, "ADer", "side in pixels of the mean whose maximum the score is; 1 = none", gt=0)


class Coupling(nn.Module):
    """One invertible block: half of the channels shifts and scales the other half, then all are scaled and turned.

    Args:
        width: channels.
        condition: width of the place's code.
        clamp: largest logarithm of a factor.
    """

    rotation: Tensor

    def __init__(self, width: int, condition: int, clamp: float) -> None:
        super().__init__()
        self.clamp = clamp
        self.kept = width - width // 2
        told = self.kept + condition
        self.expand = nn.Linear(told, 2 * told)
        self.reduce = nn.Linear(2 * told, 2 * (width // 2))
        self.gain = nn.Parameter(torch.full((width,), GAIN_START))
        self.offset = nn.Parameter(torch.zeros(width))
        turned, upper = torch.linalg.qr(torch.randn(width, width))
        # without the sign the matrices would not be drawn evenly
        self.register_buffer("rotation", turned * upper.diagonal().sign())

    def forward(self, x: Tensor, code: Tensor) -> tuple[Tensor, Tensor]:
        """Return vectors [N, width] for [N, width] at places of codes [N, condition], and log |det J|, [N]."""
        kept, moved = x[:, : self.kept], x[:, self.kept :]
        said = SUBNET_SCALE * self.reduce(self.expand(torch.cat([kept, code], dim=1)).relu())
        scale, shift = said.chunk(2, dim=1)
        scale = self.clamp * scale.tanh()
        gain = 0.1 * F.softplus(self.gain, beta=GAIN_BETA)
        out = torch.cat([kept, moved * scale.exp() + shift], dim=1) * gain + self.offset
        return F.linear(out, self.rotation), scale.sum(dim=1) + gain.log().sum()


class Flow(nn.Module):
    """A stage's flow; gives the log-likelihood of its features."""

    def __init__(self, width: int, config: Config) -> None:
        super().__init__()
        self.width = width
        self.blocks = nn.ModuleList(Coupling(width, config.condition, config.clamp) for _ in range(config.blocks))

    def forward(self, x: Tensor, code: Tensor) -> Tensor:
        """Return log p / width, float [N], of vectors [N, width] at places of codes [N, condition]."""
        determinant = torch.zeros(len(x), device=x.device)
        for block in self.blocks:
            x, part = block(x, code)
            determinant = determinant + part
        return (determinant - 0.5 * x.float().square().sum(dim=1)) / self.width - LOG_ROOT_TAU


class Flows(nn.Module):
    """Trainable part: a flow a stage.

    Attributes:
        highest: float32 [stages], the highest log p / width of each stage in the training images; 0 before training.
    """

    highest: Tensor

    def __init__(self, channels: Sequence[int], side: int, config: Config) -> None:
        super().__init__()
        self.flows = nn.ModuleList(Flow(width, config) for width in channels)
        self.register_buffer("highest", torch.zeros(len(channels)))
        for number in range(len(channels)):
            length = side << (len(channels) - 1 - number)
            self.register_buffer(f"code{number}", places(config.condition, length, length), persistent=False)

    def vectors(self, number: int, stage: Tensor) -> tuple[Tensor, Tensor]:
        """Return what the flow of a stage [B, C, h, w] takes: vectors [B*h*w, C] and codes of their places."""
        code = self.get_buffer(f"code{number}").flatten(1).T
        return stage.permute(0, 2, 3, 1).flatten(0, 2), code.repeat(len(stage), 1)

    def forward(self, stages: Sequence[Tensor]) -> list[Tensor]:
        """Return log p / width at each place of each stage: float32 [B, h, w]."""
        found = []
        for number, (flow, stage) in enumerate(zip(self.flows, stages, strict=True)):
            likelihood = flow(*self.vectors(number, stage))
            found.append(likelihood.view(len(stage), *stage.shape[2:]).float())
        return found


def places(width: int, rows: int, columns: int) -> Tensor:
    """Return codes of places, float32 [width, rows, columns]: waves over columns, then over rows, half of them each.

    Sine and cosine take turns, at frequencies that fall from 1 to nearly 1 / 10,000.
    """
    half = width // 2
    frequency = 10_000.0 ** (-torch.arange(0, half, 2, dtype=torch.float64) / half)

    def waves(length: int) -> Tensor:
        angle = frequency[:, None] * torch.arange(length)
        return torch.stack([angle.sin(), angle.cos()], dim=1).flatten(0, 1).float()

    along, down = waves(columns), waves(rows)
    return torch.cat([along[:, None].expand(-1, rows, -1), down[:, :, None].expand(-1, -1, columns)])


def surprise(likelihood: Tensor) -> Tensor:
    """Return the training loss of values of log p / width: the mean of -log sigmoid."""
    return -F.logsigmoid(likelihood).mean()


class CFlow(Trained[Config, Flows]):
    """Conditional normalizing flows give the density of a frozen CNN's features at each place."""

    name = "cflow"
    family = "density"
    encoders = ("cnn",)
    paper = _ader.protocol("cflow")

    def __init__(self, config: Config) -> None:
        super().__init__(config)
        if config.condition % 4:
            raise UsageError(f"cflow.condition is {config.condition}, expected a multiple of 4")
        if config.warm_epochs > config.meta_epochs:
            raise UsageError(
                f"cflow.warm_epochs is {config.warm_epochs}, expected no more than cflow.meta_epochs, "
                f"{config.meta_epochs}"
            )

    def steps(self, images: int) -> int:
        """Return the iterations of the epochs, each without its last incomplete batch, or those given."""
        config = self.config
        if config.steps is not None:
            return config.steps
        return config.meta_epochs * config.sub_epochs * max(images // config.batch_size, 1)

    def encoder(self) -> EncoderRequest:
        """Return the request: three stages, each of half the side of the one before."""
        return _stages.request(self, self.config.stages, STRIDES)

    def features(self, blocks: Mapping[int, Tensor], info: EncoderInfo) -> dict[str, Tensor]:
        """Return the stages as they are: stage0 to stage2, float [B, C, h, w], shallowest first."""
        return _stages.named(blocks)

    def build(self, info: EncoderInfo) -> Flows:
        """Return the flows, freshly initialised."""
        return Flows(info.channels, info.grid[0], self.config)

    def loss(self, module: Flows, batch: Batch, step: int) -> Tensor:
        """Return the sum over stages of the surprise at all their vectors; training takes it by fibres."""
        return torch.stack([surprise(likelihood) for likelihood in module(_stages.listed(batch))]).sum()

    def losses(self, module: Flows, batch: Batch, step: int) -> Iterator[Tensor]:
        """Yield the surprise at a fibre of one stage's vectors after the other; what is left of a batch is dropped."""
        for number, (flow, stage) in enumerate(zip(module.flows, _stages.listed(batch), strict=True)):
            vectors, codes = module.vectors(number, stage)
            order = torch.randperm(len(vectors), generator=batch.random, device=vectors.device)
            length = min(self.config.fibre, len(order))
            for fibre in torch.split(order[: len(order) // length * length], length):
                yield surprise(flow(vectors[fibre], codes[fibre]))

    def finish(self, module: Flows, batches: Iterable[Batch]) -> None:
        """Keep each stage's highest likelihood, against which all others are held."""
        module.highest.fill_(-torch.inf)
        for batch in batches:
            found = torch.stack([likelihood.amax() for likelihood in module(_stages.listed(batch))])
            module.highest.copy_(torch.maximum(module.highest, found))

    def anomaly(self, module: Flows, batch: Batch, info: EncoderInfo, size: int) -> Prediction:
        """Return maps of how far densities fall behind the highest, and the highest mean over a square of each."""
        likelihoods = module(_stages.listed(batch))
        likely = [(found - highest).exp() for found, highest in zip(likelihoods, module.highest, strict=True)]
        maps = len(likely) - upsampled_sum(likely, size)
        pool = min(self.config.score_pool, size)
        scores = F.avg_pool2d(maps.unsqueeze(1), pool, stride=1).amax(dim=(1, 2, 3))
        return Prediction(scores=scores, maps=maps)

    def optimizer(self, module: Flows) -> torch.optim.Optimizer:
        """Return Adam over all flows; a flow that a fibre does not pass is not moved by it."""
        return torch.optim.Adam(module.parameters(), lr=self.config.lr, fused=True)

    def learning_rate(self, step: int) -> float:
        """Return the rate: half a cosine over the meta epochs, the same within each, after a rise at their start."""
        config = self.config
        assert config.steps is not None, "a schedule is asked of Method.settled"
        epochs = config.meta_epochs
        done = step * epochs / max(config.steps, 1)
        if done < config.warm_epochs:
            reached = self._cosine(config.warm_epochs / epochs)
            return config.lr * WARM_START + done / config.warm_epochs * (reached - config.lr * WARM_START)
        return self._cosine(math.floor(done) / epochs)

    def _cosine(self, share: float) -> float:
        floor = self.config.lr * FLOOR
        return floor + (self.config.lr - floor) * 0.5 * (1.0 + math.cos(math.pi * share))
