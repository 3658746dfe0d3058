"""A small trained method that fails on demand: what to do is read from the environment when a training step begins."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Mapping
from pathlib import Path
from typing import cast

import torch
from torch import Tensor, nn

from bench.api import EncoderInfo, EncoderRequest, Method, MethodConfig, Prediction, sourced
from bench.protocol import COMMON


def fault(name: str) -> int | None:
    """The number given for a fault in TRIPWIRE, a JSON object, or in the file of that name; None without it."""
    given = os.environ.get("TRIPWIRE", "{}")
    faults = json.loads(Path(given).read_text() if given.startswith("/") else given)
    return cast("int | None", faults.get(name))


class Config(MethodConfig):
    encoder: str = sourced("vit_tiny_patch8_128.bench", "ours", "frozen ViT")
    input_size: int = sourced(32, "ours", "input side in pixels", gt=0)
    steps: int = sourced(12, "ours", "iterations", ge=0)
    batch_size: int = sourced(8, "ours", "images a step", gt=0)
    lr: float = sourced(1e-2, "ours", "learning rate", gt=0)


class Tripwire(Method):
    """Learns to predict a patch token from itself through a bottleneck."""

    name = "tripwire"
    Config = Config
    paper = COMMON

    def encoder(self) -> EncoderRequest:
        return EncoderRequest(self.config.encoder, (3,), self.config.input_size or 32)

    def features(self, blocks: Mapping[int, Tensor], info: EncoderInfo) -> dict[str, Tensor]:
        self._limit("memory_features", blocks[3])
        return {"patches": blocks[3][:, info.prefix :]}

    def build(self, info: EncoderInfo) -> nn.Module:
        return nn.Sequential(nn.Linear(info.dim, 8), nn.Dropout(0.1), nn.GELU(), nn.Linear(8, info.dim))

    def loss(self, module: nn.Module, features: Mapping[str, Tensor], step: int) -> Tensor:
        if (milliseconds := fault("slow_step_ms")) is not None:
            print(f"step {step}", flush=True)
            time.sleep(milliseconds / 1000)
        self._limit("memory_train", features["patches"])
        error = (module(features["patches"]) - features["patches"]).square().mean()
        if step == fault("spoil_weights_at"):
            # a finite loss whose gradient is not: the weights are lost one step before the loss shows it
            return error + torch.sqrt(next(module.parameters()) * 0).sum()
        return error

    def anomaly(self, module: nn.Module, features: Mapping[str, Tensor], info: EncoderInfo, size: int) -> Prediction:
        self._limit("memory_inference", features["patches"])
        if (milliseconds := fault("slow_inference_ms")) is not None:
            time.sleep(milliseconds / 1000)
        distances = (module(features["patches"]) - features["patches"]).square().mean(dim=2)
        grid = distances.reshape(-1, 1, *info.grid)
        maps = nn.functional.interpolate(grid, (size, size), mode="bilinear")[:, 0]
        return Prediction(scores=maps.amax(dim=(1, 2)), maps=maps)

    def optimizer(self, module: nn.Module) -> torch.optim.Optimizer:
        return torch.optim.AdamW(module.parameters())

    def learning_rate(self, step: int) -> float:
        return cast("Config", self.config).lr

    @staticmethod
    def _limit(name: str, batch: Tensor) -> None:
        limit = fault(name)
        # tensors without memory are those of the plan
        if limit is not None and len(batch) > limit and batch.device.type != "meta":
            raise torch.OutOfMemoryError(f"CUDA out of memory. Tried to allocate {len(batch)} GiB (injected)")
