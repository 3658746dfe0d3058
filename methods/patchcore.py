"""PatchCore: Towards Total Recall in Industrial Anomaly Detection.

Karsten Roth, Latha Pemula, Joaquin Zepeda, Bernhard Schoelkopf, Thomas Brox, Peter Gehler. CVPR 2022, arXiv 2106.08265.
Official code: github.com/amazon-science/patchcore-inspection, read at commit 8a7748c; "code" below means it, and its
README's command for MVTec AD where it gives values.

A frozen network sees normal images once. Each place's mid-level features, averaged over their neighbourhood, go into a
memory, of which a coreset is kept that covers the rest. A place of a test image is as anomalous as it is far from the
memory. One memory serves all classes here.

Differences from the official code:
- Candidates are bounded: of more than `candidates` patches a uniform sample enters the coreset search, so the memory
  holds at most share * candidates vectors, and `fit` takes about 2.3 * candidates * dim * 4 bytes at its peak (1.9 GB
  by default). The code takes all patches, of one class.
- The coreset's greedy search starts from one random patch; the code measures its first choices against the mean
  distance to ten random patches.
- The random projection is Gaussian; the code's is an untrained Linear layer.
- Distances are Euclidean; the code's index returns their squares.
- The image score is reweighted as in the paper, which the code leaves out (`reweight_neighbours` 0 gives the code's).
- Stages of fewer channels than half of `dim` are brought to twice their channels, and ViTs serve as well as CNNs.
- Maps are resized straight to the evaluation size; the code's is the input size, 224. It counts a mask pixel as
  anomalous only where the resized mask is at its maximum; here half a pixel's area decides.

Not stated in the paper, chosen here:
- The number of neighbours in the reweighting: 9, as anomalib has it.
- Which blocks of a ViT: those where its second and third quarter end.

The search is exact; matrix products and top-k do it fast enough on a memory of this size, without a library.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

import torch
import torch.nn.functional as F
from torch import Tensor

from bench.api import Batch, EncoderInfo, EncoderRequest, Memory, MemoryConfig, Prediction, Protocol, sourced

from . import _patches
from ._coreset import coreset
from ._maps import gaussian
from ._memory import Bank, sampled


class Config(MemoryConfig):
    """PatchCore's settings; defaults are PatchCore-10% with a bound on memory."""

    encoder: str = sourced(
        "wide_resnet50_2.tv_in1k", "code: wideresnet50 of torchvision", "frozen CNN or ViT, by timm name"
    )
    input_size: int | None = sourced(
        None, "code: 224", "input side in pixels; null = 28 patches of the first layer", gt=0
    )
    layers: tuple[int, ...] | None = sourced(
        None,
        "code: layer2 and layer3 of ResNet; ours for others",
        "CNN stages or ViT blocks, from 0; null = the stages at strides 8 and 16, or half and three quarters deep",
    )
    neighbourhood: int = sourced(3, "code", "odd side of the square that features are averaged over", gt=0)
    dim: int = sourced(1024, "code", "width of a patch's features", gt=0)
    candidates: int = sourced(200_000, "ours", "patches that the coreset is chosen from; bounds memory", gt=0)
    share: float = sourced(0.1, "code: PatchCore-10%", "share of the candidates that is remembered", gt=0, le=1)
    projection: int = sourced(128, "code", "dimensions that the coreset search is projected to", gt=0)
    reweight_neighbours: int = sourced(
        9,
        "the paper's reweighting; number as in anomalib",
        "neighbours that reweight the image score; 0 = no reweighting",
        ge=0,
    )
    smoothing_sigma: float = sourced(4.0, "code", "sigma in pixels of the map's Gaussian", gt=0)


class PatchCore(Memory[Config, Bank]):
    """Distance of each place's features to a coreset of those of normal images."""

    name = "patchcore"
    family = "memory"
    paper = Protocol("paper:patchcore", crop=224 / 256, eval_size=224)

    def encoder(self) -> EncoderRequest:
        """Return the request: mid-level stages or blocks, 28 patches a side where no input size is given."""
        return _patches.request(self)

    def features(self, blocks: Mapping[int, Tensor], info: EncoderInfo) -> dict[str, Tensor]:
        """Return locally aware patch features: `patches` float [B, h*w, D], on the grid of the first layer."""
        maps = _patches.as_maps(blocks, info)
        widths = [self._width(layer.shape[1]) for layer in maps]
        return {"patches": _patches.joined(maps, self.config.neighbourhood, widths, self.config.dim)}

    def build(self, info: EncoderInfo) -> Bank:
        """Return the memory at its largest, not filled yet."""
        config = self.config
        channels = info.channels or (info.dim,) * len(self.encoder().blocks)
        width = min(config.dim, sum(self._width(count) for count in channels))
        return Bank(max(1, round(config.share * config.candidates)), width)

    def fit(self, module: Bank, batches: Iterable[Batch]) -> None:
        """Remember a coreset of the training images' patches."""
        config = self.config
        candidates = sampled((image for batch in batches for image in batch["patches"].float()), config.candidates)
        module.bank = coreset(candidates, config.share, config.projection)

    def anomaly(self, module: Bank, batch: Batch, info: EncoderInfo, size: int) -> Prediction:
        """Return smoothed maps of the distance to the memory, and each image's highest one, reweighted."""
        memory, patches = module, batch["patches"]
        found, rows = memory.nearest(patches.flatten(0, 1), 1)
        distances, rows = found.view(len(patches), -1), rows.view(len(patches), -1)
        highest, place = distances.max(dim=1)
        scores = highest
        if self.config.reweight_neighbours:
            images = torch.arange(len(patches), device=place.device)
            weight = self._weight(memory, patches[images, place].float(), rows[images, place])
            scores = highest * weight
        side = round(distances.shape[1] ** 0.5)
        maps = F.interpolate(distances.view(-1, 1, side, side), size=(size, size), mode="bilinear", align_corners=False)
        return Prediction(scores=scores, maps=gaussian(maps.squeeze(1), self.config.smoothing_sigma))

    def _weight(self, memory: Bank, patches: Tensor, rows: Tensor) -> Tensor:
        """Return the paper's weight of each image's most anomalous patch.

        The weight is 1 - exp(|q - m*|) / sum over m near m* of exp(|q - m|): small where the patch is no farther from
        its nearest memory m* than from those around that.

        Args:
            memory: the memory.
            patches: most anomalous patch of each image [B, D].
            rows: int64 [B], where in the memory its nearest vector is.
        """
        nearest = memory.at(rows)
        _, around = memory.nearest(nearest, self.config.reweight_neighbours)
        if around.shape[1] < 2:  # a memory of one vector has nothing to compare with
            return torch.ones(len(patches), device=patches.device)
        apart = (patches.unsqueeze(1) - memory.at(around)).norm(dim=2)
        own = (patches - nearest).norm(dim=1)
        return 1.0 - torch.exp(own - apart.logsumexp(dim=1))

    def _width(self, channels: int) -> int:
        return min(self.config.dim, 2 * channels)
