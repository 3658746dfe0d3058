from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import numpy as np
import pytest
from made_records import made

from bench.checks import baselines, output, speed
from bench.checks.series import series
from bench.checks.tolerance import DEFAULT, FLOOR, MEAN_FLOOR, Tolerances, parse_tolerances
from bench.checks.verdicts import Checked, Comparison, check
from bench.errors import StoreError, UsageError
from bench.protocol import COMMON, SEVEN
from bench.store import record as records
from bench.store.facts import ClassScores
from bench.store.record import Record

CLASSES = ("bottle", "metal_nut", "screw")


def noisy(
    seed: int, *, shift: float = 0.0, metric: str = "", cls: str = "", noise: float = 0.004, **more: Any
) -> Record:
    """A record whose scores wobble with the seed; one metric of one class, or of all, may be moved."""
    rng = np.random.default_rng(seed)
    values = {
        name: ClassScores(
            values={
                one: 0.9 + float(rng.normal(0, noise)) + (shift if one == metric and cls in ("", name) else 0.0)
                for one in SEVEN
            }
        )
        for name in CLASSES
    }
    return made(seed=seed, values=values, levels=dict.fromkeys(CLASSES, 0.0), **more)


def judged(current: list[Record], recorded: list[Record] | None = None, given: Tolerances | None = None) -> Checked:
    (found,) = check(series(recorded or [noisy(seed) for seed in range(5)]), current, given or Tolerances())
    return found


def only(found: Checked) -> Comparison:
    (finding,) = found.findings
    return finding


def save(folder: Path, *found: Record) -> Path:
    for record in found:
        cell = record.cell
        records.write(
            record, folder / cell.dataset / cell.method / cell.setting / f"s{cell.seed}-{cell.fingerprint}.json"
        )
    return folder


# ------------------------------------------------------------------------------------------------------ verdicts
def test_other_seeds_of_the_same_method_pass() -> None:
    # the tolerance is made for one false alarm in about fifty such runs, with five seeds recorded
    alarms = sum(judged([noisy(100 + seed)]).failed for seed in range(50))
    assert alarms <= 3
    several = judged([noisy(seed) for seed in (7, 8, 9)])
    assert not several.failed and len(several.findings) == 7 * 4
    assert several.against == "seeds 7,8,9 against baseline seeds 0,1,2,3,4"


@pytest.mark.parametrize("cls", ["", "screw"])
def test_a_metric_beyond_its_tolerance_by_a_thousandth_is_worse_and_named(cls: str) -> None:
    clean = judged([noisy(7)])
    line = cls or "mean"
    (was,) = (one for one in clean.findings if (one.line, one.metric) == (line, "pixel/ap"))
    assert was.current is not None and was.baseline is not None and was.tolerance is not None
    # from where this seed lies to the lower end of what is allowed
    to_the_edge = was.current - (was.baseline - was.tolerance)
    inside = judged([noisy(7, shift=-(to_the_edge - 1e-3), metric="pixel/ap", cls=cls)])
    assert not [one for one in inside.findings if one.failed and one.line == line]
    beyond = judged([noisy(7, shift=-(to_the_edge + 1e-3), metric="pixel/ap", cls=cls)])
    assert ("worse", line, "pixel/ap") in [(one.verdict, one.line, one.metric) for one in beyond.findings]
    assert beyond.failed and all(one.metric == "pixel/ap" for one in beyond.findings if one.failed)
    better = judged([noisy(7, shift=+0.09, metric="pixel/ap", cls=cls)])
    assert not better.failed and "better" in better.summary


def test_a_changed_protocol_metric_data_encoder_or_setting_of_the_method_is_named() -> None:
    protocol = replace(COMMON, version=2, mask_rule="ader")
    found = only(judged([noisy(7, protocol=protocol)]))
    assert found.verdict == "not comparable" and found.failed
    assert "common v1 -> common v2" in found.reason and "mask_rule area -> ader" in found.reason
    by_other_rules = noisy(7, protocol=replace(COMMON, name="paper:dinomaly", crop=0.875))
    assert "common v1 -> paper:dinomaly v1" in only(judged([by_other_rules])).reason
    newer = noisy(7).model_copy(update={"metric_version": 99})
    assert "metric version 1 -> 99" in only(judged([newer])).reason.replace(f"{noisy(7).metric_version} ->", "1 ->")
    found = only(judged([noisy(7, data="other")]))
    assert found.verdict == "not comparable" and "dataset fingerprint" in found.reason
    record = noisy(7)
    encoder = record.encoder.model_copy(update={"name": "another", "weights_sha256": "9" * 64})
    found = only(judged([record.model_copy(update={"encoder": encoder})]))
    assert "encoder" in found.reason and "another (999999999999)" in found.reason
    found = only(judged([noisy(7, config={"dropout": 0.0})]))
    assert found.verdict == "not comparable" and found.reason == "config dropout 0.2 -> 0.0"


def test_a_setting_that_is_new_and_at_its_published_value_is_no_difference() -> None:
    record = noisy(7)
    grown = record.model_copy(update={"config": {**record.config, "jitter": 0.0}})
    assert not judged([grown]).failed
    used = grown.model_copy(update={"config": {**record.config, "jitter": 1.0}, "changed": ("jitter",)})
    assert only(judged([used])).reason == "config jitter absent -> 1.0"


def test_another_arithmetic_compares_where_it_is_asked_for() -> None:
    record = noisy(7)
    halved = record.model_copy(update={"environment": record.environment.model_copy(update={"precision": "bf16"})})
    assert only(judged([halved])).reason == "precision fp32 -> bf16"
    recorded = series([noisy(seed) for seed in range(5)])
    (found,) = check(recorded, [halved], Tolerances(), any_precision=True)
    assert not found.failed and "precision fp32 -> bf16" in found.notes[0]
    other = halved.model_copy(update={"config": {**record.config, "dropout": 0.0}, "changed": ("dropout",)})
    (found,) = check(recorded, [other], Tolerances(), any_precision=True)
    assert only(found).reason == "config dropout 0.2 -> 0.0"


def test_of_several_configurations_the_one_that_was_recorded_is_checked() -> None:
    assert not judged([noisy(7), noisy(8, config={"dropout": 0.0}, shift=-0.5, metric="image/ap")]).failed


def test_what_is_not_there_is_missing() -> None:
    found = only(judged([noisy(7, method="vitad")]))
    assert found.verdict == "missing" and "no record" in found.reason
    whole = noisy(7)
    scores = {**whole.scores, "screw": ClassScores(values=dict.fromkeys(SEVEN), undefined=dict.fromkeys(SEVEN, "why"))}
    partly = judged([whole.model_copy(update={"scores": scores})])
    gone = {(one.line, one.reason) for one in partly.findings if one.verdict == "missing"}
    assert gone == {("screw", "why"), ("mean", "a class or part has no value")}


def test_a_failed_cell_is_missing_and_says_why() -> None:
    record = noisy(7)
    data = json.loads(record.model_dump_json())
    data |= {"status": "failed", "scores": {}, "mean": {}, "error": {"type": "X", "message": "a\nNaN", "exit_code": 1}}
    assert only(judged([Record(**data)])).reason == "the cell failed: NaN"


def test_parts_of_a_semantic_set_are_lines_and_an_incomplete_row_has_no_mean() -> None:
    def part(name: str, seed: int) -> Record:
        return made("knn", "fmnist", {name: 0.9}, seed=seed, part=name, parts=2, kind="semantic")

    recorded = [part(name, seed) for seed in (0, 1) for name in "AB"]
    assert not judged([part(name, 2) for name in "AB"], recorded).failed
    found = judged([part("A", 2)], recorded)
    assert {(one.line, one.reason) for one in found.findings if one.failed} == {
        ("B", "no such class, part or metric"),
        ("mean", "only 1/2 splits"),
    }


# ----------------------------------------------------------------------------------------------------- tolerance
def test_the_tolerance_follows_the_stated_rule() -> None:
    rule = Tolerances(multiple=2.0)
    own = [0.80, 0.90]
    spread = 0.1 / np.sqrt(2)
    found = rule.of("image/ap", own, [own], 2, mean=False)
    assert found == pytest.approx(2 * spread * np.sqrt(1 / 2 + 1 / 2))
    # a class that happened to repeat itself has at least the classes' common spread
    assert rule.of("image/ap", [0.9, 0.9], [[0.9, 0.9], own], 2, mean=False) == pytest.approx(found / np.sqrt(2))
    assert rule.of("image/ap", [0.85, 0.85], [[0.9, 0.9], own], 2, mean=True) == pytest.approx(found / 2)
    assert rule.of("image/ap", [1.0, 1.0], [[1.0, 1.0]], 1, mean=False) == FLOOR
    assert rule.of("image/ap", [1.0, 1.0], [[1.0, 1.0]], 1, mean=True) == MEAN_FLOOR
    assert rule.of("image/ap", [0.9], [[0.9]], 1, mean=True) == DEFAULT


def test_tolerances_can_be_given() -> None:
    rule = parse_tolerances(["0.002", "pixel/ap=0.05"], 5.0)
    assert rule.of("image/ap", [0.1, 0.9], [], 1, mean=False) == 0.002
    assert rule.of("pixel/ap", [0.1, 0.9], [], 1, mean=False) == 0.05
    for wrong in ("x", "2", "nan", "-0.1", "pixel/ap=", "no/metric=0.1", "=="):
        with pytest.raises(UsageError):
            parse_tolerances([wrong], 5.0)


# ----------------------------------------------------------------------------------------------------- baselines
def test_recording_replaces_the_whole_baseline_of_a_method(tmp_path: Path) -> None:
    folder = tmp_path / "baselines"
    first = baselines.write(series([noisy(seed) for seed in (0, 1)]), folder)
    assert [path.name for path in first.files] == ["mvtec-dinomaly-multi-s0.json", "mvtec-dinomaly-multi-s1.json"]
    baselines.write(series([noisy(0, method="vitad")]), folder)
    again = baselines.write(series([noisy(1), noisy(2)]), folder)
    assert [path.name for path in again.removed] == ["mvtec-dinomaly-multi-s0.json"]
    assert [(one.head.cell.method, one.seeds) for one in baselines.read(folder)] == [
        ("dinomaly", (1, 2)),
        ("vitad", (0,)),
    ]
    two = baselines.write(series([noisy(1), noisy(1, config={"dropout": 0.0})]), folder)
    assert len(set(two.files)) == 2 and len(baselines.read(folder)) == 3


def test_an_incomplete_row_or_nothing_is_no_baseline(tmp_path: Path) -> None:
    part = made("knn", "fmnist", {"A": 0.9}, part="A", parts=4, kind="semantic")
    with pytest.raises(UsageError, match="1/4 splits"):
        baselines.write(series([part]), tmp_path)
    with pytest.raises(UsageError, match="nothing to record"):
        baselines.write([], tmp_path)
    with pytest.raises(StoreError, match="no baselines folder"):
        baselines.read(tmp_path / "none")


# -------------------------------------------------------------------------------------------------- command line
def test_the_command_says_what_is_worse_and_writes_both_files(bench: Callable, tmp_path: Path) -> None:
    recorded = save(tmp_path / "old", *(noisy(seed) for seed in range(5)))
    done = bench("check", "--record", "--results", str(recorded), "--baselines", "base")
    assert done.returncode == 0 and len(list((tmp_path / "base").glob("*.json"))) == 5, done.stderr
    same = save(tmp_path / "same", noisy(7))
    done = bench("check", "--results", str(same), "--baselines", "base", "--all")
    assert done.returncode == 0 and "28 same" in done.stdout and "bottle" in done.stdout
    worse = save(tmp_path / "worse", noisy(7, shift=-0.2, metric="image/auroc", cls="screw"))
    files = ("--junit", "out/check.xml", "--markdown", "out/check.md")
    done = bench("check", "--results", str(worse), "--baselines", "base", *files)
    assert done.returncode == 1 and "FAILED" in done.stdout and "screw" in done.stdout
    root = ElementTree.parse(tmp_path / "out" / "check.xml").getroot()
    assert (root.get("tests"), root.get("failures")) == ("28", "2")
    failures = [case.get("name") for case in root.iter("testcase") if case.find("failure") is not None]
    assert failures == ["screw image/auroc", "mean image/auroc"]
    assert "bench check failed" in (tmp_path / "out" / "check.md").read_text()


def test_the_command_refuses_what_makes_no_sense(bench: Callable, tmp_path: Path) -> None:
    full = str(save(tmp_path / "full", noisy(0)))
    for arguments, word in (
        (("--results", "nowhere"), "no such file or folder"),
        (("--results", full, "--baselines", "nowhere"), "no baselines folder"),
        (("--results", full, "--", "--seeds", "1"), "Expected --run"),
        (("--run", "--results", full), "Expected a new or empty one"),
        (("--suite", "dmo"), "Did you mean 'demo'"),
        (("--speed", "nowhere.json", "--baselines", full), "no readable run"),
        (("--speed", "x.json", "--run"), "second command"),
        (("--tolerance", "much"), "expected a fraction"),
    ):
        done = bench("check", *arguments)
        assert done.returncode == 2 and word in done.stderr, (arguments, done)


def test_a_broken_record_is_said_and_a_broken_baseline_is_refused(bench: Callable, tmp_path: Path) -> None:
    results = save(tmp_path / "results", noisy(0))
    (results / "half.json").write_text('{"schema_version": 1, "stat')
    assert bench("check", "--record", "--results", str(results), "--baselines", "base").returncode == 0
    done = bench("check", "--results", str(results), "--baselines", "base")
    assert done.returncode == 0 and "ignored" in done.stderr and "half.json" in done.stderr
    (tmp_path / "base" / "x.json").write_text("[]")
    done = bench("check", "--results", str(results), "--baselines", "base")
    assert done.returncode == 2 and "x.json" in done.stderr


def test_a_fresh_run_is_recorded_and_checked_with_other_seeds(
    bench: Callable, tree: Path, small: Callable, tmp_path: Path
) -> None:
    _, *options = small()
    run = ("--run", "--", *options, "--data-root", str(tree), "--protocol", "common")
    done = bench("check", "--record", "--baselines", "base", *run, "--seeds", "0,1,2")
    assert done.returncode == 0 and done.stdout.count("recorded") == 3, done.stdout + done.stderr
    # what a run of seconds gives is mostly noise; what counts is that the whole way stands
    done = bench("check", "--baselines", "base", "--tolerance", "1", *run, "--seeds", "3")
    assert done.returncode == 0 and "seed 3 against baseline seeds 0,1,2" in done.stdout, done.stdout + done.stderr
    done = bench("check", "--baselines", "base", *run, "--seeds", "0,1,2", "--set", "dinomaly.dropout=0.5")
    assert done.returncode == 1 and "config dropout 0.2 -> 0.5" in done.stdout
    assert not list(tmp_path.glob("results*"))


# -------------------------------------------------------------------------------------------------------- output
def test_hostile_names_break_no_format() -> None:
    nasty = 'a<b>&"|`\n\x00\x1b[31m'
    found = [Checked(nasty, nasty, (Comparison(nasty, "image/ap", "missing", 0.5, reason=nasty),), (nasty,))]
    assert ElementTree.fromstring(output.junit(found)).get("failures") == "1"
    text = output.markdown(found)
    assert "<b>" not in text
    (row,) = (line for line in text.splitlines() if line.startswith("| a"))
    assert row.replace("\\|", "").count("|") == 8


# --------------------------------------------------------------------------------------------------------- speed
def saved(path: Path, seconds: dict[str, float], unit: float | None = 0.01) -> Path:
    timed = seconds | ({"tests/perf/test_calibration.py::test_calibration": unit} if unit else {})
    entries = [{"fullname": name, "stats": {"min": value, "mean": 9.0}} for name, value in timed.items()]
    path.write_text(json.dumps({"machine_info": {"cpu": "x"}, "benchmarks": entries}))
    return path


def test_speeds_are_compared_in_units_of_the_calibration_kernel(bench: Callable, tmp_path: Path) -> None:
    recorded = saved(tmp_path / "old.json", {"t.py::a": 0.1, "t.py::b": 0.2})
    assert bench("check", "--speed", str(recorded), "--record", "--baselines", "base").returncode == 0
    # a machine of half the speed, where everything takes twice as long
    slower = saved(tmp_path / "slow.json", {"t.py::a": 0.2, "t.py::b": 0.4}, unit=0.02)
    done = bench("check", "--speed", str(slower), "--baselines", "base")
    assert done.returncode == 0 and "2 same" in done.stdout
    worse = saved(tmp_path / "worse.json", {"t.py::a": 0.1, "t.py::b": 0.36})
    done = bench("check", "--speed", str(worse), "--baselines", "base", "--junit", "x.xml")
    assert done.returncode == 1 and "1 same, 1 worse" in done.stdout
    assert "1.80 times the recorded time" in (tmp_path / "x.xml").read_text()
    assert bench("check", "--speed", str(worse), "--baselines", "base", "--tolerance", "0.9").returncode == 0
    gone = saved(tmp_path / "gone.json", {"t.py::a": 0.05})
    done = bench("check", "--speed", str(gone), "--baselines", "base")
    assert done.returncode == 1 and "1 better, 1 missing" in done.stdout


@pytest.mark.parametrize(
    "text",
    ["", "[]", "{}", '{"benchmarks": [1]}', '{"benchmarks": [{"fullname": "a", "stats": {"min": NaN}}]}', "[" * 9999],
)
def test_a_file_that_is_no_saved_run_is_refused(tmp_path: Path, text: str) -> None:
    path = tmp_path / "run.json"
    path.write_text(text)
    with pytest.raises(StoreError, match="pytest tests/perf"):
        speed.read(path)
    with pytest.raises(StoreError, match="named test_calibration"):
        speed.read(saved(path, {"a": 1.0}, unit=None))
