"""The plug-in interface: contracts between the harness, methods and datasets. Loads no torch.

A dataset says which images exist (`Sample`), what they are worth (`label`, masks) and how to read them.
A method says which frozen encoder it looks through, if any, what of the encoder's output it needs (`features`) and what
else (`needs`), what is trained (`build`), how (`loss`, `optimizer`, `learning_rate`) and how a score is read off
(`anomaly`). It is a `Trained` one or has a `Memory`; what it sees of the images comes as a `Batch`.
The contract of methods is in `bench.method`, that of datasets in `bench.dataset`; plug-ins take both from here.
Loops, caching, precision, checkpoints, metrics and records are the harness's.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from bench.batch import Batch, Batches
from bench.dataset import Card, Counts, Dataset, Download, SingleDefect, Verification
from bench.method import (
    NEEDS,
    BlockOutputs,
    EncoderInfo,
    EncoderRequest,
    Memory,
    MemoryConfig,
    Method,
    MethodConfig,
    Prediction,
    Released,
    Trained,
    sourced,
)
from bench.protocol import Protocol
from bench.sample import Finding, Sample, Split, by_class, labels_of

if TYPE_CHECKING:
    import torch

__all__ = [
    "NEEDS",
    "Batch",
    "Batches",
    "BlockOutputs",
    "Card",
    "Counts",
    "Dataset",
    "Download",
    "EncoderInfo",
    "EncoderRequest",
    "Finding",
    "Memory",
    "MemoryConfig",
    "Method",
    "MethodConfig",
    "Prediction",
    "Protocol",
    "Released",
    "Sample",
    "SingleDefect",
    "Split",
    "Trained",
    "Verification",
    "by_class",
    "labels_of",
    "room",
    "sourced",
]


def room(shape: tuple[int, ...], dtype: torch.dtype, device: torch.device) -> torch.Tensor:
    """Return a tensor for what a memory holds, its values arbitrary; see `bench.machine.feature_places.room`."""
    from bench.machine import feature_places

    return feature_places.room(shape, dtype, device)
