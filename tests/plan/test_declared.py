"""The settings that a method's source declares are those that it has, or are not told at all."""

from __future__ import annotations

from pathlib import Path

import pytest

from bench.api import MethodConfig
from bench.plan import declared
from bench.registry import METHODS


@pytest.mark.parametrize("name", METHODS.builtin)
def test_what_the_source_declares_is_what_the_method_has(name: str) -> None:
    assert declared.settings(name) == frozenset(METHODS.load(name).Config.model_fields)


BASE = """from typing import ClassVar
from bench.api import MethodConfig, Trained
class Shared(MethodConfig):
    width: int = 1
    kinds: ClassVar[int] = 1
"""


@pytest.mark.parametrize(
    ("source", "own"),
    [
        ("class Config(Shared):\n    depth: int = 1\nclass Mine(Trained[Config, int]): ...", {"width", "depth"}),
        ("class Config(Shared): ...\nclass Mine(Trained[Config]): ...", {"width"}),
        ("class Mine(Trained): ...", None),
        ("class Mine(Trained[Config, int]): ...", None),
        ("Config = make()\nclass Mine(Trained[Config, int]): ...", None),
        ("class Config(make(Shared)): ...\nclass Mine(Trained[Config, int]): ...", None),
        ("class Config(Elsewhere): ...\nclass Mine(Trained[Config, int]): ...", None),
        ("class Mine(", None),
    ],
)
def test_only_what_is_certain_is_told(
    source: str, own: set[str] | None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / f"mine_{abs(hash(source))}.py").write_text(BASE + source)
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setitem(METHODS.targets, "mine", f"mine_{abs(hash(source))}:Mine")
    assert declared.settings("mine") == (None if own is None else own | set(MethodConfig.model_fields))
