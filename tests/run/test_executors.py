"""What executors do without starting anything: choosing, sharing, trying again, packing."""

from __future__ import annotations

import os
import pickle
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from bench import plugins
from bench.errors import StoreError, UsageError
from bench.files import try_lock
from bench.machine import devices, shared_by
from bench.machine.progress import Silent
from bench.plan.cells import expand
from bench.plan.planned import Planned, look_up
from bench.plan.request import Request
from bench.registry import METHODS
from bench.run import cell as cells
from bench.run import sweep
from bench.run.cell import Options
from bench.run.executors.cell_lock import claim
from bench.run.executors.choice import ExecutorRequest, check, choose
from bench.run.executors.dispatch import RETRIES, Died, Outcome, dispatch
from bench.run.executors.handover import Parcel
from bench.run.executors.in_process import Here
from bench.run.executors.processes import Processes
from bench.run.executors.source_bundle import assemble
from bench.store import record as records
from bench.store.record import Record

TINY = {"input_size": 32, "steps": 2, "batch_size": 4, "warmup": 1, "mlp_ratio": 0.5}


class Listener(Silent):
    def __init__(self) -> None:
        self.said: list[str] = []

    def say(self, text: str) -> None:
        self.said.append(text)


@pytest.fixture(scope="module")
def plan(tmp_path_factory: pytest.TempPathFactory, write_tree: Callable) -> list[Planned]:
    """Three seeds of one small cell."""
    root = write_tree(tmp_path_factory.mktemp("data") / "tree", classes=("dots",))
    request = Request(
        methods=("dinomaly",),
        datasets=("folder",),
        seeds=(0, 1, 2),
        encoder="vit_tiny_patch8_128.bench",
        data_roots=(str(root),),
        set={"dinomaly": TINY},
    )
    return look_up(expand(request, Silent()), root / "nowhere")


def options(results: Path) -> Options:
    return Options(results, torch.device("cpu"))


class Scripted:
    """A pool whose cells end as a script says, one after another."""

    def __init__(self, script: dict[int, list[Outcome | Exception]]) -> None:
        self.script = script
        self.order: list[int] = []
        self.taken: list[Planned] = []
        self.stopped = 0

    @property
    def running(self) -> int:
        return len(self.taken)

    note = ""

    def take(self, waiting: list[Planned]) -> None:
        if waiting and not self.taken:
            self.taken.append(waiting.pop(0))

    def ended(self) -> list[tuple[Planned, Outcome]]:
        item = self.taken.pop()
        self.order.append(item.cell.seed)
        outcome = self.script[item.cell.seed].pop(0)
        if isinstance(outcome, Exception):
            raise outcome
        return [(item, outcome)]

    def stop(self) -> None:
        self.stopped += 1


def record_of(item: Planned, results: Path) -> Record:
    """Any record of this cell: that of its failure is quickly had."""
    from bench.run import recording

    return recording.failed(item.cell, torch.device("cpu"), (), UsageError("scripted"))


# -------------------------------------------------------------------------------------------------- trying again
def test_a_cell_whose_worker_died_is_run_again_and_others_go_on(plan: list[Planned], tmp_path: Path) -> None:
    done = [record_of(item, tmp_path) for item in plan]
    pool = Scripted({0: [Died("was killed by SIGKILL"), done[0]], 1: [done[1]], 2: [None]})
    listener = Listener()
    ended = list(dispatch(pool, plan, options(tmp_path), listener))
    assert [item.cell.seed for item, _ in ended] == [0, 1] and [record for _, record in ended] == done[:2]
    assert pool.order == [0, 0, 1, 2] and pool.stopped == 1
    assert listener.said == [f"{plan[0].cell.name}: its worker was killed by SIGKILL, trying again (1 of {RETRIES})"]


def test_a_cell_that_kills_every_worker_becomes_a_failed_record(plan: list[Planned], tmp_path: Path) -> None:
    pool = Scripted({0: [Died("was killed by SIGKILL")] * (RETRIES + 1), 1: [record_of(plan[1], tmp_path)]})
    (item, record), (other, _) = dispatch(pool, plan[:2], options(tmp_path), Silent())
    assert (item, other) == (plan[0], plan[1])
    assert record.status == "failed" and record.error is not None and record.scores == {}
    assert record.error.type == "WorkerError" and record.error.exit_code == 1
    assert "SIGKILL" in record.error.message and "--jobs" in record.error.message
    assert record.environment.device == "unknown"
    assert records.read(item.cell.path(tmp_path)) == record


def test_what_ends_a_sweep_stops_the_pool(plan: list[Planned], tmp_path: Path) -> None:
    pool = Scripted({0: [StoreError("disk full")]})
    with pytest.raises(StoreError, match="disk full"):
        list(dispatch(pool, plan, options(tmp_path), Silent()))
    assert pool.stopped == 1


def test_a_sweep_that_is_left_stops_the_pool(plan: list[Planned], tmp_path: Path) -> None:
    pool = Scripted({seed: [record_of(plan[seed], tmp_path)] for seed in range(3)})

    class Fake:
        devices_at_once = 1

        def run(self, todo: Sequence[Planned], options: Options, progress: Any) -> Any:
            return dispatch(pool, todo, options, progress)

    def finished(item: Planned, record: Record) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        sweep.run(plan, options(tmp_path), Silent(), finished, Fake())
    assert pool.stopped == 1 and pool.order == [0]


def test_a_cell_left_to_another_process_is_shown_where_that_has_ended_it_and_told_where_not(
    plan: list[Planned], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    class Leaving:
        """Leaves every cell to another process, which ends the first of them meanwhile."""

        devices_at_once, detached = 1, False

        def run(self, todo: Sequence[Planned], options: Options, progress: Any) -> Any:
            cells.run(todo[0].cell, options, Silent())
            yield from ()

    shown, said = [], []
    progress = Silent()
    progress.say = said.append  # type: ignore[method-assign]
    code = sweep.run(plan[:2], options(tmp_path), progress, lambda item, record: shown.append(record), Leaving())
    assert code == 1 and [record.cell.seed for record in shown] == [0]
    assert said == [
        f"no record yet of {plan[1].cell.name}: another process has it. Once that is done, the same command shows it"
    ]
    assert sweep.run(plan[:1], options(tmp_path), progress, lambda item, record: None, Leaving()) == 0


# ------------------------------------------------------------------------------------------------------- claiming
def test_a_cell_has_one_owner(plan: list[Planned], tmp_path: Path) -> None:
    item, cell = plan[0], plan[0].cell
    with try_lock(cell.path(tmp_path).with_suffix(".lock")), claim(item, tmp_path) as held:
        assert not held.mine and held.done is None and "another process is running it" in held.note
    with claim(item, tmp_path) as held:
        assert held.mine
    record = cells.run(cell, options(tmp_path), Silent())
    with claim(item, tmp_path) as held:
        assert not held.mine and held.done == record and held.note == "done by another process"
    # a finished cell that is to be run again is ours, until somebody has done that
    (again,) = look_up([cell], tmp_path, again=True)
    with claim(again, tmp_path) as held:
        assert held.mine
    newer = record.model_copy(update={"created": "2999-01-01T00:00:00+00:00"})
    records.write(newer, cell.path(tmp_path))
    with claim(again, tmp_path) as held:
        assert not held.mine and held.done == newer


# ---------------------------------------------------------------------------------------------------------- parcel
def test_a_parcel_holds_in_another_folder(plan: list[Planned], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    relative = replace(plan[0].cell, weights=Path(os.path.relpath(plan[0].cell.weights)))
    parcel = Parcel.pack(replace(plan[0], cell=relative), options(Path("out")))
    monkeypatch.chdir("/")
    item, sent = parcel.open()
    assert item.cell.fingerprint == plan[0].cell.fingerprint and item.cell.weights.is_file()
    assert sent.results == tmp_path / "out"


def test_a_parcel_brings_its_plug_in(tmp_path: Path) -> None:
    plugin = tmp_path / "mine.py"
    plugin.write_text("from bench.api import Method\n\n\nclass Mine(Method):\n    name = 'in_a_parcel'\n")
    (name,) = plugins.load(plugin)
    try:
        kind = METHODS.load(name)
        assert plugin in plugins.loaded()
        parcel = Parcel(pickle.dumps((kind, None)), (plugin,))
        # in a process that has not loaded the file
        script = "import pickle, sys; print(pickle.load(sys.stdin.buffer).open()[0])"
        done = subprocess.run([sys.executable, "-c", script], input=pickle.dumps(parcel), capture_output=True)
        assert done.stdout.decode().strip() == str(kind), done.stderr.decode()
    finally:
        METHODS.targets.pop(name)
        sys.modules.pop(kind.__module__)


# ------------------------------------------------------------------------------------------------------- choosing
def refused(wanted: ExecutorRequest, device: str, *words: str) -> None:
    with pytest.raises(UsageError) as caught:
        choose(wanted, device)
    for word in words:
        assert word in str(caught.value)


def test_one_worker_needs_no_process() -> None:
    assert isinstance(choose(ExecutorRequest(), "cpu"), Here)
    assert isinstance(choose(ExecutorRequest(jobs=1), "cpu"), Here)
    assert choose(ExecutorRequest(jobs=3), "cpu") == Processes(3)


def test_each_visible_gpu_gets_a_worker(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 3)
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    assert choose(ExecutorRequest(), "auto") == Processes(3, ("0", "1", "2"))
    assert isinstance(choose(ExecutorRequest(jobs=1), "cuda"), Here)
    assert isinstance(choose(ExecutorRequest(), "cuda:1"), Here)
    assert choose(ExecutorRequest(jobs=2), "cuda:1") == Processes(2, ("1",))
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "4,GPU-7a,6")
    assert choose(ExecutorRequest(), "cuda") == Processes(3, ("4", "GPU-7a", "6"))
    assert devices.visible(torch.device("cuda:1")) == ("GPU-7a",)


def test_options_of_another_executor_are_refused() -> None:
    refused(ExecutorRequest(address="auto"), "cpu", "--address", "--executor local", "--executor ray")
    refused(ExecutorRequest(slurm=("partition=gpu",)), "cpu", "--slurm", "--executor slurm")
    refused(ExecutorRequest("ray", slurm=("partition=gpu",)), "cpu", "--slurm", "--executor ray")
    refused(ExecutorRequest(cpus=2), "cpu", "--cpus", "ray or slurm")
    refused(ExecutorRequest("ray"), "cuda:1", "cuda:1", "auto, cpu or cuda")
    refused(ExecutorRequest("slurm", gpus=0.5), "cpu", "0.5", "whole")


@pytest.mark.parametrize(("executor", "package"), [("ray", "ray"), ("slurm", "submitit")])
def test_a_missing_extra_is_named(
    executor: str, package: str, bench: Callable, tree: Path, small: Callable, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("bench.run.executors.choice.find_spec", lambda name: None)
    done = bench(*small(), "--data-root", str(tree), "--executor", executor)
    assert done.returncode == 2 and f"pip install 'bench-uad[{executor}]'" in done.stderr and package in done.stderr


# -------------------------------------------------------------------------------------------------------- sharing
def test_cores_are_shared_and_each_gpu_knows_its_neighbours(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    monkeypatch.setattr(os, "sched_getaffinity", lambda process: set(range(8)), raising=False)
    places = Processes(3, ("0", "5"))._places(3)
    assert [(one.device, one.threads, one.machine, one.on_device) for one in places] == [
        ("0", 2, 3, 2),
        ("5", 2, 3, 1),
        ("0", 2, 3, 2),
    ]
    assert [one.threads for one in Processes(9)._places(9)] == [1] * 9
    monkeypatch.setenv("OMP_NUM_THREADS", "4")
    assert {one.threads for one in Processes(3)._places(3)} == {4}


def test_neighbours_share_what_is_free() -> None:
    try:
        shared_by.tell(machine=4, device=2)
        assert [shared_by.part(place, 800) for place in ("memory", "file", "device")] == [200, 200, 400]
    finally:
        shared_by.tell(machine=1, device=1)


# ---------------------------------------------------------------------------------------------------------- Slurm
@contextmanager
def stand_in(folder: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """An sbatch that keeps the script it is given, and a sacct that knows of no job."""
    folder.mkdir()
    for name, text in {
        "sbatch": f'cp "$1" {folder}/script; echo Submitted batch job 77',
        "sacct": "",
        "srun": "",
        "scancel": "",
    }.items():
        (folder / name).write_text(f"#!/bin/sh\n{text}\n")
        (folder / name).chmod(0o755)
    with monkeypatch.context() as patch:
        patch.setenv("PATH", f"{folder}:{os.environ['PATH']}")
        yield folder / "script"


def test_cells_become_an_array_job_with_the_parameters_given(
    plan: list[Planned], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("submitit")
    from bench.run.executors.on_slurm import OnSlurm, _Jobs, parameters

    given = parameters(["partition=gpu", "time=4:00:00", 'additional_parameters={"reservation": "mine"}'])
    wanted = OnSlurm("cuda", given, jobs=2, cpus=8)
    with stand_in(tmp_path / "bin", monkeypatch) as script:
        jobs = _Jobs(wanted, options(tmp_path / "out"), Silent())
        waiting = list(plan)
        jobs.take(waiting)
        assert waiting == [] and jobs.running == 3
        lines = [line.removeprefix("#SBATCH --") for line in script.read_text().splitlines() if "#SBATCH" in line]
    expected = {"array=0-2%2", "partition=gpu", "time=4:00:00", "cpus-per-task=8", "gpus-per-node=1", "job-name=bench"}
    assert expected | {"reservation=mine"} <= set(lines)
    assert any(line.startswith("signal=USR2@") for line in lines), "preempted jobs would not come back"


def test_detached_jobs_are_not_waited_for_and_not_submitted_twice(
    plan: list[Planned], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("submitit")
    from bench.run.executors.on_slurm import LOGS, OnSlurm, _Jobs

    wanted, out, said = OnSlurm("cuda", {}, detach=True), tmp_path / "out", Silent()
    told: list[str] = []
    monkeypatch.setattr(said, "say", told.append, raising=False)
    with stand_in(tmp_path / "bin", monkeypatch) as script:
        queue = tmp_path / "bin" / "squeue"
        queue.write_text("#!/bin/sh\necho PENDING\n")
        queue.chmod(0o755)
        assert list(wanted.run(plan, options(out), said)) == [] and wanted.detached
        notes = {path.stem: path.read_text() for path in (out / LOGS).glob("*.job")}
        assert notes == {item.cell.fingerprint: f"77_{place}" for place, item in enumerate(plan)}
        script.unlink()
        assert list(wanted.run(plan, options(out), said)) == []
        assert not script.exists() and told[-1] == "3 cells submitted before, not again: 77_0 to 77_2"
        # what Slurm has no longer is submitted anew; and whoever waits, waits for what is there
        queue.write_text("#!/bin/sh\ncase $* in *77_1*) echo RUNNING;; *) exit 1;; esac\n")
        jobs = _Jobs(OnSlurm("cuda", {}), options(out), said)
        jobs.take(list(plan))
        assert jobs.running == 3 and "array=0-1" in script.read_text()
        jobs.stop()
    assert not list((out / LOGS).glob("*.job"))


def test_what_would_end_with_this_process_is_not_left_alone(plan: list[Planned], tmp_path: Path) -> None:
    pytest.importorskip("submitit")
    from bench.run.executors.on_slurm import OnSlurm

    with pytest.raises(UsageError, match="ends with this process"):
        list(OnSlurm("cpu", {"cluster": "local"}, detach=True).run(plan, options(tmp_path), Silent()))
    with pytest.raises(UsageError, match="--detach: --executor local has none"):
        check(ExecutorRequest(detach=True), "cpu")


def test_slurm_options_are_checked() -> None:
    pytest.importorskip("submitit")
    from bench.run.executors.on_slurm import parameters

    assert parameters(["mem_gb=64", "qos=low", "cluster=debug"]) == {"mem_gb": 64, "qos": "low", "cluster": "debug"}
    for option, word in {
        "partitoin=gpu": "Did you mean 'partition'?",
        "partition": "KEY=VALUE",
        "cluster=k8s": "slurm, local, debug",
    }.items():
        with pytest.raises(UsageError, match=word.replace("?", r"\?")):
            parameters([option])


def test_values_that_submitit_refuses_and_a_machine_without_slurm_are_said(
    bench: Callable, tree: Path, small: Callable, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    pytest.importorskip("submitit")
    command = [*small(), "--data-root", str(tree), "--executor", "slurm", "--slurm"]
    done = bench(*command, "timeout_min=soon")
    assert done.returncode == 2 and ("timeout_min" in done.stderr or "srun" in done.stderr)
    done = bench(*command, "partition=gpu", PATH=str(tmp_path))
    assert done.returncode == 2 and "--slurm cluster=local" in done.stderr


# ------------------------------------------------------------------------------------------------------------ Ray
def test_resources_of_a_cell_follow_the_cluster() -> None:
    pytest.importorskip("ray")
    from bench.run.executors.on_ray import OnRay

    mixed = {"CPU": 64.0, "GPU": 8.0}
    assert OnRay(None, "auto")._resources(mixed) == (8, 1.0)
    assert OnRay(None, "cpu")._resources(mixed) == (1, 0.0)
    assert OnRay(None, "auto", gpus=0.5)._resources(mixed) == (4, 0.5)
    assert OnRay(None, "auto", cpus=3)._resources({"CPU": 64.0}) == (3, 0.0)
    assert OnRay(None, "cuda")._resources({"CPU": 64.0}) == (1, 1.0)


def test_paths_that_every_node_needs_are_looked_for(plan: list[Planned], tmp_path: Path) -> None:
    pytest.importorskip("ray")
    from bench.run.executors.on_ray import _needed, _refuse_large_maps
    from bench.run.executors.ray_node import look

    needed = _needed(plan)
    task = plan[0].cell.task
    assert {str(task.dataset.root), str(task.test[0].image)} <= set(needed)
    assert look([*needed, str(tmp_path / "absent")]).missing == (str(tmp_path / "absent"),)
    _refuse_large_maps(plan)
    large = replace(plan[0].cell, task=replace(task, test=task.test * 2000))
    with pytest.raises(UsageError, match="GiB"):
        _refuse_large_maps([Planned(large, "new")])


def test_a_node_returns_what_would_lie_in_the_results(
    plan: list[Planned], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("ray")
    from bench.run.executors.on_ray import _keep
    from bench.run.executors.ray_node import work

    monkeypatch.setenv("BENCH_CACHE", str(tmp_path / "node"))
    elsewhere = replace(plan[0].cell, weights=tmp_path / "driver" / "vit_tiny_patch8_128.bench.safetensors")
    made = work(
        Parcel.pack(
            replace(plan[0], cell=elsewhere), replace(options(tmp_path / "out"), keep_maps=True, keep_model=True)
        ),
        "cpu",
        1,
    )
    assert not list((tmp_path / "node" / "cells").rglob("s0*")), "the node keeps what it sent"
    assert not (tmp_path / "out").exists(), "the node wrote where only the driver may"
    path = plan[0].cell.path(tmp_path / "out")
    assert _keep(made, path, Silent().say) == records.read(path)
    here = cells.run(plan[0].cell, replace(options(tmp_path / "here"), keep_maps=True, keep_model=True), Silent())
    assert records.read(path).scores == here.scores
    names = {file.relative_to(path.parent) for file in path.parent.rglob("*") if file.is_file()}
    beside = plan[0].cell.path(tmp_path / "here").parent
    assert any(name.name.endswith(".model.safetensors") for name in names)
    assert names == {file.relative_to(beside) for file in beside.rglob("*") if file.is_file()}


def test_what_is_shipped_is_bench_whole(tmp_path: Path) -> None:
    package = assemble(tmp_path)
    script = (
        "from importlib.util import find_spec\n"
        "for name in ('bench', 'bench.methods.dinomaly', 'bench.datasets.demo', 'bench.encoders.embedded'):\n"
        "    print(find_spec(name).origin)"
    )
    environment = {**os.environ, "PYTHONPATH": str(tmp_path)}
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, env=environment, cwd=tmp_path)
    places = [Path(place) for place in done.stdout.split()]
    assert len(places) == 4 and all(place.is_relative_to(package) for place in places), done.stdout + done.stderr
    assert list(places[-1].parent.glob("*.safetensors")) and not list(package.rglob("__pycache__"))
