from __future__ import annotations

import math
from collections.abc import Callable
from decimal import Decimal, localcontext
from itertools import product
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
import torch
from torch import Tensor, nn

from bench.api import EncoderInfo
from bench.config import configure
from bench.encoders import frozen
from bench.encoders.weights import locate
from bench.errors import TrainingError, UsageError
from bench.methods import dinomaly
from bench.methods._vit import LayerScale
from bench.methods.dinomaly import Dinomaly
from bench.methods.dual_student import (
    Config,
    DualStudent,
    EncoderStudent,
    Students,
    noisy_or_loss,
    noisy_or_score,
)
from bench.run.complexity import complexity

DIM = 12
DEPTH = 4
PREFIX = 2
GRID = (3, 3)
TOKENS = PREFIX + 9
INFO = EncoderInfo("fake", "vit", DIM, DEPTH, 3, 14, PREFIX, GRID, 42, (0.0, 0.0, 0.0), (1.0, 1.0, 1.0))
SMALL: dict[str, Any] = {
    "layers": (0, 1, 2, 3),
    "groups": ((0, 1), (2, 3)),
    "decoder_depth": 4,
    "decoder_groups": ((0, 1), (2, 3)),
    "dropout": 0.0,
    "init_std": 0.3,
    "student_init_std": 0.2,
}
ENCODER = "vit_tiny_patch8_128.bench"
BASE, LITTLE = (f"vit_{size}_patch14_reg4_dinov2.lvd142m" for size in ("base", "small"))


def seeded(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def stored(batch: int = 3) -> dict[int, Tensor]:
    """Blocks -1 (embedding) to DEPTH (normed)."""
    return {index: seeded(batch, TOKENS, DIM, seed=10 + index) for index in range(-1, DEPTH + 1)}


def built(**values: Any) -> tuple[DualStudent, Students]:
    method = DualStudent(Config(**{**SMALL, **values}))
    torch.manual_seed(0)
    module = method.build(INFO).double()
    assert isinstance(module, Students)
    # norms and scales that are not 1 and 0 show whether they are used
    for number, param in enumerate(module.parameters()):
        if param.ndim == 1:
            nn.init.normal_(param, mean=0.7, std=0.2, generator=torch.Generator().manual_seed(number))
    return method, module


def discrepancies(method: DualStudent, module: Students, blocks: dict[int, Tensor]) -> tuple[Tensor, Tensor]:
    """Mean squared difference by image and class token [B, m], and Dinomaly's loss by image [B], by loops."""
    assert module.encoder is not None and module.decoder is not None
    student = module.encoder(blocks[-1])
    squares = [
        [((student[b, j] - blocks[j][b, 0]) ** 2).sum() / DIM for j in range(student.shape[1])]
        for b in range(len(student))
    ]
    fused = torch.stack([blocks[index] for index in range(4)]).mean(dim=0)
    local = []
    for b in range(len(fused)):
        terms = []
        for group, output in enumerate(module.decoder(fused)):
            target = (blocks[2 * group] + blocks[2 * group + 1])[b, PREFIX:] / 2
            found = torch.stack([output[b, :, r, c] for r in range(3) for c in range(3)])
            terms.append(1 - (target * found).sum() / (target.square().sum() * found.square().sum()).sqrt())
        local.append((terms[0] + terms[1]) / 2)
    return torch.stack([torch.stack(row) for row in squares]), torch.stack(local)


# -------------------------------------------------------------------------------------------------------- counts
@pytest.mark.parametrize(
    ("encoder", "values", "total"),
    [
        (BASE, {}, 233_083_392),
        (BASE, {"final_norm": False}, 233_081_856),
        (BASE, {"layer_scale": None}, 233_083_392 - 12 * 2 * 768),
        (LITTLE, {}, 58_738_944),
        (LITTLE, {"final_norm": False}, 58_738_176),
        (BASE, {"students": "decoder"}, 148_008_960),
        (LITTLE, {"students": "encoder"}, 58_738_944 - 15_377_280),
    ],
)
def test_parameters(encoder: str, values: dict[str, Any], total: int) -> None:
    counted = complexity(DualStudent(Config(encoder=encoder, **values)))
    assert counted.params_total == total


def test_published_counts_round_alike() -> None:
    for norm in (True, False):
        counts = [complexity(DualStudent(Config(encoder=e, final_norm=norm))).params_total for e in (BASE, LITTLE)]
        assert [round(count / 1e6, 1) for count in counts] == [233.1, 58.7]


def test_macs_are_dinomalys_the_rest_of_the_teacher_and_a_second_stack_of_blocks() -> None:
    block = 789 * 12 * 768 * 768
    assert complexity(DualStudent(Config())).macs == complexity(Dinomaly(dinomaly.Config())).macs + (2 + 12) * block


# ------------------------------------------------------------------------------------------------ what is asked for
def test_requests() -> None:
    request = DualStudent(Config()).encoder()
    assert request.blocks == tuple(range(-1, 13))
    assert (request.name, request.input_size, request.position) == (BASE, 392, "dinov2")
    assert DualStudent(Config(final_norm=False)).encoder().blocks == tuple(range(-1, 12))
    assert DualStudent(Config(students="encoder")).encoder().blocks == tuple(range(-1, 13))
    assert DualStudent(Config(students="decoder")).encoder() == Dinomaly(dinomaly.Config()).encoder()


def test_features_are_dinomalys_with_the_embedding_and_class_tokens() -> None:
    blocks = stored()
    features = DualStudent(Config(**SMALL)).features(blocks, INFO)
    assert list(features) == ["group0", "group1", "embedding", "classes"]
    assert torch.equal(features["embedding"], blocks[-1])
    assert features["classes"].shape == (3, DEPTH + 1, DIM)
    for index in range(DEPTH + 1):
        assert torch.equal(features["classes"][:, index], blocks[index][:, 0])
    torch.testing.assert_close(features["group1"], (blocks[2] + blocks[3]) / 2)


def test_each_student_keeps_only_its_own_features() -> None:
    blocks = stored()
    for students, names in {"encoder": ["embedding", "classes"], "decoder": ["group0", "group1"]}.items():
        assert list(DualStudent(Config(**SMALL, students=students)).features(blocks, INFO)) == names
    raw = DualStudent(Config(**SMALL, final_norm=False)).features(blocks, INFO)["classes"]
    assert raw.shape[1] == DEPTH and torch.equal(raw[:, -1], blocks[DEPTH - 1][:, 0])


@pytest.mark.parametrize(
    "encoder", ["vit_medium_patch16_reg4_gap_256.sbb_in12k_ft_in1k", "vit_base_patch16_siglip_224.webli"]
)
def test_an_encoder_without_class_token_is_refused(encoder: str) -> None:
    with pytest.raises(UsageError, match=rf"'{encoder}' has none\. Try vit_base.*students=decoder"):
        DualStudent(Config(encoder=encoder)).encoder()
    assert DualStudent(Config(encoder=encoder, students="decoder")).encoder().blocks == tuple(range(2, 10))


def test_published_settings() -> None:
    config = Config()
    assert (config.batch_size, config.steps, config.lr, config.weight_decay) == (8, 50_000, 2e-3, 1e-4)
    assert (config.betas, config.eps, config.amsgrad, config.dropout) == ((0.9, 0.999), 1e-10, True, 0.2)
    semantic = configure(DualStudent, "cifar10", {}, None)
    assert isinstance(semantic, Config)
    assert (semantic.lr, semantic.steps) == (1e-4, 82_500)
    for name in ("cifar100", "fmnist", "view"):
        values = configure(DualStudent, name, {}, None)
        assert isinstance(values, Config)
        assert (values.lr, values.steps) == (1e-4, 62_500) and values.final_lr < values.lr
    assert DualStudent.overrides["realiad"] == {"dropout": 0.4}
    for name, rate in (("mvtec", 2e-3), ("realiad", 2e-3), ("cifar10", 1e-4), ("view", 1e-4)):
        values = configure(DualStudent, name, {}, None, "single")
        assert isinstance(values, Config)
        assert (values.steps, values.lr) == (5_000, rate)
    assert (DualStudent.paper.name, DualStudent.paper.resize_for(392)) == ("paper:dual_student", 448)


def test_sources_say_which_paper() -> None:
    def sources(config: type[dinomaly.Config]) -> dict[str, str]:
        extras: dict[str, Any] = {name: field.json_schema_extra for name, field in config.model_fields.items()}
        return {name: extra["source"] for name, extra in extras.items()}

    ours, theirs = sources(Config), sources(dinomaly.Config)
    assert (ours["lr"], theirs["lr"]) == ("appendix D (industrial)", "section 4.1")
    assert (ours["hard_mining"], theirs["hard_mining"]) == ("Dinomaly: section 3.4", "section 3.4")
    assert ours["final_norm"] == "not stated; ours"
    assert all(source.startswith("Dinomaly: ") or ours[name] != theirs.get(name) for name, source in ours.items())


# --------------------------------------------------------------------------------------------------------- network
@pytest.mark.parametrize("norm", [True, False])
@pytest.mark.parametrize("scale", [1.0, None])
def test_encoder_student_by_hand(norm: bool, scale: float | None) -> None:
    _, module = built(final_norm=norm, layer_scale=scale)
    student: Any = module.encoder
    x = seeded(2, TOKENS, DIM, seed=5)
    tokens, expected = x, []
    for block in student.blocks:
        normed = nn.functional.layer_norm(tokens, (DIM,), block.norm1.weight, block.norm1.bias, 1e-6)
        q, k, v = (normed @ block.attention.qkv.weight.T + block.attention.qkv.bias).chunk(3, dim=-1)
        heads = []
        for head in range(3):
            span = slice(head * 4, head * 4 + 4)
            heads.append((q[..., span] @ k[..., span].transpose(1, 2) / 2).softmax(-1) @ v[..., span])
        out = torch.cat(heads, dim=-1) @ block.attention.proj.weight.T + block.attention.proj.bias
        tokens = tokens + (out if scale is None else out * block.scale1.factor)
        normed = nn.functional.layer_norm(tokens, (DIM,), block.norm2.weight, block.norm2.bias, 1e-6)
        inner = nn.functional.gelu(normed @ block.mlp.fc1.weight.T + block.mlp.fc1.bias)
        out = inner @ block.mlp.fc2.weight.T + block.mlp.fc2.bias
        tokens = tokens + (out if scale is None else out * block.scale2.factor)
        expected.append(tokens[:, 0])
    if norm:
        expected.append(nn.functional.layer_norm(tokens[:, 0], (DIM,), student.norm.weight, student.norm.bias, 1e-6))
    torch.testing.assert_close(student(x), torch.stack(expected, dim=1))
    assert len(student.blocks) == DEPTH and student(x).shape == (2, DEPTH + norm, DIM)


def test_initial_values_of_the_encoder_student() -> None:
    torch.manual_seed(0)
    module = DualStudent(Config()).build(EncoderInfo(**{**_fields(), "dim": 96}))
    assert isinstance(module, Students) and module.encoder is not None
    weights = [layer.weight.detach().flatten() for layer in module.encoder.modules() if isinstance(layer, nn.Linear)]
    assert len(weights) == DEPTH * 4
    assert torch.cat(weights).std().item() == pytest.approx(0.02, rel=0.01)
    assert torch.cat(weights).abs().max() > 0.07, "not cut at three standard deviations, as the decoder's are"
    scales = [layer.factor for layer in module.encoder.modules() if isinstance(layer, LayerScale)]
    assert len(scales) == 2 * DEPTH and all((factor == 1).all() for factor in scales)
    assert not any(isinstance(layer, LayerScale) for layer in module.decoder.modules())  # type: ignore[union-attr]


def _fields() -> dict[str, Any]:
    return {name: getattr(INFO, name) for name in EncoderInfo.__dataclass_fields__}


def test_the_teachers_embedding_is_the_students_input() -> None:
    """Through a real encoder: a student with the teacher's own weights gives back the teacher's class tokens."""
    method = DualStudent(Config(encoder=ENCODER, input_size=64))
    encoder = frozen.build(method.encoder(), locate(ENCODER, None))
    module = method.build(encoder.info)
    assert isinstance(module, Students)
    student: Any = module.encoder
    with torch.no_grad():
        for ours, theirs in zip(student.blocks, encoder.backbone.blocks, strict=True):
            for name, source in {"norm1": theirs.norm1, "norm2": theirs.norm2, "mlp.fc1": theirs.mlp.fc1}.items():
                ours.get_submodule(name).load_state_dict(source.state_dict())
            ours.mlp.fc2.load_state_dict(theirs.mlp.fc2.state_dict())
            ours.attention.qkv.load_state_dict(theirs.attn.qkv.state_dict())
            ours.attention.proj.load_state_dict(theirs.attn.proj.state_dict())
        student.norm.load_state_dict(encoder.backbone.norm.state_dict())
        images = torch.randn(2, 3, 64, 64, generator=torch.Generator().manual_seed(0))
        features = method.features(encoder(images), encoder.info)
        torch.testing.assert_close(student(features["embedding"]), features["classes"], rtol=1e-3, atol=1e-3)


# ---------------------------------------------------------------------------------------------------- class tokens
def test_class_tokens_are_compared_raw_for_dinov2_only() -> None:
    assert not DualStudent(Config()).normed and not DualStudent(Config(encoder=LITTLE)).normed
    assert DualStudent(Config(encoder="vit_base_patch16_224.dino")).normed
    assert DualStudent(Config(encoder=ENCODER, input_size=64)).normed
    assert DualStudent(Config(class_tokens="normed")).normed
    assert not DualStudent(Config(encoder=ENCODER, class_tokens="raw")).normed


@pytest.mark.parametrize("tokens", ["last", "all"])
def test_normed_class_tokens_against_loops(tokens: str) -> None:
    method, module = built(class_tokens="normed", score_tokens=tokens, ensemble="sum")
    blocks = stored()
    assert module.encoder is not None
    found = module.encoder(blocks[-1]).detach()
    wanted = []
    for b in range(3):
        squares = []
        for j in range(DEPTH + 1):
            pair = []
            for token in (found[b, j], blocks[j][b, 0]):
                centred = token - token.mean()
                pair.append(centred / (centred.square().mean() + 1e-5).sqrt())
            squares.append((pair[0] - pair[1]).square().mean())
        wanted.append(squares[-1] if tokens == "last" else torch.stack(squares).mean())
    alone, _ = built(ensemble="sum", students="both", encoder_weight=1e-30)  # the decoder student's part of the sum
    features = method.features(blocks, INFO)
    with torch.no_grad():
        local = alone.anomaly(module, features, INFO, 32).scores
        scores = method.anomaly(module, features, INFO, 32).scores - local
    torch.testing.assert_close(scores, torch.stack(wanted).float(), rtol=1e-5, atol=1e-5)


def test_large_class_tokens_stop_the_training_that_would_leave_the_encoder_student_alone() -> None:
    large = {index: 10 * tokens for index, tokens in stored().items()}
    large[-1] = stored()[-1]
    method, module = built()
    features = method.features(large, INFO)
    with pytest.raises(TrainingError, match=r"so large that the encoder student is \d+ off.*class_tokens=normed"):
        method.loss(module, features, step=0)
    loss = method.loss(module, features, step=1)
    loss.backward()
    assert module.encoder is not None
    assert max(float(param.grad.abs().max()) for param in module.encoder.parameters() if param.grad is not None) < 1e-10
    for values in ({"class_tokens": "normed"}, {"encoder_weight": 0.01}, {"objective": "sum"}, {"students": "encoder"}):
        method, module = built(**values)
        method.loss(module, features, step=0).backward()
        assert module.encoder is not None
        for name, param in module.encoder.named_parameters():
            assert param.grad is not None and param.grad.abs().max() > 1e-6, (values, name)


def test_the_embedded_encoders_tokens_train_the_encoder_student() -> None:
    """They are a hundred times larger than DINOv2's; compared raw, exp(-s_E) would be 0 in float32."""
    for tokens in ("auto", "raw"):
        method = DualStudent(Config(encoder=ENCODER, input_size=32, class_tokens=tokens))
        encoder = frozen.build(method.encoder(), locate(ENCODER, None))
        torch.manual_seed(0)
        module = method.build(encoder.info)
        assert isinstance(module, Students) and module.encoder is not None
        features = method.features(encoder(torch.randn(2, 3, 32, 32)), encoder.info)
        if tokens == "raw":
            with pytest.raises(TrainingError, match="class_tokens=normed"):
                method.loss(module, features, 0)
            continue
        method.loss(module, features, 0).backward()
        for name, param in module.encoder.named_parameters():
            assert param.grad is not None and param.grad.any(), name


# -------------------------------------------------------------------------------------------------------- noisy-OR
PLACES = (0.0, 1e-30, 1e-8, 1e-4, 0.01, 0.3, 0.6931, 1.0, 1.3, 3.0, 15.0, 40.0, 80.0)


def exact(a: float, b: float) -> tuple[float, float, float]:
    """-log P, its derivative by a ((1 - p_b) p_a / P, equation 3), and 1 - P, with 120 digits."""
    with localcontext() as context:
        context.prec = 120
        p_a, p_b = (-Decimal(a)).exp(), (-Decimal(b)).exp()
        missed = (1 - p_a) * (1 - p_b)
        normal = 1 - missed
        return float(-normal.ln()), float((1 - p_b) * p_a / normal), float(missed)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_noisy_or_value_and_gradient_are_exact_everywhere(dtype: torch.dtype) -> None:
    pairs = [(a, b) for a in PLACES for b in PLACES]
    a = torch.tensor([pair[0] for pair in pairs], dtype=dtype, requires_grad=True)
    b = torch.tensor([pair[1] for pair in pairs], dtype=dtype, requires_grad=True)
    loss = noisy_or_loss(a, b)
    loss.sum().backward()
    assert a.grad is not None and b.grad is not None
    wanted = [exact(x, y) for x, y in zip(a.tolist(), b.tolist(), strict=True)]
    mirrored = [exact(y, x)[1] for x, y in zip(a.tolist(), b.tolist(), strict=True)]
    rtol = 100 * torch.finfo(dtype).eps  # exp(-80) itself multiplies a rounding of its argument by 80
    smallest = float(torch.finfo(dtype).tiny) * 1e3  # products of two tiny numbers leave float32's normal range
    for found, expected in (
        (loss, [row[0] for row in wanted]),
        (a.grad, [row[1] for row in wanted]),
        (b.grad, mirrored),
        (noisy_or_score(a, b), [row[2] for row in wanted]),
    ):
        torch.testing.assert_close(
            found.detach().double(), torch.tensor(expected, dtype=torch.float64), rtol=rtol, atol=smallest
        )


def test_noisy_or_gradient_against_autograd_of_the_plain_definition() -> None:
    values = seeded(2, 200).abs() * torch.tensor([[2.0], [0.7]], dtype=torch.float64)
    gradients = []
    for join in (noisy_or_loss, lambda a, b: -torch.log(1 - (1 - torch.exp(-a)) * (1 - torch.exp(-b)))):
        a, b = (row.clone().requires_grad_() for row in values)
        joined = join(a, b)
        joined.sum().backward()
        gradients.append((joined.detach(), a.grad, b.grad))
    for stable, plain in zip(*gradients, strict=True):
        torch.testing.assert_close(stable, plain, rtol=1e-10, atol=1e-12)
    inputs = tuple(row[:20].clone().requires_grad_() for row in values)
    assert torch.autograd.gradcheck(noisy_or_loss, inputs)


def test_noisy_or_is_symmetric_and_normal_as_soon_as_one_student_is_sure() -> None:
    a, b = seeded(2, 50).abs()
    torch.testing.assert_close(noisy_or_loss(a, b), noisy_or_loss(b, a))
    sure = torch.zeros(50, dtype=torch.float64)
    assert not noisy_or_loss(a, sure).any() and not noisy_or_score(a, sure).any()
    # the small product of two small scores is what ranks images of a trained model
    small = torch.tensor([3e-5]), torch.tensor([2e-5])
    assert noisy_or_score(*small).item() == pytest.approx(6e-10, rel=1e-4)


# ----------------------------------------------------------------------------------------------------- loss, score
@pytest.mark.parametrize("weight", [1.0, 0.2])
def test_loss_against_the_plain_definition(weight: float) -> None:
    method, module = built(hard_mining=0.0, encoder_weight=weight)
    blocks = stored()
    squares, local = discrepancies(method, module, blocks)
    semantic = weight * squares.mean(dim=1)
    normal = 1 - (1 - torch.exp(-semantic)) * (1 - torch.exp(-local))
    plain = -torch.log(normal).mean()
    params = dict(module.named_parameters())
    wanted = torch.autograd.grad(plain, list(params.values()))
    loss = method.loss(module, method.features(blocks, INFO), step=5000)
    torch.testing.assert_close(loss, plain)
    for name, found, expected in zip(params, torch.autograd.grad(loss, list(params.values())), wanted, strict=True):
        torch.testing.assert_close(found, expected, rtol=1e-7, atol=1e-12, msg=name)


def test_equation_3_the_surer_one_student_the_smaller_the_others_gradient() -> None:
    method, module = built(hard_mining=0.0)
    blocks = stored(batch=1)
    squares, local = discrepancies(method, module, blocks)
    semantic = squares.mean()
    assert module.encoder is not None
    params = list(module.encoder.parameters())
    alone = torch.autograd.grad(semantic, params)
    p_e, p_d = torch.exp(-semantic), torch.exp(-local[0])
    factor = ((1 - p_d) * p_e / (p_e + p_d - p_e * p_d)).detach()
    assert 0 < factor < 0.9
    loss = method.loss(module, method.features(blocks, INFO), step=0)
    for found, expected in zip(torch.autograd.grad(loss, params), alone, strict=True):
        torch.testing.assert_close(found, factor * expected, rtol=1e-7, atol=1e-12)


def test_hard_mining_changes_the_decoders_gradient_only() -> None:
    method, module = built()
    features = method.features(stored(), INFO)
    values, gradients = [], []
    for step in (0, 1000):
        module.zero_grad()
        loss = method.loss(module, features, step)
        loss.backward()
        values.append(loss.item())
        gradients.append({name: param.grad for name, param in module.named_parameters()})
    assert values[0] == values[1]
    for name, before in gradients[0].items():
        after = gradients[1][name]
        assert before is not None and after is not None
        assert torch.equal(before, after) == name.startswith("encoder."), name


@pytest.mark.parametrize(
    ("students", "objective"), [("both", "noisy_or"), ("both", "sum"), ("encoder", "noisy_or"), ("decoder", "noisy_or")]
)
def test_training_losses_of_the_ablation(students: str, objective: str) -> None:
    method, module = built(hard_mining=0.0)
    blocks = stored()
    squares, local = discrepancies(method, module, blocks)
    semantic = squares.mean(dim=1)
    joined = semantic + local if objective == "sum" else noisy_or_loss(semantic, local)
    wanted = {"encoder": semantic, "decoder": local, "both": joined}[students].mean()
    other, part = built(hard_mining=0.0, students=students, objective=objective)
    part.load_state_dict({name: value for name, value in module.state_dict().items() if name in part.state_dict()})
    torch.testing.assert_close(other.loss(part, other.features(blocks, INFO), 0), wanted)


@pytest.mark.parametrize(
    ("students", "ensemble", "tokens", "local_score"),
    [
        *(("both", *rest) for rest in product(("noisy_or", "sum"), ("last", "all"), ("map", "loss"))),
        *(("encoder", "noisy_or", tokens, "map") for tokens in ("last", "all")),
        *(("decoder", "noisy_or", "last", local_score) for local_score in ("map", "loss")),
    ],
)
def test_scores_of_the_ablation(students: str, ensemble: str, tokens: str, local_score: str) -> None:
    method, module = built()
    blocks = stored()
    squares, flat = discrepancies(method, module, blocks)
    semantic = squares[:, -1] if tokens == "last" else squares.mean(dim=1)
    values = {key: value for key, value in SMALL.items() if key in dinomaly.Config.model_fields}
    alone = Dinomaly(dinomaly.Config(**values))
    assert module.decoder is not None
    local_only = alone.anomaly(module.decoder, alone.features(blocks, INFO), INFO, 32)
    local = local_only.scores.double() if local_score == "map" else flat
    joined = semantic + local if ensemble == "sum" else (1 - torch.exp(-semantic)) * (1 - torch.exp(-local))

    chosen = {"students": students, "ensemble": ensemble, "score_tokens": tokens, "local_score": local_score}
    other, part = built(**chosen)
    part.load_state_dict({name: value for name, value in module.state_dict().items() if name in part.state_dict()})
    with torch.no_grad():
        found = other.anomaly(part, other.features(blocks, INFO), INFO, 32)
    wanted = {"encoder": semantic, "decoder": local, "both": joined}[students]
    assert found.scores.dtype == torch.float32
    torch.testing.assert_close(found.scores, wanted.float(), rtol=1e-5, atol=1e-6)
    if students == "encoder":
        assert found.maps is None
    else:
        assert found.maps is not None and local_only.maps is not None
        torch.testing.assert_close(found.maps, local_only.maps)


def test_score_settings_leave_the_training_alone() -> None:
    features = DualStudent(Config(**SMALL)).features(stored(), INFO)
    losses = []
    for values in ({}, {"ensemble": "sum"}, {"score_tokens": "all"}, {"local_score": "loss"}):
        method, module = built(**values)
        losses.append(method.loss(module, features, 100).item())
    assert len(set(losses)) == 1


def test_decoder_alone_is_dinomaly() -> None:
    values = {key: value for key, value in SMALL.items() if key in dinomaly.Config.model_fields}
    ours, theirs = DualStudent(Config(**SMALL, students="decoder")), Dinomaly(dinomaly.Config(**values))
    torch.manual_seed(1)
    students = ours.build(INFO).double()
    torch.manual_seed(1)
    reconstructor = theirs.build(INFO).double()
    features = theirs.features(stored(), INFO)
    assert ours.loss(students, features, 500).item() == theirs.loss(reconstructor, features, 500).item()
    with torch.no_grad():
        found, wanted = (
            method.anomaly(module, features, INFO, 32) for method, module in ((ours, students), (theirs, reconstructor))
        )
    assert torch.equal(found.scores, wanted.scores)


@pytest.mark.parametrize("students", ["both", "encoder", "decoder"])
def test_predictions_do_not_depend_on_the_batch(students: str) -> None:
    method, module = built(students=students)
    module.float().eval()
    features = {name: value.float() for name, value in method.features(stored(5), INFO).items()}
    with torch.no_grad():
        whole = method.anomaly(module, features, INFO, 32)
        parts = [method.anomaly(module, {k: v[i : i + 1] for k, v in features.items()}, INFO, 32) for i in range(5)]
    torch.testing.assert_close(whole.scores, torch.cat([part.scores for part in parts]), rtol=0, atol=1e-5)


@pytest.mark.parametrize("students", ["both", "encoder", "decoder"])
def test_every_weight_is_trained(students: str) -> None:
    method, module = built(students=students)
    method.loss(module, method.features(stored(), INFO), step=3).backward()
    assert {name.partition(".")[0] for name, _ in module.named_parameters()} == (
        {"encoder", "decoder"} if students == "both" else {students}
    )
    for name, param in module.named_parameters():
        assert param.grad is not None and param.grad.any(), name
    (group,) = method.optimizer(module).param_groups
    assert len(group["params"]) == len(list(module.parameters()))


def test_autocast_trains() -> None:
    method, module = built()
    module.float()
    features = {name: value.float() for name, value in method.features(stored(), INFO).items()}
    with torch.autocast("cpu", dtype=torch.bfloat16):
        loss = method.loss(module, features, 1000)
    loss.backward()
    assert loss.item() == pytest.approx(method.loss(module, features, 1000).item(), rel=0.05)
    assert all(param.grad is not None and param.grad.isfinite().all() for param in module.parameters())


def test_training_finds_an_image_of_another_kind(train: Callable[..., Any]) -> None:
    """The encoder student alone: class tokens follow the patches by one rule, learnt on images of one kind."""
    method = DualStudent(
        Config(**{**SMALL, "students": "encoder", "student_init_std": 0.02, "steps": 80, "warmup": 10})
    )
    torch.manual_seed(0)
    module = method.build(INFO)
    rule = seeded(DIM, (DEPTH + 1) * DIM, seed=3).float() / math.sqrt(DIM)

    def batch(seed: int, kind: Tensor) -> dict[str, Tensor]:
        tokens = seeded(8, TOKENS, DIM, seed=seed).float() * 0.3 + kind
        return {"embedding": tokens, "classes": (tokens.mean(dim=1) @ rule).tanh().view(8, DEPTH + 1, DIM)}

    usual, foreign = seeded(DIM, seed=1).float(), seeded(DIM, seed=2).float()
    losses = train(method, module, lambda step: batch(step, usual))
    assert losses[-1] < 0.3 * losses[0]
    with torch.no_grad():
        normal, odd = (method.anomaly(module.eval(), batch(1000, kind), INFO, 32).scores for kind in (usual, foreign))
    assert odd.min() > normal.max()


def test_kept_and_recomputed_features_train_the_same(bench: Callable[..., Any], tree: Path, tmp_path: Path) -> None:
    values = {"input_size": 32, "steps": 3, "batch_size": 4, "warmup": 1}
    settings = [part for key, value in values.items() for part in ("--set", f"dual_student.{key}={value}")]
    tables = []
    for store in ("memory", "none"):
        options = ("--methods", "dual_student", "--datasets", "folder", "--data-root", str(tree), "--device", "cpu")
        done = bench("run", *options, "--encoder", ENCODER, "--results", store, "--store", store, *settings)
        assert done.returncode == 0, done.stdout + done.stderr
        (path,) = (tmp_path / store).rglob("*.parquet")
        tables.append(pq.read_table(path).to_pydict())
    assert tables[0]["id"] == tables[1]["id"]
    assert tables[0]["score"] == pytest.approx(tables[1]["score"], rel=1e-4, abs=1e-7)
    assert len(set(tables[0]["score"])) == len(tables[0]["score"])


def test_the_student_alone_builds_on_meta() -> None:
    with torch.device("meta"):
        student = EncoderStudent(Config(), INFO)
    assert all(param.is_meta for param in student.parameters())
