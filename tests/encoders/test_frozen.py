from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import pytest
import timm
import torch
from safetensors.torch import save_file
from timm.models.vision_transformer import VisionTransformer

from bench.api import EncoderRequest
from bench.encoders import catalog, frozen
from bench.errors import UsageError, WeightsError

SHARED = Path(__file__).resolve().parents[2].parent / "shared"
REG4 = "vit_small_patch14_reg4_dinov2.lvd142m"


def saved(name: str, folder: Path) -> tuple[Any, Path]:
    torch.manual_seed(0)
    model: Any = timm.create_model(name, pretrained=False, num_classes=0).eval()
    with torch.no_grad():
        for param in model.parameters():
            # timm's start values leave LayerScale, tokens and biases at almost nothing, which would hide mistakes
            param.add_(torch.randn_like(param) * 0.1)
    path = folder / f"{name}.safetensors"
    save_file({key: value.contiguous() for key, value in model.state_dict().items()}, path)
    return model, path


@pytest.fixture(scope="module")
def small_vit(tmp_path_factory: pytest.TempPathFactory) -> tuple[Any, Path]:
    return saved("test_vit.r160_in1k", tmp_path_factory.mktemp("weights"))


@pytest.fixture
def embedded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    torch.manual_seed(0)
    model = VisionTransformer(img_size=128, patch_size=8, embed_dim=128, depth=12, num_heads=2, num_classes=0).eval()
    save_file({k: v.half().contiguous() for k, v in model.state_dict().items()}, tmp_path / "vit_own_8.safetensors")
    monkeypatch.setattr(catalog, "EMBEDDED", tmp_path)
    catalog.describe.cache_clear()
    yield model
    catalog.describe.cache_clear()


def bicubic_weight(distance: float, a: float = -0.75) -> float:
    x = abs(distance)
    if x <= 1:
        return (a + 2) * x**3 - (a + 3) * x**2 + 1
    if x < 2:
        return a * x**3 - 5 * a * x**2 + 8 * a * x - 4 * a
    return 0.0


def slow_dinov2(grid: list[list[float]], size: int) -> list[list[float]]:
    native = len(grid)

    def taps(j: int) -> list[tuple[int, float]]:
        source = (j + 0.5) * native / (size + 0.1) - 0.5
        first = math.floor(source) - 1
        return [(min(max(first + i, 0), native - 1), bicubic_weight(source - (first + i))) for i in range(4)]

    return [
        [sum(wr * wc * grid[r][c] for r, wr in taps(row) for c, wc in taps(column)) for column in range(size)]
        for row in range(size)
    ]


@pytest.mark.parametrize("size", [28, 20, 45])
def test_dinov2_positions_against_a_pixel_loop(size: int) -> None:
    grid = torch.randn(1, 2, 37, 37, generator=torch.Generator().manual_seed(3))
    found = frozen.dinov2_positions(grid, (size, size))
    for channel in range(2):
        expected = torch.tensor(slow_dinov2(grid[0, channel].tolist(), size))
        torch.testing.assert_close(found[0, channel], expected, atol=2e-5, rtol=0)


def test_dinov2_rule_at_392_in_the_built_encoder(tmp_path: Path) -> None:
    model, path = saved(REG4, tmp_path)
    request = EncoderRequest(REG4, blocks=(0, 1), input_size=392, position="dinov2")
    encoder = frozen.build(request, path)
    native = model.pos_embed.detach().reshape(37, 37, -1)
    for channel in (0, 200):
        expected = torch.tensor(slow_dinov2(native[..., channel].tolist(), 28)).flatten()
        torch.testing.assert_close(encoder.backbone.pos_embed[0, :, channel], expected, atol=2e-5, rtol=0)
    outputs = encoder(torch.randn(1, 3, 392, 392))
    assert {index: tuple(value.shape) for index, value in outputs.items()} == {
        0: (1, 789, 384),
        1: (1, 789, 384),
    }
    info = encoder.info
    assert (info.prefix, info.grid, info.dim, info.depth, info.heads, info.patch) == (5, (28, 28), 384, 12, 6, 14)

    other = frozen.positions(model.pos_embed.detach(), model, info, "timm")
    assert (other - encoder.backbone.pos_embed).abs().max() > 0.01
    model.set_input_size(392)
    torch.testing.assert_close(other, model.pos_embed.detach())


def test_registers_get_no_position_and_stand_between_class_and_patches(tmp_path: Path) -> None:
    model, path = saved(REG4, tmp_path)
    encoder = frozen.build(EncoderRequest(REG4, blocks=(0,), input_size=28, position="dinov2"), path)
    entering: list[torch.Tensor] = []
    encoder.backbone.blocks[0].register_forward_pre_hook(lambda _, inputs: entering.append(inputs[0]))
    images = torch.randn(1, 3, 28, 28)
    encoder(images)
    tokens = entering[0][0]
    torch.testing.assert_close(tokens[:1], model.cls_token[0].detach())
    torch.testing.assert_close(tokens[1:5], model.reg_token[0].detach())
    patches = torch.nn.functional.conv2d(images, model.patch_embed.proj.weight, model.patch_embed.proj.bias, stride=14)
    positions = frozen.dinov2_positions(model.pos_embed.reshape(1, 37, 37, -1).permute(0, 3, 1, 2), (2, 2))
    expected = (patches + positions)[0].flatten(1).T
    torch.testing.assert_close(tokens[5:], expected.detach(), atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("rule", ["dinov2", "timm"])
def test_class_position_is_untouched_and_native_grid_is_kept(small_vit: tuple[Any, Path], rule: str) -> None:
    model, _ = small_vit
    native = model.pos_embed.detach()
    same = frozen.positions(native, model, catalog.describe("test_vit.r160_in1k", 160), rule)
    assert torch.equal(same, native)
    smaller = frozen.positions(native, model, catalog.describe("test_vit.r160_in1k", 96), rule)
    assert smaller.shape == (1, 37, 64)
    assert torch.equal(smaller[:, 0], native[:, 0])


@pytest.mark.parametrize("size", [160, 96])
def test_blocks_are_the_raw_residual_stream(small_vit: tuple[Any, Path], size: int) -> None:
    model, path = small_vit
    encoder = frozen.build(EncoderRequest("test_vit.r160_in1k", (-1, 1, 3, 5, 6), size), path)
    reference: Any = timm.create_model("test_vit.r160_in1k", num_classes=0).eval()
    reference.load_state_dict(model.state_dict())
    reference.set_input_size(size)
    seen: list[torch.Tensor] = []
    entering: list[torch.Tensor] = []
    for block in reference.blocks:
        block.register_forward_hook(lambda _, inputs, output: seen.append(output))
    reference.blocks[0].register_forward_pre_hook(lambda _, inputs: entering.append(inputs[0]))
    images = torch.randn(2, 3, size, size)
    final = reference.forward_features(images)
    outputs = encoder(images)
    assert list(outputs) == [-1, 1, 3, 5, 6]
    torch.testing.assert_close(outputs[-1], entering[0].detach())
    for index in (1, 3, 5):
        torch.testing.assert_close(outputs[index], seen[index].detach())
    torch.testing.assert_close(outputs[6], final.detach())
    assert not torch.allclose(outputs[5], outputs[6])


def test_no_block_runs_beyond_the_last_requested(small_vit: tuple[Any, Path]) -> None:
    encoder = frozen.build(EncoderRequest("test_vit.r160_in1k", (0, 2), 160), small_vit[1])
    ran: list[int] = []
    for index, block in enumerate(encoder.backbone.blocks):
        block.register_forward_hook(lambda *_, index=index: ran.append(index))
    encoder.backbone.norm.register_forward_hook(lambda *_: ran.append(-1))
    encoder(torch.randn(1, 3, 160, 160))
    assert ran == [0, 1, 2]


def test_frozen_means_no_gradient_no_training_mode_no_random_numbers(small_vit: tuple[Any, Path]) -> None:
    torch.manual_seed(5)
    before = torch.random.get_rng_state()
    encoder = frozen.build(EncoderRequest("test_vit.r160_in1k", (2,), 160), small_vit[1])
    assert torch.equal(before, torch.random.get_rng_state())
    assert not any(param.requires_grad for param in encoder.parameters())
    parent = torch.nn.Sequential(encoder)
    parent.train()
    assert not any(module.training for module in encoder.modules())
    images = torch.randn(1, 3, 160, 160, requires_grad=True)
    output = encoder(images)[2]
    assert not output.requires_grad and not output.is_inference()
    with torch.inference_mode():
        torch.testing.assert_close(encoder(images)[2], output)
    assert len(encoder.weights_sha256) == 64


@pytest.mark.parametrize(
    ("name", "hint"),
    [
        ("vit_base_patch14_reg4_dinov2.lvd124m", "vit_base_patch14_reg4_dinov2.lvd142m"),
        ("vit_bsae_patch14_reg4_dinov2.lvd142m", "vit_base_patch14_reg4_dinov2.lvd142m"),
        ("test_vit.nope", "test_vit.r160_in1k"),
        ("vit_tiny_patch8_256.bench", "vit_tiny_patch8_128.bench"),
    ],
)
def test_unknown_encoder_gets_a_suggestion(
    name: str, hint: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "vit_tiny_patch8_128.safetensors").touch()
    monkeypatch.setattr(catalog, "EMBEDDED", tmp_path)
    with pytest.raises(UsageError, match="unknown encoder") as caught:
        catalog.describe(name, 392)
    assert hint in str(caught.value)


def test_other_transformers_are_refused_by_kind() -> None:
    with pytest.raises(UsageError, match="Beit"):
        catalog.describe("beit_base_patch16_224.in22k_ft_in22k", 224)


def test_input_size_that_does_not_fit_names_sizes_that_do() -> None:
    with pytest.raises(UsageError, match=r"multiple of 14, for example 392 or 406"):
        catalog.describe(REG4, 400)
    with pytest.raises(UsageError, match=r"for example 14 or 28"):
        catalog.describe(REG4, 3)


@pytest.mark.parametrize("blocks", [(3, 2), (1, 1), (-2,), (13,)])
def test_blocks_that_do_not_fit(blocks: tuple[int, ...]) -> None:
    with pytest.raises(UsageError, match="ascending indices from 0 to 11"):
        catalog.describe(REG4, 392, blocks)


@pytest.mark.parametrize(
    ("name", "shape"),
    [
        ("vit_base_patch14_reg4_dinov2.lvd142m", (768, 12, 12, 14, 5, (28, 28))),
        ("vit_large_patch14_reg4_dinov2.lvd142m", (1024, 24, 16, 14, 5, (28, 28))),
        ("vit_small_patch16_224.dino", (384, 12, 6, 16, 1, (14, 14))),
    ],
)
def test_description(name: str, shape: tuple[Any, ...]) -> None:
    info = catalog.describe(name, 392 if shape[3] == 14 else 224)
    assert (info.dim, info.depth, info.heads, info.patch, info.prefix, info.grid) == shape
    assert info.mean == (0.485, 0.456, 0.406)


def test_embedded_encoder_is_laid_out_from_its_file(embedded: VisionTransformer, tmp_path: Path) -> None:
    assert catalog.names()[0] == "vit_own_8.bench"
    info = catalog.describe("vit_own_8.bench")
    assert (info.dim, info.depth, info.heads, info.patch, info.prefix) == (128, 12, 2, 8, 1)
    assert info.grid == (16, 16)
    encoder = frozen.build(EncoderRequest("vit_own_8.bench", (11, 12), 128), tmp_path / "vit_own_8.safetensors")
    assert encoder.backbone.pos_embed.dtype == torch.float32
    images = torch.randn(1, 3, 128, 128)
    expected = embedded.half().float().forward_features(images)
    torch.testing.assert_close(encoder(images)[12], expected.detach())
    larger = frozen.build(EncoderRequest("vit_own_8.bench", (2,), 224), tmp_path / "vit_own_8.safetensors")
    assert larger(torch.randn(1, 3, 224, 224))[2].shape == (1, 785, 128)


def test_embedded_file_of_another_layout(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    save_file({"weight": torch.zeros(2)}, tmp_path / "odd.safetensors")
    monkeypatch.setattr(catalog, "EMBEDDED", tmp_path)
    with pytest.raises(WeightsError, match=r"patch_embed\.proj\.weight"):
        catalog.describe("odd.bench")


@pytest.mark.parametrize("name", ["test_resnet.r160_in1k", "test_efficientnet.r160_in1k"])
def test_cnn_stages_are_timms_features(name: str, tmp_path: Path) -> None:
    model, path = saved(name, tmp_path)
    encoder = frozen.build(EncoderRequest(name, (1, 3), 96), path)
    reference: Any = timm.create_model(name, features_only=True, out_indices=(1, 3)).eval()
    reference.load_state_dict(model.state_dict(), strict=False)
    images = torch.randn(2, 3, 96, 96)
    expected = reference(images)
    outputs = encoder(images)
    assert list(outputs) == [1, 3]
    for found, wanted in zip(outputs.values(), expected, strict=True):
        torch.testing.assert_close(found, wanted.detach())
    info = encoder.info
    assert info.family == "cnn" and info.prefix == 0
    assert info.channels == tuple(value.shape[1] for value in expected)
    assert info.grid == tuple(expected[-1].shape[-2:])
    assert info.dim == expected[-1].shape[1]


def test_cnn_keeps_no_stage_after_the_last_requested() -> None:
    encoder = frozen.skeleton(EncoderRequest("wide_resnet50_2.racm_in1k", (1, 2, 3), 256))
    # methods that rebuild the first three stages publish the stem and these stages as their teacher
    assert sum(param.numel() for param in encoder.parameters()) == 24_862_528
    assert encoder.info.channels == (256, 512, 1024)


def test_real_cnn_weights_load_strictly() -> None:
    path = SHARED / "weights" / "tf_efficientnet_lite0.in1k.safetensors"
    if not path.is_file():
        pytest.skip("no real weights in the shared folder beside the repository")
    encoder = frozen.build(EncoderRequest("tf_efficientnet_lite0.in1k", (1, 2, 3), 128), path)
    assert [value.shape[1] for value in encoder(torch.randn(1, 3, 128, 128)).values()] == [24, 40, 112]
    assert encoder.info.mean == (0.5, 0.5, 0.5)


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("vit_small_patch16_224.dino", True),
        ("vit_tiny_patch8_128.bench", True),
        ("vit_base_patch16_siglip_224.webli", False),
        ("vit_medium_patch16_reg4_gap_256.sbb_in12k", False),
        ("mobilenetv2_100", False),
    ],
)
def test_class_tokens_are_told_from_registers(name: str, expected: bool) -> None:
    assert catalog.has_class_token(name) is expected


@pytest.mark.parametrize(
    ("name", "strides", "at", "resnet"),
    [
        ("wide_resnet50_2.racm_in1k", (2, 4, 8, 16, 32), (1, 2, 3), True),
        ("mobilenetv2_100", (2, 4, 8, 16, 32), (1, 2, 3), False),
        ("convnext_tiny.in12k", (4, 8, 16, 32), (0, 1, 2), False),
    ],
)
def test_stages_by_stride(name: str, strides: tuple[int, ...], at: tuple[int, ...], resnet: bool) -> None:
    assert catalog.strides(name) == strides
    assert catalog.stages_at(name, (4, 8, 16)) == at
    assert catalog.stages_at(name, (4, 64)) is None
    assert catalog.is_resnet(name) is resnet


def test_dinov3_blocks_are_timms_with_its_rotary_positions_and_five_tokens_before_the_patches(tmp_path: Path) -> None:
    name = "vit_small_patch16_dinov3.lvd1689m"
    reference, path = saved(name, tmp_path)
    images = torch.randn(2, 3, 96, 96, generator=torch.Generator().manual_seed(1))
    for norm in (False, True):
        encoder = frozen.build(EncoderRequest(name, (1, 4, 12), 96, norm=norm), path)
        assert (encoder.info.family, encoder.info.prefix, encoder.info.grid) == ("vit", 5, (6, 6))
        found = encoder(images)
        with torch.no_grad():
            options = {"indices": [1, 4], "return_prefix_tokens": True, "norm": norm, "output_fmt": "NLC"}
            expected = reference.forward_intermediates(images, intermediates_only=True, **options)
            last = reference.forward_features(images)
        for block, (patches, prefix) in zip((1, 4), expected, strict=True):
            torch.testing.assert_close(found[block], torch.cat([prefix, patches], dim=1), rtol=1e-4, atol=1e-4)
        torch.testing.assert_close(found[12], last, rtol=1e-4, atol=1e-4)


def test_the_final_norm_goes_behind_every_block_where_asked(small_vit: tuple[Any, Path]) -> None:
    reference, path = small_vit
    images = torch.randn(2, 3, 160, 160, generator=torch.Generator().manual_seed(1))
    raw, normed = (
        frozen.build(EncoderRequest("test_vit.r160_in1k", (-1, 1, 6), 160, norm=norm), path)(images)
        for norm in (False, True)
    )
    with torch.no_grad():
        torch.testing.assert_close(normed[1], reference.norm(raw[1]))
    assert torch.equal(normed[-1], raw[-1]) and torch.equal(normed[6], raw[6])


def test_a_cnn_has_no_final_norm_to_ask_for() -> None:
    with pytest.raises(UsageError, match="no final norm"):
        frozen.skeleton(EncoderRequest("test_resnet.r160_in1k", (1,), 64, norm=True))


def test_rotary_networks_with_absolute_positions_too_are_refused() -> None:
    with pytest.raises(UsageError, match="supported are timm's plain VisionTransformer family, DINOv3 and CNNs"):
        catalog.describe("eva02_tiny_patch14_224.mim_in22k")


@pytest.mark.parametrize(("name", "blocks"), [("test_vit.r160_in1k", (0, 2)), ("vit_small_patch16_dinov3", (0, 1))])
def test_a_trunk_ends_with_the_last_block_asked_for_and_all_of_it_learns(
    name: str, blocks: tuple[int, ...], tmp_path: Path
) -> None:
    _, path = saved(name, tmp_path)
    encoder = frozen.build(EncoderRequest(name, blocks, 32, norm=False), path)
    trunk, images = encoder.trunk(), torch.rand(2, 3, 32, 32)
    outputs = trunk(images)
    for block, tokens in encoder(encoder.normalised(images)).items():
        torch.testing.assert_close(outputs[block], tokens, rtol=1e-5, atol=1e-5)
    sum(tokens.square().mean() for tokens in outputs.values()).backward()
    assert all(param.grad is not None for param in trunk.parameters())
    assert len(trunk.backbone.blocks) == blocks[-1] + 1 and len(encoder.backbone.blocks) > blocks[-1] + 1
    assert not any(param.requires_grad for param in encoder.parameters())


def test_a_cnns_trunk_reaches_its_last_stage_where_that_is_asked_for(tmp_path: Path) -> None:
    _, path = saved("test_resnet.r160_in1k", tmp_path)
    for blocks in ((1, 2), (1, 4)):
        trunk = frozen.build(EncoderRequest("test_resnet.r160_in1k", blocks, 64), path).trunk()
        named = {name.split(".")[1] for name, _ in trunk.named_parameters() if ".layer" in name}
        assert named == {f"layer{stage}" for stage in range(1, blocks[-1] + 1)}


def test_attention_of_the_class_token_is_what_the_blocks_compute(small_vit: tuple[Any, Path]) -> None:
    model, path = small_vit
    encoder = frozen.build(EncoderRequest("test_vit.r160_in1k", (1, 3), 160, attention=True), path)
    images, seen = torch.randn(2, 3, 160, 160), []
    for index in (1, 3):
        layer = model.blocks[index].attn
        layer.fused_attn = False
        layer.attn_drop.register_forward_hook(lambda module, given, output: seen.append(output[:, :, 0]))
    plain = frozen.build(EncoderRequest("test_vit.r160_in1k", (1, 3), 160), path)(images)
    found = encoder(images)
    with torch.no_grad():
        model.eval()(images)
    assert list(found.attention) == [1, 3] and not plain.attention
    for index, wanted in zip((1, 3), seen, strict=True):
        assert torch.equal(found[index], plain[index])
        torch.testing.assert_close(found.attention[index], wanted, atol=1e-6, rtol=1e-5)
        torch.testing.assert_close(found.attention[index].sum(dim=-1), torch.ones(2, wanted.shape[1]))
    hooks = [layer._forward_hooks for layer in encoder.backbone.modules()]
    assert not any(hooks), "nothing goes on watching"


def test_attention_is_asked_of_plain_vits_alone() -> None:
    for name in ("resnet18.tv_in1k", "vit_base_patch16_dinov3.lvd1689m", "vit_base_patch16_siglip_224.webli"):
        with pytest.raises(UsageError, match="no plain ViT with a class token"):
            frozen.skeleton(EncoderRequest(name, (2,), 224, attention=True))
