from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from golden_values import fill, waves
from scipy.ndimage import gaussian_filter
from torch import Tensor, nn

from bench.api import Batch, EncoderInfo
from bench.config import configure
from bench.errors import UsageError
from bench.methods._maps import gaussian, resized
from bench.methods.generalad import Config, Discriminator, GeneralAD, discrimination, random_patches
from bench.run.complexity import complexity
from bench.run.seeding import step_generator

CPU = torch.device("cpu")
INFO = EncoderInfo("fake", "vit", 16, 12, 2, 14, 1, (4, 4), 56, (0.0, 0.0, 0.0), (1.0, 1.0, 1.0))


def given(count: int = 3, seed: int = 0) -> Tensor:
    return torch.randn(count, 16, 16, generator=torch.Generator().manual_seed(seed))


def batch(patches: Tensor, step: int = 0) -> Batch:
    return Batch({"patches": patches}, random=lambda: step_generator(0, step, CPU))


def golden() -> Discriminator:
    module = Discriminator(16, 16, Config(hidden=32)).eval()
    fill(module)
    return module


# ------------------------------------------------------------------------------------------------ size and values
@pytest.mark.parametrize(
    ("size", "trained", "encoder", "linear", "attention"),
    [
        ("small", 2_693_504, 22_056_192, None, None),
        ("base", 6_564_608, 86_579_712, 7.54, 2.88),
        ("large", 9_800_704, 304_367_616, 11.5, 3.8),
    ],
)
def test_parameters_and_macs(
    size: str, trained: int, encoder: int, linear: float | None, attention: float | None
) -> None:
    counted = complexity(GeneralAD(Config(encoder=f"vit_{size}_patch14_dinov2.lvd142m")))
    assert counted.params_trainable == trained
    # with DINOv2's mask token, which timm drops
    mask_token = {"small": 384, "base": 768, "large": 1024}[size]
    assert counted.params_total == encoder + trained + mask_token
    if linear is not None and attention is not None:
        assert counted.macs_trainable / 1e9 == pytest.approx(linear, rel=0.01)
        products = {"base": 34.6, "large": 92.3}[size] + attention
        assert (counted.macs_with_products - counted.macs) / 1e9 == pytest.approx(products, rel=0.01)


def test_golden_logits_and_scores(monkeypatch: pytest.MonkeyPatch) -> None:
    module, patches = golden(), waves(2, 16, 16)
    assert sum(param.numel() for param in module.parameters()) == 2_464
    with torch.no_grad():
        logits = module(patches)
        assert (logits[0, 0].item(), logits[1, 15].item(), logits.sum().item()) == pytest.approx(
            (0.106159, 0.125234, 0.423151), abs=1e-6
        )
        for top, wanted in ((3, (0.204157, 0.179776)), (0, (0.010909, 0.015538))):
            method = GeneralAD(Config(score_patches=top))
            found = method.anomaly(module, Batch({"patches": patches}), INFO, 8)
            assert found.scores.tolist() == pytest.approx(wanted, abs=1e-6)
    maps = gaussian(resized(logits.view(2, 4, 4), 8), 1.0, 2)
    assert (maps[0, 0, 0].item(), maps[1, 7, 7].item(), maps.max().item()) == pytest.approx(
        (0.068377, 0.082075, 0.176334), abs=1e-6
    )


def test_golden_loss_and_gradients() -> None:
    module, patches = golden(), waves(2, 16, 16)
    noise = 0.25 * waves(2, 16, 16, shift=0.9)
    mask = torch.zeros(2, 16, dtype=torch.bool)
    mask[0, [0, 3, 5]] = True
    mask[1, 1:8] = True
    none, every = torch.zeros_like(mask), torch.ones_like(mask)
    clean, spoilt, partly = module(patches), module(patches + noise), module(patches + noise * mask[..., None])
    assert discrimination((clean,), [none]).item() == pytest.approx(0.701686, abs=1e-6)
    assert discrimination((spoilt,), [every]).item() == pytest.approx(0.689310, abs=1e-6)
    assert discrimination((partly,), [mask]).item() == pytest.approx(0.692997 + 0.672363, abs=2e-6)
    loss = discrimination((clean, spoilt, partly), [none, every, mask])
    assert loss.item() == pytest.approx(2.756355, abs=1e-6)
    loss.backward()
    for layer, wanted in (
        (module.position, 0.941279),
        (module.logit.weight, 1.747721),
        (module.attention.qkv.weight, 0.030207),
    ):
        assert layer.grad is not None
        assert layer.grad.abs().sum().item() == pytest.approx(wanted, abs=1e-6)


# ------------------------------------------------------------------------------------------------------ formulas
def slow(module: Discriminator, patches: Tensor, heads: int) -> Tensor:
    """Logits written out, head by head and token by token."""
    q, k, v = module.attention.qkv.weight.chunk(3)
    bq, bk, bv = module.attention.qkv.bias.chunk(3)
    rows = []
    for image in patches + module.position:
        width = image.shape[1] // heads
        mixed = []
        for head in range(heads):
            part = slice(head * width, (head + 1) * width)
            query, key, value = (image @ w[part].T + b[part] for w, b in ((q, bq), (k, bk), (v, bv)))
            weights = (query @ key.T / math.sqrt(width)).exp()
            mixed.append(weights / weights.sum(dim=1, keepdim=True) @ value)
        x = image + torch.cat(mixed, dim=1) @ module.attention.proj.weight.T + module.attention.proj.bias
        centred = x - x.mean(dim=1, keepdim=True)
        x = centred / (centred.square().mean(dim=1, keepdim=True) + 1e-5).sqrt()
        x = x * module.norm.weight + module.norm.bias
        inner = x @ module.expand.weight.T + module.expand.bias
        inner = inner * 0.5 * (1 + torch.erf(inner / math.sqrt(2)))
        x = x + inner @ module.reduce.weight.T + module.reduce.bias
        rows.append((x * module.logit.weight).sum(dim=1))
    return torch.stack(rows)


def test_network_score_and_map_against_a_direct_computation() -> None:
    torch.manual_seed(0)
    method = GeneralAD(Config(hidden=24, heads=2, smoothing_sigma=5.0, smoothing_radius=7, score_patches=4))
    module = method.build(INFO).double().eval()
    for param in module.parameters():
        param.data += 0.1 * torch.randn_like(param)
    patches = given().double()
    with torch.no_grad():
        logits = slow(module, patches, heads=2)
        torch.testing.assert_close(module(patches), logits, rtol=1e-9, atol=1e-9)
        found = method.anomaly(module, Batch({"patches": patches}), INFO, 40)
    assert found.maps is not None and found.maps.dtype == torch.float32
    for image in range(3):
        assert found.scores[image].item() == pytest.approx(np.sort(logits[image].numpy())[-4:].mean(), rel=1e-5)
        wide = F.interpolate(logits[image].view(1, 1, 4, 4), size=56, mode="bilinear", align_corners=False)
        smooth = torch.from_numpy(gaussian_filter(wide[0, 0].numpy(), 5.0, radius=7))
        small = F.interpolate(smooth[None, None], size=40, mode="bilinear", align_corners=False)[0, 0]
        torch.testing.assert_close(found.maps[image].double(), small, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("noise", ["random", "base"])
def test_loss_against_a_direct_computation(noise: str) -> None:
    torch.manual_seed(0)
    method = GeneralAD(Config(noise=noise, hidden=24, noise_std=0.7))
    module, patches = method.build(INFO).eval(), given()
    # what the step draws, in the order in which it does: which patches, the noise of all, the noise of some
    random = step_generator(0, 5, CPU)
    mask = random_patches(3, 16, random, CPU) if noise == "random" else None
    draws = [torch.empty(3, 16, 16).normal_(0, 0.7, generator=random) for _ in range(1 if mask is None else 2)]

    def entropy(logit: float, truth: int) -> float:
        return math.log1p(math.exp(-logit if truth else logit))

    with torch.no_grad():
        found = method.loss(module, batch(patches, 5), 5).item()
        wanted = float(np.mean([entropy(logit, 0) for logit in module(patches).flatten().tolist()]))
        wanted += float(np.mean([entropy(logit, 1) for logit in module(patches + draws[0]).flatten().tolist()]))
        if mask is not None:
            logits = module(patches + draws[1] * mask[..., None])
            wanted += float(np.mean([entropy(logit, 1) for logit in logits[mask].tolist()]))
            wanted += float(np.mean([entropy(logit, 0) for logit in logits[~mask].tolist()]))
    assert found == pytest.approx(wanted, rel=1e-5)


def test_a_mean_over_no_patch_is_left_out() -> None:
    logits, every = torch.tensor([[1.0, 2.0]]), torch.tensor([[True, True]])
    wanted = (math.log1p(math.exp(-1)) + math.log1p(math.exp(-2))) / 2
    assert discrimination((logits,), [every]).item() == pytest.approx(wanted)


def test_one_to_all_patches_are_chosen_alike_often() -> None:
    masks = random_patches(20_000, 5, torch.Generator().manual_seed(0), CPU)
    counts = masks.sum(dim=1).bincount(minlength=6)
    assert counts[0] == 0 and (counts[1:] - 4000).abs().max() < 300
    # each place is in three of five on average
    assert (masks.float().mean(dim=0) - 0.6).abs().max() < 0.02


def test_dropout_is_drawn_by_the_step_alone_and_in_training_alone() -> None:
    torch.manual_seed(0)
    method = GeneralAD(Config(hidden=24))
    module, patches = method.build(INFO).train(), given()
    first = method.loss(module, batch(patches), 0)
    torch.manual_seed(7)
    assert torch.equal(first, method.loss(module, batch(patches), 0))
    assert not torch.equal(first, method.loss(module, batch(patches, 1), 1))
    # four places: attention weights, its branch, hidden values, their branch; in evaluation none
    undropped = GeneralAD(Config(hidden=24, dropout=0.0))
    assert not torch.equal(first, undropped.loss(module.eval(), batch(patches), 0))
    assert torch.equal(method.loss(module.eval(), batch(patches), 0), undropped.loss(module.eval(), batch(patches), 0))


def test_initial_values_are_torchs() -> None:
    torch.manual_seed(0)
    module = Discriminator(64, 49, Config())
    assert module.position.std().item() == pytest.approx(1, rel=0.05)
    bound = math.sqrt(6 / (64 + 3 * 64))
    assert 0.98 * bound < module.attention.qkv.weight.abs().max().item() <= bound
    assert not module.attention.qkv.bias.any() and not module.attention.proj.bias.any()
    assert module.logit.bias is None and module.norm.eps == 1e-5


# ------------------------------------------------------------------------------------------------------ recipe
@pytest.mark.parametrize(
    ("dataset", "images", "setting", "steps"),
    [
        ("mvtec", 3629, "multi", 36_160),
        ("mvtec", 209, "single", 2_080),
        ("visa", 8659, "multi", 86_560),
        ("fmnist", 30_000, "multi", 300),
        ("cifar10", 5_000, "single", 300),
        ("view", 100, "multi", 120),
    ],
)
def test_length_of_training_follows_from_dataset_and_images(
    dataset: str, images: int, setting: str, steps: int
) -> None:
    config: Any = configure(GeneralAD, dataset, {}, None, setting)
    assert GeneralAD(config).steps(images) == steps
    semantic = dataset not in ("mvtec", "visa")
    assert (config.noise, config.score_patches) == (("base", 0) if semantic else ("random", 10))
    given: Any = configure(GeneralAD, dataset, {"steps": 7}, None, setting)
    assert GeneralAD(given).steps(images) == 7


def test_published_recipe() -> None:
    method = GeneralAD(Config())
    (group,) = method.optimizer(nn.Linear(1, 1)).param_groups  # type: ignore[arg-type]
    assert (group["weight_decay"], group["betas"], method.clip_norm) == (1e-5, (0.9, 0.999), None)
    settled = method.settled(3629)
    rates = [settled.learning_rate(226 * epoch) for epoch in (0, 1, 80, 159)]
    assert rates == pytest.approx([5e-4, 4.99961e-4, 3e-4, 1.00039e-4], rel=1e-5)
    assert settled.learning_rate(225) == 5e-4 and settled.learning_rate(226) < 5e-4
    request = method.encoder()
    assert (request.blocks, request.input_size, request.position) == ((24,), 518, "dinov2")
    assert GeneralAD.paper.eval_size == 518 and GeneralAD.paper.label_rule == "dataset"


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"encoder": "mobilenetv2_100"}, "generalad needs a ViT.*is a CNN"),
        ({"heads": 5}, "heads = 5 does not divide the 1024 channels"),
        ({"input_size": 520}, "input size 520 does not fit.*518 or 532"),
    ],
)
def test_what_does_not_fit_is_refused_with_what_does(values: dict[str, Any], message: str) -> None:
    from bench.encoders import catalog

    with pytest.raises(UsageError, match=message):
        catalog.requested(GeneralAD(Config(**values)).encoder())


def test_training_finds_a_foreign_patch(highest: Callable[..., Any]) -> None:
    torch.manual_seed(0)
    method = GeneralAD(
        Config(hidden=64, noise_std=1.0, smoothing_sigma=4.0, smoothing_radius=8, score_patches=1, lr=0.01)
    )
    module = method.build(INFO).train()
    pattern = given(1, seed=3)
    optimizer = method.optimizer(module)
    losses = []
    for step in range(100):
        shown = pattern + 0.05 * given(8, seed=10 + step)
        loss = method.loss(module, batch(shown, step), step)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert np.mean(losses[-10:]) < 0.4 * losses[0]
    odd = pattern + 0.05 * given(8, seed=1000)
    odd[0, 9] = -odd[0, 9]
    image, row, column = highest(method, module, INFO, Batch({"patches": odd}))
    assert image == 0 and 20 <= row < 30 and 10 <= column < 20
