"""Means and spreads of many points, and the density of a normal distribution that has them."""

from __future__ import annotations

from math import log, pi

import torch
from torch import Tensor

from ._memory import Known
from ._precision import full_precision

NARROWEST = 1e-6
"""Least standard deviation that things are scaled by."""


class Moments:
    """Count, sum and sum of outer products of points, in double precision."""

    def __init__(self, dim: int, device: torch.device) -> None:
        self.count = 0
        self.sum = torch.zeros(dim, dtype=torch.float64, device=device)
        self.products = torch.zeros(dim, dim, dtype=torch.float64, device=device)

    def add(self, images: Tensor) -> None:
        """Take in float [B, n, dim], image by image: the sums do not depend on how images were batched."""
        for points in images:
            points = points.double()
            self.count += len(points)
            self.sum += points.sum(dim=0)
            self.products += points.T @ points

    def mean_and_covariance(self) -> tuple[Tensor, Tensor]:
        """Return float64 [dim] and [dim, dim] on the CPU, where they are decomposed alike for every device."""
        mean = self.sum / self.count
        products = self.products - self.count * torch.outer(mean, mean)
        covariance = products / max(self.count - 1, 1)
        # shapes alone cannot be brought anywhere
        return (mean, covariance) if mean.is_meta else (mean.cpu(), covariance.cpu())


class Spread:
    """Mean and standard deviation by channel of maps, in double precision, image by image."""

    def __init__(self) -> None:
        self._count = 0
        self._sums: Tensor | None = None

    def add(self, maps: Tensor) -> None:
        """Take in float [B, C, h, w]."""
        for one in maps.double().flatten(2):
            sums = torch.stack([one.sum(dim=1), one.square().sum(dim=1)])
            self._sums = sums if self._sums is None else self._sums + sums
            self._count += one.shape[1]

    def into(self, mean: Tensor, std: Tensor) -> None:
        """Write both, float [C]."""
        assert self._sums is not None, "every training set has an image"
        centre, squares = self._sums / self._count
        mean.copy_(centre)
        std.copy_((squares - centre**2).clamp(min=0).sqrt().clamp(min=NARROWEST))


class Gaussian(Known):
    """Log-density of a normal distribution, in the coordinates that `whitening` names.

    Attributes:
        mean: float32 [dim].
        whitening: float32 [dim, k]: brings what is left of points without the mean to variance 1, uncorrelated.
        constant: float32 [1], the log-density at the mean.
    """

    mean: Tensor
    whitening: Tensor
    constant: Tensor

    def __init__(self, dim: int) -> None:
        super().__init__(mean=(dim,), whitening=(dim, dim), constant=(1,))

    def know(self, mean: Tensor, whitening: Tensor, scales: Tensor) -> None:
        """Take what `log_density` goes by.

        Args:
            mean: float64 [dim].
            whitening: float64 [dim, k].
            scales: float64 [k], the variances of the coordinates that densities are of.
        """
        device = self.mean.device
        self.mean, self.whitening = mean.float().to(device), whitening.float().to(device)
        self.constant = (-0.5 * (scales.log().sum() + len(scales) * log(2 * pi))).float().reshape(1).to(device)

    def log_density(self, points: Tensor) -> Tensor:
        """Return float32 [B] for points, float [B, dim]."""
        with full_precision(points):
            # in double precision, since a narrow distribution makes much of a small difference
            apart = (points.double() - self.mean.double()) @ self.whitening.double()
            return (self.constant.double() - 0.5 * apart.square().sum(dim=1)).float()
