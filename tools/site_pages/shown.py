"""Facts that `bench show NAME --json` and `bench ls KIND --json` print, read through the commands themselves."""

from __future__ import annotations

import json
from functools import cache
from typing import Any

from click.testing import CliRunner

from bench.cli.main import cli


@cache
def show(name: str) -> dict[str, Any]:
    """Return what `bench show` knows of a method, a dataset or a metric."""
    return dict(_json("show", name))


@cache
def listed(kind: str) -> list[dict[str, Any]]:
    """Return what `bench ls` lists of a kind, in its order."""
    return list(_json("ls", kind)[kind])


def _json(*command: str) -> Any:
    done = CliRunner().invoke(cli, [*command, "--json"], catch_exceptions=False)
    assert done.exit_code == 0, done.output
    return json.loads(done.stdout)
