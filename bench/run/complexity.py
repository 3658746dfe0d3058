"""Parameter and multiply-accumulate counts of a method, on the meta device: no weights, no memory, no computation.

Two conventions for the MACs of one image's scoring, as publications differ. `macs`: convolutions and Linear layers that
run, in the encoder and in the trainable part; Dinomaly's published counts follow it. `macs_with_products`: every matrix
product and convolution, hence also those of activations with activations (attention) and with a memory; ViTAD's and
RD4AD's published counts follow it. Neither counts norms and activations. `training_cost` counts a step of training in
both.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import lru_cache, partial
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from bench.api import EncoderInfo, EncoderRequest, Method
from bench.encoders import catalog, frozen
from bench.plan import needs
from bench.plan.texture_source import Textures
from bench.run.extractor import Looking
from bench.run.seeding import step_generator
from bench.run.textures import Draw


@dataclass(frozen=True, slots=True)
class Complexity:
    """How large a method is at its configured input size."""

    params_total: int
    """Parameters of the whole encoder, blocks that never run included, and of the trainable part."""
    params_trainable: int
    macs: int
    """Multiply-accumulates to score one image."""
    macs_trainable: int
    """The share of them in the trainable part."""
    macs_with_products: int
    """Multiply-accumulates to score one image, attention and memory search included."""


@dataclass(frozen=True, slots=True)
class TrainingCost:
    """Multiply-accumulates of one image in one training step, and what they let a feature store gain."""

    frozen: int
    """Encoder: what a step costs more when features are not kept."""
    trained: int
    """Forward pass of the trainable part."""
    frozen_with_products: int
    trained_with_products: int
    """Forward pass of the trainable part and the loss, attention included."""
    backward_with_products: int
    """Backward pass, counted rather than assumed: the first layer's input needs no gradient, a target neither."""

    @property
    def cached_over_uncached(self) -> float:
        """Return how many times the steps a second of recomputing a store allows: backward as two forward passes."""
        return 1.0 + self.frozen / (3 * self.trained)

    @property
    def cached_over_uncached_with_products(self) -> float:
        """Return the same by every matrix product that runs; nearer to time, since attention is part of it."""
        return 1.0 + self.frozen_with_products / (self.trained_with_products + self.backward_with_products)


@lru_cache(maxsize=64)  # a plan asks for it in each of its cells, on each dataset, and each record again
def complexity(method: Method) -> Complexity:
    """Count a configured method.

    Args:
        method: its configuration decides encoder, input size and trainable part.

    Raises:
        UsageError: the configuration's encoder does not exist or does not fit the method.
    """
    request = method.encoder()
    encoder = frozen.skeleton(request, method.config.input_size or 0)
    info = encoder.info
    products = FlopCounterMode(display=False)
    with torch.device("meta"):
        # before anything is counted: a trainable copy of the encoder would count for the encoder itself
        module = needs.build(method, encoder).eval()
    with torch.device("meta"), torch.no_grad(), products, counted_macs(encoder) as frozen_tally:
        images = torch.empty(1, 3, info.input_size, info.input_size)
        batch = Looking(method, encoder).batch(images, ("",))
        with counted_macs(module) as tally:
            method.anomaly(module, batch, info, 256)
    trainable = sum(param.numel() for param in module.parameters() if param.requires_grad)
    fixed = sum(param.numel() for param in module.parameters() if not param.requires_grad)
    return Complexity(
        # a method that trains a copy of its encoder may never look through the encoder itself
        params_total=(_encoder_parameters(request, info, encoder) if frozen_tally else 0) + trainable + fixed,
        params_trainable=trainable,
        macs=sum(frozen_tally) + sum(tally),
        macs_trainable=sum(tally),
        macs_with_products=products.get_total_flops() // 2,
    )


@lru_cache(maxsize=64)
def training_cost(method: Method) -> TrainingCost:
    """Count one training image of a configured method that trains.

    Raises:
        UsageError: the configuration's encoder does not exist or does not fit the method, or nothing is trained.
    """
    encoder = frozen.skeleton(method.encoder(), method.config.input_size or 0)
    info = encoder.info
    count = 2  # BatchNorm on the smallest maps wants more than one value a channel
    # what a method makes of images may depend on their values, which the meta device has none of
    device = torch.device("cpu" if "images" in method.needs else "meta")
    textures = Draw(Textures(), info.input_size, device)
    looking = Looking(method, encoder.to_empty(device=device), textures)
    # there is no generator on the meta device, where the values that another one draws do not matter
    random = partial(step_generator, 0, 0, torch.device("cpu"))
    with device:
        module = needs.build(method, encoder).train()
    with device, counted_macs(encoder) as looked:
        images = torch.full((count, 3, info.input_size, info.input_size), 0.5)
        with FlopCounterMode(display=False) as frozen_products:
            batch = looking.batch(images, ("",) * count, random=random)
        with counted_macs(module) as tally, FlopCounterMode(display=False) as forward:
            loss = method.loss(module, batch, 0)
        with FlopCounterMode(display=False) as backward:
            loss.backward()  # type: ignore[no-untyped-call]
    return TrainingCost(
        frozen=sum(looked) // count,
        trained=sum(tally) // count,
        frozen_with_products=frozen_products.get_total_flops() // 2 // count,
        trained_with_products=forward.get_total_flops() // 2 // count,
        backward_with_products=backward.get_total_flops() // 2 // count,
    )


@contextmanager
def counted_macs(*modules: nn.Module) -> Iterator[list[int]]:
    """Yield a list that receives the MACs of every Linear and convolution that runs below `modules`."""
    tally: list[int] = []

    def count(layer: nn.Module, inputs: tuple[Any, ...], output: Tensor) -> None:
        tally.append(_macs(layer, inputs[0], output))

    handles = [
        layer.register_forward_hook(count)
        for module in modules
        for layer in module.modules()
        if isinstance(layer, nn.Linear | nn.modules.conv._ConvNd)
    ]
    try:
        yield tally
    finally:
        for handle in handles:
            handle.remove()


def _macs(layer: nn.Module, entering: Tensor, leaving: Tensor) -> int:
    if isinstance(layer, nn.Linear):
        return leaving.numel() * layer.in_features
    assert isinstance(layer, nn.modules.conv._ConvNd)
    taps = layer.weight.numel() // layer.weight.shape[0]
    # weight is [out, in / groups, ...] for a convolution and [in, out / groups, ...] for a transposed one, so the taps
    # are spent once per output element in the first case and once per input element in the second
    return (entering if layer.transposed else leaving).numel() * taps


def _encoder_parameters(request: EncoderRequest | None, info: EncoderInfo, encoder: nn.Module) -> int:
    """Count an encoder as its publication does.

    DINOv2 keeps its position grid at the native size and interpolates it for each input, by whatever rule, so that the
    native grid counts; other ViTs are resized once, and the resized grid counts.
    """
    if request is None:
        return 0
    if request.position == "dinov2" or "dinov2" in request.name:
        with torch.device("meta"):
            encoder = catalog.create(request.name)
    return sum(param.numel() for param in encoder.parameters()) + catalog.folded_parameters(info)
