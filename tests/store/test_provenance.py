from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Iterator
from importlib.metadata import version
from pathlib import Path

import pytest

import bench
from bench.store import provenance
from bench.store.provenance import commit, environment


@pytest.fixture(autouse=True)
def forgetful() -> Iterator[None]:
    commit.cache_clear()
    yield
    commit.cache_clear()


def git(folder: Path, *arguments: str) -> str:
    identity = ["-c", "user.name=t", "-c", "user.email=t@example.org", "-c", "commit.gpgsign=false"]
    done = subprocess.run(["git", *identity, "-C", str(folder), *arguments], capture_output=True, text=True, check=True)
    return done.stdout.strip()


@pytest.fixture
def checkout(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A repository whose package folder stands for bench's own."""
    package = tmp_path / "repo" / "bench"
    package.mkdir(parents=True)
    (package / "__init__.py").write_text("")
    git(package, "init", "--quiet")
    git(package, "add", ".")
    git(package, "commit", "--quiet", "-m", "first")
    monkeypatch.setattr(bench, "__file__", str(package / "__init__.py"))
    return package


def test_the_commit_is_the_checkouts_head(checkout: Path) -> None:
    head = git(checkout, "rev-parse", "HEAD")
    assert commit() == head and re.fullmatch("[0-9a-f]{40}", head)


def test_changed_files_make_it_dirty_and_new_ones_do_not(checkout: Path) -> None:
    head = git(checkout, "rev-parse", "HEAD")
    (checkout / "untracked.txt").write_text("results")
    assert commit() == head
    commit.cache_clear()
    (checkout / "__init__.py").write_text("changed = 1\n")
    assert commit() == f"{head}-dirty"


def test_a_package_inside_somebody_elses_repository_has_no_commit(
    checkout: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    installed = checkout.parent / ".venv" / "site-packages" / "bench"
    installed.mkdir(parents=True)
    (installed / "__init__.py").write_text("")
    monkeypatch.setattr(bench, "__file__", str(installed / "__init__.py"))
    assert commit() is None


def test_outside_of_a_repository_or_without_git_there_is_no_commit(
    tmp_path: Path, checkout: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    assert commit() is None
    monkeypatch.undo()
    commit.cache_clear()
    monkeypatch.setattr(bench, "__file__", str(tmp_path / "__init__.py"))
    assert commit() is None


def test_a_git_hook_of_another_repository_does_not_mislead(
    tmp_path: Path, checkout: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    head = git(checkout, "rev-parse", "HEAD")
    other = tmp_path / "other"
    other.mkdir()
    git(other, "init", "--quiet")
    (other / "__init__.py").write_text("")
    git(other, "add", ".")
    git(other, "commit", "--quiet", "-m", "other")
    monkeypatch.setenv("GIT_DIR", str(other / ".git"))
    monkeypatch.setenv("GIT_WORK_TREE", str(other))
    assert commit() == head


def test_the_environment_names_software_and_machine() -> None:
    found = environment("cuda:1", "bf16", 3)
    assert (found.device, found.precision, found.threads) == ("cuda:1", "bf16", 3)
    assert found.python == ".".join(map(str, sys.version_info[:3]))
    assert found.packages["torch"] == version("torch") and found.packages["bench"] == bench.__version__
    assert set(found.packages) == {*provenance.PACKAGES, *provenance.decoders(), "bench"}
    assert found.cpu and found.platform.startswith("Linux" if sys.platform == "linux" else "")
    assert 1 <= found.cores <= (os.cpu_count() or 1) and 0.1 < found.memory_gib < 1e5


def test_a_package_that_is_missing_is_left_out(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(provenance, "PACKAGES", ("torch", "no-such-package-at-all"))
    assert set(environment("cpu", "fp32", 1).packages) == {"torch", *provenance.decoders(), "bench"}
