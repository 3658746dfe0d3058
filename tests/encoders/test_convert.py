"""Official checkpoints become files that encoders are read from. The networks are tiny ones under real names."""

from __future__ import annotations

import argparse
import os
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from tiny_encoders import DINO, DINOV2, RESNET, as_published, filled, tiny
from torch import Tensor

from bench.encoders import catalog, convert, digest, weights
from bench.errors import UsageError, WeightsError


@pytest.fixture(autouse=True)
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(catalog, "create", lambda name, input_size=None: tiny(name))


def same(found: dict[str, Tensor], wanted: dict[str, Tensor]) -> bool:
    return found.keys() == wanted.keys() and all(torch.allclose(found[key], wanted[key], atol=1e-6) for key in wanted)


@pytest.mark.parametrize(
    ("file", "name"),
    [
        ("dino_deitsmall16_pretrain.pth", DINO),
        ("dino_deitsmall16_pretrain (1).pth", DINO),
        ("dinov2_vitb14_reg4_pretrain.pth", DINOV2),
        ("wide_resnet50_2-95faca4d.pth", RESNET),
    ],
)
def test_a_file_with_its_official_name_needs_no_encoder_named(
    bench: Callable, tmp_path: Path, file: str, name: str
) -> None:
    torch.save(as_published(name), tmp_path / file)
    done = bench("weights", "convert", file, "--out", "made")
    assert done.returncode == 0, done.stderr
    made = tmp_path / "made" / f"{name}.safetensors"
    assert f"wrote made/{made.name}, SHA-256 {digest.fingerprint(made)}" in done.stdout
    assert f"bench run --encoder {name} --weights made" in done.stdout
    assert same(load_file(made), filled(name))
    weights.look(made, name)
    assert weights.locate(name, tmp_path / "made") == made
    again = bench("weights", "convert", file, "--out", "made")
    assert again.returncode == 2 and "is there already: it is not overwritten" in again.stderr
    assert sorted(path.name for path in made.parent.iterdir()) == [made.name]


@pytest.mark.parametrize("new", [True, False], ids=["zip", "legacy"])
@pytest.mark.parametrize(
    "wrap",
    [
        lambda state: state,
        lambda state: {"model": state, "epoch": 3},
        lambda state: {"state_dict": {f"module.{key}": value for key, value in state.items()}},
        lambda state: {
            "student": {},
            "teacher": {"head.weight": torch.zeros(2)} | {f"backbone.{key}": value for key, value in state.items()},
        },
    ],
    ids=["alone", "model", "wrapped", "teacher"],
)
def test_tensors_are_found_where_trainings_put_them(tmp_path: Path, wrap: Callable, new: bool) -> None:
    torch.save(wrap(as_published(DINO)), tmp_path / "x.pth", _use_new_zipfile_serialization=new)
    made = convert.convert(tmp_path / "x.pth", DINO)
    assert made == tmp_path / f"{DINO}.safetensors" and same(load_file(made), filled(DINO))


def test_tensors_that_share_memory_are_taken_apart(tmp_path: Path) -> None:
    block = torch.randn(2, 24)
    state = {**as_published(DINO), "norm.weight": block[0], "norm.bias": block[1]}
    torch.save(state, tmp_path / "x.pth")
    assert torch.equal(load_file(convert.convert(tmp_path / "x.pth", DINO))["norm.bias"], block[1])


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"decoder.weight": torch.zeros(2)}, "1 not part of this network: decoder.weight"),
        ({"cls_token": torch.zeros(1, 1, 8)}, r"cls_token \[1, 1, 8\] \(expected \[1, 1, 24\]\)"),
        ({"norm.weight": None}, "1 missing: norm.weight"),
        (
            {"pos_embed": torch.zeros(1, 1 + 9, 24)},
            r"pos_embed \[1, 10, 24\] would have to be resampled to \[1, 5, 24\]",
        ),
        ({"patch_embed.proj.weight": torch.zeros(24, 3, 8, 8)}, "patch_embed.proj.weight .* resampled"),
    ],
)
def test_what_does_not_fit_is_named_and_nothing_written(
    tmp_path: Path, change: dict[str, Tensor | None], message: str
) -> None:
    state = {key: value for key, value in {**as_published(DINO), **change}.items() if value is not None}
    torch.save(state, tmp_path / "x.pth")
    with pytest.raises(WeightsError, match=message):
        convert.convert(tmp_path / "x.pth", DINO)
    assert [path.name for path in tmp_path.iterdir()] == ["x.pth"]


class Call:
    def __init__(self, canary: Path) -> None:
        self.canary = canary

    def __reduce__(self) -> tuple[object, tuple[str]]:
        return os.system, (f"touch {self.canary}",)


def test_nothing_in_a_checkpoint_is_executed(tmp_path: Path) -> None:
    torch.save({"model": as_published(DINO), "x": Call(tmp_path / "canary")}, tmp_path / "x.pth")
    with pytest.raises(WeightsError, match=r"holds more than tensors \(posix.system\).* weights alone"):
        convert.convert(tmp_path / "x.pth", DINO)
    assert not (tmp_path / "canary").exists()
    torch.save({"model": as_published(DINO), "args": argparse.Namespace(lr=1)}, tmp_path / "x.pth")
    with pytest.raises(WeightsError, match=r"holds more than tensors \(argparse.Namespace\)"):
        convert.convert(tmp_path / "x.pth", DINO)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "no PyTorch checkpoint"),
        (b"<html>", "no PyTorch checkpoint: it cannot be read as tensors alone"),
        # a pickle's call for something that was never kept: the reader's own error is a bare number
        (b"junk.", "no PyTorch checkpoint: it cannot be read as tensors alone"),
        (b"version https://git-lfs.github.com/spec/v1\n", "no PyTorch checkpoint"),
        (b"PK\x03\x04" + bytes(100), "no PyTorch checkpoint"),
    ],
)
def test_other_files_are_refused(tmp_path: Path, content: bytes, message: str) -> None:
    (tmp_path / "x.pth").write_bytes(content)
    with pytest.raises(WeightsError, match=message):
        convert.convert(tmp_path / "x.pth", DINO)
    os.mkfifo(tmp_path / "pipe.pth")
    with pytest.raises(WeightsError, match="a named pipe"):
        convert.convert(tmp_path / "pipe.pth", DINO)


@pytest.mark.parametrize("content", [[torch.zeros(2)], {"a": 1}, {1: torch.zeros(2)}, torch.zeros(2)])
def test_tensors_without_names_are_refused(tmp_path: Path, content: Any) -> None:
    torch.save(content, tmp_path / "x.pth")
    with pytest.raises(WeightsError, match="holds no tensors by name"):
        convert.convert(tmp_path / "x.pth", DINO)


def test_an_archive_that_unpacks_to_more_than_it_is_is_refused(tmp_path: Path) -> None:
    torch.save(as_published(DINO), tmp_path / "x.pth")
    with (
        zipfile.ZipFile(tmp_path / "x.pth") as source,
        zipfile.ZipFile(tmp_path / "bomb.pth", "w", zipfile.ZIP_DEFLATED) as target,
    ):
        for part in source.namelist():
            target.writestr(part, source.read(part) if part.endswith((".pkl", "version")) else bytes(1_000_000))
    with pytest.raises(WeightsError, match="is packed"):
        convert.convert(tmp_path / "bomb.pth", DINO)


def test_an_encoder_that_is_not_said_or_not_known_is_asked_for(tmp_path: Path) -> None:
    torch.save(as_published(DINO), tmp_path / "mine.pth")
    with pytest.raises(UsageError, match=r"of which encoder are these weights\?.*--encoder NAME"):
        convert.convert(tmp_path / "mine.pth")
    torch.save(as_published(DINO), tmp_path / "dino_deitsmal16_pretrain.pth")
    with pytest.raises(UsageError, match=r"Did you mean 'dino_deitsmall16_pretrain.pth'"):
        convert.convert(tmp_path / "dino_deitsmal16_pretrain.pth")
    with pytest.raises(UsageError, match="unknown encoder"):
        convert.convert(tmp_path / "mine.pth", "vit_smal_patch16_224.dino")
    with pytest.raises(UsageError, match="ships with bench"):
        convert.convert(tmp_path / "mine.pth", "vit_tiny_patch8_128.bench")
    with pytest.raises(UsageError, match="no such file"):
        convert.convert(tmp_path / "absent.pth", DINO)


def test_who_has_no_weights_is_told_of_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(weights, "_cached", lambda name: None)
    monkeypatch.setattr(weights, "_hub_trouble", lambda repo: "offline")
    with pytest.raises(WeightsError) as caught:
        weights.locate(DINOV2, tmp_path)
    assert "dinov2_vitb14_reg4_pretrain.pth) serves too: bench weights convert FILE" in str(caught.value)
