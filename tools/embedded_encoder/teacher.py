"""The two ImageNet CNNs as one teacher: dense targets at three depths, aligned with the student's 16x16 patch grid.

The lite0 network sees the 128 px crop enlarged to 256 px, so that its stride-16 map is 16x16; MobileNetV2 sees the crop
as it is. Channels are standardised, the last maps reduced by PCA, and all is kept as int8 in units of SIGMA / 127.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import timm
import torch
import torch.nn.functional as F
from safetensors.torch import load_file
from torch import Tensor, nn

IMAGENET_MEAN, IMAGENET_STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
SIGMA = 5.0  # int8 covers +-5 standard deviations
LITE_TOP, MOBILE_TOP = 128, 64  # principal components kept of each network's last map
WIDTHS = {"mid": 40 + 32, "deep": 112 + 96, "top": LITE_TOP + MOBILE_TOP}
GRIDS = {"mid": 16, "deep": 16, "top": 8}


@dataclass(frozen=True, slots=True)
class Basis:
    """Standardisation of one level: (x - mean) @ axes has unit variance in every column; `spread` is the std it had."""

    mean: Tensor  # float32 [C]
    axes: Tensor  # float32 [C, K]
    spread: Tensor  # float32 [K], relative to the largest


class Teacher(nn.Module):
    """Frozen tf_efficientnet_lite0 and mobilenetv2_100; `raw` gives their maps, `forward` the int8 targets."""

    def __init__(self, weights_dir: Path) -> None:
        super().__init__()
        self.lite = timm.create_model("tf_efficientnet_lite0", pretrained=False)
        self.lite.load_state_dict(load_file(weights_dir / "tf_efficientnet_lite0.in1k.safetensors"), strict=True)
        self.mobile = timm.create_model("mobilenetv2_100", pretrained=False, num_classes=0)
        state = load_file(weights_dir / "mobilenetv2_100.in1k_features.safetensors")
        self.mobile.load_state_dict(state, strict=True)
        self.eval().requires_grad_(False).to(memory_format=torch.channels_last)
        self.bases: dict[str, tuple[Basis, Basis]] = {}

    @torch.no_grad()
    def raw(self, crops: Tensor) -> dict[str, tuple[Tensor, Tensor]]:
        """Maps of (lite0, mobilenet) per level, float32 [B, C, g, g]; crops: uint8 [B, 128, 128, 3]."""
        x = crops.permute(0, 3, 1, 2).float() / 255
        large = F.interpolate(x, size=256, mode="bicubic", antialias=True).clamp(0, 1)
        mean, std = (x.new_tensor(v).view(3, 1, 1) for v in (IMAGENET_MEAN, IMAGENET_STD))
        with torch.autocast(crops.device.type, torch.bfloat16):
            lite = staged(self.lite, (large - 0.5) / 0.5)
            mobile = staged(self.mobile, (x - mean) / std)
        out = {}
        for level, a, b in zip(GRIDS, lite, mobile, strict=True):
            out[level] = (fit(a.float(), GRIDS[level]), fit(b.float(), GRIDS[level]))
        return out

    @torch.no_grad()
    def fit_bases(self, crops: Tensor, chunk: int = 32) -> None:
        """Sets the standardisation from a sample; crops: uint8 [N, 128, 128, 3], N of some hundreds."""
        parts = [self.raw(piece) for piece in torch.split(crops, chunk)]
        keep = {"mid": (None, None), "deep": (None, None), "top": (LITE_TOP, MOBILE_TOP)}
        for level, sizes in keep.items():
            pair = []
            for which in (0, 1):
                rows = torch.cat([p[level][which].permute(0, 2, 3, 1).flatten(0, 2) for p in parts])
                pair.append(basis(rows[torch.randperm(len(rows))[:60000]], sizes[which]))
            self.bases[level] = (pair[0], pair[1])

    @torch.no_grad()
    def forward(self, crops: Tensor) -> dict[str, Tensor]:
        """int8 [B, g, g, C] per level."""
        out = {}
        for level, maps in self.raw(crops).items():
            parts = [(m.permute(0, 2, 3, 1) - b.mean) @ b.axes for m, b in zip(maps, self.bases[level], strict=True)]
            out[level] = (torch.cat(parts, -1) * (127 / SIGMA)).round().clamp(-127, 127).to(torch.int8)
        return out

    def spread(self, level: str) -> Tensor:
        """float32 [C]: how much each target channel varied before it was standardised, each network's largest = 1."""
        return torch.cat([b.spread for b in self.bases[level]])


def staged(model: nn.Module, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Maps at stride 8, at stride 16 and after the head's convolution (stride 32) of a timm EfficientNet."""
    x = model.bn1(model.conv_stem(x.contiguous(memory_format=torch.channels_last)))  # type: ignore[operator]
    maps = []
    for number, block in enumerate(model.blocks):  # type: ignore[arg-type]
        x = block(x)
        if number in (2, 4):
            maps.append(x)
    return maps[0], maps[1], model.bn2(model.conv_head(x))  # type: ignore[operator]


def fit(maps: Tensor, grid: int) -> Tensor:
    """Maps averaged down or interpolated up to grid x grid."""
    side = maps.shape[-1]
    if side > grid:
        return F.avg_pool2d(maps, side // grid)
    return maps if side == grid else F.interpolate(maps, size=grid, mode="bilinear")


def basis(rows: Tensor, components: int | None) -> Basis:
    """Per-channel standardisation (components None) or PCA whitening of rows, float32 [N, C]."""
    mean = rows.mean(0)
    if components is None:
        std = rows.std(0).clamp_min(1e-4)
        return Basis(mean, torch.diag(1 / std), torch.ones_like(std))
    covariance = torch.cov((rows - mean).T.double())
    values, vectors = torch.linalg.eigh(covariance)
    values, vectors = values.flip(0)[:components].float(), vectors.flip(1)[:, :components].float()
    std = values.clamp_min(1e-8).sqrt()
    return Basis(mean, vectors / std, std / std[0])
