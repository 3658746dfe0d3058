"""`bench data audit` on a dataset in which everything is planted, and on one in which nothing is."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
import torch
from builders.documented_json import same
from PIL import Image, ImageEnhance

from bench.api import Dataset
from bench.audit import copies
from bench.audit.audit import Audit, Audited, audit
from bench.audit.records import METHODS, missed
from bench.cli.main import run
from bench.datasets.folder import Folder
from bench.errors import UsageError
from bench.stats import Images
from bench.store.evidence import EvidenceFiles
from bench.store.folder import find

SIDE = 64


def picture(seed: int) -> Image.Image:
    """Coloured clouds, of each seed its own."""
    coarse = np.random.default_rng(seed).integers(0, 256, (6, 6, 3), dtype=np.uint8)
    return Image.fromarray(coarse).resize((SIDE, SIDE), Image.Resampling.BICUBIC)


def planted(root: Path) -> Path:
    """A class with fourteen training images; of the test images one is a twin, one brightened, one defect tiny."""
    made = {f"train/good/{number:03d}": picture(number) for number in range(14)}
    made |= {f"test/good/{number:03d}": picture(100 + number) for number in range(6)}
    made |= {f"test/stain/{number:03d}": picture(200 + number) for number in range(6)}
    for name, image in made.items():
        path = root / "vase" / f"{name}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        image.save(path)
        if "stain" in name:
            mask = np.zeros((SIDE, SIDE), np.uint8)
            mask[20:44, 20:44] = 255
            where = root / "vase/ground_truth/stain" / f"{path.stem}_mask.png"
            where.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(mask).save(where)
    return root


def plant(root: Path) -> None:
    vase = root / "vase"
    shutil.copy(vase / "train/good/003.png", vase / "test/good/001.png")
    ImageEnhance.Brightness(picture(5)).enhance(1.05).save(vase / "test/good/002.png")
    mask = np.zeros((SIDE, SIDE), np.uint8)
    mask[10, 10] = 255
    Image.fromarray(mask).save(vase / "ground_truth/stain/004_mask.png")


@pytest.fixture
def clean(tmp_path: Path) -> Dataset:
    return Folder(planted(tmp_path / "data"))


@pytest.fixture
def flawed(clean: Dataset) -> Dataset:
    plant(clean.root)
    return clean


def found_in(dataset: Dataset, results: Path | None = None, size: int = 32, classes: tuple[str, ...] = ()) -> Audit:
    places = [results] if results is not None else []
    records = [one for one in find(places).records.values() if one.status == "done"]
    return audit(Audited(dataset, classes, size, records, EvidenceFiles(places), torch.device("cpu")))


def kinds(found: Audit) -> set[tuple[str, str]]:
    return {(one.kind, one.image) for one in found.disputes if one.kind != "cue"}


# ----------------------------------------------------------------------------------------------------- the images
def test_nothing_is_found_where_nothing_is_planted(clean: Dataset) -> None:
    assert kinds(found_in(clean)) == set()


def test_what_is_planted_is_found(flawed: Dataset) -> None:
    found = found_in(flawed)
    assert kinds(found) == {
        *(("twin", "vase/test/good/001"), ("near", "vase/test/good/002"), ("vanished", "vase/test/stain/004"))
    }
    texts = {one.kind: one.text for one in found.disputes}
    assert "vase/train/good/003, which is trained on" in texts["twin"]
    assert "vase/train/good/005, which is trained on; the fence is" in texts["near"]
    assert texts["vanished"] == "1 of 4,096 pixels in its mask, none at 32x32"
    # at their own size all masks are seen
    assert ("vanished", "vase/test/stain/004") not in kinds(found_in(flawed, size=SIDE))


def test_pictures_that_are_trained_on_twice_do_not_move_the_fence(flawed: Dataset) -> None:
    good = flawed.root / "vase/train/good"
    for path in sorted(good.iterdir()):
        shutil.copy(path, good / f"again-{path.name}")
    assert ("near", "vase/test/good/002") in kinds(found_in(flawed))


def test_the_same_pixels_under_two_labels_are_told(clean: Dataset) -> None:
    vase = clean.root / "vase"
    shutil.copy(vase / "test/good/000.png", vase / "test/stain/000.png")
    (one,) = [one for one in found_in(clean).disputes if one.kind == "twin"]
    assert one.image == "vase/test/stain/000" and "vase/test/good/000, which has the other label" in one.text


def test_few_training_images_have_no_fence_and_it_is_said(flawed: Dataset) -> None:
    for path in sorted((flawed.root / "vase/train/good").iterdir())[copies.FEWEST - 1 :]:
        path.unlink()
    found = found_in(flawed)
    assert "near" not in {one.kind for one in found.disputes}
    assert any(note.startswith("no near copies looked for in vase: fewer than 8") for note in found.notes)


def test_a_class_that_is_not_there_is_refused(clean: Dataset) -> None:
    with pytest.raises(UsageError, match=r"--classes: folder has no 'vaze' here\. It has: vase"):
        found_in(clean, classes=("vaze",))


def test_distances_and_fence_against_a_direct_computation() -> None:
    draw = np.random.default_rng(0)
    rows = draw.normal(size=(1030, 12)).astype(np.float32)
    rows /= np.linalg.norm(rows, axis=1, keepdims=True)
    distances, of = copies.nearest(rows, rows, same=True)
    cosines = rows.astype(np.float64) @ rows.T.astype(np.float64)
    np.fill_diagonal(cosines, -2)
    assert (of == cosines.argmax(axis=1)).all()
    np.testing.assert_allclose(distances, 1 - cosines.max(axis=1), atol=1e-6)
    logs = np.sort(np.log(distances))
    first, third = (np.interp(share * (len(logs) - 1), np.arange(len(logs)), logs) for share in (0.25, 0.75))
    assert copies.lower_fence(distances) == pytest.approx(np.exp(first - 3 * (third - first)))
    # a brightness that does nothing to a direction is no distance, however small
    twin, _ = copies.nearest(rows[:1], rows[:1] * np.float32(1))
    assert twin[0] == 0


def test_tokens_are_averaged_by_cells() -> None:
    tokens = torch.arange(2 * 256 * 3, dtype=torch.float64).reshape(2, 256, 3)
    found = copies.pooled(tokens).reshape(2, 3, 4, 4)
    grid = tokens.reshape(2, 16, 16, 3)
    assert found[1, 2, 3, 0] == grid[1, 12:16, 0:4, 2].mean()


# ---------------------------------------------------------------------------------------------------- the records
def test_wrong_is_beyond_the_other_label_s_median() -> None:
    labels = np.array([0, 0, 0, 1, 1, 1], bool)
    images = Images(tuple("abcdef"), labels, np.array([0.1, 0.2, 0.8, 0.15, 0.7, 0.9]))
    assert missed(images).tolist() == [False, False, True, True, False, False]
    assert not missed(Images(("a",), np.array([True]), np.array([0.0]))).any()


@pytest.fixture
def results(flawed: Dataset, tmp_path: Path) -> Path:
    """Records of two methods on the flawed images."""
    for method in ("knn", "patchcore"):
        command = ["run", "--methods", method, "--datasets", str(flawed.root), "--device", "cpu", "-q"]
        command += ["--encoder", "vit_tiny_patch8_128.bench", "--set", f"{method}.input_size=32"]
        assert run([*command, "--results", str(tmp_path / "out")]) == 0
    return tmp_path / "out"


def auroc(rows: list[tuple[str, int, float]]) -> float:
    bad, good = ([score for _, label, score in rows if label == wanted] for wanted in (1, 0))
    pairs = [(one > other) + 0.5 * (one == other) for one in bad for other in good]
    return sum(pairs) / len(pairs)


def test_scores_stand_with_and_without_the_disputed_images(flawed: Dataset, results: Path) -> None:
    found = found_in(flawed, results)
    scored: dict[str, list[tuple[str, int, float]]] = {}
    for path in results.rglob("*.parquet"):
        table = pq.read_table(path).to_pydict()
        scored[path.parts[-3]] = list(zip(table["id"], table["label"], table["score"], strict=True))
    missing: list[set[str]] = []
    for rows in scored.values():
        middle = {wanted: np.median([score for _, label, score in rows if label == wanted]) for wanted in (0, 1)}
        missing.append({one for one, label, score in rows if (score < middle[0] if label else score > middle[1])})
    wrong = set.intersection(*missing)
    assert {one.image for one in found.disputes if one.kind == "wrong"} == wrong
    disputed = {"vase/test/good/001", "vase/test/good/002", "vase/test/stain/004"}
    assert [row.method for row in found.scores] == sorted(scored) == ["knn", "patchcore"]
    for row in found.scores:
        rows = scored[row.method]
        assert row.records == 1 and row.every == pytest.approx(auroc(rows))
        assert row.without_data == pytest.approx(auroc([one for one in rows if one[0] not in disputed]))
        assert row.without_all == pytest.approx(auroc([one for one in rows if one[0] not in disputed | wrong]))


def test_records_of_other_images_are_left_out_and_named(flawed: Dataset, results: Path) -> None:
    (flawed.root / "vase/test/good/005.png").rename(flawed.root / "vase/test/good/905.png")
    found = found_in(flawed, results)
    assert found.scores == ()
    assert [note for note in found.notes if "knn" in note] == [
        next(note for note in found.notes if note.endswith("1 of its images are not here, or have another label"))
    ]
    assert any(f"takes records of {METHODS} methods or more" in note for note in found.notes)


# ---------------------------------------------------------------------------------------------------- the command
def test_the_command_prints_one_table_and_scores(
    flawed: Dataset, results: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(["data", "audit", str(flawed.root), "--results", str(results), "--size", "32"]) == 0
    shown = capsys.readouterr().out
    for part in ("twin", "near", "vanished", "vase/test/good/001", "without disputed by data", "images disputed"):
        assert part in shown
    assert run(["data", "audit", str(flawed.root), "--results", str(results), "--size", "32", "--json"]) == 0
    told = same("data audit", capsys.readouterr().out)
    assert told["schema"] == 1 and {"twin", "near", "vanished"} <= {one["kind"] for one in told["disputes"]}
    assert set(told["scores"][0]) == {"method", "records", "every", "without_data", "without_all"}


def test_a_semantic_set_has_no_cues_and_it_is_said(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    from semantic_layouts import write_view

    write_view(tmp_path)
    assert run(["data", "audit", "view", "--root", str(tmp_path)]) == 0
    assert "no cues: view: its images are normal or not only by the split" in capsys.readouterr().out
