from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from made_records import made

from bench.checks.paired import compare, pairs
from bench.metrics import evaluate_class
from bench.protocol import COMMON
from bench.stats import delong
from bench.store import record as records
from bench.store.evidence import EvidenceFiles
from bench.store.facts import ClassScores
from bench.store.record import Record

IMAGES = 80
LABELS = [index % 2 for index in range(IMAGES)]


def kept(folder: Path, method: str, apart: dict[str, float], seed: int = 0, **more: object) -> Record:
    """A record whose per-image scores lie beside it: noise, plus `apart` for the anomalous images of each class."""
    rows: dict[str, list[object]] = {name: [] for name in ("id", "class", "defect", "label", "score")}
    values = {}
    for cls, gap in apart.items():
        shared = np.random.default_rng(len(cls)).normal(size=IMAGES)
        noise = np.random.default_rng(sum(map(ord, method)) + 97 * seed).normal(size=IMAGES)
        own = shared + 0.1 * noise + gap * np.array(LABELS)
        found = evaluate_class(None, None, own, LABELS)
        values[cls] = ClassScores(values=dict(found), undefined=found.reasons)
        for index in range(IMAGES):
            row = (f"{cls}/{index}", cls, "bad" if LABELS[index] else "good", LABELS[index], float(own[index]))
            for name, entry in zip(rows, row, strict=True):
                rows[name].append(entry)
    record = made(method, values=values, levels=dict.fromkeys(apart, 0.0), seed=seed, **more)  # type: ignore[arg-type]
    path = folder / record.cell.file
    record = record.model_copy(update={"predictions": path.with_suffix(".parquet").name})
    records.write(record, path)
    records.write_predictions(path.with_suffix(".parquet"), rows)
    return record


def test_image_auroc_of_one_seed_has_delongs_interval(tmp_path: Path) -> None:
    good = kept(tmp_path, "good", {"bottle": 3.0, "screw": 1.0})
    poor = kept(tmp_path, "poor", {"bottle": 0.5, "screw": 1.0})
    evidence = EvidenceFiles([tmp_path])
    (pair,) = pairs([good], [poor])
    found = compare(*pair, ["image/auroc"], evidence)
    lines = {line.line: line for line in found.lines if line.metric == "image/auroc"}
    assert list(lines) == ["bottle", "screw", "mean"] and {line.by for line in lines.values()} == {"DeLong"}
    images = [evidence.images(record)["bottle"] for record in (good, poor)]
    expected = delong(images[0].labels, images[0].scores, images[1].scores)
    assert lines["bottle"].interval == pytest.approx(expected.interval(0.95))
    assert (lines["bottle"].holds, lines["screw"].holds) == ("yes", "no")
    assert lines["bottle"].difference == pytest.approx(expected.value)
    # the other way round every sign turns
    back = compare(pair[1], pair[0], ["image/auroc"], evidence)
    (turned,) = (line for line in back.lines if line.line == "bottle")
    assert turned.interval == pytest.approx((-lines["bottle"].interval[1], -lines["bottle"].interval[0]))


def test_several_seeds_are_bootstrapped_over_the_same_images(tmp_path: Path) -> None:
    good = [kept(tmp_path, "good", {"bottle": 3.0}, seed) for seed in (0, 1)]
    same = [kept(tmp_path, "same", {"bottle": 3.0}, seed) for seed in (0, 1)]
    poor = [kept(tmp_path, "poor", {"bottle": 0.5}, seed) for seed in (0, 1)]
    for other, holds in ((poor, "yes"), (same, "no")):
        (pair,) = pairs(good, other)
        found = compare(*pair, ["image/ap"], EvidenceFiles([tmp_path]))
        (line, mean) = (line for line in found.lines if line.metric == "image/ap")
        assert line.by == "images" and line.interval == mean.interval and line.interval is not None
        low, high = line.interval
        assert low <= (line.difference or 0.0) <= high and line.holds == holds
    # drawn alike, two methods with nearly the same scores differ by far less than each one's own interval
    assert high - low < 0.05


def test_without_files_the_seeds_decide_and_the_reason_is_given() -> None:
    def side(method: str, levels: tuple[float, ...]) -> list[Record]:
        return [made(method, levels={"bottle": level, "screw": level}, seed=seed) for seed, level in enumerate(levels)]

    (pair,) = pairs(side("good", (0.95, 0.951, 0.949)), side("poor", (0.80, 0.802, 0.798)))
    found = compare(*pair, ["image/auroc", "pixel/ap"], EvidenceFiles([]))
    assert {line.by for line in found.lines if line.metric == "pixel/ap"} == {"seeds"}
    assert all(line.holds == "yes" for line in found.lines if line.metric == "pixel/ap")
    assert any("not beside the record" in note for note in found.notes)
    (pair,) = pairs(side("good", (0.95,)), side("poor", (0.80,)))
    alone = compare(*pair, ["image/auroc"], EvidenceFiles([]))
    assert {(line.interval, line.holds) for line in alone.lines} == {(None, "")}


def test_other_rules_are_not_compared_and_named() -> None:
    strict = replace(COMMON, version=2)
    (pair,) = pairs([made("a")], [made("b", protocol=strict)])
    found = compare(*pair, [], EvidenceFiles([]))
    assert not found.lines and "common v1 -> common v2" in found.obstacles[0]


def test_two_runs_of_one_method_say_how_they_differ() -> None:
    (pair,) = pairs([made("a")], [made("a", config={"dropout": 0.0})])
    assert compare(*pair, [], EvidenceFiles([])).notes == ("config dropout 0.2 -> 0.0",)


def test_the_command_compares_methods_and_files(bench: Callable, tmp_path: Path) -> None:
    good = kept(tmp_path / "runs", "good", {"bottle": 3.0, "screw": 1.0})
    poor = kept(tmp_path / "runs", "poor", {"bottle": 0.5, "screw": 1.0})
    done = bench("compare", "good", "poor", "--results", "runs")
    assert done.stderr.endswith("next: bench report --results runs --methods good,poor\n")
    assert done.returncode == 0 and "DeLong" in done.stdout and "yes" in done.stdout, done.stdout + done.stderr
    heads = [line for line in done.stdout.splitlines() if line.startswith(("line ", "metric "))]
    assert heads and all(line.split()[-1] == "significant" for line in heads)
    # a dash has its reason below the tables
    (why,) = [line for line in done.stdout.splitlines() if line.startswith("– no interval")]
    assert "image/ap" in why and "--metrics" in why and "image/auroc" not in why
    files = [str(tmp_path / "runs" / record.cell.file) for record in (good, poor)]
    again = bench("compare", *files)
    assert "next:" not in again.stderr
    assert again.stdout == done.stdout
    records.write(made("strict", protocol=replace(COMMON, version=2)), tmp_path / "runs" / "x.json")
    done = bench("compare", "good", "strict", "--results", "runs")
    assert done.returncode == 1 and "not comparable: protocol" in done.stdout
    for arguments, word in (
        (("good", "por"), "Did you mean 'poor'"),
        (("good", "poor", "--datasets", "visa"), "no record of good on visa"),
        (("good", "runs"), "Expected those of one method"),
        (("good", "poor", "--metrics", "image/auc"), "auroc"),
    ):
        done = bench("compare", *arguments, "--results", "runs")
        assert done.returncode == 2 and word in done.stderr, (arguments, done)


def test_kept_maps_give_pixel_intervals(bench: Callable, tree: Path, small: Callable) -> None:
    for steps in (1, 6):
        done = bench(*small(steps=steps), "--data-root", str(tree), "--results", f"r{steps}", "--keep-maps")
        assert done.returncode == 0, done.stderr
    done = bench("compare", "r6", "r1", "--metrics", "pixel/auroc", "--data-root", str(tree))
    assert done.returncode == 0, done.stderr
    lines = [line.split() for line in done.stdout.splitlines() if line.startswith(("dots", "lines", "mean "))]
    assert len(lines) == 3 and all("images" in line for line in lines), done.stdout
    assert "config steps 6 -> 1" in done.stdout
