from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import timm
import torch
import torch.nn.functional as F
from safetensors.torch import save_file
from scipy.ndimage import gaussian_filter
from torch import Tensor, nn

from bench.api import EncoderInfo
from bench.encoders import catalog, frozen
from bench.errors import UsageError
from bench.methods.rd4ad import RD4AD, Config, MapBottleneck, RD4ADStudent
from bench.run.complexity import complexity

CHANNELS = (8, 12, 20)


def info() -> EncoderInfo:
    return EncoderInfo("resnet18", "cnn", 20, 5, 0, 16, 0, (4, 4), 64, (0.0, 0.0, 0.0), (1.0, 1.0, 1.0), CHANNELS)


def seeded(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def built(**config: Any) -> tuple[RD4AD, RD4ADStudent]:
    torch.manual_seed(0)
    method = RD4AD(Config(**config))
    module = method.build(info()).double()
    assert isinstance(module, RD4ADStudent)
    for layer in module.modules():
        if isinstance(layer, nn.BatchNorm2d):
            # statistics that matter: a network that has never seen data would hide a forgotten norm
            layer.running_mean.normal_(0, 0.3)
            layer.running_var.uniform_(0.5, 2)
    return method, module


def given(batch: int = 3, seed: int = 0) -> dict[str, Tensor]:
    sides = (16, 8, 4)
    return {
        f"stage{n}": seeded(batch, channels, side, side, seed=seed + n)
        for n, (channels, side) in enumerate(zip(CHANNELS, sides, strict=True))
    }


# ------------------------------------------------------------------------------------------------ what is asked for
def test_default_request_is_the_multi_class_baseline() -> None:
    request = RD4AD(Config()).encoder()
    assert (request.name, request.blocks, request.input_size) == ("wide_resnet50_2.racm_in1k", (1, 2, 3), 256)


def test_original_brings_its_own_defaults_and_yields_to_given_ones() -> None:
    config = Config(variant="original")
    assert (config.encoder, config.fuser_width) == ("wide_resnet50_2.tv_in1k", 128)
    assert config.clip_norm is None and RD4AD(config).clip_norm is None
    method = RD4AD(config).settled(209)
    assert {method.learning_rate(step) for step in range(method.steps(209))} == {5e-3}
    assert Config(variant="original", batch_size=4).lr == 5e-3, "its rate does not follow the batch"
    chosen = Config(variant="original", encoder="mobilenetv2_100", fuser_width=32)
    assert (chosen.encoder, chosen.fuser_width) == ("mobilenetv2_100", 32)
    assert RD4AD(Config()).clip_norm == 5.0


@pytest.mark.parametrize(
    ("encoder", "channels"),
    [
        ("wide_resnet50_2.tv_in1k", (256, 512, 1024)),
        ("mobilenetv2_100", (24, 32, 96)),
        ("tf_efficientnet_lite0.in1k", (24, 40, 112)),
        ("resnet18.tv_in1k", (64, 128, 256)),
        ("convnext_tiny.in12k", (96, 192, 384)),
    ],
)
def test_any_cnn_with_the_three_strides_fits(encoder: str, channels: tuple[int, ...]) -> None:
    method = RD4AD(Config(encoder=encoder))
    skeleton = frozen.skeleton(method.encoder())
    assert skeleton.info.channels == channels
    with torch.device("meta"):
        stages = list(method.features(skeleton(torch.empty(1, 3, 256, 256)), skeleton.info).values())
        rebuilt = method.build(skeleton.info)(stages)
    assert [stage.shape for stage in stages] == [output.shape for output in rebuilt]
    assert [stage.shape[-1] for stage in stages] == [64, 32, 16]


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"encoder": "vit_small_patch16_224.dino"}, r"needs a CNN.*is a ViT.*wide_resnet50_2.*mobilenetv2_100.*vitad"),
        ({"encoder": "vgg16.tv_in1k", "stages": (0, 1, 9)}, "blocks.*do not fit"),
        ({"stages": (0, 1, 3)}, "strides 2, 4 and 16.*twice the one before"),
        ({"stages": (3, 2, 1)}, "ascending"),
        ({"input_size": 272}, "multiple of 32, for example 256 or 288"),
        ({"input_size": 16}, "multiple of 32, for example 32 or 64"),
        ({"input_size": 32, "batch_size": 1}, "single images of 32 pixels"),
    ],
)
def test_what_does_not_fit_is_refused_with_what_does(values: dict[str, Any], message: str) -> None:
    with pytest.raises(UsageError, match=message):
        RD4AD(Config(**values)).encoder()


def test_missing_strides_are_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(catalog, "strides", lambda name: (2, 8, 16))
    with pytest.raises(UsageError, match=r"needs stages at strides 4, 8 and 16.*are at 2, 8, 16.*mobilenetv2_100"):
        RD4AD(Config()).encoder()


def test_published_recipe() -> None:
    assert (Config().epochs, Config().steps, Config(batch_size=8).lr) == (100, None, 2.5e-3)
    assert RD4AD.paper.label_rule == "mask"
    assert RD4AD.paper.mask_rule == "ader" and RD4AD.paper.crop == 1.0


@pytest.mark.parametrize(
    ("images", "values", "steps"),
    [
        (3629, {}, 22_600),  # MVTec-AD
        (8659, {}, 54_100),  # VisA
        (36_465, {}, 227_900),  # Real-IAD
        (209, {}, 1_300),  # MVTec-AD's bottles
        (209, {"variant": "original"}, 2_800),
        (208, {"variant": "original"}, 2_600),
        (209, {"variant": "original", "epochs": 10}, 140),
        (209, {"variant": "original", "steps": 7}, 7),
        (3, {}, 100),
    ],
)
def test_length_of_training_follows_from_the_images(images: int, values: dict[str, Any], steps: int) -> None:
    assert RD4AD(Config(**values)).steps(images) == steps


# ------------------------------------------------------------------------------------------------ size and cost
def test_the_baselines_parameters_and_macs_as_published() -> None:
    counted = complexity(RD4AD(Config()))
    assert counted.params_total == 80_609_600
    assert counted.params_trainable == 30_829_568 + 24_917_504
    assert counted.params_total - counted.params_trainable == 24_862_528
    assert counted.macs_with_products / 1e9 == pytest.approx(28.4, rel=0.01)
    assert counted.macs / 1e9 == pytest.approx(28.4, rel=0.01)


def test_the_originals_parameters() -> None:
    method = RD4AD(Config(variant="original"))
    counted = complexity(method)
    # its fuser also holds a 1x1 convolution of 4096 to 2048 channels, with BatchNorm, that never runs
    idle = 4096 * 2048 + 2 * 2048
    assert counted.params_trainable + idle == 92_195_328
    assert counted.params_total + idle == 117_057_856
    with torch.device("meta"):
        whole = timm.create_model("wide_resnet50_2", num_classes=1000)
        module: Any = method.build(frozen.skeleton(method.encoder()).info)
    assert counted.params_trainable + idle + sum(p.numel() for p in whole.parameters()) == 161_078_568
    assert sum(param.numel() for param in module.fuser.parameters()) + idle == 67_277_824
    assert sum(param.numel() for param in module.decoder.parameters()) == 24_917_504


# ------------------------------------------------------------------------------------------------------ network
def slow(module: RD4ADStudent, stages: list[Tensor], training: bool = False) -> list[Tensor]:
    """The network written out layer by layer, without its forward methods; `training` takes batch statistics."""

    def norm(layer: Any, x: Tensor) -> Tensor:
        mean, var = layer.running_mean, layer.running_var
        if training:
            mean, var = x.mean(dim=(0, 2, 3)), x.var(dim=(0, 2, 3), unbiased=False)
        return (x - mean[:, None, None]) / (var[:, None, None] + 1e-5).sqrt()

    def convolved(layer: Any, x: Tensor) -> Tensor:
        if isinstance(layer, nn.ConvTranspose2d):
            # 2x2 at stride 2: each pixel becomes a square of its own
            spread = torch.einsum("bihw,ioyx->bohywx", x, layer.weight)
            return spread.reshape(len(x), -1, 2 * x.shape[2], 2 * x.shape[3])
        side = layer.weight.shape[-1]
        windows = F.unfold(x, side, padding=side // 2, stride=layer.stride)
        out = layer.weight.flatten(1) @ windows
        return out.reshape(len(x), -1, *(length // layer.stride[0] for length in x.shape[2:]))

    def bottleneck(block: Any, x: Tensor) -> Tensor:
        a, b, c = (block.body[index] for index in (0, 3, 6))
        inner = norm(block.body[1], convolved(a, x)).clamp(min=0)
        inner = norm(block.body[4], convolved(b, inner)).clamp(min=0)
        inner = norm(block.body[7], convolved(c, inner))
        short = x
        if not isinstance(block.shortcut, nn.Identity):
            short = norm(block.shortcut[1], convolved(block.shortcut[0], x))
        return (inner + short).clamp(min=0)

    def halved(sequence: Any, x: Tensor) -> Tensor:
        for start in range(0, len(sequence), 3):
            x = norm(sequence[start + 1], convolved(sequence[start], x)).clamp(min=0)
        return x

    fuser: Any = module.fuser
    x = torch.cat([halved(fuser.shallow, stages[0]), halved(fuser.middle, stages[1]), stages[2]], dim=1)
    assert x.shape[1] == 3 * CHANNELS[-1]
    for block in fuser.residual:
        x = bottleneck(block, x)
    assert x.shape[1:] == (2 * CHANNELS[-1], 2, 2)
    outputs = []
    for stage in module.decoder:
        for block in stage:  # type: ignore[attr-defined]
            x = bottleneck(block, x)
        outputs.append(x.detach())
    return outputs[::-1]


def test_blocks_and_depths() -> None:
    _, module = built()
    assert [len(stage) for stage in module.decoder] == [3, 4, 6]  # type: ignore[arg-type]
    assert len(module.fuser.residual) == 3
    ups = [layer for layer in module.modules() if isinstance(layer, nn.ConvTranspose2d)]
    assert len(ups) == 2 * 3 and all(layer.kernel_size == layer.stride == (2, 2) for layer in ups)
    assert all(layer.bias is None for layer in module.modules() if isinstance(layer, nn.Conv2d | nn.ConvTranspose2d))


@pytest.mark.parametrize("training", [False, True])
def test_network_against_a_direct_computation(training: bool) -> None:
    _, module = built()
    stages = list(given().values())
    wanted = slow(module, stages, training)
    for found, expected in zip(module.train(training)(stages), wanted, strict=True):
        torch.testing.assert_close(found, expected, rtol=1e-9, atol=1e-9)


def test_loss_map_and_score_against_a_direct_computation() -> None:
    method, module = built()
    features = given()
    stages = list(features.values())
    pairs = list(zip(stages, slow(module, stages), strict=True))
    loss = 0.0
    for target, output in pairs:
        for b in range(3):
            p, q = target[b].reshape(-1), output[b].reshape(-1)
            loss += float(1 - (p @ q) / (p.norm() * q.norm())) / 3
    assert method.loss(module.eval(), features, 0).item() == pytest.approx(loss, rel=1e-9)
    size = 40
    with torch.no_grad():
        found = method.anomaly(module, features, info(), size)
    assert found.maps is not None and found.maps.dtype == torch.float32
    for b in range(3):
        total = torch.zeros(1, 1, size, size, dtype=torch.float64)
        for target, output in pairs:
            grid = 1 - (target[b] * output[b]).sum(0) / (target[b].norm(dim=0) * output[b].norm(dim=0))
            total += F.interpolate(grid[None, None], size=(size, size), mode="bilinear", align_corners=True)
        smooth = torch.from_numpy(gaussian_filter(total[0, 0].numpy(), 4.0))
        torch.testing.assert_close(found.maps[b].double(), smooth, rtol=1e-5, atol=1e-6)
        assert found.scores[b].item() == pytest.approx(smooth.max().item(), rel=1e-5)


@pytest.mark.parametrize(
    ("encoder", "given_value", "negative"),
    [
        ("resnet18", None, False),
        ("wide_resnet50_2.tv_in1k", None, False),
        ("mobilenetv2_100", None, True),
        ("mobilenetv2_100", True, False),
        ("resnet18", False, True),
    ],
)
def test_stages_with_negative_values_are_given_back_with_them(
    encoder: str, given_value: bool | None, negative: bool
) -> None:
    torch.manual_seed(0)
    module = RD4AD(Config(rectified=given_value)).build(replace(info(), name=encoder)).eval()
    for output in module([value.float() for value in given().values()]):
        assert bool((output < 0).any()) is negative


# ---------------------------------------------------------------------------------------------------- BatchNorm
def test_training_moves_the_students_statistics_and_evaluation_does_not() -> None:
    method, module = built()
    before = {name: value.clone() for name, value in module.named_buffers()}
    with torch.no_grad():
        method.anomaly(module.eval(), given(), info(), 32)
    assert all(torch.equal(value, before[name]) for name, value in module.named_buffers())
    method.loss(module.train(), given(), 0)
    moved = dict(module.named_buffers())
    assert all(not torch.equal(value, before[name]) for name, value in moved.items())


def test_evaluation_of_an_image_does_not_depend_on_its_neighbours() -> None:
    method, module = built()
    features = given()
    with torch.no_grad():
        together = method.anomaly(module.eval(), features, info(), 32).scores
        alone = method.anomaly(module, {name: value[:1] for name, value in features.items()}, info(), 32).scores
        torch.testing.assert_close(together[:1], alone, rtol=0, atol=1e-6)
        mixed = method.anomaly(module.train(), features, info(), 32).scores
        assert not torch.allclose(mixed[:1], alone, rtol=0, atol=1e-3), "else this test could not fail"


def test_the_teacher_stays_frozen_in_training(tmp_path: Path) -> None:
    torch.manual_seed(0)
    name = "test_resnet.r160_in1k"
    save_file(timm.create_model(name, num_classes=0).state_dict(), tmp_path / "file.safetensors")
    method = RD4AD(Config(encoder=name, input_size=64))
    teacher = frozen.build(method.encoder(), tmp_path / "file.safetensors").train()
    assert not any(layer.training for layer in teacher.modules())
    before = {key: value.clone() for key, value in teacher.state_dict().items()}
    images = torch.randn(3, 3, 64, 64)
    module = method.build(teacher.info).train()
    features = method.features(teacher(images), teacher.info)
    method.loss(module, features, 0).backward()
    assert all(torch.equal(value, before[key]) for key, value in teacher.state_dict().items())
    assert all(param.grad is None and not param.requires_grad for param in teacher.parameters())
    again = method.features(teacher(images[:1]), teacher.info)
    torch.testing.assert_close(again["stage2"], features["stage2"][:1])


# ------------------------------------------------------------------------------------------------------ training
def test_initial_values() -> None:
    torch.manual_seed(0)
    module = RD4AD(Config()).build(replace(info(), channels=(64, 128, 256)))
    for layer in module.modules():
        if isinstance(layer, nn.Conv2d) and layer.weight.numel() > 10_000:
            fan_out = layer.weight.shape[0] * layer.weight[0, 0].numel()
            assert layer.weight.std().item() == pytest.approx((2 / fan_out) ** 0.5, rel=0.05)
        elif isinstance(layer, nn.ConvTranspose2d):
            # torch's own: uniform up to 1 / sqrt(fan in), which it counts over the channels that go out
            bound = layer.weight[0].numel() ** -0.5
            assert 0.99 * bound < layer.weight.abs().max().item() <= bound
        elif isinstance(layer, nn.BatchNorm2d):
            assert (layer.weight == 1).all() and not layer.bias.any()


def test_optimizer_and_schedule_are_the_published_ones() -> None:
    method, module = built()
    optimizer = method.optimizer(module)
    assert type(optimizer) is torch.optim.Adam
    (group,) = optimizer.param_groups
    assert (group["betas"], group["weight_decay"]) == ((0.5, 0.999), 0)
    assert len(group["params"]) == len(list(module.parameters()))
    method = method.settled(3629)
    rates = [method.learning_rate(step) for step in range(22_600)]
    assert set(rates[: 226 * 80]) == {5e-3}
    assert rates[226 * 80 :] == pytest.approx([5e-4] * (226 * 20))


@pytest.mark.parametrize("variant", ["ader", "original"])
def test_training_finds_a_foreign_patch(variant: str, train: Callable[..., Any], highest: Callable[..., Any]) -> None:
    torch.manual_seed(0)
    method = RD4AD(Config(variant=variant, steps=60))
    module = method.build(info())
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
    image, row, column = highest(method, module, info(), odd)
    assert image == 0 and 20 <= row < 32 and 8 <= column < 20


def test_resizing_blocks_keep_what_they_say() -> None:
    x = torch.randn(2, 6, 4, 4)
    assert MapBottleneck(6, 3, 10, resize="down")(x).shape == (2, 10, 2, 2)
    assert MapBottleneck(6, 3, 10, resize="up")(x).shape == (2, 10, 8, 8)
    assert MapBottleneck(6, 3, 6)(x).shape == (2, 6, 4, 4)
