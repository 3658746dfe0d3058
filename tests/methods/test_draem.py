"""DRAEM's networks and losses, against values that its official classes give and against direct computation."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from golden_values import fill, waves
from torch import Tensor, nn

from bench.api import Batch
from bench.encoders import frozen
from bench.errors import UsageError
from bench.methods._losses import dissimilarity, focal
from bench.methods.draem import DRAEM, Config, Discriminative, Networks, Reconstructive
from bench.plan.texture_source import Textures
from bench.run.complexity import complexity
from bench.run.seeding import step_generator
from bench.run.textures import Draw

CLEAN, SPOILT = 0.5 + 0.3 * waves(2, 3, 32, 32), 0.5 + 0.3 * waves(2, 3, 32, 32, shift=0.7)
MASK = (waves(2, 1, 32, 32, shift=0.5) > 0).float()


def built(**config: Any) -> tuple[DRAEM, Networks]:
    torch.manual_seed(0)
    method = DRAEM(Config(**{"input_size": 32, "width": 4, "mark_width": 4, **config}))
    return method, method.build(frozen.absent(32).info)


def filled(**config: Any) -> tuple[DRAEM, Networks]:
    method, module = built(**config)
    fill(module)
    return method, module


def total(module: nn.Module) -> int:
    return sum(param.numel() for param in module.parameters())


def batch(count: int, step: int = 0, side: int = 32) -> Batch:
    cpu = torch.device("cpu")
    pixels = torch.rand(count, 3, side, side, generator=torch.Generator().manual_seed(3))
    return Batch({}, pixels, random=lambda: step_generator(0, step, cpu), textures=Draw(Textures(), side, cpu))


# ------------------------------------------------------------------------------------------------ size and values
def test_parameters_and_macs_as_published() -> None:
    counted = complexity(DRAEM(Config()))
    assert counted.params_total == counted.params_trainable == 97_422_725
    assert counted.macs / 1e9 == pytest.approx(198, rel=0.01)
    assert total(Reconstructive(128)) == 69_048_579 and total(Discriminative(64)) == 28_374_146
    assert total(Reconstructive(4)) == 68_619 and total(Discriminative(4)) == 112_346


def test_golden_networks() -> None:
    _, module = filled()
    module.eval()
    with torch.no_grad():
        clean, logits = module(SPOILT)
    marks = logits.softmax(1)[:, 1]
    assert [clean[0, 0, 0, 0].item(), clean[1, 2, 31, 31].item()] == pytest.approx([0.065403, -0.035619], abs=1e-6)
    assert [marks[0, 0, 0].item(), marks[1, 31, 31].item()] == pytest.approx([0.490329, 0.488675], abs=1e-6)
    assert clean.sum().item() == pytest.approx(111.444031, rel=1e-6)
    assert marks.sum().item() == pytest.approx(1007.047607, rel=1e-6)


def test_golden_training() -> None:
    # at the deepest level BatchNorm has two values a channel, so that rounding comes out of it a thousandfold: float64
    # here, float32 in the reference, and digits that both have
    _, module = filled()
    module.train().double()
    with torch.no_grad():
        clean, logits = module(SPOILT.double())
    marks = logits.softmax(1)
    assert [clean[0, 0, 0, 0].item(), clean[1, 2, 31, 31].item()] == pytest.approx([0.050112, 0.004194], abs=1e-4)
    assert clean.sum().item() == pytest.approx(132.938416, rel=1e-5)
    assert marks[:, 1].sum().item() == pytest.approx(1003.415222, rel=5e-4)
    found = [((clean - CLEAN) ** 2).mean(), dissimilarity(clean, CLEAN.double()), focal(marks, MASK.double(), 2)]
    for one, expected, off in zip(found, (0.422918, 0.991575, 0.229440), (1e-5, 1e-5, 1e-3), strict=True):
        assert one.item() == pytest.approx(expected, rel=0, abs=off)
    assert sum(one.item() for one in found) == pytest.approx(1.643933, abs=1e-3)


def test_golden_ssim_and_focal_alone() -> None:
    one, other = waves(1, 3, 16, 16), waves(1, 3, 16, 16, shift=0.4)
    assert dissimilarity(0.5 + 0.3 * one, 0.5 + 0.3 * other).item() == pytest.approx(0.052054, abs=1e-6)
    assert dissimilarity(one, other).item() == pytest.approx(0.313265, abs=1e-6)
    mask = (waves(1, 1, 4, 4, shift=0.5) > 0).float()
    assert mask.sum() == 10
    assert focal(waves(1, 2, 4, 4).softmax(1), mask, 2).item() == pytest.approx(0.589494, abs=1e-6)


# ------------------------------------------------------------------------------------------------ slow and direct
def test_ssim_is_what_its_definition_gives() -> None:
    draw = torch.Generator().manual_seed(0)
    one, other = (torch.rand(1, 2, 13, 12, generator=draw, dtype=torch.float64) for _ in "ab")
    weights = [math.exp(-((place - 5) ** 2) / (2 * 1.5**2)) for place in range(11)]
    scale = sum(weights)

    def mean(values: Tensor, row: int, column: int) -> float:
        found = 0.0
        for down in range(11):
            for right in range(11):
                y, x = row + down - 5, column + right - 5
                if 0 <= y < values.shape[0] and 0 <= x < values.shape[1]:
                    found += weights[down] * weights[right] / scale**2 * values[y, x].item()
        return found

    found = []
    for channel in range(2):
        a, b = one[0, channel], other[0, channel]
        for row in range(13):
            for column in range(12):
                m, n = mean(a, row, column), mean(b, row, column)
                v, w = mean(a * a, row, column) - m * m, mean(b * b, row, column) - n * n
                together = mean(a * b, row, column) - m * n
                c1, c2 = 0.01**2, 0.03**2
                found.append((2 * m * n + c1) * (2 * together + c2) / ((m * m + n * n + c1) * (v + w + c2)))
    assert dissimilarity(one, other).item() == pytest.approx(1 - sum(found) / len(found), abs=1e-9)


def test_the_focal_loss_is_what_its_definition_gives() -> None:
    probabilities = waves(2, 2, 3, 5).double().softmax(1)
    mask = (waves(2, 1, 3, 5, shift=0.3) > 0).double()
    for focus in (0, 2, 3):
        found = []
        for image in range(2):
            for row in range(3):
                for column in range(5):
                    what = int(mask[image, 0, row, column])
                    right, wrong = (probabilities[image, kind, row, column].item() for kind in (what, 1 - what))
                    p = (1 - 1e-5) * right + 1e-5 * wrong + 1e-5
                    found.append(-((1 - p) ** focus) * math.log(p))
        assert focal(probabilities, mask, focus).item() == pytest.approx(sum(found) / len(found), rel=1e-9)


def test_the_loss_is_the_sum_of_its_parts_on_what_was_painted() -> None:
    method, module = built(ssim_weight=0.5, focal_weight=3.0, painted=1.0)
    module.eval()
    clean, spoilt, mask = method.painted(batch(4))
    rebuilt, logits = module(spoilt)
    expected = ((rebuilt - clean) ** 2).mean() + 0.5 * dissimilarity(rebuilt, clean)
    expected = expected + 3 * focal(logits.softmax(1), mask, 2)
    assert mask.any() and torch.allclose(method.loss(module, batch(4), 0), expected)


def test_the_reconstruction_learns_from_the_marks_too() -> None:
    method, module = built(painted=1.0, ssim_weight=0.0)
    rebuilt, logits = module(SPOILT)
    focal(logits.softmax(1), MASK, 2).backward()
    assert all(param.grad is not None and param.grad.any() for param in module.clean.parameters() if param.dim() > 1)
    assert rebuilt.shape == SPOILT.shape and method.config.ssim_weight == 0


def test_the_score_is_the_highest_mean_with_zeros_beyond_the_border() -> None:
    method, module = built(score_pool=5)
    module.eval()
    given = batch(2)
    with torch.no_grad():
        found = method.anomaly(module, given, frozen.absent(32).info, 32)
        marks = module(given.pixels)[1].softmax(1)[:, 1]
    assert found.maps is not None and torch.allclose(found.maps, marks)
    for image in range(2):
        best = 0.0
        for row in range(32):
            for column in range(32):
                square = marks[image, max(row - 2, 0) : row + 3, max(column - 2, 0) : column + 3]
                best = max(best, square.sum().item() / 25)
        assert found.scores[image].item() == pytest.approx(best, abs=1e-6)


# ------------------------------------------------------------------------------------------------ training
def test_the_initial_weights() -> None:
    _, module = built(width=16, mark_width=16)
    kinds: dict[type, list[Tensor]] = {nn.Conv2d: [], nn.BatchNorm2d: []}
    for layer in module.modules():
        if type(layer) in kinds:
            kinds[type(layer)].append(layer.weight.detach().flatten())  # type: ignore[union-attr]
    convolutions, norms = (torch.cat(found) for found in kinds.values())
    assert convolutions.mean().abs() < 1e-3 and convolutions.std().item() == pytest.approx(0.02, rel=0.01)
    assert norms.mean().item() == pytest.approx(1, abs=2e-3) and norms.std().item() == pytest.approx(0.02, rel=0.1)


def test_what_is_painted_follows_from_seed_and_step_alone() -> None:
    method, _ = built()
    first, again, other = (method.painted(batch(4, step)) for step in (7, 7, 8))
    assert all(torch.equal(a, b) for a, b in zip(first, again, strict=True))
    assert not torch.equal(first[1], other[1])
    clean, spoilt, mask = first
    assert torch.equal(torch.where(mask > 0, clean, spoilt), clean), "outside of the mask nothing changes"


def test_without_paint_nothing_is_marked() -> None:
    method, _ = built(painted=0.0, rotated=0.0)
    given = batch(4)
    clean, spoilt, mask = method.painted(given)
    assert torch.equal(clean, given.pixels) and torch.equal(spoilt, clean) and not mask.any()


def test_steps_follow_from_epochs_and_rates_fall_at_shares_of_them() -> None:
    assert DRAEM(Config()).steps(3629) == 300 * 453
    assert DRAEM(Config(steps=12)).steps(3629) == 12
    method = DRAEM(Config(steps=100))
    assert [method.learning_rate(step) for step in (0, 79, 80, 89, 90, 99)] == pytest.approx(
        [1e-4, 1e-4, 2e-5, 2e-5, 4e-6, 4e-6]
    )


def test_impossible_pools_are_refused() -> None:
    with pytest.raises(UsageError, match="Expected an odd number"):
        DRAEM(Config(score_pool=8))
