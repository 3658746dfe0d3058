from __future__ import annotations

import pytest
import torch
from torch import nn

from bench.errors import UsageError
from bench.methods.dinomaly import Config, Dinomaly
from bench.registry import METHODS
from bench.run.complexity import complexity, counted_macs, training_cost


@pytest.mark.parametrize(
    ("size", "total", "trainable", "giga"),
    [
        ("small", 37_435_392, 15_377_280, 26.24),
        ("base", 148_008_960, 61_425_408, 104.60),
        ("large", 413_536_256, 109_163_520, 275.1),
    ],
)
def test_dinomaly_as_published(size: str, total: int, trainable: int, giga: float) -> None:
    counted = complexity(Dinomaly(Config(encoder=f"vit_{size}_patch14_reg4_dinov2.lvd142m")))
    assert counted.params_total == total
    assert counted.params_trainable == trainable
    assert counted.macs / 1e9 == pytest.approx(giga, rel=5e-3)


def test_equal_configurations_are_counted_once() -> None:
    complexity(Dinomaly(Config(dropout=0.31)))
    counted = complexity.cache_info().misses
    complexity(Dinomaly(Config(dropout=0.31)))
    assert complexity.cache_info().misses == counted
    complexity(Dinomaly(Config(dropout=0.32)))
    assert complexity.cache_info().misses == counted + 1


def test_base_macs_by_hand() -> None:
    tokens, dim = 789, 768
    patches = 28 * 28 * dim * 3 * 14 * 14
    block = tokens * 12 * dim * dim
    bottleneck = tokens * 8 * dim * dim
    counted = complexity(Dinomaly(Config()))
    assert counted.macs == patches + (10 + 8) * block + bottleneck
    assert counted.macs_trainable == 8 * block + bottleneck


def test_products_of_activations_are_counted_apart() -> None:
    tokens, dim, head = 789, 768, 64
    softmax = 2 * tokens * tokens * dim
    # k^T v and q (k^T v), and q times the summed keys
    linear = 2 * tokens * dim * head + tokens * dim
    counted = complexity(Dinomaly(Config()))
    smoothing = 256 * 256 * 5 * 5
    assert counted.macs_with_products == counted.macs + 10 * softmax + 8 * linear + smoothing


def test_input_size_changes_macs_but_not_parameters() -> None:
    default, smaller = (complexity(Dinomaly(Config(input_size=size))) for size in (None, 280))
    assert default.params_total == smaller.params_total
    assert smaller.macs < 0.55 * default.macs


@pytest.mark.parametrize(
    ("layer", "shape", "macs"),
    [
        (nn.Linear(5, 7), (2, 3, 5), 6 * 5 * 7),
        (nn.Conv2d(4, 6, 3, padding=1), (1, 4, 8, 8), 64 * 6 * 4 * 9),
        (nn.Conv2d(4, 6, 3, stride=2, groups=2), (1, 4, 9, 9), 16 * 6 * 2 * 9),
        (nn.ConvTranspose2d(4, 6, 2, stride=2), (1, 4, 5, 5), 25 * 4 * 6 * 4),
    ],
)
def test_layer_macs(layer: nn.Module, shape: tuple[int, ...], macs: int) -> None:
    with counted_macs(layer) as tally:
        layer(torch.zeros(shape))
    assert tally == [macs]
    layer(torch.zeros(shape))
    assert tally == [macs], "hooks are gone after the block"


def test_what_a_kept_feature_saves_by_hand() -> None:
    tokens, dim, head = 789, 768, 64
    block, bottleneck = tokens * 12 * dim * dim, tokens * 8 * dim * dim
    patches = 28 * 28 * dim * 3 * 14 * 14
    softmax, linear = 2 * tokens * tokens * dim, 2 * tokens * dim * head + tokens * dim
    cost = training_cost(Dinomaly(Config()))
    assert cost.frozen == patches + 10 * block and cost.trained == 8 * block + bottleneck
    assert cost.frozen_with_products == cost.frozen + 10 * softmax
    assert cost.trained_with_products == cost.trained + 8 * linear
    # the bottleneck's input needs no gradient
    assert cost.backward_with_products == 2 * cost.trained_with_products - bottleneck // 2
    assert cost.cached_over_uncached == pytest.approx(1.387, abs=5e-4)


@pytest.mark.parametrize(("name", "ratio"), [("vitad", 1.448), ("rd4ad", 1.245), ("dual_student", 1.195)])
def test_what_the_other_methods_save(name: str, ratio: float) -> None:
    kind = METHODS.load(name)
    cost = training_cost(kind(kind.Config()))
    assert cost.cached_over_uncached == pytest.approx(ratio, abs=5e-4)
    assert cost.cached_over_uncached == pytest.approx(cost.cached_over_uncached_with_products, rel=0.05)
    assert cost.trained_with_products >= cost.trained and cost.frozen_with_products >= cost.frozen


def test_a_method_without_training_has_no_training_cost() -> None:
    kind = METHODS.load("knn")
    with pytest.raises(UsageError, match="trains nothing"):
        training_cost(kind(kind.Config()))
