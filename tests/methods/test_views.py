"""Views against torchvision's functions, image by image, and against the statistics of what they are drawn from."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor
from torchvision.transforms.v2 import functional as vision

from bench.methods import _views

SIDE = 40


def random(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def pictures(count: int, side: int = SIDE) -> Tensor:
    return torch.rand(count, 3, side, side, generator=random(1))


def test_parts_are_resized_as_torchvision_does() -> None:
    images, parts = pictures(12), _views.windows(12, SIDE, random(), torch.device("cpu"))
    assert len(parts.unique(dim=0)) == 12
    for image, part, made in zip(images, parts.int().tolist(), _views.enlarged(images, parts), strict=True):
        want = vision.resized_crop(image, *part, size=[SIDE, SIDE], antialias=False)
        torch.testing.assert_close(made, want, rtol=0, atol=2e-5)


def test_parts_are_drawn_as_stated() -> None:
    count, side = 20_000, 224
    top, left, height, width = _views.windows(count, side, random(), torch.device("cpu")).unbind(dim=1)
    assert (top >= 0).all() and (left >= 0).all() and (top + height <= side).all() and (left + width <= side).all()
    area, ratio = height * width / side**2, width / height
    assert area.min() == pytest.approx(0.2, abs=0.01) and area.max() > 0.97
    # below the size from which some shapes do not fit, areas are spread evenly: 0.2 to 0.3 as likely as 0.5 to 0.6
    low, high = (((area > at) & (area < at + 0.1)).float().mean().item() for at in (0.2, 0.5))
    assert low == pytest.approx(high, rel=0.08)
    assert ratio.min() > 0.74 and ratio.max() < 1.35
    assert ratio.log().mean().item() == pytest.approx(0, abs=0.01)
    free = (side - height) > 20
    place = top[free] / (side - height)[free]
    assert place.mean().item() == pytest.approx(0.5, abs=0.01) and place.min() == 0 and place.max() == 1


def test_where_no_part_fits_the_whole_image_is_taken(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_views, "SCALE", (4.0, 5.0))
    assert _views.windows(3, SIDE, random(), torch.device("cpu")).tolist() == [[0, 0, SIDE, SIDE]] * 3


@pytest.mark.parametrize("which", range(4))
def test_each_colour_change_is_torchvision_s(which: int) -> None:
    images, factors = pictures(6), torch.ones(4, 6)
    factors[3] = 0
    factors[which] = torch.linspace(-0.1, 0.1, 6) if which == 3 else torch.linspace(0.6, 1.4, 6)
    order = torch.arange(4).expand(6, 4)
    change = (vision.adjust_brightness, vision.adjust_contrast, vision.adjust_saturation, vision.adjust_hue)[which]
    for image, factor, made in zip(
        images, factors[which].tolist(), _views.jittered(images, factors, order), strict=True
    ):
        # its grey weighs red with 0.2989
        torch.testing.assert_close(made, change(image, factor), rtol=0, atol=2e-4)


def test_colours_change_in_each_image_s_own_order() -> None:
    images, factors = pictures(2), torch.tensor([[1.4, 1.4], [0.6, 0.6], [1.3, 1.3], [0.1, 0.1]])
    order = torch.tensor([[0, 1, 2, 3], [3, 2, 1, 0]])
    together = _views.jittered(images, factors, order)
    changes = (vision.adjust_brightness, vision.adjust_contrast, vision.adjust_saturation, vision.adjust_hue)
    for image, row, made in zip(images, order.tolist(), together, strict=True):
        for which in row:
            image = changes[which](image, factors[which, 0].item())
        torch.testing.assert_close(made, image, rtol=0, atol=5e-4)
    assert not torch.allclose(together[0], _views.jittered(images, factors, order.flip(0))[0], atol=1e-2)


def test_blur_is_a_gaussian() -> None:
    images, sigmas = pictures(4), torch.tensor([0.1, 0.7, 1.3, 2.0])
    for image, sigma, made in zip(images, sigmas.tolist(), _views.blurred(images, sigmas), strict=True):
        padded = torch.nn.functional.pad(image[None], (8,) * 4, mode="replicate")
        want = vision.gaussian_blur(padded, [17, 17], [sigma, sigma])[0, :, 8:-8, 8:-8]
        torch.testing.assert_close(made, want, rtol=0, atol=1e-5)
    torch.testing.assert_close(_views.blurred(images, torch.full((4,), 0.1)), images)


def test_grey_images_have_one_value_a_pixel() -> None:
    made = _views.grey(pictures(2))
    assert made.shape == (2, 3, SIDE, SIDE) and torch.equal(made[:, 0], made[:, 2])
    assert _views.grey(torch.ones(1, 3, 2, 2)).unique().item() == pytest.approx(1)


def test_how_often_a_view_is_changed(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each change alone, by an image that shows it."""
    monkeypatch.setattr(_views, "SCALE", (4.0, 5.0))  # whole images
    colour = torch.zeros(3, 4, 4)
    colour[0], colour[1], colour[:, :, 0] = 0.5, 0.3, 0.2
    images = colour.repeat(4000, 1, 1, 1)
    rates = {"JITTERED": 0.8, "GREYED": 0.2, "BLURRED": 0.5, "MIRRORED": 0.5}
    assert {name: getattr(_views, name) for name in rates} == rates
    for name, rate in rates.items():
        for other in rates:
            monkeypatch.setattr(_views, other, rate if other == name else 0.0)
        made = _views.views(images, random(3))
        changed = (made - images).abs().amax(dim=(1, 2, 3)) > 1e-5
        # a blur of less than a fifth of a pixel does not show: about 1 in 20
        assert changed.float().mean().item() == pytest.approx(rate, abs=0.06 if name == "BLURRED" else 0.025), name


def test_views_are_images_and_depend_on_the_generator_alone() -> None:
    images = pictures(8)
    made = _views.views(images, random(5))
    assert made.shape == images.shape and made.dtype == torch.float32
    assert made.min() >= 0 and made.max() <= 1 + 1e-5
    assert torch.equal(made, _views.views(images, random(5)))
    assert not torch.allclose(made, _views.views(images, random(6)))
