"""README's numbers are those of the committed record, and its commands exist."""

from __future__ import annotations

import io
import shlex
from pathlib import Path

import pytest
from rich.console import Console

from bench.cli.main import cli
from bench.cli.terminal import score_table
from bench.speed import record as speed_record
from bench.store import record as records
from bench.store.rows import Row

REPO = Path(__file__).resolve().parents[2]
README = (REPO / "README.md").read_text(encoding="utf-8")
RECORD = REPO / "results" / "baselines" / "demo-dinomaly-multi-s0.json"
SPEED = REPO / "results" / "baselines" / "speed" / "cpu-mvtec.json"


def test_the_table_is_the_committed_record() -> None:
    out = io.StringIO()
    Console(file=out, width=100).print(score_table(Row((records.read(RECORD),))))
    for line in out.getvalue().splitlines():
        assert line.rstrip() in README


def test_the_committed_record_is_the_demo_suite_as_it_stands() -> None:
    from bench.config import configure, load_suite
    from bench.metrics import METRIC_VERSION
    from bench.protocol import COMMON
    from bench.registry import METHODS

    record, suite = records.read(RECORD), load_suite("demo")
    kind = METHODS.load("dinomaly")
    config = kind(configure(kind, "demo", suite.set["dinomaly"], suite.encoder)).config
    assert record.config == config.model_dump(mode="json")
    assert record.protocol.hash == COMMON.hash() and record.metric_version == METRIC_VERSION


def test_the_speed_table_is_the_committed_record() -> None:
    record = speed_record.read(SPEED)
    for name, speed in record.methods.items():
        rates = (f"{speed.learning.over_plain.median:.2f}", f"{speed.inference.over_plain.median:.2f}")
        kept = "–"
        if speed.train is not None:
            assert speed.train.over_again is not None and speed.train.allowed is not None
            kept = f"{speed.train.over_again.median:.2f} of {speed.train.allowed:.2f}"
        assert f"| `{name}` | {rates[0]} | {kept} | {rates[1]} | {speed.seconds / 3600:.1f} |" in README, name
    assert record.environment.device == "cpu"


# every second part of the text is inside a fence
COMMANDS = [
    line.partition("#")[0].strip()
    for block in README.split("```")[1::2]
    for line in block.splitlines()
    if line.startswith("bench ")
]


def test_readme_has_commands() -> None:
    assert len(COMMANDS) >= 5


@pytest.mark.parametrize("line", COMMANDS)
def test_the_commands_parse(line: str) -> None:
    words = shlex.split(line)[1:]
    group = cli
    while words and hasattr(group, "get_command"):
        command = group.get_command(cli.make_context("bench", [], resilient_parsing=True), words.pop(0))
        assert command is not None, line
        group = command
    group.make_context("bench", words, resilient_parsing=False)
