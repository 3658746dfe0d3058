"""Teacher targets on disk: computed once a crop, in order, as far as training has come; read back by index."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from .teacher import GRIDS, SIGMA, WIDTHS, Basis, Teacher

FIT_ON = 320  # crops from which the standardisation is computed
CHUNK = 32


def prepare(work: Path, weights_dir: Path) -> None:
    """Makes the standardisation and the empty target arrays, int8 [N, g, g, C], unless they are there already."""
    crops = np.load(work / "crops.npy", mmap_mode="r")
    if not (work / "basis.safetensors").exists():
        torch.manual_seed(0)
        teacher = Teacher(weights_dir)
        teacher.fit_bases(torch.from_numpy(crops[:FIT_ON].copy()))
        flat: dict[str, Tensor] = {}
        for level, pair in teacher.bases.items():
            for which, b in enumerate(pair):
                flat |= {f"{level}.{which}.{field}": getattr(b, field).contiguous() for field in Basis.__slots__}
        save_file(flat, work / "basis.safetensors")
    for level, grid in GRIDS.items():
        path = work / f"target_{level}.npy"
        if not path.exists():
            shape = (len(crops), grid, grid, WIDTHS[level])
            np.lib.format.open_memmap(path, mode="w+", dtype=np.int8, shape=shape)


class TargetStore:
    """One process's share, rows `first` to `last`, of the target arrays, of which rows below `ready` are computed."""

    def __init__(self, work: Path, weights_dir: Path, share: int, shares: int, device: torch.device) -> None:
        self.teacher, self.device = Teacher(weights_dir).to(device), device
        flat = load_file(work / "basis.safetensors")
        for level in GRIDS:
            first, second = (
                Basis(*(flat[f"{level}.{which}.{field}"].to(device) for field in Basis.__slots__)) for which in (0, 1)
            )
            self.teacher.bases[level] = (first, second)
        self.maps = {level: np.load(work / f"target_{level}.npy", mmap_mode="r+") for level in GRIDS}
        self.crops = np.load(work / "crops.npy", mmap_mode="r")
        self.first, self.last = (len(self.crops) * s // shares for s in (share, share + 1))
        self.state = work / f"targets.{share}of{shares}.json"
        self.ready = json.loads(self.state.read_text())["ready"] if self.state.exists() else self.first

    def grow(self, count: int) -> None:
        """Computes rows until `count` of this share are there, or all of them."""
        until = min(self.last, self.first + count)
        while self.ready < until:
            end = min(self.ready + CHUNK, self.last)
            for level, values in self.teacher(
                torch.from_numpy(self.crops[self.ready : end].copy()).to(self.device)
            ).items():
                self.maps[level][self.ready : end] = values.cpu().numpy()
            self.ready = end
            self.state.write_text(json.dumps({"ready": self.ready}))

    def draw(self, rng: np.random.Generator, count: int) -> tuple[Tensor, dict[str, Tensor]]:
        """Random crops, uint8 [B, 128, 128, 3], and their standardised targets, float32 [B, g, g, C] per level."""
        return self._rows(np.sort(rng.integers(self.first, self.ready, count)))

    def _rows(self, rows: npt.NDArray[np.int64]) -> tuple[Tensor, dict[str, Tensor]]:
        targets = {
            level: torch.from_numpy(m[rows]).to(self.device).float() * (SIGMA / 127) for level, m in self.maps.items()
        }
        return torch.from_numpy(self.crops[rows]).to(self.device), targets

    def sample(self, count: int) -> tuple[Tensor, dict[str, Tensor]]:
        """The first crops of all, the same in every process, in the form of `draw`."""
        return self._rows(np.arange(count))

    def spread(self, level: str) -> Tensor:
        """float32 [C], see Teacher.spread."""
        return self.teacher.spread(level)
