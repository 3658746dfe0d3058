"""Random seeds: every source of randomness of a cell."""

from __future__ import annotations

import random

import numpy as np
import torch


def seed_everything(seed: int) -> None:
    """Seed Python, NumPy and torch (all devices). Sums on CUDA may still be ordered differently between GPUs."""
    random.seed(seed)
    np.random.seed(seed % 2**32)
    torch.manual_seed(seed)


def step_generator(seed: int, step: int, device: torch.device) -> torch.Generator:
    """Return a generator that depends on (seed, step) alone: a step draws the same whatever came before it."""
    # the third number keeps it apart from the batch order's
    mixed = int(np.random.SeedSequence([seed, step, 1]).generate_state(1, np.uint64)[0] >> 1)
    return torch.Generator(device).manual_seed(mixed)


def fit_generator(seed: int, device: torch.device) -> torch.Generator:
    """Return the generator of the pass over the training images before the first step."""
    mixed = int(np.random.SeedSequence([seed, 0, 2]).generate_state(1, np.uint64)[0] >> 1)
    return torch.Generator(device).manual_seed(mixed)


class BatchOrder:
    """Which images each iteration sees: a new seeded permutation every epoch, the incomplete last batch dropped.

    The order is a function of (seed, step) alone, so a training resumed at any step sees what it would have seen.

    Args:
        count: number of training images, at least 1.
        batch_size: images a step; clipped to `count`, so that small sets still train.
        seed: of the cell.
    """

    def __init__(self, count: int, batch_size: int, seed: int) -> None:
        self.batch_size = min(batch_size, count)
        self._count = count
        self._seed = seed
        self._batches = count // self.batch_size
        self._epoch = -1
        self._permutation = torch.empty(0, dtype=torch.int64)

    def at(self, step: int) -> torch.Tensor:
        """Return int64 [batch_size]: indices into the training set for iteration `step` (from 0)."""
        epoch, batch = divmod(step, self._batches)
        if epoch != self._epoch:
            # one generator an epoch; the two numbers are mixed so that (seed 0, epoch 1) is not (seed 1, epoch 0)
            mixed = int(np.random.SeedSequence([self._seed, epoch]).generate_state(1, np.uint64)[0] >> 1)
            generator = torch.Generator().manual_seed(mixed)
            self._permutation = torch.randperm(self._count, generator=generator)
            self._epoch = epoch
        return self._permutation[batch * self.batch_size : (batch + 1) * self.batch_size]
