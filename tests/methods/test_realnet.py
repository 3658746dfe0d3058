from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from golden_values import fill, waves
from torch import Tensor, nn

from bench.api import Batch, Batches, EncoderInfo
from bench.errors import UsageError
from bench.methods.realnet import Config, Marker, Networks, RealNet, Reconstruction, separation
from bench.run.complexity import complexity

CHANNELS = (4, 6, 8, 12)
SIDES = (32, 16, 8, 4)
INFO = EncoderInfo("resnet18", "cnn", 12, 5, 0, 32, 0, (4, 4), 128, (0.0, 0.0, 0.0), (1.0, 1.0, 1.0), CHANNELS)


def built(**config: Any) -> tuple[RealNet, Networks]:
    torch.manual_seed(0)
    method = RealNet(Config(**{"input_size": 128, "kept": (1, 1, 0.5, 0.25), "highest": 5, "widest": 6, **config}))
    return method, method.build(INFO)


def total(module: nn.Module) -> int:
    return sum(param.numel() for param in module.parameters())


def encode(images: Tensor) -> dict[str, Tensor]:
    """Stages whose channels answer to paint the more the higher their number."""
    found = {}
    for number, (width, side) in enumerate(zip(CHANNELS, SIDES, strict=True)):
        grey = F.adaptive_avg_pool2d(images, side).mean(dim=1, keepdim=True)
        found[f"stage{number}"] = torch.cat([grey * place / width for place in range(width)], dim=1)
    return found


def seen(images: Tensor, seed: int = 0) -> Batch:
    def textures(count: int, random: torch.Generator) -> Tensor:
        return torch.rand(count, 3, *images.shape[2:], generator=random)

    generator = torch.Generator().manual_seed(seed)
    return Batch(encode(images), images, encode=encode, random=lambda: generator, textures=textures)


def pictures(count: int, seed: int = 1) -> Tensor:
    whole = torch.randint(256, (count, 3, 128, 128), generator=torch.Generator().manual_seed(seed))
    return whole.float() / 255


# ------------------------------------------------------------------------------------------------ size and values
def test_parameters_and_macs_as_published() -> None:
    counted = complexity(RealNet(Config()))
    # the CNN up to its fourth stage
    assert counted.params_total - counted.params_trainable == 66_834_240
    assert counted.params_trainable == 403_064_832 + 5_872_662


def test_golden_reconstruction() -> None:
    module = Reconstruction(8, 2)
    assert total(module) == 39_456
    fill(module)
    with torch.no_grad():
        found = module(waves(1, 8, 8, 8))
    assert found[0, 0, 0, 0].item() == pytest.approx(0.070471, abs=1e-6)
    assert found[0, 7, 7, 7].item() == pytest.approx(0.034694, abs=1e-6)
    assert found.sum().item() == pytest.approx(4.942240, abs=1e-4)


def test_golden_marker() -> None:
    missed = [waves(2, 6, 8, 8).square(), waves(2, 10, 4, 4, shift=0.6).square()]
    module = Marker((6, 10), 3, 5)
    assert total(module) == 50_454
    fill(module)
    chosen: list[list[int]] = []
    plain = module.chosen

    def noted(joined: Tensor) -> Tensor:
        found = plain(joined)
        chosen.extend(found.tolist())
        return found

    module.chosen = noted  # type: ignore[method-assign]
    with torch.no_grad():
        module.eval()
        logits = module(missed)
        assert logits.shape == (2, 2, 32, 32)
        assert logits[0, 0, 0, 0].item() == pytest.approx(0.057771, abs=1e-6)
        assert logits[1, 1, 31, 31].item() == pytest.approx(0.022430, abs=1e-6)
        assert logits.sum().item() == pytest.approx(163.049622, rel=1e-5)
        assert logits.softmax(dim=1)[:, 1].sum().item() == pytest.approx(1009.380981, rel=1e-6)
        assert [row[:3] for row in chosen] == [[4, 2, 6], [3, 1, 5]]
        assert [row[3:] for row in chosen] == [[14, 9, 11, 6, 2], [12, 7, 9, 15, 10]]
        chosen.clear()
        logits = module.train()(missed)
    assert logits[0, 0, 0, 0].item() == pytest.approx(0.058036, abs=1e-6)
    assert logits[1, 1, 31, 31].item() == pytest.approx(0.022947, abs=1e-6)
    assert logits.sum().item() == pytest.approx(163.149399, rel=1e-5)
    assert [row[:3] for row in chosen] == [[8, 11, 4], [10, 15, 13]]
    assert [row[3:] for row in chosen] == [[11, 14, 8, 6, 2], [10, 7, 15, 12, 3]]


def test_golden_separation() -> None:
    mask = (waves(2, 1, 8, 8, shift=0.5) > 0.6).float()
    assert mask.sum() == 37
    found = separation(waves(2, 6, 4, 4), waves(2, 6, 4, 4, shift=0.7), mask)
    assert found.tolist() == pytest.approx([0.399415, 0.341449, 0.398090, 0.355433, 0.390247, 0.389234], abs=1e-6)
    assert found.argsort()[:3].sort().values.tolist() == [1, 3, 5]


# ------------------------------------------------------------------------------------------------------ selection
def test_the_kept_channels_are_those_that_separate_best(monkeypatch: pytest.MonkeyPatch) -> None:
    method, module = built(selection_batches=2, batch_size=3)
    images = pictures(6)
    method.fit(module, [seen(images)])
    # by hand: the same batches, painted alike
    first, totals = seen(images), None
    for part in images.split(3):
        spoilt, mask = RealNet(method.config.model_copy(update={"painted": 1.0})).painted(part, first)
        found = [separation(encode(spoilt)[f"stage{n}"], encode(part)[f"stage{n}"], mask) for n in range(4)]
        totals = found if totals is None else [one + two for one, two in zip(totals, found, strict=True)]
    assert totals is not None
    for stage, (width, count) in enumerate(zip(CHANNELS, (4, 6, 4, 3), strict=True)):
        ranked = sorted(range(width), key=lambda channel: totals[stage][channel].item())
        assert getattr(module, f"kept{stage}").tolist() == sorted(ranked[:count])


@pytest.mark.parametrize("count", [20, 3])
def test_images_for_the_selection_are_drawn_once_each(count: int) -> None:
    method, _ = built(selection_batches=2, batch_size=4)
    images = pictures(count)

    def passed(size: int) -> Tensor:
        torch.manual_seed(3)
        parts: Iterator[Batch] = (seen(part) for part in images.split(size))
        return method._some(Batches(count, parts))[0]

    found = passed(7)
    assert found.dtype == torch.uint8 and len(found) == min(count, 8)
    places = [int((images * 255 == one).all(dim=(1, 2, 3)).nonzero()) for one in found.float()]
    assert len(set(places)) == len(places) and places != sorted(places)
    assert torch.equal(found, passed(1))


# ------------------------------------------------------------------------------------------------------ formulas
def test_loss_against_a_direct_computation() -> None:
    method, module = built(painted=1.0)
    module.eval()
    module.kept2, module.kept3 = torch.tensor([0, 2, 5, 7]), torch.tensor([1, 6, 11])  # type: ignore[assignment]
    images = pictures(3)
    with torch.no_grad():
        loss = method.loss(module, seen(images, 4), 0)
        spoilt, mask = method.painted(images, seen(images, 4))
        clean, dirty = ([encode(one)[f"stage{n}"] for n in range(4)] for one in (images, spoilt))
        for stage, kept in ((2, [0, 2, 5, 7]), (3, [1, 6, 11])):
            clean[stage], dirty[stage] = clean[stage][:, kept], dirty[stage][:, kept]
        rebuilt = [layer(one) for layer, one in zip(module.reconstructions, dirty, strict=True)]
        apart = sum(float(((one - two) ** 2).mean()) for one, two in zip(rebuilt, clean, strict=True))
        logits = module.marker([(one - two) ** 2 for one, two in zip(dirty, rebuilt, strict=True)])
        chance = logits.softmax(dim=1)
        truth = torch.where(mask > 0, chance[:, 1:], chance[:, :1])
    assert 0 < mask.mean() < 0.5
    assert loss.item() == pytest.approx(apart - float(truth.log().mean()), rel=1e-5)


def test_gradients_of_the_marks_reach_the_reconstructions() -> None:
    _, module = built()
    stages = module.selected(encode(pictures(2)))
    module.marker(
        [(one - layer(one)).square() for one, layer in zip(stages, module.reconstructions, strict=True)]
    ).sum().backward()
    assert all(layer.leave.weight.grad.abs().sum() > 0 for layer in module.reconstructions)  # type: ignore[union-attr, operator]


def test_map_and_score() -> None:
    method, module = built()
    module.eval()
    images = pictures(2)
    with torch.no_grad():
        found = method.anomaly(module, seen(images), INFO, 64)
        marks = module(module.selected(encode(images)))[1].softmax(dim=1)[:, 1]
    assert found.maps is not None and found.maps.shape == (2, 64, 64)
    wanted = F.interpolate(marks[:, None], 64, mode="bilinear")[:, 0]
    torch.testing.assert_close(found.maps, wanted)
    squares = wanted.unfold(1, 16, 1).unfold(2, 16, 1).mean(dim=(3, 4))
    torch.testing.assert_close(found.scores, squares.amax(dim=(1, 2)))


# ------------------------------------------------------------------------------------------------------ recipe
def test_published_recipe() -> None:
    method = RealNet(Config())
    assert method.steps(3629) == 22_600 and method.clip_norm is None
    settled = method.settled(3629)
    rates = [settled.learning_rate(step) for step in (0, 18_079, 18_080, 22_599)]
    assert rates == pytest.approx([1e-4, 1e-4, 1e-5, 1e-5])
    (group,) = built()[0].optimizer(built()[1]).param_groups
    assert (group["betas"], group["weight_decay"]) == ((0.9, 0.999), 0)
    assert method.encoder().blocks == (1, 2, 3, 4)
    with torch.device("meta"):
        module = Networks((256, 512, 1024, 2048), Config())
    assert [len(getattr(module, f"kept{n}")) for n in range(4)] == [256, 512, 512, 256]


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"encoder": "vit_small_patch16_224.dino"}, "realnet needs a CNN.*is a ViT"),
        ({"input_size": 192}, "multiple of 128, for example 128 or 256"),
        ({"stages": (0, 1, 2, 4)}, "at strides 2, 4, 8, 32"),
        ({"highest": 4000}, "highest 4000.*among 1536 kept channels"),
    ],
)
def test_what_does_not_fit_is_refused_with_what_does(values: dict[str, Any], message: str) -> None:
    with pytest.raises(UsageError, match=message):
        RealNet(Config(**values)).encoder()


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"kept": (1, 1, 0, 1)}, "four shares above 0"),
        ({"highest": 0, "widest": 0}, "both 0"),
        ({"painted": 0, "augmenters": 1}, "augmenters = 1 has no effect with painted 0"),
    ],
)
def test_settings_that_mean_nothing_are_refused(values: dict[str, Any], message: str) -> None:
    with pytest.raises(UsageError, match=message):
        RealNet(Config(**values))
