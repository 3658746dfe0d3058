"""What is typed or written by hand: suites, `--set`, and other options."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from hostile import NAMES, anything, bent, cases, damaged, names, survives
from hypothesis import given
from hypothesis import strategies as st

from bench import plugins, suites
from bench.checks.tolerance import parse_tolerances
from bench.config import configure, fingerprint, load_suite, parse_set
from bench.metrics.ids import parse
from bench.registry import METHODS

FILES = [path.read_bytes() for path in sorted(suites.FOLDER.glob("*.toml"))]


@pytest.fixture
def folder(home: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(suites, "FOLDER", home)
    return home


@cases(200)
@given(content=damaged(*FILES))
def test_damaged_suites(folder: Path, content: bytes) -> None:
    (folder / "x.toml").write_bytes(content)
    survives("suite", lambda: load_suite("x"), folder)
    survives("suite", lambda: suites.values("x"), folder)


@pytest.mark.parametrize(
    "content", [b"x = " + b"[" * 100_000, b"[" + b"a." * 50_000 + b"a]", b"x=1\nx=2", b"\xff", b"x = 9" + b"9" * 5000]
)
def test_suites_that_are_no_suites(folder: Path, content: bytes) -> None:
    (folder / "x.toml").write_bytes(content)
    survives("suite", lambda: load_suite("x"), folder)


def toml(values: dict[str, Any]) -> str:
    """Values as TOML, as far as it can hold them."""

    def one(value: Any) -> str:
        if isinstance(value, dict):
            return "{" + ", ".join(f"{json.dumps(key)} = {one(item)}" for key, item in value.items()) + "}"
        if isinstance(value, list):
            return "[" + ", ".join(map(one, value)) + "]"
        return "nan" if value is None else json.dumps(value)

    return "".join(f"{json.dumps(key)} = {one(value)}\n" for key, value in values.items())


SUITE = {
    "title": "t",
    "methods": ["dinomaly", "knn"],
    "datasets": ["mvtec"],
    "settings": ["multi"],
    "seeds": [0, 1],
    "protocol": "common",
    "encoder": "x",
    "set": {"dinomaly": {"steps": 3}},
    "layout": "classes",
    "published": ["dinomaly_cvpr2025 1"],
}


@cases(150)
@given(values=bent(SUITE))
def test_suites_of_other_values(folder: Path, values: Any) -> None:
    (folder / "x.toml").write_bytes(toml(values).encode("utf-8", "surrogatepass"))
    survives("suite", lambda: load_suite("x"), folder)


KEYS = {name: tuple(METHODS.load(name).Config.model_fields) for name in METHODS.builtin}


@st.composite
def pairs(draw: st.DrawFn) -> str:
    method = draw(st.sampled_from((*KEYS, *KEYS, draw(names))))
    keys = KEYS.get(method, ("steps",))
    key = draw(st.sampled_from((*keys, *keys, draw(names))))
    value = draw(
        anything.map(json.dumps)
        | st.sampled_from((*NAMES, "NaN", "Infinity", "-0", "1e400", "[" * 9999))
        | st.text(max_size=9)
    )
    return draw(st.sampled_from((f"{method}.{key}={value}", f"{method}.{key}={value}", f"{method}{key}{value}", value)))


@cases(400)
@given(given_pairs=st.lists(pairs(), min_size=1, max_size=3))
def test_set_options(home: Path, given_pairs: list[str]) -> None:
    def use() -> None:
        for name, values in parse_set(given_pairs).items():
            kind = METHODS.load(name)
            config = configure(kind, "mvtec", values, None)
            # all that a plan makes of it before anything is read
            fingerprint(config.model_dump(mode="json"))
            kind(config).encoder()

    survives("--set", use, home)


@cases(150)
@given(
    text=st.text(max_size=20)
    | st.builds(
        "{}/{}@{}:{}={}".format, *[st.sampled_from(("pixel", "aupro", "0.3", "grid200", "", "-1", "1e999"))] * 5
    )
)
def test_metrics_and_tolerances(home: Path, text: str) -> None:
    survives("--tolerance", lambda: parse_tolerances([text], 5.0), home)
    survives("metric id", lambda: parse(text), home)


@cases(60)
@given(
    arguments=st.lists(
        st.sampled_from(("--plugin", "--plugin=", "--plugin=x.py", "--", "ls", "\ud800")) | st.text(max_size=6),
        max_size=5,
    )
)
def test_plugin_options_execute_nothing_by_being_split(home: Path, arguments: list[str]) -> None:
    survives("--plugin", lambda: plugins.split(arguments), home)
