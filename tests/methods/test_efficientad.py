from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from golden_values import fill, waves
from PIL import Image, ImageEnhance
from torch import Tensor, nn

from bench.api import Batch, EncoderInfo
from bench.errors import UsageError, WeightsError
from bench.methods._pdn import Autoencoder, PatchNetwork
from bench.methods.efficientad import Config, EfficientAD, Networks, hard_mean, joined_maps, recoloured
from bench.run.complexity import complexity

CHANNELS = (6, 10)
INFO = EncoderInfo("resnet18", "cnn", 10, 5, 0, 16, 0, (4, 4), 64, (0.0, 0.0, 0.0), (1.0, 1.0, 1.0), CHANNELS)
TINY: dict[str, Any] = {"input_size": 64, "width": 4, "dim": 12, "autoencoder_width": 8, "statistics_textures": 20}


def built(**config: Any) -> tuple[EfficientAD, Networks]:
    torch.manual_seed(0)
    method = EfficientAD(Config(**{**TINY, **config}))
    return method, method.build(INFO)


def total(module: nn.Module) -> int:
    return sum(param.numel() for param in module.parameters())


def encode(images: Tensor) -> dict[str, Tensor]:
    """PatchCore's features of two stages, at strides 8 and 16, that mix what an image's squares hold."""
    blocks = {}
    for stage, (width, stride) in enumerate(zip(CHANNELS, (8, 16), strict=True), start=2):
        squares = F.avg_pool2d(images, stride)
        mixing = torch.randn(width, 3, generator=torch.Generator().manual_seed(stage))
        blocks[stage] = torch.einsum("bchw,dc->bdhw", squares, mixing)
    return EfficientAD(Config(**TINY)).features(blocks, INFO)


def seen(images: Tensor, seed: int = 0) -> Batch:
    def textures(count: int, random: torch.Generator) -> Tensor:
        return torch.rand(count, 3, *images.shape[2:], generator=random)

    generator = torch.Generator().manual_seed(seed)
    return Batch({}, images, encode=encode, random=lambda: generator, textures=textures)


def pictures(count: int, seed: int = 1) -> Tensor:
    return torch.rand(count, 3, 64, 64, generator=torch.Generator().manual_seed(seed))


# ------------------------------------------------------------------------------------------------ size and values
@pytest.mark.parametrize(
    ("size", "params", "gigamacs", "parts"),
    [
        ("s", 8_057_856, 37.9, (2_694_144, 4_267_392, 1_096_320)),
        ("m", 20_738_432, 117.7, (8_026_624, 11_615_488, 1_096_320)),
    ],
)
def test_parameters_and_macs_as_published(size: Any, params: int, gigamacs: float, parts: tuple[int, int, int]) -> None:
    counted = complexity(EfficientAD(Config(size=size)))
    assert counted.params_trainable == counted.params_total == params
    assert counted.macs / 1e9 == pytest.approx(gigamacs, rel=0.01)
    with torch.device("meta"):
        module = Networks(256, 384, Config(size=size))
    assert (total(module.teacher), total(module.student), total(module.autoencoder)) == parts


def test_golden_patch_networks() -> None:
    images = waves(1, 3, 64, 64)
    small, medium = PatchNetwork("s", None, 8), PatchNetwork("m", None, 8)
    for module in (small, medium):
        fill(module)
    with torch.no_grad():
        found, padded, other = small(images), small(images, padded=True), medium(images)
    assert found.shape == other.shape == (1, 8, 8, 8) and padded.shape == (1, 8, 16, 16)
    assert found[0, 0, 0, 0].item() == pytest.approx(0.057062, abs=1e-6)
    assert found[0, 7, 7, 7].item() == pytest.approx(0.038124, abs=1e-6)
    assert found.sum().item() == pytest.approx(4.072614, abs=1e-4)
    assert padded[0, 0, 0, 0].item() == pytest.approx(0.054271, abs=1e-6)
    assert padded.sum().item() == pytest.approx(16.352484, abs=1e-4)
    assert other[0, 0, 0, 0].item() == pytest.approx(0.048086, abs=1e-6)
    assert other[0, 7, 7, 7].item() == pytest.approx(0.042520, abs=1e-6)
    assert other.sum().item() == pytest.approx(4.906798, abs=1e-4)


def test_golden_autoencoder() -> None:
    module = Autoencoder(256, 64, 8, 0.2).eval()
    fill(module)
    with torch.no_grad():
        found = module(waves(1, 3, 256, 256))
    assert found.shape == (1, 8, 56, 56)
    assert found[0, 0, 0, 0].item() == pytest.approx(0.054321, abs=1e-6)
    assert found[0, 7, 55, 55].item() == pytest.approx(0.045050, abs=1e-6)
    assert found.sum().item() == pytest.approx(248.985474, rel=1e-6)


def test_golden_hard_mean() -> None:
    differences = (waves(1, 8, 20, 20) - waves(1, 8, 20, 20, shift=0.7)).square()
    assert hard_mean(differences, 0.001).item() == pytest.approx(0.470315, abs=1e-6)
    bar = differences.flatten().double().quantile(0.999)
    assert bar.item() == pytest.approx(0.470314, abs=1e-6) and (differences >= bar).sum() == 4


def test_golden_quantile_maps() -> None:
    method, module = built()
    maps = (waves(3, 1, 6, 6).square()[:, 0], waves(3, 1, 6, 6, shift=0.9).square()[:, 0])
    module.forward = lambda images: maps  # type: ignore[method-assign, assignment]
    method.finish(module, [seen(pictures(3))])
    assert module.quantiles.flatten().tolist() == pytest.approx([1.794844, 2.164510, 1.696384, 2.204843], abs=1e-6)
    tested = [waves(1, 1, 6, 6, shift=shift).square()[:, 0] for shift in (0.2, 1.1)]
    found = joined_maps(tested, module.quantiles)
    assert found[0, 0, 0].item() == pytest.approx(-0.091948, abs=1e-6)
    assert found[0, 5, 5].item() == pytest.approx(-0.100703, abs=1e-6)
    assert found.max().item() == pytest.approx(0.039785, abs=1e-6)
    # by the method: a margin of 4 around 6 places is an input of 56 pixels
    module.forward = lambda images: tuple(tested)  # type: ignore[method-assign, assignment]
    info = EncoderInfo("none", "none", 0, 0, 0, 1, 0, (56, 56), 56, (0.0,) * 3, (1.0,) * 3)
    prediction = method.anomaly(module, seen(pictures(1)), info, 28)
    assert prediction.maps is not None
    assert prediction.maps[0, 14, 14].item() == pytest.approx(-0.277146, abs=1e-6)
    assert prediction.maps.max().item() == pytest.approx(0.029567, abs=1e-6)


# ------------------------------------------------------------------------------------------------------ formulas
@pytest.mark.parametrize("share", [0.001, 0.3, 1.0])
@pytest.mark.parametrize("count", [1, 7, 2000])
def test_hard_mean_against_torch_quantile(share: float, count: int) -> None:
    values = torch.rand(count, generator=torch.Generator().manual_seed(count))
    bar = torch.quantile(values.double(), 1 - share)
    wanted = values[values.double() >= bar - 1e-12].double().mean()
    assert hard_mean(values, share).item() == pytest.approx(wanted.item(), rel=1e-6)


def test_colours_change_as_pils_do() -> None:
    images = (pictures(40, 3) * 255).round() / 255
    found = recoloured(images, torch.Generator().manual_seed(5))
    random = torch.Generator().manual_seed(5)
    which = torch.randint(3, (40,), generator=random)
    factors = 1 + 0.2 * (2 * torch.rand(40, generator=random) - 1)
    enhancers = (ImageEnhance.Brightness, ImageEnhance.Contrast, ImageEnhance.Color)
    assert set(which.tolist()) == {0, 1, 2}
    for image, one, kind, factor in zip(images, found, which.tolist(), factors.tolist(), strict=True):
        picture = Image.fromarray((image * 255).byte().permute(1, 2, 0).numpy())
        wanted = torch.from_numpy(np.array(enhancers[kind](picture).enhance(factor))).permute(2, 0, 1) / 255
        torch.testing.assert_close(one, wanted, atol=1.6 / 255, rtol=0)


def test_distillation_loss_against_a_direct_computation() -> None:
    method, module = built(distilled_textures=2)
    method, images = method.settled(10), pictures(3)
    with torch.no_grad():
        method.fit(module, [seen(images, 7)])
        loss = method.loss(module, seen(images, 4), 0)
        drawn = seen(images, 4)
        shown = torch.cat([images, drawn.textures(2)])
        grey = torch.rand(5, generator=drawn.random) < 0.1
        luma = (shown * torch.tensor([0.299, 0.587, 0.114]).view(3, 1, 1)).sum(dim=1, keepdim=True)
        shown[grey] = luma.expand_as(shown)[grey]
        doubled = F.interpolate(shown, 128, mode="bilinear")
        wanted = (encode(doubled)["target"] - module.target_mean[:, None, None]) / module.target_std[:, None, None]
        mean, std = torch.tensor([0.485, 0.456, 0.406]), torch.tensor([0.229, 0.224, 0.225])
        given = module.teacher((shown - mean.view(3, 1, 1)) / std.view(3, 1, 1), padded=True)
    assert wanted.shape == given.shape == (5, 12, 16, 16)
    assert loss.item() == pytest.approx(float((wanted - given).square().mean()), rel=1e-5)


def test_what_is_distilled_is_scaled_by_textures() -> None:
    method, module = built()
    with torch.no_grad():
        method.fit(module, [seen(pictures(2), 7), seen(pictures(2), 7)])
        drawn = seen(pictures(1), 7)
        shown = torch.cat([drawn.textures(16), drawn.textures(4)])
        targets = encode(F.interpolate(shown, 128, mode="bilinear"))["target"].double()
    torch.testing.assert_close(module.target_mean.double(), targets.mean(dim=(0, 2, 3)), atol=1e-6, rtol=1e-5)
    torch.testing.assert_close(
        module.target_std.double(), targets.std(dim=(0, 2, 3), correction=0), atol=1e-6, rtol=1e-5
    )


def test_what_is_taught_is_scaled_by_the_training_images() -> None:
    method, module = built()
    images = pictures(7)
    with torch.no_grad():
        method.enter(module, [seen(images[:3]), seen(images[3:])])
        plain = module.teacher(module.normalised(images)).double()
        taught = module.taught(module.normalised(images))
    means = torch.stack([one.mean(dim=(1, 2)) for one in plain]).mean(dim=0)
    spread = torch.stack([(one - means[:, None, None]).square().mean(dim=(1, 2)) for one in plain]).mean(dim=0).sqrt()
    torch.testing.assert_close(module.teacher_mean.double(), means, atol=1e-6, rtol=1e-5)
    torch.testing.assert_close(module.teacher_std.double(), spread, atol=1e-6, rtol=1e-5)
    assert taught.mean().abs() < 1e-4 and taught.std(correction=0).item() == pytest.approx(1, abs=1e-3)


def test_loss_against_a_direct_computation() -> None:
    method, module = built(dropout=0.0, hard_share=0.05, penalty=0.7)
    method, images = method.settled(10), pictures(2)
    with torch.no_grad():
        method.enter(module, [seen(images)])
        loss = method.loss(module, seen(images, 4), method.begin)
        drawn = seen(images, 4)
        changed = recoloured(images, drawn.random)
        other = drawn.textures(2)
        grey = torch.rand(2, generator=drawn.random) < 0.3
        luma = (other * torch.tensor([0.299, 0.587, 0.114]).view(3, 1, 1)).sum(dim=1, keepdim=True)
        other[grey] = luma.expand_as(other)[grey]
        clean, altered, penal = (module.normalised(one) for one in (images, changed, other))
        first, second = (module.student(clean)[:, :12], module.student(altered)[:, 12:])
        apart = ((module.taught(clean) - first) ** 2).flatten()
        hard = apart[apart >= apart.quantile(0.95)].mean()
        made = module.autoencoder(altered)
        wanted = hard + 0.7 * (module.student(penal)[:, :12] ** 2).mean()
        wanted += ((module.taught(altered) - made) ** 2).mean() + ((made - second) ** 2).mean()
    assert loss.item() == pytest.approx(float(wanted), rel=1e-5)


def test_each_phase_trains_its_own_networks() -> None:
    method, module = built()
    method = method.settled(10)
    for step, learning in ((0, {"teacher"}), (method.begin, {"student", "autoencoder"})):
        module.zero_grad()
        method.loss(module, seen(pictures(2)), step).backward()
        parts = {
            name.partition(".")[0]
            for name, param in module.named_parameters()
            if param.grad is not None and param.grad.abs().sum() > 0
        }
        assert parts == learning


# ------------------------------------------------------------------------------------------------------ recipe
def test_published_recipe() -> None:
    method = EfficientAD(Config())
    assert method.steps(3629) == 130_000 and method.clip_norm is None
    settled = method.settled(3629)
    assert settled.begin == 60_000 and settled.phases() == (60_000,)
    rates = [settled.learning_rate(step) for step in (0, 126_499, 126_500, 129_999)]
    assert rates == pytest.approx([1e-4, 1e-4, 1e-5, 1e-5])
    (group,) = built()[0].optimizer(built()[1]).param_groups
    assert (group["betas"], group["weight_decay"]) == ((0.9, 0.999), 1e-5)
    wanted = method.encoder()
    assert wanted is not None and wanted.blocks == (2, 3)
    assert EfficientAD(Config(steps=26)).begin == 12


def test_a_teacher_of_a_file(tmp_path: Path) -> None:
    torch.manual_seed(1)
    teacher = PatchNetwork("s", 4, 12)
    names = ("0", "3", "6", "8")
    state = {
        f"{name}.{kind}": getattr(layer, kind).data
        for name, layer in zip(names, teacher.layers, strict=True)
        for kind in ("weight", "bias")
    }
    torch.save(state, tmp_path / "teacher_small.pth")
    method = EfficientAD(Config(**TINY | {"statistics_textures": 10_000}, teacher=str(tmp_path / "teacher_small.pth")))
    assert method.encoder() is None and method.steps(10) == 70_000 and method.settled(10).phases() == (0,)
    module = method.build(EncoderInfo("none", "none", 0, 0, 0, 1, 0, (64, 64), 64, (0.0,) * 3, (1.0,) * 3))
    images = pictures(2)
    method.fit(module, [seen(images)])
    assert torch.equal(module.teacher(images), teacher(images))
    assert not any(param.requires_grad for param in module.teacher.parameters())
    assert len(method.revision) == len("teacher ") + 64 and method.revision[8:24] in method.note
    with pytest.raises(WeightsError, match=r"not the teacher of efficientad.size m"):
        other = EfficientAD(
            Config(**TINY | {"statistics_textures": 10_000}, size="m", teacher=str(tmp_path / "teacher_small.pth"))
        )
        other.fit(other.build(INFO), [seen(images)])
    (tmp_path / "teacher_small.pth").unlink()
    assert method.build(INFO) is not None, "a kept model is read where the file is not"
    with pytest.raises(WeightsError, match=r"there is no file.*Expected a teacher's weights, or null"):
        _ = method.revision


def test_images_without_anything_unusual_are_ranked_below_all_others() -> None:
    method, module = built()
    calm = torch.full((3, 8, 8), 0.5)
    calm[0, 2, 2], calm[1, 2, 2], calm[2, 2, 2] = 3.0, 0.8, 0.7
    module.forward = lambda images: (calm, calm)  # type: ignore[method-assign, assignment]
    module.quantiles[:] = torch.tensor([1.0, 2.0])
    found = method.anomaly(module, seen(pictures(3)), INFO, 64).scores
    # a resized map reaches the -0.02 and -0.03 of its places nearly
    assert found[0] > 0 and 0 > found[1] > -0.03 > found[2] > -0.04


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"encoder": "vit_small_patch16_224.dino"}, "efficientad needs a CNN.*is a ViT"),
        ({"input_size": 100}, "multiple of 32 from 64 on, for example 96 or 128"),
        ({"input_size": 32}, "for example 64 or 96"),
    ],
)
def test_what_does_not_fit_is_refused_with_what_does(values: dict[str, Any], message: str) -> None:
    with pytest.raises(UsageError, match=message):
        EfficientAD(Config(**values)).encoder()


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"low_quantile": 0.995}, "low_quantile 0.995 is not below"),
        ({"teacher": "x.pth", "distilled_textures": 2}, "distilled_textures = 2 has no effect with a teacher given"),
        ({"distillation_steps": 0, "distilled_textures": 2}, "distilled_textures = 2 has no effect"),
        ({"decay_at": 1, "decay": 0.5}, "decay = 0.5 has no effect with decay_at 1"),
    ],
)
def test_settings_that_mean_nothing_are_refused(values: dict[str, Any], message: str) -> None:
    with pytest.raises(UsageError, match=message):
        EfficientAD(Config(**values))
