from __future__ import annotations

import multiprocessing
import os
import shutil
import signal
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from scipy import ndimage

from bench.api import Counts, Sample, by_class
from bench.datasets.demo import Demo
from bench.demo import shots
from bench.demo.contents import KINDS, VERSION, Picture, pictures
from bench.demo.defects import FAULTS
from bench.demo.optics import SIDE
from bench.demo.shots import PRODUCTS, VISIBLE, Shot, shoot
from bench.demo.write import generate
from bench.errors import DatasetError

EVERY_FAULT = [(cls, defect) for cls, kinds in FAULTS.items() for defect in kinds]
ONE_EACH = dict.fromkeys(PRODUCTS, (1, 1, 1))
TINY = {"wood": (2, 1, 1)}


def contents(root: Path) -> dict[str, bytes]:
    return {path.relative_to(root).as_posix(): path.read_bytes() for path in root.rglob("*") if path.is_file()}


@pytest.fixture(scope="module")
def tree(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("demo") / "tree"
    generate(root, counts=ONE_EACH)
    return root


def test_two_generations_agree_in_every_byte(tree: Path, tmp_path: Path) -> None:
    generate(tmp_path / "again", counts=ONE_EACH)
    assert contents(tree) == contents(tmp_path / "again")


def test_a_picture_depends_on_nothing_but_its_key(tree: Path) -> None:
    alone = shoot(Picture("board", "test", "misplaced", 0))
    assert np.array_equal(alone.image, np.asarray(Image.open(tree / "board/test/misplaced/000.png")))
    mask = np.asarray(Image.open(tree / "board/ground_truth/misplaced/000_mask.png"))
    assert np.array_equal(alone.mask * np.uint8(255), mask)


@pytest.mark.parametrize(("seed", "split", "index"), [(1, "train", 0), (0, "test", 0), (0, "train", 1)])
def test_seed_split_and_index_each_change_the_picture(seed: int, split: str, index: int) -> None:
    first = shoot(Picture("wood", "train", "good", 0)).image
    assert not np.array_equal(first, shoot(Picture("wood", split, "good", index), seed).image)


def test_card_names_the_faults_that_exist() -> None:
    assert {cls: tuple(kinds) for cls, kinds in FAULTS.items()} == dict(KINDS)
    assert Demo.card.classes == tuple(PRODUCTS)


def test_counts_equal_the_card(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    dot = np.zeros((4, 4), np.bool_)
    dot[1, 1] = True
    grey = np.full((4, 4, 3), 128, np.uint8)
    monkeypatch.setattr(shots, "shoot", lambda picture: Shot(grey, grey, dot))
    groups = by_class(Demo(tmp_path / "full").samples())
    assert list(groups) == list(Demo.card.classes)
    for cls, samples in groups.items():
        assert Demo.card.counts[cls] == Counts(
            train=sum(s.split == "train" for s in samples),
            good=sum(s.split == "test" and s.label == 0 for s in samples),
            bad=sum(s.label == 1 for s in samples),
        )
        assert all(s.label == 0 for s in samples if s.split == "train")


PINNED: dict[str, tuple[str, float, float, float, int]] = {
    "fabric": ("thread", 105.1, 119.3, 135.5, 459),
    "wood": ("scratch", 188.1, 142.5, 92.3, 696),
    "terrazzo": ("spot", 175.4, 171.3, 162.4, 1142),
    "flange": ("missing", 76.4, 80.1, 85.6, 369),
    "board": ("misplaced", 86.9, 114.5, 99.2, 686),
    "biscuit": ("crack", 136.8, 124.4, 105.0, 718),
}


@pytest.mark.parametrize("cls", PINNED)
def test_pictures_of_this_version_have_not_changed(cls: str) -> None:
    """Where this fails on purpose: raise VERSION, so that caches are left behind, and pin the new figures."""
    defect, *colour, area = PINNED[cls]
    shot = shoot(Picture(cls, "test", defect, 0))
    assert VERSION == 5
    assert shot.image.mean(axis=(0, 1)) == pytest.approx(colour, abs=0.3)
    assert shot.mask.sum() == pytest.approx(area, rel=0.02)


def read(root: Path) -> tuple[Demo, tuple[Sample, ...]]:
    dataset = Demo(root)
    return dataset, dataset.samples()


def test_masks_are_binary_and_mark_exactly_the_anomalous(tree: Path) -> None:
    dataset, samples = read(tree)
    assert {s.defect for s in samples} > {"good", "scratch", "spot", "missing", "colour", "misplaced"}
    for sample in samples:
        assert dataset.read_image(sample).size == (SIDE, SIDE)
        assert len(sample.masks) == sample.label
        for path in sample.masks:
            with Image.open(path) as mask:
                assert mask.mode == "L"
                assert set(np.unique(np.asarray(mask))) == {0, 255}
                assert 0.0005 < np.mean(np.asarray(mask) > 0) < 0.25


@pytest.mark.parametrize(("cls", "defect"), EVERY_FAULT)
def test_mask_covers_what_changed_and_little_else(cls: str, defect: str) -> None:
    shot = shoot(Picture(cls, "test", defect, 1))
    change = np.abs(shot.image.astype(int) - shot.clean).max(axis=2)
    visible = change > 255 * VISIBLE + 4
    assert visible.any()
    assert not (visible & ~ndimage.binary_dilation(shot.mask)).any()
    near_a_change = ndimage.binary_dilation(change > 255 * VISIBLE - 4, iterations=7)
    filled = ndimage.binary_fill_holes(near_a_change)
    assert not (shot.mask & ~filled).any()
    assert np.mean(change[shot.mask]) > 5 * max(np.mean(change[~shot.mask]), 0.2)


def test_some_masks_have_several_regions() -> None:
    several = [
        (cls, defect)
        for cls, defect in (("wood", "missing"), ("terrazzo", "spot"), ("board", "missing"), ("biscuit", "spot"))
        for index in range(4)
        if ndimage.label(shoot(Picture(cls, "test", defect, index)).mask, np.ones((3, 3)))[1] > 1
    ]
    assert len(several) >= 8


def test_no_region_is_an_invisible_speck() -> None:
    for cls, defect in EVERY_FAULT[::3]:
        mask = shoot(Picture(cls, "test", defect, 2)).mask
        regions, count = ndimage.label(mask, np.ones((3, 3)))
        assert min(ndimage.sum_labels(mask, regions, range(1, count + 1))) >= shots.SPECK


# ------------------------------------------------------------------------------------------------ where and when
def test_without_data_root_the_cache_folder_is_used(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("BENCH_CACHE", str(tmp_path / "cache"))
    assert Demo.locate(None) == tmp_path / "cache" / f"demo-v{VERSION}-0"
    assert not (tmp_path / "cache").exists(), "locating alone writes nothing"


def test_data_root_holds_a_folder_of_its_own(tree: Path, tmp_path: Path) -> None:
    assert Demo.locate(tmp_path) == tmp_path / f"demo-v{VERSION}-0"
    assert Demo.locate(tree) == tree
    with pytest.raises(DatasetError, match="no folder"):
        Demo.locate(tmp_path / "nowhere")


def test_unwritable_place_is_told(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(DatasetError, match="BENCH_CACHE"):
        generate(tmp_path / "file" / "demo")


def test_what_is_there_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "notes.txt").write_text("keep")
    with pytest.raises(DatasetError, match="no class"):
        Demo(tmp_path / "mine").samples()
    assert contents(tmp_path / "mine") == {"notes.txt": b"keep"}


def test_lost_mask_is_reported_not_drawn_again(tree: Path, tmp_path: Path) -> None:
    root = tmp_path / "demo"
    shutil.copytree(tree, root)
    (root / "wood/ground_truth/spot/000_mask.png").unlink()
    with pytest.raises(DatasetError, match=r"000\.png: anomalous, but without a mask"):
        Demo(root).samples()


# ------------------------------------------------------------------------------------------- several and killed
def _generate_together(root: Path, start: multiprocessing.synchronize.Barrier) -> None:
    start.wait()
    generate(root, counts=TINY)


def _generate_slowly(root: Path) -> None:
    real = shots.shoot

    def slow(picture: Picture, seed: int = 0) -> Shot:
        time.sleep(0.2)
        return real(picture, seed)

    shots.shoot = slow
    generate(root, counts=TINY)


@pytest.fixture
def spawn() -> Iterator[multiprocessing.context.ForkContext]:
    yield multiprocessing.get_context("fork")


def test_two_processes_at_once_end_with_one_complete_tree(
    tmp_path: Path, spawn: multiprocessing.context.ForkContext
) -> None:
    root = tmp_path / "shared" / "demo"
    barrier = spawn.Barrier(2)
    pair = [spawn.Process(target=_generate_together, args=(root, barrier)) for _ in range(2)]
    for process in pair:
        process.start()
    for process in pair:
        process.join(60)
    assert [process.exitcode for process in pair] == [0, 0]
    generate(tmp_path / "alone", counts=TINY)
    assert contents(root) == contents(tmp_path / "alone")
    assert [path.name for path in root.parent.iterdir()] == ["demo"]


def test_killed_generation_is_not_taken_for_complete(
    tmp_path: Path, spawn: multiprocessing.context.ForkContext
) -> None:
    root = tmp_path / "demo"
    process = spawn.Process(target=_generate_slowly, args=(root,))
    process.start()
    deadline = time.monotonic() + 30
    while not list(tmp_path.rglob("*.png")):
        assert time.monotonic() < deadline and process.is_alive()
        time.sleep(0.02)
    assert process.pid is not None
    os.kill(process.pid, signal.SIGKILL)
    process.join()
    (leftover,) = tmp_path.iterdir()
    assert leftover.name.endswith(".part") and not root.exists()

    generate(root, counts=TINY)
    assert leftover.exists(), "another process might still be writing it"
    generate(tmp_path / "whole", counts=TINY)
    assert contents(root) == contents(tmp_path / "whole")

    os.utime(leftover, (0, 0))
    root.rename(tmp_path / "moved")
    generate(root, counts=TINY)
    assert not leftover.exists()


def test_failing_generation_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full_disk(picture: Picture) -> Shot:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(shots, "shoot", full_disk)
    with pytest.raises(DatasetError, match="No space left"):
        generate(tmp_path / "demo", counts=TINY)
    assert not list(tmp_path.iterdir())


def test_names_are_those_of_the_plan() -> None:
    plan = list(pictures("wood", 2, 1, 1))
    assert [one.image for one in plan[1:3]] == ["wood/train/good/001.png", "wood/test/good/000.png"]
    assert [one.defect for one in plan[3:]] == list(FAULTS["wood"])
    assert [one.mask for one in plan[2:4]] == ["", "wood/ground_truth/colour/000_mask.png"]
