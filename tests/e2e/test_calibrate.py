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


# ------------------------------------------------------------------------------------------------------- verdicts
def verdicts(path: Path) -> dict[str, str]:
    with path.open(encoding="utf-8", newline="") as file:
        return {row["image"]: row["verdict"] for row in csv.DictReader(file)}


@pytest.mark.parametrize(
    ("options", "rule", "cls"),
    [
        ([], "far", ""),
        (["--rule", "max"], "max", ""),
        (["--rule", "mean+3sd", "--class", "dots"], "mean+3sd", "dots"),
        (["--far", "0.2", "--class", "lines"], "far", "lines"),
        (["--class", "lines"], "max", "lines"),
    ],
)
def test_verdicts_come_with_what_they_are_worth(
    made: Any, bench: Callable, tmp_path: Path, options: list[str], rule: str, cls: str
) -> None:
    path, tree, _ = made
    calibration = records.read(path).calibration
    assert calibration is not None
    found = calibration.of(cls)
    assert found is not None
    points, scores = found
    # 24 scores: with one above, two in 25 are expected above; with none, one
    wanted = points.image[rule].threshold if rule != "far" else scores[-1] if not cls else scores[-2]
    images = str(tree / (cls or "dots") / "test")
    done = bench("predict", str(path), images, *options, "--device", "cpu", "--no-overlays", "-q", "--json")
    assert done.returncode == 0, done.stderr
    answer = json.loads(done.stdout)
    assert answer["threshold"] == wanted and answer["calibration"]["rule"] == rule
    assert answer["calibration"]["images"] == points.images == (12 if cls else 24)
    assert [one["verdict"] for one in answer["images"]] == [
        "anomalous" if one["score"] > wanted else "normal" for one in answer["images"]
    ]
    told = answer["calibration"]["expected_false_alarms"]
    above = sum(score > wanted for score in scores)
    assert told is None if rule == "mean+3sd" else told == (above + 1) / (len(scores) + 1)
    table = pq.read_table(path.with_suffix(".parquet")).to_pydict()
    chosen = [place for place, name in enumerate(table["class"]) if not cls or name == cls]
    for label, key in ((0, "false_alarms"), (1, "found")):
        own = [table["score"][place] for place in chosen if table["label"][place] == label]
        counted = answer["calibration"][key]
        assert [counted["count"], counted["of"]] == [sum(score > wanted for score in own), len(own)]


def test_a_threshold_is_exported_and_read_again(made: Any, bench: Callable, tmp_path: Path) -> None:
    path, tree, _ = made
    done = bench("export", "threshold", str(path), "--rule", "q0.95", "--out", "limit.json")
    assert done.returncode == 0, done.stderr
    assert "95 % quantile of the normal scores, of 24 normal images held back" in done.stdout
    assert "of 4 normal ones above it" in done.stdout and "95 % interval" in done.stdout
    assert f"next: bench predict {path} IMAGES --threshold limit.json" in done.stderr
    facts, record = json.loads((tmp_path / "limit.json").read_text()), records.read(path)
    assert record.calibration is not None and record.calibration.pooled is not None and record.model is not None
    pooled = record.calibration.pooled
    assert facts["threshold"] == pooled.image["q0.95"].threshold
    assert facts["pixel_threshold"] == pooled.pixel["q0.95"].threshold
    assert (facts["record"], facts["model_sha256"]) == (record.cell.fingerprint, record.model.sha256)
    assert facts["map_scale"][0] < facts["map_scale"][1]
    assert facts["false_alarms_interval"] == list(pooled.image["q0.95"].false_alarms.interval or ())
    images = str(tree / "dots" / "test")
    plain = bench("predict", str(path), images, "--rule", "q0.95", "--device", "cpu", "--no-overlays", "--out", "a")
    read = bench("predict", str(path), images, "--threshold", "limit.json", "--device", "cpu", "--no-overlays")
    assert verdicts(tmp_path / "a" / "scores.csv") == verdicts(tmp_path / "predictions" / "scores.csv")
    assert plain.stdout.splitlines()[:3] == read.stdout.splitlines()[:3]
    assert "threshold " in read.stdout and "at most 8.0 % false alarms expected" in read.stdout
    other = {**facts, "record": "0" * 12}
    (tmp_path / "other.json").write_text(json.dumps(other))
    done = bench("predict", str(path), images, "--threshold", "other.json", "--device", "cpu")
    assert done.returncode == 2 and "is of another record" in done.stderr
    (tmp_path / "broken.json").write_text(json.dumps({**facts, "threshold": "high"}))
    done = bench("predict", str(path), images, "--threshold", "broken.json", "--device", "cpu")
    assert done.returncode == 2 and "broken.json is no threshold" in done.stderr


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--rule", "q0.9"], "--rule 'q0.9'. Did you mean 'q0.99'? Expected one of q0.95"),
        (["--far", "0.01"], "24 normal images held back cannot tell so few false alarms. Expected at least 0.04"),
        (["--far", "1.5"], "--far 1.5: expected a share"),
        (["--rule", "max", "--far", "0.1"], "each chooses a threshold"),
        (["--rule", "max", "--threshold", "1"], "each chooses a threshold"),
        (["--class", "dot"], "no such class. Did you mean 'dots'? Known: dots, lines"),
        (["--threshold", "nowhere.json"], "no number and no such file"),
    ],
)
def test_thresholds_that_cannot_be(made: Any, bench: Callable, options: list[str], message: str) -> None:
    done = bench("predict", str(made[0]), str(made[1] / "dots" / "test"), *options, "--device", "cpu")
    assert done.returncode == 2 and message in done.stderr, done.stderr


def test_a_record_without_thresholds_says_how_to_have_some(made: Any, bench: Callable, tmp_path: Path) -> None:
    record = records.read(made[0]).model_copy(update={"calibration": None})
    records.write(record, tmp_path / "plain.json")
    for command in (["predict", "plain.json", str(made[1]), "--far", "0.1"], ["export", "threshold", "plain.json"]):
        done = bench(*command)
        assert done.returncode == 2 and "plain.json has no thresholds" in done.stderr
        assert "bench run --calibrate 0.25 holds" in done.stderr


def test_the_terminal_tables_what_could_be_set(made: Any, bench: Callable) -> None:
    done = bench("show", str(made[0]))
    record = records.read(made[0])
    assert record.calibration is not None and record.calibration.pooled is not None
    share = record.calibration.pooled.image["q0.95"].false_alarms
    line = next(line for line in done.stdout.splitlines() if "one for all" in line)
    assert f" {share.count}/4 {100 * share.count / 4:.1f} (" in line and "│   24 │" in line
    assert "At a threshold one could set" in done.stdout and "Clopper-Pearson" in done.stdout


def test_python_has_the_same_thresholds(made: Any) -> None:
    import bench

    record = records.read(made[0])
    assert record.calibration is not None and record.calibration.pooled is not None
    images = made[1] / "dots" / "test"
    seen = bench.predict(made[0], images, rule="max", device="cpu")
    limit = record.calibration.pooled.image["max"].threshold
    assert list(seen["verdict"]) == ["anomalous" if score > limit else "normal" for score in seen["score"]]
    assert list(bench.predict(made[0], images, threshold=limit, device="cpu")["verdict"]) == list(seen["verdict"])
