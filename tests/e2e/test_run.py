"""`bench run` as a user meets it: what it writes, what it skips, what it refuses."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
from PIL import Image


def records_in(folder: Path) -> list[dict]:
    return [json.loads(path.read_text()) for path in sorted(folder.rglob("s*.json"))]


def test_run_writes_a_complete_record_and_a_second_run_skips_it(
    bench: Callable, tree: Path, tmp_path: Path, small: Callable
) -> None:
    command = [*small(), "--data-root", str(tree), "--results", "out", "--keep-maps"]
    first = bench(*command)
    assert first.returncode == 0, first.stderr + first.stdout
    assert "mean of 2" in first.stdout and "I-AUROC" in first.stdout and "AUPRO" in first.stdout
    assert "\x1b" not in first.stdout, "control characters in piped output"

    (record,) = records_in(tmp_path / "out")
    assert record["status"] == "done" and record["schema_version"] == 2
    assert record["cell"]["classes"] == ["dots", "lines"]
    assert record["dataset"]["train"] == {"dots": 5, "lines": 5}
    assert record["dataset"]["test_bad"] == {"dots": 3, "lines": 3}
    assert set(record["scores"]["dots"]["values"]) == set(record["protocol"]["metrics"])
    for metric, value in record["mean"].items():
        both = [record["scores"][cls]["values"][metric] for cls in ("dots", "lines")]
        assert value == pytest.approx(sum(both) / 2)
    assert {"input_size", "steps", "encoder"} <= set(record["changed"])
    assert len(record["encoder"]["weights_sha256"]) == 64
    assert record["encoder"]["std"] == [0.229, 0.224, 0.225]
    assert {"decode", "features", "train", "inference", "metrics"} == set(record["efficiency"]["seconds"])
    single = record["efficiency"]["latency"]
    assert 0 < single["images"] <= len(record["scores"]) * 6 and single["p50"] > 0
    # of phases that there were, where something counts them
    assert {"decode", "features", "train", "inference", "metrics"} >= set(record["efficiency"]["joules"])
    assert record["efficiency"]["params_total"] > record["efficiency"]["params_trainable"] > 0
    assert record["training"]["loss_curve"][-1][0] == 6

    (path,) = (tmp_path / "out").rglob("s*.json")
    table = pq.read_table(path.with_suffix(".parquet")).to_pydict()
    assert len(table["id"]) == 10 and sum(table["label"]) == 6
    maps = np.load(path.with_suffix(".maps") / "dots.npy")
    assert maps.shape == (5, 256, 256) and maps.dtype == np.float32 and np.isfinite(maps).all()

    before = path.stat().st_mtime_ns
    second = bench(*command)
    assert second.returncode == 0 and "0 to do, 1 done" in second.stdout and "mean of 2" in second.stdout
    assert path.stat().st_mtime_ns == before


def test_recorded_image_scores_give_the_recorded_auroc(
    bench: Callable, tree: Path, tmp_path: Path, small: Callable
) -> None:
    from sklearn.metrics import roc_auc_score

    assert bench(*small(), "--data-root", str(tree), "--results", "out").returncode == 0
    (path,) = (tmp_path / "out").rglob("s*.json")
    record = json.loads(path.read_text())
    table = pq.read_table(path.with_suffix(".parquet")).to_pydict()
    for cls, scores in record["scores"].items():
        rows = [index for index, name in enumerate(table["class"]) if name == cls]
        expected = roc_auc_score([table["label"][i] for i in rows], [table["score"][i] for i in rows])
        assert scores["values"]["image/auroc"] == pytest.approx(expected, abs=1e-12)


def test_changed_data_is_a_new_cell(bench: Callable, tree: Path, tmp_path: Path, small: Callable) -> None:
    command = [*small(steps=2), "--data-root", str(tree), "--results", "out"]
    assert bench(*command).returncode == 0
    changed = tree / "dots" / "train" / "good" / "000.png"
    Image.fromarray(255 - np.asarray(Image.open(changed))).save(changed)
    assert "1 to do, 0 done" in bench(*command, "--dry-run").stdout


def test_classes_without_masks_have_a_dash_in_pixel_columns(
    bench: Callable, tmp_path: Path, small: Callable, write_tree: Callable
) -> None:
    root = write_tree(tmp_path / "tree", classes=("dots",))
    for mask in root.rglob("*_mask.png"):
        mask.unlink()
    for folder in ("square", ""):
        (root / "dots" / "ground_truth" / folder).rmdir()
    done = bench(*small(steps=2), "--data-root", str(root), "--results", "out")
    assert done.returncode == 0, done.stderr + done.stdout
    (record,) = records_in(tmp_path / "out")
    assert record["mean"]["pixel/auroc"] is None and record["mean"]["image/auroc"] is not None
    assert "–" in done.stdout and "pixel/aupro@0.3" in record["scores"]["dots"]["undefined"]


def test_dry_run_writes_nothing(bench: Callable, tree: Path, tmp_path: Path, small: Callable) -> None:
    done = bench(*small(), "--data-root", str(tree), "--results", "out", "--dry-run", "--seeds", "0,1")
    assert done.returncode == 0 and "2 cells: 2 to do" in done.stdout and "about" in done.stdout
    assert not (tmp_path / "out").exists()


def test_paper_protocol_is_another_cell_with_another_metric(
    bench: Callable, tree: Path, tmp_path: Path, small: Callable
) -> None:
    done = bench(*small(steps=2), "--data-root", str(tree), "--results", "out", "--protocol", "paper")
    assert done.returncode == 0, done.stderr + done.stdout
    (record,) = records_in(tmp_path / "out")
    assert record["protocol"]["name"] == "paper:dinomaly"
    assert "pixel/aupro@0.3:grid200" in record["mean"] and "pixel/aupro@0.3" not in record["mean"]


def refused(done: object, *words: str) -> None:
    """The user's mistake: exit code 2, one message that names what matters, no traceback."""
    output = done.stdout + done.stderr  # type: ignore[attr-defined]
    assert done.returncode == 2, output  # type: ignore[attr-defined]
    assert "Traceback" not in output
    for word in words:
        assert word in output, f"{word!r} is not in: {output}"


def test_unknown_names_are_refused_with_a_suggestion(bench: Callable, tree: Path, small: Callable) -> None:
    root = ["--data-root", str(tree)]
    refused(
        bench("run", "--methods", "dinomali", "--datasets", "folder", *root), "dinomali", "Did you mean 'dinomaly'?"
    )
    refused(bench("run", "--methods", "dinomaly", "--datasets", "mvtek", *root), "mvtek", "Did you mean 'mvtec'?")
    refused(bench(*small(), *root, "--set", "dinomaly.dropuot=0.4"), "dropuot", "Did you mean 'dropout'?")
    refused(bench(*small(), *root, "--set", "dinomaly.dropout=lots"), "dropout", "lots")
    refused(bench(*small(), *root, "--classes", "dotz"), "dotz", "Did you mean 'dots'?")
    refused(bench(*small(), *root, "--protocol", "commom"), "commom")
    refused(bench("run", "--suite", "dmeo"), "dmeo", "Did you mean 'demo'?")
    refused(bench("run"), "--methods", "--suite")


def test_a_missing_root_is_refused(bench: Callable, tmp_path: Path, small: Callable) -> None:
    refused(bench(*small("mvtec"), "--data-root", str(tmp_path / "nowhere")), "nowhere", "mvtec")
    (tmp_path / "empty").mkdir()
    refused(bench(*small("mvtec"), "--data-root", str(tmp_path / "empty")), "empty", "mvtec", "train/good")


def test_a_class_that_is_known_but_absent_is_refused(
    bench: Callable, tmp_path: Path, small: Callable, write_tree: Callable
) -> None:
    write_tree(tmp_path / "mvtec", classes=("bottle",))
    refused(bench(*small("mvtec"), "--data-root", str(tmp_path), "--classes", "bottle,screw"), "screw", "bottle")


def test_a_corrupt_image_fails_the_cell_before_training(
    bench: Callable, tree: Path, tmp_path: Path, small: Callable
) -> None:
    broken = tree / "lines" / "train" / "good" / "003.png"
    broken.write_bytes(broken.read_bytes()[:200])
    done = bench(*small(), "--data-root", str(tree), "--results", "out")
    refused(done, str(broken), "bench data verify")
    assert "train " not in done.stderr.partition("decode")[2], "training began before the file was read"
    (record,) = records_in(tmp_path / "out")
    assert record["status"] == "failed" and record["scores"] == {} and str(broken) in record["error"]["message"]


def test_a_mask_of_another_size_fails_the_cell(bench: Callable, tree: Path, small: Callable) -> None:
    mask = tree / "dots" / "ground_truth" / "square" / "001_mask.png"
    Image.new("L", (20, 30), 255).save(mask)
    refused(bench(*small(), "--data-root", str(tree), "--results", "out"), str(mask), "20x30", "48x48")


def test_an_anomalous_image_without_its_mask_is_refused(bench: Callable, tree: Path, small: Callable) -> None:
    (tree / "dots" / "ground_truth" / "square" / "002_mask.png").unlink()
    refused(bench(*small(), "--data-root", str(tree)), "square", "002", "mask")


def test_a_failing_cell_does_not_take_the_sweep_along(
    bench: Callable, tmp_path: Path, small: Callable, write_tree: Callable
) -> None:
    write_tree(tmp_path / "good")
    write_tree(tmp_path / "bad" / "mvtec", classes=("bottle",))
    broken = tmp_path / "bad" / "mvtec" / "bottle" / "train" / "good" / "000.png"
    broken.write_bytes(b"not an image")
    roots = ["--data-root", f"mvtec={tmp_path / 'bad'}", "--data-root", f"folder={tmp_path / 'good'}"]
    done = bench(*small("mvtec,folder", steps=2), *roots, "--results", "out")
    assert done.returncode == 2
    states = {record["cell"]["dataset"]: record["status"] for record in records_in(tmp_path / "out")}
    assert states == {"mvtec": "failed", "folder": "done"}


def test_a_diverging_training_is_a_failed_cell_that_names_step_and_images(
    bench: Callable, tree: Path, tmp_path: Path, small: Callable
) -> None:
    done = bench(*small(steps=30, lr=1e30, clip_norm=1e30), "--data-root", str(tree), "--results", "out")
    assert done.returncode == 1, done.stdout + done.stderr
    (record,) = records_in(tmp_path / "out")
    assert record["status"] == "failed" and record["mean"] == {}
    assert "step" in record["error"]["message"] and "train/good" in record["error"]["message"]


def test_missing_weights_stop_the_run_before_any_work(bench: Callable, tree: Path) -> None:
    # a closed port stands for a machine without a network
    done = bench(
        *("run", "--methods", "dinomaly", "--datasets", "folder", "--data-root", str(tree)),
        HF_ENDPOINT="http://127.0.0.1:9",
        HF_HOME=str(tree / "no-hub-cache"),
    )
    refused(done, "vit_base_patch14_reg4_dinov2.lvd142m", "--weights")
