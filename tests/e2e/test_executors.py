"""The same plan gives the same records wherever its cells are run, and a worker's death costs no cell."""

from __future__ import annotations

import json
import multiprocessing
import os
import signal
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest

from bench.files import try_lock

STEPS = {"steps": 30, "hard_mining_steps": 20}
SEEDS = ["--seeds", "0,1"]
OFTEN = ["--checkpoint-seconds", "0"]


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory, write_tree: Callable) -> Path:
    return write_tree(tmp_path_factory.mktemp("data") / "tree", classes=("dots",))


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory: pytest.TempPathFactory, data: Path, small: Callable) -> dict[int, Any]:
    """What the cells give one after another in one process."""
    from bench.cli.main import run

    results = tmp_path_factory.mktemp("undisturbed")
    assert run([*small(**STEPS), "--data-root", str(data), *SEEDS, "--results", str(results)]) == 0
    return found(results)


def found(results: Path) -> dict[int, Any]:
    """By seed: scores, loss curve and per-image scores; all that may not depend on where a cell was run."""
    cells = {}
    for path in results.rglob("s*.json"):
        record = json.loads(path.read_text())
        assert record["status"] == "done", record["error"]
        images = pq.read_table(path.with_suffix(".parquet")).to_pydict()
        cells[record["cell"]["seed"]] = record["scores"], record["training"]["loss_curve"], images
    return cells


def facts(results: Path, seed: int) -> dict[str, Any]:
    (path,) = results.rglob(f"s{seed}-*.json")
    return json.loads(path.read_text())


def soon(condition: Callable[[], Any], then: Callable[[Any], None]) -> threading.Thread:
    """Do something in a thread as soon as a condition holds, once."""

    def watch() -> None:
        deadline = time.monotonic() + 240
        while time.monotonic() < deadline:
            if value := condition():
                then(value)
                return
            time.sleep(0.01)

    thread = threading.Thread(target=watch)
    thread.start()
    return thread


def checkpoints(folder: Path) -> list[Path]:
    return list(folder.rglob("*.ckpt"))


def processes(*words: str) -> list[int]:
    """Processes whose command has all of these words."""
    chosen = []
    for command in Path("/proc").glob("[0-9]*/cmdline"):
        with suppress(OSError):
            if all(word in command.read_text(errors="replace") for word in words):
                chosen.append(int(command.parent.name))
    return chosen


def trainer(checkpoint: Path) -> int:
    """The process that trains the cell: it holds the cell's lock."""
    lock = checkpoint.with_suffix(".lock")
    for opened in Path("/proc").glob("[0-9]*/fd/*"):
        with suppress(OSError):
            if opened.samefile(lock):
                return int(opened.parts[2])
    raise AssertionError(f"nobody holds {lock}")


def parent(process: int) -> int:
    return int(Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[1])


# ---------------------------------------------------------------------------------------------- worker processes
def test_a_killed_worker_is_replaced_and_its_cell_goes_on_from_the_checkpoint(
    bench: Callable, tmp_path: Path, data: Path, small: Callable, undisturbed: dict[int, Any]
) -> None:
    before = set(multiprocessing.active_children())

    def kill(seen: list[Path]) -> None:
        os.kill(trainer(seen[0]), signal.SIGKILL)

    thread = soon(lambda: checkpoints(tmp_path / "out"), kill)
    done = bench(*small(**STEPS), "--data-root", str(data), *SEEDS, *OFTEN, "--jobs", "2", "--results", "out")
    thread.join()
    assert done.returncode == 0, done.stdout + done.stderr
    assert "was killed by SIGKILL, trying again (1 of 2)" in done.stderr and "resumed at step" in done.stderr
    assert found(tmp_path / "out") == undisturbed
    resumed = [bool(facts(tmp_path / "out", seed)["training"]["resumed_at"]) for seed in (0, 1)]
    assert sorted(resumed) == [False, True], "the other cell was disturbed"
    assert set(multiprocessing.active_children()) == before


def test_ctrl_c_ends_every_worker_and_keeps_the_checkpoints(
    start_bench: Callable, tmp_path: Path, data: Path, small: Callable
) -> None:
    command = [*small(steps=3000, warmup=2), "--data-root", str(data), *SEEDS, *OFTEN, "--jobs", "2"]
    process = start_bench(*command, "--results", "out")
    thread = soon(lambda: len(checkpoints(tmp_path / "out")) == 2, lambda _: process.send_signal(signal.SIGINT))
    output, _ = process.communicate(timeout=300)
    thread.join()
    assert process.returncode == 130 and "the same command goes on" in output, output
    for checkpoint in checkpoints(tmp_path / "out"):
        with try_lock(checkpoint.with_suffix(".lock")) as free:
            assert free, "a worker lives on"
    assert len(checkpoints(tmp_path / "out")) == 2 and not list((tmp_path / "out").rglob("*.json"))


# ---------------------------------------------------------------------------------------------------------- Slurm
def test_a_job_that_is_preempted_comes_back_and_goes_on(
    bench: Callable, tmp_path: Path, data: Path, small: Callable, undisturbed: dict[int, Any]
) -> None:
    pytest.importorskip("submitit")

    def preempt(_: Any) -> None:
        # as Slurm does it; the job's log lies below the results
        (process,) = processes("submitit.core._submit", str(tmp_path))
        os.kill(process, signal.SIGUSR2)

    thread = soon(lambda: checkpoints(tmp_path / "out"), preempt)
    place = ["--executor", "slurm", "--slurm", "cluster=local"]
    done = bench(*small(**STEPS), "--data-root", str(data), *OFTEN, *place, "--results", "out")
    thread.join()
    assert done.returncode == 0, done.stdout + done.stderr
    assert found(tmp_path / "out") == {0: undisturbed[0]}
    assert facts(tmp_path / "out", 0)["training"]["resumed_at"]


def test_submitits_debug_executor_gives_the_same(
    bench: Callable, tmp_path: Path, data: Path, small: Callable, undisturbed: dict[int, Any]
) -> None:
    pytest.importorskip("submitit")
    place = ["--executor", "slurm", "--slurm", "cluster=debug"]
    done = bench(*small(**STEPS), "--data-root", str(data), *SEEDS, *place, "--results", "out")
    assert done.returncode == 0, done.stdout + done.stderr
    assert found(tmp_path / "out") == undisturbed


# ------------------------------------------------------------------------------------------------------------ Ray
@pytest.fixture
def cluster(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[Any]:
    """A head that runs nothing and two nodes of one core each, all on this machine."""
    pytest.importorskip("ray")
    from ray.cluster_utils import Cluster

    monkeypatch.setenv("RAY_USAGE_STATS_ENABLED", "0")
    # what nodes keep of their own
    monkeypatch.setenv("BENCH_CACHE", str(tmp_path / "nodes"))
    made = Cluster(initialize_head=True, head_node_args={"num_cpus": 0, "include_dashboard": False})
    try:
        for _ in range(2):
            made.add_node(num_cpus=1)
        yield made
    finally:
        made.shutdown()


@pytest.mark.slow
def test_a_ray_node_dies_mid_sweep_and_its_cell_is_run_elsewhere(
    bench: Callable, tmp_path: Path, data: Path, small: Callable, undisturbed: dict[int, Any], cluster: Any
) -> None:
    def kill(seen: list[Path]) -> None:
        raylet = parent(trainer(seen[0]))
        (node,) = (one for one in cluster.worker_nodes if raylet == one.all_processes["raylet"][0].process.pid)
        cluster.remove_node(node, allow_graceful=False)

    thread = soon(lambda: checkpoints(tmp_path / "nodes"), kill)
    place = ["--executor", "ray", "--address", cluster.address]
    done = bench(*small(**STEPS), "--data-root", str(data), *SEEDS, *OFTEN, *place, "--results", "out")
    thread.join()
    assert done.returncode == 0, done.stdout + done.stderr
    assert "trying again (1 of 2)" in done.stderr, done.stderr
    assert found(tmp_path / "out") == undisturbed
    assert {facts(tmp_path / "out", seed)["environment"]["threads"] for seed in (0, 1)} == {1}
