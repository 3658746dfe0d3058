"""Released checkpoints at the papers' sizes, by name and shape alone, and encoders under their authors' names."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from released_files import LAID_OUT
from safetensors.torch import save_file
from tiny_encoders import DINO, DINOV2, as_published, filled, tiny

from bench.api import EncoderRequest
from bench.config import configure
from bench.encoders import catalog, frozen
from bench.errors import WeightsError
from bench.plan import imported
from bench.registry import METHODS

FILE = Path("released.pth")


@pytest.mark.parametrize("method", LAID_OUT)
def test_every_tensor_at_the_papers_size_has_its_place(method: str) -> None:
    kind = METHODS.load(method)
    made = kind(configure(kind, "mvtec", {}, None))
    encoder = made.encoder()
    with torch.device("meta"):
        module = made.build(frozen.skeleton(encoder).info).state_dict()
        theirs = LAID_OUT[method](module, {})
    assert kind.released is not None
    used = {key: value for key, value in theirs.items() if not imported._is_unused(key, kind.released)}
    assert len(theirs) - len(used) == (7 if method == "vitad" else 0)
    state = imported._fitted(used, made, encoder, kind.released, FILE)
    assert state.keys() == module.keys() and all(state[key] is module[key] for key in module)
    with pytest.raises(
        WeightsError, match=r"1 of another shape: net_s.pos_embed|1 missing, by bench.s names: bottleneck.fc1.bias"
    ):
        imported._fitted(
            {key: value for key, value in used.items() if key != "bottleneck.0.fc1.bias"}
            | ({"net_s.pos_embed": torch.empty(1, 257, 384, device="meta")} if method == "vitad" else {}),
            *(made, encoder, kind.released, FILE),
        )


@pytest.mark.parametrize("name", [DINO, DINOV2])
@pytest.mark.parametrize("half", [False, True])
def test_an_encoder_is_known_under_its_authors_names(
    name: str, half: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(catalog, "create", lambda name, input_size=None: tiny(name))
    save_file(filled(name), tmp_path / "ours.safetensors")
    theirs = as_published(name)
    if half:
        theirs = {key: value.half() for key, value in theirs.items()}
    request = EncoderRequest(name=name, blocks=(1,), input_size=28)
    imported._compare(theirs, request, tmp_path / "ours.safetensors", FILE)
    theirs["blocks.1.mlp.fc1.bias"] = theirs["blocks.1.mlp.fc1.bias"] * (1.01 if half else 1.00001)
    with pytest.raises(WeightsError, match=r"another encoder than .*1 of its tensors differ: blocks.1.mlp.fc1.bias"):
        imported._compare(theirs, request, tmp_path / "ours.safetensors", FILE)
