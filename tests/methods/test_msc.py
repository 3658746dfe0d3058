from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from golden_values import waves
from torch import Tensor, nn

from bench.api import Batch, EncoderInfo
from bench.methods import msc
from bench.methods.msc import MSC, Config, Directions, contrast
from bench.run.complexity import complexity

INFO = EncoderInfo("resnet18", "cnn", 6, 5, 0, 32, 0, (2, 2), 64, (0.0, 0.0, 0.0), (1.0, 1.0, 1.0), (6,))


class Trunk(nn.Module):
    """A CNN of two parts with parameters."""

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Sequential(nn.Conv2d(3, 5, 3, 2, 1), nn.BatchNorm2d(5))
        self.second = nn.Conv2d(5, 6, 3, 2, 1)

    def forward(self, images: Tensor) -> dict[int, Tensor]:
        return {4: self.second(self.first(images).relu())}


def built(**config: Any) -> tuple[MSC, Directions]:
    torch.manual_seed(0)
    method = MSC(Config(input_size=64, **{"trained_parts": 1, **config}))
    module = method.build(INFO, Trunk())
    assert isinstance(module, Directions)
    return method, module


def pictures(count: int, seed: int = 1) -> Tensor:
    return torch.rand(count, 3, 64, 64, generator=torch.Generator().manual_seed(seed))


def seen(images: Tensor, seed: int = 0) -> Batch:
    return Batch({}, images, random=lambda: torch.Generator().manual_seed(seed))


def batches(images: Tensor, size: int = 4) -> Iterator[Batch]:
    for part in images.split(size):
        yield Batch({}, part)


def unit(rows: Tensor) -> Tensor:
    return rows / rows.norm(dim=1, keepdim=True)


# ------------------------------------------------------------------------------------------------ size and values
def test_parameters_as_published() -> None:
    counted = complexity(MSC(Config()))
    assert (counted.params_total, counted.params_trainable) == (58_143_808, 55_578_624)
    small = complexity(MSC(Config(encoder="resnet18.tv_in1k", trained_parts=6)))
    assert small.params_total == small.params_trainable == 11_176_512


def test_golden_loss_and_gradient(monkeypatch: pytest.MonkeyPatch) -> None:
    raw, other = waves(4, 8).requires_grad_(), waves(4, 8, shift=0.3)
    centre = unit(waves(6, 8, shift=0.7)).mean(dim=0)
    assert centre[0].item() == pytest.approx(0.092480, abs=1e-6)
    assert centre.norm().item() == pytest.approx(0.203957, abs=1e-6)
    loss = contrast(torch.cat([unit(raw), unit(other)]), centre, 0.25)
    assert loss.item() == pytest.approx(0.396026, abs=1e-6)
    loss.backward()
    assert raw.grad is not None and raw.grad.abs().sum().item() == pytest.approx(1.248522, abs=2e-6)
    # the method itself, its views and features replaced by these, and the form with a centre of length 1
    drawn = [raw.detach(), other, raw.detach(), other]
    monkeypatch.setattr(msc, "views", lambda images, random: drawn.pop(0))
    for angular, want in ((False, 0.396026), (True, 4.266598)):
        method, module = built(angular=angular)
        module.forward = unit  # type: ignore[assignment, method-assign]
        module.centre = F.normalize(centre, dim=0) if angular else centre
        assert method.loss(module, seen(pictures(4)), 0).item() == pytest.approx(want, abs=2e-6)


def test_golden_distances() -> None:
    method, module = built()
    module.forward = unit  # type: ignore[assignment, method-assign]
    module.bank.bank = unit(waves(12, 8))
    found = method.anomaly(module, Batch({}, waves(3, 8, shift=0.3)), INFO, 8)
    assert found.maps is None and found.scores.tolist() == pytest.approx([0.154036, 0.350125, 0.333693], abs=2e-6)


def test_loss_against_a_direct_computation() -> None:
    features, centre, temperature = unit(torch.randn(10, 6)), torch.randn(6) * 0.1, 0.4
    shifted = unit(features - centre)
    total = 0.0
    for one in range(10):
        likeness = [float(shifted[one] @ shifted[two]) / temperature for two in range(10)]
        others = torch.tensor([likeness[two] for two in range(10) if two != one])
        total -= likeness[(one + 5) % 10] - float(others.logsumexp(dim=0))
    assert contrast(features, centre, temperature).item() == pytest.approx(total / 10, rel=1e-5)


# ------------------------------------------------------------------------------------------------------ training
def test_features_have_length_1_and_the_centre_not_unless_asked() -> None:
    images = pictures(10)
    for angular in (False, True):
        method, module = built(angular=angular)
        with torch.no_grad():
            features = module(images)
            method.fit(module, batches(images))
        torch.testing.assert_close(features.norm(dim=1), torch.ones(10))
        mean = features.mean(dim=0)
        assert mean.norm() < 0.9999
        torch.testing.assert_close(module.centre, F.normalize(mean, dim=0) if angular else mean)


def test_both_views_are_drawn_anew_at_each_step() -> None:
    method, module = built()
    images = pictures(4)
    first, again, later = (method.loss(module, seen(images, seed), 0).item() for seed in (0, 0, 1))
    assert first == again != later
    # two views that were one would be as alike as can be
    found = module(torch.cat([images, images]))
    assert first != pytest.approx(contrast(found, module.centre, 0.25).item(), rel=1e-3)


def test_half_precision_does_not_reach_the_loss() -> None:
    method, module = built()
    with torch.no_grad():
        method.fit(module, batches(pictures(10)))
        features = module(pictures(8)).bfloat16()
        with torch.autocast("cpu", torch.bfloat16):
            low = contrast(features, module.centre, 0.25)
    assert low.dtype == torch.float32
    assert low.item() == contrast(features.float(), module.centre, 0.25).item()


def test_length_and_rate_are_the_code_s() -> None:
    method = MSC(Config())
    # the last batch of 16 images counts
    assert method.steps(50_000) == 20 * 782 and method.clip_norm is None
    group = built()[0].optimizer(built()[1]).param_groups[0]
    assert (group["lr"], group["momentum"], group["weight_decay"]) == (1e-5, 0, 5e-5)
    assert method.learning_rate(0) == method.learning_rate(9_999) == 1e-5
