from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import timm
import torch
import torch.nn.functional as F
from golden_values import waves
from torch import Tensor, nn

from bench.api import Batch, EncoderInfo
from bench.config import configure
from bench.encoders import catalog, frozen
from bench.errors import UsageError
from bench.machine.progress import Silent
from bench.method import resolve
from bench.methods._vit import neighbour_mask
from bench.methods.uniad import Attention, Config, Layer, Reconstructor, UniAD, dropped
from bench.plan.cells import expand
from bench.plan.request import Request
from bench.run.complexity import complexity, training_cost
from bench.run.seeding import step_generator

CHANNELS = (2, 4, 6)
SMALL: dict[str, Any] = {"width": 16, "heads": 2, "hidden": 32, "encoder_depth": 2, "decoder_depth": 2}
STILL: dict[str, Any] = {"jitter": 0.0, "dropout": 0.0}


def info(side: int = 4, channels: tuple[int, ...] = CHANNELS) -> EncoderInfo:
    return EncoderInfo(
        *("cnn", "cnn", channels[-1], 5, 0, 16, 0, (side, side), 16 * side, (0.0,) * 3, (1.0,) * 3, channels)  # type: ignore[arg-type]
    )


def built(side: int = 4, **config: Any) -> tuple[UniAD, Reconstructor]:
    torch.manual_seed(0)
    method = UniAD(Config(**{**SMALL, "neighbour_mask": 3, **config}))
    return method, method.build(info(side))


def seeded(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def batch(joined: Tensor, step: int = 0) -> Batch:
    return Batch({"joined": joined}, random=partial(step_generator, 0, step, torch.device("cpu")))


# ------------------------------------------------------------------------------------------------ what is asked for
def test_default_request_is_the_authors_and_ader_has_its_own() -> None:
    request = UniAD(Config()).encoder()
    assert (request.name, request.blocks, request.input_size) == ("tf_efficientnet_b4.aa_in1k", (0, 1, 2, 3), 224)
    ader = Config(variant="ader")
    assert (ader.input_size, ader.neighbour_mask, ader.clip_norm, ader.decay_vectors) == (256, 8, 5.0, False)
    assert Config(variant="ader", neighbour_mask=5).neighbour_mask == 5
    assert (Config(batch_size=16).lr, Config(variant="ader", batch_size=16).lr) == (1e-4, 2e-4)
    assert (UniAD(Config()).clip_norm, UniAD(ader).clip_norm) == (0.1, 5.0)


def test_the_recipe_of_cifar_is_that_of_semantic_sets() -> None:
    for name in ("cifar10", "cifar100", "fmnist", "view"):
        config = configure(UniAD, name, {}, None)
        assert isinstance(config, Config)
        assert (config.batch_size, config.image_score, config.lr) == (16, "mean", 1e-4)
        method = UniAD(config)
        described = catalog.describe(config.encoder, 224, method.encoder().blocks)
        assert described.channels == (24, 32, 56, 160, 448)
        with torch.device("meta"):
            blocks = {n: torch.empty(1, c, 112 >> n, 112 >> n) for n, c in enumerate(described.channels)}
            assert method.features(blocks, described)["joined"].shape == (1, 720, 14, 14)
            assert method.build(described).grid == (14, 14)


@pytest.mark.parametrize(
    ("images", "values", "steps"),
    [
        (3629, {}, 454_000),  # MVTec-AD
        (8659, {}, 1_083_000),  # VisA
        (25_000, {"batch_size": 16}, 1_563_000),  # half of CIFAR-10
        (3629, {"variant": "ader"}, 45_300),
        (3629, {"variant": "ader", "epochs": 300}, 135_900),
        (8659, {"variant": "ader"}, 108_200),
        (36_465, {"variant": "ader"}, 455_800),  # Real-IAD
        (209, {"variant": "ader"}, 2_600),  # MVTec-AD's bottles
        (209, {"steps": 7}, 7),
        (3, {"variant": "ader"}, 100),
    ],
)
def test_length_of_training_follows_from_the_images(images: int, values: dict[str, Any], steps: int) -> None:
    assert UniAD(Config(**values)).steps(images) == steps


def test_each_variant_has_its_papers_protocol() -> None:
    official, ader = (resolve("paper", UniAD, "industrial", variant) for variant in ("official", "ader"))
    assert (official.eval_size, official.mask_rule, official.label_rule) == (224, "nearest", "mask")
    assert (ader.eval_size, ader.mask_rule, ader.label_rule) == (256, "ader", "mask")
    assert official.name == ader.name == "paper:uniad" and official.hash() != ader.hash()
    assert resolve("common", UniAD, "industrial", "ader").name == "common"


@pytest.mark.parametrize(("given", "rule"), [({}, "nearest"), ({"variant": "ader"}, "ader")])
def test_a_run_is_scored_by_its_variants_protocol(tree: Path, given: dict[str, Any], rule: str) -> None:
    asked = Request(("uniad",), ("folder",), protocol="paper", set={"uniad": given}, data_roots=(str(tree),))
    (cell,) = expand(asked, Silent(), fetch=False)
    assert cell.protocol.mask_rule == rule and cell.protocol.name == "paper:uniad"


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"encoder": "vit_small_patch16_224.dino"}, "needs a CNN.*2, 4, 8, 16.*is a ViT.*tf_efficientnet_b4.*vitad"),
        ({"encoder": "resnet18.tv_in1k", "strides": (2, 4, 64)}, "strides 2, 4, 64 .*'resnet18.tv_in1k' are 2, 4, 8"),
        ({"strides": ()}, "must each be that of another stage"),
        ({"strides": (4, 4)}, "must each be that of another stage"),
        ({"input_size": 232}, "multiple of 16, for example 224 or 240"),
        ({"grid_stride": 15}, "grid_stride 15 does not divide the input size 224"),
        ({"input_size": 96}, "neighbour_mask 7 hides the whole map of 6x6.*Expected 5 or less at input size 96"),
        ({"width": 20}, "width 20 does not split into 8 uniad.heads.*multiple of 16"),
    ],
)
def test_what_does_not_fit_is_refused_with_what_does(values: dict[str, Any], message: str) -> None:
    with pytest.raises(UsageError, match=message):
        UniAD(Config(**values)).encoder()


@pytest.mark.parametrize("side", range(2, 9))
def test_the_largest_mask_that_is_let_through_leaves_every_place_something_to_read(side: int) -> None:
    for number in range(1, 20):
        config = Config(encoder="mobilenetv2_100", input_size=16 * side, neighbour_mask=number)
        blind = not neighbour_mask(number, 0, (side, side)).any(dim=1).all()
        if blind:
            with pytest.raises(UsageError, match="hides the whole map"):
                UniAD(config).encoder()
        else:
            UniAD(config).encoder()


# ------------------------------------------------------------------------------------------------ size and cost
def test_parameters_and_macs() -> None:
    counted, ader = complexity(UniAD(Config())), complexity(UniAD(Config(variant="ader")))
    assert (counted.params_trainable, ader.params_trainable) == (7_717_392, 7_779_344)
    with torch.device("meta"):
        whole = timm.create_model("tf_efficientnet_b4", features_only=True)
    # both codes hold the encoder's last two stages too, which never count for anything
    idle = sum(param.numel() for param in whole.parameters())
    assert (idle + counted.params_trainable, idle + ader.params_trainable) == (24_459_608, 24_521_560)
    assert counted.params_total == 3_635_984 + 7_717_392
    assert counted.macs_with_products / 1e9 == pytest.approx(0.92 + 1.70, rel=0.01)
    assert ader.macs_with_products / 1e9 == pytest.approx(1.20 + 2.32, rel=0.01)


def test_parameters_by_part() -> None:
    def count(*parts: Any) -> int:
        return sum(param.numel() for part in parts for param in part.parameters())

    with torch.device("meta"):
        for variant, decoder in (("official", 1_103_616), ("ader", 1_118_976)):
            method = UniAD(Config(variant=variant))
            module = method.build(frozen.skeleton(method.encoder()).info)
            assert (count(module.enter), count(module.leave), count(module.norm)) == (69_888, 69_904, 512)
            assert [count(layer) for layer in module.encoder] == [789_760] * 4
            pairs = zip(module.decoder, module.queries, strict=True)
            assert [count(layer) + query.numel() for layer, query in pairs] == [decoder] * 4
    assert module.rows.numel() + module.columns.numel() == 2 * 16 * 128


def test_a_training_step_can_be_counted() -> None:
    cost = training_cost(UniAD(Config()))
    assert cost.trained == complexity(UniAD(Config())).macs_trainable
    assert cost.trained_with_products > cost.trained and cost.cached_over_uncached > 1.1


# ---------------------------------------------------------------------------------------------------- golden values
def fill(module: Reconstructor) -> None:
    """The authors' classes hold an attention's three input matrices as one, and so are they filled."""

    def values(param: Tensor, norm: bool = False) -> Tensor:
        k = torch.arange(param.numel(), dtype=torch.float64)
        if param.ndim > 1:
            return (0.1 * torch.sin(1.7 * k + 0.5)).reshape(param.shape)
        return 1.0 + 0.1 * torch.sin(k) if norm else 0.05 * torch.cos(k)

    norms = {id(layer.weight) for layer in module.modules() if isinstance(layer, nn.LayerNorm)}
    with torch.no_grad():
        for param in module.parameters():
            param.copy_(values(param, id(param) in norms))
        for layer in module.modules():
            if isinstance(layer, Attention):
                parts = (layer.query, layer.key, layer.value)
                for kind in ("weight", "bias"):
                    fused = torch.cat([getattr(part, kind) for part in parts])
                    for part, piece in zip(parts, values(fused).chunk(3), strict=True):
                        getattr(part, kind).copy_(piece)


def test_golden_values_of_the_authors_classes() -> None:
    method, module = built()
    assert sum(param.numel() for param in module.parameters()) == 12_156
    fill(module)
    joined = waves(2, 12, 4, 4)
    with torch.no_grad():
        given_back = module.eval()(joined)
        # the authors' map: times 16 / 4 here, where the grid is of 4 places
        maps = method.anomaly(module, batch(joined), info(), 16).maps
    assert maps is not None
    found = {
        "first": given_back[0, 0, 0, 0],
        "last": given_back[1, 11, 3, 3],
        "sum": given_back.double().sum(),
        "loss": F.mse_loss(given_back, joined),
        "corner": maps[0, 0, 0],
        "middle": maps[0, 8, 8],
        "highest": maps.max(),
    }
    printed = {"first": 1.017395, "last": -0.358005, "sum": -1.066392, "loss": 1.065221}
    printed |= {"corner": 2.645940, "middle": 3.985273, "highest": 4.471314}
    for name, value in printed.items():
        assert float(found[name]) == pytest.approx(value, abs=6e-6 if name == "sum" else 1.5e-6), name


@pytest.mark.parametrize(
    ("side", "given", "hidden", "corner", "middle"),
    [(14, 7, 7_396, 16, 49), (16, 8, 15_376, 25, 81), (14, 8, 11_236, 25, 81)],
)
def test_the_mask_hides_what_the_codes_hide(side: int, given: int, hidden: int, corner: int, middle: int) -> None:
    mask = UniAD(Config(neighbour_mask=given)).build(info(side)).mask
    assert mask is not None
    rows = (~mask).sum(dim=1)
    assert (int(rows.sum()), int(rows[0]), int(rows[side * side // 2 + side // 2])) == (hidden, corner, middle)


# ------------------------------------------------------------------------------------------------------------ network
def slow(module: Reconstructor, joined: Tensor, masked: tuple[str, ...], reach: int, layerwise: bool = True) -> Tensor:
    """The network written out place by place and head by head, without its forward methods."""
    _, channels, rows, columns = joined.shape
    places = [(row, column) for row in range(rows) for column in range(columns)]
    position = torch.stack([torch.cat([module.columns[column], module.rows[row]]) for row, column in places])

    def linear(layer: Any, x: Tensor) -> Tensor:
        return x @ layer.weight.T + layer.bias

    def norm(layer: Any, x: Tensor) -> Tensor:
        centred = x - x.mean(dim=-1, keepdim=True)
        return centred / (centred.square().mean(dim=-1, keepdim=True) + 1e-5).sqrt() * layer.weight + layer.bias

    def attended(layer: Any, query: Tensor, key: Tensor, value: Tensor, hides: bool) -> Tensor:
        q, k, v = linear(layer.query, query), linear(layer.key, key), linear(layer.value, value)
        out = torch.zeros_like(q)
        size = q.shape[-1] // layer.heads
        for head in range(layer.heads):
            part = slice(head * size, (head + 1) * size)
            for s, (row, column) in enumerate(places):
                read = [
                    t for t, (r, c) in enumerate(places) if not hides or abs(r - row) > reach or abs(c - column) > reach
                ]
                logits = torch.stack([q[s, part] @ k[t, part] / size**0.5 for t in read])
                weights = logits.exp() / logits.exp().sum()
                out[s, part] = sum(weight * v[t, part] for weight, t in zip(weights, read, strict=True))
        return linear(layer.out, out)

    def layered(layer: Any, x: Tensor, memories: list[Tensor | None], kinds: list[str]) -> Tensor:
        for number, (memory, kind) in enumerate(zip(memories, kinds, strict=True)):
            read = x if memory is None else memory
            more = attended(layer.attentions[number], x + position, read + position, read, kind in masked)
            x = norm(layer.norms[number], x + more)
        return norm(layer.norms[-1], x + linear(layer.reduce, linear(layer.expand, x).clamp(min=0)))

    found = []
    for image in joined:
        tokens = torch.stack([image[:, row, column] for row, column in places])
        memory = linear(module.enter, tokens)
        for layer in module.encoder:
            memory = layered(layer, memory, [None], ["encoder"])
        previous = memory
        for number, layer in enumerate(module.decoder):
            query = module.queries[number] if layerwise or not number else previous
            previous = layered(layer, query, [memory, previous], ["queries", "decoder"])
        found.append(linear(module.leave, norm(module.norm, previous)).T.reshape(channels, rows, columns))
    return torch.stack(found)


@pytest.mark.parametrize(
    "values",
    [
        {},
        {"masked": ("queries",)},
        {"masked": ("encoder", "decoder")},
        {"neighbour_mask": 0},
        {"neighbour_mask": 2},
        {"queries": "first"},
        {"encoder_depth": 0, "decoder_depth": 1},
    ],
)
def test_network_against_a_direct_computation(values: dict[str, Any]) -> None:
    method, module = built(**values)
    module = module.double().eval()
    for param in module.parameters():
        if param.ndim == 1:
            nn.init.normal_(param)
    joined = seeded(2, 12, 4, 4)
    config = method.config
    masked = config.masked if config.neighbour_mask else ()
    with torch.no_grad():
        wanted = slow(module, joined, masked, config.neighbour_mask // 2, config.queries == "layerwise")
        torch.testing.assert_close(module(joined), wanted, rtol=1e-9, atol=1e-9)


def test_an_encoder_layer_is_torchs_own() -> None:
    torch.manual_seed(0)
    config = Config(**SMALL)
    layer, torchs = Layer(config, 1).eval(), nn.TransformerEncoderLayer(16, 2, 32, 0.1, batch_first=True).eval()
    attention: Any = layer.attentions[0]
    with torch.no_grad():
        for kind in ("weight", "bias"):
            fused = torch.cat([getattr(part, kind) for part in (attention.query, attention.key, attention.value)])
            getattr(torchs.self_attn, f"in_proj_{kind}").copy_(fused)
            getattr(torchs.self_attn.out_proj, kind).copy_(getattr(attention.out, kind))
            getattr(torchs.linear1, kind).copy_(getattr(layer.expand, kind))
            getattr(torchs.linear2, kind).copy_(getattr(layer.reduce, kind))
        x, nowhere = torch.randn(3, 5, 16), torch.zeros(5, 16)
        torch.testing.assert_close(layer(x, [None], nowhere, [None], None), torchs(x), rtol=1e-5, atol=1e-5)


def test_features_are_the_stages_on_one_grid() -> None:
    blocks = {3: seeded(2, 6, 4, 4, seed=3), 0: seeded(2, 2, 32, 32), 2: seeded(2, 4, 8, 8, seed=2)}
    joined = UniAD(Config()).features(blocks, info())["joined"]
    assert joined.shape == (2, 12, 4, 4) and torch.equal(joined[:, 6:], blocks[3])
    # corners stay where they are
    for row, column in ((0, 0), (0, -1), (-1, 0), (-1, -1)):
        torch.testing.assert_close(joined[:, :2, row, column], blocks[0][:, :, row, column])
    # and between, places are read off the lines between pixels: of 32, place 1 of 4 is at 31 / 3
    at = 31 / 3 - 10
    square = blocks[0][:, :, 10:12, 10:12]
    rows = square[:, :, 0] * (1 - at) + square[:, :, 1] * at
    torch.testing.assert_close(joined[:, :2, 1, 1], rows[..., 0] * (1 - at) + rows[..., 1] * at)


# ------------------------------------------------------------------------------------------------------ what is drawn
def test_jitter_is_noise_by_length_over_width_and_leaves_the_target_alone() -> None:
    method, module = built(dropout=0.0)
    joined = seeded(2, 12, 4, 4).float()
    tokens = joined.flatten(2).transpose(1, 2)
    noise = torch.randn(2, 16, 12, generator=step_generator(0, 5, torch.device("cpu")))
    noisy = torch.stack(
        [
            torch.stack([t + e * (t.square().sum().sqrt() / 12) * 20 for t, e in zip(image, drawn, strict=True)])
            for image, drawn in zip(tokens, noise, strict=True)
        ]
    )
    with torch.no_grad():
        given_back = module(noisy.transpose(1, 2).reshape(2, 12, 4, 4))
        loss = method.loss(module.train(), batch(joined, 5), 5)
    assert float(loss) == pytest.approx(float((given_back - joined).square().mean()), rel=1e-5)


def test_dropout_keeps_the_mean_and_evaluation_has_none() -> None:
    x = torch.ones(100_000)
    kept = dropped(x, 0.1, torch.Generator().manual_seed(0))
    assert sorted(kept.unique().tolist()) == pytest.approx([0.0, 1 / 0.9])
    assert float(kept.mean()) == pytest.approx(1.0, abs=0.005)
    assert dropped(x, 0.1, None) is x and dropped(x, 0.0, torch.Generator()) is x


def test_dropout_acts_on_weights_hidden_layer_and_branches() -> None:
    """In the encoder's layer there are four of them, and a share of 1 - 1e-9 leaves nothing of any."""
    torch.manual_seed(0)
    layer = Layer(Config(**SMALL, dropout=1 - 1e-9), 1).double()
    x, position = seeded(2, 5, 16), torch.zeros(5, 16, dtype=torch.float64)
    with torch.no_grad():
        out = layer(x, [None], position, [None], torch.Generator().manual_seed(0))
        wanted = F.layer_norm(F.layer_norm(x, (16,)), (16,))
    torch.testing.assert_close(out, wanted, rtol=1e-4, atol=1e-4)
    random = torch.Generator().manual_seed(0)
    drawn = [torch.empty(2, 2, 5, 5), torch.empty(2, 5, 16), torch.empty(2, 5, 32), torch.empty(2, 5, 16)]
    for one in drawn:
        one.double().bernoulli_(0.5, generator=random)
    other = torch.Generator().manual_seed(0)
    layer(x, [None], position, [None], other)
    assert torch.equal(random.get_state(), other.get_state()), "draws for these four and nothing else"


def test_all_that_is_drawn_comes_from_the_steps_generator() -> None:
    method, module = built()
    joined = seeded(3, 12, 4, 4).float()
    before = torch.random.get_rng_state()
    losses = [method.loss(module.train(), batch(joined, step), step).item() for step in (0, 0, 1)]
    assert torch.equal(before, torch.random.get_rng_state())
    assert losses[0] == losses[1] != losses[2]


# ---------------------------------------------------------------------------------------------- loss, map and score
@pytest.mark.parametrize("kind", ["max", "mean", "std"])
def test_map_and_score_against_a_direct_computation(kind: str) -> None:
    method, module = built(image_score=kind, **({"score_pool": 5} if kind == "max" else {}))
    joined = seeded(3, 12, 4, 4)
    size = 13
    with torch.no_grad():
        given_back = module.double().eval()(joined)
        found = method.anomaly(module, batch(joined), info(), size)
    assert found.maps is not None and found.maps.dtype == torch.float32
    for b in range(3):
        grid = (given_back[b] - joined[b]).square().sum(0).sqrt()
        wanted = F.interpolate(grid[None, None], size=(size, size), mode="bilinear", align_corners=True)[0, 0]
        torch.testing.assert_close(found.maps[b].double(), wanted, rtol=1e-5, atol=1e-6)
        score = {
            "mean": wanted.mean(),
            "std": wanted.std(correction=0),
            "max": max(wanted[r : r + 5, c : c + 5].mean() for r in range(9) for c in range(9)),
        }[kind]
        assert found.scores[b].item() == pytest.approx(float(score), rel=1e-5)


@pytest.mark.parametrize("loss", ["mse", "l1", "cosine_point", "cosine_flat"])
def test_losses_against_a_direct_computation(loss: str) -> None:
    method, module = built(loss=loss, **STILL)
    joined = seeded(2, 12, 4, 4)
    with torch.no_grad():
        given_back = module.double()(joined)
        found = float(method.loss(module.train(), batch(joined), 0))

    def apart(a: Tensor, b: Tensor) -> float:
        return float(1 - (a @ b) / (a.norm() * b.norm()))

    pairs = list(zip(joined, given_back, strict=True))
    wanted = {
        "mse": float((joined - given_back).square().mean()),
        "l1": float((joined - given_back).abs().mean()),
        "cosine_flat": sum(apart(a.flatten(), b.flatten()) for a, b in pairs) / 2,
        "cosine_point": sum(apart(a[:, r, c], b[:, r, c]) for a, b in pairs for r in range(4) for c in range(4)) / 32,
    }[loss]
    assert found == pytest.approx(wanted, rel=1e-6)


# ------------------------------------------------------------------------------------------------------------ training
def test_initial_values() -> None:
    torch.manual_seed(0)
    module = UniAD(Config()).build(info(14, (24, 32, 56, 160)))
    for name, layer in module.named_modules():
        if isinstance(layer, nn.Linear):
            entering, leaving = layer.in_features, layer.out_features
            if name.rpartition(".")[2] in ("query", "key", "value"):
                leaving *= 3
            bound = (6 / (entering + leaving)) ** 0.5
            assert 0.99 * bound < layer.weight.abs().max().item() <= bound, name
            assert not layer.bias.any()
    for query in (query.detach() for query in module.queries):
        assert float(query.std()) == pytest.approx(1.0, abs=0.02) and abs(float(query.mean())) < 0.02
    for table in (module.rows.detach(), module.columns.detach()):
        assert table.shape == (14, 128) and 0 <= float(table.min()) < 0.01 and 0.99 < float(table.max()) < 1


def test_optimizer_and_schedule_are_the_published_ones() -> None:
    for variant, spared in (("official", 1e-4), ("ader", 0.0)):
        method, module = built(variant=variant)
        optimizer = method.optimizer(module)
        assert type(optimizer) is torch.optim.AdamW
        groups = optimizer.param_groups
        assert [(group["weight_decay"], group["betas"], group["eps"]) for group in groups] == [
            *((1e-4, (0.9, 0.999), 1e-8), (spared, (0.9, 0.999), 1e-8))
        ]
        assert all(param.ndim > 1 for param in groups[0]["params"])
        assert all(param.ndim == 1 for param in groups[1]["params"])
        assert sum(len(group["params"]) for group in groups) == len(list(module.parameters()))
    method = UniAD(Config()).settled(3629)
    assert [method.learning_rate(454 * epoch) for epoch in (0, 799, 800, 801, 999)] == pytest.approx(
        [1e-4, 1e-4, 1e-4, 1e-5, 1e-5]
    )
    assert method.learning_rate(454 * 801 - 1) == 1e-4
    method = UniAD(Config(variant="ader")).settled(3629)
    assert [method.learning_rate(453 * 80 + back) for back in (-1, 0)] == pytest.approx([1e-4, 1e-5])


def test_training_finds_a_foreign_patch(train: Callable[..., Any], highest: Callable[..., Any]) -> None:
    torch.manual_seed(0)
    method = UniAD(Config(**SMALL, neighbour_mask=3, steps=100, lr=3e-3, score_pool=8, jitter=2.0))
    module = method.build(info(8))
    pattern = seeded(1, 12, 8, 8).float()

    def given(step: int) -> Batch:
        noise = torch.Generator().manual_seed(step)
        return batch(pattern + 0.1 * torch.randn(8, 12, 8, 8, generator=noise), step)

    losses = train(method, module, given)
    assert losses[-1] < 0.5 * losses[0]
    odd = dict(given(1000))
    odd["joined"][0, :, 4:6, 2:4] = odd["joined"][0, :, 4:6, 2:4].flip(0)
    image, row, column = highest(method, module, info(8), odd)
    assert image == 0 and 20 <= row < 32 and 9 <= column < 21
