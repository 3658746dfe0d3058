from __future__ import annotations

import os
import re
from collections.abc import Callable
from pathlib import Path

import pytest
from made_records import made

from bench import cache, doctor
from bench.doctor import Diagnosis
from bench.encoders import weights
from bench.errors import UsageError
from bench.machine import threads
from bench.registry import METHODS
from bench.store import record as records


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A cache of its own with something of each kind, and something that is not ours."""
    place = tmp_path / "cache"
    monkeypatch.setenv("BENCH_CACHE", str(place))
    for name, size in (
        ("pixels/x/ab/one", 3000),
        ("kernels/a.nbi", 10),
        ("demo-v3-0/a/b.png", 20),
        ("precious.txt", 7),
    ):
        path = place / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"x" * size)
    (place / "hashes.sqlite").write_bytes(b"y" * 100)
    return place


def about(found: list[Diagnosis], name: str) -> Diagnosis:
    (finding,) = (finding for finding in found if finding.about == name)
    return finding


# --------------------------------------------------------------------------------------------------------- cache
def test_sizes_are_shown_by_kind(folder: Path, bench: Callable) -> None:
    found = {one.name: (one.files, one.bytes) for one in cache.kept()}
    assert found == {
        "pixels": (1, 3000),
        "features": (0, 0),
        "hashes": (1, 100),
        "kernels": (1, 10),
        "fonts": (0, 0),
        "facts": (0, 0),
        "cells": (0, 0),
        "demo": (1, 20),
        "weights": (0, 0),
    }
    done = bench("cache", "show")
    assert done.returncode == 0 and str(folder) in done.stdout and re.search(r"^pixels +3 KiB", done.stdout, re.M)


def test_clearing_removes_what_is_ours_and_nothing_else(folder: Path, bench: Callable) -> None:
    assert bench("cache", "clear", "pixels", "--yes").stdout.startswith("freed 3 KiB")
    assert not (folder / "pixels").exists() and (folder / "kernels").exists()
    assert bench("cache", "clear", "--yes").returncode == 0
    assert [path.name for path in folder.iterdir()] == ["precious.txt"]
    assert bench("cache", "clear", "--yes").returncode == 0


def test_a_link_in_the_cache_is_removed_and_not_followed(folder: Path, tmp_path: Path) -> None:
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "data").write_text("precious")
    (folder / "features").symlink_to(tmp_path / "mine")
    (folder / "pixels" / "link").symlink_to(tmp_path / "mine")
    cache.clear(("features", "pixels"))
    assert (tmp_path / "mine" / "data").read_text() == "precious" and not (folder / "features").exists()


def test_what_another_process_puts_there_meanwhile_stays_and_is_no_error(
    folder: Path, bench: Callable, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = Path.rmdir

    def writing(path: Path) -> None:
        # a sweep decodes its next image
        if path.name == "ab":
            (path / "two").write_bytes(b"x")
        real(path)

    monkeypatch.setattr(Path, "rmdir", writing)
    done = bench("cache", "clear", "--yes")
    assert done.returncode == 0 and done.stdout.startswith("freed 3 KiB"), done.stderr
    assert "pixels: another process is filling it" in done.stdout
    assert {path.name for path in folder.rglob("*") if path.is_file()} == {"two", "precious.txt"}


def test_what_another_process_removes_meanwhile_is_no_error(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    unlink, rmdir = Path.unlink, Path.rmdir

    def unlinked(path: Path) -> None:
        unlink(path)
        unlink(path)

    def removed(path: Path) -> None:
        rmdir(path)
        rmdir(path)

    monkeypatch.setattr(Path, "unlink", unlinked)
    monkeypatch.setattr(Path, "rmdir", removed)
    assert cache.clear(("pixels", "hashes", "demo")) == cache.Cleared(0, ())
    assert not (folder / "pixels").exists()


def test_clearing_asks_and_takes_known_kinds_only(folder: Path, bench: Callable) -> None:
    done = bench("cache", "clear")
    assert done.returncode == 2 and "--yes" in done.stderr
    done = bench("cache", "clear", "../..", "--yes")
    assert done.returncode == 2 and "Known: pixels" in done.stderr
    with pytest.raises(UsageError):
        cache.clear(("pixels", "everything"))
    assert (folder / "pixels").exists()


# -------------------------------------------------------------------------------------------------------- doctor
def test_versions_are_compared_with_what_is_required(monkeypatch: pytest.MonkeyPatch) -> None:
    assert {finding.state for finding in doctor.packages()} == {"ok"}
    wanted = ["numpy>=99.0", "not-there-at-all>=1", 'nothing>=1; extra == "dev"', "click>=8.1"]
    monkeypatch.setattr("importlib.metadata.requires", lambda name: wanted)
    found = list(doctor.packages())
    assert about(found, "numpy").mend == "pip install 'numpy>=99.0'"
    assert about(found, "not-there-at-all").state == "problem" and about(found, "packages").state == "ok"
    assert len(found) == 4 and about(found, "packages").text == "1 package as required: click"


def test_what_bench_chose_for_the_threads_is_told_apart_from_what_the_user_set(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "getloadavg", lambda: (9.5, 0.0, 0.0))
    monkeypatch.setattr(threads, "cores", lambda: 2)
    monkeypatch.setattr(threads, "cpu_quota", lambda: 1.5)
    monkeypatch.delenv("GOMP_SPINCOUNT", raising=False)
    for name, value in {threads.CHOSEN: "KMP_BLOCKTIME=1", "KMP_BLOCKTIME": "1", threads.POLICY: "active"}.items():
        monkeypatch.setenv(name, value)
    found = list(doctor.processor())
    assert about(found, "quota").text == "a control group allows 1.5 cores' time: 2 of the cores are counted on"
    assert about(found, "load").state == "note" and about(found, "load").text.startswith("9.5 processes want 2 cores")
    assert about(found, "waiting").text.endswith("as set; OMP_WAIT_POLICY=active (you); KMP_BLOCKTIME=1 (bench)")
    monkeypatch.delenv(threads.POLICY)
    assert "sleep at once where others want them" in about(list(doctor.processor()), "waiting").text


def test_broken_records_and_interrupted_runs_are_found(tmp_path: Path) -> None:
    results = tmp_path / "runs"
    assert [finding.state for finding in doctor.records(results)] == ["ok"]
    records.write(made(), results / "a" / "good.json")
    (results / "a" / "bad.json").write_text("{")
    (results / "a" / "s0.ckpt").write_bytes(b"1" * 5000)
    (results / "a" / ".s0.json.abc.part").write_bytes(b"1")
    states = [(finding.state, finding.text) for finding in doctor.records(results)]
    assert [state for state, _ in states] == ["ok", "problem", "note", "note"]
    assert "1 finished cell, 0 failed" in states[0][1] and "bad.json" in states[1][1] and "5 KiB" in states[2][1]


def test_folders_that_cannot_be_written_are_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    # root may write everywhere, so the system's answer is replaced
    monkeypatch.setattr(os, "access", lambda place, mode: False)
    monkeypatch.setenv("BENCH_CACHE", str(tmp_path / "closed" / "cache"))
    (cache_finding,) = doctor.caches()
    assert cache_finding.state == "problem" and cache_finding.mend == "export BENCH_CACHE=DIR"
    assert next(iter(doctor.records(tmp_path / "closed" / "runs"))).state == "problem"


def test_datasets_are_found_counted_and_missed(write_tree: Callable, tmp_path: Path) -> None:
    root = write_tree(tmp_path / "mvtec", classes=("bottle",))
    found = about(list(doctor.datasets([f"mvtec={root}"])), "mvtec")
    assert found.state == "note" and found.text == f"10 images at {root}, published are 5354"
    assert found.mend == f"bench data verify mvtec --root {root}"
    (tmp_path / "empty").mkdir()
    found = about(list(doctor.datasets([f"mvtec={tmp_path / 'empty'}"])), "mvtec")
    assert found.state == "problem"
    missed = about(list(doctor.datasets([])), "datasets")
    assert "visa" in missed.text and "--data-root" in missed.mend


def test_weights_are_looked_for_here_and_at_the_hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(weights, "_cached", lambda name: None)
    name = "vit_base_patch14_reg4_dinov2.lvd142m"
    assert about(list(doctor.encoders(None, online=False)), name).state == "note"
    monkeypatch.setattr(weights, "hub_trouble", lambda name: "no route")
    assert "no route" in about(list(doctor.encoders(None, online=True)), name).text
    monkeypatch.setattr(weights, "hub_trouble", lambda name: None)
    assert about(list(doctor.encoders(None, online=True)), name).state == "ok"
    (tmp_path / f"{name}.safetensors").write_bytes(b"")
    assert str(tmp_path) in about(list(doctor.encoders(tmp_path, online=False)), name).text
    assert about(list(doctor.encoders(tmp_path / "none", online=False)), name).state == "problem"


def test_the_command_begins_with_a_verdict_and_ends_with_what_can_run(
    folder: Path, bench: Callable, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    name = "vit_base_patch14_reg4_dinov2.lvd142m"
    monkeypatch.setattr(weights, "at_hand", lambda encoder, folder: None if encoder == name else tmp_path)
    monkeypatch.setattr(weights, "look", lambda path, encoder: None)
    done = bench("doctor", "--results", "runs")
    assert done.returncode == 0 and done.stdout.startswith("nothing stands in the way of a run\n"), done.stdout
    assert "torch" in done.stdout and "cache pixels" in done.stdout and "3 KiB in 1 file\n" in done.stdout
    can, cannot = done.stdout.splitlines()[-2:]
    kinds = {one: METHODS.load(one) for one in METHODS.names()}
    encoders = {one: getattr(kind.Config.model_construct(), "encoder", "") for one, kind in kinds.items()}
    waiting = [one for one, encoder in encoders.items() if encoder == name]
    said = re.fullmatch(r"can run now:  bench run --suite demo; with their own weights: (.*); data: demo", can)
    assert said is not None and set(said[1].split(", ")) == set(kinds) - set(waiting)
    assert {"dinomaly", "dual_student", "knn"} <= set(waiting) and "vitad" not in waiting
    assert cannot == f"cannot yet:   {', '.join(waiting)} (weights of {name}). Another encoder: --encoder"
    (tmp_path / "runs").mkdir()
    (tmp_path / "runs" / "bad.json").write_text("{")
    done = bench("doctor", "--results", "runs")
    assert done.returncode == 1 and "PROBLEM" in done.stdout and done.stdout.startswith("1 problem: results\n")
