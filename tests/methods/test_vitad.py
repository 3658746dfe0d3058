from __future__ import annotations

import math
from collections.abc import Callable
from itertools import pairwise
from typing import Any

import pytest
import timm
import torch
from scipy.ndimage import gaussian_filter
from timm.scheduler.cosine_lr import CosineLRScheduler
from torch import Tensor, nn

from bench.api import EncoderInfo
from bench.config import configure
from bench.encoders import frozen
from bench.errors import UsageError
from bench.methods._losses import FeatureLoss, feature_loss
from bench.methods._vit import Block
from bench.methods.vitad import Config, TokenBottleneck, ViTAD, ViTADStudent
from bench.run.complexity import complexity

DIM, HEADS, PREFIX, GRID = 12, 3, 5, (4, 4)


def info(depth: int = 12) -> EncoderInfo:
    return EncoderInfo("fake", "vit", DIM, depth, HEADS, 16, PREFIX, GRID, 64, (0.0, 0.0, 0.0), (1.0, 1.0, 1.0))


def seeded(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def built(**config: Any) -> tuple[ViTAD, ViTADStudent]:
    torch.manual_seed(0)
    method = ViTAD(Config(**{"init_std": 0.3, **config}))
    module = method.build(info()).double()
    assert isinstance(module, ViTADStudent)
    return method, module


def given(method: ViTAD, batch: int = 3) -> dict[str, Tensor]:
    wanted = method.encoder().blocks
    return method.features({index: seeded(batch, PREFIX + 16, DIM, seed=index + 2) for index in wanted}, info())


# ------------------------------------------------------------------------------------------------ what is asked for
def test_default_request_is_the_papers() -> None:
    request = ViTAD(Config()).encoder()
    assert request.name == "vit_small_patch16_224.dino"
    assert request.blocks == (2, 5, 8, 11)
    assert (request.input_size, request.position) == (256, "timm")


@pytest.mark.parametrize("encoder", ["vit_small_patch16_224.augreg_in1k", "vit_small_patch16_224.dino"])
def test_pixels_are_normalised_by_imagenets_statistics_whatever_the_encoder(encoder: str) -> None:
    """The official configurations do; augreg's own mean and std are 0.5."""
    info = frozen.skeleton(ViTAD(Config(encoder=encoder)).encoder()).info
    assert (info.mean, info.std) == ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))


def test_an_encoders_own_statistics_can_be_asked_for() -> None:
    asked = ViTAD(Config(encoder="vit_small_patch16_224.augreg_in1k", statistics="encoder")).encoder()
    assert frozen.skeleton(asked).info.std == (0.5, 0.5, 0.5)


def test_other_depths_are_divided_likewise() -> None:
    large = ViTAD(Config(encoder="vit_large_patch16_224.augreg_in21k_ft_in1k"))
    assert large.encoder().blocks == (5, 11, 17, 23)
    assert large._decoder(24) == (6, 6, 6)
    fine = ViTAD(Config(encoder="vit_small_patch8_224.dino"))  # table I, patches of 8 pixels
    assert frozen.skeleton(fine.encoder()).info.grid == (32, 32)
    assert ViTAD(Config(encoder="vit_base_patch16_224.dino")).encoder().blocks == (2, 5, 8, 11)
    shallow = ViTAD(Config(encoder="test_vit.r160_in1k", input_size=160))
    assert shallow.encoder().blocks == (0, 2, 3, 5)
    assert shallow._decoder(6) == (2, 1, 2)
    assert shallow._decoder(9) == (3, 2, 2), "the decoder's first stage is as long as the encoder's last"


def test_targets_are_given_back_shallowest_first_in_whatever_order_they_are_named() -> None:
    method, module = built(targets=(8, 2, 5))
    assert module.targets == ("block2", "block5", "block8")
    plain, other = built()
    other.load_state_dict(module.state_dict())
    assert method.loss(module, given(method), 0) == plain.loss(other, given(plain), 0)


def test_a_cnn_is_refused_with_what_fits() -> None:
    with pytest.raises(UsageError, match=r"needs a plain ViT.*vit_small_patch16_224\.dino.*rd4ad"):
        ViTAD(Config(encoder="wide_resnet50_2.racm_in1k")).encoder()


def test_patches_must_divide_the_input() -> None:
    method = ViTAD(Config(input_size=250))
    with pytest.raises(UsageError, match="multiple of 16, for example 240 or 256"):
        frozen.skeleton(method.encoder())


@pytest.mark.parametrize(
    "values",
    [
        {"targets": (2, 5)},
        {"decoder": (3, 3)},
        {"decoder": (3, 0, 3)},
        {"targets": (), "decoder": ()},
        {"fused": ()},
        {"fused": (8, 11), "fuser": "none"},
        {"fused": (8, 11), "fuser": "vit"},
        {"fuser": "conv", "class_token": True},
    ],
)
def test_settings_that_do_not_fit_together(values: dict[str, Any]) -> None:
    with pytest.raises(UsageError, match=r"vitad\.(decoder|fuser)"):
        ViTAD(Config(**values)).encoder()


def test_published_recipe() -> None:
    assert (Config().epochs, Config().steps) == (100, None)
    assert (ViTAD.paper.crop, ViTAD.paper.eval_size, ViTAD.paper.mask_rule) == (1.0, 256, "ader")
    assert ViTAD.paper.label_rule == "mask"
    assert {"pixel/f1max:grid21", "pixel/aupro@0.3:grid100"} < set(ViTAD.paper.metrics)
    assert ViTAD(Config()).clip_norm == 5.0


@pytest.mark.parametrize(
    ("images", "values", "steps"),
    [
        (3629, {}, 45_300),  # MVTec-AD
        (8659, {}, 108_200),  # VisA
        (36_465, {}, 455_800),  # Real-IAD
        (209, {}, 2_600),  # MVTec-AD's bottles
        (209, {"epochs": 50}, 1_300),
        (209, {"batch_size": 16}, 1_300),
        (209, {"steps": 7}, 7),
        (209, {"steps": 0}, 0),
        (31, {}, 300),
        (5, {}, 100),
    ],
)
def test_length_of_training_follows_from_the_images(images: int, values: dict[str, Any], steps: int) -> None:
    method = ViTAD(Config(**values))
    assert method.steps(images) == steps
    assert method.settled(images).config.steps == steps and method.config.steps == values.get("steps")


def test_steps_and_epochs_together_are_refused() -> None:
    with pytest.raises(UsageError, match="steps 7 and epochs 50 are both given"):
        configure(ViTAD, "mvtec", {"steps": 7, "epochs": 50}, None)


def test_the_learning_rate_grows_with_the_batch_unless_given() -> None:
    assert [Config(batch_size=batch).lr for batch in (8, 16, 2)] == [1e-4, 2e-4, 2.5e-5]
    assert Config(batch_size=16, lr=1e-3).lr == 1e-3


# ------------------------------------------------------------------------------------------------ size and cost
def test_parameters_and_macs_as_published() -> None:
    counted = complexity(ViTAD(Config()))
    assert counted.params_trainable == 16_216_320
    # the official decoder is a whole timm ViT, of which patch embedding, class token, norm and head never run
    with torch.device("meta"):
        decoder: Any = timm.create_model("vit_small_patch16_224", num_classes=1000, img_size=256)
    unused = [decoder.patch_embed, decoder.norm, decoder.head]
    idle = sum(param.numel() for part in unused for param in part.parameters()) + decoder.cls_token.numel()
    assert idle == 681_448
    assert counted.params_total + idle == 38_586_472
    assert counted.params_total - counted.params_trainable == 21_688_704
    assert counted.macs_with_products / 1e9 == pytest.approx(10.71, rel=0.01)
    assert counted.macs / 1e9 == pytest.approx(9.65, rel=0.01)


def test_parts_of_the_student() -> None:
    with torch.device("meta"):
        module: Any = ViTAD(Config()).build(frozen.skeleton(ViTAD(Config()).encoder()).info)
    assert sum(param.numel() for param in module.fuser.parameters()) == 147_840
    assert module.position.shape == (1, 256, 384)
    assert len(module.blocks) == 9
    assert {layer.eps for layer in module.modules() if isinstance(layer, nn.LayerNorm)} == {1e-6}


# ------------------------------------------------------------------------------------------------------ network
def slow_block(block: Any, x: Tensor) -> Tensor:
    def norm(layer: nn.LayerNorm, value: Tensor) -> Tensor:
        centred = value - value.mean(-1, keepdim=True)
        return centred / (centred.square().mean(-1, keepdim=True) + 1e-6).sqrt() * layer.weight + layer.bias

    attention, inner = block.attention, norm(block.norm1, x)
    q, k, v = (inner @ attention.qkv.weight.T + attention.qkv.bias).chunk(3, dim=-1)
    mixed = torch.zeros_like(x)
    size = DIM // HEADS
    for head in range(HEADS):
        span = slice(head * size, (head + 1) * size)
        for b in range(len(x)):
            weights = torch.exp(q[b, :, span] @ k[b, :, span].T / math.sqrt(size))
            mixed[b, :, span] = weights @ v[b, :, span] / weights.sum(-1, keepdim=True)
    x = x + mixed @ attention.proj.weight.T + attention.proj.bias
    hidden = norm(block.norm2, x) @ block.mlp.fc1.weight.T + block.mlp.fc1.bias
    hidden = hidden * 0.5 * (1 + torch.erf(hidden / math.sqrt(2)))
    return x + hidden @ block.mlp.fc2.weight.T + block.mlp.fc2.bias


def slow_pairs(module: ViTADStudent, features: dict[str, Tensor]) -> list[tuple[Tensor, Tensor]]:
    """Target and rebuilt tokens [B, h*w, dim]; decoder block 9 faces encoder block 3, 6 faces 6, 3 faces 9."""
    fuser: Any = module.fuser
    assert module.position is not None
    tokens = features["block11"] @ fuser.weight.T + fuser.bias + module.position
    outputs = []
    for block in module.blocks:
        tokens = slow_block(block, tokens)
        outputs.append(tokens)
    last, middle, first = (outputs[index].detach() for index in (8, 5, 2))
    return [(features["block2"], last), (features["block5"], middle), (features["block8"], first)]


def test_loss_map_and_score_against_a_direct_computation() -> None:
    method, module = built()
    features = given(method)
    assert {name: tuple(value.shape) for name, value in features.items()} == {
        f"block{index}": (3, 16, DIM) for index in (2, 5, 8, 11)
    }
    pairs = slow_pairs(module, features)
    loss = 0.0
    for target, output in pairs:
        for b in range(3):
            p, q = target[b].reshape(-1), output[b].reshape(-1)
            loss += float(1 - (p @ q) / (p.norm() * q.norm())) / 3
    assert method.loss(module, features, 0).item() == pytest.approx(loss, rel=1e-10)

    size = 40
    with torch.no_grad():
        found = method.anomaly(module.eval(), features, info(), size)
    assert found.maps is not None
    for b in range(3):
        total = torch.zeros(1, 1, size, size, dtype=torch.float64)
        for target, output in pairs:
            p, q = target[b], output[b]
            grid = (1 - (p * q).sum(-1) / (p.norm(dim=-1) * q.norm(dim=-1))).reshape(1, 1, *GRID)
            total += nn.functional.interpolate(grid, size=(size, size), mode="bilinear", align_corners=True)
        smooth = torch.from_numpy(gaussian_filter(total[0, 0].numpy() / 9, 4.0))
        torch.testing.assert_close(found.maps[b].double(), smooth, rtol=1e-5, atol=1e-7)
        means = [smooth[y : y + 16, x : x + 16].mean().item() for y in range(25) for x in range(25)]
        assert found.scores[b].item() == pytest.approx(max(means), rel=1e-5)


@pytest.mark.parametrize("kind", ["cosine_flat", "cosine_point", "l1", "mse"])
def test_losses_against_loops_and_without_gradient_to_the_target(kind: FeatureLoss) -> None:
    target, output = (seeded(2, 3, 4, 5, seed=seed).requires_grad_() for seed in (1, 2))

    def distance(p: Tensor, q: Tensor) -> float:
        return 1 - float((p * q).sum()) / math.sqrt(float((p * p).sum()) * float((q * q).sum()))

    pairs = list(zip(target.detach(), output.detach(), strict=True))
    terms = {
        "cosine_flat": [distance(p, q) for p, q in pairs],
        "cosine_point": [distance(p[:, y, x], q[:, y, x]) for p, q in pairs for y in range(4) for x in range(5)],
        "l1": [abs(float(a - b)) for p, q in pairs for a, b in zip(p.flatten(), q.flatten(), strict=True)],
        "mse": [float(a - b) ** 2 for p, q in pairs for a, b in zip(p.flatten(), q.flatten(), strict=True)],
    }[kind]
    loss = feature_loss(kind, target, output)
    assert loss.item() == pytest.approx(sum(terms) / len(terms), rel=1e-12)
    loss.backward()
    assert target.grad is None and output.grad is not None and output.grad.any()


def test_features_drop_the_class_token_unless_it_is_asked_for() -> None:
    method = ViTAD(Config(class_token=True))
    blocks = {index: seeded(2, PREFIX + 16, DIM, seed=index) for index in (2, 5, 8, 11)}
    assert torch.equal(method.features(blocks, info())["block5"], blocks[5])
    assert torch.equal(ViTAD(Config()).features(blocks, info())["block5"], blocks[5][:, PREFIX:])


def test_kept_class_tokens_reach_the_patches_but_not_the_loss() -> None:
    method, module = built(class_token=True)
    features = given(method)
    before = method.loss(module, features, 0).item()
    as_target = {**features, "block5": features["block5"].clone()}
    as_target["block5"][:, :PREFIX] += 3
    assert method.loss(module, as_target, 0).item() == before
    as_input = {**features, "block11": features["block11"].clone()}
    as_input["block11"][:, :PREFIX] += 3
    assert method.loss(module, as_input, 0).item() != before


VARIANTS: list[dict[str, Any]] = [
    {"fuser": "none"},
    {"fuser": "vit", "fuser_depth": 3},
    {"fuser": "conv", "fuser_depth": 2},
    {"fused": (-1, 2, 5, 8, 11)},
    {"fused": (8, 11), "fuse": "add"},
    {"fused": (12,)},
    {"position_embedding": False},
    {"class_token": True},
    {"targets": (8,), "decoder": (3,)},
    {"targets": (-1, 2, 5, 8), "decoder": (3, 3, 3, 3)},
    {"decoder": (2, 3, 4)},
    {"targets": (1, 3, 5, 7, 9), "decoder": (2, 2, 2, 2, 2)},
    {"loss": "l1"},
    {"loss": "mse"},
    {"loss": "cosine_point"},
]


@pytest.mark.parametrize("values", VARIANTS, ids=str)
def test_every_ablation_runs_and_trains_all_it_has(values: dict[str, Any]) -> None:
    method, module = built(**values)
    features = given(method)
    method.loss(module, features, 0).backward()
    assert all(param.grad is not None and param.grad.isfinite().all() for param in module.parameters())
    with torch.no_grad():
        found = method.anomaly(module.eval(), features, info(), 32)
    assert found.maps is not None and found.maps.shape == (3, 32, 32) and found.maps.isfinite().all()


def test_fuser_variants_compute_what_they_say() -> None:
    features = given(ViTAD(Config(fused=(8, 11))))
    first, second = features["block8"], features["block11"]

    def entering(**values: Any) -> tuple[ViTADStudent, Tensor]:
        _, module = built(position_embedding=False, **values)
        seen: list[Tensor] = []
        module.blocks[0].register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0]))
        module([features[name] for name in module.fused])
        return module, seen[0]

    module, tokens = entering(fused=(8, 11))
    fuser: Any = module.fuser
    torch.testing.assert_close(tokens, torch.cat([first, second], dim=-1) @ fuser.weight.T + fuser.bias)
    module, tokens = entering(fused=(8, 11), fuse="add")
    fuser = module.fuser
    torch.testing.assert_close(tokens, (first + second) @ fuser.weight.T + fuser.bias)
    module, tokens = entering(fuser="none")
    torch.testing.assert_close(tokens, second)
    module, tokens = entering(fuser="vit", fuser_depth=2)
    fuser = module.fuser
    torch.testing.assert_close(tokens, slow_block(fuser[1], slow_block(fuser[0], second)))
    assert all(not layer.bias.any() for layer in fuser.modules() if isinstance(layer, nn.Linear)), "as the decoder's"
    module, tokens = entering(fuser="conv", fuser_depth=2)
    fuser = module.eval().fuser
    assert len(fuser) == 2
    torch.testing.assert_close(fuser(second), fuser[1](fuser[0](second)))


def test_convolution_fuser_keeps_the_grids_order() -> None:
    torch.manual_seed(0)
    layer = TokenBottleneck(DIM, GRID).eval()
    tokens = torch.randn(2, 16, DIM)
    body: Any = layer.body
    # with the middle kernel at its centre alone, tokens do not mix: each can be followed by hand
    nn.init.zeros_(body[3].weight)
    body[3].weight.data[:, :, 1, 1] = torch.eye(3)
    norm = 1 / math.sqrt(1 + 1e-5)
    inner = (tokens @ body[0].weight[:, :, 0, 0].T * norm).relu() * norm
    wanted = (tokens + inner.relu() @ body[6].weight[:, :, 0, 0].T * norm).relu()
    torch.testing.assert_close(layer(tokens), wanted)


# ------------------------------------------------------------------------------------------------------ training
def test_initial_values() -> None:
    torch.manual_seed(0)
    method = ViTAD(Config())
    module: Any = method.build(frozen.skeleton(method.encoder()).info)
    weights = torch.cat([layer.weight.flatten() for layer in module.blocks.modules() if isinstance(layer, nn.Linear)])
    assert weights.std().item() == pytest.approx(0.02, rel=5e-3)
    assert weights.abs().max() > 0.08, "not cut at a few standard deviations"
    assert all(not layer.bias.any() for layer in module.blocks.modules() if isinstance(layer, nn.Linear))
    assert module.position.std().item() == pytest.approx(0.02, rel=0.02)
    # torch's own: uniform up to 1 / sqrt(fan in)
    assert module.fuser.weight.abs().max().item() == pytest.approx(1 / math.sqrt(384), rel=1e-3)
    assert module.fuser.bias.any()


def test_decay_acts_on_matrices_only() -> None:
    method, module = built(fuser="conv")
    optimizer = method.optimizer(module)
    assert isinstance(optimizer, torch.optim.AdamW)
    decayed, spared = optimizer.param_groups
    assert (decayed["weight_decay"], spared["weight_decay"]) == (1e-4, 0.0)
    assert {group["betas"] for group in optimizer.param_groups} == {(0.9, 0.999)}
    names = {id(param): name for name, param in module.named_parameters()}
    assert {names[id(param)] for param in decayed["params"]} == {
        name
        for name in names.values()
        if name == "position" or (name.endswith("weight") and module.get_parameter(name).ndim > 1)
    }
    assert all(param.ndim == 1 for param in spared["params"])
    assert len(decayed["params"]) + len(spared["params"]) == len(names)


def test_every_rate_of_the_step_schedule() -> None:
    method = ViTAD(Config()).settled(3629)
    rates = [method.learning_rate(step) for step in range(45_300)]
    assert set(rates[: 453 * 80]) == {1e-4}
    assert rates[453 * 80 :] == pytest.approx([1e-5] * (453 * 20))


def test_cosine_schedule() -> None:
    method = ViTAD(Config(schedule="cosine", steps=100))
    rates = [method.learning_rate(step) for step in range(100)]
    # the official code hands timm's scheduler a floor of lr / 100
    peers = torch.optim.SGD([nn.Parameter(torch.zeros(1))], lr=1e-4)
    official = CosineLRScheduler(peers, t_initial=100, lr_min=1e-4 / 100)
    for step, rate in enumerate(rates):
        official.step(step)
        assert rate == pytest.approx(peers.param_groups[0]["lr"], rel=1e-12)
    assert all(a > b > 1e-6 for a, b in pairwise(rates))


def test_training_finds_a_foreign_patch(train: Callable[..., Any], highest: Callable[..., Any]) -> None:
    torch.manual_seed(0)
    method = ViTAD(Config(steps=80, lr=3e-3))
    module = method.build(info())
    basis = seeded(3, DIM, seed=9).float()

    def batch(seed: int) -> dict[str, Tensor]:
        mixed = seeded(8, 16, 3, seed=seed).float().softmax(-1) @ basis
        return {f"block{index}": mixed * (1 + index / 9) + index / 12 for index in (2, 5, 8, 11)}

    losses = train(method, module, batch)
    assert losses[-1] < 0.3 * losses[0]
    odd = batch(1000)
    for value in odd.values():
        value[0, 5] = seeded(DIM, seed=77).float() * 2
    image, row, column = highest(method, module, info(), odd)
    assert image == 0 and 8 <= row < 20 and 8 <= column < 20


def test_blocks_are_plain() -> None:
    _, module = built()
    for block in module.blocks:
        assert isinstance(block, Block)
        assert not [layer for layer in block.modules() if isinstance(layer, nn.Dropout) and layer.p]
