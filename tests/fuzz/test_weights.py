"""Weights and checkpoints: files of tensors, which may hold no code and no lies."""

from __future__ import annotations

import hashlib
import io
import json
import os
import struct
import zipfile
from pathlib import Path
from typing import Any

import pytest
import torch
from hostile import anything, bent, cases, damaged, survives
from hypothesis import given
from hypothesis import strategies as st
from safetensors.torch import save
from torch import nn

from bench.encoders import weights
from bench.store import checkpoint

STATE = {"weight": torch.arange(12.0).reshape(3, 4), "bias": torch.ones(3, dtype=torch.float16)}
WHOLE = save(STATE)
HEADER = json.loads(WHOLE[8 : 8 + struct.unpack("<Q", WHOLE[:8])[0]])


def used(path: Path) -> None:
    weights.read(path, nn.Linear(4, 3))


@cases(250)
@given(content=damaged(WHOLE))
def test_damaged_weights(home: Path, content: bytes) -> None:
    path = home / "x.safetensors"
    path.write_bytes(content)
    survives("safetensors", lambda: used(path), home)


@cases(200)
@given(header=bent(HEADER) | anything, length=st.sampled_from([None, None, 0, 2**63, 2**64 - 1, 100_000_001]))
def test_weights_with_any_header(home: Path, header: Any, length: int | None) -> None:
    text = json.dumps(header).encode()
    path = home / "x.safetensors"
    path.write_bytes(struct.pack("<Q", len(text) if length is None else length) + text + bytes(54))
    survives("safetensors", lambda: used(path), home, memory=1 << 28)


# -------------------------------------------------------------------------------------------------- checkpoints
TRAINING = {"module": STATE, "losses": torch.zeros(3, dtype=torch.float64), "resumed_at": [1], "seconds": 0.5}


def saved(value: Any, **options: Any) -> bytes:
    out = io.BytesIO()
    torch.save(value, out, **options)
    return out.getvalue()


ZIPPED = saved(TRAINING)
OLD = saved(TRAINING, _use_new_zipfile_serialization=False)


def signed(content: bytes) -> bytes:
    """What somebody who can write into the results folder would leave there: the checksum holds."""
    return content + hashlib.sha256(content).digest()


@cases(200)
@given(content=damaged(ZIPPED, OLD).map(signed) | damaged(signed(ZIPPED)))
def test_damaged_checkpoints(home: Path, content: bytes) -> None:
    path = home / "x.ckpt"
    path.write_bytes(content)
    survives("checkpoint", lambda: checkpoint.read(path), home)


@cases(100)
@given(data=st.data())
def test_checkpoints_whose_pickle_is_damaged(home: Path, data: st.DataObject) -> None:
    out = io.BytesIO()
    with zipfile.ZipFile(io.BytesIO(ZIPPED)) as source, zipfile.ZipFile(out, "w") as target:
        for name in source.namelist():
            content = source.read(name)
            target.writestr(name, data.draw(damaged(content)) if name.endswith("data.pkl") else content)
    path = home / "x.ckpt"
    path.write_bytes(signed(out.getvalue()))
    survives("checkpoint", lambda: checkpoint.read(path), home)


class Call:
    def __init__(self, canary: Path) -> None:
        self.canary = canary

    def __reduce__(self) -> tuple[object, tuple[str]]:
        return os.system, (f"touch {self.canary}",)


@pytest.mark.parametrize("new", [True, False])
def test_a_checkpoint_that_would_run_a_command_runs_none(home: Path, canary: Path, new: bool) -> None:
    path = home / "x.ckpt"
    path.write_bytes(signed(saved({"module": Call(canary)}, _use_new_zipfile_serialization=new)))
    assert survives("checkpoint", lambda: checkpoint.read(path), home) is None
    assert not canary.exists()
