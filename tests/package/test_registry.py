from __future__ import annotations

import importlib
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from bench.api import Dataset, Method
from bench.errors import UsageError
from bench.registry import DATASETS, METHODS, Registry, did_you_mean, parsed

PLUGIN = '''"""A method from elsewhere.

More text.
"""
from bench.methods.dinomaly import Dinomaly


class Mine(Dinomaly):
    name = "mine"

    class Inner(Dinomaly):
        name = "inner"


class NotOne:
    pass


def did():
    return Mine
'''

HEAVY_PACKAGE = "raise RuntimeError('the package around a plug-in was imported')\n"

ENTRY_POINTS = """[bench.methods]
mine = plugin_for_test:Mine
inner = plugin_for_test:Mine.Inner
extras = plugin_for_test:Mine [gpu, more]
not-one = plugin_for_test:NotOne
a-function = plugin_for_test:did
no-attribute = plugin_for_test:Missing
no-module = no_such_module_at_all:Thing
no-colon = plugin_for_test
nonsense = ::!!
broken = broken_for_test:Thing
syntax = syntax_for_test:Thing
needs-more = needy_for_test:Thing
prefix = torchlike_for_test.sub:Thing
heavy = heavy_for_test.inner:Mine
hollow = hollow_for_test:Thing
dinomaly = plugin_for_test:Mine
"""


@pytest.fixture
def plugins(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Registry[Method]]:
    """The method registry as it is when a distribution with plug-ins is installed."""
    write_plugins(tmp_path)
    monkeypatch.syspath_prepend(str(tmp_path))
    importlib.invalidate_caches()
    before = set(sys.modules)
    yield Registry(kind=METHODS.kind, base=METHODS.base, builtin=dict(METHODS.builtin), group=METHODS.group)
    for name in set(sys.modules) - before:
        if "_for_test" in name:
            del sys.modules[name]


def write_plugins(folder: Path) -> None:
    meta = folder / "plugins_for_test-1.0.dist-info"
    meta.mkdir()
    (meta / "METADATA").write_text("Metadata-Version: 2.1\nName: plugins-for-test\nVersion: 1.0\n")
    (meta / "entry_points.txt").write_text(ENTRY_POINTS)
    (folder / "plugin_for_test.py").write_text(PLUGIN)
    (folder / "broken_for_test.py").write_text("nothing.at_all\n")
    (folder / "syntax_for_test.py").write_text("def broken(:\n")
    (folder / "needy_for_test.py").write_text('"""Needs more."""\nimport needed_but_not_there\n')
    (folder / "torchlike_for_test").mkdir()
    (folder / "torchlike_for_test" / "__init__.py").write_text("")
    (folder / "torchlike_for_test" / "sub.py").write_text("import torchlike\n")
    (folder / "heavy_for_test").mkdir()
    (folder / "heavy_for_test" / "__init__.py").write_text(HEAVY_PACKAGE)
    (folder / "heavy_for_test" / "inner.py").write_text('"""Light to list."""\n')
    (folder / "hollow_for_test").mkdir()


@pytest.mark.parametrize(
    ("word", "answer"),
    [("dinomly", " Did you mean 'dinomaly'?"), ("mvtek", " Did you mean 'mvtec'?"), ("zzz", ""), ("", "")],
)
def test_the_nearest_name_is_suggested(word: str, answer: str) -> None:
    assert did_you_mean(word, ["dinomaly", "mvtec", "folder"]) == answer


@pytest.mark.parametrize(("registry", "base"), [(METHODS, Method), (DATASETS, Dataset)])
def test_every_built_in_name_loads_and_has_a_summary(registry: Registry[Method], base: type) -> None:
    assert registry.names()[: len(registry.builtin)] == list(registry.builtin)
    for name in registry.builtin:
        kind = registry.load(name)
        assert issubclass(kind, base) and registry.load(name) is kind
        summary = registry.summary(name)
        assert summary and summary == (sys.modules[kind.__module__].__doc__ or "").partition("\n")[0]


def test_an_unknown_name_is_refused_with_what_there_is() -> None:
    with pytest.raises(UsageError) as refused:
        METHODS.load("dinomly")
    text = str(refused.value)
    assert "unknown method 'dinomly'. Did you mean 'dinomaly'?" in text
    assert "Known: dinomaly" in text and text.endswith("See: bench ls methods")
    assert refused.value.exit_code == 2


def test_plug_ins_are_listed_after_our_own_and_load(plugins: Registry[Method]) -> None:
    assert plugins.names()[0] == "dinomaly" and "mine" in plugins.names()[1:]
    assert plugins.names().count("dinomaly") == 1
    assert plugins.load("mine").name == "mine"
    assert plugins.load("inner").name == "inner"
    assert plugins.load("extras") is plugins.load("mine")


def test_a_plug_in_cannot_take_a_built_in_name(plugins: Registry[Method]) -> None:
    assert plugins.load("dinomaly").__module__ == "bench.methods.dinomaly"
    assert plugins.summary("dinomaly").startswith("Dinomaly:")


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("not-one", r"plugin_for_test:NotOne is no bench\.api\.Method"),
        ("no-attribute", r"points to plugin_for_test:Missing, which does not exist"),
        ("a-function", r"plugin_for_test:did is no bench\.api\.Method"),
        ("no-colon", r"points to plugin_for_test, which does not exist"),
        ("no-module", r"lives in no_such_module_at_all, which cannot be imported \(ModuleNotFoundError: "),
        ("broken", r"cannot be imported \(NameError: .*Traceback: --debug"),
        ("syntax", r"cannot be imported \(SyntaxError: "),
        ("needs-more", r"cannot be imported \(ModuleNotFoundError: No module named 'needed_but_not_there'\)"),
        ("prefix", r"cannot be imported \(ModuleNotFoundError: No module named 'torchlike'\)"),
        ("heavy", r"cannot be imported \(RuntimeError: "),
        ("hollow", r"points to hollow_for_test:Thing, which does not exist"),
        ("nonsense", "nonsense"),
    ],
)
def test_a_plug_in_that_cannot_be_used_says_why(plugins: Registry[Method], name: str, message: str) -> None:
    with pytest.raises(UsageError, match=message) as refused:
        plugins.load(name)
    assert f"method '{name}'" in str(refused.value)


def test_listing_imports_nothing_and_survives_broken_plug_ins(plugins: Registry[Method]) -> None:
    before = set(sys.modules)
    found = {name: plugins.summary(name) for name in plugins.names()}
    assert not {name for name in set(sys.modules) - before if "_for_test" in name}
    assert found["mine"] == found["extras"] == "A method from elsewhere."
    assert found["heavy"] == "Light to list."
    assert found["needs-more"] == "Needs more."
    assert found["no-module"] == "(not importable: no_such_module_at_all)"
    assert found["syntax"] == "(not importable: syntax_for_test)"
    assert found["hollow"] == "(not importable: hollow_for_test)"
    assert found["nonsense"].startswith("(not importable:")


def test_the_command_line_lists_plug_ins(tmp_path: Path) -> None:
    write_plugins(tmp_path)
    done = subprocess.run(
        [sys.executable, "-m", "bench", "ls", "methods"],
        env={**os.environ, "PYTHONPATH": str(tmp_path)},
        capture_output=True,
        text=True,
        check=True,
    )
    shown = done.stdout.splitlines()
    assert re.match(r"  dinomaly +ViT +Dinomaly:", shown[1])
    # what says nothing of its family or needs is listed last, as any encoder's
    others = shown[shown.index("other") :]
    assert any(re.fullmatch(r"  mine +ViT or CNN +A method from elsewhere\.", line) for line in others)
    assert any(re.match(r"  no-module +ViT or CNN +\(not importable: ", line) for line in others)


@pytest.mark.parametrize(
    ("body", "value"),
    [
        ("kind = 'memory'", "memory"),
        ("kind: ClassVar[str] = 'memory'", "memory"),
        ("kind = frozenset({'images', 'textures'})", {"images", "textures"}),
        ("kind = ('vit', 'cnn')", ("vit", "cnn")),
        ("kind = ()", ()),
        ("kind = print('no')", None),
        ("kind = frozenset()", None),
        ("kind: ClassVar[str]", None),
        ("other = 'memory'", None),
        ("def kind(self): ...", None),
    ],
)
def test_plain_values_of_a_class_are_read_off_its_source(
    body: str, value: object, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "stated_for_test.py").write_text(f"raise SystemExit\nclass Mine:\n    {body}\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    registry: Registry[Method] = Registry("method", "bench.api:Method", {"mine": "stated_for_test:Mine"}, "none")
    parsed.cache_clear()
    assert registry.stated("mine", "kind") == value


def test_a_checkout_that_is_not_installed_says_how_to(monkeypatch: pytest.MonkeyPatch) -> None:
    script = (
        "import sys\n"
        "sys.meta_path = [f for f in sys.meta_path if 'editable' not in getattr(f, '__module__', '').lower()]\n"
        "import bench.registry as r\n"
        "print(r.METHODS.summary('dinomaly'))\n"
        "try:\n    r.METHODS.load('dinomaly')\nexcept r.UsageError as e:\n    print(e)\n"
    )
    repo = Path(__file__).resolve().parents[2]
    done = subprocess.run([sys.executable, "-c", script], cwd=repo, capture_output=True, text=True, check=True)
    listed, refused = done.stdout.splitlines()
    if listed.startswith("Dinomaly"):
        pytest.skip("bench is installed as a wheel here, not from a checkout")
    assert listed == "(not importable: bench.methods.dinomaly)"
    assert refused.endswith("which is not installed. In a checkout run: pip install -e .")
