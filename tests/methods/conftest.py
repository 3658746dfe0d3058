"""What unit tests of methods share."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import pytest
import torch
from torch import Tensor, nn

from bench.api import EncoderInfo, Method

Train = Callable[[Method, nn.Module, Callable[[int], Mapping[str, Tensor]]], list[float]]
Highest = Callable[[Method, nn.Module, EncoderInfo, Mapping[str, Tensor]], tuple[int, int, int]]


@pytest.fixture
def train() -> Train:
    """Train a module by a method's own loss, optimizer, schedule and clip; `batch` gives each step's features."""

    def run(method: Method, module: nn.Module, batch: Callable[[int], Mapping[str, Tensor]]) -> list[float]:
        optimizer = method.optimizer(module.train())
        losses = []
        for step in range(method.config.steps):
            for group in optimizer.param_groups:
                group["lr"] = method.learning_rate(step) * group.get("lr_scale", 1.0)
            loss = method.loss(module, batch(step), step)
            optimizer.zero_grad()
            loss.backward()
            if method.clip_norm is not None:
                nn.utils.clip_grad_norm_(module.parameters(), method.clip_norm)
            optimizer.step()
            losses.append(loss.item())
        return losses

    return run


@pytest.fixture
def highest() -> Highest:
    """Say which image of a batch scores highest, and where of 40 x 40 pixels its map does."""

    def run(
        method: Method, module: nn.Module, info: EncoderInfo, features: Mapping[str, Tensor]
    ) -> tuple[int, int, int]:
        with torch.no_grad():
            found = method.anomaly(module.eval(), features, info, 40)
        assert found.maps is not None
        image = int(found.scores.argmax())
        return image, *divmod(int(found.maps[image].argmax()), 40)

    return run
