from __future__ import annotations

from collections.abc import Callable
from typing import Any

import golden_vit
import pytest
import torch
from golden_values import fill
from torch import Tensor, nn

from bench.config import configure
from bench.errors import UsageError
from bench.methods import dinomaly
from bench.methods._reconstruction import Reconstructor
from bench.methods.dinomaly import Dinomaly
from bench.methods.dinomaly2 import Bottleneck, Config, Dinomaly2
from bench.run.complexity import complexity

SMALL, BASE, LARGE = (f"vit_{size}_patch14_reg4_dinov2.lvd142m" for size in ("small", "base", "large"))
DIM, PREFIX, INFO = golden_vit.DIM, golden_vit.PREFIX, golden_vit.INFO
TINY: dict[str, Any] = {"layers": tuple(range(8)), "dropout": 0.0}


def seeded(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def built(**values: Any) -> tuple[Dinomaly2, Reconstructor]:
    torch.manual_seed(0)
    method = Dinomaly2(Config(**{**TINY, "init_std": 0.3, **values}))
    return method, method.build(INFO).double()


def stored(batch: int = 3) -> dict[int, Tensor]:
    return {index: seeded(batch, golden_vit.TOKENS, DIM, seed=index) for index in range(8)}


# ------------------------------------------------------------------------------------------------ published numbers
@pytest.mark.parametrize(
    ("encoder", "bottleneck", "trained", "total"),
    [
        (SMALL, 1_083_520, 15_279_232, 37_337_344),
        (BASE, 3_346_432, 60_049_408, 146_632_960),
        (LARGE, 5_510_400, 106_280_192, 410_652_928),
    ],
)
def test_parameters(encoder: str, bottleneck: int, trained: int, total: int) -> None:
    counted = complexity(Dinomaly2(Config(encoder=encoder)))
    assert (counted.params_trainable, counted.params_total) == (trained, total)
    decoder = complexity(Dinomaly(dinomaly.Config(encoder=encoder))).params_trainable
    width = {SMALL: 384, BASE: 768, LARGE: 1024}[encoder]
    assert trained - bottleneck == decoder - (8 * width * width + 5 * width), "the decoder is Dinomaly's"


def test_macs() -> None:
    assert complexity(Dinomaly2(Config())).macs / 1e9 == pytest.approx(103.5, abs=0.05)


def test_golden_values_of_the_official_classes() -> None:
    method = Dinomaly2(Config(**TINY))
    module = method.build(INFO).eval()
    fill(module)
    assert sum(param.numel() for param in module.parameters()) == 48_080
    features = method.features(golden_vit.blocks(), INFO)
    pairs = method._pairs(module, features, step=5_000)
    assert pairs[0][0][0, 0, 0, 0].item() == pytest.approx(-0.487589, abs=1e-6)
    assert pairs[0][1][0, 0, 0, 0].item() == pytest.approx(0.669268, abs=1e-6)
    assert pairs[1][1][1, 15, 3, 3].item() == pytest.approx(-0.223390, abs=1e-6)
    loss = method.loss(module, features, 5_000)
    assert loss.item() == pytest.approx(1.010624, abs=1e-6)
    loss.backward()
    entrance, first = module.get_parameter("bottleneck.entrance.weight"), module.decoder[0].attention.qkv.weight
    assert entrance.grad.abs().sum().item() == pytest.approx(16.011814, rel=1e-6)
    assert first.grad.abs().sum().item() == pytest.approx(0.666809, abs=1e-6)


def test_published_recipe() -> None:
    method = Dinomaly2(Config())
    request = method.encoder()
    assert (request.name, request.blocks, request.input_size) == (BASE, tuple(range(2, 10)), 392)
    assert request.position == "dinov2" and method.clip_norm == 0.1 and method.revision == ""
    assert method.paper.rules() == {**Dinomaly.paper.rules(), "name": "paper:dinomaly2"}
    sources: dict[str, Any] = {name: field.json_schema_extra for name, field in Config.model_fields.items()}
    assert sources["groups"]["source"] == "Dinomaly: section 3.4, code" and sources["amsgrad"]["source"] == "code"
    module = method.build(INFO)
    slow, rest = method.optimizer(module).param_groups
    assert [param.shape for param in slow["params"]] == [(256, DIM), (256,)] and slow["lr_scale"] == 0.1
    assert len(slow["params"]) + len(rest["params"]) == len(list(module.parameters())) and "lr_scale" not in rest
    for group in (slow, rest):
        assert (group["betas"], group["eps"], group["weight_decay"]) == ((0.9, 0.999), 1e-10, 1e-4)
        assert group["amsgrad"] is False


@pytest.mark.parametrize(
    ("dataset", "setting", "steps", "scale"),
    [("mvtec", "multi", 40_000, 0.1), ("visa", "single", 40_000, 0.1), ("realiad", "multi", 100_000, 1.0)],
)
def test_the_codes_values_by_dataset(dataset: str, setting: str, steps: int, scale: float) -> None:
    config = configure(Dinomaly2, dataset, {}, None, setting)
    assert isinstance(config, Config)
    assert (config.steps, config.bottleneck_lr_scale, config.dropout) == (steps, scale, 0.4)


def test_schedule() -> None:
    method = Dinomaly2(Config())
    for step in range(100):
        assert method.learning_rate(step) == pytest.approx(2e-3 * step / 100)
    assert method.learning_rate(99) == pytest.approx(1.98e-3)
    assert {method.learning_rate(step) for step in (100, 101, 20_000, 39_999)} == {2e-3}
    falling = Dinomaly2(Config(final_lr=2e-4, steps=1_100))
    assert falling.learning_rate(100) == 2e-3 and falling.learning_rate(600) == pytest.approx(1.1e-3)
    assert Dinomaly2(Config(warmup=0)).learning_rate(0) == 2e-3


# ---------------------------------------------------------------------------------------------------------- network
def test_bottleneck_by_hand_and_where_its_dropout_stands() -> None:
    torch.manual_seed(0)
    layer = Bottleneck(5, 3, 20, 0.5).double()
    x = seeded(2, 4, 5)
    narrow = x @ layer.entrance.weight.T + layer.entrance.bias
    inner = narrow @ layer.fc1.weight.T + layer.fc1.bias
    hidden = inner * 0.5 * (1 + torch.erf(inner / 2**0.5))
    torch.testing.assert_close(layer.eval()(x), hidden @ layer.fc2.weight.T + layer.fc2.bias)
    seen: list[Tensor] = []
    layer.dropout.register_forward_hook(lambda _, inputs, output: seen.append(inputs[0]))
    layer.train()(x)
    assert [tuple(value.shape) for value in seen] == [(2, 4, 3), (2, 4, 20), (2, 4, 5)]
    torch.testing.assert_close(seen[0], narrow), "nothing is dropped before the entrance, nothing acts behind it"
    assert seen[1].min() > -0.18, "the second stands behind GELU"


def test_targets_are_recentred_by_their_own_class_token() -> None:
    method, module = built()
    blocks = stored()
    pairs = method._pairs(module, method.features(blocks, INFO))
    for group, (target, output) in enumerate(pairs):
        mean = sum(blocks[index] for index in range(4 * group, 4 * group + 4)) / 4
        for b in range(3):
            for place in range(16):
                patch = mean[b, PREFIX + place] - mean[b, 0]
                wanted = (patch - patch.mean()) / (patch.var(unbiased=False) + 1e-8).sqrt()
                torch.testing.assert_close(target[b, :, place // 4, place % 4], wanted)
        # outputs are compared as they are
        assert not torch.allclose(output.mean(dim=1), torch.zeros(3, 4, 4, dtype=torch.float64), atol=1e-3)


def test_the_bottleneck_sees_the_mean_of_all_blocks_and_all_tokens() -> None:
    method, module = built()
    entering: list[Tensor] = []
    module.bottleneck.register_forward_pre_hook(lambda _, inputs: entering.append(inputs[0]))
    method.loss(module, method.features(stored(), INFO), 0)
    torch.testing.assert_close(entering[0], torch.stack(list(stored().values())).mean(dim=0))


def test_without_recentring_targets_are_dinomalys() -> None:
    method, module = built(recentre=False)
    features = method.features(stored(), INFO)
    theirs = Dinomaly(dinomaly.Config(**TINY))
    for ours, plain in zip(method._pairs(module, features), theirs._pairs(module, features), strict=True):
        assert torch.equal(ours[0], plain[0]) and torch.equal(ours[1], plain[1])


@pytest.mark.parametrize("step", [0, 300, 5_000])
def test_loss_and_hard_mining_against_loops(step: int) -> None:
    method, module = built()
    features = method.features(stored(), INFO)
    found = torch.autograd.grad(method.loss(module, features, step), list(module.parameters()))
    pairs = method._pairs(module, features)
    total, seeds = 0.0, []
    for target, output in pairs:
        given, made = target.permute(0, 2, 3, 1).reshape(48, DIM), output.detach().permute(0, 2, 3, 1).reshape(48, DIM)
        distance = torch.stack([1 - (p * q).sum() / (p.norm() * q.norm()) for p, q in zip(given, made, strict=True)])
        kept = max(1, int(distance.numel() * (1 - min(0.9 * step / 1000, 0.9))))
        bar = distance.sort(descending=True).values[kept - 1]
        weight = torch.ones_like(distance).masked_fill(distance < bar, 0.1).reshape(3, 1, 4, 4)
        flat = zip(target.flatten(1), output.flatten(1), strict=True)
        plain = torch.stack([1 - (p * q).sum() / (p.norm() * q.norm()) for p, q in flat])
        (gradient,) = torch.autograd.grad(plain.mean() / 2, output, retain_graph=True)
        seeds.append(gradient * weight)
        total += plain.mean().item() / 2
    assert method.loss(module, features, step).item() == pytest.approx(total, rel=1e-12)
    wanted = torch.autograd.grad([output for _, output in pairs], list(module.parameters()), seeds)
    for got, expected in zip(found, wanted, strict=True):
        torch.testing.assert_close(got, expected, rtol=1e-7, atol=1e-13)


def test_an_encoder_without_class_token_needs_recentring_off() -> None:
    bare = "vit_base_patch16_siglip_224.webli"
    with pytest.raises(UsageError, match=rf"'{bare}' has none\. Try vit_base.*recentre=false"):
        Dinomaly2(Config(encoder=bare)).encoder()
    assert Dinomaly2(Config(encoder=bare, recentre=False)).encoder().input_size == 448


def test_training_lowers_the_loss_and_finds_a_foreign_patch(
    train: Callable[..., Any], highest: Callable[..., Any]
) -> None:
    method = Dinomaly2(Config(layers=tuple(range(8)), steps=80, warmup=10, dropout=0.0))
    torch.manual_seed(0)
    module = method.build(INFO)
    basis = seeded(3, DIM, seed=9).float()

    def batch(seed: int) -> dict[str, Tensor]:
        mixed = seeded(8, golden_vit.TOKENS, 3, seed=seed).float().softmax(-1) @ basis
        mixed[:, 0] = seeded(DIM, seed=5).float()  # a patch that equals its class token would have no direction
        return {"group0": mixed + 0.5, "group1": mixed * 2 - 0.3}

    losses = train(method, module, batch)
    assert losses[-1] < 0.5 * losses[0]
    odd = batch(1000)
    for value in odd.values():
        value[0, PREFIX + 5] = seeded(DIM, seed=77).float() * 2
    image, row, column = highest(method, module, INFO, odd)
    assert image == 0 and 10 <= row < 20 and 10 <= column < 20


def test_the_entrance_moves_more_slowly(train: Callable[..., Any]) -> None:
    moved = {}
    features = Dinomaly2(Config(**TINY)).features(stored(), INFO)
    for scale in (0.1, 1.0):
        method, module = built(bottleneck_lr_scale=scale, steps=1, warmup=0, weight_decay=0.0)
        before = {name: value.clone() for name, value in module.state_dict().items()}
        train(method, module, lambda step: features)
        moved[scale] = {name: (value - before[name]).abs().sum() for name, value in module.state_dict().items()}
    for name in moved[0.1]:
        ratio = 10.0 if name.startswith("bottleneck.entrance.") else 1.0
        assert moved[1.0][name] / moved[0.1][name] == pytest.approx(ratio, rel=1e-6), name


def test_autocast_trains() -> None:
    method, module = built()
    module.float()
    features = {name: value.float() for name, value in method.features(stored(), INFO).items()}
    with torch.autocast("cpu", dtype=torch.bfloat16):
        loss = method.loss(module, features, 1000)
    loss.backward()
    assert loss.item() == pytest.approx(method.loss(module, features, 1000).item(), rel=0.03)
    assert all(param.grad is not None and torch.isfinite(param.grad).all() for param in module.parameters())


def test_dropout_off_is_deterministic_in_training() -> None:
    method, module = built(dropout=0.0)
    features = method.features(stored(), INFO)
    assert method.loss(module.train(), features, 0) == method.loss(module, features, 0)
    noisy, same = built(dropout=0.4)
    assert noisy.loss(same.train(), features, 0) != noisy.loss(same, features, 0)
    assert [name for name, layer in same.named_modules() if isinstance(layer, nn.Dropout) and layer.p] == [
        "bottleneck.dropout"
    ]
