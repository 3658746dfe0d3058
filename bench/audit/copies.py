"""Twins and near copies: test images whose picture, or nearly that, was trained on.

Twins have the same pixels. Near copies are looked for by frozen features: the last block's patch tokens of the embedded
encoder, averaged over 4 x 4 cells and compared by cosine as they are. How near is too near is asked of the training
images themselves: a test image is disputed where the log of its distance to the nearest one lies below the lower outer
fence (Tukey 1977: first quartile less three interquartile ranges) of the same for the training images. Of fewer than
`FEWEST` training images there is no fence. A copy that was moved by some pixels is as far from its original as another
image, and is not found.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
import torch.nn.functional as F
from torch import Tensor

from bench.api import Dataset, EncoderRequest, Sample
from bench.audit.dispute import Dispute
from bench.curate import cues
from bench.curate import twins as exact
from bench.encoders import catalog, frozen, weights
from bench.loading.images import to_pixels
from bench.machine.threads import cores

ENCODER = "vit_tiny_patch8_128.bench"
CELLS = 4
FEWEST = 8
"""Training images of a class below which their distances say nothing about what is usual."""
BATCH = 32
LEAST = 1e-12
"""Distance below which features are the same up to rounding."""


@dataclass(frozen=True, slots=True)
class Looks:
    """Images of one class, in their order."""

    samples: tuple[Sample, ...]
    digests: tuple[str, ...]
    """See `bench.curate.twins`."""
    features: npt.NDArray[np.float32]
    """Of unit length, [N, D]."""
    plain: npt.NDArray[np.float64]
    """Brightness, contrast and sharpness, [N, 3]; see `bench.curate.cues`."""


class Looker:
    """Looks at images through the embedded encoder.

    Args:
        device: where the encoder runs.
    """

    def __init__(self, device: torch.device) -> None:
        info = catalog.describe(ENCODER)
        self._device, self._prefix = device, info.prefix
        request = EncoderRequest(name=ENCODER, blocks=(info.depth - 1,), input_size=info.input_size)
        self._encoder = frozen.build(request, weights.locate(ENCODER)).to(device)

    def look(self, dataset: Dataset, samples: Sequence[Sample], done: Callable[[int], None]) -> Looks:
        """Return digests and features of a class's images.

        Args:
            dataset: they are of.
            samples: the images.
            done: told of how many more have been looked at.

        Raises:
            DatasetError: an image cannot be read.
        """
        digests: list[str] = []
        plain: list[tuple[float, float, float]] = []
        features: list[Tensor] = []
        for pixels in self._read(dataset, samples, digests, plain):
            images = torch.from_numpy(pixels).to(self._device).permute(0, 3, 1, 2).float().div_(255)
            (tokens,) = self._encoder(self._encoder.normalised(images)).values()
            features.append(F.normalize(pooled(tokens[:, self._prefix :]), dim=1).cpu())
            done(len(pixels))
        return Looks(tuple(samples), tuple(digests), torch.cat(features).numpy(), np.array(plain))

    def _read(
        self, dataset: Dataset, samples: Sequence[Sample], digests: list[str], plain: list[tuple[float, float, float]]
    ) -> Iterator[npt.NDArray[np.uint8]]:
        side = self._encoder.info.input_size

        def read(sample: Sample) -> tuple[str, tuple[float, float, float], npt.NDArray[np.uint8]]:
            image = dataset.read_image(sample)
            return exact.digest(image), cues.measure(image), to_pixels(image, side, side)

        with ThreadPoolExecutor(min(8, cores())) as pool:
            for start in range(0, len(samples), BATCH):
                found = list(pool.map(read, samples[start : start + BATCH]))
                digests += [digest for digest, _, _ in found]
                plain += [measured for _, measured, _ in found]
                yield np.stack([pixels for *_, pixels in found])


def pooled(tokens: Tensor) -> Tensor:
    """Return patch tokens [B, n * n, C] averaged over CELLS x CELLS cells of their grid: [B, CELLS * CELLS * C]."""
    side = round(tokens.shape[1] ** 0.5)
    grid = tokens.transpose(1, 2).reshape(len(tokens), -1, side, side)
    return F.adaptive_avg_pool2d(grid, CELLS).flatten(1)


def twins(seen: Looks) -> Iterator[Dispute]:
    """Yield the test images whose pixels were trained on, and those that have two labels."""
    looked = zip(seen.samples, seen.digests, strict=True)
    # what is trained on comes first, so that each of several copies is held against it
    for twin in exact.twins(sorted(looked, key=lambda one: one[0].split != "train"), semantic=False):
        one, other = twin.sample, twin.other
        if one.split == "test":
            why = "is trained on" if other.split == "train" else "has the other label"
            yield Dispute("twin", one.cls, one.id, f"the same pixels as {other.id}, which {why}")


def near(seen: Looks) -> Iterator[Dispute]:
    """Yield the test images that are nearer to a training image than the fence; twins are not said again."""
    train = [place for place, sample in enumerate(seen.samples) if sample.split == "train"]
    test = [place for place, sample in enumerate(seen.samples) if sample.split == "test"]
    if len(train) < FEWEST or not test:
        return
    # a picture that is trained on twice has no distance to itself
    different = list({seen.digests[place]: place for place in train}.values())
    if len(different) < FEWEST:
        return
    fence = lower_fence(nearest(seen.features[different], seen.features[different], same=True)[0])
    distances, of = nearest(seen.features[test], seen.features[train])
    known = {seen.digests[place] for place in train}
    for place, distance, one in zip(test, distances, of, strict=True):
        if distance < fence and seen.digests[place] not in known:
            sample, other = seen.samples[place], seen.samples[train[one]]
            text = f"1 - cosine {distance:.2g} to {other.id}, which is trained on; the fence is {fence:.2g}"
            yield Dispute("near", sample.cls, sample.id, text)


def nearest(
    rows: npt.NDArray[np.float32], others: npt.NDArray[np.float32], same: bool = False
) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.int64]]:
    """Return each row's least 1 - cosine to the others, float64 [N], and which that is; `same`: not to itself."""
    distances, places = np.empty(len(rows)), np.empty(len(rows), np.int64)
    for start in range(0, len(rows), 1024):
        part = slice(start, start + 1024)
        cosines = rows[part] @ others.T
        if same:
            cosines[np.arange(len(cosines)), np.arange(start, start + len(cosines))] = -2
        places[part] = cosines.argmax(axis=1)
        # by the difference, which keeps the digits that a cosine near 1 has lost
        gap = rows[part].astype(np.float64) - others[places[part]]
        distances[part] = (gap * gap).sum(axis=1) / 2
    return distances, places


def lower_fence(distances: npt.NDArray[np.float64]) -> float:
    """Return the distance below which one is too near, by the logs of the training images' own."""
    logs = np.log(np.maximum(distances, LEAST))
    first, third = np.quantile(logs, [0.25, 0.75])
    return float(np.exp(first - 3 * (third - first)))
