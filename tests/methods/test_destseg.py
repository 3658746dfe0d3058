from __future__ import annotations

import math
from collections.abc import Callable
from functools import partial
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from golden_values import waves
from torch import Tensor, nn

from bench.api import Batch, EncoderInfo
from bench.encoders import frozen
from bench.methods.destseg import BasicBlock, Config, DeSTSeg, Marker, Networks, Pyramid, Student, marking_loss
from bench.plan import needs
from bench.run.complexity import complexity
from bench.run.seeding import step_generator

CHANNELS, SIDES = (8, 12, 20), (16, 8, 4)
MEAN, STD = (0.4, 0.5, 0.6), (0.2, 0.3, 0.4)
INFO = EncoderInfo("resnet18", "cnn", 20, 5, 0, 16, 0, (4, 4), 64, MEAN, STD, CHANNELS)
SLIM = {"input_size": 64, "student_width": 8, "mark_width": 12, "steps": 10}


def stages(images: Tensor) -> dict[str, Tensor]:
    """What stands for the frozen CNN: a fixed mixture of averaged colours."""
    mixes = [torch.randn(3, width, generator=torch.Generator().manual_seed(width)) for width in CHANNELS]
    pooled = [F.adaptive_avg_pool2d(images, side) for side in SIDES]
    made = zip(pooled, mixes, strict=True)
    return {f"stage{n}": torch.einsum("bchw,cd->bdhw", one, mix.to(one)) for n, (one, mix) in enumerate(made)}


def built(**config: Any) -> tuple[DeSTSeg, Networks]:
    torch.manual_seed(0)
    method = DeSTSeg(Config(**{**SLIM, **config}))
    return method, method.build(INFO).double()


def given(
    count: int = 4, encode: Callable[[Tensor], dict[str, Tensor]] = stages, dtype: torch.dtype = torch.float64
) -> Batch:
    draw = torch.Generator().manual_seed(1)
    images, textures = (torch.rand(count, 3, 64, 64, generator=draw, dtype=dtype) for _ in range(2))
    return Batch(
        stages(images),
        images,
        encode=encode,
        random=partial(step_generator, 0, 0, torch.device("cpu")),
        textures=lambda wanted, random: textures[:wanted],
    )


def total(module: nn.Module) -> int:
    return sum(param.numel() for param in module.parameters())


# ------------------------------------------------------------------------------------------------ size and values
def test_parameters_and_macs_as_published() -> None:
    method = DeSTSeg(Config())
    counted = complexity(method)
    assert counted.params_total == 35_154_177
    assert counted.params_total - counted.params_trainable == 2_782_784
    with torch.device("meta"):
        module = needs.build(method, frozen.skeleton(method.encoder()))
    student, marker = module.student, module.marker
    assert total(student) == 24_665_024 and total(student.stem) + total(student.down) == 11_176_512
    assert total(student.bottom) + total(student.up) == 13_488_512
    assert (total(marker.residual), total(marker.head)) == (2_918_912, 4_787_457)
    # the codes run the frozen CNN, 1.83 GMAC, twice
    assert counted.macs / 1e9 == pytest.approx(40.3 - 1.83, rel=0.01)


def test_golden_losses() -> None:
    probabilities = torch.sigmoid(waves(2, 1, 4, 4))
    mask = (waves(2, 1, 4, 4, shift=0.5) > 0).float()
    right = torch.where(mask > 0, probabilities, 1 - probabilities)
    focal, l1 = (-((1 - right) ** 4) * right.log()).mean(), (probabilities - mask).abs().mean()
    assert focal.item() == pytest.approx(0.017284, abs=1e-6) and l1.item() == pytest.approx(0.353933, abs=1e-6)
    assert marking_loss(waves(2, 1, 4, 4), mask, 4).item() == pytest.approx(0.017284 + 0.353933, abs=2e-6)


def test_the_marking_loss_is_finite_where_a_probability_is_0() -> None:
    logits = torch.tensor([[[[200.0, -200.0]]]], requires_grad=True)
    loss = marking_loss(logits, torch.tensor([[[[0.0, 1.0]]]]), 4)
    loss.backward()
    assert loss.item() == pytest.approx(201.0) and logits.grad is not None and logits.grad.isfinite().all()


# ------------------------------------------------------------------------------------------------------ networks
def normed(layer: nn.BatchNorm2d, x: Tensor) -> Tensor:
    mean, spread = x.mean(dim=(0, 2, 3)), x.var(dim=(0, 2, 3), unbiased=False)
    scaled = (x - mean[:, None, None]) / (spread + layer.eps).sqrt()[:, None, None]
    return scaled * layer.weight[:, None, None] + layer.bias[:, None, None]


@pytest.mark.parametrize(("entering", "leaving", "stride"), [(6, 6, 1), (6, 8, 1), (6, 8, 2)])
def test_a_basic_block_against_a_direct_computation(entering: int, leaving: int, stride: int) -> None:
    torch.manual_seed(0)
    block = BasicBlock(entering, leaving, stride).double()
    x = torch.randn(3, entering, 8, 8, dtype=torch.float64)
    first, one, _, second, other = block.body
    inner = normed(one, F.conv2d(x, first.weight, stride=stride, padding=1)).clamp(min=0)
    out = normed(other, F.conv2d(inner, second.weight, padding=1))
    around = x
    if stride > 1 or entering != leaving:
        conv, norm = block.shortcut
        around = normed(norm, torch.einsum("oi,bihw->bohw", conv.weight[:, :, 0, 0], x[:, :, ::stride, ::stride]))
    torch.testing.assert_close(block(x), (out + around).clamp(min=0))


def test_the_student_gives_the_frozen_stages_shapes_and_its_branches_begin_as_nothing() -> None:
    torch.manual_seed(0)
    student = Student(CHANNELS, 8)
    found = student(torch.rand(2, 3, 64, 64))
    assert [one.shape[1:] for one in found] == [
        (width, side, side) for width, side in zip(CHANNELS, SIDES, strict=True)
    ]
    last = {name: module.body[-1].weight for name, module in student.named_modules() if isinstance(module, BasicBlock)}
    assert len(last) == 8 + 8
    for name, weight in last.items():
        assert bool((weight == (0.0 if name.startswith("down") else 1.0)).all())


def test_the_pyramid_looks_everywhere_and_through_holes() -> None:
    torch.manual_seed(0)
    pyramid = Pyramid(4).double()
    x = torch.randn(3, 4, 40, 40, dtype=torch.float64)
    _, conv, norm, _ = pyramid.everywhere
    parts = [normed(norm, F.conv2d(x.mean(dim=(2, 3), keepdim=True), conv.weight)).clamp(min=0).expand_as(x)]
    for layer, hole in zip(pyramid.around, (6, 12, 18), strict=True):
        padded = F.pad(x, (hole,) * 4)
        taken = sum(
            torch.einsum(
                "oi,bihw->bohw",
                layer[0].weight[:, :, row, column],
                padded[:, :, row * hole :, column * hole :][..., :40, :40],
            )
            for row in range(3)
            for column in range(3)
        )
        parts.append(normed(layer[1], taken).clamp(min=0))
    fuse, last, _ = pyramid.fused
    torch.testing.assert_close(
        pyramid(x), normed(last, F.conv2d(torch.cat(parts, 1), fuse.weight, padding=1)).clamp(min=0)
    )


def test_the_marker_sees_products_of_unit_vectors_with_a_minus() -> None:
    torch.manual_seed(0)
    marker = Marker(CHANNELS, 12).double()
    draw = torch.Generator().manual_seed(3)
    frozen_, student = (
        [
            torch.randn(2, width, side, side, generator=draw, dtype=torch.float64)
            for width, side in zip(CHANNELS, SIDES, strict=True)
        ]
        for _ in range(2)
    )
    seen: list[Tensor] = []
    marker.residual.register_forward_pre_hook(lambda module, inputs: seen.append(inputs[0]))
    assert marker(frozen_, student).shape == (2, 1, 16, 16)
    parts = []
    for one, other in zip(frozen_, student, strict=True):
        product = -(one / one.square().sum(1, keepdim=True).sqrt()) * (
            other / other.square().sum(1, keepdim=True).sqrt()
        )
        parts.append(F.interpolate(product, (16, 16), mode="bilinear", align_corners=False))
        # the sum over channels is the cosine
        torch.testing.assert_close(-product.sum(1), F.cosine_similarity(one, other))
    torch.testing.assert_close(seen[0], torch.cat(parts, dim=1))


# ------------------------------------------------------------------------------------------------------ training
def test_the_student_s_loss_is_summed_over_images_against_the_clean_stages() -> None:
    method, module = built(student_share=0.5)
    module.float()
    batch = given(dtype=torch.float32)
    seen: list[Tensor] = []
    module.student.register_forward_pre_hook(lambda student, inputs: seen.append(inputs[0]))
    loss = method.loss(module, batch, 0)
    mean, std = (torch.tensor(one).view(3, 1, 1) for one in (MEAN, STD))
    painted = seen[0] * std + mean
    assert not torch.allclose(painted, batch.pixels), "the student sees paint"
    with torch.no_grad():
        rebuilt = module.student(seen[0])
    expected = 0.0
    for n, found in enumerate(rebuilt):
        clean = batch[f"stage{n}"]
        cosine = (clean * found).sum(1) / (clean.norm(dim=1) * found.norm(dim=1)).clamp(min=1e-8)
        expected += float((1 - cosine).mean(dim=(1, 2)).sum())
    assert loss.item() == pytest.approx(expected, rel=1e-5)


def test_phases_train_one_part_each_and_the_other_stays_as_it_is_used() -> None:
    method, module = built(student_share=0.5)
    module.float()
    assert [method.student_learns(step) for step in (0, 4, 5, 9)] == [True, True, False, False]
    before = {name: value.clone() for name, value in module.state_dict().items()}
    for step, learns, rests in ((0, "student", "marker"), (5, "marker", "student")):
        module.load_state_dict(before)
        module.train()
        module.zero_grad(set_to_none=True)
        method.loss(module, given(dtype=torch.float32), step).backward()
        with_gradient = {name.partition(".")[0] for name, param in module.named_parameters() if param.grad is not None}
        assert with_gradient == {learns}
        moved = {
            name.partition(".")[0]
            for name, value in module.state_dict().items()
            if not torch.equal(value, before[name])
        }
        assert moved == {learns}, "running means of the part that rests stay"
        assert getattr(module, learns).training and not getattr(module, rests).training


def test_the_marker_s_target_is_the_mask_at_its_size_and_it_sees_the_frozen_stages_of_the_painted_image() -> None:
    method, module = built(student_share=0.1, painted=1.0, shown=0.0, threshold=0.0)
    module.float()
    batch = given(dtype=torch.float32)
    shown: list[Tensor] = []

    def encode(images: Tensor) -> dict[str, Tensor]:
        shown.append(images)
        return stages(images)

    loss = method.loss(module, given(encode=encode, dtype=torch.float32), 9)
    (painted,) = shown
    changed = (painted - batch.pixels).abs().amax(dim=1, keepdim=True) > 1e-6
    target = (F.interpolate(changed.float(), (16, 16), mode="bilinear", align_corners=False) >= 0.5).float()
    assert 0 < target.mean() < 1
    with torch.no_grad():
        module.student.eval()
        logits = module.marker([stages(painted)[f"stage{n}"] for n in range(3)], module.denoised(painted))
    assert loss.item() == pytest.approx(marking_loss(logits, target, 4).item(), rel=1e-5)


def test_parts_have_rates_of_their_own_and_a_constant_schedule() -> None:
    method, module = built(lr=0.4)
    optimizer = method.optimizer(module)
    assert [group["lr_scale"] * method.learning_rate(3) for group in optimizer.param_groups] == pytest.approx(
        [0.4, 0.1, 0.01]
    )
    assert {group["momentum"] for group in optimizer.param_groups} == {0.9}
    assert {group["weight_decay"] for group in optimizer.param_groups} == {1e-4}
    assert sum(len(group["params"]) for group in optimizer.param_groups) == len(list(module.parameters()))
    assert method.learning_rate(0) == method.learning_rate(9)


def test_lengths_are_the_codes() -> None:
    ader = DeSTSeg(Config()).settled(3629)
    assert ader.config.steps == 100 * 113 and ader.student_learns(20 * 113 - 1) and not ader.student_learns(20 * 113)
    original = DeSTSeg(Config(variant="original"))
    assert (original.config.steps, original.clip_norm, original.config.image_score) == (5_000, None, "top")
    assert original.student_learns(999) and not original.student_learns(1_000)
    assert Config(variant="original", epochs=3).steps is None
    assert DeSTSeg.overrides["single"]["steps"] == 5_000


# ------------------------------------------------------------------------------------------------------ scoring
def test_maps_and_scores_against_a_direct_computation() -> None:
    batch = given()
    for score in ("max", "top"):
        method, module = built(image_score=score, **({"score_pixels": 9} if score == "top" else {}))
        module.eval()
        with torch.no_grad():
            found = method.anomaly(module, batch, INFO, 48)
            logits = module.marker([batch[f"stage{n}"] for n in range(3)], module.denoised(batch.pixels))
        marks = 1 / (1 + torch.exp(-logits))
        torch.testing.assert_close(
            found.maps, F.interpolate(marks, (48, 48), mode="bilinear", align_corners=False)[:, 0]
        )
        if score == "max":
            whole = F.interpolate(marks, (64, 64), mode="bilinear", align_corners=False)
            torch.testing.assert_close(found.scores, whole.amax(dim=(1, 2, 3)))
        else:
            torch.testing.assert_close(found.scores, marks.flatten(1).sort(descending=True).values[:, :9].mean(1))


def test_an_image_s_prediction_does_not_depend_on_those_beside_it() -> None:
    method, module = built()
    module.eval()
    batch = given()
    alone = Batch({name: value[2:3] for name, value in batch.items()}, batch.pixels[2:3])
    with torch.no_grad():
        torch.testing.assert_close(
            method.anomaly(module, alone, INFO, 32).maps, method.anomaly(module, batch, INFO, 32).maps[2:3]
        )
    assert math.isfinite(float(method.anomaly(module, alone, INFO, 32).scores))
