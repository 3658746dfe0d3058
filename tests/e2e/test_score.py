"""`bench score`: what other programs write is found, refused, or scored as bench scores its own."""

from __future__ import annotations

import csv
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as parquet
import pytest
from made_tiffs import tiff
from PIL import Image

from bench.api import Sample
from bench.datasets.folder import Folder
from bench.loading.masks import to_evaluation
from bench.metrics import evaluate_class
from bench.protocol import COMMON
from bench.registry import DATASETS
from bench.store import record as records

Maps = dict[str, np.ndarray]


@pytest.fixture
def maps(tree: Path) -> Maps:
    """An anomaly map at its image's size for each test image: noise, and the true defect for most."""
    rng = np.random.default_rng(0)
    found = {}
    for sample in Folder(tree).samples():
        if sample.split == "test":
            values = rng.random((48, 48)).astype(np.float32)
            if sample.label and not sample.id.endswith("002"):
                values += Folder(tree).read_mask(sample)
            found[sample.id] = values
    return found


def write(folder: Path, maps: Maps, kind: str) -> Path:
    for name, values in maps.items():
        path = folder / f"{name}.{kind}"
        path.parent.mkdir(parents=True, exist_ok=True)
        if kind == "npy":
            np.save(path, values)
        elif kind == "npz":
            np.savez_compressed(path, values[None])
        elif kind == "tiff":
            Image.fromarray(values, "F").save(path)
        else:
            Image.fromarray((values * 20_000).astype(np.uint16)).save(path)
    return folder


def table(path: Path, scores: dict[str, object], header: str = "id,score") -> Path:
    path.write_text("\n".join([header, *(f"{name},{score}" for name, score in scores.items())]) + "\n")
    return path


@pytest.fixture
def score(bench: Callable, tree: Path) -> Callable[..., Any]:
    def call(*arguments: object, method: str = "theirs") -> Any:
        given = ("--method", method, "--datasets", "folder", "--data-root", str(tree), "--results", "out")
        return bench("score", *given, *(str(argument) for argument in arguments))

    return call


def recorded(tmp_path: Path) -> dict[str, Any]:
    (path,) = (tmp_path / "out").rglob("s*.json")
    return json.loads(path.read_text())


def test_a_folder_of_ones_own_has_the_name_that_a_run_gives_it(
    bench: Callable, maps: Maps, tree: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(DATASETS, "targets", dict(DATASETS.targets))
    given = ("score", "--method", "theirs", "--datasets", f"{tree}/", "--results", "out")
    done = bench(*given, "--maps", str(write(tmp_path / "maps", maps, "npy")))
    assert done.returncode == 0, done.stderr
    assert recorded(tmp_path)["cell"]["dataset"] == tree.name
    assert done.stderr.endswith("next: bench report --results out\n")


@pytest.mark.parametrize("kind", ["npy", "npz", "tiff"])
def test_maps_are_scored_whatever_holds_them(score: Callable, maps: Maps, tmp_path: Path, kind: str) -> None:
    done = score("--maps", write(tmp_path / "maps", maps, kind), "--set", "epochs=3", "--encoder", "ResNet-18")
    assert done.returncode == 0, done.stderr
    assert "theirs on folder, multi" in done.stdout and "another program's output" in done.stdout
    record = recorded(tmp_path)
    assert record["config"] == {"epochs": "3"} and record["encoder"]["name"] == "ResNet-18"
    assert record["external"]["map_sizes"] == ["48x48"] and "bilinear" in record["external"]["resized"]
    assert record["external"]["image_score"] == "max" and record["training"] is None
    assert 0.75 < record["mean"]["pixel/auroc"] < 1 and record["mean"]["image/auroc"] < 1
    (path,) = (tmp_path / "out").rglob("s*.json")
    assert records.read(path).external is not None
    rows = parquet.read_table(path.with_suffix(".parquet")).to_pydict()
    assert sorted(rows["id"]) == sorted(maps)


def test_a_png_keeps_the_order_of_its_integers(score: Callable, maps: Maps, tmp_path: Path) -> None:
    assert score("--maps", write(tmp_path / "maps", maps, "png")).returncode == 0
    assert recorded(tmp_path)["mean"]["pixel/auroc"] > 0.75


def test_one_npz_and_mvtecs_layout_give_what_single_files_give(score: Callable, maps: Maps, tmp_path: Path) -> None:
    np.savez(tmp_path / "all.npz", **maps)
    write(tmp_path / "sent" / "anomaly_maps", maps, "tiff")
    found = []
    for place in ("all.npz", "sent"):
        assert score("--maps", place, method=f"from-{place}").returncode == 0
    for path in sorted((tmp_path / "out").rglob("s*.json")):
        found.append(json.loads(path.read_text())["scores"])
    assert len(found) == 2 and found[0] == found[1]


@pytest.mark.parametrize("kind", ["npy", "npz", "tiff"])
@pytest.mark.parametrize("dtype", ["float64", "int32", "int64", "uint64"])
def test_no_map_is_narrowed_on_its_way_to_the_rank(
    score: Callable, tree: Path, tmp_path: Path, dtype: str, kind: str
) -> None:
    truth = {sample.id: at_256(Folder(tree).read_mask(sample)) for sample in scored(tree)}
    rng = np.random.default_rng(0)
    maps = {}
    for name, mask in truth.items():
        order = rng.integers(0, 100, mask.shape) + 100 * mask
        if dtype == "float64":
            maps[name] = 1 - (200 - order) * 2.0**-53
        else:
            maps[name] = np.iinfo(dtype).max - (200 - order).astype(dtype)
    write_exactly(tmp_path / "maps", maps, kind)
    scores = table(tmp_path / "s.csv", {name: float(mask.any()) for name, mask in truth.items()})
    done = score("--maps", tmp_path / "maps", "--scores", scores)
    assert done.returncode == 0, done.stderr
    record = recorded(tmp_path)
    pixels = [metric for metric in record["mean"] if metric.startswith("pixel/")]
    for values in (*(one["values"] for one in record["scores"].values()), record["pooled"]["values"]):
        assert [values[metric] for metric in pixels] == [1.0] * 4
    one = {name: maps[name] for name in maps if name.startswith("dots/")}
    stacked = np.stack(list(one.values()))
    stacked[0, :9] = stacked.max()  # no longer perfect
    np.savez(tmp_path / "all.npz", **maps | dict(zip(one, stacked, strict=True)))
    assert score("--maps", tmp_path / "all.npz", "--scores", scores, "--classes", "dots", method="b").returncode == 0
    (path,) = (tmp_path / "out" / "folder" / "b").rglob("s*.json")
    expected = evaluate_class(stacked, np.stack([truth[name] for name in one]), metrics=pixels)
    found = json.loads(path.read_text())["scores"]["dots"]["values"]
    assert {metric: found[metric] for metric in pixels} == dict(expected)
    assert 0.9 < found["pixel/auroc"] < 1


def scored(tree: Path) -> list[Sample]:
    return [sample for sample in Folder(tree).samples() if sample.split == "test"]


def at_256(mask: np.ndarray) -> np.ndarray:
    return to_evaluation(mask, COMMON, COMMON.eval_size)


def write_exactly(folder: Path, maps: Maps, kind: str) -> None:
    for name, values in maps.items():
        path = folder / f"{name}.{kind}"
        path.parent.mkdir(parents=True, exist_ok=True)
        if kind == "npy":
            np.save(path, values)
        elif kind == "npz":
            np.savez(path, values)
        else:
            path.write_bytes(tiff(values))


def test_a_saturated_map_of_another_size_keeps_its_order(score: Callable, maps: Maps, tmp_path: Path) -> None:
    close = {name: 1 - 1e-12 * (3 - values.astype(np.float64)) for name, values in maps.items()}
    wide = {name: values.astype(np.float64) for name, values in maps.items()}
    for method, given in (("close", close), ("wide", wide)):
        np.savez(tmp_path / f"{method}.npz", **given)
        assert score("--maps", f"{method}.npz", "--map-size", "48", method=method).returncode == 0
    one, two = (json.loads(path.read_text())["mean"] for path in sorted((tmp_path / "out").rglob("s*.json")))
    assert one == {metric: pytest.approx(value, abs=1e-3) for metric, value in two.items()}
    assert 0.75 < two["pixel/auroc"] < 1


def test_maps_of_several_types_are_ranked_together(score: Callable, maps: Maps, tmp_path: Path) -> None:
    kinds = ("float16", "float32", "float64", "int64")
    whole = {name: np.kron(np.round(values * 100), np.ones((16, 16)))[:256, :256] for name, values in maps.items()}
    mixed = {name: values.astype(kinds[place % 4]) for place, (name, values) in enumerate(whole.items())}
    for method, given in (("a", mixed), ("b", whole)):
        np.savez(tmp_path / "all.npz", **given)
        assert score("--maps", "all.npz", method=method).returncode == 0
    one, two = (json.loads(path.read_text()) for path in sorted((tmp_path / "out").rglob("s*.json")))
    assert one["scores"] == two["scores"] and one["pooled"] == two["pooled"]
    mixed[next(iter(mixed))] = np.full((256, 256), 2**53 + 1)
    np.savez(tmp_path / "all.npz", **mixed)
    done = score("--maps", "all.npz", method="c")
    assert done.returncode == 2 and "int64 from 9007199254740993" in done.stderr


def test_image_scores_that_float64_would_make_equal_are_refused(score: Callable, maps: Maps, tmp_path: Path) -> None:
    given = {name: np.full((256, 256), 2**53 + place) for place, name in enumerate(maps)}
    np.savez(tmp_path / "all.npz", **given)
    done = score("--maps", "all.npz")
    assert done.returncode == 2 and "score 9007199254740993 is equal in float64 to another" in done.stderr
    assert not (tmp_path / "out").exists()


def test_every_map_is_looked_at_before_one_is_scored(score: Callable, maps: Maps, tmp_path: Path) -> None:
    *_, last = maps
    np.savez(tmp_path / "all.npz", **maps | {last: np.zeros((9000, 9000), np.uint8)})
    done = score("--maps", "all.npz")
    assert done.returncode == 2 and f"all.npz[{last}]: 9000x9000. Expected 256x256 or its image, 48x48" in done.stderr
    assert "scoring" not in done.stdout


def test_benchs_own_maps_and_scores_come_back_to_the_same_record(
    bench: Callable, score: Callable, tree: Path, tmp_path: Path, small: Callable
) -> None:
    assert bench(*small(steps=2), "--data-root", str(tree), "--results", "own", "--keep-maps").returncode == 0
    (path,) = (tmp_path / "own").rglob("s*.json")
    rows = parquet.read_table(path.with_suffix(".parquet")).to_pydict()
    kept = {cls: iter(np.load(path.with_suffix(".maps") / f"{cls}.npy")) for cls in ("dots", "lines")}
    maps = {name: next(kept[cls]) for name, cls in zip(rows["id"], rows["class"], strict=True)}
    scores = table(tmp_path / "scores.csv", dict(zip(rows["id"], map(repr, rows["score"]), strict=True)))
    done = score("--maps", write(tmp_path / "maps", maps, "npy"), "--scores", scores)
    assert done.returncode == 0, done.stderr
    own, theirs = json.loads(path.read_text()), recorded(tmp_path)
    for part in ("scores", "pooled", "protocol", "dataset"):
        assert theirs[part] == own[part], part
    assert theirs["external"]["resized"] == "" and theirs["external"]["image_score"] == "given"


def test_scores_alone_leave_pixel_columns_empty(score: Callable, maps: Maps, tmp_path: Path) -> None:
    scores = {f"{name}.png".replace("/", "\\"): float("good" not in name) for name in maps}
    done = score("--scores", table(tmp_path / "s.csv", scores))
    assert done.returncode == 0, done.stderr
    mean = recorded(tmp_path)["mean"]
    assert mean["image/auroc"] == 1.0 and mean["pixel/auroc"] is None


def test_single_makes_a_record_a_class(score: Callable, maps: Maps, tmp_path: Path) -> None:
    assert score("--maps", write(tmp_path / "maps", maps, "npy"), "--setting", "single").returncode == 0
    assert sorted(path.name.partition("-")[0] for path in (tmp_path / "out").rglob("s*.json")) == []
    assert len(list((tmp_path / "out").rglob("*.json"))) == 2


def test_other_sizes_are_refused_unless_stated(score: Callable, maps: Maps, tmp_path: Path) -> None:
    smaller = write(tmp_path / "maps", {name: values[:32, :32] for name, values in maps.items()}, "npy")
    done = score("--maps", smaller)
    assert done.returncode == 2 and "32x32. Expected 256x256 or its image, 48x48" in done.stderr
    assert score("--maps", smaller, "--map-size", "32").returncode == 0
    done = score("--maps", smaller, "--map-size", "31")
    assert done.returncode == 2 and "31x31" in done.stderr


def test_missing_and_doubled_are_named(score: Callable, maps: Maps, tmp_path: Path) -> None:
    folder = write(tmp_path / "maps", maps, "npy")
    np.save(folder / "dots/test/good/000.npz.npy", np.ones((48, 48)))
    Image.fromarray(np.ones((48, 48), np.uint8)).save(folder / "dots/test/good/000.png")
    done = score("--maps", folder)
    assert done.returncode == 2 and "two maps for 'dots/test/good/000'" in done.stderr
    for path in (folder / "dots/test/good").glob("000*"):
        path.unlink()
    done = score("--maps", folder)
    assert done.returncode == 2 and "1 of 10 test images have no map: dots/test/good/000" in done.stderr
    strange = write(tmp_path / "strange", {f"x{i}": values for i, values in enumerate(maps.values())}, "npy")
    done = score("--maps", strange)
    assert done.returncode == 2 and "'x0'" in done.stderr and "dots/test/good/000" in done.stderr
    half = dict.fromkeys(list(maps)[:9], 1.0)
    done = score("--scores", table(tmp_path / "s.csv", half))
    assert done.returncode == 2 and "1 of 10 test images have no score" in done.stderr
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("text", "word"),
    [
        (b"", "an empty table"),
        (b"a,b\n1,2\n", "no column id, score but 'a', 'b'"),
        (b"id,score\n", "no scores"),
        (b"id,score\na,0,5\n", "line 2: 3 fields. Expected 2, as in the header: a decimal comma?"),
        (b"id,score,score\na,1,0\n", "column 'score' is named 2 times"),
        (b"id,score,\na,0,5\n", "column 3 of 3 has no title"),
        (b"id,score\na,high\n", "line 2: score 'high'"),
        (b"id,score\na\n", "line 2: 1 field. Expected 2"),
        (b"id,score\na,1\na,2\n", "line 3: 'a' for the second time"),
    ],
)
def test_malformed_tables_are_refused(score: Callable, tmp_path: Path, text: bytes, word: str) -> None:
    (tmp_path / "s.csv").write_bytes(text)
    done = score("--scores", "s.csv")
    assert done.returncode == 2 and word in done.stderr, done.stderr


class Evil:
    def __reduce__(self) -> tuple[Any, ...]:
        return Path.touch, (Path("executed"),)


def hostile(folder: Path) -> dict[str, Path]:
    """Files that are no map, by what is wrong with them."""
    folder.mkdir()
    made = {name: folder / f"{name}.npy" for name in ("pickle", "text", "empty", "cut", "huge", "nan", "words", "flat")}
    np.save(made["pickle"], np.array([Evil()], dtype=object), allow_pickle=True)
    made["text"].write_text("no array")
    made["empty"].write_bytes(b"")
    np.save(made["cut"], np.ones((48, 48)))
    made["cut"].write_bytes(made["cut"].read_bytes()[:-100])
    header = b"{'descr': '<f4', 'fortran_order': False, 'shape': (99999999, 99999999), }"
    made["huge"].write_bytes(b"\x93NUMPY\x01\x00" + len(header + b"\n").to_bytes(2, "little") + header + b"\n")
    np.save(made["nan"], np.full((48, 48), np.nan))
    np.save(made["words"], np.full((48, 48), "a"))
    np.save(made["flat"], np.ones(48))
    made["colour"] = folder / "colour.png"
    Image.fromarray(np.zeros((48, 48, 3), np.uint8)).save(made["colour"])
    made["cut picture"] = folder / "cut.tiff"
    Image.fromarray(np.ones((48, 48), np.float32)).save(made["cut picture"])
    made["cut picture"].write_bytes(made["cut picture"].read_bytes()[:-500])
    made["no zip"] = folder / "no.npz"
    made["no zip"].write_bytes(b"PK\x03\x04 and nothing more")
    made["two"] = folder / "two.npz"
    np.savez(made["two"], a=np.ones((48, 48)), b=np.ones((48, 48)))
    return made


def test_hostile_maps_are_refused_with_their_name_and_never_executed(
    score: Callable, maps: Maps, tmp_path: Path
) -> None:
    bad = hostile(tmp_path / "bad")
    folder = write(tmp_path / "maps", maps, "npy")
    victim = folder / "dots/test/good/000.npy"
    victim.unlink()
    for what, path in bad.items():
        placed = victim.with_suffix(path.suffix)
        placed.write_bytes(path.read_bytes())
        done = score("--maps", folder)
        assert done.returncode == 2 and "000" in done.stderr and "Traceback" not in done.stderr, (what, done)
        assert "unexpected error" not in done.stderr, (what, done.stderr)
        placed.unlink()
    assert not (tmp_path / "executed").exists() and not (tmp_path / "out").exists()


def test_names_that_cannot_be_are_refused(score: Callable, tmp_path: Path) -> None:
    for arguments, method, word in (
        ((), "x", "nothing to score"),
        (("--maps", "nowhere"), "x", "no such folder"),
        (("--maps", "nowhere"), "../x", "expected a name"),
        (("--maps", "nowhere"), "dinomaly", "bench's own"),
        (("--maps", "nowhere", "--setting", "few-shot"), "x", "few-shot"),
        (("--maps", "nowhere", "--image-score", "sum"), "x", "max, top1%, pool16-max"),
        (("--maps", "nowhere", "--set", "x"), "x", "key=value"),
        (("--maps", tmp_path, "--setting", "many"), "x", "unknown setting 'many'"),
        (("--maps", tmp_path / "tree" / "dots" / "train"), "x", "no map fits a test image"),
    ):
        done = score(*arguments, method=method)
        assert done.returncode == 2 and word in done.stderr, (arguments, done)


def test_image_scores_can_be_read_back(score: Callable, maps: Maps, tmp_path: Path) -> None:
    folder = write(tmp_path / "maps", maps, "npy")
    assert score("--maps", folder, "--image-score", "top1%").returncode == 0
    (path,) = (tmp_path / "out").rglob("s*.parquet")
    rows = parquet.read_table(path).to_pydict()
    scores = dict(zip(rows["id"], rows["score"], strict=True))
    with (tmp_path / "again.csv").open("w", newline="") as file:
        csv.writer(file).writerows([("id", "score"), *scores.items()])
    assert score("--maps", folder, "--scores", "again.csv", method="again").returncode == 0
    one, two = (json.loads(found.read_text()) for found in sorted((tmp_path / "out").rglob("s*.json")))
    assert one["scores"] == two["scores"]
