"""`bench speed` at a size of seconds: measured, recorded, tabled, checked."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from bench.speed import record as records

FAST = ["--workload", "small", "--device", "cpu", "--seconds", "0.001", "--rounds", "2"]
DINOMALY = ["--methods", "dinomaly", "--set", "dinomaly.input_size=32", "--set", "dinomaly.mlp_ratio=0.5", *FAST]
KNN = ["--methods", "knn", "--set", "knn.input_size=32", *FAST]


def test_speed_is_measured_recorded_tabled_and_checked(bench: Callable, private_cache: Path) -> None:
    before = sorted(path for path in private_cache.rglob("*"))
    done = bench("speed", *DINOMALY, "--again", "--record")
    assert done.returncode == 0, done.stderr
    assert "Speed on small" in done.stdout and "bench speed --workload small --device cuda" in done.stdout
    # the second method joins the first one's record
    done = bench("speed", *KNN, "--whole")
    assert done.returncode == 0, done.stderr
    found = records.read(Path("results/speed/cpu-small.json"))
    trained, memory = found.methods["dinomaly"], found.methods["knn"]
    assert trained.train is not None and trained.train.again is not None and trained.train.over_plain.blocks == 2
    assert trained.train.allowed is not None and trained.train.allowed > 1
    partly = {phase.name for phase in trained.phases if phase.extrapolated}
    assert "train" in partly and not partly & {"decode", "inference", "metrics"}
    assert [one.name for one in trained.phases] == ["decode", "features", "train", "inference", "metrics", "record"]
    assert all(sum(shares.values()) > 0.999 for shares in trained.plain_parts.values())
    # a cell that ran from end to end leaves nothing to extrapolate
    assert memory.whole and not trained.whole and not any(phase.extrapolated for phase in memory.phases)
    assert {"decode", "fit", "inference", "metrics", "set-up and record"} <= {one.name for one in memory.phases}
    assert memory.train is None and memory.fit is not None and memory.store_mib == 0
    assert all(phase.seconds > 0 for one in (trained, memory) for phase in one.phases)
    assert all(floor.distance > 0 for one in (trained, memory) for floor in one.floors)
    assert all(1e8 < floor.matrix_flops < 1e15 for one in (trained, memory) for floor in one.floors)
    # nothing that was generated is left, nor has it gone into the user's cache
    assert sorted(path for path in private_cache.rglob("*")) == before

    assert list(records.read(Path("results/baselines/speed/cpu-small.json")).methods) == ["dinomaly"]
    done = bench("check", "--speed", "results/speed/cpu-small.json", "--tolerance", "0.9")
    assert done.returncode == 0 and "dinomaly train" in done.stdout, done.stdout + done.stderr

    done = bench("report", "--format", "html,markdown,latex,csv", "--results", "results")
    assert done.returncode == 0 and "0 records, 4 tables" in done.stdout, done.stdout + done.stderr
    for name in ("report.html", "tables.md"):
        assert "Speed on small" in Path("reports", name).read_text(encoding="utf-8")


def test_what_cannot_be_timed_is_said(bench: Callable) -> None:
    for arguments, word in (
        (("--methods", "dinomali"), "Did you mean 'dinomaly'"),
        (("--scaling",), "no speed record of the workload mvtec"),
        (("--out", "x.md"), "belong to --scaling"),
        ((*DINOMALY, "--set", "dinomaly.stps=3"), "no setting 'stps'"),
        ((*KNN, "--set", "dinomaly.steps=3"), "only these were asked for: knn"),
    ):
        done = bench("speed", *arguments)
        assert done.returncode == 2 and word in done.stderr, (arguments, done)


def test_a_record_that_cannot_be_joined_is_refused_before_anything_is_measured(bench: Callable) -> None:
    path = Path("results/speed/cpu-small.json")
    path.parent.mkdir(parents=True)
    path.write_text('{"speed_schema": 1}')
    done = bench("speed", *KNN)
    assert done.returncode == 2 and "speed schema 1" in done.stderr and "Move it away" in done.stderr
    assert "knn:" not in done.stdout + done.stderr and path.read_text() == '{"speed_schema": 1}'


def test_the_scaling_page_is_made_of_records(bench: Callable) -> None:
    from made_speed import speed

    records.write(speed(("dinomaly", "knn")), Path("results/speed/cpu-mvtec.json"))
    done = bench("speed", "--scaling", "--assume-tflops", "400", "--out", "docs/scaling.md")
    assert done.returncode == 0, done.stderr
    page = Path("docs/scaling.md").read_text(encoding="utf-8")
    assert "`bench speed --scaling --assume-tflops 400 --out docs/scaling.md`" in page
    assert "projected, not measured" in page
    assert "wall days" in bench("speed", "--scaling").stdout
