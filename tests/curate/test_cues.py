from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from bench.api import Sample
from bench.curate.cues import CUES, cues
from bench.datasets.demo import Demo
from bench.datasets.fmnist import FashionMNIST
from bench.datasets.folder import Folder
from bench.errors import UsageError


def relight(folder: Path, factor: float) -> None:
    for path in folder.glob("*.png"):
        pixels = np.asarray(Image.open(path).convert("RGB")).astype(float) * factor
        Image.fromarray(pixels.clip(0, 255).astype(np.uint8)).save(path)


def of(root: Path, cls: str, name: str):  # type: ignore[no-untyped-def]
    (found,) = (cue for cue in cues(Folder(root)) if (cue.cls, cue.name) == (cls, name))
    return found


def test_every_class_has_every_cue_and_progress_ends(tree: Path) -> None:
    seen: list[tuple[int, int]] = []
    found = cues(Folder(tree), progress=lambda done, total: seen.append((done, total)))
    assert [(cue.cls, cue.name) for cue in found] == [(cls, name) for cls in ("dots", "lines") for name in CUES]
    assert seen[-1] == (20, 20)
    assert [cue.cls for cue in cues(Folder(tree), ["lines"])] == ["lines"] * len(CUES)


def test_dark_normal_test_images_push_the_distance_below_chance(tree: Path) -> None:
    before = of(tree, "dots", "brightness")
    relight(tree / "dots/test/good", 0.3)
    after = of(tree, "dots", "brightness")
    assert after.auroc == 1.0, "every normal test image is darker than every anomalous one"
    assert after.distance_auroc == 0.0
    assert after.normal < -3 < before.normal
    assert after.anomalous == pytest.approx(before.anomalous)
    assert after.strong
    assert of(tree, "lines", "brightness") == of(tree, "lines", "brightness"), "threads do not change the numbers"


def test_the_demo_is_lit_alike_in_training_and_test() -> None:
    # defects may change a picture's contrast; whether it is a test image must not
    found = cues(Demo(Demo.locate(None)))
    assert [f"{cue.cls} by {cue.name}" for cue in found if abs(cue.normal) > 1] == []
    assert [cue.cls for cue in found if cue.strong and cue.name == "brightness"] == []


def test_what_has_no_cues_is_refused(tree: Path, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="only by the split"):
        cues(FashionMNIST(tmp_path))
    with pytest.raises(UsageError, match=r"no 'dot' here. It has: dots, lines"):
        cues(Folder(tree), ["dot"])

    class Untested(Folder):
        def samples(self) -> tuple[Sample, ...]:
            return tuple(sample for sample in super().samples() if sample.split == "train")

    with pytest.raises(UsageError, match="no class with training, normal and anomalous"):
        cues(Untested(tree))


def test_the_command_marks_strong_cues(bench: Callable, tree: Path) -> None:
    relight(tree / "dots/test/good", 0.3)
    done = bench("data", "cues", "folder", "--root", str(tree), "--classes", "dots")
    assert done.returncode == 0, done.stderr
    assert "strong: dots by brightness" in done.stdout


def test_screw_is_told_apart_by_its_light(shared: Path) -> None:
    # why image scores on MVTec's screw fall below chance for encoders that see light
    from bench.datasets.mvtec import MVTec

    root = shared / "data/mvtec"
    if not root.is_dir():
        pytest.skip("MVTec's images are not at hand")
    found = {cue.name: cue for cue in cues(MVTec(root), ["screw"])}
    assert found["brightness"].auroc > 0.99
    assert found["brightness"].distance_auroc < 0.01
