"""`bench run --calibrate` and what `bench predict` and `bench export threshold` make of it."""

from __future__ import annotations

import csv
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest

from bench.store import record as records

VIT = "vit_tiny_patch8_128.bench"


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory, write_tree: Callable) -> tuple[Path, Path, list[str]]:
    """A record with thresholds and its model, its data, and the options of the run."""
    from bench.cli.main import run

    folder = tmp_path_factory.mktemp("calibrated")
    tree = write_tree(folder / "tree", train=24)
    command = ["run", "--methods", "patchcore", "--datasets", "folder", "--data-root", str(tree), "--device", "cpu"]
    command += ["--encoder", VIT, "--set", "patchcore.input_size=32", "--calibrate", "0.5"]
    assert run([*command, "--results", str(folder / "out"), "--keep-model", "--keep-maps", "-q"]) == 0
    (path,) = (folder / "out").rglob("s0*.json")
    return path, tree, command


def scores_of(path: Path) -> dict[str, float]:
    with path.open(encoding="utf-8", newline="") as file:
        return {row["image"]: float(row["score"]) for row in csv.DictReader(file)}


def test_thresholds_are_of_images_that_were_not_trained_on(made: Any, bench: Callable, tmp_path: Path) -> None:
    path, tree, _ = made
    record = records.read(path)
    found = record.calibration
    assert found is not None and found.share == 0.5
    assert record.dataset.train == {"dots": 12, "lines": 12} and {len(own) for own in found.scores.values()} == {12}
    assert "24 of 48 training images are held back for thresholds" in record.dataset.notes
    for cls, own in found.scores.items():
        files = [str(tree / f"{name}.png") for name in own]
        assert bench("predict", str(path), *files, "--device", "cpu", "--no-overlays", "-q").returncode == 0
        again = scores_of(tmp_path / "predictions" / "scores.csv")
        assert [again[file] for file in files] == pytest.approx(list(own.values()), rel=1e-5)
        scores = np.array(list(own.values()))
        points = found.classes[cls].image
        assert points["max"].threshold == scores.max() == points["q0.95"].threshold
        assert points["mean+3sd"].threshold == pytest.approx(scores.mean() + 3 * scores.std(ddof=1), rel=1e-9)
    every = np.array([score for own in found.scores.values() for score in own.values()])
    assert found.pooled is not None and found.pooled.images == 24
    assert found.pooled.image["q0.95"].threshold == np.quantile(every, 0.95, method="inverted_cdf")


def test_what_they_are_worth_is_counted_on_the_test_images(made: Any) -> None:
    record, table = records.read(made[0]), pq.read_table(made[0].with_suffix(".parquet")).to_pydict()
    assert record.calibration is not None and record.calibration.pooled is not None
    for cls, points in record.calibration.classes.items():
        rows = [place for place, name in enumerate(table["class"]) if name == cls]
        scores, labels = (np.array(table[column])[rows] for column in ("score", "label"))
        maps = np.load(made[0].with_suffix(".maps") / f"{cls}.npy")
        for point in points.image.values():
            assert point.false_alarms.count == int((scores[labels == 0] > point.threshold).sum())
            assert point.found.count == int((scores[labels == 1] > point.threshold).sum())
        for pixel in points.pixel.values():
            assert pixel.marked == pytest.approx(float((maps[labels == 0] > pixel.threshold).mean()))
            assert sum(share.of for share in pixel.missed.values()) == 3, "a square in each of three images"
        assert points.hindsight.f1_pooled == record.scores[cls].values["pixel/f1max"]
        assert all(pixel.f1 is not None and pixel.f1 <= points.hindsight.f1_pooled for pixel in points.pixel.values())


def test_it_is_another_cell_and_the_plain_one_stays(made: Any, bench: Callable) -> None:
    path, _, command = made
    plain = command[: command.index("--calibrate")]
    done = bench(*plain, "--results", str(path.parents[3]), "--dry-run")
    assert done.returncode == 0 and "1 to do, 0 done" in done.stdout
    done = bench(*command, "--results", str(path.parents[3]), "--dry-run")
    assert "0 to do, 1 done" in done.stdout
    done = bench(*plain, "--calibrate", "1.5", "--results", "new")
    assert done.returncode == 2 and "--calibrate" in done.stderr


def test_a_record_whose_numbers_contradict_each_other_is_refused(made: Any, tmp_path: Path) -> None:
    data = json.loads(made[0].read_text(encoding="utf-8"))
    del data["sha256"]

    def refused(change: Callable[[dict[str, Any]], None]) -> str:
        other = json.loads(json.dumps(data))
        change(other["calibration"])
        path = tmp_path / "other.json"
        path.write_text(json.dumps({**other, "sha256": records.checksum(other)}), encoding="utf-8")
        with pytest.raises(records.StoreError) as error:
            records.read(path)
        return str(error.value)

    def too_many(found: dict[str, Any]) -> None:
        found["classes"]["dots"]["image"]["max"]["false_alarms"]["count"] = 99

    def too_few(found: dict[str, Any]) -> None:
        found["scores"]["dots"].popitem()

    assert "99 of 2: more than there are" in refused(too_many)
    assert "dots: 12 images, and scores of 11" in refused(too_few)
    assert "name other classes" in refused(lambda found: found["scores"].pop("dots"))
    assert "share is 2.0" in refused(lambda found: found.update(share=2.0))
