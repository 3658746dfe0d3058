"""Every method's model, kept and read again, says of the test images what the run said of them: the same bits."""

from __future__ import annotations

import csv
import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest
from contract.test_methods import _run, settings, weights
from PIL import Image

from bench.registry import METHODS
from bench.run.training import Trainer

__all__ = ["weights"]


def contents(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in sorted(folder.iterdir())}


@pytest.mark.parametrize("name", METHODS.names())
def test_a_kept_model_gives_the_same_bits(
    bench: Callable, name: str, weights: Path, tmp_path: Path, write_tree: Callable, monkeypatch: pytest.MonkeyPatch
) -> None:
    # more images a class than go through the networks at once
    tree = write_tree(tmp_path / "tree", train=20)
    for cls in ("dots", "lines"):
        for place in range(5, 20):
            good = tree / cls / "train" / "good" / f"{place:03}.png"
            good.rename(tree / cls / "test" / "good" / good.name)
    done = _run(bench, name, tree, weights, settings(name), "--keep-maps", "--keep-model")
    assert done.returncode == 0, done.stdout + done.stderr
    assert "1 model to keep beside the records" in done.stdout
    (path,) = (tmp_path / "out").rglob("s0*.json")
    table = pq.read_table(path.with_suffix(".parquet")).to_pydict()
    maps, record = contents(path.with_suffix(".maps")), json.loads(path.read_text())

    # nothing is trained or remembered any more
    def never(*_: Any, **__: Any) -> None:
        raise AssertionError("a training")

    kind = METHODS.load(name)
    for owner, function in ((Trainer, "train"), (kind, "fit"), (kind, "finish"), (kind, "loss")):
        monkeypatch.setattr(owner, function, never)

    # late maps, or the word that there are none
    shutil.rmtree(path.with_suffix(".maps"))
    done = _run(bench, name, tree, weights, settings(name), "--keep-maps")
    said = done.stdout + done.stderr
    assert done.returncode == 0 and json.loads(path.read_text()) == record, said
    if maps:
        assert "done, maps to come" in done.stdout and contents(path.with_suffix(".maps")) == maps, said
        assert "rounded otherwise" not in done.stdout
    else:
        assert f"{name} gives image scores alone" in said and not path.with_suffix(".maps").exists()

    # the same images, as anybody's
    folders = [str(tree / cls / "test") for cls in ("dots", "lines")]
    done = bench(
        "predict", str(path), *folders, "--weights", str(weights), "--device", "cpu", "--maps", "--out", "said"
    )
    assert done.returncode == 0, done.stdout + done.stderr
    lines = list(csv.DictReader((tmp_path / "said" / "scores.csv").open()))
    ids = [str(Path(line["image"]).relative_to(tree).with_suffix("")) for line in lines]
    assert dict(zip(ids, (float(line["score"]) for line in lines), strict=True)) == dict(
        zip(table["id"], table["score"], strict=True)
    )
    if not maps:
        assert not (tmp_path / "said" / "maps").exists() and "there are no maps" in done.stderr
        return
    for cls in ("dots", "lines"):
        kept = np.load(path.with_suffix(".maps") / f"{cls}.npy")
        for place, sample in enumerate([name for name in table["id"] if name.startswith(cls)]):
            assert np.array_equal(np.load(tmp_path / "said" / "maps" / f"{sample}.png.npy"), kept[place])
            with Image.open(tmp_path / "said" / "overlays" / f"{sample}.png.jpg") as overlay:
                assert overlay.size == (48, 48)
