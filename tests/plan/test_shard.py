"""Shards: together they are the plan, each cell once, whatever is done already."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from bench.cli.main import run
from bench.errors import UsageError
from bench.plan.shard import Shard


@pytest.mark.parametrize("of", [1, 2, 3, 7, 12])
def test_shards_are_disjoint_and_together_the_plan(of: int) -> None:
    cells = list(range(10))
    parts = [Shard(number, of).take(cells) for number in range(1, of + 1)]
    assert sorted(cell for part in parts for cell in part) == cells
    assert max(map(len, parts)) - min(map(len, parts)) <= 1


@pytest.mark.parametrize("text", ["0/4", "5/4", "1/0", "2", "a/b", "1/99999", "-1/4", "1/4/2"])
def test_shards_that_are_none_are_refused(text: str) -> None:
    with pytest.raises(UsageError, match="expected"):
        Shard.parse(text)


def test_a_command_plans_its_shard_alone(tree: Path, capsys: pytest.CaptureFixture[str]) -> None:
    command = ["run", "--methods", "knn", "--encoder", "vit_tiny_patch8_128.bench", "--set", "knn.input_size=64"]
    command += ["--datasets", "folder", "--data-root", str(tree), "--seeds", "0,1,2", "--dry-run", "--json"]
    names = []
    for shard in ("1/2", "2/2"):
        assert run([*command, "--shard", shard]) == 0
        names.append([cell["name"] for cell in json.loads(capsys.readouterr().out)["cells"]])
    assert [len(part) for part in names] == [2, 1] and not set(names[0]) & set(names[1])
    assert run([*command, "--shard", "4/4"]) == 0
    assert json.loads(capsys.readouterr().out)["cells"] == []
    assert run([*command, "--shard", "3/2"]) == 2
    assert "expected 1/2 to 2/2" in capsys.readouterr().err
