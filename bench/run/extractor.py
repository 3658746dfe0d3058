"""From images to what a method needs of the frozen encoder."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

import torch
from torch import Tensor

from bench.api import Method, Sample
from bench.encoders.frozen import FrozenEncoder
from bench.loading.pixel_cache import PixelCache
from bench.run.device_pixels import DevicePixels
from bench.run.memory import Reductions


class Extractor:
    """From samples to features: pixels, normalisation, frozen encoder, the method's own reduction."""

    def __init__(
        self,
        method: Method,
        encoder: FrozenEncoder,
        pixels: PixelCache,
        device: torch.device,
        say: Callable[[str], None] = lambda text: None,
    ) -> None:
        self.reductions = Reductions(say)
        self._method = method
        self.encoder = encoder
        self.pixels = DevicePixels(pixels, device)
        self.device = device
        self._mean = torch.tensor(encoder.info.mean, device=device).view(1, 3, 1, 1)
        self._std = torch.tensor(encoder.info.std, device=device).view(1, 3, 1, 1)

    @torch.no_grad()
    def __call__(self, samples: Sequence[Sample]) -> dict[str, Tensor]:
        """Return the method's features of the samples, on the device, batch first."""
        raw = self.pixels.batch(samples)
        images = raw.permute(0, 3, 1, 2).float().div_(255).sub_(self._mean).div_(self._std)
        return self._method.features(self.encoder(images), self.encoder.info)

    def batches(
        self, samples: Sequence[Sample], size: int, advance: Callable[[int, str], None]
    ) -> Iterator[dict[str, Tensor]]:
        """Yield the features of all samples in order, `size` at a time, telling `advance` of the images done."""
        for chunk, features in self.reductions.batches("features", samples, size, self):
            yield features
            advance(len(chunk), "")
