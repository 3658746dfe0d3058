"""The batch: what a method is handed at a training step, in a fit and when it scores. Loads no torch by itself."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torch import Generator, Tensor

Encode = Callable[["Tensor"], "dict[str, Tensor]"]
"""From images, float [B, 3, S, S] in [0, 1], to their features."""


class Batch(Mapping[str, "Tensor"]):
    """Some images as a method sees them: a mapping of their features by name, and what else the method `needs`.

    Attributes:
        images: float32 [B, 3, S, S] in [0, 1], S the method's input size; None unless it needs `images`.
        classes: the class of each image; empty unless the method needs `classes`.
    """

    def __init__(
        self,
        features: Mapping[str, Tensor],
        images: Tensor | None = None,
        classes: tuple[str, ...] = (),
        *,
        encode: Encode | None = None,
        random: Callable[[], Generator] | None = None,
        textures: Callable[[int, Generator], Tensor] | None = None,
    ) -> None:
        """Hold what is given.

        Args:
            features: `Method.features` of the images, batch first; empty unless the method needs `features`.
            images: as the attribute.
            classes: as the attribute.
            encode: see `Batch.encode`.
            random: makes the generator of a training step, see `Batch.random`.
            textures: draws textures, see `Batch.textures`.
        """
        self._features, self.images, self.classes = features, images, classes
        self._encode, self._make, self._draw = encode, random, textures
        self._random: Generator | None = None

    def __getitem__(self, name: str) -> Tensor:
        """Return a feature of the images, batch first, without gradient."""
        return self._features[name]

    def __iter__(self) -> Iterator[str]:
        """Iterate over the names of the features."""
        return iter(self._features)

    def __len__(self) -> int:
        """Return the number of features."""
        return len(self._features)

    @property
    def pixels(self) -> Tensor:
        """Return `images`, of a method that needs them."""
        assert self.images is not None, "a method is handed images where its `needs` names them"
        return self.images

    def encode(self, images: Tensor) -> dict[str, Tensor]:
        """Return `Method.features` of images that the method made, through the frozen encoder, without gradient.

        Args:
            images: float [N, 3, S, S] in [0, 1]; they are normalised here. Computed anew whenever it is called, and in
                full precision, as the stored features are.
        """
        assert self._encode is not None, "there is no frozen encoder"
        return self._encode(images)

    @property
    def random(self) -> Generator:
        """Return the generator of this training step, or in `fit` that of the whole pass, on the training's device.

        It depends on the cell's seed and the step alone: what is drawn is the same wherever features lie, whatever
        batch they were computed in, and when a training is resumed. All batches of `fit` share one: a method that
        uses it draws once the pass has ended, or in an order that no batch decides. Scoring has none, since a
        prediction must not depend on chance.
        """
        if self._random is None:
            assert self._make is not None, "only training steps and `fit` draw at random"
            self._random = self._make()
        return self._random

    def textures(self, count: int) -> Tensor:
        """Return `count` textures that the step's generator chooses, of a method that needs them.

        Returns:
            float32 [count, 3, S, S] in [0, 1], on the training's device: of an auxiliary dataset where one is at hand,
            else generated; the record says which.
        """
        assert self._draw is not None, "a method draws textures where its `needs` names them"
        return self._draw(count, self.random)

    @property
    def count(self) -> int:
        """Return the number of images."""
        return len(self.classes if self.classes else next(iter(self._features.values()), self.images))  # type: ignore[arg-type]

    def first(self, count: int) -> Batch:
        """Return the first images of it alone."""
        kept = {name: feature[:count] for name, feature in self._features.items()}
        images = None if self.images is None else self.images[:count]
        return Batch(kept, images, self.classes[:count], encode=self._encode, random=self._make, textures=self._draw)


class Batches(Iterable[Batch]):
    """A pass over all training images, batch by batch.

    Attributes:
        images: how many they are in all.
    """

    def __init__(self, images: int, batches: Iterator[Batch]) -> None:
        self.images, self._batches = images, batches

    def __iter__(self) -> Iterator[Batch]:
        """Iterate over the batches, once."""
        return self._batches
