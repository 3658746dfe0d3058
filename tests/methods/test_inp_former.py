from __future__ import annotations

from collections.abc import Callable
from typing import Any

import golden_vit
import pytest
import torch
from golden_values import fill, waves
from pydantic import ValidationError
from torch import Tensor, nn

from bench.api import EncoderInfo
from bench.config import configure
from bench.errors import UsageError
from bench.methods.dinomaly import Dinomaly
from bench.methods.inp_former import (
    Config,
    Former,
    GuidedReading,
    INPFormer,
    Reading,
    coherence_loss,
    mine_softly,
)
from bench.run.complexity import complexity

SMALL, BASE, LARGE = (f"vit_{size}_patch14_reg4_dinov2.lvd142m" for size in ("small", "base", "large"))
DIM, PREFIX, INFO = golden_vit.DIM, golden_vit.PREFIX, golden_vit.INFO
ZERO = (0.0, 0.0, 0.0)
TINY: dict[str, Any] = {"layers": tuple(range(8))}
SWITCHES: list[dict[str, Any]] = [
    {"prototypes": 0},
    {"prototypes": 2},
    {"attention": "softmax"},
    {"residual": True},
    {"soft_mining": 0.0},
    {"coherence": 0.0},
]


def seeded(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def stored(batch: int = 3) -> dict[int, Tensor]:
    return {index: seeded(batch, golden_vit.TOKENS, DIM, seed=index) for index in range(8)}


def built(**values: Any) -> tuple[INPFormer, Former]:
    torch.manual_seed(0)
    method = INPFormer(Config(**{**TINY, "init_std": 0.3, **values}))
    module = method.build(INFO).double()
    with torch.no_grad():
        for name, param in module.named_parameters():
            if name.endswith("scale"):  # scales that are not 1 show whether they are used
                param.copy_(torch.linspace(0.5, 2.0, param.numel()).reshape(param.shape))
    return method, module


# ------------------------------------------------------------------------------------------------ published numbers
@pytest.mark.parametrize(
    ("encoder", "trained", "total"),
    [(SMALL, 17_154_096, 39_212_208), (BASE, 68_517_984, 155_101_536), (LARGE, 121_766_016, 426_138_752)],
)
def test_parameters(encoder: str, trained: int, total: int) -> None:
    counted = complexity(INPFormer(Config(encoder=encoder)))
    assert (counted.params_trainable, counted.params_total) == (trained, total)
    if encoder == BASE:
        assert counted.macs / 1e9 == pytest.approx(97.9, abs=0.05)


def test_parameters_by_part() -> None:
    with torch.device("meta"):
        module = INPFormer(Config()).build(EncoderInfo("base", "vit", 768, 12, 12, 14, 5, (28, 28), 392, ZERO, ZERO))
    counts = {name: sum(param.numel() for param in part.parameters()) for name, part in module.named_children()}
    assert counts == {"extractor": 7_087_872, "bottleneck": 4_722_432, "decoder": 8 * 7_087_884}
    assert module.prototypes is not None and module.prototypes.numel() == 4_608


def test_golden_values_of_the_official_classes() -> None:
    method = INPFormer(Config(**TINY, prototypes=3))
    module = method.build(INFO).eval()
    fill(module)
    assert module.prototypes is not None
    with torch.no_grad():
        module.prototypes.copy_(waves(3, DIM))
        for name, param in module.named_parameters():
            if name.endswith("scale"):
                param.fill_(1.0)
    assert sum(param.numel() for param in module.parameters()) == 31_712
    features = method.features(golden_vit.blocks(), INFO)
    pairs, prototypes = method._rebuilt(module, features)
    assert prototypes is not None
    assert pairs[0][1][0, 0, 0, 0].item() == pytest.approx(0.095646, abs=1e-6)
    assert pairs[1][1][1, 15, 3, 3].item() == pytest.approx(-0.073443, abs=1e-6)
    assert method._discrepancy(pairs).mean().item() == pytest.approx(0.993075, abs=1e-6)
    assert coherence_loss(method._fused(features), prototypes).item() == pytest.approx(0.354266, abs=1e-6)
    loss = method.loss(module, features, 0)
    assert loss.item() == pytest.approx(1.063928, abs=1e-6)
    loss.backward()
    for name, wanted in (
        ("prototypes", 0.055446),
        ("decoder.0.attention.scale", 0.006928),
        ("bottleneck.fc1.weight", 1.068720),
    ):
        gradient = module.get_parameter(name).grad
        assert gradient is not None and gradient.abs().sum().item() == pytest.approx(wanted, abs=1e-6), name
    # the map before it is smoothed, at the input's size
    found = method.anomaly(module, features, INFO, 8)
    distances = torch.stack([1 - torch.cosine_similarity(*pair, dim=1) for pair in pairs]).mean(dim=0, keepdim=True)
    wide = nn.functional.interpolate(distances.transpose(0, 1), size=(8, 8), mode="bilinear", align_corners=True)[:, 0]
    assert [wide[0, 0, 0].item(), wide[1, 7, 7].item(), wide.mean().item()] == pytest.approx(
        [0.994818, 0.974578, 0.988540], abs=1e-6
    )
    kernel = torch.tensor([[-(y * y + x * x) / 32 for x in range(-2, 3)] for y in range(-2, 3)]).exp()
    smooth = nn.functional.conv2d(wide[:, None], (kernel / kernel.sum())[None, None], padding=2)[:, 0]
    assert found.maps is not None
    torch.testing.assert_close(found.maps, smooth.float())
    torch.testing.assert_close(found.scores, smooth.flatten(1).amax(dim=1).float())


def test_golden_value_of_soft_mining() -> None:
    target, given = waves(2, 3, 4, 4), waves(2, 3, 4, 4, shift=0.7).requires_grad_()
    output = given * 1
    mine_softly(target, output, 3.0)
    loss = (1 - torch.cosine_similarity(target.flatten(1), output.flatten(1), dim=1)).mean()
    loss.backward()
    assert loss.item() == pytest.approx(0.172701, abs=1e-6)
    assert given.grad is not None
    assert given.grad.abs().sum().item() == pytest.approx(2.235840, abs=2e-6)
    assert given.grad[0, 0, 0, 0].item() == pytest.approx(0.00035300, abs=1e-8)


@pytest.mark.parametrize(
    ("step", "rate"), [(0, 0.0), (1, 1.0101e-5), (50, 5.0505e-4), (99, 1e-3), (100, 1e-3), (22_650, 5.5e-4)]
)
def test_schedule(step: int, rate: float) -> None:
    method = INPFormer(Config()).settled(3629)
    assert method.config.steps == 45_200
    assert method.learning_rate(step) == pytest.approx(rate, rel=1e-4)
    assert method.learning_rate(45_199) == pytest.approx(1e-4, rel=1e-4)


@pytest.mark.parametrize(
    ("dataset", "setting", "images", "steps"),
    [
        ("mvtec", "multi", 3_629, 45_200),
        ("visa", "multi", 8_659, 108_200),
        ("realiad", "multi", 36_465, 455_800),
        ("mvtec", "single", 209, 2_600),
        ("mvtec", "few-shot-single", 4, 200),
    ],
)
def test_two_hundred_epochs_everywhere(dataset: str, setting: str, images: int, steps: int) -> None:
    method = INPFormer(configure(INPFormer, dataset, {}, None, setting))  # type: ignore[arg-type]
    assert method.steps(images) == steps
    assert INPFormer(Config(steps=7)).steps(images) == 7
    with pytest.raises(ValidationError, match="steps 7 and epochs 3 are both given"):
        Config(steps=7, epochs=3)


def test_published_recipe() -> None:
    method = INPFormer(Config())
    request = method.encoder()
    assert (request.name, request.blocks, request.input_size) == (BASE, tuple(range(2, 10)), 392)
    assert (request.position, method.clip_norm, method.revision) == ("dinov2", 0.1, "")
    assert INPFormer(Config(encoder=LARGE)).encoder().blocks == tuple(range(4, 20, 2))
    assert method.paper.rules() == {**Dinomaly.paper.rules(), "name": "paper:inp_former"}
    module = method.build(INFO)
    (group,) = method.optimizer(module).param_groups
    assert len(group["params"]) == len(list(module.parameters()))
    assert (group["betas"], group["eps"], group["weight_decay"], group["amsgrad"]) == ((0.9, 0.999), 1e-10, 1e-4, True)


# ---------------------------------------------------------------------------------------------------------- network
def test_features_are_patches_alone() -> None:
    features = INPFormer(Config(**TINY)).features(stored(), INFO)
    blocks = stored()
    assert list(features) == ["group0", "group1"]
    torch.testing.assert_close(features["group1"], sum(blocks[i] for i in range(4, 8))[:, PREFIX:] / 4)  # type: ignore[index]


@pytest.mark.parametrize("kind", ["plain", "relu", "softmax"])
def test_attention_against_loops(kind: str) -> None:
    torch.manual_seed(0)
    layer = (Reading(12, 3) if kind == "plain" else GuidedReading(12, 3, kind)).double()  # type: ignore[arg-type]
    if isinstance(layer, GuidedReading):
        nn.init.uniform_(layer.scale, 0.5, 2.0)
    x, others = seeded(2, 5, 12), seeded(2, 4, 12, seed=1)
    q = x @ layer.q.weight.T + layer.q.bias
    k, v = others @ layer.kv.weight[:12].T + layer.kv.bias[:12], others @ layer.kv.weight[12:].T + layer.kv.bias[12:]
    mixed = torch.zeros(2, 5, 12, dtype=torch.float64)
    for b in range(2):
        for head in range(3):
            span = slice(4 * head, 4 * head + 4)
            for s in range(5):
                products = torch.stack([(q[b, s, span] * k[b, t, span]).sum() for t in range(4)]) / 2
                if isinstance(layer, GuidedReading):
                    lengths = torch.stack([q[b, s, span].norm() * k[b, t, span].norm() for t in range(4)])
                    products = layer.scale[head, 0, 0] * 2 * products / lengths
                weights = products.clamp(min=0) if kind == "relu" else products.exp() / products.exp().sum()
                mixed[b, s, span] = sum(weights[t] * v[b, t, span] for t in range(4))
    torch.testing.assert_close(layer(x, others), mixed @ layer.proj.weight.T + layer.proj.bias)


@pytest.mark.parametrize("residual", [False, True])
@pytest.mark.parametrize("prototypes", [0, 3])
def test_forward_by_hand(residual: bool, prototypes: int) -> None:
    _, module = built(residual=residual, prototypes=prototypes)
    patches = seeded(2, 16, DIM, seed=3)

    def norm(x: Tensor, layer: Any) -> Tensor:
        centred = x - x.mean(-1, keepdim=True)
        return centred / (x.var(-1, keepdim=True, unbiased=False) + 1e-8).sqrt() * layer.weight + layer.bias

    def mlp(x: Tensor, layer: Any) -> Tensor:
        return nn.functional.gelu(x @ layer.fc1.weight.T + layer.fc1.bias) @ layer.fc2.weight.T + layer.fc2.bias

    keys = patches
    if prototypes:
        block: Any = module.extractor
        queries = torch.stack([module.prototypes, module.prototypes])  # type: ignore[list-item]
        queries = queries + block.attention(norm(queries, block.norm1), norm(patches, block.norm1))
        keys = queries + mlp(norm(queries, block.norm2), block.mlp)
    tokens, outputs = mlp(patches, module.bottleneck), []
    for layer in module.decoder:
        one: Any = layer
        read = one.attention(norm(tokens, one.norm1), norm(keys, one.norm1)) + (tokens if residual else 0)
        tokens = read + mlp(norm(read, one.norm2), one.mlp)
        outputs.append(tokens)
    rebuilt, found = module(patches)
    assert (found is None) == (prototypes == 0)
    if found is not None:
        torch.testing.assert_close(found, keys)
    for value, wanted in zip(rebuilt, (sum(outputs[4:]) / 4, sum(outputs[:4]) / 4), strict=True):
        torch.testing.assert_close(value, wanted.transpose(1, 2).reshape(2, DIM, 4, 4))  # type: ignore[union-attr]


def test_initial_values() -> None:
    torch.manual_seed(0)
    module = INPFormer(Config(prototypes=200)).build(INFO)
    assert module.prototypes is not None
    assert module.prototypes.std().item() == pytest.approx(1.0, abs=0.03), "drawn from N(0, 1), not truncated"
    for name, param in module.named_parameters():
        if name.endswith("scale") or ("norm" in name and name.endswith("weight")):
            assert (param == 1).all(), name
        elif name.endswith("bias"):
            assert not param.any(), name
        elif name != "prototypes":
            assert param.abs().max() <= 0.03 and param.std().item() == pytest.approx(0.0099, rel=0.1), name


# ----------------------------------------------------------------------------------------------------------- losses
def test_coherence_against_loops_and_its_gradient() -> None:
    patches, prototypes = seeded(2, 7, DIM), seeded(2, 3, DIM, seed=1).float().requires_grad_()
    total = 0.0
    for b in range(2):
        for patch in patches[b].float():
            total = total + min(1 - torch.cosine_similarity(patch, other, dim=0) for other in prototypes[b]) / 14  # type: ignore[assignment, type-var]
    found = coherence_loss(patches, prototypes)
    torch.testing.assert_close(found, total)
    mine, theirs = (torch.autograd.grad(value, prototypes)[0] for value in (found, total))  # type: ignore[arg-type]
    torch.testing.assert_close(mine, theirs)


def test_coherence_reaches_the_extractor_and_nothing_else() -> None:
    method, module = built()
    features = method.features(stored(), INFO)
    coherence_loss(method._fused(features), module(method._fused(features))[1]).backward()
    touched = {name.partition(".")[0] for name, param in module.named_parameters() if param.grad is not None}
    assert touched == {"prototypes", "extractor"}


@pytest.mark.parametrize(("power", "weight"), [(3.0, 0.2), (1.5, 0.0), (0.0, 1.0)])
def test_loss_and_gradients_against_loops(power: float, weight: float) -> None:
    method, module = built(soft_mining=power, coherence=weight)
    features = method.features(stored(), INFO)
    loss = method.loss(module, features, 0)
    found = torch.autograd.grad(loss, list(module.parameters()))
    pairs, prototypes = method._rebuilt(module, features)
    assert prototypes is not None
    terms, seeds = [], []
    for target, output in pairs:
        given, made = (maps.detach().permute(0, 2, 3, 1).reshape(48, DIM) for maps in (target, output))
        distance = torch.stack([1 - (p * q).sum() / (p.norm() * q.norm()) for p, q in zip(given, made, strict=True)])
        share = (distance / (distance.sum() / 48)) ** power
        flat = zip(target.flatten(1), output.flatten(1), strict=True)
        terms.append(torch.stack([1 - (p * q).sum() / (p.norm() * q.norm()) for p, q in flat]).mean())
        (gradient,) = torch.autograd.grad(terms[-1] / 2, output, retain_graph=True)
        seeds.append(gradient * share.reshape(3, 1, 4, 4))
    coherence = coherence_loss(method._fused(features), prototypes).double()
    torch.testing.assert_close(loss.double(), (terms[0] + terms[1]) / 2 + weight * coherence)
    wanted = torch.autograd.grad(
        [*(output for _, output in pairs), coherence],
        list(module.parameters()),
        [*seeds, torch.tensor(weight, dtype=torch.float64)],
    )
    for got, expected in zip(found, wanted, strict=True):
        torch.testing.assert_close(got, expected, rtol=1e-5, atol=1e-8)


def test_soft_mining_of_a_perfect_reconstruction_is_harmless() -> None:
    target = torch.ones(1, 4, 2, 2)
    output = torch.ones(1, 4, 2, 2, requires_grad=True)
    mine_softly(target, output, 3.0)
    output.sum().backward()
    assert output.grad is not None and torch.isfinite(output.grad).all()


@pytest.mark.parametrize("values", SWITCHES, ids=str)
def test_a_switch_trains_every_weight_and_does_something(values: dict[str, Any]) -> None:
    gradients = []
    for chosen in ({}, values):
        method, module = built(**chosen)
        method.loss(module, method.features(stored(), INFO), 0).backward()
        for name, param in module.named_parameters():
            assert param.grad is not None and param.grad.isfinite().all() and param.grad.any(), name
        gradients.append({name: param.grad for name, param in module.named_parameters()})
    before, after = gradients
    assert before.keys() != after.keys() or not all(
        before[name].shape == grad.shape and torch.allclose(before[name], grad)  # type: ignore[union-attr, arg-type]
        for name, grad in after.items()
    )


@pytest.mark.parametrize("values", [{}, *SWITCHES], ids=str)
def test_predictions_do_not_depend_on_the_batch(values: dict[str, Any]) -> None:
    method, module = built(**values)
    features = method.features(stored(), INFO)
    with torch.no_grad():
        whole = method.anomaly(module.eval(), features, INFO, 32)
        parts = [method.anomaly(module, {k: v[i : i + 1] for k, v in features.items()}, INFO, 32) for i in range(3)]
    torch.testing.assert_close(whole.scores, torch.cat([part.scores for part in parts]))
    torch.testing.assert_close(whole.maps, torch.cat([part.maps for part in parts if part.maps is not None]))


def test_a_weight_of_nothing_is_refused() -> None:
    with pytest.raises(UsageError, match=r"inp_former\.coherence = 0\.5 has no effect with prototypes 0"):
        INPFormer(Config(prototypes=0, coherence=0.5))


def test_training_lowers_the_loss_and_finds_a_foreign_patch(
    train: Callable[..., Any], highest: Callable[..., Any]
) -> None:
    method = INPFormer(Config(**TINY, steps=80, warmup=10, lr=5e-3))
    torch.manual_seed(0)
    module = method.build(INFO)
    basis = seeded(3, DIM, seed=9).float()

    def batch(seed: int) -> dict[str, Tensor]:
        mixed = seeded(8, 16, 3, seed=seed).float().softmax(-1) @ basis
        return {"group0": mixed + 0.5, "group1": mixed * 2 - 0.3}

    losses = train(method, module, batch)
    assert losses[-1] < 0.5 * losses[0]
    odd = batch(1000)
    for value in odd.values():
        value[0, 5] = seeded(DIM, seed=77).float() * 2
    image, row, column = highest(method, module, INFO, odd)
    assert image == 0 and 10 <= row < 20 and 10 <= column < 20


def test_autocast_trains() -> None:
    method, module = built()
    module.float()
    features = {name: value.float() for name, value in method.features(stored(), INFO).items()}
    with torch.autocast("cpu", dtype=torch.bfloat16):
        loss = method.loss(module, features, 0)
    loss.backward()
    assert loss.item() == pytest.approx(method.loss(module, features, 0).item(), rel=0.03)
    assert all(param.grad is not None and torch.isfinite(param.grad).all() for param in module.parameters())
