"""`bench run` in every setting: which cells there are, what they are trained and scored on, what the table says."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
from PIL import Image
from sklearn.metrics import roc_auc_score

from bench.api import Card, Dataset, Sample
from bench.errors import DatasetError, UsageError
from bench.machine.progress import Silent
from bench.plan.cells import expand
from bench.plan.request import Request
from bench.registry import DATASETS

SIDE = 16
CLASSES = ("flat", "rows/lines", "columns", "checks")
"""One of them is no file name."""
HALVES = {"A": CLASSES[:2], "B": CLASSES[2:], "C": CLASSES[::2], "D": CLASSES[1::2]}
TRAIN, TEST = 6, 4
"""Images a class."""


class Shapes(Dataset):
    """A semantic set in one file: uint8 [class, image, side, side], the first TRAIN images of a class for training."""

    card = Card(
        name="shapes",
        title="Shapes",
        kind="semantic",
        classes=CLASSES,
        counts={},
        masks="none",
        licence="-",
        citation="-",
        source="-",
        splits=HALVES,
    )

    @classmethod
    def locate(cls, data_root: Path | None) -> Path:
        if data_root is None or not (data_root / "shapes.npy").is_file():
            raise DatasetError(f"no shapes.npy in {data_root}")
        return data_root

    def samples(self) -> tuple[Sample, ...]:
        found = []
        for number, cls in enumerate(CLASSES):
            for index in range(TRAIN + TEST):
                split = "train" if index < TRAIN else "test"
                name, member = f"{cls}/{split}/{index:02}", f"{number},{index}"
                found.append(Sample(name, cls, split, 0, "good", self.root / "shapes.npy", member=member))  # type: ignore[arg-type]
        return tuple(found)

    def read_image(self, sample: Sample) -> Image.Image:
        number, index = map(int, sample.member.split(","))
        return Image.fromarray(np.load(sample.image)[number, index]).convert("RGB")


@pytest.fixture
def shapes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """The root of the semantic set, registered for the time of a test."""
    monkeypatch.setitem(DATASETS.targets, "shapes", f"{__name__}:Shapes")
    monkeypatch.setitem(DATASETS._loaded, "shapes", Shapes)
    y, x = np.mgrid[:SIDE, :SIDE] // 4 % 2
    patterns = np.stack([np.zeros_like(x), y, x, x ^ y])[:, None]
    noise = np.random.default_rng(0).normal(0, 8, (4, TRAIN + TEST, SIDE, SIDE))
    np.save(tmp_path / "shapes.npy", (80 + 100 * patterns + noise).clip(0, 255).astype(np.uint8))
    yield tmp_path


def found(folder: Path) -> dict[str, dict]:
    return {path.name: json.loads(path.read_text()) for path in sorted(folder.rglob("*.json"))}


def by_part(folder: Path) -> dict[str, dict]:
    return {record["cell"]["part"]: record for record in found(folder).values()}


def table(output: str, name: str) -> list[str]:
    (line,) = (line for line in output.splitlines() if line.startswith(f"│ {name} "))
    return [part.strip() for part in line.strip("│").split("│")][1:]


def test_half_splits_are_cells_of_one_row(bench: Callable, shapes: Path, tmp_path: Path, small: Callable) -> None:
    command = [*small("shapes", steps=2), "--data-root", str(shapes), "--results", "out"]
    plan = bench(*command, "--dry-run")
    assert plan.returncode == 0, plan.stdout + plan.stderr
    assert all(f"dinomaly on shapes {part}, multi, seed 0" in plan.stdout for part in HALVES)
    assert "4 cells: 4 to do" in plan.stdout

    alone = bench(*command, "--splits", "B")
    assert alone.returncode == 0, alone.stdout + alone.stderr
    assert table(alone.stdout, "1/4 splits") == ["–"] * 7 and "mean of" not in alone.stdout
    done = bench(*command)
    assert done.returncode == 0 and "4 cells: 3 to do, 1 done" in done.stdout

    records = by_part(tmp_path / "out")
    assert set(records) == set(HALVES)
    for part, record in records.items():
        assert record["cell"]["classes"] == [part] and record["dataset"]["parts_known"] == 4
        assert record["dataset"]["normal"] == list(HALVES[part]) and record["dataset"]["kind"] == "semantic"
        counts = [record["dataset"][key][part] for key in ("train", "test_good", "test_bad")]
        assert counts == [2 * TRAIN, 2 * TEST, 2 * TEST]
        assert record["pooled"] is None and record["mean"]["pixel/auroc"] is None
        undefined = record["scores"][part]["undefined"]
        assert {metric: undefined[metric] for metric in undefined if metric.startswith("pixel")} == undefined != {}
        assert set(undefined.values()) == {"no masks"}
    for name, record in found(tmp_path / "out").items():
        part = record["cell"]["part"]
        assert name == f"{part}-s0-{record['cell']['fingerprint']}.json"
        (path,) = (tmp_path / "out").rglob(name)
        rows = pq.read_table(path.with_suffix(".parquet")).to_pydict()
        # an image's own class is in its id, and its label follows from it
        own = [identity.rpartition("/test/")[0] for identity in rows["id"]]
        assert rows["label"] == [int(cls not in HALVES[part]) for cls in own] and len(own) == 4 * TEST
        assert rows["defect"] == ["good" if cls in HALVES[part] else cls for cls in own]
        auroc = roc_auc_score(rows["label"], rows["score"])
        assert record["scores"][part]["values"]["image/auroc"] == pytest.approx(auroc, abs=1e-12)

    mean = sum(record["mean"]["image/auroc"] for record in records.values()) / 4
    assert table(done.stdout, "mean of 4") == [f"{100 * mean:.1f}", *table(done.stdout, "mean of 4")[1:3], *"––––"]
    lines = [line.split("│")[1].strip() for line in done.stdout.splitlines() if line.startswith("│")]
    assert lines == [*HALVES, "mean of 4"], "the part that was done before is in its place"
    again = bench(*command)
    assert "0 to do, 4 done" in again.stdout and table(again.stdout, "mean of 4") == table(done.stdout, "mean of 4")


def test_the_papers_recipe_for_semantic_sets_is_planned_for_them(shapes: Path, tree: Path) -> None:
    asked = Request(
        methods=("dual_student", "dinomaly"),
        datasets=("shapes", "folder"),
        splits=("A",),
        protocol="paper",
        encoder="vit_tiny_patch8_128.bench",
        data_roots=(f"shapes={shapes}", f"folder={tree}"),
    )
    with pytest.raises(UsageError, match="--splits A: folder has none"):
        expand(asked, Silent())
    cells = expand(replace(asked, splits=()), Silent())
    crops = {(cell.method.name, cell.task.name): cell.protocol.crop for cell in cells}
    assert crops.pop(("dual_student", "shapes")) == 1.0 and set(crops.values()) == {392 / 448} and len(crops) == 3


def test_one_against_the_rest(bench: Callable, shapes: Path, tmp_path: Path, small: Callable) -> None:
    command = [*small("shapes", steps=2), "--data-root", str(shapes), "--results", "out", "--setting", "single"]
    done = bench(*command, "--classes", "rows/lines,checks", "--keep-maps")
    assert done.returncode == 0, done.stdout + done.stderr
    assert table(done.stdout, "2/4 classes") == ["–"] * 7
    records = by_part(tmp_path / "out")
    assert list(records) == ["checks", "rows/lines"]
    for part, record in records.items():
        counts = [record["dataset"][key][part] for key in ("train", "test_good", "test_bad")]
        assert counts == [TRAIN, TEST, 3 * TEST] and record["dataset"]["normal"] == [part]
    (path,) = (tmp_path / "out" / "shapes" / "dinomaly" / "single").glob("rows%2Flines-s0-*.json")
    assert np.load(path.with_suffix(".maps") / "rows%2Flines.npy").shape == (4 * TEST, 256, 256)


def test_a_model_a_class(bench: Callable, tree: Path, tmp_path: Path, small: Callable) -> None:
    command = [*small(steps=2), "--data-root", str(tree), "--results", "out", "--setting", "multi,single"]
    done = bench(*command)
    assert done.returncode == 0 and "3 cells: 3 to do" in done.stdout, done.stdout + done.stderr
    multi, singles = by_part(tmp_path / "out").pop(""), by_part(tmp_path / "out")
    del singles[""]
    assert set(singles) == {"dots", "lines"}
    for part, record in singles.items():
        assert record["dataset"]["train"] == {part: 5} and list(record["scores"]) == [part]
        assert record["dataset"]["parts_known"] == 2 and record["pooled"] is None
    assert multi["dataset"]["train"] == {"dots": 5, "lines": 5} and multi["dataset"]["parts_known"] == 1
    title = "dinomaly on folder, single, seed 0"
    mean = sum(record["mean"]["pixel/aupro@0.3"] for record in singles.values()) / 2
    assert table(done.stdout.partition(title)[2].rpartition(title)[2], "mean of 2")[6] == f"{100 * mean:.1f}"


def test_classes_that_share_a_model_are_also_pooled(
    bench: Callable, tree: Path, tmp_path: Path, small: Callable
) -> None:
    done = bench(*small(steps=2), "--data-root", str(tree), "--results", "out")
    assert done.returncode == 0, done.stdout + done.stderr
    (record,) = found(tmp_path / "out").values()
    (path,) = (tmp_path / "out").rglob("*.parquet")
    rows = pq.read_table(path).to_pydict()
    values = record["pooled"]["values"]
    assert values["image/auroc"] == pytest.approx(roc_auc_score(rows["label"], rows["score"]), abs=1e-12)
    assert list(values) == record["protocol"]["metrics"] and None not in values.values()
    assert table(done.stdout, "pooled")[0] == f"{100 * values['image/auroc']:.1f}"


def test_families_and_objects_are_scored_beside_the_protocol(
    bench: Callable, tree: Path, tmp_path: Path, small: Callable, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = DATASETS.load("folder")

    class Families(folder):  # type: ignore[misc, valid-type]
        def samples(self) -> tuple[Sample, ...]:
            found = []
            for sample in super().samples():
                number = int(sample.id[-1])
                family = ("logical", "structural")[number % 2] if sample.label else ""
                found.append(replace(sample, family=family, unit=f"{sample.cls}/{number}"))
            return tuple(found)

    monkeypatch.setitem(DATASETS._loaded, "folder", Families)
    done = bench(*small(steps=2), "--data-root", str(tree), "--results", "out")
    assert done.returncode == 0, done.stdout + done.stderr
    assert all(name in done.stdout for name in ("I-AUROC logical", "I-AUROC structural", "S-AUROC"))
    (record,) = found(tmp_path / "out").values()
    (path,) = (tmp_path / "out").rglob("*.parquet")
    rows = pq.read_table(path).to_pydict()
    for cls in ("dots", "lines"):
        scores = {name: value for name, value in zip(rows["id"], rows["score"], strict=True) if name.startswith(cls)}
        good = [scores[f"{cls}/test/good/00{number}"] for number in (0, 1)]
        bad = [scores[f"{cls}/test/square/00{number}"] for number in (0, 1, 2)]
        extra = record["scores"][cls]["extra"]
        assert extra["image/auroc:logical"] == pytest.approx(roc_auc_score([0, 0, 1, 1], [*good, bad[0], bad[2]]))
        assert extra["image/auroc:structural"] == pytest.approx(roc_auc_score([0, 0, 1], [*good, bad[1]]))
        # every object of this tree is seen in an anomalous image, so that objects cannot be ranked
        assert extra["sample/auroc"] is None and extra["sample/ap"] == 1.0
        assert "sample/auroc" in record["scores"][cls]["undefined"]
        assert set(record["mean"]) == set(record["protocol"]["metrics"])


def test_few_shots_are_the_seeds_and_on_record(bench: Callable, tree: Path, tmp_path: Path, small: Callable) -> None:
    command = [*small(steps=2), "--data-root", str(tree), "--results", "out", "--setting", "few-shot"]
    done = bench(*command, "--shots", "2", "--seeds", "0,1")
    assert done.returncode == 0, done.stdout + done.stderr
    records = {record["cell"]["seed"]: record for record in found(tmp_path / "out").values()}
    chosen = {seed: record["dataset"]["chosen"] for seed, record in records.items()}
    assert chosen[0] != chosen[1]
    for record in records.values():
        assert record["cell"]["shots"] == 2 and record["dataset"]["train"] == {"dots": 2, "lines": 2}
        ids = record["dataset"]["chosen"]
        assert [name.partition("/")[0] for name in ids] == ["dots"] * 2 + ["lines"] * 2
        assert all("/train/good/" in name for name in ids)
        assert "features" in record["efficiency"]["seconds"], "seeds that chose other images share no features"
    again = bench(*command, "--shots", "2", "--seeds", "0,1")
    assert "0 to do, 2 done" in again.stdout and "dinomaly on folder, few-shot (2), seed 1" in again.stdout
    assert "2 to do, 0 done" in bench(*command, "--shots", "3", "--seeds", "0,1", "--dry-run").stdout


def test_few_shots_of_a_semantic_set_are_of_each_normal_class(
    bench: Callable, shapes: Path, tmp_path: Path, small: Callable
) -> None:
    command = [*small("shapes", steps=2), "--data-root", str(shapes), "--results", "out"]
    done = bench(*command, "--setting", "few-shot", "--shots", "1", "--splits", "A")
    assert done.returncode == 0, done.stdout + done.stderr
    (record,) = found(tmp_path / "out").values()
    assert record["dataset"]["train"] == {"A": 2} and record["dataset"]["test_good"] == {"A": 2 * TEST}
    assert [name.rpartition("/train/")[0] for name in record["dataset"]["chosen"]] == list(HALVES["A"])


def test_noisy_training_is_a_table_of_its_own(bench: Callable, tree: Path, tmp_path: Path, small: Callable) -> None:
    command = [*small(steps=2), "--data-root", str(tree), "--results", "out"]
    noisy = [*command, "--setting", "noisy", "--rate", "0.2"]
    assert bench(*command).returncode == 0
    done = bench(*noisy, "--seeds", "0,1")
    assert done.returncode == 0, done.stdout + done.stderr
    assert "training images are anomalous" in done.stdout
    records = [record for record in found(tmp_path / "out").values() if record["cell"]["setting"] == "noisy-0.2"]
    clean = next(record for record in found(tmp_path / "out").values() if record["cell"]["setting"] == "multi")
    assert len({tuple(record["dataset"]["chosen"]) for record in records}) == 2, "each seed chooses its own"
    for record in records:
        for cls, normal in clean["dataset"]["train"].items():
            mixed = [name for name in record["dataset"]["chosen"] if name.startswith(f"{cls}/test/")]
            assert len(mixed) == round(0.2 * normal / 0.8) > 0
            assert record["dataset"]["train"][cls] == normal + len(mixed)
            assert record["dataset"]["test_bad"][cls] == clean["dataset"]["test_bad"][cls] - len(mixed)
            assert (
                f"{cls}: {len(mixed)} of {normal + len(mixed)} training images are anomalous"
                in record["dataset"]["notes"]
            )
    assert "0 to do, 2 done" in bench(*noisy, "--seeds", "0,1").stdout
    done = bench(*noisy, "--overlap")
    assert done.returncode == 0 and "noisy-0.2-overlap" in done.stdout
    assert bench("report", "--results", "out", "--out", "reports", "--format", "markdown").returncode == 0
    page = "".join(path.read_text() for path in (tmp_path / "reports").rglob("*.md"))
    parted = "one model for all classes, 20 % of the training images anomalous, "
    assert f"{parted}none of them tested" in page and f"{parted}which are tested, too" in page


def test_noise_of_a_semantic_set_is_of_its_other_classes(
    bench: Callable, shapes: Path, tmp_path: Path, small: Callable
) -> None:
    command = [*small("shapes", steps=2), "--data-root", str(shapes), "--results", "out", "--splits", "A"]
    done = bench(*command, "--setting", "noisy", "--rate", "0.1")
    assert done.returncode == 0, done.stdout + done.stderr
    (record,) = found(tmp_path / "out").values()
    assert record["dataset"]["chosen"] and record["dataset"]["train"]["A"] > 2 * TRAIN
    assert not {name.partition("/")[0] for name in record["dataset"]["chosen"]} & {*HALVES["A"]}


def test_seeds_of_a_part_share_its_features(bench: Callable, shapes: Path, tmp_path: Path, small: Callable) -> None:
    command = [*small("shapes", steps=2), "--data-root", str(shapes), "--results", "out"]
    assert bench(*command, "--splits", "A,B", "--seeds", "0,1").returncode == 0
    computed = {
        (record["cell"]["part"], record["cell"]["seed"]): "features" in record["efficiency"]["seconds"]
        for record in found(tmp_path / "out").values()
    }
    assert computed == {("A", 0): True, ("A", 1): False, ("B", 0): True, ("B", 1): False}


def test_a_part_that_was_interrupted_is_taken_up_alone(
    bench: Callable, shapes: Path, tmp_path: Path, small: Callable
) -> None:
    command = [*small("shapes", steps=6), "--data-root", str(shapes), "--results", "out", "--splits", "A,B"]
    assert bench(*command, "--checkpoint-seconds", "0").returncode == 0
    (path,) = (tmp_path / "out").rglob("A-*.json")
    want = json.loads(path.read_text())["scores"]
    path.unlink()

    from bench.run.training import Step

    def killed(*given: object) -> None:
        raise KeyboardInterrupt

    with pytest.MonkeyPatch.context() as patch:
        # the checkpoint of step 3 is written; the process ends before step 4
        step = Step.__call__
        patch.setattr(Step, "__call__", lambda *given: killed() if given[-1] == 4 else step(*given))
        assert bench(*command, "--checkpoint-seconds", "0").returncode == 130
    plan = bench(*command, "--dry-run").stdout
    assert plan.count("interrupted") == 1 and "2 cells: 1 to do, 1 done" in plan
    done = bench(*command)
    assert "resumed at step 4" in done.stderr and table(done.stdout, "2/4 splits")
    assert json.loads(path.read_text())["scores"] == want


def test_a_part_that_another_process_holds_leaves_its_row_incomplete(
    bench: Callable, shapes: Path, tmp_path: Path, small: Callable
) -> None:
    from bench.files import try_lock

    command = [*small("shapes", steps=2), "--data-root", str(shapes), "--results", "out", "--splits", "A,B"]
    assert bench(*command).returncode == 0
    (path,) = (tmp_path / "out").rglob("A-*.json")
    path.unlink()
    with try_lock(path.with_suffix(".lock")) as mine:
        assert mine
        done = bench(*command)
    assert done.returncode == 1 and "shapes A, multi, seed 0: another process" in done.stderr
    assert table(done.stdout, "1/4 splits") and not path.exists()


def test_a_part_that_fails_is_a_record_and_the_others_go_on(
    bench: Callable, tree: Path, tmp_path: Path, small: Callable
) -> None:
    broken = tree / "lines" / "train" / "good" / "003.png"
    broken.write_bytes(broken.read_bytes()[:200])
    done = bench(*small(steps=2), "--data-root", str(tree), "--results", "out", "--setting", "single")
    assert done.returncode == 2 and "FAILED  dinomaly on folder lines, single: " in done.stdout
    assert table(done.stdout, "1/2 classes") == ["–"] * 7
    records = by_part(tmp_path / "out")
    assert records["dots"]["status"] == "done" and records["lines"]["status"] == "failed"
    assert records["lines"]["cell"]["part"] == "lines" and str(broken) in records["lines"]["error"]["message"]


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (["--setting", "few-shot"], ["--shots K"]),
        (["--shots", "2"], ["--shots 2", "--setting few-shot"]),
        (["--setting", "few-shot", "--shots", "99"], ["--shots 99", "6 training images"]),
        (["--setting", "sinlge"], ["sinlge", "Did you mean 'single'?"]),
        (["--classes", "flat"], ["--splits A,B,C,D", "--setting single"]),
        (["--splits", "E"], ["no split 'E'"]),
        (["--setting", "noisy"], ["--rate R"]),
        (["--rate", "0.1"], ["--rate 0.1", "--setting noisy"]),
        (["--setting", "noisy", "--rate", "1.5"], ["--rate 1.5", "(0, 1)"]),
        (["--setting", "noisy", "--rate", "0.9"], ["--rate 0.9", "at most"]),
        (["--setting", "noisi", "--rate", "0.9"], ["Expected --setting noisy"]),
        (["--setting", "single", "--classes", "flut"], ["flut", "Did you mean 'flat'?"]),
    ],
)
def test_what_cannot_be_is_refused(
    bench: Callable, shapes: Path, small: Callable, options: list[str], words: list[str]
) -> None:
    done = bench(*small("shapes"), "--data-root", str(shapes), "--results", "out", *options)
    output = done.stdout + done.stderr
    assert done.returncode == 2 and "Traceback" not in output
    for word in words:
        assert word in output
