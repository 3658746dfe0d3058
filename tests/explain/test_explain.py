"""The gap explained: what rules move is what they move, the parts add up, and what is lacking is said."""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from itertools import pairwise, permutations
from pathlib import Path

import numpy as np
import pytest
from builders.documented_json import same
from PIL import Image

from bench.cli.main import run
from bench.explain.ladder import contributions
from bench.explain.measure import Measured
from bench.explain.rules import Rules
from bench.loading.masks import read_mask_file, to_evaluation
from bench.machine.progress import Silent
from bench.metrics import evaluate_class
from bench.protocol import Protocol
from bench.report.figures.ladders import rungs
from bench.store import explained
from bench.store.evidence import EvidenceFiles
from bench.store.record import Record, read


@pytest.fixture(scope="module")
def kept(
    tmp_path_factory: pytest.TempPathFactory, write_tree: Callable[..., Path], small: Callable[..., list[str]]
) -> Path:
    """The record of a small cell on two of MVTec's classes, by name, with its maps."""
    root = tmp_path_factory.mktemp("explain")
    tree = write_tree(root / "mvtec")
    for old, new in (("dots", "bottle"), ("lines", "screw")):
        (tree / old).rename(tree / new)
    command = [*small("mvtec", steps=2), "--classes", "bottle,screw", "--data-root", str(tree), "--quiet"]
    assert run([*command, "--keep-maps", "--results", str(root / "runs")]) == 0
    return next((root / "runs").rglob("s0*.json"))


@pytest.fixture
def data(kept: Path) -> str:
    return str(next(place for place in kept.parents if place.name == "runs").parent / "mvtec")


def measured(kept: Path, data: str) -> tuple[Record, Measured]:
    record = read(kept)
    return record, Measured(record, EvidenceFiles([kept.parent], (data,)), Silent())


def test_parts_are_means_over_all_orders_and_add_up() -> None:
    rng = np.random.default_rng(0)
    rules = ["a", "b", "c", "d"]
    table = {frozenset(some): float(rng.normal()) for size in range(5) for some in permutations(rules, size)}
    found = contributions(rules, table.__getitem__)
    for rule in rules:
        moved = [
            table[frozenset(order[: order.index(rule) + 1])] - table[frozenset(order[: order.index(rule)])]
            for order in permutations(rules)
        ]
        assert found[rule] == pytest.approx(np.mean(moved), abs=1e-12)
    assert sum(found.values()) == pytest.approx(table[frozenset(rules)] - table[frozenset()], abs=1e-12)
    with pytest.raises(ValueError, match="7 rules"):
        contributions(list("abcdefg"), lambda some: 0.0)


def test_our_end_is_the_record_and_the_other_end_is_measured_directly(kept: Path, data: str) -> None:
    record, of = measured(kept, data)
    theirs = Rules(1.0, "dinomaly", "dataset", 256)
    found = of.explain("pixel/ap", theirs, "")
    assert found.ours == pytest.approx(record.mean["pixel/ap"], abs=1e-12)
    (step,) = found.steps
    assert (step.rule, step.ours, step.theirs) == ("mask_rule", "area", "dinomaly")
    evidence = EvidenceFiles([kept.parent], (data,))
    values = []
    for cls in record.scores:
        _, samples = evidence.samples(record, evidence.images(record)[cls].ids)
        masks = np.zeros((len(samples), 256, 256), bool)
        for place, sample in enumerate(samples):
            if sample.label:
                native = read_mask_file(sample.masks[0])
                masks[place] = to_evaluation(native, Protocol("x", mask_rule="dinomaly"), record.input_size)
        values.append(evaluate_class(evidence.maps(record, cls), masks, metrics=["pixel/ap"])["pixel/ap"])
    assert found.reached == pytest.approx(np.mean(values), abs=1e-12)
    assert step.moved == pytest.approx(found.reached - found.ours, abs=1e-12)


@pytest.mark.parametrize("metric", ["image/auroc", "image/f1max", "pixel/f1max", "pixel/aupro@0.3"])
def test_ladders_add_up(kept: Path, data: str, metric: str) -> None:
    _, of = measured(kept, data)
    theirs = Rules(0.875, "ader", "mask", 256, "pool16-max")
    variant = {"pixel/f1max": "pixel/f1max:grid21", "pixel/aupro@0.3": "pixel/aupro@0.3:grid100"}.get(metric, "")
    found = of.explain(metric, theirs, variant)
    assert len(found.steps) >= 3
    assert math.fsum(step.moved for step in found.steps) == pytest.approx(found.reached - found.ours, abs=1e-12)


def test_a_defect_that_vanishes_becomes_a_normal_image(kept: Path, data: str, tmp_path: Path) -> None:
    import shutil

    copy = shutil.copytree(data, tmp_path / "mvtec")
    mask = next((copy / "bottle" / "ground_truth").rglob("*.png"))
    pixels = np.zeros_like(np.asarray(Image.open(mask)))
    pixels[0, 0] = 255
    Image.fromarray(np.kron(pixels, np.ones((1, 1), pixels.dtype))).save(mask)
    record, of = measured(kept, str(copy))
    theirs = Rules(1.0, "full", "mask", 256)
    found = of.explain("image/ap", theirs, "")
    moved = {step.rule: step.moved for step in found.steps}
    assert set(moved) == {"mask_rule", "label_rule"}
    evidence = EvidenceFiles([kept.parent], (str(copy),))
    values = []
    for cls, images in evidence.images(record).items():
        gone = [cls == "bottle" and mask.stem.startswith(one.rsplit("/", 1)[-1]) for one in images.ids]
        labels = images.labels & ~(np.array(gone) & images.labels)
        values.append(evaluate_class(None, None, images.scores, labels, metrics=["image/ap"])["image/ap"])
    assert found.reached == pytest.approx(np.mean(values), abs=1e-12)


def test_the_command_prints_the_ladder(kept: Path, data: str, capsys: pytest.CaptureFixture[str]) -> None:
    command = ["explain", str(kept), "--paper", "dinomaly_preprint", "--data-root", data, "--quiet"]
    capsys.readouterr()
    assert run([*command, "--json"]) == 0
    facts = same("explain", capsys.readouterr().out)
    ladders = {one["metric"]: one for one in facts["ladders"]}
    assert len(ladders) == 7
    for one in ladders.values():
        ends = one["ours"] + math.fsum(step["moved"] for step in one["steps"]) + one["unexplained"]
        assert ends == pytest.approx(one["published"], abs=1e-12)
        assert "recomputed over 2 classes" in one["where"]
    assert run([*command, "--metrics", "pixel/aupro@0.3"]) == 0
    said = capsys.readouterr().out
    assert "centre 0.875" in said and "pixel/aupro@0.3:grid200" in said and "unexplained" in said
    assert run([*command, "--metrics", "pixel/ap", "--markdown"]) == 0
    assert "| rule | ours -> theirs | percent |" in capsys.readouterr().out


def test_kept_ladders_are_drawn_in_the_page_as_long_as_they_are_of_the_record(
    kept: Path, data: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    record, metrics = read(kept), "pixel/ap,pixel/aupro@0.3"
    command = ["explain", str(kept), "--paper", "dinomaly_preprint", "--data-root", data, "--quiet"]
    assert run([*command, "--metrics", metrics, "--keep"]) == 0
    assert "next: bench report" in capsys.readouterr().err
    path = explained.place(kept, "dinomaly_preprint")
    found = explained.read(path)
    assert [one.metric for one in found.ladders] == metrics.split(",") and found.of(record)
    for one in found.ladders:
        bars = rungs(one)
        assert [bars[0][0], bars[-2][0], bars[-1][0]] == ["ours", "unexplained", "published"]
        # each bar begins where the one before ends, up to the published number
        assert all(start == pytest.approx(end) for (_, _, end), (_, start, _) in pairwise(bars[:-1]))
        assert bars[-2][2] == pytest.approx(bars[-1][2])
    assert run(["report", "--results", str(kept.parent), "--data-root", data, "--out", str(tmp_path / "one")]) == 0
    page = (tmp_path / "one" / "report.html").read_text(encoding="utf-8")
    assert "differs from dinomaly_preprint" in page and "mask rule" in page and "unexplained" in page
    # of other numbers, or damaged, it is nobody's explanation
    text = path.read_text()
    try:
        for other in (text.replace(record.cell.fingerprint, "0" * 12), text.replace('"ours": 0', '"ours": 1'), "{"):
            path.write_text(other)
            assert EvidenceFiles([kept.parent], (data,)).explained(record) == []
    finally:
        path.unlink()


def test_what_is_lacking_or_mistyped_is_said(
    kept: Path, data: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for arguments, said in (
        (["--paper", "vitat"], "Did you mean 'vitad'?"),
        (["--paper", "vitad", "--method", "nobody"], "prints no number of nobody"),
        (["--paper", "dinomaly_preprint", "--metrics", "pixel/aupro@0.05"], "has no pixel/aupro@0.05"),
        (["--paper", "dinomaly_preprint", "--method", "simplenet"], "is not known"),
    ):
        assert run(["explain", str(kept), "--data-root", data, *arguments]) == 2
        assert said in capsys.readouterr().err
    assert run(["explain", str(kept), "--paper", "dinomaly_preprint", "--data-root", f"mvtec={tmp_path}"]) == 2
    alone = tmp_path / kept.name
    alone.write_bytes(kept.read_bytes())
    assert run(["explain", str(alone), "--paper", "dinomaly_preprint", "--data-root", data]) == 2
    assert "not beside the record" in capsys.readouterr().err


def test_maps_of_another_program_are_kept_and_explained(
    kept: Path, data: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    record = read(kept)
    evidence = EvidenceFiles([kept.parent], (data,))
    maps = {
        one: np.asarray(of)
        for cls, images in evidence.images(record).items()
        for one, of in zip(images.ids, evidence.maps(record, cls), strict=True)
    }
    np.savez(tmp_path / "maps.npz", **maps)
    command = ["score", "--method", "theirs", "--datasets", "mvtec", "--classes", "bottle,screw", "--data-root", data]
    out = tmp_path / "scored"
    assert run([*command, "--maps", str(tmp_path / "maps.npz"), "--keep-maps", "--results", str(out)]) == 0
    (scored,) = out.rglob("s0*.json")
    again = read(scored)
    assert again.mean["pixel/ap"] == record.mean["pixel/ap"] and again.maps is not None
    capsys.readouterr()
    arguments = ["--paper", "dinomaly_preprint", "--method", "dinomaly", "--metrics", "pixel/ap", "--json"]
    assert run(["explain", str(scored), "--data-root", data, *arguments]) == 0
    (one,) = json.loads(capsys.readouterr().out)["ladders"]
    assert one["ours"] == pytest.approx(record.mean["pixel/ap"], abs=1e-12)
    assert run([*command, "--scores", "x.csv", "--keep-maps", "--results", str(out)]) == 2
    assert "no maps to keep" in capsys.readouterr().err
