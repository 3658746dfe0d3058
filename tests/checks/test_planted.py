"""Regressions planted in the code of a real run: each is caught by `bench check --run` and named."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from bench.metrics import ranks
from bench.plan import cells
from bench.protocol import COMMON
from bench.registry import METHODS


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory, write_tree: Callable[..., Path], small: Callable) -> list[str]:
    """The command that runs a seed and compares it with a baseline, which was recorded of the same seed."""
    from bench.cli.main import run

    folder = tmp_path_factory.mktemp("planted")
    _, *options = small()
    data = ("--data-root", str(write_tree(folder / "tree")), "--seeds", "0")
    command = ["--baselines", str(folder / "base"), "--run", "--", *options, *data]
    assert run(["check", "--record", *command]) == 0
    return command


@pytest.fixture
def checked(bench: Callable, run: list[str]) -> Callable[..., Any]:
    """Run the seed again and compare to a hundredth of 1 %."""
    return lambda *more: bench("check", "--tolerance", "0.0001", *run, *more)


def worse(text: str) -> set[tuple[str, str]]:
    return set(re.findall(r"^(\S+) +(\S+/\S+) .* worse", text, re.M))


def test_code_that_was_not_touched_gives_the_same_scores(checked: Callable) -> None:
    done = checked()
    assert done.returncode == 0 and "worse" not in done.stdout, done.stdout


def test_a_metric_that_is_off_by_a_thousandth_is_named(checked: Callable, monkeypatch: pytest.MonkeyPatch) -> None:
    real = ranks.average_precision
    monkeypatch.setattr(ranks, "average_precision", lambda found: real(found) - 1e-3)
    done = checked()
    assert done.returncode == 1 and "FAILED" in done.stdout
    lines = ("dots", "lines", "mean")
    assert worse(done.stdout) == {(line, metric) for line in lines for metric in ("image/ap", "pixel/ap")}


def test_a_dropout_that_is_no_longer_applied_is_seen(checked: Callable, monkeypatch: pytest.MonkeyPatch) -> None:
    # the record still says 0.2: the code and not the configuration lost it
    from torch import nn

    monkeypatch.setattr(nn.Dropout, "forward", lambda self, values: values)
    monkeypatch.setattr(nn.functional, "dropout", lambda values, *args, **more: values)
    done = checked()
    assert done.returncode == 1 and "FAILED" in done.stdout and "not comparable" not in done.stdout
    found = re.findall(r"^(?:dots|lines|mean) +\S+/\S+ .* (worse|better)", done.stdout, re.M)
    assert found, done.stdout


def test_a_dropout_and_a_protocol_that_were_changed_are_named(
    checked: Callable, monkeypatch: pytest.MonkeyPatch
) -> None:
    done = checked("--set", "dinomaly.dropout=0")
    assert done.returncode == 1 and "not comparable" in done.stdout and "config dropout 0.2 -> 0.0" in done.stdout
    changed = replace(COMMON, mask_rule="ader")
    monkeypatch.setattr(cells, "resolve", lambda *request: changed)
    done = checked()
    assert done.returncode == 1 and "mask_rule area -> ader" in done.stdout
    assert METHODS.load("dinomaly").paper != changed
