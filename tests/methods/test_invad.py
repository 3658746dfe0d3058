from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from golden_values import fill, waves
from scipy.ndimage import gaussian_filter
from torch import Tensor, nn

from bench.api import Batch, EncoderInfo
from bench.encoders import frozen
from bench.errors import UsageError
from bench.methods.invad import Block, Config, InvAD, Inverter, Scaled, Styled
from bench.run.complexity import complexity

CHANNELS = (8, 12, 16)
INFO = EncoderInfo("resnet18", "cnn", 16, 5, 0, 16, 0, (4, 4), 64, (0.0, 0.0, 0.0), (1.0, 1.0, 1.0), CHANNELS)
STAGES = {"stage0": ((8, 16, 16), 0.0), "stage1": ((12, 8, 8), 0.3), "stage2": ((16, 4, 4), 0.6)}


def given(batch: int = 2) -> dict[str, Tensor]:
    return {name: waves(batch, *shape, shift=shift) for name, (shape, shift) in STAGES.items()}


def small(**config: Any) -> InvAD:
    return InvAD(Config(style_width=4, latent_width=4, **config))


def golden() -> tuple[InvAD, Inverter]:
    """The network with parameters by formula; transposed kernels are laid [out, in] there, as in the official code."""
    method = small()
    module = method.build(INFO).eval()
    for layer in module.modules():
        if isinstance(layer, nn.ConvTranspose2d):
            layer.weight.data = layer.weight.data.transpose(0, 1).contiguous()
    plain = {f"fuser.styles.{level}.0.conv.weight" for level in (1, 2)}
    fill(module, lambda name: 200.0 if name in plain else 2.0)
    for name, layer in module.named_modules():
        if isinstance(layer, nn.ConvTranspose2d):
            layer.weight.data = layer.weight.data.transpose(0, 1).contiguous()
        if isinstance(layer, Scaled) and name.endswith("factor"):
            layer.bias.data += 1  # type: ignore[union-attr]
    return method, module


def total(module: nn.Module) -> int:
    return sum(param.numel() for param in module.parameters())


# ------------------------------------------------------------------------------------------------ size and values
@pytest.mark.parametrize(
    ("variant", "encoder", "fuser", "decoder", "macs"),
    [("base", 24_862_528, 3_492_032, 67_276_528, 45.394), ("lite", 8_170_304, 452_864, 8_523_376, 9.283)],
)
def test_parameters_and_macs_as_published(variant: str, encoder: int, fuser: int, decoder: int, macs: float) -> None:
    method = InvAD(Config(variant=variant))
    counted = complexity(method)
    assert counted.params_total - counted.params_trainable == encoder
    assert counted.params_trainable == fuser + decoder
    with torch.device("meta"):
        module = method.build(frozen.skeleton(method.encoder()).info)
    assert total(module.fuser) == fuser
    assert counted.macs_with_products / 1e9 == pytest.approx(macs, rel=1e-3)
    assert counted.macs / 1e9 == pytest.approx(macs, rel=0.01)


def test_golden_values() -> None:
    method, module = golden()
    assert (total(module.fuser), total(module)) == (3_033, 3_033 + 31_216)
    with torch.no_grad():
        styles = module.fuser(list(given().values()))
        made = module(list(given().values()))
        loss = method.loss(module, Batch(given()), 0)
    wanted = [(-11.646156, 1576.666), (-1.531541, 3039.207), (0.702119, 8825.677)]
    wanted += [(-31.70530, 275908.3), (-12.74300, 92348.27), (167.28278, 10814.78)]
    for found, (first, summed) in zip([*styles, *made], wanted, strict=True):
        assert found[0, 0, 0, 0].item() == pytest.approx(first, rel=1e-5)
        assert found.sum().item() == pytest.approx(summed, rel=1e-5)
    assert loss.item() == pytest.approx(335274.6, rel=1e-5)


def test_golden_map(monkeypatch: pytest.MonkeyPatch) -> None:
    method, module = golden()
    monkeypatch.setattr("bench.methods.invad.gaussian", lambda maps, sigma: maps)
    with torch.no_grad():
        maps = method.anomaly(module, Batch(given()), INFO, 32).maps
    assert maps is not None
    found = (maps[0, 0, 0].item(), maps[1, 31, 31].item(), maps.mean().item())
    assert found == pytest.approx((1.170665, 0.993769, 0.994716), abs=2e-6)


# ------------------------------------------------------------------------------------------------------ formulas
def convolved(x: Tensor, layer: Scaled) -> Tensor:
    """A scaled convolution written out tap by tap, in the weights' own scale."""
    weight = layer.conv.weight * layer.factor  # type: ignore[operator]
    side = weight.shape[-1]
    batch, _, height, width = x.shape
    if layer.up:
        weight = weight.transpose(0, 1)
        spread = torch.zeros(batch, len(weight), 2 * height + side - 2, 2 * width + side - 2, dtype=x.dtype)
        for row in range(side):
            for column in range(side):
                product = torch.einsum("oi,bihw->bohw", weight[:, :, row, column], x)
                spread[:, :, row : row + 2 * height - 1 : 2, column : column + 2 * width - 1 : 2] += product
        pad = {1: 2, 3: 1}[side]
        spread = F.pad(spread, (pad,) * 4)
        out = torch.zeros(batch, len(weight), 2 * height, 2 * width, dtype=x.dtype)
        for row, one in enumerate((1, 3, 3, 1)):
            for column, other in enumerate((1, 3, 3, 1)):
                out += one * other / 16 * spread[:, :, row : row + 2 * height, column : column + 2 * width]
    else:
        padded = F.pad(x, (side // 2,) * 4)
        out = torch.zeros(batch, len(weight), height, width, dtype=x.dtype)
        for row in range(side):
            for column in range(side):
                part = padded[:, :, row : row + height, column : column + width]
                out += torch.einsum("oi,bihw->bohw", weight[:, :, row, column], part)
    if layer.bias is not None:
        out = out + layer.bias[:, None, None]
    return torch.where(out > 0, out, 0.2 * out) * 2**0.5 if layer.activated else out


def styled(x: Tensor, latent: Tensor, layer: Styled) -> Tensor:
    mean = x.mean(dim=(1, 2, 3), keepdim=True)
    x = (x - mean) / ((x - mean).square().mean(dim=(1, 2, 3), keepdim=True) + 1e-5).sqrt()
    if layer.factor is not None:
        x = x * convolved(latent, layer.factor) + convolved(latent, layer.offset)
    return convolved(x, layer.conv)


def residual(x: Tensor, latent: Tensor, block: Block) -> Tensor:
    return (styled(styled(x, latent, block.first), latent, block.second) + convolved(x, block.shortcut)) / 2**0.5


def normed(x: Tensor, layer: Any, eps: float) -> Tensor:
    scale = layer.weight / (layer.running_var + eps).sqrt()
    return (x - layer.running_mean[:, None, None]) * scale[:, None, None] + layer.bias[:, None, None]


def slow(module: Inverter, stages: list[Tensor]) -> tuple[list[Tensor], list[Tensor]]:
    """Styles and stages made, without any forward method of the module."""
    fuser: Any = module.fuser
    joined = []
    for (conv, norm), stage in zip(fuser.brought, stages, strict=True):
        side = conv.weight.shape[-1]
        windows = stage.unfold(2, side, side).unfold(3, side, side)
        joined.append(
            normed(torch.einsum("oiyx,bihwyx->bohw", conv.weight, windows) + conv.bias[:, None, None], norm, 1e-6)
        )

    def sequence(layers: Any, x: Tensor, eps: float) -> Tensor:
        for conv, norm in zip(layers[::3], layers[1::3], strict=True):
            x = normed(F.conv2d(x, conv.weight, padding=conv.weight.shape[-1] // 2), norm, eps).clamp(min=0)
        return x

    x = sequence(fuser.fused, torch.cat(joined, dim=1), 1e-6)
    inner = sequence(fuser.residual[:6], x, 1e-5)
    inner = normed(F.conv2d(inner, fuser.residual[6].weight), fuser.residual[7], 1e-5)
    x = (x + inner).clamp(min=0)
    styles = []
    for first, second in fuser.styles:
        x = convolved(convolved(x, first), second)
        styles.append(x)
    levels: Any = module.levels
    x = convolved(module.constant.expand(len(x), -1, -1, -1), module.start)
    made = []
    for style, level in zip(styles, levels, strict=True):
        latent = convolved(convolved(style, level.latent[0]), level.latent[1])
        for block in level.blocks:
            x = residual(x, latent, block)
        made.append(x)
    return styles, made[::-1]


def drawn(**config: Any) -> tuple[InvAD, Inverter, dict[str, Tensor]]:
    torch.manual_seed(0)
    method = small(**config)
    module = method.build(INFO).double().eval()
    for param in module.parameters():
        param.data += 0.1 * torch.randn_like(param)
    for layer in module.modules():
        if isinstance(layer, nn.BatchNorm2d):
            layer.running_mean.normal_(0, 0.3)  # type: ignore[union-attr]
            layer.running_var.uniform_(0.5, 2)  # type: ignore[union-attr]
    noise = {name: torch.randn(2, *shape, dtype=torch.float64) for name, (shape, _) in STAGES.items()}
    return method, module, noise


@pytest.mark.parametrize("blocks", [1, 3])
def test_network_against_a_direct_computation(blocks: int) -> None:
    _, module, features = drawn(blocks=blocks)
    with torch.no_grad():
        styles, made = slow(module, list(features.values()))
        for found, wanted in zip([*module.fuser(list(features.values()))], styles, strict=True):
            torch.testing.assert_close(found, wanted, rtol=1e-9, atol=1e-9)
        for found, wanted, stage in zip(module(list(features.values())), made, features.values(), strict=True):
            assert found.shape == stage.shape
            torch.testing.assert_close(found, wanted, rtol=1e-9, atol=1e-9)


def test_loss_map_and_score_against_a_direct_computation() -> None:
    method, module, features = drawn()
    with torch.no_grad():
        _, made = slow(module, list(features.values()))
        loss = method.loss(module, Batch(features), 0)
        found = method.anomaly(module, Batch(features), INFO, 40)
    wanted = sum((a - b).square().sum() / a.numel() for a, b in zip(features.values(), made, strict=True))
    assert loss.item() == pytest.approx(float(wanted), rel=1e-9)
    assert found.maps is not None
    for image in range(2):
        sides = []
        for stages in (list(features.values()), made):
            unit = [stage[image] / stage[image].square().sum(dim=0).sqrt() for stage in stages]
            sides.append(
                torch.cat([F.interpolate(one[None], size=16, mode="bilinear", align_corners=True)[0] for one in unit])
            )
        product = (sides[0] * sides[1]).sum(dim=0)
        grid = 1 - product / (sides[0].square().sum(dim=0) * sides[1].square().sum(dim=0)).sqrt()
        wide = F.interpolate(grid[None, None], size=40, mode="bilinear", align_corners=True)[0, 0]
        smooth = torch.from_numpy(gaussian_filter(wide.numpy(), 4.0))
        torch.testing.assert_close(found.maps[image].double(), smooth, rtol=1e-5, atol=1e-6)
        assert found.scores[image].item() == pytest.approx(smooth.max().item(), rel=1e-5)


def test_initial_values_keep_the_variance() -> None:
    torch.manual_seed(0)
    module = InvAD(Config()).build(replace(INFO, channels=(32, 64, 128)))
    for name, layer in module.named_modules():
        if isinstance(layer, Scaled) and layer.conv.weight.numel() > 10_000:  # type: ignore[operator, union-attr]
            plain = name in ("fuser.styles.1.0", "fuser.styles.2.0")
            assert layer.conv.weight.std().item() == pytest.approx(100 if plain else 1, rel=0.03)  # type: ignore[operator, union-attr]
        if isinstance(layer, Scaled) and layer.bias is not None:
            assert (layer.bias == (1 if name.endswith("factor") else 0)).all()
    stages = [torch.randn(2, channels, 16 >> n, 16 >> n) for n, channels in enumerate((32, 64, 128))]
    with torch.no_grad():
        for made in module.eval()(stages):
            assert 0.2 < made.std().item() < 5


# ------------------------------------------------------------------------------------------------------ recipe
@pytest.mark.parametrize(
    ("images", "values", "steps"),
    [
        (3629, {}, 11_300),  # MVTec-AD
        (8659, {}, 27_000),  # VisA
        (36_465, {}, 113_900),  # Real-IAD
        (209, {}, 600),  # MVTec-AD's bottles
        (3629, {"epochs": 300}, 33_900),
        (3629, {"steps": 7}, 7),
        (3, {}, 100),
    ],
)
def test_length_of_training_follows_from_the_images(images: int, values: dict[str, Any], steps: int) -> None:
    assert InvAD(Config(**values)).steps(images) == steps


def test_published_recipe() -> None:
    config = Config()
    assert (config.encoder, config.lr, config.batch_size, config.blocks) == ("wide_resnet50_2.racm_in1k", 4e-3, 32, 2)
    assert Config(batch_size=8).lr == 1e-3
    lite = Config(variant="lite")
    assert (lite.encoder, lite.blocks, lite.lr) == ("resnet34.bt_in1k", 4, 4e-3)
    assert Config(variant="lite", encoder="mobilenetv2_100").encoder == "mobilenetv2_100"
    method = InvAD(config).settled(3629)
    (group,) = method.optimizer(nn.Linear(1, 1)).param_groups  # type: ignore[arg-type]
    assert (group["betas"], group["weight_decay"], method.clip_norm) == ((0.0, 0.99), 0, 5.0)
    rates = [method.learning_rate(step) for step in range(11_300)]
    assert set(rates[: 113 * 80]) == {4e-3} and rates[113 * 80 :] == pytest.approx([4e-4] * (113 * 20))
    assert (method.paper.label_rule, method.paper.mask_rule) == ("mask", "ader")


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"encoder": "vit_small_patch16_224.dino"}, "invad needs a CNN.*is a ViT.*mobilenetv2_100"),
        ({"stages": (0, 1, 3)}, "strides 2, 4 and 16.*twice the one before"),
        ({"input_size": 264}, "multiple of 16, for example 256 or 272"),
        ({"input_size": 16, "batch_size": 1}, "single images of 16 pixels.*batch_size of 2.*input_size of 32"),
    ],
)
def test_what_does_not_fit_is_refused_with_what_does(values: dict[str, Any], message: str) -> None:
    with pytest.raises(UsageError, match=message):
        InvAD(Config(**values)).encoder()


def test_training_finds_a_foreign_patch(train: Callable[..., Any], highest: Callable[..., Any]) -> None:
    torch.manual_seed(0)
    method = InvAD(Config(style_width=16, latent_width=8, blocks=1, steps=100, lr=0.02))
    module = method.build(INFO)
    patterns = {name: torch.randn(1, *shape) for name, (shape, _) in STAGES.items()}

    def batch(seed: int) -> dict[str, Tensor]:
        noise = torch.Generator().manual_seed(seed)
        return {
            name: value + 0.1 * torch.randn(4, *value.shape[1:], generator=noise) for name, value in patterns.items()
        }

    losses = train(method, module, batch)
    assert losses[-1] < 0.3 * losses[0]
    odd = batch(1000)
    for name, side in (("stage0", 4), ("stage1", 2), ("stage2", 1)):
        spot = odd[name][0, :, 2 * side : 3 * side, side : 2 * side]
        spot.copy_(spot.flip(0))
    image, row, column = highest(method, module, INFO, odd)
    assert image == 0 and 20 <= row < 32 and 8 <= column < 20
