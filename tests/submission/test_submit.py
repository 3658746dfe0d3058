"""`bench submit` on a miniature of MVTec AD 2: run, thresholds, archive, check; what is wrong with one is named."""

from __future__ import annotations

import shutil
import tarfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import tifffile
from layouts import SIZE, write_ad2
from PIL import Image

from bench.cli.main import run
from bench.datasets.mvtec_ad2 import MVTecAD2
from bench.machine.progress import Silent
from bench.store import record as records
from bench.submission import layout
from bench.submission.check import check

ONE = "can/test_private/000_regular"


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """The folder of a walk: data, runs, and what `bench submit` wrote; and the record."""
    home = tmp_path_factory.mktemp("ad2")
    write_ad2(home / "data", MVTecAD2.card.classes)
    data = ["--data-root", str(home / "data")]
    command = ["run", "--methods", "patchcore", "--datasets", "mvtec_ad2", "--encoder", "vit_tiny_patch8_128.bench"]
    options = ["--set", "patchcore.input_size=64", "--calibrate", "0.3", "--keep-model", "--quiet"]
    assert run([*command, *options, *data, "--results", str(home / "runs")]) == 0
    assert run(["submit", str(home / "runs"), *data, "--out", str(home / "out"), "--quiet"]) == 0
    (record,) = (home / "runs").rglob("s0-*.json")
    return home, record


def complaints(home: Path, place: Path) -> list[str]:
    dataset = MVTecAD2(MVTecAD2.locate(home / "data"))
    return check(place, layout.wanted(dataset), Silent())


def test_every_private_image_has_its_map_and_its_binary_map(made: tuple[Path, Path]) -> None:
    home, path = made
    assert complaints(home, home / "out") == complaints(home, home / "out.tar.gz") == []
    with tarfile.open(home / "out.tar.gz") as archive:
        names = archive.getnames()
    assert len(names) == 2 * 8 * 2 * 2 and f"anomaly_images/{ONE}.tiff" in names
    scores = tifffile.imread(home / f"out/anomaly_images/{ONE}.tiff")
    assert scores.dtype == np.float16 and scores.shape == (SIZE[1], SIZE[0])
    calibration = records.read(path).calibration
    assert calibration is not None and calibration.validation == MVTecAD2.card.classes
    limit = calibration.classes["can"].pixel["q0.999"].threshold
    binary = np.asarray(Image.open(home / f"out/anomaly_images_thresholded/{ONE}.png"))
    assert set(np.unique(binary)) <= {0, 255}
    # where rounding to float16 does not reach the threshold, both say the same
    clear = np.abs(scores.astype(np.float64) - limit) > 1e-2
    assert clear.any() and ((scores > limit) == (binary == 255))[clear].all()


def test_scores_are_those_of_predict(made: tuple[Path, Path]) -> None:
    home, path = made
    image = home / f"data/mvtec_ad_2/{ONE}.png"
    assert run(["predict", str(path), str(image.parent), "--maps", "--out", str(home / "said"), "-q"]) == 0
    predicted = Image.fromarray(np.load(home / "said/maps/000_regular.png.npy")).resize(SIZE, Image.Resampling.BILINEAR)
    submitted = tifffile.imread(home / f"out/anomaly_images/{ONE}.tiff")
    assert np.array_equal(np.asarray(predicted).astype(np.float16), submitted)


def test_private_images_change_no_score_and_no_count(made: tuple[Path, Path]) -> None:
    facts = records.read(made[1]).dataset
    assert set(facts.train.values()) == {3}
    assert set(facts.test_good.values()) == set(facts.test_bad.values()) == {2}


def remove(folder: Path) -> None:
    (folder / f"anomaly_images/{ONE}.tiff").unlink()


def resize(folder: Path) -> None:
    tifffile.imwrite(folder / f"anomaly_images/{ONE}.tiff", np.zeros((9, 9), np.float16))


def not_a_number(folder: Path) -> None:
    values = tifffile.imread(folder / f"anomaly_images/{ONE}.tiff")
    values[0, 0] = np.nan
    tifffile.imwrite(folder / f"anomaly_images/{ONE}.tiff", values)


def widen(folder: Path) -> None:
    path = folder / f"anomaly_images/{ONE}.tiff"
    tifffile.imwrite(path, tifffile.imread(path).astype(np.float32))


def stray(folder: Path) -> None:
    (folder / "anomaly_images/can/notes.txt").write_text("mine")


def grey(folder: Path) -> None:
    Image.new("L", SIZE, 7).save(folder / f"anomaly_images_thresholded/{ONE}.png")


def coloured(folder: Path) -> None:
    Image.new("RGB", SIZE).save(folder / f"anomaly_images_thresholded/{ONE}.png")


def cut(folder: Path) -> None:
    path = folder / f"anomaly_images/{ONE}.tiff"
    path.write_bytes(path.read_bytes()[:300])


@pytest.mark.parametrize(
    ("damage", "name", "words"),
    [
        (remove, f"anomaly_images/{ONE}.tiff", "missing"),
        (resize, f"anomaly_images/{ONE}.tiff", "9x9 pixels. Expected the image's own 48x40"),
        (not_a_number, f"anomaly_images/{ONE}.tiff", "1 pixels are no finite number"),
        (widen, f"anomaly_images/{ONE}.tiff", "float32. Expected float16"),
        (stray, "anomaly_images/can/notes.txt", "superfluous"),
        (grey, f"anomaly_images_thresholded/{ONE}.png", "holds 7. Expected 0 and 255 alone"),
        (coloured, f"anomaly_images_thresholded/{ONE}.png", "mode RGB"),
        (cut, f"anomaly_images/{ONE}.tiff", "no map"),
    ],
)
def test_what_the_server_would_refuse_is_named(
    made: tuple[Path, Path],
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    damage: Callable[[Path], None],
    name: str,
    words: str,
) -> None:
    folder = tmp_path / "out"
    shutil.copytree(made[0] / "out", folder)
    damage(folder)
    packed = Path(shutil.make_archive(str(tmp_path / "packed"), "gztar", folder))
    for place in (folder, packed):
        (found,) = complaints(made[0], place)
        assert found.startswith(f"{name}: ") and words in found
    assert run(["submit", "--check", str(packed), "--data-root", str(made[0] / "data"), "-q"]) == 1
    assert f"{name}: " in capsys.readouterr().out


def test_hostile_archives_are_refused(made: tuple[Path, Path], tmp_path: Path) -> None:
    packed = tmp_path / "hostile.tar.gz"
    with tarfile.open(packed, "w:gz") as archive:
        archive.add(made[0] / f"out/anomaly_images/{ONE}.tiff", "../outside.tiff")
    assert run(["submit", "--check", str(packed), "--data-root", str(made[0] / "data")]) == 2
    assert not (tmp_path.parent / "outside.tiff").exists()


def refused(capsys: pytest.CaptureFixture[str], *words: str) -> str:
    capsys.readouterr()
    assert run(["submit", *words]) == 2
    return capsys.readouterr().err


def test_what_no_submission_is_made_of_is_refused(
    made: tuple[Path, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str], tree: Path, small: Callable
) -> None:
    home, path = made
    data = ["--data-root", str(home / "data")]
    assert "not empty" in refused(capsys, str(path), *data, "--out", str(home / "out"))
    assert "Expected either records" in refused(capsys)
    assert "Did you mean 'q0.99'" in refused(capsys, str(path), *data, "--rule", "q0.98", "--out", str(tmp_path / "a"))
    command = [*small(steps=2), "--data-root", str(tree), "--results", str(tmp_path / "runs"), "--keep-model", "-q"]
    assert run(command) == 0
    said = refused(capsys, str(tmp_path / "runs"), "--data-root", str(tree), "--out", str(tmp_path / "b"))
    assert "no unlabelled images" in said
    shutil.copytree(home / "data", tmp_path / "part")
    shutil.rmtree(tmp_path / "part/mvtec_ad_2/vial")
    said = refused(capsys, str(path), "--data-root", str(tmp_path / "part"), "--out", str(tmp_path / "c"))
    assert "no unlabelled images of vial" in said
