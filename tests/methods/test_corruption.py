"""Painted defects: masks against their reference values and statistics, augmenters against PIL's, the blend."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
import pytest
import torch
from PIL import Image, ImageEnhance, ImageOps
from torch import Tensor

from bench.methods import _corruption as corruption
from bench.methods._colour import SPACES
from bench.methods._corruption import AUGMENTERS, augmented, blended, corrupted, masks, perlin, turned

CPU = torch.device("cpu")


def golden_angles(rows: int, columns: int) -> Tensor:
    place = torch.arange(rows * columns, dtype=torch.float64)
    return (2 * math.pi * ((0.37 * place) % 1)).view(1, rows, columns)


def pictures(count: int = 3, side: int = 24) -> Tensor:
    """Whole numbers 0 to 255: smooth and noisy parts, black and white among them."""
    draw = torch.Generator().manual_seed(5)
    noise = torch.randint(0, 256, (count, 3, side, side), generator=draw).float()
    ramp = torch.linspace(0, 255, side).round().expand(count, 3, side, side)
    return torch.where(torch.rand(count, 1, side, side, generator=draw) < 0.5, noise, ramp).contiguous()


def numbers(*values: float, count: int = 3) -> Tensor:
    return torch.tensor([*values, *[0.0] * (4 - len(values))]).expand(count, 4)


def by_pil(images: Tensor, change: Callable[[Image.Image], Image.Image]) -> Tensor:
    found = []
    for image in images:
        picture = Image.fromarray(image.permute(1, 2, 0).to(torch.uint8).numpy(), "RGB")
        found.append(torch.from_numpy(np.asarray(change(picture)).copy()).permute(2, 0, 1).float())
    return torch.stack(found)


# ------------------------------------------------------------------------------------------------ masks
def test_golden_noise() -> None:
    noise = perlin(golden_angles(3, 5), torch.tensor([[2, 4]]), 16)[0]
    found = [noise[0, 0], noise[3, 5], noise[7, 11], noise[15, 15], noise.max(), noise.min()]
    expected = [0, 0.090771, -0.107571, -0.467138, 0.610585, -0.721750]
    assert [one.item() for one in found] == pytest.approx(expected, abs=1e-6)
    assert (noise > 0.5).sum() == 12 and noise.sum().item() == pytest.approx(-16.244241, abs=1e-5)
    noise = perlin(golden_angles(5, 2), torch.tensor([[4, 1]]), 32)[0]
    assert [noise[3, 5].item(), noise[7, 11].item()] == pytest.approx([0.290464, -0.512904], abs=1e-6)


def test_masks_have_the_statistics_of_the_official_recipe() -> None:
    drawn = masks(400, 256, 0.5, torch.Generator().manual_seed(0), CPU)
    assert set(drawn.unique().tolist()) == {0.0, 1.0}
    share = drawn.mean(dim=(1, 2, 3))
    # 400 draws of the official code: mean 5.0 %, median 4.7 %, 90 % quantile 7.2 %, 4.8 % of them empty
    assert share.mean().item() == pytest.approx(0.050, abs=0.005)
    assert share.median().item() == pytest.approx(0.047, abs=0.005)
    assert share.quantile(0.9).item() == pytest.approx(0.072, abs=0.01)
    assert 0.015 < (share == 0).float().mean() < 0.09


def test_a_turn_by_a_right_angle_moves_every_pixel() -> None:
    images = pictures(2)
    for degrees, quarter in ((90.0, 1), (-90.0, -1), (0.0, 0)):
        found = turned(images, torch.full((2,), degrees))
        either = (torch.rot90(images, quarter, (2, 3)), torch.rot90(images, -quarter, (2, 3)))
        assert any(torch.allclose(found, one, atol=1e-2) for one in either)
    assert turned(torch.ones(1, 1, 20, 20), torch.tensor([45.0]))[0, 0, 0, 0] == 0, "black comes from outside"


# ------------------------------------------------------------------------------------------------ augmenters
@pytest.mark.parametrize("factor", [0.0, 0.5, 1.0, 1.7])
def test_sharpness_is_pils(factor: float) -> None:
    images = pictures()
    found = corruption.sharpness(images, numbers(factor / 2)).round().clamp(0, 255)
    expected = by_pil(images, lambda one: ImageEnhance.Sharpness(one).enhance(factor))
    assert (found - expected).abs().max() <= 1


def test_equalize_and_inversion_are_pils() -> None:
    images = pictures(side=40)
    found = corruption.equalize(images, numbers()).clamp(0, 255)
    assert torch.equal(found, by_pil(images, ImageOps.equalize))
    assert torch.equal(corruption.invert(images, numbers()), by_pil(images, ImageOps.invert))


@pytest.mark.parametrize("cutoff", [0, 1, 7, 20])
def test_autocontrast_is_pils(cutoff: int) -> None:
    images = 40 + pictures(side=40).div(2).floor()
    found = corruption.autocontrast(images, numbers((cutoff + 0.5) / 21)).round().clamp(0, 255)
    assert (found - by_pil(images, lambda one: ImageOps.autocontrast(one, cutoff=cutoff))).abs().max() <= 1


def test_solarize_inverts_what_is_bright_every_second_time() -> None:
    images = pictures()
    threshold = 32 + math.floor(0.4 * 97)
    expected = by_pil(images, lambda one: ImageOps.solarize(one, threshold))
    assert torch.equal(corruption.solarize(images, numbers(0.2, 0.4)), expected)
    assert torch.equal(corruption.solarize(images, numbers(0.7, 0.4)), images)


def test_gamma_and_posterize_by_their_formulas() -> None:
    images = pictures()
    found = corruption.gamma(images, torch.tensor([[0.0, 0.5, 1.0, 0.0]]).expand(3, 4))
    for channel, power in enumerate((0.5, 1.25, 2.0)):
        assert torch.allclose(found[:, channel], 255 * (images[:, channel] / 255) ** power)
    # imgaug puts the middle of the range in place of the bits that go
    for bits in range(1, 9):
        width = 2 ** (8 - bits)
        found = corruption.posterize(images, numbers((bits - 0.5) / 8))
        assert torch.equal(found, images.div(width).floor() * width + width // 2)


def test_hue_goes_round_and_saturation_ends() -> None:
    import colorsys

    images = pictures(1)
    found = corruption.hue(images, numbers(0.9, 0.2, count=1))
    turn, more = -50 + math.floor(0.9 * 101), -50 + math.floor(0.2 * 101)
    for row, column in ((0, 0), (5, 9), (12, 3), (20, 20)):
        hue, saturation, value = colorsys.rgb_to_hsv(*(images[0, :, row, column] / 255).tolist())
        new = colorsys.hsv_to_rgb((hue + turn / 255) % 1, min(max(saturation + more / 255, 0), 1), value)
        assert found[0, :, row, column].tolist() == pytest.approx([255 * one for one in new], abs=0.02)


@pytest.mark.parametrize("space", SPACES)
def test_an_unchanged_brightness_gives_the_image_back(space: Callable) -> None:
    images = pictures().clamp(8, 247)
    assert (space(images, lambda bright: bright) - images).abs().max() < 0.35
    brighter = space(images, lambda bright: (bright + 20).clamp(0, 255))
    assert brighter.mean() > images.mean() + 5


@pytest.mark.parametrize("augment", AUGMENTERS)
def test_every_augmenter_changes_something_and_keeps_to_the_range(augment: Callable) -> None:
    images = pictures(8)
    u = torch.rand(8, 4, generator=torch.Generator().manual_seed(2))
    found = augment(images, u)
    assert found.shape == images.shape and torch.isfinite(found).all()
    assert not torch.equal(found.round().clamp(0, 255), images)


def test_augmenters_are_chosen_without_repeats() -> None:
    textures = pictures(64) / 255
    assert torch.equal(augmented(textures, 0, torch.Generator()), textures)
    one = augmented(textures, 3, torch.Generator().manual_seed(1))
    assert torch.equal(one, augmented(textures, 3, torch.Generator().manual_seed(1)))
    assert one.min() >= 0 and one.max() <= 1 and torch.equal((one * 255).round() / 255, one)
    every = augmented(textures, len(AUGMENTERS), torch.Generator().manual_seed(1))
    assert not torch.equal(every, one)


# ------------------------------------------------------------------------------------------------ blend
def test_the_blend_is_that_of_the_paper() -> None:
    draw = torch.Generator().manual_seed(0)
    images, textures = torch.rand(2, 3, 3, 8, 8, generator=draw)
    mask = (torch.rand(3, 1, 8, 8, generator=draw) < 0.5).float()
    kept = torch.tensor([0.0, 0.3, 0.8])
    beta = kept.view(3, 1, 1, 1)
    expected = images * (1 - mask) + (1 - beta) * textures * mask + beta * images * mask
    assert torch.allclose(blended(images, textures, mask, kept), expected, atol=1e-6)


def test_half_of_the_images_are_painted_on() -> None:
    draw = torch.Generator().manual_seed(4)
    images, textures = torch.rand(2, 300, 3, 32, 32, generator=draw)
    spoilt, mask = corrupted(images, textures, torch.Generator().manual_seed(0))
    changed = (spoilt != images).flatten(1).any(dim=1)
    assert torch.equal(changed, mask.flatten(1).any(dim=1))
    assert 0.35 < changed.float().mean() < 0.55, "a half, less the masks that came out empty"
    whole, all_of = corrupted(images, textures, torch.Generator().manual_seed(0), 1.0)
    assert all_of.flatten(1).any(dim=1).float().mean() > 0.8 and not torch.equal(whole, spoilt)
