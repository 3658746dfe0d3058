from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from bench.api import EncoderInfo
from bench.config import configure
from bench.encoders import catalog, frozen
from bench.errors import UsageError
from bench.methods import dinomaly
from bench.methods._reconstruction import FeatureJitter, Reconstructor
from bench.methods._vit import Block, LayerScale, LinearAttention, SoftmaxAttention, neighbour_mask
from bench.methods.dinomaly import Config, Dinomaly
from bench.run.complexity import complexity

GRID = (4, 3)
PREFIX = 2
DIM = 12
TOKENS = PREFIX + GRID[0] * GRID[1]
INFO = EncoderInfo("fake", "vit", DIM, 12, 3, 14, PREFIX, GRID, 56, (0.0, 0.0, 0.0), (1.0, 1.0, 1.0))

SWITCHES: list[dict[str, Any]] = [
    {"dropout": 0.0},
    {"dropout": 0.5},
    {"jitter": 20.0, "dropout": 0.0},
    {"attention": "softmax"},
    {"neighbour_mask": 1},
    {"neighbour_mask": 3},
    {"attention": "softmax", "neighbour_mask": 3},
    {"constraint": "1-group"},
    {"constraint": "layer-to-layer"},
    {"constraint": "layer-to-layer-2"},
    {"constraint": "layer-to-layer-4"},
    {"hard_mining": 0.0},
]


def seeded(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def stored(batch: int = 3) -> dict[int, Tensor]:
    return {index: seeded(batch, TOKENS, DIM, seed=index) for index in range(2, 10)}


def built(**values: Any) -> tuple[Dinomaly, Reconstructor]:
    torch.manual_seed(0)
    method = Dinomaly(Config(**{"dropout": 0.0, "init_std": 0.3, **values}))
    module = method.build(INFO).double()
    assert isinstance(module, Reconstructor)
    return method, module


def patches(tokens: Tensor) -> Tensor:
    return tokens[:, PREFIX:].transpose(1, 2).reshape(len(tokens), DIM, *GRID)


# ------------------------------------------------------------------------------------------- every switch, by itself
@pytest.mark.parametrize("values", SWITCHES, ids=str)
def test_a_switch_changes_no_weight_and_nothing_that_is_asked_of_the_encoder(values: dict[str, Any]) -> None:
    default, switched = Dinomaly(Config()), Dinomaly(Config(**values))
    assert switched.encoder() == default.encoder()
    states = []
    for method in (default, switched):
        torch.manual_seed(3)
        states.append(method.build(INFO).state_dict())
    assert states[0].keys() == states[1].keys()
    for name, tensor in states[0].items():
        assert torch.equal(tensor, states[1][name]), name


@pytest.mark.parametrize("values", SWITCHES, ids=str)
def test_a_switch_trains_every_weight_and_does_something(values: dict[str, Any]) -> None:
    """Weights that are trained, and a gradient at full hard mining that differs from the default's."""
    gradients = []
    for chosen in ({"dropout": 0.2}, {"dropout": 0.2, **values}):
        method, module = built(**chosen)
        module.train()
        torch.manual_seed(7)
        method.loss(module, method.features(stored(), INFO), step=1000).backward()
        for name, param in module.named_parameters():
            assert param.grad is not None and param.grad.isfinite().all() and param.grad.any(), name
        gradients.append(module.bottleneck.fc1.weight.grad)
    assert gradients[0] is not None and gradients[1] is not None
    assert not torch.allclose(gradients[0], gradients[1])


@pytest.mark.parametrize("values", SWITCHES, ids=str)
def test_predictions_do_not_depend_on_the_batch(values: dict[str, Any]) -> None:
    method, module = built(**values)
    module.float().eval()
    features = {name: value.float() for name, value in method.features(stored(), INFO).items()}
    with torch.no_grad():
        whole = method.anomaly(module, features, INFO, 32)
        parts = [
            method.anomaly(module, {k: v[i : i + 1] for k, v in features.items()}, INFO, 32)
            for i in range(len(whole.scores))
        ]
    torch.testing.assert_close(whole.scores, torch.cat([part.scores for part in parts]), rtol=0, atol=1e-5)
    assert whole.maps is not None
    maps = torch.cat([part.maps for part in parts if part.maps is not None])
    torch.testing.assert_close(whole.maps, maps, rtol=0, atol=1e-5)


# ------------------------------------------------------------------------------------------------------- attention
def allowed(side: int) -> list[list[bool]]:
    """Which key (column) a query (row) reads, by loops over both."""
    rows, columns = GRID
    table = [[True] * TOKENS for _ in range(TOKENS)]
    for query in range(rows * columns):
        for key in range(rows * columns):
            down, right = query // columns - key // columns, query % columns - key % columns
            if max(abs(down), abs(right)) <= (side - 1) / 2:
                table[PREFIX + query][PREFIX + key] = False
    return table


@pytest.mark.parametrize("side", [1, 3, 5])
def test_neighbour_mask_against_loops(side: int) -> None:
    assert neighbour_mask(side, PREFIX, GRID).tolist() == allowed(side)


def test_what_a_masked_softmax_may_read_gets_no_more_than_without_the_mask() -> None:
    """UniAD's own masking would share the hidden weights out again."""
    torch.manual_seed(0)
    masked = SoftmaxAttention(DIM, 3, neighbour_mask(3, PREFIX, GRID)).double()
    plain = SoftmaxAttention(DIM, 3).double()
    plain.load_state_dict(masked.state_dict())
    with torch.no_grad():
        for layer in (masked, plain):
            # every value is 1, so that a mixed token is the sum of the weights that it is made with
            layer.qkv.weight[2 * DIM :] = 0.0
            layer.qkv.bias[2 * DIM :] = 1.0
            layer.proj.weight.copy_(torch.eye(DIM))
            layer.proj.bias.zero_()
        x = seeded(2, TOKENS, DIM)
        torch.testing.assert_close(plain(x), torch.ones_like(x))
        sums = masked(x)
    torch.testing.assert_close(sums[:, :PREFIX], torch.ones_like(sums[:, :PREFIX]))
    assert (sums[:, PREFIX:] < 0.95).all() and (sums > 0).all()


def test_mask_of_one_hides_the_patch_itself_and_nothing_else() -> None:
    hidden = ~neighbour_mask(1, PREFIX, GRID)
    assert hidden.nonzero().tolist() == [[token, token] for token in range(PREFIX, TOKENS)]


@pytest.mark.parametrize("side", [None, 1, 3])
@pytest.mark.parametrize("kind", ["linear", "softmax"])
def test_attention_against_loops(kind: str, side: int | None) -> None:
    torch.manual_seed(0)
    mask = None if side is None else neighbour_mask(side, PREFIX, GRID)
    layer = (LinearAttention(DIM, 3, mask=mask) if kind == "linear" else SoftmaxAttention(DIM, 3, mask)).double()
    x = seeded(2, TOKENS, DIM)
    reads = [[True] * TOKENS for _ in range(TOKENS)] if side is None else allowed(side)

    def phi(value: Tensor) -> Tensor:
        return torch.where(value > 0, value + 1, value.exp())

    qkv = (x @ layer.qkv.weight.T + layer.qkv.bias).detach()
    mixed = torch.zeros(2, TOKENS, DIM, dtype=torch.float64)
    for b in range(2):
        for head in range(3):
            q, k, v = (qkv[b, :, part * DIM + head * 4 : part * DIM + head * 4 + 4] for part in range(3))
            for s in range(TOKENS):
                keys = [t for t in range(TOKENS) if reads[s][t]]
                if kind == "linear":
                    weights = [float((phi(q[s]) * phi(k[t])).sum()) for t in range(TOKENS)]
                    total = sum(weights[t] for t in keys)
                else:
                    # hidden keys take their share of the softmax before it is dropped, as in the official code
                    weights = [math.exp(float((q[s] * k[t]).sum()) / 2) for t in range(TOKENS)]
                    total = sum(weights)
                mixed[b, s, head * 4 : head * 4 + 4] = sum(
                    (weights[t] / total * v[t] for t in keys), torch.zeros(4, dtype=torch.float64)
                )
    torch.testing.assert_close(layer(x), mixed @ layer.proj.weight.T + layer.proj.bias)
    assert set(layer.state_dict()) == {"qkv.weight", "qkv.bias", "proj.weight", "proj.bias"}


@pytest.mark.parametrize("side", [1, 3, 5])
def test_every_decoder_block_gets_the_attention_asked_for(side: int) -> None:
    _, module = built(attention="softmax", neighbour_mask=side)
    layers = [layer for layer in module.modules() if isinstance(layer, SoftmaxAttention)]
    assert len(layers) == 8 and not any(isinstance(layer, LinearAttention) for layer in module.modules())
    for layer in layers:
        assert layer.mask is not None and layer.mask.tolist() == allowed(side)


def test_hidden_widths_follow_the_ratio_in_bottleneck_and_decoder() -> None:
    _, module = built(mlp_ratio=2.5)
    blocks: list[Any] = list(module.decoder)
    assert {mlp.fc1.weight.shape for mlp in (module.bottleneck, *(block.mlp for block in blocks))} == {(30, DIM)}


def test_softmax_decoder_by_hand() -> None:
    _, module = built(attention="softmax")
    fused = seeded(2, TOKENS, DIM)
    tokens = module.bottleneck(fused)
    outputs = []
    for block in module.decoder:
        layer: Any = block
        q, k, v = layer.attention.qkv(layer.norm1(tokens)).chunk(3, dim=-1)
        heads = []
        for head in range(3):
            span = slice(head * 4, head * 4 + 4)
            heads.append((q[..., span] @ k[..., span].transpose(1, 2) / 2).softmax(-1) @ v[..., span])
        tokens = tokens + layer.attention.proj(torch.cat(heads, dim=-1))
        tokens = tokens + layer.mlp(layer.norm2(tokens))
        outputs.append(tokens)
    shallow, deep = module.eval()(fused)
    torch.testing.assert_close(shallow, patches(sum(outputs[4:]) / 4))  # type: ignore[arg-type]
    torch.testing.assert_close(deep, patches(sum(outputs[:4]) / 4))  # type: ignore[arg-type]


@pytest.mark.parametrize("mask", [2, 4])
def test_even_masks_are_refused(mask: int) -> None:
    with pytest.raises(UsageError, match=f"neighbour_mask {mask} has no middle.*{mask - 1} or {mask + 1}"):
        Dinomaly(Config(neighbour_mask=mask))


def test_a_mask_that_hides_everything_is_refused() -> None:
    bare = {"encoder": "vit_base_patch16_siglip_224.webli", "input_size": 64}
    assert catalog.describe("vit_base_patch16_siglip_224.webli").prefix == 0
    assert Dinomaly(Config(**bare, neighbour_mask=3)).encoder().input_size == 64
    with pytest.raises(UsageError, match="hides all 4x4 patches"):
        Dinomaly(Config(**bare, neighbour_mask=5)).encoder()
    # class and register tokens stay readable, so that nothing is empty
    assert Dinomaly(Config(input_size=56, neighbour_mask=99)).encoder().input_size == 56


# ----------------------------------------------------------------------------------------------------------- noise
def test_jitter_is_gaussian_with_the_stated_spread() -> None:
    layer = FeatureJitter(20.0).train()
    x = torch.cat([torch.full((1, 1, 10_000), 3.0), torch.full((1, 1, 10_000), 0.5)], dim=1)
    torch.manual_seed(0)
    noise = layer(x) - x
    for token, level in enumerate((3.0, 0.5)):
        spread = 20.0 * (level * math.sqrt(10_000)) / 10_000
        assert noise[0, token].std().item() == pytest.approx(spread, rel=0.03)
        assert abs(noise[0, token].mean().item()) < 0.05 * spread
    torch.manual_seed(0)
    torch.testing.assert_close(noise[0, 1], torch.randn(1, 2, 10_000)[0, 1] * 0.1, rtol=1e-4, atol=1e-6)


def test_jitter_acts_in_training_only_and_draws_nothing_when_off() -> None:
    x = seeded(1, 4, DIM)
    assert torch.equal(FeatureJitter(20.0).eval()(x), x)
    state = torch.get_rng_state()
    assert torch.equal(FeatureJitter(0.0).train()(x), x)
    assert torch.equal(torch.get_rng_state(), state)


def test_jitter_stands_before_the_bottleneck() -> None:
    _, module = built(jitter=5.0)
    module.train()
    entering: list[Tensor] = []
    module.bottleneck.register_forward_pre_hook(lambda _, inputs: entering.append(inputs[0]))
    fused = seeded(2, TOKENS, DIM)
    torch.manual_seed(4)
    module(fused)
    torch.manual_seed(4)
    spread = 5.0 * fused.square().sum(-1, keepdim=True).sqrt() / DIM
    torch.testing.assert_close(entering[0], fused + spread * torch.randn_like(fused))


# ------------------------------------------------------------------------------------------------------ constraint
PAIRED: dict[str, tuple[list[list[int]], list[list[int]]]] = {
    # encoder blocks and, for each of these sets, the decoder blocks that rebuild their mean; both count from 0
    "groups": ([[2, 3, 4, 5], [6, 7, 8, 9]], [[7, 6, 5, 4], [3, 2, 1, 0]]),
    "1-group": ([list(range(2, 10))], [list(range(8))]),
    "layer-to-layer": ([[2], [3], [4], [5], [6], [7], [8], [9]], [[7], [6], [5], [4], [3], [2], [1], [0]]),
    "layer-to-layer-2": ([[2], [4], [6], [8]], [[7], [5], [3], [1]]),
    "layer-to-layer-4": ([[2], [6]], [[7], [3]]),
}


@pytest.mark.parametrize("constraint", PAIRED)
def test_constraint_against_a_direct_computation(constraint: str) -> None:
    method, module = built(constraint=constraint, hard_mining=0.0)
    blocks = stored()
    tokens = module.bottleneck(torch.stack(list(blocks.values())).mean(dim=0))
    outputs = []
    for block in module.decoder:
        tokens = block(tokens)
        outputs.append(tokens)
    terms, distances = [], []
    for ours, theirs in zip(*PAIRED[constraint], strict=True):
        target = torch.stack([blocks[index] for index in ours]).mean(dim=0)[:, PREFIX:]
        output = torch.stack([outputs[index] for index in theirs]).mean(dim=0)[:, PREFIX:]
        flat = (target * output).sum((1, 2)) / (target.norm(dim=(1, 2)) * output.norm(dim=(1, 2)))
        terms.append((1 - flat).mean())
        distances.append(1 - (target * output).sum(-1) / (target.norm(dim=-1) * output.norm(dim=-1)))
    features = method.features(blocks, INFO)
    torch.testing.assert_close(method.loss(module, features, 0), torch.stack(terms).mean())

    with torch.no_grad():
        found = method.anomaly(module.eval(), features, INFO, 56)
    mean = torch.stack(distances).mean(dim=0).reshape(-1, 1, *GRID)
    size = {"size": (56, 56), "mode": "bilinear"}
    wide = nn.functional.interpolate(mean, **size, align_corners=True)  # type: ignore[arg-type]
    assert found.maps is not None
    kernel = torch.tensor([[math.exp(-(y * y + x * x) / 32) for x in range(-2, 3)] for y in range(-2, 3)]).double()
    smooth = nn.functional.conv2d(wide, (kernel / kernel.sum())[None, None], padding=2).squeeze(1)
    torch.testing.assert_close(found.maps, smooth.float(), rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("constraint", PAIRED)
def test_only_what_is_needed_is_kept(constraint: str) -> None:
    features = Dinomaly(Config(constraint=constraint)).features(stored(), INFO)
    groups = [f"group{number}" for number in range(len(PAIRED[constraint][0]))]
    # where targets leave layers out, the bottleneck's input cannot be had from them
    assert list(features) == (groups if "-2" not in constraint and "-4" not in constraint else [*groups, "fused"])


def test_constraints_follow_the_layers_that_are_set() -> None:
    method = Dinomaly(Config(layers=(1, 4, 5), constraint="1-group", decoder_depth=2))
    assert (method.groups, method.decoder_groups) == (((0, 1, 2),), ((0, 1),))
    method = Dinomaly(Config(layers=(1, 4), constraint="layer-to-layer", decoder_depth=2))
    assert method.encoder().blocks == (1, 4)
    assert (method.groups, method.decoder_groups) == (((0,), (1,)), ((0,), (1,)))
    with pytest.raises(UsageError, match="decoder's 2 blocks"):
        Dinomaly(Config(constraint="layer-to-layer", decoder_depth=2))


# --------------------------------------------------------------------------------------------------- loose loss
@pytest.mark.parametrize("step", [0, 500, 5000])
def test_hard_mining_off_is_the_plain_cosine_loss(step: int) -> None:
    method, module = built(hard_mining=0.0)
    features = method.features(stored(), INFO)
    method.loss(module, features, step).backward()
    found = [param.grad.clone() for param in module.parameters() if param.grad is not None]
    module.zero_grad()
    terms = []
    for number, output in enumerate(module((features["group0"] + features["group1"]) / 2)):
        target = patches(features[f"group{number}"]).flatten(1)
        terms.append((1 - torch.cosine_similarity(target, output.flatten(1), dim=1)).mean())
    (sum(terms) / 2).backward()  # type: ignore[union-attr]
    for got, param in zip(found, module.parameters(), strict=True):
        torch.testing.assert_close(got, param.grad)


@pytest.mark.parametrize(("share", "steps"), [(0.5, 1000), (0.9, 400), (1.0, 10)])
def test_hard_mining_rises_to_its_share_and_stays(share: float, steps: int, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[tuple[float, float]] = []
    monkeypatch.setattr(dinomaly, "_shrink_easy", lambda target, output, *given: seen.append(given))
    method, module = built(hard_mining=share, hard_mining_steps=steps, hard_mining_factor=0.3)
    features = method.features(stored(), INFO)
    for step in (0, steps // 2, steps, 3 * steps):
        method.loss(module, features, step)
    assert seen[::2] == seen[1::2], "both groups alike"
    assert seen[::2] == [(pytest.approx(value), 0.3) for value in (0.0, share / 2, share, share)]


# ------------------------------------------------------------------------------------------- encoders, input sizes
@pytest.mark.parametrize(
    ("name", "size", "prefix", "position"),
    [
        ("vit_small_patch14_reg4_dinov2.lvd142m", 392, 5, "dinov2"),
        ("vit_base_patch14_dinov2.lvd142m", 392, 1, "dinov2"),
        ("deit_base_patch16_224.fb_in1k", 448, 1, "dinov2"),
        # not in the official code
        ("deit_base_distilled_patch16_224.fb_in1k", 448, 2, "timm"),
        ("vit_base_patch16_224.augreg_in21k", 448, 1, "timm"),
        ("vit_base_patch16_224.mae", 448, 1, "dinov2"),
        ("vit_base_patch16_224.dino", 448, 1, "dinov2"),
    ],
)
def test_the_papers_foundations(name: str, size: int, prefix: int, position: str) -> None:
    method = Dinomaly(Config(encoder=name))
    request = method.encoder()
    assert (request.input_size, request.position, request.blocks) == (size, position, tuple(range(2, 10)))
    assert method.paper.resize_for(size) == size * 8 // 7
    with torch.device("meta"):
        encoder = frozen.skeleton(request)
        features = method.features(encoder(torch.empty(1, 3, size, size)), encoder.info)
        found = method.anomaly(method.build(encoder.info).eval(), features, encoder.info, 256)
    assert features["group0"].shape == (1, prefix + 28 * 28, encoder.info.dim)
    assert found.maps is not None and found.maps.shape == (1, 256, 256)
    assert Dinomaly(Config(encoder=name, input_size=224)).encoder().input_size == 224


@pytest.mark.parametrize(("size", "resize", "giga"), [(448, 512, 136.4), (336, 384, 77.1), (280, 320, 53.7)])
def test_the_preprints_input_sizes(size: int, resize: int, giga: float) -> None:
    assert Dinomaly.paper.resize_for(size) == resize
    assert complexity(Dinomaly(Config(input_size=size))).macs / 1e9 == pytest.approx(giga, rel=5e-3)


@pytest.mark.parametrize("values", [{"attention": "softmax"}, {"constraint": "layer-to-layer"}, {"jitter": 20.0}])
def test_published_counts_hold_in_ablations(values: dict[str, Any]) -> None:
    counted = complexity(Dinomaly(Config(**values)))
    assert (counted.params_total, counted.params_trainable) == (148_008_960, 61_425_408)


# -------------------------------------------------------------------------------------------------- configuration
@pytest.mark.parametrize("values", SWITCHES, ids=str)
def test_every_switch_can_be_set_on_the_command_line(values: dict[str, Any]) -> None:
    config = configure(Dinomaly, "", values, None)
    assert {key: getattr(config, key) for key in values} == values


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("betas", (1.0, 0.999)),
        ("betas", (0.9, -0.1)),
        ("betas", (0.9,)),
        ("jitter", -1.0),
        ("neighbour_mask", -1),
        ("attention", "quadratic"),
        ("constraint", "2-group"),
    ],
)
def test_values_out_of_range_are_refused(key: str, value: Any) -> None:
    with pytest.raises(UsageError, match=f"dinomaly: {key}"):
        configure(Dinomaly, "", {key: value}, None)


# ---------------------------------------------------------------------------------------------------------- blocks
def test_layer_scale_in_a_block_by_hand() -> None:
    torch.manual_seed(0)
    block = Block(DIM, SoftmaxAttention(DIM, 3), mlp_ratio=2.0, norm_eps=1e-6, layer_scale=0.1).double()
    scales = [layer for layer in block.modules() if isinstance(layer, LayerScale)]
    assert [scale.factor.tolist() for scale in scales] == [pytest.approx([0.1] * DIM)] * 2
    with torch.no_grad():
        scales[0].factor.copy_(seeded(DIM, seed=1))
        scales[1].factor.copy_(seeded(DIM, seed=2))
    x = seeded(2, 5, DIM)
    middle = x + block.attention(block.norm1(x)) * seeded(DIM, seed=1)
    torch.testing.assert_close(block(x), middle + block.mlp(block.norm2(middle)) * seeded(DIM, seed=2))
    plain = Block(DIM, SoftmaxAttention(DIM, 3), mlp_ratio=2.0, norm_eps=1e-6)
    assert sum(p.numel() for p in block.parameters()) - sum(p.numel() for p in plain.parameters()) == 2 * DIM
