"""Training batches: what a step's images are to the method, from the feature store, the pixels, or both."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial

from torch import Tensor

from bench.api import Batch, Sample
from bench.run.extractor import Extractor
from bench.run.feature_store import FeatureStore
from bench.run.seeding import step_generator


class TrainingBatches:
    """Batches of the training images, each a function of (seed, step) and its images alone.

    Args:
        extract: gives pixels, and features where none are kept.
        store: features of all training images; None of a method that needs none of them.
        samples: the training images.
        seed: of the cell.
    """

    def __init__(self, extract: Extractor, store: FeatureStore | None, samples: Sequence[Sample], seed: int) -> None:
        self._extract, self._store, self._samples, self._seed = extract, store, samples, seed

    def at(self, indices: Tensor, step: int) -> Batch:
        """Return the batch of iteration `step`: int64 [B] training images."""
        features = {} if self._store is None else self._store.get(indices)
        # most methods see features alone: which images these are of is not looked up then
        wanted = self._extract.looking.needs_samples(features)
        samples = [self._samples[index] for index in indices.tolist()] if wanted else []
        return self._extract.batch(samples, features, partial(step_generator, self._seed, step, self._extract.device))

    def expect(self, indices: Tensor) -> None:
        """Start to bring what `at` will be asked for next, where that can be done beside the training."""
        if self._store is not None:
            self._store.expect(indices)
