from __future__ import annotations

import hashlib
import json
import os
import pickle
import socket
import struct
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, ClassVar

import pytest
import timm
import torch
from huggingface_hub import constants
from safetensors.torch import save_file

from bench.api import EncoderRequest
from bench.encoders import catalog, digest, frozen, header, weights
from bench.errors import UsageError, WeightsError

NAME = "test_vit.r160_in1k"
NOBODY = "http://127.0.0.1:9"
COMMIT = "0123456789abcdef0123456789abcdef01234567"


def state(**options: Any) -> dict[str, torch.Tensor]:
    torch.manual_seed(0)
    model: Any = timm.create_model(NAME, pretrained=False, **options)
    return {key: value.contiguous() for key, value in model.state_dict().items()}


@pytest.fixture(autouse=True)
def no_network(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Every test starts with an empty Hugging Face cache and a hub that refuses connections."""
    monkeypatch.delenv(weights.ENVIRONMENT, raising=False)
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "hf"))
    point_hub_at(NOBODY, monkeypatch)


def point_hub_at(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Do what HF_ENDPOINT does when huggingface_hub is first imported."""
    monkeypatch.setattr(constants, "ENDPOINT", url)
    monkeypatch.setattr(
        constants, "HUGGINGFACE_CO_URL_TEMPLATE", f"{url}/{{repo_id}}/resolve/{{revision}}/{{filename}}"
    )


class Hub:
    """The hub's two answers for one file: HEAD with its identity, GET with its bytes."""

    def __init__(self, content: bytes) -> None:
        self.requests: list[tuple[str, str]] = []
        hub = self

        class Handler(BaseHTTPRequestHandler):
            def answer(self, body: bool) -> None:
                hub.requests.append((self.command, self.path))
                if self.path != f"/timm/{NAME}/resolve/main/model.safetensors":
                    self.send_response(404)
                    self.send_header("X-Error-Code", "RepoNotFound")
                    self.send_header("Content-Length", "0")
                    self.end_headers()
                    return
                self.send_response(200)
                self.send_header("ETag", f'"{hashlib.sha256(content).hexdigest()}"')
                self.send_header("X-Repo-Commit", COMMIT)
                self.send_header("Content-Length", str(len(content)))
                self.end_headers()
                if body:
                    self.wfile.write(content)

            def do_HEAD(self) -> None:
                self.answer(body=False)

            def do_GET(self) -> None:
                self.answer(body=True)

            def log_message(self, format: str, *args: Any) -> None:
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server.server_address[1]}"
        threading.Thread(target=self.server.serve_forever, daemon=True).start()


@pytest.fixture
def hub(tmp_path: Path) -> Iterator[Hub]:
    save_file(state(), tmp_path / "served.safetensors")
    hub = Hub((tmp_path / "served.safetensors").read_bytes())
    yield hub
    hub.server.shutdown()


# -------------------------------------------------------------------------------------------------- local folders
@pytest.mark.parametrize(
    ("name", "file"),
    [
        (NAME, f"{NAME}.safetensors"),
        (NAME, f"{NAME}/model.safetensors"),
        (NAME, "test_vit.safetensors"),
        (NAME, "test_vit/model.safetensors"),
        (NAME, f"{NAME}.fp16.safetensors"),
        ("test_vit", f"{NAME}.safetensors"),
    ],
)
def test_names_that_are_found_in_a_folder(name: str, file: str, tmp_path: Path, monkeypatch: Any) -> None:
    path = tmp_path / "own" / file
    path.parent.mkdir(parents=True)
    path.touch()
    assert weights.locate(name, tmp_path / "own") == path
    monkeypatch.setenv("BENCH_WEIGHTS", str(tmp_path / "own"))
    assert weights.locate(name) == path


def test_exact_name_wins_and_given_folder_beats_the_environment(tmp_path: Path, monkeypatch: Any) -> None:
    for folder in ("a", "b"):
        (tmp_path / folder).mkdir()
        for file in (f"{NAME}.safetensors", "test_vit.safetensors", f"{NAME}.other.safetensors"):
            (tmp_path / folder / file).touch()
    monkeypatch.setenv("BENCH_WEIGHTS", str(tmp_path / "b"))
    assert weights.locate(NAME, tmp_path / "a") == tmp_path / "a" / f"{NAME}.safetensors"


def test_weights_of_another_tag_or_architecture_never_serve(tmp_path: Path) -> None:
    for file in ("vit_small_patch16_224.augreg_in1k.safetensors", "vit_small_patch16_224_other.dino.safetensors"):
        (tmp_path / file).touch()
    with pytest.raises(WeightsError, match="no weights for encoder"):
        weights.locate("vit_small_patch16_224.dino", tmp_path)


def test_several_candidates_are_a_question(tmp_path: Path) -> None:
    for tag in ("augreg_in1k", "dino"):
        (tmp_path / f"vit_small_patch16_224.{tag}.safetensors").touch()
    with pytest.raises(WeightsError, match=r"2 files in .* could be"):
        weights.locate("vit_small_patch16_224", tmp_path)


def test_missing_folder_and_unknown_name(tmp_path: Path) -> None:
    with pytest.raises(WeightsError, match=r"no weights folder .*absent"):
        weights.locate(NAME, tmp_path / "absent")
    with pytest.raises(UsageError, match=r"Did you mean: .*test_vit"):
        weights.locate("test_vitt.r160_in1k", tmp_path)


def test_embedded_file_serves_unless_a_folder_has_one(tmp_path: Path, monkeypatch: Any) -> None:
    (tmp_path / "package").mkdir()
    (tmp_path / "own").mkdir()
    inside = tmp_path / "package" / "vit_own.safetensors"
    inside.touch()
    monkeypatch.setattr(catalog, "EMBEDDED", tmp_path / "package")
    assert weights.locate("vit_own.bench") == inside
    assert weights.locate("vit_own.bench", tmp_path / "own") == inside
    (tmp_path / "own" / "vit_own.bench.safetensors").touch()
    assert weights.locate("vit_own.bench", tmp_path / "own") == tmp_path / "own" / "vit_own.bench.safetensors"


# ----------------------------------------------------------------------------------------------------------- hub
def test_download_then_cache(hub: Hub, tmp_path: Path, monkeypatch: Any) -> None:
    point_hub_at(hub.url, monkeypatch)
    path = weights.locate(NAME, None)
    assert path.is_relative_to(tmp_path / "hf")
    assert digest.fingerprint(path) == digest.fingerprint(tmp_path / "served.safetensors")
    encoder = frozen.build(EncoderRequest(NAME, (1,), 160), path)
    assert encoder.weights_sha256 == hashlib.sha256((tmp_path / "served.safetensors").read_bytes()).hexdigest()
    assert {method for method, _ in hub.requests} == {"HEAD", "GET"}

    point_hub_at(NOBODY, monkeypatch)
    assert weights.locate(NAME) == path, "the second time needs no network"


def test_endpoint_variable_in_a_process_of_its_own(hub: Hub, tmp_path: Path) -> None:
    code = f"from bench.encoders.weights import locate; print(locate({NAME!r}))"
    env = {**os.environ, "HF_ENDPOINT": hub.url, "HF_HOME": str(tmp_path / "home"), "OMP_NUM_THREADS": "1"}
    env.pop("HF_HUB_CACHE", None)
    done = subprocess.run([sys.executable, "-c", code], env=env, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    assert Path(done.stdout.strip()).is_relative_to(tmp_path / "home")
    assert Path(done.stdout.strip()).read_bytes() == (tmp_path / "served.safetensors").read_bytes()


def test_hub_without_the_repository(hub: Hub, monkeypatch: Any) -> None:
    point_hub_at(hub.url, monkeypatch)
    with pytest.raises(WeightsError, match=r"404|not found|NotFound"):
        weights.locate("test_vit3.r160_in1k")


def test_refused_connection_says_what_to_do(tmp_path: Path) -> None:
    began = time.monotonic()
    with pytest.raises(WeightsError) as caught:
        weights.locate(NAME, tmp_path)
    assert time.monotonic() - began < 10
    text = str(caught.value)
    for part in (
        f"{NAME}.safetensors",
        str(tmp_path),
        f"{NOBODY}/timm/{NAME}/resolve/main/model.safetensors",
        "--weights DIR",
        "on a machine with network",
    ):
        assert part in text, part
    assert caught.value.exit_code == 2


def test_silent_hub_is_given_up_within_ten_seconds(monkeypatch: Any) -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        point_hub_at(f"http://127.0.0.1:{silent.getsockname()[1]}", monkeypatch)
        began = time.monotonic()
        with pytest.raises(WeightsError, match="gave nothing"):
            weights.locate(NAME)
        assert time.monotonic() - began < 10


def test_name_resolution_that_hangs_is_given_up(monkeypatch: Any) -> None:
    monkeypatch.setattr(weights, "PATIENCE_S", 0.5)
    monkeypatch.setattr(weights, "get_hf_file_metadata", lambda *_, **__: time.sleep(5))
    began = time.monotonic()
    with pytest.raises(WeightsError, match="no answer within"):
        weights.locate(NAME)
    assert time.monotonic() - began < 3


def test_offline_variable_asks_nobody(hub: Hub, monkeypatch: Any) -> None:
    point_hub_at(hub.url, monkeypatch)
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    with pytest.raises(WeightsError, match="HF_HUB_OFFLINE is set"):
        weights.locate(NAME)
    assert hub.requests == []


# --------------------------------------------------------------------------------------------------------- reading
def build(tensors: dict[str, torch.Tensor], tmp_path: Path) -> frozen.FrozenEncoder:
    save_file(tensors, tmp_path / "file.safetensors")
    return frozen.build(EncoderRequest(NAME, (1,), 160), tmp_path / "file.safetensors")


def test_half_precision_is_widened(tmp_path: Path) -> None:
    full = state(num_classes=0)
    for dtype in (torch.float16, torch.bfloat16):
        encoder = build({key: value.to(dtype) for key, value in full.items()}, tmp_path)
        assert {param.dtype for param in encoder.parameters()} == {torch.float32}
        key = "blocks.3.attn.qkv.weight"
        assert torch.equal(encoder.backbone.state_dict()[key], full[key].to(dtype).float())


def test_classifier_is_dropped_and_nothing_else(tmp_path: Path) -> None:
    with_head = state()
    assert "head.weight" in with_head
    build(with_head, tmp_path)
    with pytest.raises(WeightsError, match=r"1 not part of this network: decoder\.weight"):
        build({**with_head, "decoder.weight": torch.zeros(2)}, tmp_path)


def test_every_fault_is_listed(tmp_path: Path) -> None:
    wrong = state(num_classes=0)
    del wrong["norm.weight"], wrong["blocks.0.norm1.bias"]
    wrong["cls_token"] = torch.zeros(1, 1, 32)
    wrong["mask_token"] = torch.zeros(1, 64)
    with pytest.raises(WeightsError) as caught:
        build(wrong, tmp_path)
    text = str(caught.value)
    assert "2 missing: blocks.0.norm1.bias, norm.weight" in text
    assert "1 not part of this network: mask_token" in text
    assert "cls_token [1, 1, 32] (expected [1, 1, 64])" in text
    assert "file.safetensors" in text


def test_long_lists_are_cut(tmp_path: Path) -> None:
    with pytest.raises(WeightsError, match=r"and [0-9]+ more"):
        build({"x": torch.zeros(1)}, tmp_path)


def test_pickles_are_refused_unread(tmp_path: Path) -> None:
    class Bomb:
        def __reduce__(self) -> Any:
            return (Path.touch, (tmp_path / "exploded",))

    path = tmp_path / f"{NAME}.safetensors"
    path.write_bytes(pickle.dumps(Bomb()))
    with pytest.raises(WeightsError, match="safetensors"):
        frozen.build(EncoderRequest(NAME, (1,), 160), path)
    torch.save(state(), path)
    with pytest.raises(WeightsError, match=r"a PyTorch checkpoint. Make a safetensors file .*: bench weights convert"):
        frozen.build(EncoderRequest(NAME, (1,), 160), path)
    assert not (tmp_path / "exploded").exists()


def test_truncated_file(tmp_path: Path) -> None:
    save_file(state(), tmp_path / "file.safetensors")
    whole = (tmp_path / "file.safetensors").read_bytes()
    (tmp_path / "file.safetensors").write_bytes(whole[: len(whole) // 2])
    with pytest.raises(WeightsError, match=r"was cut off: its tensors take .* are there. Download or copy it again"):
        header.read(tmp_path / "file.safetensors")


def with_header(path: Path, text: bytes, body: bytes = b"") -> Path:
    path.write_bytes(struct.pack("<Q", len(text)) + text + body)
    return path


POINTER = b"version https://git-lfs.github.com/spec/v1\noid sha256:" + b"0" * 64 + b"\nsize 88000000\n"


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (POINTER, "a git-LFS pointer, not the file it stands for. Fetch that with: git lfs pull"),
        (b"\n<!DOCTYPE html>\n<html>" + b" " * 500, "an HTML page"),
        (b"<html><body>404</body></html>", "an HTML page"),
        (b"PK\x03\x04" + bytes(600), "a PyTorch checkpoint.*bench weights convert"),
        (pickle.dumps({"x": 1}), "a PyTorch checkpoint.*bench weights convert"),
        (b"", "empty"),
        (b"{}", "no safetensors file: its header cannot be found in 2 bytes"),
        (bytes(1000), "no safetensors file: its header cannot be found in 1,000 bytes"),
        (b"\xff" * 1000, "no safetensors file"),
    ],
)
def test_what_lies_there_instead_of_weights_is_named(tmp_path: Path, content: bytes, message: str) -> None:
    path = tmp_path / f"{NAME}.safetensors"
    path.write_bytes(content)
    with pytest.raises(WeightsError, match=message):
        weights.look(path, NAME)


@pytest.mark.parametrize(
    ("entry", "message"),
    [
        (
            {"dtype": "F4", "shape": [8], "data_offsets": [0, 4]},
            "tensor x: numbers of type F4. Expected one of F64",
        ),
        (
            {"dtype": "F32", "shape": [8], "data_offsets": [0, 4]},
            r"tensor x: 4 bytes for shape \[8\] of F32",
        ),
        (
            {"dtype": "F32", "shape": [2], "data_offsets": [0, 8]},
            "was cut off: its tensors take 8 bytes and 4",
        ),
        ({"dtype": "U8", "shape": [2], "data_offsets": [2, 4]}, "names bytes 2 after 0"),
        ({"dtype": "U8", "shape": [2], "data_offsets": [0, 2]}, "2 bytes behind its tensors"),
        ({"dtype": "U8", "shape": [-2, -2], "data_offsets": [0, 4]}, "expected dtype, shape and data_offsets"),
        ({"dtype": "U8", "shape": [True], "data_offsets": [0, 1]}, "expected dtype, shape and data_offsets"),
        ({"dtype": "U8", "shape": [2**47] * 2, "data_offsets": [0, 4]}, "4 bytes for shape"),
        ({"dtype": ["U8"], "shape": [4], "data_offsets": [0, 4]}, "expected dtype, shape and data_offsets"),
        (None, "expected dtype, shape and data_offsets"),
    ],
)
def test_a_header_that_says_what_cannot_be_is_refused(tmp_path: Path, entry: Any, message: str) -> None:
    path = with_header(tmp_path / "x.safetensors", json.dumps({"x": entry}).encode(), bytes(4))
    with pytest.raises(WeightsError, match=message):
        header.read(path)


@pytest.mark.parametrize("text", [b"{nonsense}", b"{" + b"[" * 200_000, b'{"\xff": 1}'])
def test_a_header_that_is_no_json_is_refused(tmp_path: Path, text: bytes) -> None:
    with pytest.raises(WeightsError, match="its header is no JSON"):
        header.read(with_header(tmp_path / "x.safetensors", text))


def test_a_look_reads_no_tensor_and_says_what_does_not_fit(tmp_path: Path, monkeypatch: Any) -> None:
    monkeypatch.setattr(weights, "safe_open", None)
    tensors = state()
    save_file(tensors, tmp_path / "whole.safetensors")
    weights.look(tmp_path / "whole.safetensors", NAME)
    save_file({**tensors, "cls_token": torch.zeros(1, 1, 32)}, tmp_path / "other.safetensors")
    with pytest.raises(WeightsError, match=r"cls_token \[1, 1, 32\] \(expected \[1, 1, 64\]\)"):
        weights.look(tmp_path / "other.safetensors", NAME)


def test_tensors_that_the_network_does_not_have_are_not_read(tmp_path: Path) -> None:
    from safetensors import safe_open

    class Counting:
        read: ClassVar[list[str]] = []

        def __init__(self, *given: Any) -> None:
            self.file = safe_open(*given)

        def __enter__(self) -> Any:
            return self

        def __exit__(self, *given: object) -> None:
            pass

        def get_tensor(self, name: str) -> torch.Tensor:
            self.read.append(name)
            return self.file.get_tensor(name)

    save_file({**state(), "head.junk": torch.zeros(10)}, tmp_path / "file.safetensors")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(weights, "safe_open", Counting)
        frozen.build(EncoderRequest(NAME, (1,), 160), tmp_path / "file.safetensors")
    assert sorted(Counting.read) == sorted(state(num_classes=0))


def test_old_cnn_files_without_batch_counters(tmp_path: Path) -> None:
    model: Any = timm.create_model("test_resnet.r160_in1k", pretrained=False)
    tensors = {k: v.contiguous() for k, v in model.state_dict().items() if not k.endswith("num_batches_tracked")}
    save_file(tensors, tmp_path / "file.safetensors")
    encoder = frozen.build(EncoderRequest("test_resnet.r160_in1k", (1,), 64), tmp_path / "file.safetensors")
    assert encoder(torch.randn(1, 3, 64, 64))[1].ndim == 4


def test_fingerprint_is_the_sha256(tmp_path: Path) -> None:
    (tmp_path / "x").write_bytes(b"abc" * 1000)
    assert digest.fingerprint(tmp_path / "x") == hashlib.sha256(b"abc" * 1000).hexdigest()
