"""One model over several datasets: their classes side by side, each dataset read as it is by itself."""

from __future__ import annotations

import json
import pickle
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
from layouts import write_btad, write_loco, write_mpdd, write_vad

from bench import combined
from bench.api import Dataset
from bench.cli.main import run
from bench.errors import UsageError
from bench.registry import DATASETS
from bench.store.agreement import mean

BOTH = "mpdd+btad"


@pytest.fixture(autouse=True)
def _forgotten() -> Iterator[None]:
    """Combinations are known to the process that named them; tests shall not see each other's."""
    yield
    for name in [name for name in DATASETS.targets if combined.names(name)]:
        DATASETS.targets.pop(name)
        DATASETS._loaded.pop(name)


@pytest.fixture
def data(tmp_path: Path) -> Path:
    write_mpdd(tmp_path / "data")
    write_btad(tmp_path / "data")
    return tmp_path / "data"


def opened(name: str, *roots: str) -> Dataset:
    combined.register(name)
    kind = DATASETS.load(name)
    return kind(kind.locate(combined.roots(name, roots)))  # type: ignore[arg-type]


def test_every_image_is_that_of_its_own_dataset(data: Path) -> None:
    both = opened(BOTH, str(data))
    samples = both.samples()
    alone = {name: DATASETS.load(name)(DATASETS.load(name).locate(data)) for name in combined.names(BOTH)}
    expected = [(name, one) for name, dataset in alone.items() for one in dataset.samples()]
    assert [(one.cls, one.id, one.image, one.masks, one.label, one.split) for one in samples] == [
        (f"{name}/{one.cls}", f"{name}/{one.id}", one.image, one.masks, one.label, one.split) for name, one in expected
    ]
    assert samples == both.samples() and len({one.id for one in samples}) == len(samples)
    bad = next(one for one in samples if one.label)
    assert np.array_equal(both.read_mask(bad), alone["mpdd"].read_mask(next(one for _, one in expected if one.label)))
    assert (
        both.card.classes[0] == "mpdd/bracket_black" and both.card.counts["btad/01"] == alone["btad"].card.counts["01"]
    )


def test_roots_may_be_named_for_each_dataset(data: Path, tmp_path: Path) -> None:
    (tmp_path / "elsewhere").mkdir()
    (data / "BTech_Dataset_transformed").rename(tmp_path / "elsewhere/BTech_Dataset_transformed")
    both = opened(BOTH, f"mpdd={data}", f"btad={tmp_path / 'elsewhere'}")
    assert {one.cls.partition("/")[0] for one in both.samples()} == {"mpdd", "btad"}
    assert isinstance(both, combined.Combined)
    assert combined.recorded(BOTH, str(both.roots)) == both.roots
    assert combined.recorded(BOTH, f"mpdd={data}") is None


def test_workers_make_it_again(data: Path) -> None:
    both = opened(BOTH, str(data))
    again = pickle.loads(pickle.dumps(both))
    assert again.samples() == both.samples() and again.card == both.card


def test_defects_are_those_of_the_dataset_that_has_them(tmp_path: Path) -> None:
    write_loco(tmp_path / "mvtec_loco_anomaly_detection")
    write_vad(tmp_path)
    both = opened("mvtec_loco+vad", str(tmp_path))
    found = {one.cls: both.read_defects(one) for one in both.samples() if one.label}
    assert found["mvtec_loco/juice_bottle"] and found["vad/vad"] is None
    assert both.card.masks == "optional" and both.metrics == ()
    assert any(note.startswith("3 anomalous images") for cls, note in both.notes if cls == "vad/vad")


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("mpdd+mpdd", "a dataset twice"),
        ("mpdd+fmnist", "fmnist are normal or not only by a half-split"),
        ("dtd+mpdd", "dtd are a source of textures"),
        ("mpdd+btda", "unknown dataset 'btda'. Did you mean 'btad'"),
    ],
)
def test_what_does_not_go_together_is_refused(name: str, words: str) -> None:
    with pytest.raises(UsageError, match=words):
        combined.register(name)
    assert name not in DATASETS.targets


def test_a_combined_cell_is_run_found_again_reported_and_packed(
    data: Path, tmp_path: Path, small: Callable[..., list[str]], capsys: pytest.CaptureFixture[str]
) -> None:
    roots = ["--data-root", str(data)]
    command = [*small(BOTH, steps=2), *roots, "--results", str(tmp_path / "runs"), "--keep-maps", "--calibrate", "0.34"]
    assert run([*command, "-q"]) == 0
    said = capsys.readouterr().out
    assert "mean of 2 of mpdd" in said and "mean of 3 of btad" in said
    (path,) = (tmp_path / "runs").rglob("s0-*.json")
    record = json.loads(path.read_text())
    scores = {cls: one["values"]["pixel/ap"] for cls, one in record["scores"].items()}
    assert record["mean"]["pixel/ap"] == pytest.approx(mean(scores.values()), abs=1e-15)
    assert run([*command, "--dry-run"]) == 0
    assert "0 to do, 1 done" in capsys.readouterr().out
    out = tmp_path / "reports"
    assert run(["report", "--results", str(tmp_path / "runs"), "--out", str(out), "--format", "markdown,html"]) == 0
    table = (out / "tables.md").read_text()
    lines = [line.split(" | ") for line in table.splitlines() if line.startswith("| *mean of 3 of btad*")]
    own = mean(value for cls, value in scores.items() if cls.startswith("btad/"))
    assert own is not None and lines[0][5] == f"{100 * own:.1f}"
    assert "Hardest images" in (out / "report.html").read_text(), "pictures are found by the recorded roots"
    pack = ["pack", str(tmp_path / "runs"), "--out", str(tmp_path / "pack.zip"), "-q"]
    assert run(pack) == 0 and run(["reproduce", str(tmp_path / "pack.zip")]) == 0
    assert run(["check", "--record", "--results", str(tmp_path / "runs"), "--baselines", str(tmp_path / "base")]) == 0
    assert run(["check", "--results", str(tmp_path / "runs"), "--baselines", str(tmp_path / "base")]) == 0


def test_a_combination_is_no_name_of_one_dataset() -> None:
    assert combined.names("mpdd") == () and combined.groups("mpdd", ["a/b"]) == {}
    assert combined.groups("a+b", ["a/x", "b/x", "b/y"]) == {"a": ["a/x"], "b": ["b/x", "b/y"]}
    assert combined.groups("a+b", ["x"]) == {}, "one of the user's own that is called so"
