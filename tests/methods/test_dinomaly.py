from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import timm
import torch
from pydantic import ValidationError
from safetensors.torch import save_file
from torch import Tensor, nn

from bench.api import EncoderInfo
from bench.config import configure
from bench.encoders import frozen
from bench.errors import UsageError
from bench.methods import dinomaly
from bench.methods._maps import gaussian_5x5
from bench.methods._vit import LinearAttention, Mlp
from bench.methods.dinomaly import Config, Dinomaly, Reconstructor

GRID = (4, 4)
PREFIX = 5
DIM = 12


def info(grid: tuple[int, int] = GRID, input_size: int = 56, dim: int = DIM) -> EncoderInfo:
    return EncoderInfo("fake", "vit", dim, 12, 3, 14, PREFIX, grid, input_size, (0.0, 0.0, 0.0), (1.0, 1.0, 1.0))


def seeded(*shape: int, seed: int = 0, dtype: torch.dtype = torch.float64) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=dtype)


def built(**config: Any) -> tuple[Dinomaly, Reconstructor]:
    torch.manual_seed(0)
    method = Dinomaly(Config(**{"dropout": 0.0, "init_std": 0.3, **config}))
    module = method.build(info()).double()
    assert isinstance(module, Reconstructor)
    return method, module


def given(batch: int = 3, seed: int = 1) -> dict[str, Tensor]:
    return {f"group{g}": seeded(batch, PREFIX + 16, DIM, seed=seed + g) for g in range(2)}


# ------------------------------------------------------------------------------------------------ what is asked for
def test_default_request_is_the_papers() -> None:
    request = Dinomaly(Config()).encoder()
    assert request.name == "vit_base_patch14_reg4_dinov2.lvd142m"
    assert request.blocks == (2, 3, 4, 5, 6, 7, 8, 9)
    assert (request.input_size, request.position) == (392, "dinov2")


def test_large_encoder_and_other_patch_sizes() -> None:
    large = Dinomaly(Config(encoder="vit_large_patch14_reg4_dinov2.lvd142m")).encoder()
    assert large.blocks == (4, 6, 8, 10, 12, 14, 16, 18)
    dino = Dinomaly(Config(encoder="vit_base_patch16_224.dino")).encoder()
    assert (dino.input_size, dino.position) == (448, "dinov2")
    forced = Dinomaly(Config(encoder="vit_base_patch16_224.dino", position="timm", input_size=320)).encoder()
    assert (forced.input_size, forced.position) == (320, "timm")


@pytest.mark.parametrize(
    ("values", "revised"),
    [
        ({}, False),
        ({"attention": "softmax"}, False),
        ({"neighbour_mask": 3}, False),
        ({"encoder": "vit_tiny_patch8_128.bench"}, False),
        ({"encoder": "vit_base_patch16_224.dino", "position": "dinov2"}, False),
        ({"encoder": "vit_base_patch16_224.dino"}, True),
        ({"attention": "softmax", "neighbour_mask": 3}, True),
    ],
)
def test_what_was_computed_otherwise_before_is_another_cell(values: dict[str, Any], revised: bool) -> None:
    assert bool(Dinomaly(Config(**values)).revision) is revised


def test_odd_depth_asks_for_layers() -> None:
    with pytest.raises(UsageError, match=r"6 blocks.*--set dinomaly\.layers"):
        Dinomaly(Config(encoder="test_vit.r160_in1k")).encoder()
    chosen = Config(encoder="test_vit.r160_in1k", layers=(1, 2, 3, 4), groups=((0, 1), (2, 3)))
    assert Dinomaly(chosen).encoder().blocks == (1, 2, 3, 4)


def test_cnn_is_refused() -> None:
    with pytest.raises(UsageError, match="needs a ViT"):
        Dinomaly(Config(encoder="wide_resnet50_2.racm_in1k")).encoder()


@pytest.mark.parametrize(
    "values",
    [
        {"groups": ((0, 1, 2), (4, 5, 6, 7))},
        {"groups": ((0, 1, 2, 3), (3, 4, 5, 6, 7))},
        {"groups": ((0, 1, 2, 3, 4, 5, 6, 7),)},
        {"groups": ((), (0, 1, 2, 3, 4, 5, 6, 7))},
        {"decoder_groups": ((0, 1), (2, 8))},
    ],
)
def test_groups_that_cannot_be(values: dict[str, Any]) -> None:
    with pytest.raises(UsageError, match="groups"):
        Dinomaly(Config(**values)).encoder()


def test_config_refuses_and_documents() -> None:
    with pytest.raises(ValidationError, match="dropuot"):
        Config(dropuot=0.4)  # type: ignore[call-arg]
    for name, field in Config.model_fields.items():
        assert isinstance(field.json_schema_extra, dict), name
        assert field.json_schema_extra["source"] and field.description, name


def test_published_recipe() -> None:
    assert Dinomaly.paper.resize_for(392) == 448
    assert (Dinomaly.paper.eval_size, Dinomaly.paper.mask_rule) == (256, "dinomaly")
    assert "pixel/aupro@0.3:grid200" in Dinomaly.paper.metrics and len(Dinomaly.paper.metrics) == 7
    assert Dinomaly.overrides["realiad"] == {"dropout": 0.4, "steps": 50_000}
    assert Dinomaly(Config()).clip_norm == 0.1


@pytest.mark.parametrize(
    ("dataset", "setting", "wanted"),
    [
        ("mvtec", "multi", (10_000, 0.2, 1e-10)),
        ("visa", "few-shot", (10_000, 0.2, 1e-10)),
        ("realiad", "multi", (50_000, 0.4, 1e-10)),
        ("realiad", "few-shot", (50_000, 0.4, 1e-10)),
        ("realiad", "single", (5_000, 0.2, 1e-10)),
        ("mvtec", "single", (5_000, 0.2, 1e-8)),
        ("visa", "single", (5_000, 0.2, 1e-8)),
        ("mpdd", "single", (5_000, 0.2, 1e-8)),
        ("btad", "single", (5_000, 0.2, 1e-10)),
    ],
)
def test_the_papers_values_by_dataset_and_setting(dataset: str, setting: str, wanted: tuple[int, float, float]) -> None:
    config = configure(Dinomaly, dataset, {}, None, setting)
    assert isinstance(config, Config)
    assert (config.steps, config.dropout, config.eps) == wanted
    assert configure(Dinomaly, dataset, {"steps": 7}, None, setting).steps == 7


# ---------------------------------------------------------------------------------------------------- features
def test_features_are_group_means_with_every_token() -> None:
    blocks = {index: seeded(2, 21, DIM, seed=index) for index in range(2, 10)}
    features = Dinomaly(Config()).features(blocks, info())
    assert list(features) == ["group0", "group1"]
    torch.testing.assert_close(features["group0"], (blocks[2] + blocks[3] + blocks[4] + blocks[5]) / 4)
    torch.testing.assert_close(features["group1"], (blocks[6] + blocks[7] + blocks[8] + blocks[9]) / 4)


@pytest.mark.parametrize(
    "groups", [((0, 1, 2, 3), (4, 5, 6, 7)), ((0,), (1, 2, 3, 4, 5, 6, 7)), ((7, 0, 2), (1, 3, 4, 5, 6))]
)
def test_bottleneck_input_is_the_mean_of_all_blocks(groups: tuple[tuple[int, ...], ...]) -> None:
    blocks = {index: seeded(2, 21, DIM, seed=index) for index in range(2, 10)}
    method, module = built(groups=groups)
    entering: list[Tensor] = []
    module.bottleneck.register_forward_pre_hook(lambda _, inputs: entering.append(inputs[0]))
    method.loss(module, method.features(blocks, info()), 0)
    torch.testing.assert_close(entering[0], torch.stack(list(blocks.values())).mean(dim=0))


# ------------------------------------------------------------------------------------------------------ network
def test_linear_attention_against_loops() -> None:
    torch.manual_seed(0)
    layer = LinearAttention(DIM, heads=3).double()
    x = seeded(2, 7, DIM)
    qkv = nn.functional.linear(x, layer.qkv.weight, layer.qkv.bias)
    mixed = torch.zeros(2, 7, DIM, dtype=torch.float64)

    def phi(value: Tensor) -> Tensor:
        return torch.where(value > 0, value + 1, value.exp())

    for b in range(2):
        for head in range(3):
            span = slice(head * 4, head * 4 + 4)
            q, k, v = (qkv[b, :, part * DIM : (part + 1) * DIM][:, span] for part in range(3))
            for s in range(7):
                weights = [(phi(q[s]) * phi(k[t])).sum() for t in range(7)]
                mixed[b, s, span] = torch.stack([w * v[t] for t, w in enumerate(weights)]).sum(0) / sum(weights)
    expected = nn.functional.linear(mixed, layer.proj.weight, layer.proj.bias)
    torch.testing.assert_close(layer(x), expected)

    softened = LinearAttention(DIM, heads=3, eps=0.5).double()
    softened.load_state_dict(layer.state_dict())
    assert not torch.allclose(softened(x), expected)


def test_attention_epsilon_is_zero_and_layer_norm_epsilon_tiny() -> None:
    module = Dinomaly(Config()).build(info())
    assert {layer.eps for layer in module.modules() if isinstance(layer, LinearAttention)} == {0.0}
    assert {layer.eps for layer in module.modules() if isinstance(layer, nn.LayerNorm)} == {1e-8}


def test_dropout_stands_on_input_hidden_and_output() -> None:
    mlp = Mlp(3, 12, dropout=0.5).train()
    seen: list[Tensor] = []
    mlp.dropout.register_forward_hook(lambda _, inputs, output: seen.append(inputs[0]))
    x = torch.ones(4, 3)
    out = mlp(x)
    assert [tuple(value.shape) for value in seen] == [(4, 3), (4, 12), (4, 3)]
    assert torch.equal(seen[0], x)
    assert (seen[1] >= -0.17).all(), "the second one follows GELU, whose minimum is -0.17"
    assert ((out == 0) | (out == 2 * seen[2])).all() and (out == 0).any()


def test_dropout_is_only_in_the_bottleneck_and_only_in_training() -> None:
    method, module = built(dropout=0.5)
    assert [name for name, layer in module.named_modules() if isinstance(layer, nn.Dropout) and layer.p > 0] == [
        "bottleneck.dropout"
    ]
    features = given()
    module.train()
    assert method.loss(module, features, 0) != method.loss(module, features, 0)
    module.eval()
    assert method.loss(module, features, 0) == method.loss(module, features, 0)
    plain, without = built(dropout=0.0)
    without.load_state_dict(module.state_dict())
    assert plain.loss(without.train(), features, 0) == method.loss(module, features, 0)


def test_forward_by_hand_in_eval() -> None:
    _, module = built()
    x = seeded(2, PREFIX + 16, DIM)
    module.eval()
    hidden = nn.functional.gelu(x @ module.bottleneck.fc1.weight.T + module.bottleneck.fc1.bias)
    tokens = hidden @ module.bottleneck.fc2.weight.T + module.bottleneck.fc2.bias
    outputs = []
    for block in module.decoder:
        layer: Any = block
        normed = nn.functional.layer_norm(tokens, (DIM,), layer.norm1.weight, layer.norm1.bias, 1e-8)
        tokens = tokens + layer.attention(normed)
        normed = nn.functional.layer_norm(tokens, (DIM,), layer.norm2.weight, layer.norm2.bias, 1e-8)
        inner = nn.functional.gelu(normed @ layer.mlp.fc1.weight.T + layer.mlp.fc1.bias)
        tokens = tokens + inner @ layer.mlp.fc2.weight.T + layer.mlp.fc2.bias
        outputs.append(tokens)
    shallow = (outputs[7] + outputs[6] + outputs[5] + outputs[4]) / 4
    deep = (outputs[3] + outputs[2] + outputs[1] + outputs[0]) / 4
    found = module(x)
    for value, wanted in zip(found, (shallow, deep), strict=True):
        assert value.shape == (2, DIM, 4, 4)
        for row in range(4):
            for column in range(4):
                torch.testing.assert_close(value[:, :, row, column], wanted[:, PREFIX + 4 * row + column])


def test_prefix_tokens_reach_the_patches_through_the_decoder() -> None:
    _, module = built()
    module.eval()
    x = seeded(1, PREFIX + 16, DIM)
    changed = x.clone()
    changed[:, 0] += 3.0
    assert not torch.allclose(module(x)[0], module(changed)[0])


def test_last_decoder_blocks_face_the_shallow_group() -> None:
    method, module = built()
    shallow, deep = module.eval()(given()["group0"])
    shallow.sum().backward(retain_graph=True)
    last: Any = module.decoder[-1]
    assert last.mlp.fc2.weight.grad is not None
    module.zero_grad()
    deep.sum().backward()
    assert last.mlp.fc2.weight.grad is None
    fifth: Any = module.decoder[4]
    assert fifth.mlp.fc2.weight.grad is None
    fourth: Any = module.decoder[3]
    assert fourth.mlp.fc2.weight.grad is not None
    assert method.name == "dinomaly"


def test_initial_values() -> None:
    torch.manual_seed(0)
    module = Dinomaly(Config()).build(info(dim=192))
    weights = []
    for layer in module.modules():
        if isinstance(layer, nn.Linear):
            assert layer.bias is not None and not layer.bias.any()
            weights.append(layer.weight.detach().flatten())
        elif isinstance(layer, nn.LayerNorm):
            assert (layer.weight == 1).all() and not layer.bias.any()
    assert len(weights) == 2 + 8 * 4
    values = torch.cat(weights)
    assert values.abs().max() <= 0.03
    assert values.abs().max() > 0.0299, "cut at three standard deviations, not earlier"
    # a normal cut at 3 sigma keeps 0.98658 of its standard deviation
    assert values.std().item() == pytest.approx(0.01 * 0.98658, rel=2e-3)
    assert abs(values.mean().item()) < 3e-5


def test_build_follows_the_global_seed_and_works_on_meta() -> None:
    method = Dinomaly(Config())
    states = []
    for seed in (1, 1, 2):
        torch.manual_seed(seed)
        states.append(method.build(info()).state_dict())
    key = "decoder.3.attention.qkv.weight"
    assert torch.equal(states[0][key], states[1][key])
    assert not torch.equal(states[0][key], states[2][key])
    with torch.device("meta"):
        assert {param.device.type for param in method.build(info()).parameters()} == {"meta"}


# --------------------------------------------------------------------------------------------------------- loss
def naive(
    module: Reconstructor, features: dict[str, Tensor], share: float, factor: float
) -> tuple[float, list[Tensor]]:
    """Loss by loops, and gradients with the easy points' share of each group map shrunk by hand."""
    module.zero_grad()
    targets = [features["group0"], features["group1"]]
    maps = module((targets[0] + targets[1]) / 2)
    losses = []
    for target, output in zip(targets, maps, strict=True):
        batch = len(output)
        total = torch.zeros((), dtype=output.dtype)
        points: list[tuple[float, int, int, int]] = []
        expected = torch.stack([target[:, PREFIX + 4 * r + c] for r in range(4) for c in range(4)], dim=-1)
        expected = expected.reshape(batch, DIM, 4, 4)
        for b in range(batch):
            a, d = expected[b].reshape(-1), output[b].reshape(-1)
            total = total + 1 - (a * d).sum() / ((a * a).sum().sqrt() * (d * d).sum().sqrt())
            for r in range(4):
                for c in range(4):
                    p, q = expected[b, :, r, c], output[b, :, r, c].detach()
                    points.append((float(1 - (p * q).sum() / (p.norm() * q.norm())), b, r, c))
        losses.append(total / batch)
        points.sort(reverse=True)
        kept = max(1, int(len(points) * (1 - share)))
        weight = torch.full((batch, 1, 4, 4), factor, dtype=output.dtype)
        for distance, b, r, c in points:
            if distance >= points[kept - 1][0]:
                weight[b, 0, r, c] = 1.0
        output.register_hook(lambda gradient, weight=weight: gradient * weight)
    loss = (losses[0] + losses[1]) / 2
    loss.backward()
    return loss.item(), [param.grad.clone() for param in module.parameters() if param.grad is not None]


@pytest.mark.parametrize("step", [0, 1, 300, 1000, 9000])
@pytest.mark.parametrize("batch", [1, 3])
def test_loss_and_gradients_against_loops(step: int, batch: int) -> None:
    method, module = built()
    features = given(batch)
    share = min(0.9 * step / 1000, 0.9)
    wanted, gradients = naive(module, features, share, 0.1)
    module.zero_grad()
    loss = method.loss(module, features, step)
    loss.backward()
    assert loss.item() == pytest.approx(wanted, rel=1e-10)
    found = [param.grad for param in module.parameters() if param.grad is not None]
    assert len(found) == len(gradients) == len(list(module.parameters()))
    for got, expected in zip(found, gradients, strict=True):
        torch.testing.assert_close(got, expected, rtol=1e-8, atol=1e-14)


def test_hard_mining_changes_gradients_but_never_the_value() -> None:
    method, module = built()
    features = given()
    values, gradients = [], []
    for step in (0, 1000):
        module.zero_grad()
        loss = method.loss(module, features, step)
        loss.backward()
        values.append(loss.item())
        gradients.append(module.bottleneck.fc1.weight.grad)
    assert values[0] == values[1]
    assert gradients[0] is not None and gradients[1] is not None
    assert not torch.allclose(gradients[0], gradients[1])


def test_share_kept_at_the_published_size() -> None:
    target, output = seeded(16, 3, 28, 28, seed=1), seeded(16, 3, 28, 28, seed=2).requires_grad_()
    dinomaly._shrink_easy(target, output, 0.9, 0.1)
    output.sum().backward()
    assert output.grad is not None
    kept = output.grad[:, 0] == 1.0
    assert kept.sum().item() == 1254
    assert torch.equal(output.grad[:, 0], output.grad[:, 2])
    distance = 1 - torch.cosine_similarity(target, output.detach(), dim=1)
    assert distance[kept].min() > distance[~kept].max()
    torch.testing.assert_close(output.grad[:, 0][~kept].unique(), torch.tensor([0.1], dtype=torch.float64))


def test_points_at_the_threshold_keep_their_gradient_and_tiny_batches_work() -> None:
    target = torch.ones(1, 2, 1, 4)
    output = torch.ones(1, 2, 1, 4, requires_grad=True)
    dinomaly._shrink_easy(target, output, 0.9, 0.1)
    output.sum().backward()
    assert output.grad is not None and (output.grad == 1).all()


def test_autocast_trains() -> None:
    method, module = built()
    module.float()
    features = {key: value.float() for key, value in given().items()}
    with torch.autocast("cpu", dtype=torch.bfloat16):
        loss = method.loss(module, features, 1000)
    loss.backward()
    exact = method.loss(module, features, 1000)
    assert loss.item() == pytest.approx(exact.item(), rel=0.02)
    assert all(param.grad is not None and torch.isfinite(param.grad).all() for param in module.parameters())


def test_targets_get_no_gradient() -> None:
    method, module = built()
    nn.init.zeros_(module.bottleneck.fc1.weight)  # the output no longer depends on the features
    nn.init.ones_(module.bottleneck.fc1.bias)
    features = {key: value.requires_grad_() for key, value in given().items()}
    method.loss(module, features, 1000).backward()
    for value in features.values():
        assert value.grad is None or not value.grad.any()


# ------------------------------------------------------------------------------------------------- score, schedule
def bilinear(source: list[list[float]], size: int, align_corners: bool) -> list[list[float]]:
    native = len(source)

    def place(i: int) -> tuple[int, int, float]:
        where = i * (native - 1) / (size - 1) if align_corners else max((i + 0.5) * native / size - 0.5, 0.0)
        low = min(int(where), native - 1)
        return low, min(low + 1, native - 1), where - low

    out = []
    for y in range(size):
        y0, y1, fy = place(y)
        row = []
        for x in range(size):
            x0, x1, fx = place(x)
            top = source[y0][x0] * (1 - fx) + source[y0][x1] * fx
            bottom = source[y1][x0] * (1 - fx) + source[y1][x1] * fx
            row.append(top * (1 - fy) + bottom * fy)
        out.append(row)
    return out


def test_map_and_score_against_a_direct_computation() -> None:
    method, module = built()
    module.eval()
    features = given(batch=2)
    size = 40
    found = method.anomaly(module, features, info(), size)
    maps = module((features["group0"] + features["group1"]) / 2)
    kernel = [[math.exp(-(y * y + x * x) / 32) for x in range(-2, 3)] for y in range(-2, 3)]
    total = sum(map(sum, kernel))
    assert found.maps is not None and found.maps.shape == (2, size, size)
    assert found.maps.dtype == found.scores.dtype == torch.float32
    for b in range(2):
        grids = []
        for g in range(2):
            target = features[f"group{g}"][b, PREFIX:]
            output = maps[g][b].detach()
            grid = [[0.0] * 4 for _ in range(4)]
            for r in range(4):
                for c in range(4):
                    p, q = target[4 * r + c], output[:, r, c]
                    grid[r][c] = float(1 - (p * q).sum() / (p.norm() * q.norm()))
            grids.append(bilinear(grid, 56, align_corners=True))
        mean = [[(a + d) / 2 for a, d in zip(*rows, strict=True)] for rows in zip(*grids, strict=True)]
        small = bilinear(mean, size, align_corners=False)
        smooth = torch.zeros(size, size)
        for y in range(size):
            for x in range(size):
                smooth[y, x] = sum(
                    kernel[dy + 2][dx + 2] / total * small[y + dy][x + dx]
                    for dy in range(-2, 3)
                    for dx in range(-2, 3)
                    if 0 <= y + dy < size and 0 <= x + dx < size
                )
        torch.testing.assert_close(found.maps[b], smooth, atol=1e-6, rtol=1e-5)
        top = sorted(smooth.flatten().tolist(), reverse=True)[: int(size * size * 0.01)]
        assert len(top) == 16
        assert found.scores[b].item() == pytest.approx(sum(top) / 16, rel=1e-5)


def test_score_takes_655_of_the_published_pixels() -> None:
    method, module = built()
    found = method.anomaly(module.eval(), given(1), info(), 256)
    assert found.maps is not None
    ranked = found.maps.flatten().sort(descending=True).values
    assert found.scores.item() == pytest.approx(ranked[:655].mean().item(), rel=1e-6)
    assert ranked[654] > ranked[655], "otherwise the count would not show"


def test_border_is_dimmed_by_zero_padding() -> None:
    smooth = gaussian_5x5(torch.ones(1, 1, 9, 9), 4.0)[0, 0]
    torch.testing.assert_close(smooth[4, 4], torch.tensor(1.0))
    assert smooth[0, 0] < 0.45 < smooth[0, 4] < 0.7


def test_every_schedule_value() -> None:
    method = Dinomaly(Config())
    rates = [method.learning_rate(step) for step in range(10_000)]
    warm = torch.linspace(0, 2e-3, 100, dtype=torch.float64).tolist()
    cosine = [2e-4 + 0.5 * (2e-3 - 2e-4) * (1 + math.cos(math.pi * i / 9900)) for i in range(9900)]
    assert rates == pytest.approx(warm + cosine, rel=1e-12, abs=1e-18)
    assert rates[0] == 0.0
    assert rates[99] == rates[100] == 2e-3
    assert rates[-1] == pytest.approx(2e-4, rel=1e-5)


@pytest.mark.parametrize(("steps", "warmup"), [(50, 100), (1, 0), (1, 1), (2, 1), (100, 100)])
def test_short_schedules_stay_finite(steps: int, warmup: int) -> None:
    method = Dinomaly(Config(steps=steps, warmup=warmup))
    rates = [method.learning_rate(step) for step in range(steps)]
    assert all(0 <= rate <= 2e-3 for rate in rates)


def test_optimizer_is_the_published_one() -> None:
    method = Dinomaly(Config())
    module = method.build(info())
    (group,) = method.optimizer(module).param_groups
    assert type(method.optimizer(module)).__name__ == "StableAdamW"
    assert len(group["params"]) == len(list(module.parameters()))
    assert (group["betas"], group["eps"], group["weight_decay"]) == ((0.9, 0.999), 1e-10, 1e-4)
    assert group["amsgrad"] and group["clip"] == 1.0


def test_training_lowers_the_loss_and_finds_a_foreign_patch(
    train: Callable[..., Any], highest: Callable[..., Any]
) -> None:
    method = Dinomaly(Config(steps=60, warmup=10, dropout=0.1))
    torch.manual_seed(0)
    module = method.build(info())
    basis = seeded(3, DIM, seed=9, dtype=torch.float32)

    def batch(seed: int) -> dict[str, Tensor]:
        mixed = seeded(8, PREFIX + 16, 3, seed=seed, dtype=torch.float32).softmax(-1) @ basis
        return {"group0": mixed + 0.5, "group1": mixed * 2 - 0.3}

    losses = train(method, module, batch)
    assert losses[-1] < 0.3 * losses[0]
    odd = batch(1000)
    for value in odd.values():
        value[0, PREFIX + 5] = seeded(DIM, seed=77, dtype=torch.float32) * 2
    image, row, column = highest(method, module, info(), odd)
    assert image == 0 and 10 <= row < 20 and 10 <= column < 20


def test_from_images_to_scores_through_a_real_encoder(tmp_path: Path) -> None:
    torch.manual_seed(0)
    name = "test_vit3.r160_in1k"
    weights: Any = timm.create_model(name, num_classes=0).state_dict()
    save_file(weights, tmp_path / "file.safetensors")
    method = Dinomaly(Config(encoder=name, layers=(2, 3, 4, 5), groups=((0, 1), (2, 3)), input_size=96))
    encoder = frozen.build(method.encoder(), tmp_path / "file.safetensors")
    module = method.build(encoder.info)
    features = method.features(encoder(torch.randn(2, 3, 96, 96)), encoder.info)
    assert {key: tuple(value.shape) for key, value in features.items()} == {
        "group0": (2, 37, 96),
        "group1": (2, 37, 96),
    }
    method.loss(module, features, 5).backward()
    assert all(param.grad is not None for param in module.parameters())
    with torch.no_grad():
        found = method.anomaly(module.eval(), features, encoder.info, 256)
    assert found.maps is not None
    assert found.maps.shape == (2, 256, 256) and found.scores.shape == (2,)
    assert found.maps.isfinite().all()
