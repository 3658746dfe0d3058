"""A method's scores and maps as they are collected: a number an image, a pixel a place, none made equal to another."""

from __future__ import annotations

import pytest
import torch

from bench.errors import UsageError
from bench.metrics import evaluate_class
from bench.run.predictions import Collected


def collected() -> Collected:
    return Collected("mine", 4, 8, pinned=False)


@pytest.mark.parametrize("dtype", [torch.float64, torch.int64])
def test_maps_keep_the_type_in_which_their_numbers_differ(dtype: torch.dtype) -> None:
    masks = torch.zeros(4, 8, 8, dtype=torch.bool)
    masks[:2, 2:4, 2:4] = True
    maps = masks.to(dtype) + 2**53 if dtype == torch.int64 else 1 - 1e-12 * (~masks).double()
    found = collected()
    found.take_maps(slice(0, 3), maps[:3])
    found.take_maps(slice(3, 4), maps[3:])
    assert found.maps is not None and found.maps.dtype == dtype
    assert evaluate_class(found.maps.numpy(), masks.numpy())["pixel/auroc"] == 1


def test_half_precision_and_axes_of_length_1_mean_one_thing_only() -> None:
    found = collected()
    for start, stop in ((0, 3), (3, 4)):
        scores = torch.arange(start, stop, dtype=torch.bfloat16)
        found.take_scores(slice(start, stop), scores[:, None])
        found.take_maps(slice(start, stop), scores[:, None, None, None].expand(-1, 1, 8, 8))
    assert found.scores.tolist() == [0, 1, 2, 3]
    assert found.maps is not None and found.maps.dtype == torch.float32
    assert found.maps[:, 7, 7].tolist() == [0, 1, 2, 3]


@pytest.mark.parametrize("shape", [(), (1,), (2,), (8, 8)])
def test_scores_are_never_spread_over_images(shape: tuple[int, ...]) -> None:
    with pytest.raises(UsageError, match=r"mine.anomaly gave scores float32 .*Expected real numbers \[4\]"):
        collected().take_scores(slice(0, 4), torch.zeros(shape))


@pytest.mark.parametrize("shape", [(8, 8), (1, 8, 8), (4, 1, 1), (4, 16, 16), (8, 8, 4)])
def test_maps_are_never_spread_over_images_or_pixels(shape: tuple[int, ...]) -> None:
    with pytest.raises(UsageError, match=r"mine.anomaly gave maps float32 .*Expected real numbers \[4, 8, 8\]"):
        collected().take_maps(slice(0, 4), torch.zeros(shape))


def test_numbers_that_would_become_equal_are_refused() -> None:
    with pytest.raises(UsageError, match="beyond 2"):
        collected().take_scores(slice(0, 2), torch.tensor([2**53, 2**53 + 1]))
    with pytest.raises(UsageError, match="Expected real numbers"):
        collected().take_scores(slice(0, 2), torch.tensor([1j, 2j]))
    found = collected()
    found.take_maps(slice(0, 2), torch.zeros(2, 8, 8))
    with pytest.raises(UsageError, match="maps of float64 after float32"):
        found.take_maps(slice(2, 4), torch.zeros(2, 8, 8, dtype=torch.float64))
