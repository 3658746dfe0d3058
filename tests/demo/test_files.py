"""The demo's files and the images that speed is measured on are the same on every machine."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from bench.curate.verify import verify
from bench.datasets.demo import Demo
from bench.demo import write
from bench.demo.contents import KINDS, SUMS, Picture, known_sums, pictures, whole
from bench.demo.write import generate
from bench.machine.progress import Silent
from bench.plan.settings import tasks
from bench.plan.task import hashed, index
from bench.speed.gratings import grating

FINGERPRINT = "c386199ac693ec67"
"""Of the whole set in setting multi, as records carry it."""
GRATINGS = "f3256fe60fc273dc3d9714ec74f78a434f49c6875c74a172480b4a478c5f34a1"
"""SHA-256 over the first five gratings of 60 pixels."""

CHOSEN = (
    *(Picture(cls, split, "good", 0) for cls in KINDS for split in ("train", "test")),
    *(Picture(cls, "test", defect, 0) for cls, kinds in KINDS.items() for defect in kinds),
    # those that once differed between processors
    *(Picture("biscuit", "train", "good", index) for index in (15, 25, 36)),
    *(Picture("flange", "test", "good", index) for index in (5, 11)),
    *(Picture("flange", "test", "scratch", index) for index in (1, 2)),
    *(Picture("wood", "test", defect, 1) for defect in ("missing", "scratch")),
    Picture("flange", "train", "good", 35),
)
"""Some of every product and of every kind of defect."""

DRAW = """
import hashlib, json, sys
import numpy as np
from bench.demo.contents import Picture
from bench.demo.png import encode
from bench.demo.shots import shoot
from bench.speed.gratings import grating
drawn = {}
for picture in (Picture(*one) for one in json.load(sys.stdin)):
    shot = shoot(picture)
    drawn[picture.image] = hashlib.sha256(encode(shot.image)).hexdigest()
    if picture.mask:
        drawn[picture.mask] = hashlib.sha256(encode(shot.mask * np.uint8(255))).hexdigest()
gratings = hashlib.sha256(b"".join(grating(number, 60).tobytes() for number in range(5))).hexdigest()
json.dump({"drawn": drawn, "gratings": gratings}, sys.stdout)
"""


@pytest.fixture(scope="module")
def drawn() -> Path:
    root = Demo.locate(None)
    generate(root)
    return root


def first_that_differs(drawn: dict[str, str]) -> str | None:
    known = known_sums()
    return next((file for file, digest in drawn.items() if known[file] != digest), None)


def test_every_file_of_the_set_is_the_one_stated(drawn: Path) -> None:
    found = {file: hashlib.sha256((drawn / file).read_bytes()).hexdigest() for file in known_sums()}
    assert first_that_differs(found) is None
    assert {path.relative_to(drawn).as_posix() for path in drawn.rglob("*.png")} == found.keys()
    assert verify(Demo(drawn)).findings == ()


def test_a_file_is_stated_for_each_picture_and_mask() -> None:
    every = [one for cls, numbers in whole().items() for one in pictures(cls, *numbers)]
    assert list(known_sums()) == [file for one in every for file in (one.image, one.mask) if file]


def test_the_statement_is_what_sha256sum_reads(drawn: Path) -> None:
    if shutil.which("sha256sum") is None:
        pytest.skip("sha256sum is not installed")
    done = subprocess.run(["sha256sum", "--check", "--strict", "--quiet", SUMS], cwd=drawn, capture_output=True)
    assert (done.returncode, done.stdout, done.stderr) == (0, b"", b"")


def test_the_fingerprint_is_the_one_that_records_carry(drawn: Path) -> None:
    (task,) = tasks(hashed(index("demo", drawn, ()), Silent()), "multi")
    assert task.fingerprint == FINGERPRINT


def levels() -> Iterator[str]:
    """Yield what to disable: the levels of this machine that NumPy chooses between, from the highest on downwards."""
    try:
        from numpy._core import _multiarray_umath as kernels
    except ImportError:
        from numpy.core import _multiarray_umath as kernels  # NumPy 1
    here = [name for name in kernels.__cpu_dispatch__ if kernels.__cpu_features__[name]]
    for place in reversed(range(len(here))):
        yield " ".join(here[place:])


@pytest.mark.parametrize("disabled", ["", *levels()])
def test_pictures_are_the_same_whatever_the_processor_can_do(disabled: str) -> None:
    keys = [(one.cls, one.split, one.defect, one.index) for one in CHOSEN]
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", DRAW],
        input=json.dumps(keys),
        capture_output=True,
        text=True,
        env={**os.environ, "NPY_DISABLE_CPU_FEATURES": disabled},
    )
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    assert len(found["drawn"]) > len(CHOSEN) and first_that_differs(found["drawn"]) is None
    assert found["gratings"] == GRATINGS


def test_gratings_are_not_alike() -> None:
    images = [grating(number, 60) for number in range(5)]
    assert all(image.shape == (60, 60, 3) and image.dtype == np.uint8 and image.std() > 20 for image in images)
    assert len({image.tobytes() for image in images}) == 5


# ------------------------------------------------------------------------------------------------ where they differ
def test_the_first_picture_that_is_drawn_differently_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    generate(tmp_path / "same", {"wood": (2, 1, 1)})
    assert "other pictures" not in capsys.readouterr().err
    others = {"wood/test/good/000.png": "0" * 64, "wood/test/spot/000.png": "0" * 64}
    monkeypatch.setattr(write, "known_sums", lambda: {**known_sums(), **others})
    generate(tmp_path / "other", {"wood": (2, 1, 1)})
    said = capsys.readouterr().err
    assert "other pictures than the published ones: wood/test/good/000.png is the first of 2 files, of 11" in said
    assert f"bench data verify demo --root {tmp_path / 'other'}" in said


def test_a_changed_picture_is_a_finding_and_can_be_read(tmp_path: Path) -> None:
    root = tmp_path / "demo"
    generate(root, dict.fromkeys(KINDS, (2, 1, 1)))
    (root / "fabric/train/good/001.png").write_bytes((root / "fabric/train/good/000.png").read_bytes())
    changed = [finding for finding in Demo(root).inspect()[1] if finding.kind == "changed"]
    assert [(one.cls, one.where) for one in changed] == [("fabric", "fabric/train/good/001.png")]
    assert "Expected SHA-256 " in changed[0].text and "Remove" in changed[0].text
    assert len(Demo(root).samples()) == 6 * 3 + sum(map(len, KINDS.values()))
