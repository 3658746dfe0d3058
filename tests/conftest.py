"""Fixtures shared by all tests: a private cache, a small dataset in MVTec's layout, a way to call the command line."""

from __future__ import annotations

import io
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import redirect_stderr, redirect_stdout
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

REPO = Path(__file__).resolve().parents[1]
SHARED = REPO.parent / "shared"
ENCODER = "vit_tiny_patch8_128.bench"


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--plugin", action="append", default=[], help="file with a method to put to the contract tests")


def pytest_configure(config: pytest.Config) -> None:
    # a shell's background jobs ignore Ctrl-C and hand that on; the processes that tests interrupt must not
    signal.signal(signal.SIGINT, signal.default_int_handler)
    # before collection, since the contract tests are collected by the names that are registered
    from bench import plugins

    for path in config.getoption("--plugin"):
        plugins.load(Path(path))


@pytest.fixture(scope="session", autouse=True)
def few_threads() -> None:
    """Small tensors gain nothing from threads, and on a busy machine threads wait for each other."""
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    import torch

    torch.set_num_threads(1)


@pytest.fixture(scope="session", autouse=True)
def small_matrices() -> Iterator[None]:
    """How fast the machine is, is looked at with small matrices: large ones are for the sake of exactness."""
    from bench.machine import rates

    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(rates.SIDE, "cpu", 256)
        patch.setattr(rates, "COPIED", 1 << 24)
        patch.setattr(rates, "ROUND_SECONDS", 0.002)
        yield


@pytest.fixture(scope="session", autouse=True)
def private_cache(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """No test reads or fills the user's own cache."""
    folder = tmp_path_factory.mktemp("cache")
    before = os.environ.get("BENCH_CACHE")
    os.environ["BENCH_CACHE"] = str(folder)
    # what collection imported has named a place for it below the user's own
    os.environ["MPLCONFIGDIR"] = str(folder / "matplotlib")
    yield folder
    if before is None:
        del os.environ["BENCH_CACHE"]
    else:
        os.environ["BENCH_CACHE"] = before


@pytest.fixture(scope="session")
def shared() -> Path:
    """Real data beside the checkout; tests that need it skip where it is missing."""
    if not SHARED.is_dir():
        pytest.skip("no folder 'shared' with real data beside the checkout")
    return SHARED


def write_tree(root: Path, classes: tuple[str, ...] = ("dots", "lines"), train: int = 5, size: int = 48) -> Path:
    """Write a dataset in MVTec's layout: noisy gratings, defects are bright squares, masks their exact area."""
    for number, cls in enumerate(classes):
        rng = np.random.default_rng(number)
        for index in range(train):
            _save(root / cls / "train" / "good" / f"{index:03}.png", _texture(rng, number, size))
        for index in range(2):
            _save(root / cls / "test" / "good" / f"{index:03}.png", _texture(rng, number, size))
        for index in range(3):
            image = _texture(rng, number, size)
            mask = np.zeros((size, size), np.uint8)
            top, left = rng.integers(4, size - 16, 2)
            mask[top : top + 12, left : left + 12] = 255
            image[mask > 0] = 255 - image[mask > 0]
            _save(root / cls / "test" / "square" / f"{index:03}.png", image)
            _save(root / cls / "ground_truth" / "square" / f"{index:03}_mask.png", mask)
    return root


def _texture(rng: np.random.Generator, number: int, size: int) -> np.ndarray:
    x, y = np.meshgrid(np.arange(size), np.arange(size))
    wave = np.sin((x * (number + 1) + y * 2) / 5 + rng.uniform(0, 6))
    image = 90 + 50 * wave + rng.normal(0, 6, (size, size))
    return np.repeat(image[..., None], 3, axis=2).clip(0, 255).astype(np.uint8)


def _save(path: Path, pixels: np.ndarray) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels).save(path)


@pytest.fixture(name="write_tree", scope="session")
def write_tree_fixture() -> Callable[..., Path]:
    """The function that writes a small dataset, for tests that need it elsewhere or otherwise."""
    return write_tree


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    """A fresh small dataset that a test may damage."""
    return write_tree(tmp_path / "tree")


@dataclass
class Done:
    """What a command left: its exit code and what it printed."""

    returncode: int
    stdout: str
    stderr: str


@pytest.fixture
def bench(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Done]:
    """Call the command line in an empty folder, in this process: starting torch anew costs seconds."""
    monkeypatch.chdir(tmp_path)

    def call(*arguments: str, **environment: str) -> Done:
        from bench.cli.main import run

        out, err = io.StringIO(), io.StringIO()
        with monkeypatch.context() as patch, redirect_stdout(out), redirect_stderr(err):
            for name, value in environment.items():
                patch.setenv(name, value)
            code = run(arguments)
        return Done(code, out.getvalue(), err.getvalue())

    return call


@pytest.fixture
def start_bench(tmp_path: Path) -> Callable[..., subprocess.Popen[str]]:
    """Start the command line in a process of its own, to be killed or timed."""

    def start(*arguments: str, **environment: str) -> subprocess.Popen[str]:
        return subprocess.Popen(
            [sys.executable, "-m", "bench", *arguments],
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            cwd=tmp_path,
            env={**os.environ, **environment},
        )

    return start


@pytest.fixture(scope="session")
def small() -> Callable[..., list[str]]:
    """Options of a run that takes seconds: the embedded encoder at 32 pixels, few steps."""

    def options(dataset: str = "folder", **settings: object) -> list[str]:
        values = {"input_size": 32, "steps": 6, "batch_size": 4, "warmup": 2, "mlp_ratio": 0.5, **settings}
        pairs = [part for key, value in values.items() for part in ("--set", f"dinomaly.{key}={value}")]
        return ["run", "--methods", "dinomaly", "--datasets", dataset, "--encoder", ENCODER, "--device", "cpu", *pairs]

    return options
