from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from golden_values import fill, waves
from torch import Tensor, nn

from bench.api import Batch, EncoderInfo
from bench.encoders import frozen
from bench.errors import UsageError
from bench.methods.rd4ad import RD4AD
from bench.methods.rd4ad import Config as RD4ADConfig
from bench.methods.rdpp import RDPP, Config, Projected, contrast, nearness, noised, projection, simplex
from bench.run.complexity import complexity

CHANNELS = (8, 12, 20)
SIDES = (16, 8, 4)
INFO = EncoderInfo("resnet18", "cnn", 20, 5, 0, 16, 0, (4, 4), 64, (0.0, 0.0, 0.0), (1.0, 1.0, 1.0), CHANNELS)


def given(batch: int = 3) -> dict[str, Tensor]:
    draw = torch.Generator().manual_seed(1)
    return {
        f"stage{n}": torch.randn(batch, channels, side, side, generator=draw, dtype=torch.float64)
        for n, (channels, side) in enumerate(zip(CHANNELS, SIDES, strict=True))
    }


def built(noise: float = 0.0, **config: Any) -> tuple[RDPP, Projected]:
    torch.manual_seed(0)
    method = RDPP(Config(noise=noise, **config))
    return method, method.build(INFO).double()


def total(module: nn.Module) -> int:
    return sum(param.numel() for param in module.parameters())


# ------------------------------------------------------------------------------------------------ size and values
def test_parameters_and_macs_as_published() -> None:
    method = RDPP(Config())
    counted = complexity(method)
    assert counted.params_total == 96_096_512
    assert counted.params_total - counted.params_trainable == 24_862_528
    with torch.device("meta"):
        module = method.build(frozen.skeleton(method.encoder()).info)
    assert [total(one) for one in module.projections] == [737_856, 2_950_272, 11_798_784]
    assert total(module.student.fuser) == 30_829_568 and total(module.student.decoder) == 24_917_504
    assert counted.macs_with_products / 1e9 == pytest.approx(37.511, rel=0.01)
    assert counted.macs / 1e9 == pytest.approx(37.511, rel=0.01)


def test_golden_projection() -> None:
    module = projection(8)
    assert total(module) == 738
    fill(module)
    with torch.no_grad():
        found = module(waves(2, 8, 6, 6))
    assert found[0, 0, 0, 0].item() == pytest.approx(0.054630, abs=1e-6)
    assert found[1, 7, 5, 5].item() == pytest.approx(0.068184, abs=1e-6)
    assert found.sum().item() == pytest.approx(234.861099, rel=1e-6)
    assert found.abs().sum().item() == pytest.approx(239.605774, rel=1e-6)


def test_golden_losses() -> None:
    shapes = ((2, 8, 8, 8), (2, 12, 4, 4), (2, 16, 2, 2))
    away = sum(contrast(waves(*shape), waves(*shape, shift=0.9), 0.5) for shape in shapes)
    assert float(away) == pytest.approx(0.602583, abs=1e-6)
    near = sum(nearness(waves(*shape, shift=0.3), waves(*shape, shift=0.9)) for shape in shapes)
    assert float(near) == pytest.approx(0.439501, abs=1e-6)


def test_golden_weights_of_the_projections_loss(monkeypatch: pytest.MonkeyPatch) -> None:
    """0.058246 of the sheet, as what the noise and the projections add to the student's own loss."""
    shapes = ((2, 8, 8, 8), (2, 12, 4, 4), (2, 16, 2, 2))
    method, module = built(noise=0.2)
    clean = {f"stage{n}": torch.zeros(shape) for n, shape in enumerate(shapes)}
    projected = [waves(*shape, shift=0.9) for shape in shapes]
    module.forward = lambda stages: (projected, list(clean.values()))  # type: ignore[assignment, method-assign]
    module.project = lambda stages: [waves(*shape, shift=0.3) for shape in shapes]  # type: ignore[method-assign]
    shown = Batch(
        clean,
        torch.rand(2, 3, 64, 64),
        encode=lambda images: {f"stage{n}": waves(*shape) for n, shape in enumerate(shapes)},
        random=torch.Generator,
    )
    monkeypatch.setattr("bench.methods.rdpp.feature_loss", lambda *_: torch.zeros(()))
    assert method.loss(module, shown, 0).item() == pytest.approx(0.2 * 0.058246, abs=2e-7)


def test_golden_noise() -> None:
    field = simplex(3, 3, 12, 14)
    assert field.shape == (3, 12, 14) and field.dtype == torch.float32
    found = [field[place].item() for place in ((0, 0, 0), (0, 5, 7), (1, 3, 4), (2, 11, 13))]
    assert found == pytest.approx([0, 0.573780, 0.714689, 0.746307], abs=1e-6)
    assert field.mean().item() == pytest.approx(0.603870, abs=1e-6)


# ------------------------------------------------------------------------------------------------------ noise
def test_rectangles_are_as_stated() -> None:
    count, side = 1500, 256
    made = noised(torch.zeros(count, 1, side, side), torch.ones(1, 31, 31), 0.25, torch.Generator().manual_seed(0))
    assert (made.amin().item(), made.amax().item()) == (0, 0.25)
    rows, columns = ((made[:, 0] > 0).any(dim=axis).numpy() for axis in (2, 1))
    for lines in (rows, columns):
        length = lines.sum(axis=1)
        first, last = lines.argmax(axis=1), side - 1 - lines[:, ::-1].argmax(axis=1)
        assert np.array_equal(last - first + 1, length), "in one piece"
        sizes, counts = np.unique(length, return_counts=True)
        assert sizes.tolist() == list(range(10, 32)) and counts.min() > 0.6 * count / 22
        assert first.min() == 1 and last.max() == side - 2
        # the first row is spread evenly over what its length leaves
        assert ((first - 1) / (side - 1 - length)).mean() == pytest.approx(0.5, abs=0.02)
    assert (made > 0).float().mean().item() == pytest.approx(0.0064, rel=0.03)


def test_every_rectangle_is_the_corner_of_one_field() -> None:
    images, field = torch.rand(20, 3, 64, 64), simplex(5, 3, 31, 31)
    made = noised(images, field, 0.2, torch.Generator().manual_seed(1))
    for image, other in zip(images, made, strict=True):
        # the field's own first value is zero, and stays unseen
        down, across = (other != image).any(dim=0).nonzero().amin(dim=0).tolist()
        height, width = ((other != image).any(dim=0).any(dim=axis).sum().item() for axis in (1, 0))
        patch = (other - image)[:, down : down + height, across : across + width]
        torch.testing.assert_close(patch, 0.2 * field[:, :height, :width], rtol=0, atol=1e-6)


def test_small_images_have_rectangles_that_fit() -> None:
    made = noised(torch.zeros(200, 3, 16, 16), torch.ones(3, 31, 31), 1.0, torch.Generator().manual_seed(0))
    assert not made[:, :, 0].any() and not made[:, :, :, 0].any()
    assert (made[:, 0].amax(dim=2).sum(dim=1) >= 10).all()


def test_the_field_is_drawn_once_a_training() -> None:
    fields = [built(noise=0.2)[1].noise for _ in range(2)]
    assert torch.equal(*fields) and fields[0].shape == (3, 31, 31)
    torch.manual_seed(1)
    method = RDPP(Config())
    assert not torch.equal(method.build(INFO).noise, fields[0])
    # nothing else is drawn otherwise
    for noisy, clean in zip(built(noise=0.2)[1].parameters(), built()[1].parameters(), strict=True):
        assert torch.equal(noisy, clean)


def test_without_noise_no_image_is_looked_at() -> None:
    assert RDPP(Config()).needs == {"features", "images"}
    assert RDPP(Config(noise=0)).needs == {"features"} == RDPP(Config(projection_weight=0)).needs
    assert built()[1].noise.numel() == 0


def test_loss_with_noise_against_a_direct_computation() -> None:
    method, module = built(noise=0.2)
    clean, spoilt, shown = given(), {name: 1.5 * value + 1 for name, value in given().items()}, []

    def encode(images: Tensor) -> dict[str, Tensor]:
        shown.append(images)
        return spoilt

    images = torch.rand(3, 3, 64, 64, dtype=torch.float64)
    batch = Batch(clean, images, encode=encode, random=lambda: torch.Generator().manual_seed(4))
    with torch.no_grad():
        module.eval()
        loss = method.loss(module, batch, 0)
        projected, rebuilt = module(list(clean.values()))
        other = module.project(list(spoilt.values()))
    (looked,) = shown
    assert torch.equal(looked, noised(images, module.noise, 0.2, torch.Generator().manual_seed(4)))

    def cosine(one: Tensor, two: Tensor) -> float:
        return float((one * two).sum() / (one.square().sum() * two.square().sum()).sqrt())

    apart = sum((1 - cosine(s[i], r[i])) / 3 for s, r in zip(clean.values(), rebuilt, strict=True) for i in range(3))
    far = sum(
        1 - np.mean([cosine(p[i, :, y, x], o[i, :, y, x]) for i in range(3) for y in range(side) for x in range(side)])
        for p, o, side in zip(projected, other, SIDES, strict=True)
    )
    away = sum(
        max(0.0, cosine(t[i], p[i]) - 0.5) / 3
        for t, p in zip(spoilt.values(), projected, strict=True)
        for i in range(3)
    )
    assert loss.item() == pytest.approx(apart + 0.2 * (0.01 * far + 0.1 * away) / 1.11, rel=1e-7)


# ------------------------------------------------------------------------------------------------------ formulas
def slow_projection(module: nn.Sequential, x: Tensor) -> Tensor:
    for conv, norm, rectifier in zip(module[::3], module[1::3], module[2::3], strict=True):
        assert (norm.eps, norm.affine, norm.track_running_stats, rectifier.negative_slope) == (1e-5, False, False, 0.01)
        height, width = x.shape[2:]
        padded = nn.functional.pad(x, (1, 1, 1, 1))
        out = sum(
            torch.einsum(
                "oi,bihw->bohw", conv.weight[:, :, row, column], padded[:, :, row:, column:][..., :height, :width]
            )
            for row in range(3)
            for column in range(3)
        )
        out = out + conv.bias[:, None, None]
        mean = out.mean(dim=(2, 3), keepdim=True)
        out = (out - mean) / ((out - mean).square().mean(dim=(2, 3), keepdim=True) + 1e-5).sqrt()
        x = torch.where(out > 0, out, 0.01 * out)
    return x


def test_projections_against_a_direct_computation() -> None:
    _, module = built()
    stages = list(given().values())
    with torch.no_grad():
        projected, rebuilt = module(stages)
        for layer, stage, found in zip(module.projections, stages, projected, strict=True):
            assert isinstance(layer, nn.Sequential)
            torch.testing.assert_close(found, slow_projection(layer, stage), rtol=1e-9, atol=1e-9)
        # the student sees projections, and gives back stages
        for found, wanted in zip(rebuilt, module.student(projected), strict=True):
            torch.testing.assert_close(found, wanted)


def test_loss_against_a_direct_computation() -> None:
    method, module = built()
    module.eval()
    stages = list(given().values())
    with torch.no_grad():
        projected, _ = module(stages)
        # so that some images are above the margin, and some are not
        near = [0.7 * stage + one for stage, one in zip(stages, projected, strict=True)]

        def cosine(one: Tensor, other: Tensor) -> float:
            return float((one * other).sum() / (one.square().sum() * other.square().sum()).sqrt())

        pushed = sum(
            max(0.0, cosine(stage[image], other[image]) - 0.5) / 3
            for stage, other in zip(stages, near, strict=True)
            for image in range(3)
        )
        assert pushed > 0
        found = sum(contrast(stage, other, 0.5) for stage, other in zip(stages, near, strict=True))
        assert float(found) == pytest.approx(pushed, rel=1e-9)
        for layer, stage in zip(module.projections, stages, strict=True):
            layer.register_forward_hook(lambda _, __, out, stage=stage: out + 0.7 * stage)
        _, rebuilt = module(stages)
        wanted = sum((1 - cosine(s[i], r[i])) / 3 for s, r in zip(stages, rebuilt, strict=True) for i in range(3))
        loss = method.loss(module, Batch(given()), 0)
    assert loss.item() == pytest.approx(wanted + 0.2 * 0.1 / 1.11 * pushed, rel=1e-9)


def test_map_and_score_are_those_of_reverse_distillation(monkeypatch: pytest.MonkeyPatch) -> None:
    method, module = built()
    module.eval()
    plain = RD4AD(RD4ADConfig())
    with torch.no_grad():
        found = method.anomaly(module, Batch(given()), INFO, 40)
        _, rebuilt = module(list(given().values()))
        monkeypatch.setattr(plain, "pairs", lambda *_: list(zip(given().values(), rebuilt, strict=True)))
        wanted = plain.anomaly(module.student, Batch(given()), INFO, 40)
    assert found.maps is not None and wanted.maps is not None
    assert torch.equal(found.maps, wanted.maps) and torch.equal(found.scores, wanted.scores)


# ------------------------------------------------------------------------------------------------------ recipe
@pytest.mark.parametrize(
    ("images", "values", "steps"),
    [
        (3629, {}, 11_300),  # MVTec-AD: 22,600 batches, of which every second moves the weights
        (3629, {"update_every": 1}, 22_600),
        (36_465, {}, 113_950),  # Real-IAD
        (209, {}, 650),
        (3629, {"steps": 7}, 7),
        (3, {"epochs": 1}, 1),
    ],
)
def test_length_of_training_follows_from_the_images(images: int, values: dict[str, Any], steps: int) -> None:
    assert RDPP(Config(**values)).steps(images) == steps


def test_published_recipe() -> None:
    method, module = built()
    student, projections = method.optimizer(module).param_groups
    assert student["lr"] * student["lr_scale"] == 5e-3 and projections["lr"] * projections["lr_scale"] == 1e-3
    assert len(projections["params"]) == 3 * 4 * 2
    for group in (student, projections):
        assert (group["betas"], group["weight_decay"]) == ((0.5, 0.999), 0)
    settled = method.settled(3629)
    assert {settled.learning_rate(step) for step in range(0, 11_300, 10)} == {5e-3}
    assert (method.clip_norm, Config(batch_size=8).lr) == (5.0, 2.5e-3)
    assert (method.paper.label_rule, method.paper.mask_rule) == ("mask", "ader")


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"encoder": "vit_small_patch16_224.dino"}, "rdpp needs a CNN.*is a ViT.*mobilenetv2_100"),
        ({"input_size": 272}, "multiple of 32, for example 256 or 288"),
        ({"input_size": 32, "batch_size": 1}, "single images of 32 pixels"),
    ],
)
def test_what_does_not_fit_is_refused_with_what_does(values: dict[str, Any], message: str) -> None:
    with pytest.raises(UsageError, match=message):
        RDPP(Config(**values)).encoder()


def test_training_finds_a_foreign_patch(train: Callable[..., Any], highest: Callable[..., Any]) -> None:
    torch.manual_seed(0)
    method = RDPP(Config(steps=60, noise=0))
    module = method.build(INFO)
    patterns = {name: value.float().abs() for name, value in given(1).items()}

    def batch(seed: int) -> dict[str, Tensor]:
        noise = torch.Generator().manual_seed(seed)
        return {
            name: value + 0.1 * torch.randn(8, *value.shape[1:], generator=noise) for name, value in patterns.items()
        }

    losses = train(method, module, batch)
    assert losses[-1] < 0.5 * losses[0]
    odd = batch(1000)
    for name, side in (("stage0", 4), ("stage1", 2), ("stage2", 1)):
        spot = odd[name][0, :, 2 * side : 3 * side, side : 2 * side]
        spot.copy_(spot.flip(0))
    image, row, column = highest(method, module, INFO, odd)
    assert image == 0 and 20 <= row < 32 and 8 <= column < 20
