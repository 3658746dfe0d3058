"""A target for the student's raw token stream itself, without a head between them.

Anomaly methods compare raw block outputs by cosine. A head with its own LayerNorm can read teacher features out of a
stream that is mostly raw pixels, and then every comparison is one of pixels. So from some point on, the stream of the
middle blocks has to point where the teacher's features point: cosine to their principal components, up to one fixed
rotation, which keeps cosines and is chosen nearest to what the student has by then.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

STREAM = tuple(range(3, 11))  # blocks, counted from 1, whose raw patch tokens the methods read


def joint(targets: dict[str, Tensor]) -> Tensor:
    """The two levels at the student's grid, float32 [B, n, C]."""
    return torch.cat([targets["mid"], targets["deep"]], -1).flatten(1, 2)


def principal_axes(rows: Tensor, components: int) -> Tensor:
    """float32 [C, components]: directions of largest variance, not whitened; rows: float32 [N, C], centred."""
    vectors: Tensor = torch.linalg.eigh(rows.T.double() @ rows.double()).eigenvectors
    return vectors.flip(1)[:, :components].float()


def nearest_rotation(stream: Tensor, wanted: Tensor) -> Tensor:
    """float32 [D, D], orthogonal, that turns wanted features nearest to the stream's (Procrustes); both [N, D]."""
    u, _, v = torch.linalg.svd(wanted.T.double() @ (stream - stream.mean(0)).double())
    rotation: Tensor = u @ v
    return rotation.float()


def stream_loss(tapped: Sequence[Tensor], targets: dict[str, Tensor], onto_stream: Tensor) -> Tensor:
    """One minus cosine, averaged over blocks and patches.

    Args:
        tapped: Raw patch tokens [B, n, D] of the blocks in STREAM.
        targets: float32 [B, g, g, C] per level.
        onto_stream: float32 [C, D], principal axes times rotation.
    """
    wanted = joint(targets) @ onto_stream
    return torch.stack([1 - F.cosine_similarity(x.float(), wanted, dim=-1).mean() for x in tapped]).mean()
