"""Models that runs keep, and `bench predict` on any images. That every method's bits are equal: contract tests."""

from __future__ import annotations

import csv
import errno
import json
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from made_records import made
from PIL import Image

from bench.prediction import predictor
from bench.run import kept_model
from bench.store import record as records
from bench.store.facts import ExternalFacts
from bench.store.record import Record

VIT = "vit_tiny_patch8_128.bench"


@pytest.fixture(scope="module")
def kept(tmp_path_factory: pytest.TempPathFactory, write_tree: Callable) -> tuple[Path, Path, list[str]]:
    """A results folder with one record and its model, its data, and the options of the run."""
    from bench.cli.main import run

    folder = tmp_path_factory.mktemp("kept")
    tree = write_tree(folder / "tree", train=8)
    command = ["run", "--methods", "patchcore", "--datasets", "folder", "--data-root", str(tree), "--device", "cpu"]
    command += ["--encoder", VIT, "--set", "patchcore.input_size=32"]
    assert run([*command, "--results", str(folder / "out"), "--keep-model"]) == 0
    return folder / "out", tree, command


@pytest.fixture
def copy(kept: tuple[Path, Path, list[str]], tmp_path: Path) -> Path:
    """The record in a results folder of its own, to be damaged."""
    shutil.copytree(kept[0], tmp_path / "out")
    (path,) = (tmp_path / "out").rglob("s0*.json")
    return path


def rows(path: Path) -> list[dict[str, str]]:
    with path.open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def resigned(path: Path, **changes: Any) -> None:
    record = records.read(path)
    records.write(Record(**{**record.model_dump(), **changes}), path)


def test_scores_verdicts_and_heat_where_the_defect_is(bench: Callable, kept: Any, tmp_path: Path) -> None:
    results, tree, _ = kept
    folder = tmp_path / "incoming"
    shutil.copytree(tree / "dots" / "test", folder)
    image = np.asarray(Image.open(tree / "dots" / "test" / "good" / "000.png")).copy()
    image[30:42, 4:16] = 255 - image[30:42, 4:16]
    Image.fromarray(image).resize((480, 240)).save(folder / "=new.png")
    done = bench("predict", str(results), "incoming", "--threshold", "1.5", "--device", "cpu", "--maps", "--out", "out")
    assert done.returncode == 0, done.stderr
    found = rows(tmp_path / "out" / "scores.csv")
    assert found[0]["image"] == "incoming/=new.png" and len(found) == 6
    for row in found:
        assert row["verdict"] == ("anomalous" if float(row["score"]) > 1.5 else "normal")
    assert "6 images, scores" in done.stdout and "at 1.5" in done.stdout
    assert "test images of the record: normal" in done.stdout
    heat = np.load(tmp_path / "out" / "maps" / "%3Dnew.png.npy")
    assert heat.shape == (256, 256) and heat.dtype == np.float32
    assert heat[160:224, 20:86].mean() > 1.2 * heat[:128, 128:].mean()
    overlay = np.asarray(Image.open(tmp_path / "out" / "overlays" / "%3Dnew.png.jpg")).astype(float)
    assert overlay.shape == (240, 480, 3)
    red = overlay[..., 0] - overlay[..., 2]
    assert red[150:210, 40:160].mean() > red[:100, 250:].mean() + 20


def test_images_that_cannot_be_read_cost_the_others_nothing(bench: Callable, kept: Any, tmp_path: Path) -> None:
    results, tree, _ = kept
    folder = tmp_path / "incoming"
    shutil.copytree(tree / "dots" / "test" / "good", folder)
    (folder / "0-broken.png").write_bytes(b"no image")
    (folder / ".hidden.png").write_bytes(b"no image")
    (folder / "notes.txt").write_text("no image")
    alone = bench("predict", str(results), str(tree / "dots" / "test" / "good"), "--device", "cpu", "--out", "alone")
    done = bench("predict", str(results), "incoming", "--device", "cpu", "--out", "out", "--threshold", "0")
    assert (alone.returncode, done.returncode) == (0, 1)
    found = rows(tmp_path / "out" / "scores.csv")
    assert [row["verdict"] for row in found] == ["unreadable", "anomalous", "anomalous"] and found[0]["score"] == ""
    assert [row["score"] for row in found[1:]] == [row["score"] for row in rows(tmp_path / "alone" / "scores.csv")]
    assert "0-broken.png" in done.stderr and "1 image could not be read" in done.stdout


def test_arguments_with_the_same_names_are_told_apart(bench: Callable, kept: Any, tmp_path: Path) -> None:
    results, tree, _ = kept
    for name in ("a", "b"):
        shutil.copytree(tree / "dots" / "test" / "good", tmp_path / name / "new")
    given = ["a/new", "b/new", "a/new/000.png", "a/new/001.png"]
    done = bench("predict", str(results), *given, "--device", "cpu", "--out", "out")
    assert done.returncode == 0, done.stderr
    written = sorted(str(path.relative_to(tmp_path / "out/overlays")) for path in (tmp_path / "out").rglob("*.jpg"))
    assert len(written) == 6 and {"a/new/000.png.jpg", "b/new/001.png.jpg"} <= set(written)
    scores = {row["image"]: row["score"] for row in rows(tmp_path / "out" / "scores.csv")}
    assert scores["a/new/000.png"] == scores["b/new/000.png"]


def test_who_stops_early_has_the_scores_so_far(
    bench: Callable, kept: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    results, tree, _ = kept
    real = predictor.predict

    def stopped(*given: Any, **options: Any) -> Iterator[predictor.Seen]:
        for place, seen in enumerate(real(*given, **options)):
            if place == 2:
                raise KeyboardInterrupt
            yield seen

    monkeypatch.setattr(predictor, "predict", stopped)
    done = bench("predict", str(results), str(tree / "dots" / "test"), "--device", "cpu", "--no-overlays")
    assert done.returncode == 130 and "scores of 2 of 5 images are in predictions/scores.csv" in done.stderr
    assert len(rows(tmp_path / "predictions" / "scores.csv")) == 2 and not (tmp_path / "predictions/overlays").exists()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["nowhere"], "nowhere: no such file or folder. Expected images"),
        (["empty"], "empty: no image in it. Expected files such as *.bmp"),
    ],
)
def test_images_that_are_not_there(
    bench: Callable, kept: Any, tmp_path: Path, arguments: list[str], message: str
) -> None:
    (tmp_path / "empty").mkdir()
    done = bench("predict", str(kept[0]), *arguments, "--device", "cpu")
    assert done.returncode == 2 and message in done.stderr and not (tmp_path / "predictions").exists()


def damaged(path: Path) -> None:
    file = kept_model.path_of(path)
    content = bytearray(file.read_bytes())
    content[-1] ^= 1
    file.write_bytes(content)


def of_another_cell(path: Path) -> None:
    resigned(path, cell={**records.read(path).cell.model_dump(), "fingerprint": "0" * 12})


def of_another_version(path: Path) -> None:
    resigned(path, config={**records.read(path).config, "gone": 1})


def of_another_shape(path: Path) -> None:
    resigned(path, config={**records.read(path).config, "layers": [3]})


def of_other_weights(path: Path) -> None:
    facts = records.read(path).encoder
    assert facts is not None
    resigned(path, encoder={**facts.model_dump(), "weights_sha256": "0" * 64})


def outside(path: Path) -> None:
    data = json.loads(path.read_text(encoding="utf-8")) | {"model": {"file": "../x.safetensors", "sha256": "0" * 64}}
    del data["sha256"]
    path.write_text(json.dumps(data | {"sha256": records.checksum(data)}), encoding="utf-8")


def of_another_program(path: Path) -> None:
    resigned(path, external=ExternalFacts(files_sha256="0", maps="files", image_score="max").model_dump())


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (damaged, "is damaged or not the model of its record: its SHA-256 is"),
        (lambda path: kept_model.path_of(path).unlink(), "the kept model, cannot be read: No such file"),
        (
            lambda path: resigned(path, model=None),
            "kept no model. The same bench run with --keep-model --again makes one",
        ),
        (of_another_cell, "is the model of another cell, patchcore"),
        (of_another_version, "is of another version of patchcore: gone: Extra inputs are not permitted"),
        (of_another_shape, "looks at images otherwise today than it did then"),
        (of_other_weights, "is not the file that the record was made with: its SHA-256 is"),
        (outside, "'../x.safetensors' is no name of a file beside the record"),
        (of_another_program, "is of another program's maps"),
        (lambda path: path.write_text("{"), "is no readable record"),
    ],
)
def test_a_model_that_is_not_the_records_is_refused(
    bench: Callable, copy: Path, kept: Any, change: Callable[[Path], None], message: str
) -> None:
    change(copy)
    done = bench("predict", str(copy), str(kept[1] / "dots" / "test"), "--device", "cpu")
    assert done.returncode == 2 and message in done.stderr, done.stderr


def test_a_folder_means_the_one_record_that_kept_its_model(bench: Callable, copy: Path, kept: Any) -> None:
    images = str(kept[1] / "dots" / "test" / "good" / "000.png")
    records.write(made(), copy.with_name("other.json"))
    assert bench("predict", "out", images, "--device", "cpu").returncode == 0
    records.write(records.read(copy), copy.with_name("second.json"))
    done = bench("predict", "out", images, "--device", "cpu")
    assert done.returncode == 2 and "2 records kept their models. Expected one of" in done.stderr
    for path in (copy, copy.with_name("second.json")):
        path.unlink()
    done = bench("predict", "out", images, "--device", "cpu")
    assert done.returncode == 2 and "no record in it kept its model. bench run --keep-model" in done.stderr


# ------------------------------------------------------------------------------------------------------ keeping
def test_the_plan_says_what_a_model_takes_and_refuses_what_has_no_room(
    bench: Callable, kept: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    command = [*kept[2], "--keep-model", "--dry-run", "--results", "new", "--seeds", "0,1"]
    done = bench(*command)
    assert done.returncode == 0, done.stderr
    assert "2 models to keep beside the records: " in done.stdout and "remembered of the training images" in done.stdout
    usage = shutil.disk_usage("/")
    monkeypatch.setattr(shutil, "disk_usage", lambda place: usage._replace(free=1000))
    done = bench(*command)
    assert done.returncode == 2 and "2 models of" in done.stderr and "--results on another disk" in done.stderr


def test_a_model_that_was_not_kept_is_said_to_be_missing(bench: Callable, copy: Path, kept: Any) -> None:
    command = [*kept[2], "--results", "out"]
    kept_model.path_of(copy).unlink()
    done = bench(*command, "--keep-model")
    assert done.returncode == 0 and "done, model not kept" in done.stdout and "no model kept, and none" in done.stdout
    done = bench(*command, "--keep-maps")
    assert "no maps kept, and none" in done.stdout, "there is no model that could make them"
    done = bench(*command, "--keep-model", "--again")
    assert done.returncode == 0 and kept_model.path_of(copy).is_file()
    assert bench("predict", str(copy), str(kept[1] / "dots" / "test"), "--device", "cpu").returncode == 0


def test_a_full_disk_costs_the_model_and_no_score(
    bench: Callable, kept: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(kept_model, "save_file", full)
    done = bench(*kept[2], "--results", "new", "--keep-model")
    assert done.returncode == 0 and "the model is not kept: no space left" in done.stderr
    (path,) = (tmp_path / "new").rglob("s0*.json")
    assert json.loads(path.read_text())["model"] is None and not list((tmp_path / "new").rglob("*.part"))


def test_late_maps_of_a_damaged_model_fail_and_leave_the_record(bench: Callable, copy: Path, kept: Any) -> None:
    damaged(copy)
    before = copy.read_bytes()
    done = bench(*kept[2], "--results", "out", "--keep-maps")
    assert done.returncode == 2 and "FAILED" in done.stdout and "is damaged or not the model" in done.stdout
    assert copy.read_bytes() == before and not copy.with_suffix(".maps").exists()


def test_late_maps_of_other_scores_than_the_recorded_are_not_kept(bench: Callable, copy: Path, kept: Any) -> None:
    import pyarrow.parquet as pq

    table = pq.read_table(copy.with_suffix(".parquet")).to_pydict()
    table["score"] = [score + 0.1 for score in table["score"]]
    records.write_predictions(copy.with_suffix(".parquet"), table)
    done = bench(*kept[2], "--results", "out", "--keep-maps")
    assert done.returncode == 2 and "the kept model gives image scores up to 0.1 from those recorded" in done.stdout
    assert not copy.with_suffix(".maps").exists() and json.loads(copy.read_text())["maps"] is None


def test_what_is_kept_is_counted(bench: Callable, copy: Path) -> None:
    done = bench("cache", "show", "--results", "out")
    size = kept_model.path_of(copy).stat().st_size
    assert f"models    {size / 1024:>6.0f} KiB  trained models, by bench run --keep-model" in done.stdout
    assert "kept models" in bench("doctor", "--results", "out").stdout
    assert bench("cache", "clear", "--yes").returncode == 0 and kept_model.path_of(copy).is_file()
