from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from functools import partial
from typing import Any

import pytest
import timm
import torch
import torch.nn.functional as F
from golden_values import waves
from scipy.ndimage import gaussian_filter
from torch import Tensor, nn

from bench.api import Batch, EncoderInfo
from bench.encoders import catalog, frozen
from bench.errors import UsageError
from bench.method import resolve
from bench.methods import _patches
from bench.methods.simplenet import Config, Scorer, SimpleNet
from bench.run.complexity import complexity, training_cost
from bench.run.seeding import step_generator

INFO = EncoderInfo("cnn", "cnn", 10, 5, 0, 16, 0, (2, 2), 32, (0.0,) * 3, (1.0,) * 3, (6, 10))  # type: ignore[arg-type]


def seeded(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def built(**config: Any) -> tuple[SimpleNet, Scorer]:
    torch.manual_seed(0)
    method = SimpleNet(Config(**{"dim": 8, "width": 5, **config}))
    return method, method.build(INFO)


def given(count: int = 3, seed: int = 0) -> dict[str, Tensor]:
    return {"layer0": seeded(count, 6, 4, 4, seed=seed), "layer1": seeded(count, 10, 2, 2, seed=seed + 1)}


def batch(features: dict[str, Tensor], step: int = 0) -> Batch:
    return Batch(features, random=partial(step_generator, 0, step, torch.device("cpu")))


# ------------------------------------------------------------------------------------------------ what is asked for
def test_default_request_is_ader_and_the_original_has_its_own() -> None:
    request = SimpleNet(Config()).encoder()
    assert (request.name, request.blocks, request.input_size) == ("wide_resnet50_2.tv_in1k", (2, 3), 256)
    original = Config(variant="original")
    assert (original.input_size, original.batch_size, original.clip_norm) == (288, 8, None)
    assert (original.decay_vectors, original.image_score) == (True, "patches")
    assert Config(variant="original", input_size=224).input_size == 224
    assert SimpleNet(Config()).clip_norm is None, "each part is clipped by itself"


@pytest.mark.parametrize(
    ("values", "rates"),
    [
        ({}, (1e-4, 2e-4)),
        ({"batch_size": 16}, (5e-5, 1e-4)),
        ({"batch_size": 16, "lr": 3e-4}, (3e-4, 1e-4)),
        ({"variant": "original"}, (1e-4, 2e-4)),
        ({"variant": "original", "batch_size": 16}, (1e-4, 2e-4)),
    ],
)
def test_learning_rates_follow_the_batch_in_ader(values: dict[str, Any], rates: tuple[float, float]) -> None:
    config = Config(**values)
    assert (config.lr, config.discriminator_lr) == pytest.approx(rates)


@pytest.mark.parametrize(
    ("images", "values", "steps"),
    [
        (3629, {}, 11_300),  # MVTec-AD
        (3629, {"epochs": 300}, 33_900),
        (36_465, {}, 113_900),  # Real-IAD
        (209, {}, 600),  # MVTec-AD's bottles
        (209, {"variant": "original"}, 4_320),
        (208, {"variant": "original"}, 4_160),
        (209, {"steps": 7}, 7),
    ],
)
def test_length_of_training_follows_from_the_images(images: int, values: dict[str, Any], steps: int) -> None:
    assert SimpleNet(Config(**values)).steps(images) == steps


def test_each_variant_has_its_papers_protocol() -> None:
    ader, original = (resolve("paper", SimpleNet, "industrial", variant) for variant in ("ader", "original"))
    assert (ader.eval_size, ader.mask_rule, ader.label_rule, ader.crop) == (256, "ader", "mask", 1.0)
    assert (original.eval_size, original.mask_rule, original.label_rule) == (288, "full", "dataset")
    assert original.resize_for(288) == 329 and original.name == ader.name


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"layers": ()}, "simplenet.layers is empty"),
        ({"layers": (2, 7)}, "blocks.*do not fit"),
        ({"neighbourhood": 4}, "simplenet.neighbourhood is 4, expected an odd number"),
    ],
)
def test_what_does_not_fit_is_refused(values: dict[str, Any], message: str) -> None:
    with pytest.raises(UsageError, match=message):
        SimpleNet(Config(**values)).encoder()


def test_missing_strides_are_refused_with_what_fits(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(catalog, "strides", lambda name: (2, 4, 32))
    with pytest.raises(UsageError, match=r"simplenet looks at stages of stride 8 and 16.*lacks one.*mobilenetv2_100"):
        SimpleNet(Config()).encoder()


@pytest.mark.parametrize("encoder", ["mobilenetv2_100", "tf_efficientnet_lite0.in1k", "vit_tiny_patch8_128.bench"])
def test_other_encoders_serve(encoder: str) -> None:
    method = SimpleNet(Config(encoder=encoder, input_size=128, dim=64))
    skeleton = frozen.skeleton(method.encoder())
    with torch.device("meta"):
        features = method.features(skeleton(torch.empty(2, 3, 128, 128)), skeleton.info)
        found = method.anomaly(method.build(skeleton.info).eval(), batch(features), skeleton.info, 40)
    assert found.scores.shape == (2,) and found.maps is not None and found.maps.shape == (2, 40, 40)


# ------------------------------------------------------------------------------------------------ size and cost
def test_parameters_and_macs() -> None:
    method, original = SimpleNet(Config()), SimpleNet(Config(variant="original"))
    counted = complexity(method)
    with torch.device("meta"):
        module = method.build(INFO)
        whole = timm.create_model("wide_resnet50_2", num_classes=1000)
    assert sum(param.numel() for param in module.adaptor.parameters()) == 2_360_832
    assert sum(param.numel() for param in module.discriminator.parameters()) == 1_576_960
    # the published count has the encoder whole, with its last stage and classifier
    assert counted.params_trainable + sum(param.numel() for param in whole.parameters()) == 72_821_032
    assert counted.params_total == counted.params_trainable + 24_862_528
    assert counted.macs_trainable / 1e9 == pytest.approx(4.03, rel=0.01)
    assert counted.macs / 1e9 == pytest.approx(12.00 + 4.03, rel=0.01)
    assert complexity(original).macs / 1e9 == pytest.approx(15.19 + 5.10, rel=0.01)


def test_a_training_step_can_be_counted() -> None:
    cost = training_cost(SimpleNet(Config()))
    # both halves go through the discriminator, the adaptor is passed once
    adaptor, discriminator = 1024 * 1536 * 1536, 1024 * (1536 * 1024 + 1024)
    assert cost.trained == adaptor + 2 * discriminator


# ---------------------------------------------------------------------------------------------------------- embedding
ROWS = {
    0: (0.260528, -0.369161, -0.093469, 0.439611, 0.440736, -0.102751, 0.239573, -0.406917),
    5: (0.622257, -0.361590, -0.363507, 0.622903, 0.464310, -0.130479, 0.241729, -0.422553),
}
"""Made by the authors' classes."""


def test_golden_values_of_the_authors_embedding() -> None:
    method, _ = built()
    found = method.patches({"layer0": waves(1, 6, 4, 4), "layer1": waves(1, 10, 2, 2)})
    assert found.shape == (1, 16, 8)
    for row, values in ROWS.items():
        assert found[0, row].tolist() == pytest.approx(values, abs=1e-6)
    assert float(found.double().sum()) == pytest.approx(5.641354, abs=2e-6)


def embedded(maps: list[Tensor], dim: int) -> Tensor:
    """The embedding written out: places, then neighbours, then bins, one after the other."""

    def pooled(values: list[Tensor], bins: int) -> list[Tensor]:
        count = len(values)
        parts = [values[b * count // bins : -(-(b + 1) * count // bins)] for b in range(bins)]
        return [torch.stack(part).mean() for part in parts]

    rows, columns = maps[0].shape[-2:]
    layers = []
    for layer in maps:
        channels, height, width = layer.shape
        padded = F.pad(layer, (1, 1, 1, 1))
        # every value of every neighbourhood is a plane of its own, which is resized
        planes = torch.stack(
            [padded[c, y : y + height, x : x + width] for c in range(channels) for y in range(3) for x in range(3)]
        )
        layers.append(F.interpolate(planes[:, None], size=(rows, columns), mode="bilinear", align_corners=False)[:, 0])
    found = []
    for row in range(rows):
        for column in range(columns):
            parts = [value for layer in layers for value in pooled(list(layer[:, row, column]), dim)]
            found.append(torch.stack(pooled(parts, dim)))
    return torch.stack(found)


def test_embedding_against_a_direct_computation() -> None:
    method, _ = built(dim=7)
    features = given(2)
    found = method.patches(features)
    for b in range(2):
        wanted = embedded([features["layer0"][b], features["layer1"][b]], 7)
        torch.testing.assert_close(found[b], wanted, rtol=1e-9, atol=1e-9)


def test_a_vits_blocks_are_maps_on_its_grid() -> None:
    info = replace(INFO, family="vit", prefix=2, grid=(2, 3), channels=())
    blocks = {7: seeded(2, 8, 5), 3: seeded(2, 8, 5, seed=1)}
    first, second = _patches.as_maps(blocks, info)
    assert first.shape == second.shape == (2, 5, 2, 3)
    assert torch.equal(first[1, :, 1, 0], blocks[3][1, 2 + 3])


# ------------------------------------------------------------------------------------------------- loss, map and score
def scored(module: Scorer, patches: Tensor, statistics: Tensor | None = None) -> Tensor:
    """Scores of adapted patches [N, dim], written out; `statistics` are the hidden values that BatchNorm goes by."""
    hidden, norm, _, tail = module.discriminator
    values = patches @ hidden.weight.T + hidden.bias  # type: ignore[union-attr]
    if statistics is None:
        mean, var = norm.running_mean, norm.running_var
    else:
        over = statistics @ hidden.weight.T + hidden.bias  # type: ignore[union-attr]
        mean, var = over.mean(dim=0), over.var(dim=0, unbiased=False)
    values = (values - mean) / (var + 1e-5).sqrt() * norm.weight + norm.bias  # type: ignore[operator]
    return torch.where(values > 0, values, 0.2 * values) @ tail.weight[0]  # type: ignore[index]


def adapted(module: Scorer, patches: Tensor) -> Tensor:
    for layer in module.adaptor:
        patches = patches @ layer.weight.T + layer.bias
    return patches


@pytest.mark.parametrize("loss", ["hinge", "cross_entropy"])
@pytest.mark.parametrize("layers", [0, 1, 2])
def test_loss_against_a_direct_computation(loss: str, layers: int) -> None:
    method, module = built(loss=loss, noise=0.5, adaptor_layers=layers)
    module = module.double().train()
    features = given()
    noise = torch.randn(48, 8, generator=step_generator(0, 3, torch.device("cpu")), dtype=torch.float64)
    with torch.no_grad():
        found = float(method.loss(module, batch(features, 3), 3))
        normal = adapted(module, method.patches(features).flatten(0, 1))
        noisy = normal + 0.5 * noise
        both = torch.cat([normal, noisy])
        good, bad = scored(module, normal, both), scored(module, noisy, both)
    if loss == "hinge":
        wanted = sum(max(0.0, 0.5 - float(s)) for s in good) / 48 + sum(max(0.0, 0.5 + float(s)) for s in bad) / 48
    else:
        wanted = float(-(good.sigmoid().log().mean() + (1 - bad.sigmoid()).log().mean()))
    assert found == pytest.approx(wanted, rel=1e-9)


@pytest.mark.parametrize("kind", ["map", "patches"])
def test_map_and_score_against_a_direct_computation(kind: str) -> None:
    method, module = built(image_score=kind)
    module = module.double().eval()
    norm: Any = module.discriminator[1]
    norm.running_mean.normal_(0, 0.3)
    norm.running_var.uniform_(0.5, 2)
    features, size = given(), 40
    with torch.no_grad():
        found = method.anomaly(module, batch(features), INFO, size)
        values = -scored(module, adapted(module, method.patches(features).flatten(0, 1))).reshape(3, 4, 4)
    assert found.maps is not None and found.maps.dtype == torch.float32
    for b in range(3):
        resized = F.interpolate(values[b][None, None], size=(size, size), mode="bilinear", align_corners=False)[0, 0]
        smooth = torch.from_numpy(gaussian_filter(resized.numpy(), 4.0))
        torch.testing.assert_close(found.maps[b].double(), smooth, rtol=1e-5, atol=1e-6)
        wanted = smooth.max() if kind == "map" else values[b].max()
        assert found.scores[b].item() == pytest.approx(float(wanted), rel=1e-5)


def test_all_that_is_drawn_comes_from_the_steps_generator() -> None:
    method, module = built(noise=0.5)
    features = {name: value.float() for name, value in given().items()}
    before = torch.random.get_rng_state()
    losses = [method.loss(module.train(), batch(features, step), step).item() for step in (0, 0, 1)]
    assert torch.equal(before, torch.random.get_rng_state())
    assert losses[0] == losses[1] != losses[2]


# ------------------------------------------------------------------------------------------------------------ training
def test_initial_values() -> None:
    torch.manual_seed(0)
    module = SimpleNet(Config()).build(INFO)
    for layer in (module.adaptor[0], module.discriminator[0]):
        weight = layer.weight.detach()
        assert weight.std().item() == pytest.approx((2 / sum(weight.shape)) ** 0.5, rel=0.02)
        bound = 1536**-0.5
        assert 0.95 * bound < layer.bias.abs().max().item() <= bound
    assert module.discriminator[3].bias is None


@pytest.mark.parametrize(
    ("values", "decays", "clip"),
    [({}, [0.01, 0.0, 1e-5, 0.0], 5.0), ({"variant": "original"}, [0.01, 0.01, 1e-5, 1e-5], None)],
)
def test_optimizer_is_two_rules_in_one(values: dict[str, Any], decays: list[float], clip: float | None) -> None:
    method, module = built(**values)
    groups = method.optimizer(module).param_groups
    assert [group["weight_decay"] for group in groups] == decays
    assert [group["lr"] for group in groups] == [1e-4, 1e-4, 2e-4, 2e-4]
    assert [group["decoupled_weight_decay"] for group in groups] == [True, True, False, False]
    assert method.config.clip_norm == clip
    method = method.settled(3629)
    assert {method.learning_rate(step) for step in range(0, method.steps(3629), 100)} == {1e-4}, "never drops"


@pytest.mark.parametrize("clip", [None, 0.01])
def test_steps_are_those_of_torchs_own_two_optimizers(clip: float | None) -> None:
    def trained(separately: bool) -> list[Tensor]:
        method, module = built(variant="original", noise=0.5, clip_norm=clip, weight_decay=0.3, discriminator_decay=0.2)
        parts = [list(part.parameters()) for part in (module.adaptor, module.discriminator)]
        rules: list[torch.optim.Optimizer] = [method.optimizer(module)]
        if separately:
            rules = [
                torch.optim.AdamW(parts[0], lr=1e-4, weight_decay=0.3),
                torch.optim.Adam(parts[1], lr=2e-4, weight_decay=0.2),
            ]
        for step in range(5):
            features = {name: value.float() for name, value in given(seed=step).items()}
            module.zero_grad()
            method.loss(module.train(), batch(features, step), step).backward()
            if separately and clip is not None:
                for part in parts:
                    nn.utils.clip_grad_norm_(part, clip)
            for rule in rules:
                rule.step()
        return [param.detach() for param in module.parameters()]

    for one, other in zip(trained(False), trained(True), strict=True):
        torch.testing.assert_close(one, other, rtol=1e-5, atol=1e-7)


def test_training_finds_a_foreign_patch(train: Callable[..., Any], highest: Callable[..., Any]) -> None:
    torch.manual_seed(0)
    method = SimpleNet(
        Config(dim=16, width=32, steps=150, lr=3e-3, discriminator_lr=6e-3, noise=0.3, smoothing_sigma=1.0)
    )
    module = method.build(INFO)
    pattern = {"layer0": seeded(1, 6, 8, 8).float(), "layer1": seeded(1, 10, 4, 4).float()}

    def drawn(step: int) -> Batch:
        noise = torch.Generator().manual_seed(step)
        features = {
            name: value + 0.05 * torch.randn(8, *value.shape[1:], generator=noise) for name, value in pattern.items()
        }
        return batch(features, step)

    losses = train(method, module, drawn)
    assert losses[-1] < 0.6 * losses[0]
    odd = dict(drawn(1000))
    odd["layer0"][0, :, 4:6, 2:4] += 2.0
    odd["layer1"][0, :, 2, 1] += 2.0
    image, row, column = highest(method, module, INFO, Batch(odd))
    assert image == 0 and 17 <= row < 33 and 7 <= column < 23
