"""Packs: whatever is recorded comes out again without images, and what was changed is named."""

from __future__ import annotations

import json
import shutil
import zipfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from builders.documented_json import same
from hypothesis import given, settings
from hypothesis import strategies as st

from bench.cli.main import run
from bench.errors import StoreError
from bench.metrics.arrays import pixel_evidence
from bench.metrics.evaluate import evaluate_class
from bench.metrics.ids import parse_all
from bench.metrics.scores import collect
from bench.packs.pixel_ranks import SUFFIX, PackedPixels, read, save

METRICS = ("pixel/auroc", "pixel/ap", "pixel/f1max", "pixel/aupro@0.3", "pixel/aupro@0.05", "pixel/fpr@recall0.95")


@given(data=st.data())
@settings(max_examples=40, deadline=None)
def test_ranks_in_a_file_give_the_metrics_of_the_maps(
    data: st.DataObject, tmp_path_factory: pytest.TempPathFactory
) -> None:
    rng = np.random.default_rng(data.draw(st.integers(0, 2**32)))
    maps = rng.integers(0, data.draw(st.sampled_from([2, 9, 10_000])), (3, 12, 11)).astype(np.float32)
    masks = rng.random((3, 12, 11)) < data.draw(st.floats(0.02, 0.7))
    masks[0, 0, :2] = True, False
    path = tmp_path_factory.mktemp("ranks") / f"one{SUFFIX}"
    evidence = pixel_evidence(maps, masks)
    save(path, evidence.ranks, evidence.regions)
    scores = evaluate_class(maps, masks, metrics=METRICS)
    again = collect(parse_all(METRICS), {"pixel": PackedPixels(path)})
    for metric in METRICS:
        assert again[metric] == pytest.approx(scores[metric], abs=1e-12)


@pytest.mark.parametrize("name", ["region", "above", "equal", "new", "negatives"])
def test_ranks_that_were_changed_are_refused(tmp_path: Path, name: str) -> None:
    rng = np.random.default_rng(0)
    evidence = pixel_evidence(rng.random((2, 8, 8)), rng.random((2, 8, 8)) < 0.3)
    path = tmp_path / f"one{SUFFIX}"
    save(path, evidence.ranks, evidence.regions)
    arrays = dict(np.load(path))
    for bad in (arrays[name][:-1], np.concatenate([arrays[name], arrays[name][:1]]), arrays[name].astype(np.float32)):
        np.savez(path, **{**arrays, name: bad})
        with pytest.raises(StoreError, match=r"pack changed|no pixel ranks"):
            read(path)
    path.write_bytes(b"PK\x03\x04 no zip")
    with pytest.raises(StoreError, match="no pixel ranks"):
        read(path)


@pytest.fixture
def packed(tree: Path, small: Callable[..., list[str]], tmp_path: Path) -> Path:
    """A pack of a small cell with maps."""
    command = [*small(steps=2), "--data-root", str(tree), "--results", str(tmp_path / "runs"), "--keep-maps", "--quiet"]
    assert run([*command, "--metrics", "pixel/iou:grid7"]) == 0
    out = tmp_path / "pack.zip"
    assert run(["pack", str(tmp_path / "runs"), "--data-root", str(tree), "--out", str(out), "--quiet"]) == 0
    return out


def test_a_pack_is_reproduced_and_what_was_changed_is_named(
    packed: Path, tree: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    names = zipfile.ZipFile(packed).namelist()
    assert not any(name.endswith((".png", ".npy", ".maps")) for name in names) and "lock.txt" in names
    shutil.rmtree(tree)
    capsys.readouterr()
    assert run(["reproduce", str(packed), "--json"]) == 0
    facts = json.loads(capsys.readouterr().out)
    assert facts["other"] == [] and facts["same"] == facts["numbers"] - len(facts["not_in_pack"]) >= 14
    assert {one["metric"] for one in facts["not_in_pack"] if one["line"] != "pooled"} == {"pixel/iou:grid7"}

    # one anomalous pixel less found than was recorded: the file is whole, and other numbers come out
    folder = tmp_path / "open"
    zipfile.ZipFile(packed).extractall(folder)
    (ranks,) = folder.rglob(f"*.dots{SUFFIX}")
    arrays = dict(np.load(ranks))
    arrays["above"][-1] -= min(1, arrays["above"][-1])
    arrays["negatives"] += 1
    np.savez_compressed(ranks, **arrays)
    changed = Path(shutil.make_archive(str(tmp_path / "changed"), "zip", folder))
    assert run(["reproduce", str(changed)]) == 1
    said = capsys.readouterr().out
    assert run(["reproduce", str(changed), "--json"]) == 1
    assert same("reproduce", capsys.readouterr().out)["other"]
    assert "pixel/auroc: recorded" in said and "image/auroc: recorded" not in said


def test_hostile_and_damaged_packs_are_refused(packed: Path, capsys: pytest.CaptureFixture[str]) -> None:
    hostile = packed.with_name("hostile.zip")
    with zipfile.ZipFile(hostile, "w") as archive:
        archive.writestr("../outside.json", "{}")
    assert run(["reproduce", str(hostile)]) == 2
    data = packed.read_bytes()
    hostile.write_bytes(data[: len(data) // 2])
    assert run(["reproduce", str(hostile)]) == 2
    with zipfile.ZipFile(hostile, "w") as archive:
        archive.writestr("lock.txt", "nothing else")
    assert run(["reproduce", str(hostile)]) == 2
    assert "no record in it" in capsys.readouterr().err
    assert run(["reproduce", str(packed.with_name("absent.zip"))]) == 2


def test_what_cannot_be_packed_is_said(
    tree: Path, small: Callable[..., list[str]], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    command = [*small(steps=2), "--data-root", str(tree), "--results", str(tmp_path / "runs"), "--quiet"]
    assert run(command) == 0
    out = tmp_path / "pack.zip"
    assert run(["pack", str(tmp_path / "runs"), "--out", str(out), "--quiet"]) == 1
    assert "the anomaly maps were not kept" in capsys.readouterr().err
    assert run(["reproduce", str(out)]) == 0
    assert "pixel ranks are not in the pack" in capsys.readouterr().out
    assert run(["pack", str(tmp_path / "runs"), "--out", str(tmp_path), "--quiet"]) == 2
    assert run(["pack", str(tmp_path / "none"), "--out", str(out), "--quiet"]) == 2
