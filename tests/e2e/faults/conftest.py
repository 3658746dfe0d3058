"""Fixtures of the fault tests: commands forked from a warm process, and a small sweep whose outcome is compared."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest

HERE = Path(__file__).parent


@dataclass
class Job:
    """A running command."""

    pid: int
    out: Path
    warm: Warm

    @property
    def text(self) -> str:
        return self.out.read_text() if self.out.exists() else ""

    def kill(self, number: int = signal.SIGKILL) -> None:
        os.kill(self.pid, number)

    def wait(self) -> int:
        return self.warm.ask({"wait": self.pid})

    def until(self, condition: Callable[[], bool], seconds: float = 60) -> None:
        """Wait until something holds; the job must not end before."""
        deadline = time.monotonic() + seconds
        while not condition():
            assert time.monotonic() < deadline, self.text
            time.sleep(0.003)


@dataclass
class Done:
    code: int
    text: str


class Warm:
    """The warm process; see warm.py."""

    def __init__(self, cwd: Path) -> None:
        self._count = 0
        self._cwd = cwd
        environment = {**os.environ, "OMP_NUM_THREADS": "1", "NUMBA_NUM_THREADS": "1"}
        command = [sys.executable, str(HERE / "warm.py")]
        self._process = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=environment
        )
        assert self._read() == "ready"

    def ask(self, order: dict[str, Any]) -> int:
        assert self._process.stdin is not None
        self._process.stdin.write(json.dumps(order) + "\n")
        self._process.stdin.flush()
        return int(self._read())

    def _read(self) -> str:
        assert self._process.stdout is not None
        return self._process.stdout.readline().strip()

    def start(
        self,
        *arguments: str,
        file_size: int | None = None,
        user: int | None = None,
        stdout: str | None = None,
        **environment: str,
    ) -> Job:
        self._count += 1
        out = self._cwd / f"out{self._count}.txt"
        order = {"start": arguments, "cwd": str(self._cwd), "out": str(out), "env": environment}
        pid = self.ask({**order, "file_size": file_size, "user": user, "stdout": stdout})
        return Job(pid, out, self)

    def run(self, *arguments: str, **options: Any) -> Done:
        job = self.start(*arguments, **options)
        code = job.wait()
        return Done(code, job.text)

    def close(self) -> None:
        assert self._process.stdin is not None
        self._process.stdin.close()
        self._process.wait()


@pytest.fixture(scope="session")
def warm(tmp_path_factory: pytest.TempPathFactory, private_cache: Path) -> Iterator[Warm]:
    server = Warm(tmp_path_factory.mktemp("faults"))
    yield server
    server.close()


@pytest.fixture(scope="session")
def data(tmp_path_factory: pytest.TempPathFactory, write_tree: Callable[..., Path]) -> Path:
    """A small dataset that no test changes."""
    return write_tree(tmp_path_factory.mktemp("data") / "tree")


@pytest.fixture(scope="session")
def sweep(data: Path) -> Callable[..., list[str]]:
    """Options of a sweep of the method that fails on demand: a cell for each seed."""

    def options(results: Path, seeds: str = "0", root: Path = data, **settings: object) -> list[str]:
        pairs = [part for key, value in settings.items() for part in ("--set", f"tripwire.{key}={value}")]
        fixed = ["--plugin", str(HERE / "tripwire.py"), "run", "--methods", "tripwire", "--datasets", "folder"]
        fixed += ["--data-root", str(root), "--device", "cpu", "--checkpoint-seconds", "0"]
        return [*fixed, "--results", str(results), "--seeds", seeds, *pairs]

    return options


Outcome = dict[str, tuple[dict[str, Any], list[float]]]


@pytest.fixture(scope="session")
def outcome() -> Callable[[Path], Outcome]:
    """File name -> scores and image scores of every record below a folder; each must be done and whole."""

    def read(results: Path) -> Outcome:
        from bench.store import record as records

        found = {}
        for path in sorted(results.rglob("s*.json")):
            record = records.read(path)
            assert record.status == "done", record.error
            assert record.predictions is not None
            table = pq.read_table(path.with_name(record.predictions), page_checksum_verification=True)
            scores = {"mean": record.mean, **{cls: one.values for cls, one in record.scores.items()}}
            found[path.name] = (scores, table.to_pydict()["score"])
        return found

    return read


@pytest.fixture(scope="session")
def undisturbed(
    warm: Warm,
    sweep: Callable[..., list[str]],
    outcome: Callable[[Path], Outcome],
    tmp_path_factory: pytest.TempPathFactory,
) -> Callable[..., Outcome]:
    """What a sweep gives when nothing happens to it."""
    known: dict[str, Outcome] = {}

    def run(**options: Any) -> Outcome:
        if (key := repr(options)) not in known:
            results = tmp_path_factory.mktemp("undisturbed")
            done = warm.run(*sweep(results, **options))
            assert done.code == 0, done.text
            known[key] = outcome(results)
        return known[key]

    return run


@contextmanager
def _mounted(folder: Path, options: str) -> Iterator[Path]:
    folder.mkdir(parents=True, exist_ok=True)
    done = subprocess.run(["mount", "-t", "tmpfs", "-o", options, "tmpfs", folder], capture_output=True, text=True)
    if done.returncode:
        pytest.skip(f"a file system may not be mounted here: {done.stderr.strip()}")
    try:
        yield folder
    finally:
        subprocess.run(["umount", "-l", folder], check=True)


@pytest.fixture
def mounted() -> Callable[[Path, str], Any]:
    """A context manager that mounts a tmpfs with some options on a folder; skips where that is not permitted."""
    return _mounted
