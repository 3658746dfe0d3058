from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
import torch
from golden_values import waves
from torch import Tensor, nn

from bench.api import Batch, EncoderInfo
from bench.encoders import frozen
from bench.errors import UsageError
from bench.methods.panda import PANDA, Adapted, Config, parts_of
from bench.plan import needs
from bench.run.complexity import complexity

INFO = EncoderInfo("resnet18", "cnn", 6, 5, 0, 32, 0, (2, 2), 64, (0.0, 0.0, 0.0), (1.0, 1.0, 1.0), (6,))


class Trunk(nn.Module):
    """A CNN of three parts with parameters and one without, on whose mean places nothing depends."""

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Sequential(nn.Conv2d(3, 5, 3, 2, 1), nn.BatchNorm2d(5))
        self.pool = nn.MaxPool2d(2)
        self.second = nn.Sequential(nn.Conv2d(5, 5, 3, 2, 1), nn.BatchNorm2d(5))
        self.third = nn.Conv2d(5, 6, 3, 2, 1)

    def forward(self, images: Tensor) -> dict[int, Tensor]:
        return {4: self.third(self.second(self.pool(self.first(images))).relu())}


def built(**config: Any) -> tuple[PANDA, Adapted]:
    torch.manual_seed(0)
    method = PANDA(Config(input_size=64, **config))
    return method, method.build(INFO, Trunk())


def pictures(count: int, seed: int = 1) -> Tensor:
    return torch.rand(count, 3, 64, 64, generator=torch.Generator().manual_seed(seed))


def batches(images: Tensor, size: int = 4) -> Iterator[Batch]:
    for part in images.split(size):
        yield Batch({}, part)


# ------------------------------------------------------------------------------------------------ size and values
def test_parameters_as_published() -> None:
    method = PANDA(Config())
    counted = complexity(method)
    assert (counted.params_total, counted.params_trainable) == (58_143_808, 55_578_624)
    small = complexity(PANDA(Config(encoder="resnet18.tv_in1k")))
    assert small.params_total == 11_176_512
    # the frozen original is not looked through
    assert counted.macs == counted.macs_trainable


def test_golden_compactness() -> None:
    method, module = built()
    module.forward = lambda images: images  # type: ignore[assignment, method-assign]
    module.centre = waves(6, 8, shift=0.7).mean(dim=0)
    assert method.loss(module, Batch({}, waves(4, 8)), 0).item() == pytest.approx(0.567727, abs=1e-6)


def test_golden_distances() -> None:
    method, module = built()
    module.forward = lambda images: images  # type: ignore[assignment, method-assign]
    module.bank.bank = waves(12, 8)
    found = method.anomaly(module, Batch({}, waves(3, 8, shift=0.3)), INFO, 8)
    assert found.maps is None and found.scores.tolist() == pytest.approx([1.909777, 2.538126, 1.157841], abs=2e-6)


# ------------------------------------------------------------------------------------------------------ training
def test_the_centre_is_of_before_and_the_bank_of_after_training() -> None:
    method, module = built(lr=0.1, clip_norm=None)
    images = pictures(10)
    with torch.no_grad():
        before = module.trunk(images)[4].mean(dim=(2, 3))
        method.fit(module, batches(images))
    torch.testing.assert_close(module.centre, before.mean(dim=0))
    optimizer = method.optimizer(module)
    module.train()
    for _ in range(3):
        optimizer.zero_grad()
        method.loss(module, Batch({}, images), 0).backward()
        optimizer.step()
    centre = module.centre.clone()
    with torch.no_grad():
        after = module.trunk(images)[4].mean(dim=(2, 3))
        method.finish(module, batches(images, 3))
    assert not torch.allclose(before, after) and torch.equal(module.centre, centre)
    torch.testing.assert_close(module.bank.bank, after)
    # what is known is nearest to itself
    scores = PANDA(Config(neighbours=1)).anomaly(module, Batch({}, images), INFO, 8).scores
    torch.testing.assert_close(scores, torch.zeros(10))


def test_loss_and_score_against_a_direct_computation() -> None:
    method, module = built(neighbours=3)
    images, others = pictures(6), pictures(4, seed=2)
    with torch.no_grad():
        method.fit(module, batches(images))
        method.finish(module, batches(images))
        known, asked = (module.trunk(one)[4].mean(dim=(2, 3)) for one in (images, others))
        loss = method.loss(module, Batch({}, others), 0)
        scores = method.anomaly(module, Batch({}, others), INFO, 8).scores
    centre = known.mean(dim=0)
    assert loss.item() == pytest.approx(float(((asked - centre) ** 2).sum()) / (4 * 6), rel=1e-5)
    for score, one in zip(scores.tolist(), asked, strict=True):
        squares = sorted(float(((one - other) ** 2).sum()) for other in known)
        assert score == pytest.approx(sum(squares[:3]), rel=1e-4)


@pytest.mark.parametrize("parts", [1, 2, 3])
def test_the_last_parts_are_trained_and_batchnorm_keeps_its_statistics(parts: int) -> None:
    method, module = built(trained_parts=parts)
    trained = [all(param.requires_grad for param in part.parameters()) for part in parts_of(module.trunk)]
    assert trained == [place >= 3 - parts for place in range(3)]
    before = {name: value.clone() for name, value in module.trunk.named_buffers()}
    module.train()
    method.loss(module, Batch({}, pictures(4)), 0).backward()
    assert all(torch.equal(value, before[name]) for name, value in module.trunk.named_buffers())
    assert not module.trunk.training
    optimized = {id(param) for group in method.optimizer(module).param_groups for param in group["params"]}
    assert optimized == {id(param) for param in module.parameters() if param.requires_grad}


@pytest.mark.parametrize(("encoder", "parts"), [("resnet18.tv_in1k", 6), ("mobilenetv2_100", 9)])
def test_parts_are_timm_s(encoder: str, parts: int) -> None:
    method = PANDA(Config(encoder=encoder))
    with torch.device("meta"):
        module = needs.build(method, frozen.skeleton(method.encoder()))
    assert len(parts_of(module.trunk)) == parts
    with pytest.raises(UsageError, match=rf"panda\.trained_parts is 40.*has {parts} parts"), torch.device("meta"):
        needs.build(PANDA(Config(encoder=encoder, trained_parts=40)), frozen.skeleton(method.encoder()))


def test_length_and_rate_are_the_code_s() -> None:
    method = PANDA(Config())
    assert method.steps(50_000) == 15 * 1562 and method.clip_norm == 1e-3
    assert method.learning_rate(0) == method.learning_rate(9_999) == 1e-2


def test_an_image_s_score_does_not_depend_on_those_beside_it() -> None:
    method, module = built()
    images = pictures(5)
    with torch.no_grad():
        method.finish(module, batches(pictures(6, seed=3)))
        alone = method.anomaly(module, Batch({}, images[2:3]), INFO, 8).scores
        torch.testing.assert_close(alone, method.anomaly(module, Batch({}, images), INFO, 8).scores[2:3])
