from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from golden_values import waves
from torch import Tensor, nn

from bench.api import Batch, EncoderInfo
from bench.encoders import frozen
from bench.methods.rd4ad import MapBottleneck
from bench.methods.recontrast import Config as Settings
from bench.methods.recontrast import CrossDecoder, ReContrast, ReContrastNet, SmoothBottleneck, hard_mined
from bench.plan import needs
from bench.run.complexity import complexity

CHANNELS, SIDES, STAGES = (8, 12, 20), (16, 8, 4), (1, 2, 3)
INFO = EncoderInfo("resnet18", "cnn", 20, 5, 0, 16, 0, (4, 4), 64, (0.0, 0.0, 0.0), (1.0, 1.0, 1.0), CHANNELS)
UNUSED = 8_392_704
"""Parameters of the official bottleneck that never run."""


class Trunk(nn.Module):
    """A trainable encoder of three stages, with a BatchNorm in each."""

    def __init__(self) -> None:
        super().__init__()
        self.convs = nn.ModuleList(nn.Conv2d(3, width, 1) for width in CHANNELS)
        self.norms = nn.ModuleList(nn.BatchNorm2d(width) for width in CHANNELS)

    def forward(self, images: Tensor) -> dict[int, Tensor]:
        made = zip(STAGES, self.convs, self.norms, SIDES, strict=True)
        return {stage: norm(conv(F.adaptive_avg_pool2d(images, side))) for stage, conv, norm, side in made}


def built(**config: Any) -> tuple[ReContrast, ReContrastNet]:
    torch.manual_seed(0)
    method = ReContrast(Settings(**config))
    return method, method.build(INFO, Trunk()).double()


def given(count: int = 3) -> Batch:
    draw = torch.Generator().manual_seed(1)
    stages = {
        f"stage{n}": torch.randn(count, channels, side, side, generator=draw, dtype=torch.float64)
        for n, (channels, side) in enumerate(zip(CHANNELS, SIDES, strict=True))
    }
    return Batch(stages, torch.rand(count, 3, 64, 64, generator=draw, dtype=torch.float64))


def total(module: nn.Module) -> int:
    return sum(param.numel() for param in module.parameters())


# ------------------------------------------------------------------------------------------------ size and values
@pytest.mark.parametrize(
    ("variant", "published", "decoder"), [("original", 144_676_480, 27_673_600), ("dinomaly", 154_270_336, 37_267_456)]
)
def test_parameters_as_published(variant: str, published: int, decoder: int) -> None:
    method = ReContrast(Settings(variant=variant))
    counted = complexity(method)
    assert counted.params_total == published - UNUSED
    assert counted.params_total - counted.params_trainable == 24_862_528
    with torch.device("meta"):
        module = needs.build(method, frozen.skeleton(method.encoder()))
    assert [total(one) for one in (module.trunk, module.bottleneck, module.decoder)] == [
        *(24_862_528, 67_277_824 - UNUSED, decoder)
    ]
    assert total(module.decoder.first) + total(module.decoder.second) == 2_756_096


def test_macs_as_published() -> None:
    counted = complexity(ReContrast(Settings(variant="original")))
    # the codes send both halves through both sets of output convolutions, and use one of each
    unused = sum((64 // 2**n) ** 2 * (256 * 2**n) ** 2 for n in range(3)) * 2
    assert (counted.macs_with_products + unused) / 1e9 == pytest.approx(64.1, abs=0.05)
    # the frozen and the trained copy of the encoder cost the same, and each is counted once
    alone = counted.macs - counted.macs_trainable
    assert 2 * alone < counted.macs < 2 * alone + 45e9


@pytest.mark.parametrize(("hardness", "gradient", "places"), [(-3, 0.617278, 32), (0, 0.251462, 13), (1, 0.102441, 5)])
def test_golden_mining(hardness: float, gradient: float, places: int) -> None:
    target, rebuilt = waves(2, 3, 4, 4), waves(2, 3, 4, 4, shift=0.7).requires_grad_()
    mined = hard_mined(target, rebuilt, hardness)
    assert torch.equal(mined, rebuilt)
    loss = (1 - F.cosine_similarity(target.flatten(1), mined.flatten(1))).mean()
    loss.backward()
    assert loss.item() == pytest.approx(0.172701, abs=1e-6)
    assert rebuilt.grad is not None
    assert rebuilt.grad.abs().sum().item() == pytest.approx(gradient, abs=1e-6)
    assert int((rebuilt.grad.abs().sum(1) > 0).sum()) == places


# ------------------------------------------------------------------------------------------------------ formulas
def test_a_smooth_bottleneck_is_rd4ads_with_gelu() -> None:
    torch.manual_seed(0)
    smooth = SmoothBottleneck(6, 4, 8, "up").double()
    plain = MapBottleneck(6, 4, 8, "up", rectified=False).double()
    plain.load_state_dict(smooth.state_dict())
    x = torch.randn(2, 6, 4, 4, dtype=torch.float64)
    body = x
    for layer in plain.body:
        body = body * 0.5 * (1 + torch.erf(body / math.sqrt(2))) if isinstance(layer, nn.ReLU) else layer(body)
    expected = body + plain.shortcut(x)
    torch.testing.assert_close(smooth(x), expected * 0.5 * (1 + torch.erf(expected / math.sqrt(2))))


def test_either_half_of_the_batch_goes_through_convolutions_of_its_own() -> None:
    torch.manual_seed(0)
    decoder = CrossDecoder(CHANNELS, (2, 1, 1)).double().eval()
    x = torch.randn(4, 40, 2, 2, dtype=torch.float64)
    first, second = decoder(x)
    assert [one.shape[1:] for one in first] == [
        (width, side, side) for width, side in zip(CHANNELS, SIDES, strict=True)
    ]
    shared = x
    for number, stage in enumerate(decoder.stages):
        shared = stage(shared)
        heads = decoder.first[number], decoder.second[number]
        for found, head, part in zip((first, second), heads, shared.chunk(2), strict=True):
            weight = head.weight[:, :, 0, 0]
            expected = torch.einsum("oi,bihw->bohw", weight, part) + head.bias[:, None, None]
            torch.testing.assert_close(found[2 - number], expected)


def pairs_of(module: ReContrastNet, batch: Batch) -> list[tuple[Tensor, Tensor]]:
    return module(batch.pixels, [batch[f"stage{n}"] for n in range(3)])


def test_the_frozen_stages_are_rebuilt_from_the_trained_ones_and_the_other_way_round() -> None:
    _, module = built()
    module.eval()
    batch = given()
    frozen_ = [batch[f"stage{n}"] for n in range(3)]
    with torch.no_grad():
        trained = list(module.trunk(batch.pixels).values())
        from_trained = module.decoder(module.bottleneck([torch.cat([one, one]) for one in trained]))[0]
        from_frozen = module.decoder(module.bottleneck([torch.cat([one, one]) for one in frozen_]))[1]
        found = pairs_of(module, batch)
    for (target, rebuilt), wanted, source in zip(
        found, (*frozen_, *trained), (*from_trained, *from_frozen), strict=True
    ):
        torch.testing.assert_close(target, wanted)
        torch.testing.assert_close(rebuilt, source)


def slow_loss(pairs: Sequence[tuple[Tensor, Tensor]]) -> float:
    def apart(one: Tensor, other: Tensor) -> float:
        return 1 - float((one * other).sum() / (one.square().sum() * other.square().sum()).sqrt())

    return sum(sum(map(apart, target, rebuilt)) / len(target) for target, rebuilt in pairs) / 2


def test_loss_against_a_direct_computation() -> None:
    method, module = built()
    batch = given()
    with torch.no_grad():
        expected = slow_loss(pairs_of(module.eval(), batch))
    # hard mining weighs gradients alone
    for step in (0, 250, 4000):
        assert method.loss(module, batch, step).item() == pytest.approx(expected, abs=1e-9)


def test_gradients_at_hard_places_against_weights_of_zero_and_one() -> None:
    torch.manual_seed(0)
    target, rebuilt = (torch.randn(3, 5, 4, 4, dtype=torch.float64) for _ in range(2))
    one, other = (rebuilt.clone().requires_grad_() for _ in range(2))
    mined = hard_mined(target, one, 0.3)
    (1 - F.cosine_similarity(target.flatten(1), mined.flatten(1))).mean().backward()
    (1 - F.cosine_similarity(target.flatten(1), other.flatten(1))).mean().backward()
    distance = 1 - F.cosine_similarity(target, rebuilt)
    hard = distance >= distance.mean() + 0.3 * distance.std(unbiased=True)
    assert 0 < hard.sum() < hard.numel()
    assert one.grad is not None and other.grad is not None
    torch.testing.assert_close(one.grad, other.grad * hard[:, None])


def test_the_trained_copy_learns_as_a_source_alone() -> None:
    """Its stages are targets, too, through which no gradient passes."""
    method, module = built(hardness=-1e3, hardness_start=-1e3)
    batch = given()
    targets = [target for target, _ in pairs_of(module, batch)]
    assert not any(target.requires_grad for target in targets)
    method.loss(module, batch, 0).backward()
    gradient = [param.grad.clone() for param in module.trunk.parameters()]
    assert all(one.abs().sum() > 0 for one in gradient[:6])
    # a target that moved along would add to it
    module.zero_grad()
    trained = list(module.trunk(batch.pixels).values())
    frozen_ = [batch[f"stage{n}"] for n in range(3)]
    both = [torch.cat([mine, given_]) for mine, given_ in zip(trained, frozen_, strict=True)]
    first, second = module.decoder(module.bottleneck(both))
    apart = [
        1 - F.cosine_similarity(one.flatten(1), other.flatten(1))
        for one, other in zip((*frozen_, *trained), (*first, *second), strict=True)
    ]
    (torch.stack([one.mean() for one in apart]).sum() / 2).backward()
    assert any(
        not torch.allclose(param.grad, one) for param, one in zip(module.trunk.parameters(), gradient, strict=True)
    )


@pytest.mark.parametrize("statistics", ["fixed", "batch"])
def test_batch_statistics_of_the_trained_copy_are_moved_only_where_asked_for(statistics: str) -> None:
    method, module = built(encoder_statistics=statistics)
    assert module.bottleneck.training and module.decoder.training
    assert module.trunk.training == (statistics == "batch")
    before = [norm.running_mean.clone() for norm in module.trunk.norms]
    method.loss(module, given(), 0)
    moved = [not torch.equal(norm.running_mean, one) for norm, one in zip(module.trunk.norms, before, strict=True)]
    assert moved == [statistics == "batch"] * 3
    assert not module.eval().trunk.training


def test_maps_and_scores_against_a_direct_computation() -> None:
    method, module = built()
    module.eval()
    batch = given()
    with torch.no_grad():
        prediction = method.anomaly(module, batch, INFO, 32)
        maps = []
        for target, rebuilt in pairs_of(module, batch):
            distance = 1 - (target * rebuilt).sum(1) / (target.norm(dim=1) * rebuilt.norm(dim=1))
            maps.append(F.interpolate(distance[:, None], size=32, mode="bilinear", align_corners=True))
        mean = torch.stack(maps).mean(0)
        place = torch.arange(5, dtype=torch.float64) - 2
        bell = torch.exp(-(place[:, None] ** 2 + place[None] ** 2) / (2 * 4.0**2))
        smooth = F.conv2d(mean, (bell / bell.sum())[None, None], padding=2)[:, 0]
        scores = smooth.flatten(1).sort(descending=True).values[:, : int(32 * 32 * 0.01)].mean(1)
    torch.testing.assert_close(prediction.maps.double(), smooth, rtol=1e-5, atol=1e-6)
    torch.testing.assert_close(prediction.scores.double(), scores, rtol=1e-5, atol=1e-6)


def test_an_image_s_prediction_does_not_depend_on_those_beside_it() -> None:
    method, module = built()
    module.eval()
    batch = given(4)
    alone = Batch({name: value[1:2] for name, value in batch.items()}, batch.pixels[1:2])
    with torch.no_grad():
        torch.testing.assert_close(
            method.anomaly(module, alone, INFO, 32).maps, method.anomaly(module, batch, INFO, 32).maps[1:2]
        )


# ------------------------------------------------------------------------------------------------------ training
def test_mining_begins_with_every_place_and_rises_through_a_tenth_of_the_steps() -> None:
    method = ReContrast(Settings())
    assert [method.hardness(step) for step in (0, 125, 250, 500, 4_999)] == pytest.approx([-3, -2, -1, 1, 1])
    realiad = ReContrast(Settings(steps=30_000, hardness_steps=1_000))
    assert [realiad.hardness(step) for step in (0, 500, 1_000, 29_999)] == pytest.approx([-3, -1, 1, 1])


def test_rates_drop_to_a_fifth_after_four_fifths_and_the_copy_has_its_own() -> None:
    method, module = built()
    assert [method.learning_rate(step) for step in (0, 3_999, 4_000, 4_999)] == pytest.approx([2e-3, 2e-3, 4e-4, 4e-4])
    optimizer = method.optimizer(module)
    assert type(optimizer).__name__ == "StableAdamW"
    scales = [group["lr_scale"] * method.config.lr for group in optimizer.param_groups]
    assert scales == pytest.approx([2e-3, 1e-5])
    assert {id(one) for one in optimizer.param_groups[1]["params"]} == {id(one) for one in module.trunk.parameters()}
    assert sum(len(group["params"]) for group in optimizer.param_groups) == len(list(module.parameters()))
    original, module = built(variant="original")
    assert type(original.optimizer(module)).__name__ == "AdamW" and original.config.decoder_blocks == (3, 4, 6)
    assert Settings(variant="original", decoder_blocks=(1, 1, 1)).decoder_blocks == (1, 1, 1)


def test_lengths_are_the_authors_by_dataset() -> None:
    overrides = ReContrast.overrides
    assert Settings().steps == 5_000 and overrides["realiad"] == {"steps": 30_000, "hardness_steps": 1_000}
    assert overrides["single"]["steps"] == 2_000 and overrides["visa/single"] == {"steps": 3_000}
    assert overrides["visa"] == {"optimizer": "adamw"} and overrides["single"]["optimizer"] == "adamw"
