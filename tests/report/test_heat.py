"""The gallery of a cell without kept maps: the kept model makes those of the few images that are shown."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from bench.encoders import weights
from bench.prediction.map_model import opened
from bench.report.figures.gallery import Gallery, gallery
from bench.report.figures.series import FigureSeries, series
from bench.report.tables import ours
from bench.run import kept_model
from bench.store import record as records
from bench.store.evidence import EvidenceFiles
from bench.store.record import Record

VIT = "vit_tiny_patch8_128.bench"


@pytest.fixture
def ran(bench: Callable, tree: Path, tmp_path: Path) -> Path:
    """A record with a model, and the same one with maps as well."""
    command = ["run", "--methods", "patchcore", "--datasets", "folder", "--data-root", "tree", "--device", "cpu"]
    command += ["--encoder", VIT, "--set", "patchcore.input_size=32", "--keep-model"]
    assert bench(*command, "--results", "out").returncode == 0
    assert bench(*command, "--results", "maps", "--keep-maps").returncode == 0
    return tmp_path


def of(folder: Path) -> tuple[Path, Record, FigureSeries]:
    (path,) = folder.rglob("s0*.json")
    record = records.read(path)
    (one,) = series(ours.lines(ours.group([record])))
    return path, record, one


def drawn(folder: Path, *roots: str) -> Gallery:
    return gallery(of(folder)[2], "folder", EvidenceFiles([folder], roots, opened))


def test_the_model_draws_what_kept_maps_would(ran: Path) -> None:
    made, kept = drawn(ran / "out"), drawn(ran / "maps")
    assert made.absent == kept.absent == ""
    assert made.caption == kept.caption, "the scale is that of the kept maps"
    alike = {shot.id: shot for shot in kept.shots}
    shared = [(shot, alike[shot.id]) for shot in made.shots if shot.id in alike]
    assert shared
    for ours_, theirs in shared:
        for tile, other in zip(ours_.tiles, theirs.tiles, strict=True):
            # one image at a time rounds otherwise than sixteen
            assert np.abs(tile.astype(int) - other).max() <= 2


def test_the_record_knows_where_its_images_lay(ran: Path, tree: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert of(ran / "out")[1].dataset.root == "tree"
    elsewhere = ran / "elsewhere"
    elsewhere.mkdir()
    monkeypatch.chdir(elsewhere)
    assert "name their folder with --data-root folder=DIR" in drawn(ran / "out").absent
    assert drawn(ran / "out", f"folder={tree}").absent == ""


def test_a_model_that_cannot_be_asked_is_said(ran: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path, _, _ = of(ran / "out")
    file = kept_model.path_of(path)
    opened.cache_clear()
    with monkeypatch.context() as patch:
        patch.setattr(weights, "at_hand", lambda name: None)
        patch.setattr(weights, "locate", None)
        assert f"weights of {VIT} are not here; name their folder in BENCH_WEIGHTS" in drawn(ran / "out").absent
    file.write_bytes(file.read_bytes()[:-1])
    assert "the kept model cannot make them" in drawn(ran / "out").absent
    file.unlink()
    assert drawn(ran / "out").absent == "the kept model is not beside the record"
