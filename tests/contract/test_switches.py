"""Every setting of every method does something: changed by itself, it changes what can be seen of the method."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from bench.api import Batch, BlockOutputs, EncoderInfo, Method
from bench.encoders import catalog, frozen
from bench.errors import UsageError
from bench.methods._pdn import PatchNetwork
from bench.plan.texture_source import Textures
from bench.registry import METHODS
from bench.run.seeding import step_generator
from bench.run.textures import Draw

Change = tuple[dict[str, Any], Any]
"""Settings under which a setting acts, and a value for it that is not its default."""

MEAN = (0.0, 0.0, 0.0)
VIT = EncoderInfo("fake", "vit", 12, 12, 3, 14, 2, (4, 4), 56, MEAN, MEAN)
CNN = EncoderInfo("resnet18", "cnn", 20, 5, 0, 16, 0, (4, 4), 64, MEAN, (1.0, 1.0, 1.0), (8, 12, 20))
WIDTHS = (*CNN.channels, 24, 32)
"""Widths of the stages that a method asks for, the shallowest first."""
SIDES = (32, 16, 8, 4, 2)
"""Sides of a CNN's stages in a picture of 64 pixels."""
STEP = 700
IMAGES = 3629
"""MVTec-AD's training images."""

DINOMALY: dict[str, Change] = {
    "encoder": ({}, "vit_small_patch14_reg4_dinov2.lvd142m"),
    "input_size": ({}, 280),
    "position": ({}, "timm"),
    "layers": ({}, (1, 2, 3, 4, 5, 6, 7, 8)),
    "constraint": ({}, "1-group"),
    "groups": ({}, ((0, 1, 2), (3, 4, 5, 6, 7))),
    "decoder_groups": ({}, ((0, 1), (2, 3))),
    "decoder_depth": ({}, 9),
    "dropout": ({}, 0.5),
    "jitter": ({}, 20.0),
    "mlp_ratio": ({}, 2.0),
    "norm_eps": ({}, 0.1),
    "attention": ({}, "softmax"),
    "neighbour_mask": ({}, 3),
    "attention_eps": ({}, 0.5),
    "init_std": ({}, 0.1),
    "hard_mining": ({}, 0.5),
    "hard_mining_steps": ({}, 900),
    "hard_mining_factor": ({}, 0.5),
    "steps": ({}, 5000),
    "lr": ({}, 5e-3),
    "final_lr": ({}, 1e-4),
    "warmup": ({}, 10),
    "weight_decay": ({}, 0.01),
    "betas": ({}, (0.8, 0.999)),
    "eps": ({}, 1e-6),
    "amsgrad": ({}, False),
    "clip_norm": ({}, 1.0),
    "smoothing_sigma": ({}, 1.0),
    "score_share": ({}, 0.1),
}
FEW = {"stages": (0, 1, 2, 3), "highest": 6, "widest": 6}
"""Stages that can be halved twice, and channels that such stages have."""
SMALL = {"input_size": 64, "neighbour_mask": 3, "width": 32, "heads": 2, "hidden": 16, "encoder_depth": 1}
"""UniAD small enough to be built often."""
NARROW = {"dim": 8, "width": 4}
"""SimpleNet likewise."""
SLIM: dict[str, Any] = {"student_width": 8, "mark_width": 12}
"""DeSTSeg, as fast as it is large."""
NEAR = {"window": 3, "threshold": 0.6, "share": 0.5}
"""UniFormaly, as few patches as there are."""
TINY = {"input_size": 32, "width": 2, "mark_width": 2}
"""DRAEM likewise."""
THIN = {"input_size": 64, "width": 4, "dim": 12, "autoencoder_width": 8, "statistics_textures": 16}
"""EfficientAD likewise, in the phase of its teacher."""
LATE: dict[str, Any] = {**THIN, "steps": 800}
"""And in that of its student."""
TEACHER = Path(tempfile.mkdtemp(prefix="bench-teacher-")) / "teacher.pth"
"""A file of a teacher as large as that one's."""
DINOMALY_ALONE = {
    *("constraint", "dropout", "jitter", "neighbour_mask", "attention_eps"),
    *("hard_mining", "hard_mining_steps", "hard_mining_factor"),
}
CHANGES: dict[str, dict[str, Change]] = {
    "dinomaly": DINOMALY,
    "dinomaly2": {
        **DINOMALY,
        "recentre": ({}, False),
        "bottleneck_width": ({}, 8),
        "bottleneck_lr_scale": ({}, 1.0),
        "steps": ({"final_lr": 2e-4}, 5000),
        "amsgrad": ({}, True),
    },
    "inp_former": {
        **{key: change for key, change in DINOMALY.items() if key not in DINOMALY_ALONE},
        "prototypes": ({}, 2),
        "attention": ({}, "softmax"),
        "residual": ({}, True),
        "soft_mining": ({}, 1.0),
        "coherence": ({}, 0.5),
        "epochs": ({}, 100),
        "final_lr": ({}, 1e-5),
    },
    "dual_student": {
        **DINOMALY,
        "students": ({}, "encoder"),
        "objective": ({}, "sum"),
        "ensemble": ({}, "sum"),
        "score_tokens": ({}, "all"),
        "local_score": ({}, "loss"),
        "class_tokens": ({}, "normed"),
        "encoder_weight": ({}, 0.5),
        "final_norm": ({}, False),
        "layer_scale": ({}, 0.1),
        "student_norm_eps": ({}, 0.1),
        "student_init_std": ({}, 0.1),
    },
    "vitad": {
        "encoder": ({}, "vit_base_patch16_224.dino"),
        "input_size": ({}, 224),
        "statistics": ({}, "encoder"),
        "targets": ({}, (1, 5, 8)),
        "fused": ({}, (12,)),
        "decoder": ({}, (2, 3, 4)),
        "fuser": ({}, "none"),
        "fuser_depth": ({"fuser": "vit"}, 2),
        "fuse": ({"fused": (8, 11)}, "add"),
        "class_token": ({}, True),
        "position_embedding": ({}, False),
        "mlp_ratio": ({}, 2.0),
        "norm_eps": ({}, 0.1),
        "init_std": ({}, 0.1),
        "loss": ({}, "mse"),
        "epochs": ({}, 10),
        "steps": ({}, 1000),
        "lr": ({}, 1e-3),
        "schedule": ({}, "cosine"),
        "decay_at": ({}, 0.5),
        "decay": ({}, 0.5),
        "weight_decay": ({}, 0.01),
        "betas": ({}, (0.8, 0.999)),
        "eps": ({}, 1e-6),
        "clip_norm": ({}, 1.0),
        "smoothing_sigma": ({}, 1.0),
        "score_pool": ({}, 4),
    },
    "rd4ad": {
        "variant": ({}, "original"),
        "encoder": ({}, "mobilenetv2_100"),
        "input_size": ({}, 128),
        "stages": ({}, (0, 1, 2)),
        "fuser_width": ({}, 128),
        "rectified": ({}, False),
        "loss": ({}, "l1"),
        "epochs": ({}, 10),
        "steps": ({}, 1000),
        "lr": ({}, 1e-3),
        "betas": ({}, (0.8, 0.999)),
        "decay_at": ({}, 0.5),
        "decay": ({}, 0.5),
        "clip_norm": ({}, 1.0),
        "smoothing_sigma": ({}, 1.0),
    },
    "rdpp": {
        "encoder": ({}, "mobilenetv2_100"),
        "input_size": ({}, 128),
        "stages": ({}, (0, 1, 2)),
        "fuser_width": ({}, 128),
        "rectified": ({}, False),
        "loss": ({}, "l1"),
        "projection_weight": ({"margin": -0.5}, 1.0),
        "noise": ({}, 0.1),
        "margin": ({}, -0.5),
        "epochs": ({}, 10),
        "update_every": ({}, 1),
        "steps": ({}, 1000),
        "lr": ({}, 1e-3),
        "projection_lr": ({}, 1.0),
        "betas": ({}, (0.8, 0.999)),
        "decay_at": ({}, 0.5),
        "decay": ({"decay_at": 0.5}, 0.5),
        "clip_norm": ({}, 1.0),
        "smoothing_sigma": ({}, 1.0),
    },
    "recontrast": {
        "variant": ({}, "original"),
        "encoder": ({}, "mobilenetv2_100"),
        "input_size": ({}, 128),
        "stages": ({}, (0, 1, 2)),
        "encoder_statistics": ({}, "batch"),
        "fuser_width": ({}, 64),
        "decoder_blocks": ({}, (3, 4, 6)),
        "hardness": ({}, 0.0),
        "hardness_start": ({"hardness_steps": 2000}, -2.0),
        "hardness_steps": ({}, 2000),
        "steps": ({}, 1000),
        "optimizer": ({}, "adamw"),
        "lr": ({}, 1e-3),
        "encoder_lr": ({}, 1.0),
        "decay_at": ({}, 0.5),
        "decay": ({}, 0.5),
        "betas": ({}, (0.8, 0.999)),
        "eps": ({}, 1e-6),
        "weight_decay": ({}, 0.01),
        "amsgrad": ({}, False),
        "smoothing_sigma": ({}, 1.0),
        "score_share": ({}, 0.1),
    },
    "invad": {
        "variant": ({}, "lite"),
        "encoder": ({}, "mobilenetv2_100"),
        "input_size": ({}, 128),
        "stages": ({}, (0, 1, 2)),
        "style_width": ({}, 32),
        "latent_width": ({}, 8),
        "blocks": ({}, 1),
        "loss": ({}, "l1"),
        "epochs": ({}, 10),
        "steps": ({}, 1000),
        "lr": ({}, 1e-3),
        "betas": ({}, (0.8, 0.999)),
        "decay_at": ({}, 0.5),
        "decay": ({}, 0.5),
        "clip_norm": ({}, 1.0),
        "smoothing_sigma": ({}, 1.0),
    },
    "uniad": {
        "variant": (SMALL, "ader"),
        "encoder": (SMALL, "mobilenetv2_100"),
        "input_size": (SMALL, 96),
        "strides": (SMALL, (4, 8, 16)),
        "grid_stride": (SMALL, 8),
        "width": (SMALL, 64),
        "heads": (SMALL, 4),
        "hidden": (SMALL, 32),
        "encoder_depth": (SMALL, 2),
        "decoder_depth": (SMALL, 3),
        "dropout": (SMALL, 0.3),
        "neighbour_mask": (SMALL, 0),
        "masked": (SMALL, ("encoder",)),
        "queries": (SMALL, "first"),
        "jitter": (SMALL, 10.0),
        "loss": (SMALL, "l1"),
        "epochs": (SMALL, 10),
        "steps": (SMALL, 1000),
        "lr": (SMALL, 1e-3),
        "decay_at": (SMALL | {"epochs": 100}, 0.5),
        "decay": (SMALL | {"epochs": 100}, 0.5),
        "weight_decay": (SMALL, 0.01),
        "decay_vectors": (SMALL, False),
        "betas": (SMALL, (0.8, 0.999)),
        "eps": (SMALL, 1e-6),
        "clip_norm": (SMALL, 1.0),
        "image_score": (SMALL, "std"),
        "score_pool": (SMALL, 4),
    },
    "simplenet": {
        "variant": (NARROW, "original"),
        "encoder": (NARROW, "mobilenetv2_100"),
        "input_size": (NARROW, 128),
        "layers": (NARROW, (1, 2)),
        "neighbourhood": (NARROW, 5),
        "dim": (NARROW, 16),
        "adaptor_layers": (NARROW, 0),
        "width": (NARROW, 8),
        "noise": (NARROW, 0.1),
        "loss": (NARROW, "cross_entropy"),
        "margin": (NARROW, 0.2),
        "epochs": (NARROW, 10),
        "steps": (NARROW, 1000),
        "lr": (NARROW, 1e-3),
        "discriminator_lr": (NARROW, 1e-3),
        "decay_at": (NARROW, 0.5),
        "decay": (NARROW | {"decay_at": 0.5}, 0.5),
        "weight_decay": (NARROW, 0.1),
        "discriminator_decay": (NARROW, 0.1),
        "decay_vectors": (NARROW, True),
        "betas": (NARROW, (0.8, 0.999)),
        "eps": (NARROW, 1e-6),
        "clip_norm": (NARROW, 1.0),
        "image_score": (NARROW, "patches"),
        "smoothing_sigma": (NARROW, 1.0),
    },
    "patchcore": {
        "encoder": ({}, "mobilenetv2_100"),
        "input_size": ({}, 112),
        "layers": ({}, (1, 2)),
        "neighbourhood": ({}, 5),
        "dim": ({}, 8),
        "candidates": ({}, 20),
        "share": ({}, 0.5),
        "projection": ({}, 2),
        "reweight_neighbours": ({}, 0),
        "smoothing_sigma": ({}, 1.0),
    },
    "anomalydino": {
        "encoder": ({}, "vit_base_patch14_dinov2.lvd142m"),
        "input_size": ({}, 672),
        "copies": ({}, 8),
        "limit": ({}, 5),
        "neighbours": ({}, 3),
        "masking": ({"mask_threshold": 2.0, "masked_memory": True}, True),
        "masked_memory": ({"mask_threshold": 2.0, "masking": True}, True),
        "mask_threshold": ({"masking": True, "mask_threshold": 2.0}, 1.0),
        "smoothing_sigma": ({}, 1.0),
        "score_share": ({}, 0.5),
    },
    "rad": {
        "encoder": ({}, "vit_base_patch14_reg4_dinov2.lvd142m"),
        "input_size": ({}, 224),
        "layers": ({}, (3, 6)),
        "layer_weights": ({}, (1.0, 1.0, 1.0, 0.0)),
        "images": ({}, 1),
        "radius": ({}, 0),
        "limit": ({}, 2),
        "precision": ({}, "fp16"),
        "smoothing_sigma": ({}, 4.0),
        "score_share": ({}, 0.1),
    },
    "subspacead": {
        "encoder": ({}, "vit_small_patch14_dinov2.lvd142m"),
        "input_size": ({}, 392),
        "position": ({}, "dinov2"),
        "layers": ({}, (7, 8)),
        "unit_length": ({}, True),
        "variance": ({}, 0.5),
        "rotations": ({}, 2),
        "smoothing_sigma": ({}, 0.5),
        "smoothing_window": ({}, 1),
        "score_share": ({}, 0.1),
    },
    "cflow": {
        "encoder": ({}, "mobilenetv2_100"),
        "input_size": ({}, 128),
        "stages": ({}, (1, 2, 3)),
        "blocks": ({}, 2),
        "condition": ({}, 8),
        "clamp": ({}, 1.0),
        "fibre": ({}, 16),
        "meta_epochs": ({}, 5),
        "sub_epochs": ({}, 5),
        "steps": ({}, 1000),
        "lr": ({}, 1e-3),
        "warm_epochs": ({}, 1),
        "score_pool": ({}, 4),
    },
    "draem": {
        "input_size": (TINY, 64),
        "width": (TINY, 4),
        "mark_width": (TINY, 4),
        "rotated": (TINY, 1.0),
        "painted": (TINY, 1.0),
        "shown": (TINY, 0.1),
        "threshold": (TINY, 0.2),
        "augmenters": (TINY, 0),
        "ssim_weight": (TINY, 0.0),
        "focal_weight": (TINY, 2.0),
        "focus": (TINY, 0),
        "epochs": (TINY, 10),
        "steps": (TINY, 1000),
        "lr": (TINY, 1e-3),
        "decay_at": (TINY | {"epochs": 100}, (0.5,)),
        "decay": (TINY | {"epochs": 100}, 0.5),
        "clip_norm": (TINY, 1.0),
        "score_pool": (TINY, 5),
    },
    "destseg": {
        "variant": (SLIM, "original"),
        "encoder": (SLIM, "mobilenetv2_100"),
        "input_size": (SLIM, 64),
        "student_width": (SLIM, 4),
        "mark_width": (SLIM, 6),
        "painted": (SLIM, 0.1),
        "shown": (SLIM, 0.1),
        "threshold": (SLIM, 0.2),
        "student_share": (SLIM, 0.001),
        "epochs": (SLIM, 10),
        "steps": (SLIM, 1000),
        "lr": (SLIM, 0.1),
        "residual_lr": (SLIM, 0.01),
        "head_lr": (SLIM, 0.1),
        "momentum": (SLIM, 0.5),
        "weight_decay": (SLIM, 0.1),
        "focus": (SLIM | {"student_share": 0.001}, 0),
        "clip_norm": (SLIM, 1.0),
        "image_score": (SLIM, "top"),
        "score_pixels": (SLIM | {"image_score": "top"}, 3),
    },
    "generalad": {
        "encoder": ({}, "vit_small_patch16_224.dino"),
        "input_size": ({}, 224),
        "noise": ({}, "base"),
        "noise_std": ({}, 0.5),
        "hidden": ({}, 32),
        "heads": ({}, 2),
        "dropout": ({}, 0.0),
        "score_patches": ({}, 0),
        "smoothing_sigma": ({}, 1.0),
        "smoothing_radius": ({}, 1),
        "epochs": ({}, 10),
        "epoch_images": ({}, 250),
        "steps": ({}, 1000),
        "lr": ({}, 1e-3),
        "final_lr": ({}, 1e-5),
        "weight_decay": ({}, 0.01),
    },
    "panda": {
        "encoder": ({}, "mobilenetv2_100"),
        "input_size": ({}, 256),
        "trained_parts": ({}, 1),
        "epochs": ({}, 10),
        "steps": ({}, 1000),
        "lr": ({}, 1e-3),
        "momentum": ({}, 0.5),
        "weight_decay": ({}, 0.01),
        "clip_norm": ({}, 1.0),
        "neighbours": ({}, 1),
    },
    "msc": {
        "encoder": ({}, "mobilenetv2_100"),
        "input_size": ({}, 256),
        "trained_parts": ({}, 1),
        "epochs": ({}, 10),
        "steps": ({}, 1000),
        "lr": ({}, 1e-3),
        "momentum": ({}, 0.5),
        "weight_decay": ({}, 0.01),
        "clip_norm": ({}, 1.0),
        "temperature": ({}, 0.5),
        "angular": ({}, True),
        "neighbours": ({}, 1),
    },
    "efficientad": {
        "encoder": (THIN, "resnet18.tv_in1k"),
        "teacher": ({**THIN, "statistics_textures": 10_000, "distillation_steps": 60_000}, str(TEACHER)),
        "input_size": (THIN, 128),
        "size": (THIN, "m"),
        "width": (THIN, 6),
        "dim": (THIN, 10),
        "autoencoder_width": (THIN, 4),
        "dropout": (LATE, 0.5),
        "distillation_steps": (THIN, 600),
        "distilled_textures": (THIN, 3),
        "statistics_textures": (THIN, 3),
        "training_steps": (THIN, 20_000),
        "steps": (THIN, 1000),
        "lr": (THIN, 1e-3),
        "weight_decay": (THIN, 0.1),
        "decay_at": (THIN | {"steps": 40_000}, 0.5),
        "decay": (LATE, 0.5),
        "hard_share": (LATE, 0.1),
        "penalty": (LATE, 0.5),
        "low_quantile": (LATE, 0.5),
        "high_quantile": (LATE, 0.95),
    },
    "realnet": {
        "encoder": (FEW, "mobilenetv2_100"),
        "input_size": (FEW, 128),
        "stages": (FEW, (1, 2, 3, 4)),
        "kept": (FEW, (1.0, 1.0, 0.5, 0.5)),
        "selection_batches": (FEW | {"batch_size": 1}, 2),
        "residual_blocks": (FEW, 1),
        "highest": (FEW, 4),
        "widest": (FEW, 4),
        "painted": (FEW, 1.0),
        "shown": (FEW, 0.1),
        "threshold": (FEW, 0.1),
        "augmenters": (FEW, 1),
        "epochs": (FEW, 10),
        "steps": (FEW, 1000),
        "lr": (FEW, 1e-3),
        "decay_at": (FEW, 0.5),
        "decay": (FEW, 0.5),
    },
    "transformaly": {
        "encoder": ({}, "vit_small_patch16_224.dino"),
        "input_size": ({}, 224),
        "first_block": ({}, 1),
        "variance": ({}, 0.5),
        "mlp_ratio": ({}, 2.0),
        "dropout": ({}, 0.5),
        "epochs": ({}, 10),
        "steps": ({}, 1000),
        "lr": ({}, 1e-3),
    },
    "uniformaly": {
        "encoder": (NEAR, "vit_small_patch16_224.dino"),
        "input_size": (NEAR, 128),
        "layers": (NEAR, (3, 4)),
        "window": (NEAR, 1),
        "threshold": (NEAR, 0.9),
        "candidates": (NEAR, 10),
        "share": (NEAR, 0.2),
        "projection": (NEAR, 2),
        "score_share": (NEAR, 0.5),
        "smoothing_sigma": (NEAR, 1.0),
    },
    "knn": {
        "variant": ({}, "ood"),
        "encoder": ({}, "vit_small_patch16_224.dino"),
        "input_size": ({}, 224),
        "neighbours": ({}, 1),
        "aggregate": ({}, "kth"),
        "unit_length": ({}, False),
    },
}
SEEN: dict[tuple[str, str], dict[str, Any]] = {}
"""What was seen of a method under some settings, so that it is looked at once."""
HARNESS = {"batch_size"}
"""Read by the training loop, not by methods; so is `steps` where nothing is trained."""


@pytest.fixture(autouse=True, scope="module")
def teacher() -> Iterator[None]:
    torch.save(PatchNetwork("s", THIN["width"], THIN["dim"]).state_dict(), TEACHER)
    yield
    shutil.rmtree(TEACHER.parent)


def seeded(*shape: int, seed: int) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def sides_of(method: Method) -> tuple[int, ...]:
    """Of a CNN's stages; RealNet halves the deepest one twice, EfficientAD's images are enlarged twice."""
    return tuple(2 * side for side in SIDES) if method.name in ("realnet", "efficientad") else SIDES


def encoded(method: Method, info: EncoderInfo) -> Callable[[Tensor], dict[str, Tensor]]:
    """What stands for a frozen encoder: each block is a fixed mixture of an image's patches."""

    def of_cnn(images: Tensor) -> dict[str, Tensor]:
        asked, sides = method.encoder().blocks, sides_of(method)
        pooled = {index: F.adaptive_avg_pool2d(images, sides[index]) for index in asked}
        mixed = zip(asked, WIDTHS, strict=False)
        return method.features(
            {
                index: torch.einsum("bchw,cd->bdhw", pooled[index], seeded(3, width, seed=index))
                for index, width in mixed
            },
            info,
        )

    def encode(images: Tensor) -> dict[str, Tensor]:
        patches = F.unfold(images, info.patch, stride=info.patch).transpose(1, 2)
        tokens = torch.cat([patches[:, : info.prefix], patches], dim=1)
        return method.features(
            {index: tokens @ seeded(tokens.shape[-1], 12, seed=index + 2) for index in method.encoder().blocks}, info
        )

    return encode if info.family == "vit" else of_cnn


class Trunk(nn.Module):
    """What stands for a trainable copy of a CNN: a convolution of the averaged picture for each stage."""

    def __init__(self, widths: Mapping[int, int]) -> None:
        super().__init__()
        self.stages = nn.ModuleDict({str(index): nn.Conv2d(3, width, 1) for index, width in widths.items()})
        self.norms = nn.ModuleDict({str(index): nn.BatchNorm2d(width) for index, width in widths.items()})

    def forward(self, images: Tensor) -> dict[int, Tensor]:
        return {
            int(index): self.norms[index](stage(F.adaptive_avg_pool2d(images, SIDES[int(index)])))
            for index, stage in self.stages.items()
        }


def seen(method: Method) -> dict[str, Any]:
    """All that the harness gets from a method: what it asks for, builds, trains with, remembers and predicts."""
    request = method.encoder()
    info = frozen.absent(method.config.input_size or 0).info
    if request is not None:
        info = CNN if catalog.describe(request.name).family == "cnn" else VIT
    asked = () if request is None else request.blocks
    widths = dict(zip(asked, WIDTHS, strict=False))
    if info is CNN:
        info = replace(CNN, grid=(sides_of(method)[asked[-1]],) * 2, channels=tuple(widths.values()))

    def looked_at(shift: int) -> Batch:
        sides = sides_of(method)
        shapes = {index: (18, 12) if info is VIT else (widths[index], sides[index], sides[index]) for index in asked}
        blocks = BlockOutputs({index: seeded(5, *shape, seed=index + shift) for index, shape in shapes.items()})
        if request is not None and request.attention:
            blocks.attention = {
                index: (3 * seeded(5, 2, shape[0], seed=100 + index)).softmax(dim=-1) for index, shape in shapes.items()
            }
        shown = seeded(5, 3, info.input_size, info.input_size, seed=9)
        cpu = torch.device("cpu")
        return Batch(
            method.features(blocks, info) if "features" in method.needs else {},
            shown,
            encode=encoded(method, info),
            random=partial(step_generator, 0, STEP, cpu),
            textures=Draw(Textures(), info.input_size, cpu),
        )

    features = looked_at(2)
    torch.manual_seed(0)
    module = method.build(info, Trunk(widths)) if "trunk" in method.needs else method.build(info)
    found: dict[str, Any] = {"request": request, "clip": method.clip_norm, "steps": method.steps(IMAGES), **features}
    found |= {f"built {name}": value.clone() for name, value in module.state_dict().items()}
    torch.manual_seed(1)
    with torch.no_grad():
        method.fit(module, [features])
    if method.steps(IMAGES):
        method = method.settled(IMAGES)
        with torch.no_grad():
            method.enter(module, [features])
        loss = method.loss(module.train(), features, STEP)
        loss.backward()
        found["loss"] = loss.detach()
        if type(method).losses is not Method.losses:
            found["losses"] = torch.stack([one.detach() for one in method.losses(module, features, STEP)])
        found |= {f"gradient {name}": param.grad for name, param in module.named_parameters()}
        groups = method.optimizer(module).param_groups
        found["optimizer"] = [{key: value for key, value in group.items() if key != "params"} for group in groups]
        found["rates"] = [method.learning_rate(step) for step in (*range(0, 120, 5), *range(500, 50_000, 500))]
    found |= {f"known {name}": value for name, value in module.state_dict().items()}
    with torch.no_grad():
        method.finish(module.eval(), [features])
        # other images than those that are known
        prediction = method.anomaly(module.eval(), looked_at(30), info, 40)
    return found | {"scores": prediction.scores, "maps": prediction.maps}


def alike(one: Any, other: Any) -> bool:
    if isinstance(one, Tensor) and isinstance(other, Tensor):
        return one.shape == other.shape and torch.equal(one, other)
    return bool(type(one) is type(other) and one == other)


@pytest.mark.parametrize(("name", "key"), [(name, key) for name, keys in CHANGES.items() for key in keys])
def test_a_setting_changes_what_is_seen(name: str, key: str) -> None:
    kind = METHODS.load(name)
    under, value = CHANGES[name][key]
    if (name, repr(under)) not in SEEN:
        SEEN[name, repr(under)] = seen(kind(kind.Config(**under)))
    before, after = SEEN[name, repr(under)], seen(kind(kind.Config(**{**under, key: value})))
    assert before.keys() != after.keys() or not all(alike(before[part], after[part]) for part in before)


@pytest.mark.parametrize("name", CHANGES)
def test_what_is_seen_is_a_function_of_the_settings(name: str) -> None:
    """Else the test above could not fail."""
    kind = METHODS.load(name)
    under, _ = next(iter(CHANGES[name].values()))
    before, after = (seen(kind(kind.Config(**under))) for _ in range(2))
    assert before.keys() == after.keys() and all(alike(before[part], after[part]) for part in before)


@pytest.mark.parametrize("name", METHODS.builtin)
def test_no_setting_is_left_out(name: str) -> None:
    fields = METHODS.load(name).Config.model_fields
    unread = HARNESS | ({"steps"} if fields["steps"].default == 0 else set())
    assert set(fields) - unread == set(CHANGES[name])


@pytest.mark.parametrize(
    ("name", "values"),
    [
        ("anomalydino", {"mask_threshold": 5.0}),
        ("dinomaly", {"constraint": "1-group", "groups": ((0,), (1, 2, 3, 4, 5, 6, 7))}),
        ("dinomaly", {"constraint": "layer-to-layer", "decoder_groups": ((0,), (1,))}),
        ("dinomaly2", {"constraint": "1-group", "groups": ((0,), (1, 2, 3, 4, 5, 6, 7))}),
        ("inp_former", {"prototypes": 0, "coherence": 0.5}),
        ("dual_student", {"students": "encoder", "ensemble": "sum"}),
        ("dual_student", {"students": "decoder", "objective": "sum"}),
        ("dual_student", {"students": "decoder", "score_tokens": "all"}),
        ("dual_student", {"students": "decoder", "class_tokens": "normed"}),
        ("dual_student", {"students": "decoder", "encoder_weight": 2.0}),
        ("dual_student", {"students": "encoder", "local_score": "loss"}),
        ("vitad", {"fuser_depth": 3}),
        ("vitad", {"fuser": "none", "fuser_depth": 3}),
        ("vitad", {"fuse": "add"}),
        ("vitad", {"schedule": "cosine", "decay": 0.5}),
        ("vitad", {"schedule": "cosine", "decay_at": 0.5}),
        ("uniad", {"neighbour_mask": 0, "masked": ("encoder",)}),
        ("uniad", {"image_score": "mean", "score_pool": 8}),
        ("simplenet", {"decay": 0.5}),
        ("simplenet", {"loss": "cross_entropy", "margin": 0.2}),
        ("simplenet", {"adaptor_layers": 0, "weight_decay": 0.1}),
        ("draem", {"painted": 0, "shown": 0.1}),
        ("draem", {"painted": 0, "threshold": 0.2}),
        ("draem", {"painted": 0, "augmenters": 1}),
        ("draem", {"decay_at": (), "decay": 0.5}),
        ("destseg", {"score_pixels": 20}),
        ("recontrast", {"hardness": -3.0, "hardness_steps": 20}),
        ("recontrast", {"decay_at": 1.0, "decay": 0.5}),
    ],
)
def test_a_setting_without_effect_is_refused(name: str, values: dict[str, Any]) -> None:
    kind = METHODS.load(name)
    with pytest.raises(UsageError, match=rf"{name}\.({'|'.join(values)}) = .* has no effect with .*bench show {name}"):
        kind(kind.Config(**values))
