from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from golden_values import waves
from torch import Tensor, nn

from bench.api import Batch, EncoderInfo
from bench.errors import UsageError
from bench.methods.cflow import CFlow, Config, Coupling, Flow, Flows, places, surprise
from bench.run.complexity import complexity
from bench.run.seeding import step_generator
from bench.run.training import Step

CPU = torch.device("cpu")
CHANNELS = (6, 8, 10)
SIDES = (8, 4, 2)
INFO = EncoderInfo("resnet18", "cnn", 10, 5, 0, 32, 0, (2, 2), 64, (0.0, 0.0, 0.0), (1.0, 1.0, 1.0), CHANNELS)


def given(count: int = 3, seed: int = 0) -> dict[str, Tensor]:
    draw = torch.Generator().manual_seed(seed)
    return {
        f"stage{n}": torch.randn(count, channels, side, side, generator=draw)
        for n, (channels, side) in enumerate(zip(CHANNELS, SIDES, strict=True))
    }


def batch(features: dict[str, Tensor], step: int = 0) -> Batch:
    return Batch(features, random=lambda: step_generator(0, step, CPU))


def built(**config: Any) -> tuple[CFlow, Flows]:
    torch.manual_seed(0)
    method = CFlow(Config(**{"condition": 8, "blocks": 2, **config}))
    module = method.build(INFO)
    for param in module.parameters():
        param.data += 0.2 * torch.randn_like(param)
    return method, module


# ------------------------------------------------------------------------------------------------ size and values
def test_parameters_as_published() -> None:
    counted = complexity(CFlow(Config()))
    assert counted.params_trainable == 81_647_616
    assert counted.params_total - counted.params_trainable == 66_834_240
    # the published count holds the fixed rotations and their inverses
    rotations = sum(2 * 8 * width**2 for width in (512, 1024, 2048))
    assert counted.params_total + rotations == 236_562_240
    # eight blocks, each two Linear layers and a rotation, at each place
    products = {
        (512, 32): 384 * 768 + 768 * 512 + 512**2,
        (1024, 16): 640 * 1280 + 1280 * 1024 + 1024**2,
        (2048, 8): 1152 * 2304 + 2304 * 2048 + 2048**2,
    }
    flows = sum(8 * side**2 * product for (_, side), product in products.items())
    rotated = sum(8 * side**2 * width**2 for width, side in products)
    assert counted.macs_trainable == flows - rotated
    assert counted.macs_with_products - (counted.macs - counted.macs_trainable) == flows


def test_golden_codes() -> None:
    code = places(8, 3, 4)
    assert code.shape == (8, 3, 4)
    found = [code[place].item() for place in ((0, 1, 2), (1, 0, 3), (2, 2, 1), (4, 1, 2), (5, 2, 0), (6, 2, 3))]
    assert found == pytest.approx([0.909297, -0.989992, 0.010000, 0.841471, -0.416147, 0.019999], abs=1e-6)


def test_golden_flow() -> None:
    flow = Flow(6, Config(blocks=2, condition=4))
    normal = waves(6).double()
    mirror = torch.eye(6, dtype=torch.float64) - 2 * torch.outer(normal, normal) / normal.dot(normal)
    z, code, determinant = waves(5, 6), waves(5, 4, shift=0.9), torch.zeros(5)
    with torch.no_grad():
        for block in flow.blocks:
            assert isinstance(block, Coupling)
            block.rotation.copy_(mirror)
            for layer in (block.expand, block.reduce):
                place = torch.arange(layer.weight.numel(), dtype=torch.float64)
                layer.weight.copy_(torch.sin(1.7 * place + 0.5).view(layer.weight.shape))
                layer.bias.copy_(0.05 * torch.cos(torch.arange(len(layer.bias), dtype=torch.float64)))
            z, part = block(z, code)
            determinant = determinant + part
        found = flow(waves(5, 6), code)
    assert (z[0, 0].item(), z[4, 5].item()) == pytest.approx((0.707171, 0.084028), abs=1e-6)
    assert (determinant[0].item(), determinant[4].item()) == pytest.approx((0.079972, 0.066452), abs=1e-6)
    assert found[0].item() == pytest.approx(-1.715605, abs=1e-6)
    assert surprise(found).item() == pytest.approx(1.498889, abs=1e-6)


# ------------------------------------------------------------------------------------------------------ formulas
@pytest.mark.parametrize("width", [6, 7])
def test_log_determinant_is_that_of_the_jacobian(width: int) -> None:
    torch.manual_seed(0)
    flow = Flow(width, Config(blocks=3, condition=4)).double()
    for param in flow.parameters():
        param.data += 0.5 * torch.randn_like(param)
    x, code = torch.randn(4, width, dtype=torch.float64), torch.randn(4, 4, dtype=torch.float64)
    for row in range(4):

        def through(vector: Tensor, at: Tensor = code[row : row + 1]) -> Tensor:
            out = vector[None]
            for block in flow.blocks:
                out, _ = block(out, at)
            return out[0]

        z = through(x[row])
        _, slogdet = torch.linalg.slogdet(torch.autograd.functional.jacobian(through, x[row]))
        normal = torch.distributions.Normal(0.0, 1.0).log_prob(z).sum()
        found = flow(x[row : row + 1], code[row : row + 1])[0]
        assert found.item() == pytest.approx(((normal + slogdet) / width).item(), rel=1e-6)


def test_a_block_against_a_direct_computation_and_its_inverse() -> None:
    torch.manual_seed(0)
    block = Coupling(5, 4, 1.9).double()
    for param in block.parameters():
        param.data += torch.randn_like(param)
    x, code = torch.randn(6, 5, dtype=torch.float64), torch.randn(6, 4, dtype=torch.float64)
    with torch.no_grad():
        out, _ = block(x, code)
        gain = 0.1 * 2 * torch.log(1 + torch.exp(0.5 * block.gain))
        for row in range(6):
            told = torch.cat([x[row, :3], code[row]])
            hidden = (block.expand.weight @ told + block.expand.bias).clamp(min=0)
            said = 0.1 * (block.reduce.weight @ hidden + block.reduce.bias)
            scale = 1.9 * torch.tanh(said[:2])
            moved = x[row, 3:] * torch.exp(scale) + said[2:]
            wanted = block.rotation @ (torch.cat([x[row, :3], moved]) * gain + block.offset)
            torch.testing.assert_close(out[row], wanted, rtol=1e-9, atol=1e-9)
            # and back: the rotation is orthogonal, and what was kept says what was done
            back = (block.rotation.T @ out[row] - block.offset) / gain
            torch.testing.assert_close(back[:3], x[row, :3], rtol=1e-5, atol=1e-5)


def test_initial_values() -> None:
    torch.manual_seed(0)
    block = Coupling(64, 8, 1.9)
    torch.testing.assert_close(0.1 * F.softplus(block.gain, beta=0.5), torch.ones(64))
    assert not block.offset.any()
    torch.testing.assert_close(block.rotation @ block.rotation.T, torch.eye(64), rtol=0, atol=1e-5)
    assert not torch.equal(block.rotation, Coupling(64, 8, 1.9).rotation)
    assert "rotation" not in dict(block.named_parameters())


def test_loss_map_and_score_against_a_direct_computation() -> None:
    method, module = built(score_pool=5)
    features = given()
    with torch.no_grad():
        likelihoods = []
        for number, (name, flow) in enumerate(zip(features, module.flows, strict=True)):
            stage, side = features[name], SIDES[number]
            code = places(8, side, side)
            likelihood = torch.zeros(3, side, side)
            for image in range(3):
                for row in range(side):
                    for column in range(side):
                        vector = stage[image, :, row, column]
                        likelihood[image, row, column] = flow(vector[None], code[None, :, row, column])[0]
            likelihoods.append(likelihood)
        loss = sum(float(torch.log1p(torch.exp(-one)).mean()) for one in likelihoods)
        assert method.loss(module, batch(features), 0).item() == pytest.approx(loss, rel=1e-5)
        # the first two images are those that it learnt of
        method.finish(
            module, [Batch({k: v[:1] for k, v in features.items()}), Batch({k: v[1:2] for k, v in features.items()})]
        )
        highest = [one[:2].max() for one in likelihoods]
        torch.testing.assert_close(module.highest, torch.stack(highest))
        found = method.anomaly(module.eval(), Batch(features), INFO, 20)
    total = torch.zeros(3, 20, 20)
    for one, top in zip(likelihoods, highest, strict=True):
        likely = torch.exp(one - top)[:, None]
        total += F.interpolate(likely, size=20, mode="bilinear", align_corners=True)[:, 0]
    assert found.maps is not None
    torch.testing.assert_close(found.maps, 3 - total, rtol=1e-5, atol=1e-5)
    for image in range(3):
        windows = np.lib.stride_tricks.sliding_window_view((3 - total[image]).numpy(), (5, 5)).mean(axis=(2, 3))
        assert found.scores[image].item() == pytest.approx(windows.max(), rel=1e-5)


# ------------------------------------------------------------------------------------------------------ updates
def test_each_fibre_of_a_stage_is_an_update_of_its_own_flow() -> None:
    method, module = built(fibre=50, steps=3)
    features = given(4)
    optimizer = method.optimizer(module)
    # 4 * 64 vectors are five fibres of 50, 4 * 16 one, 4 * 4 one that is not full
    seen = []
    for loss in method.losses(module, batch(features), 0):
        before = [next(flow.parameters()).detach().clone() for flow in module.flows]
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        optimizer.step()
        moved = [not torch.equal(next(flow.parameters()), old) for flow, old in zip(module.flows, before, strict=True)]
        seen.append(moved.index(True))
        assert sum(moved) == 1
    assert seen == [0] * 5 + [1, 2]


def test_fibres_hold_vectors_with_their_own_codes_each_at_most_once(monkeypatch: pytest.MonkeyPatch) -> None:
    method, module = built(fibre=50)
    features = given(4)
    taken: list[list[tuple[float, ...]]] = [[], [], []]
    for number, flow in enumerate(module.flows):

        def note(_: Any, inputs: tuple[Tensor, Tensor], __: Tensor, number: int = number) -> None:
            taken[number] += [tuple(row) for row in torch.cat(inputs, dim=1).tolist()]

        flow.register_forward_hook(note)
    list(method.losses(module, batch(features), 0))
    for number, (name, stage) in enumerate(features.items()):
        side = SIDES[number]
        code = places(8, side, side)
        every = {
            (*stage[image, :, row, column].tolist(), *code[:, row, column].tolist())
            for image in range(4)
            for row in range(side)
            for column in range(side)
        }
        assert set(taken[number]) <= every, name
        assert len(set(taken[number])) == len(taken[number]) == (250, 50, 16)[number]


def test_the_loop_takes_every_update_and_reports_their_mean() -> None:
    features = given(4)
    method, module = built(fibre=50, steps=3)
    _, other = built(fibre=50, steps=3)
    take = Step(method, module, method.optimizer(module), lambda step: batch(features, step), CPU, "fp32")
    optimizer = method.optimizer(other)
    for step in range(3):
        losses = []
        for loss in method.losses(other, batch(features, step), step):
            for group in optimizer.param_groups:
                group["lr"] = method.learning_rate(step)
            optimizer.zero_grad(set_to_none=True)
            loss.backward()
            optimizer.step()
            losses.append(loss.item())
        assert take(step).item() == pytest.approx(np.mean(losses), rel=1e-6) and len(losses) == 7
    for name, value in module.state_dict().items():
        assert torch.equal(value, other.state_dict()[name]), name


# ------------------------------------------------------------------------------------------------------ recipe
@pytest.mark.parametrize(
    ("images", "values", "steps"),
    [
        (3629, {}, 11_300),  # MVTec-AD
        (36_465, {}, 113_900),  # Real-IAD
        (209, {"meta_epochs": 25, "sub_epochs": 8}, 1_200),  # the authors', of its bottles
        (3629, {"steps": 7}, 7),
        (3, {}, 100),
    ],
)
def test_length_of_training_follows_from_the_images(images: int, values: dict[str, Any], steps: int) -> None:
    assert CFlow(Config(**values)).steps(images) == steps


def test_published_recipe() -> None:
    method = CFlow(Config()).settled(3629)
    (group,) = method.optimizer(nn.Linear(1, 1)).param_groups  # type: ignore[arg-type]
    assert (group["betas"], group["weight_decay"], method.clip_norm) == ((0.9, 0.999), 0, None)
    floor = 2e-4 * 1e-3

    def cosine(epoch: int) -> float:
        return floor + (2e-4 - floor) * (1 + math.cos(math.pi * epoch / 10)) / 2

    # a rise of two epochs of 1,130 batches, to where the cosine is then
    assert method.learning_rate(0) == pytest.approx(2e-5)
    assert method.learning_rate(1130) == pytest.approx((2e-5 + cosine(2)) / 2)
    for epoch in range(2, 10):
        for step in (1130 * epoch, 1130 * epoch + 1129):
            assert method.learning_rate(step) == pytest.approx(cosine(epoch))
    request = method.encoder()
    assert (request.name, request.blocks, request.input_size) == ("wide_resnet50_2.tv_in1k", (2, 3, 4), 256)
    assert (method.paper.label_rule, method.paper.mask_rule) == ("mask", "ader")


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"encoder": "vit_small_patch16_224.dino"}, "cflow needs a CNN with stages at strides 8, 16 and 32.*is a ViT"),
        ({"input_size": 272}, "multiple of 32, for example 256 or 288"),
        ({"condition": 6}, "condition is 6, expected a multiple of 4"),
        ({"warm_epochs": 11}, "warm_epochs is 11, expected no more than cflow.meta_epochs, 10"),
    ],
)
def test_what_does_not_fit_is_refused_with_what_does(values: dict[str, Any], message: str) -> None:
    with pytest.raises(UsageError, match=message):
        CFlow(Config(**values)).encoder()


def test_training_finds_a_foreign_place(highest: Callable[..., Any]) -> None:
    torch.manual_seed(0)
    method = CFlow(Config(condition=8, blocks=2, steps=40, fibre=64, lr=0.02, warm_epochs=0, score_pool=1))
    module = method.build(INFO).train()
    pattern = given(1, seed=3)

    def shown(seed: int) -> dict[str, Tensor]:
        noise = given(8, seed=seed)
        return {name: value + 0.1 * noise[name] for name, value in pattern.items()}

    take = Step(method, module, method.optimizer(module), lambda step: batch(shown(10 + step), step), CPU, "fp32")
    losses = [take(step).item() for step in range(40)]
    assert losses[-1] < 0.8 * losses[0]
    with torch.no_grad():
        method.finish(module, [Batch(shown(10))])
    odd = shown(1000)
    for name, side in (("stage0", 2), ("stage1", 1)):
        spot = odd[name][0, :, 2 * side : 3 * side, side : 2 * side]
        spot.copy_(-spot)
    image, row, column = highest(method, module, INFO, Batch(odd))
    assert image == 0 and 18 <= row < 32 and 8 <= column < 22
