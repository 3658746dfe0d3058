"""`bench import`: released checkpoints become models and records. The files are our own modules, named as theirs."""

from __future__ import annotations

import csv
import json
import pickle
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pyarrow.parquet as parquet
import pytest
import torch
from released_files import LAID_OUT
from safetensors.torch import load_file
from torch import Tensor

from bench.encoders import catalog
from bench.store import record as records
from bench.store.record import Record

VIT = "vit_tiny_patch8_128.bench"
SIZES = {
    "dinomaly": ("input_size=32", "mlp_ratio=0.5"),
    "inp_former": ("input_size=32", "mlp_ratio=0.5"),
    "vitad": ("input_size=32", "mlp_ratio=0.5"),
}


def options(method: str, tree: Path) -> list[str]:
    pairs = [part for pair in SIZES[method] for part in ("--set", f"{method}.{pair}")]
    return ["--datasets", "folder", "--data-root", str(tree), "--encoder", VIT, "--device", "cpu", *pairs]


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory, write_tree: Callable) -> dict[str, Any]:
    """The methods trained for a few steps on one small dataset, their records and models kept."""
    from bench.cli.main import run

    folder = tmp_path_factory.mktemp("trained")
    tree = write_tree(folder / "tree")
    for method in LAID_OUT:
        steps = ["--set", f"{method}.steps=3", "--results", str(folder / "out"), "--keep-model", "-q"]
        assert run(["run", "--methods", method, *options(method, tree), *steps]) == 0
    found = {"tree": tree, "out": folder / "out"}
    for path in (folder / "out").rglob("s0*.json"):
        record = records.read(path)
        assert record.model is not None
        found[record.cell.method] = (path, load_file(path.with_name(record.model.file)))
    return found


def released(trained: Mapping[str, Any], method: str) -> dict[str, Tensor]:
    encoder = load_file(catalog.embedded_file(VIT))
    if method == "vitad":
        # ADer lays its teacher out for the input size: 4 x 4 patches at 32 pixels
        encoder["pos_embed"] = at_32_pixels(encoder["pos_embed"])
    return LAID_OUT[method](trained[method][1], encoder)


def at_32_pixels(native: Tensor) -> Tensor:
    from timm.layers.pos_embed import resample_abs_pos_embed

    return resample_abs_pos_embed(native, new_size=[4, 4], old_size=[16, 16], num_prefix_tokens=native.shape[1] - 256)


def image_scores(path: Path) -> dict[str, float]:
    table = parquet.read_table(path.with_suffix(".parquet"))
    return dict(zip(table["id"].to_pylist(), table["score"].to_pylist(), strict=True))


def only(folder: Path) -> tuple[Path, Record]:
    (path,) = folder.rglob("s0*.json")
    return path, records.read(path)


@pytest.mark.parametrize("method", LAID_OUT)
def test_scores_are_those_of_the_training_to_the_bit(
    bench: Callable, trained: dict[str, Any], tmp_path: Path, method: str
) -> None:
    torch.save(released(trained, method), tmp_path / "mvtec.pth")
    done = bench("import", method, "mvtec.pth", *options(method, trained["tree"]), "--results", "out")
    assert done.returncode == 0, done.stderr
    path, record = only(tmp_path / "out")
    before = records.read(trained[method][0])
    assert record.scores == before.scores and record.pooled == before.pooled
    assert image_scores(path) == image_scores(trained[method][0])
    assert record.imported is not None and record.imported.file == "mvtec.pth" and record.training is None
    assert record.cell.fingerprint != before.cell.fingerprint and "train" not in record.efficiency.seconds
    assert f"{method} on folder, multi, authors' weights, protocol common" in done.stdout
    assert "authors' weights, scored here and trained elsewhere: mvtec.pth" in done.stdout.replace("\n", " ")
    # a second time there is nothing to do, and the model serves for any image
    assert (
        "0 to do" in bench("import", method, "mvtec.pth", *options(method, trained["tree"]), "--results", "out").stdout
    )
    predicted = bench("predict", str(path), str(trained["tree"] / "dots/test"), "--device", "cpu", "--no-overlays")
    assert predicted.returncode == 0, predicted.stderr


def halved(state: dict[str, Tensor]) -> Any:
    return {key: value.half() for key, value in state.items()}


WRAPPED = {
    "model": lambda state: {"model": state, "epoch": 7},
    "net": lambda state: {"net": state, "optimizer": {"state": {}, "param_groups": [{"lr": 1e-4}]}},
    "state_dict": lambda state: {"state_dict": {f"module.{key}": value for key, value in state.items()}},
    "nested": lambda state: {"state_dict": {"model": state}},
}


@pytest.mark.parametrize("how", WRAPPED)
def test_what_wraps_the_tensors_is_taken_off(
    bench: Callable, trained: dict[str, Any], tmp_path: Path, how: str
) -> None:
    torch.save(WRAPPED[how](released(trained, "vitad")), tmp_path / "net.pth")
    command = ["import", "vitad", "net.pth", *options("vitad", trained["tree"]), "--results", "out"]
    done = bench(*command, "--classes", "dots", "--dry-run")
    assert done.returncode == 0 and "1 to do" in done.stdout, done.stderr


def test_half_precision_is_widened_and_its_encoder_still_known(
    bench: Callable, trained: dict[str, Any], tmp_path: Path
) -> None:
    torch.save(halved(released(trained, "dinomaly")), tmp_path / "half.pth")
    done = bench("import", "dinomaly", "half.pth", *options("dinomaly", trained["tree"]), "--results", "out")
    assert done.returncode == 0, done.stderr
    path, record = only(tmp_path / "out")
    kept = load_file(path.with_name(record.model.file))
    for name, value in trained["dinomaly"][1].items():
        assert kept[name].dtype == torch.float32 and torch.equal(kept[name], value.half().float())


def test_a_paper_protocol_and_a_report_with_both_rows(bench: Callable, trained: dict[str, Any], tmp_path: Path) -> None:
    torch.save(released(trained, "vitad"), tmp_path / "net.pth")
    out = trained["out"]
    given = options("vitad", trained["tree"])
    assert bench("import", "vitad", "net.pth", *given, "--protocol", "paper", "--results", "paper").returncode == 0
    assert only(tmp_path / "paper")[1].protocol.name == "paper:vitad"
    assert bench("import", "vitad", "net.pth", *given, "--results", "both").returncode == 0
    done = bench("report", "--results", str(out), "--results", "both", "--methods", "vitad", "--out", "r")
    assert done.returncode == 0, done.stderr
    for file in ("report.html", "latex/overview-multi.tex", "tables.md", "csv/overview-multi.csv"):
        text = (tmp_path / "r" / file).read_text().replace("&#39;", "'")
        assert "ViTAD, authors' weights" in text and "scored here and trained elsewhere: net.pth" in text, file
        assert "over 2 seeds" not in text
    assert ",vitad,authors' weights;" in (tmp_path / "r/numbers.csv").read_text()
    hours = (tmp_path / "r/csv/efficiency-multi.csv").read_text().splitlines()
    (theirs,) = csv.DictReader(line for line in hours if "authors" in line or line == hours[0])
    assert theirs["training (h)"] == "" and theirs["inference (images/s)"] != ""


def changed(state: dict[str, Tensor], **changes: Any) -> dict[str, Tensor]:
    return {key: value for key, value in {**state, **changes}.items() if value is not None}


WRONG = {
    "missing": ({"decoder.3.norm1.bias": None}, "1 missing, by bench's names: decoder.3.norm1.bias [128]"),
    "superfluous": ({"decoder.8.norm1.bias": torch.zeros(128)}, "1 not part of this network: decoder.8.norm1.bias"),
    "shape": (
        {"bottleneck.0.fc1.weight": torch.zeros(5, 128)},
        "1 of another shape: bottleneck.0.fc1.weight [5, 128] (expected [64, 128])",
    ),
    "unnamed": ({"teacher_head.weight": torch.zeros(2)}, "1 not part of this network: teacher_head.weight"),
    "encoder": ({"encoder.norm.weight": torch.ones(128) * 3}, "was trained on another encoder than"),
    "encoder's shape": ({"encoder.norm.weight": torch.ones(7)}, "1 of another shape: norm.weight [7]"),
}


@pytest.mark.parametrize("case", WRONG)
def test_what_does_not_fit_is_named(bench: Callable, trained: dict[str, Any], tmp_path: Path, case: str) -> None:
    changes, message = WRONG[case]
    torch.save(changed(released(trained, "dinomaly"), **changes), tmp_path / "bad.pth")
    done = bench("import", "dinomaly", "bad.pth", *options("dinomaly", trained["tree"]), "--results", "out")
    assert done.returncode == 2 and message in done.stderr and not (tmp_path / "out").exists(), done.stderr


class _Hostile:
    def __reduce__(self) -> Any:
        return (Path.touch, (Path("executed"),))


def test_files_that_are_no_released_checkpoint(bench: Callable, trained: dict[str, Any], tmp_path: Path) -> None:
    given = [*options("dinomaly", trained["tree"]), "--results", "out"]
    torch.save({"model": released(trained, "dinomaly"), "config": _Hostile()}, tmp_path / "hostile.pth")
    (tmp_path / "old.pth").write_bytes(pickle.dumps(_Hostile()))
    (tmp_path / "text.pth").write_text("no checkpoint")
    torch.save({"model": {"lr": 0.1}}, tmp_path / "empty.pth")
    torch.save({key: value for key, value in released(trained, "dinomaly").items() if "encoder" not in key}, "part.pth")
    for file, message in {
        "hostile.pth": "holds more than tensors",
        "old.pth": "old.pth",
        "text.pth": "is no PyTorch checkpoint",
        "empty.pth": "holds no tensors by name",
        "part.pth": "holds no encoder",
        "nowhere.pth": "no such file. Expected the checkpoint that dinomaly's authors released",
    }.items():
        done = bench("import", "dinomaly", file, *given)
        assert done.returncode == 2 and message in done.stderr, (file, done.stderr)
    assert not (tmp_path / "executed").exists() and not (tmp_path / "out").exists()


def test_who_has_no_released_files_and_how_many_models_a_file_is(
    bench: Callable, trained: dict[str, Any], tmp_path: Path
) -> None:
    torch.save(released(trained, "dinomaly"), tmp_path / "m.pth")
    done = bench("import", "knn", "m.pth", "--datasets", "demo")
    assert done.returncode == 2 and "Expected one of dinomaly, inp_former, vitad" in done.stderr
    given = [*options("dinomaly", trained["tree"]), "--setting", "single"]
    done = bench("import", "dinomaly", "m.pth", *given)
    assert done.returncode == 2 and "setting single makes 2 of a dataset" in done.stderr
    done = bench("import", "dinomaly", "m.pth", *given, "--classes", "dots", "--dry-run", "--json")
    assert done.returncode == 0 and len(json.loads(done.stdout)["cells"]) == 1
