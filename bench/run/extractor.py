"""Feature extraction: from images to the batch that a method sees, pixels and features of the frozen encoder."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial

import torch
from torch import Generator, Tensor

from bench.api import Batch, Batches, Method, Sample
from bench.encoders.frozen import FrozenEncoder
from bench.machine.exhaustion import Reductions
from bench.run.device_pixels import DevicePixels, PixelSource
from bench.run.textures import Draw


class Looking:
    """A method's look through its frozen encoder: normalisation, encoder, the method's own reduction.

    Args:
        method: gives `features` and `needs`.
        encoder: on the device of the images; one without blocks where the method has no encoder.
        textures: draws textures, for a method that needs them.
    """

    def __init__(self, method: Method, encoder: FrozenEncoder, textures: Draw | None = None) -> None:
        self.method, self.encoder, self._textures = method, encoder, textures
        self.needs_features, self.needs_images = "features" in method.needs, "images" in method.needs

    def needs_pixels(self, features: Mapping[str, Tensor] | None) -> bool:
        """Return whether a batch takes the images themselves, given the features at hand."""
        return self.needs_images or (self.needs_features and features is None)

    def needs_samples(self, features: Mapping[str, Tensor] | None) -> bool:
        """Return whether a batch depends on more than the features at hand."""
        return self.needs_pixels(features) or "classes" in self.method.needs

    @torch.no_grad()
    def encode(self, images: Tensor) -> dict[str, Tensor]:
        """Return the method's features of images, float [B, 3, S, S] in [0, 1]; in full precision."""
        device = "cpu" if images.is_meta else images.device.type  # autocast knows no meta device
        with torch.autocast(device, enabled=False):
            return self.of_normalised(self.encoder.normalised(images.float()))

    def of_normalised(self, images: Tensor) -> dict[str, Tensor]:
        """Return the method's features of images that are normalised already."""
        return self.method.features(self.encoder(images), self.encoder.info)

    def batch(
        self,
        images: Tensor | None,
        classes: Sequence[str],
        features: Mapping[str, Tensor] | None = None,
        random: Callable[[], Generator] | None = None,
    ) -> Batch:
        """Return what the method is handed of images.

        Args:
            images: float32 [B, 3, S, S] in [0, 1]; None where they are not needed, see `needs_pixels`.
            classes: of each image.
            features: of the images, where they are at hand.
            random: makes a training step's generator.
        """
        if features is None:
            features = self.encode(images) if images is not None and self.needs_features else {}
        return Batch(
            features,
            images if self.needs_images else None,
            tuple(classes) if "classes" in self.method.needs else (),
            encode=self.encode if self.encoder.blocks else None,
            random=random,
            textures=self._textures,
        )


class Extractor:
    """From samples to what a method sees of them, on a device."""

    def __init__(
        self,
        method: Method,
        encoder: FrozenEncoder,
        pixels: PixelSource,
        device: torch.device,
        say: Callable[[str], None] = lambda text: None,
        textures: Draw | None = None,
    ) -> None:
        self.reductions = Reductions(say)
        self.looking = Looking(method, encoder, textures)
        self.encoder = encoder
        self.pixels = DevicePixels(pixels, device)
        self.device = device

    @torch.no_grad()
    def __call__(self, samples: Sequence[Sample]) -> dict[str, Tensor]:
        """Return the method's features of the samples, on the device, batch first."""
        return self.looking.encode(self.images(samples))

    def images(self, samples: Sequence[Sample]) -> Tensor:
        """Return float32 [B, 3, S, S] in [0, 1] on the device; channels lie last."""
        return self.pixels.batch(samples).permute(0, 3, 1, 2).float().div_(255)

    def batch(
        self,
        samples: Sequence[Sample],
        features: Mapping[str, Tensor] | None = None,
        random: Callable[[], Generator] | None = None,
    ) -> Batch:
        """Return what the method is handed of samples; see `Looking.batch`."""
        images = self.images(samples) if self.looking.needs_pixels(features) else None
        if images is not None and self.looking.needs_images:
            images = images.contiguous()
        return self.looking.batch(images, [sample.cls for sample in samples], features, random)

    def batches(
        self,
        samples: Sequence[Sample],
        size: int,
        advance: Callable[[int, str], None],
        random: Callable[[], Generator] | None = None,
    ) -> Batches:
        """Return batches of all samples in order, `size` at a time; `advance` is told of the images done.

        `random` gives the one generator that all of them draw from, where they may.
        """

        def each() -> Iterator[Batch]:
            shown = partial(self.batch, random=random)
            for chunk, batch in self.reductions.batches("features", samples, size, shown):
                yield batch
                advance(len(chunk), "")

        return Batches(len(samples), each())
