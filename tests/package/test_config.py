from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any, ClassVar, Literal

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bench import suites
from bench.api import MethodConfig, sourced
from bench.config import Suite, configure, fingerprint, load_suite, merge, parse_set
from bench.errors import UsageError
from bench.registry import METHODS

Dinomaly = METHODS.load("dinomaly")


class Small(MethodConfig):
    encoder: str = sourced("vit", "here", "encoder")
    input_size: int | None = sourced(None, "here", "side", gt=0)
    batch_size: int = sourced(4, "here", "images", gt=0)
    steps: int = sourced(10, "here", "steps", ge=0)
    rate: float = sourced(0.5, "here", "rate")
    kind: Literal["a", "b"] = sourced("a", "here", "kind")


class Fake:
    name = "fake"
    Config = Small
    overrides: ClassVar[dict[str, dict[str, Any]]] = {
        "realiad": {"steps": 50, "rate": 0.25},
        "single": {"steps": 20},
        "realiad/single": {"rate": 0.75},
    }


def made(given: dict[str, Any], dataset: str = "mvtec", encoder: str | None = None) -> Small:
    made = configure(Fake, dataset, given, encoder)  # type: ignore[arg-type]
    assert isinstance(made, Small)
    return made


@pytest.mark.parametrize(
    ("pair", "value"),
    [
        ("dinomaly.dropout=0.4", 0.4),
        ("dinomaly.dropout= 0.4 ", 0.4),
        (" dinomaly.dropout =0.4", 0.4),
        ("dinomaly.dropout=4e-1", 0.4),
        ("dinomaly.dropout=true", True),
        ("dinomaly.dropout=null", None),
        ("dinomaly.dropout=[[0,1],[2]]", [[0, 1], [2]]),
        ('dinomaly.dropout="7"', "7"),
        ("dinomaly.dropout=some text", "some text"),
        ("dinomaly.dropout=a=b", "a=b"),
        ("dinomaly.dropout=", ""),
        ("dinomaly.dropout=[1,", "[1,"),
        ("dinomaly.dropout=" + "[" * 100_000, "[" * 100_000),
        ("dinomaly.dropout=" + "9" * 5000, "9" * 5000),
    ],
)
def test_values_are_json_or_else_text(pair: str, value: object) -> None:
    parsed = parse_set([pair])["dinomaly"]["dropout"]
    assert parsed == value and type(parsed) is type(value)


def test_later_pairs_win_and_others_stay() -> None:
    pairs = ["dinomaly.steps=1", "dinomaly.lr=0.1", "dinomaly.steps=2"]
    assert parse_set(pairs) == {"dinomaly": {"steps": 2, "lr": 0.1}}
    assert parse_set([]) == {}


@pytest.mark.parametrize("pair", ["", "=", "dinomaly", "dinomaly=1", "dinomaly.=1", ".steps=1", "dinomaly.steps", "."])
def test_a_malformed_pair_is_refused_with_an_example(pair: str) -> None:
    with pytest.raises(UsageError, match=r"expected method\.key=value, for example dinomaly\.dropout=0\.4") as refused:
        parse_set([pair])
    assert f"--set '{pair}'" in str(refused.value)


def test_an_unknown_method_is_refused_with_a_suggestion() -> None:
    with pytest.raises(UsageError, match=r"unknown method 'dinomly'\. Did you mean 'dinomaly'\?"):
        parse_set(["dinomly.dropout=0.4"])


def test_a_method_that_was_not_asked_for_is_refused_unless_one_asked_for_is_misspelt() -> None:
    assert parse_set(["vitad.steps=1"], ["dinomaly", "vitad"]) == {"vitad": {"steps": 1}}
    with pytest.raises(UsageError, match="names 'vitad', but only these were asked for: dinomaly, rd4ad"):
        parse_set(["vitad.steps=1"], ["dinomaly", "rd4ad"])
    with pytest.raises(UsageError, match=r"unknown method 'vitda'\. Did you mean 'vitad'\?"):
        parse_set(["vitad.steps=1"], ["dinomaly", "vitda"])


def test_an_unknown_key_is_refused_with_a_suggestion() -> None:
    with pytest.raises(UsageError, match=r"no setting 'droput'\. Did you mean 'dropout'\? See: bench show dinomaly"):
        configure(Dinomaly, "mvtec", parse_set(["dinomaly.droput=0.4"])["dinomaly"], None)


@pytest.mark.parametrize(
    ("key", "value", "message"),
    [
        ("steps", "many", r"steps = 'many': input should be a valid integer"),
        ("steps", 1.5, "valid integer"),
        ("steps", -1, "greater than or equal to 0"),
        ("steps", [1], "valid integer"),
        ("steps", None, "valid integer"),
        ("steps", "9" * 5000, "steps = "),
        ("batch_size", 0, r"batch_size = 0: input should be greater than 0"),
        ("input_size", 0, "greater than 0"),
        ("rate", "fast", "valid number"),
        ("rate", math.nan, "rate = nan: input should be a finite number"),
        ("rate", math.inf, "finite number"),
        ("rate", "inf", "finite number"),
        ("rate", {"a": 1}, "valid number"),
        ("kind", "c", r"kind = 'c': input should be 'a' or 'b'"),
        ("encoder", 5, "valid string"),
    ],
)
def test_a_wrong_value_is_refused_in_one_short_line(key: str, value: object, message: str) -> None:
    with pytest.raises(UsageError, match=message) as refused:
        made({key: value})
    text = str(refused.value)
    assert text.startswith(f"fake: {key} = ") and text.endswith("See: bench show fake")
    assert "\n" not in text and len(text) < 300


def test_every_wrong_value_is_named() -> None:
    with pytest.raises(UsageError, match=r"steps = -1: .*; rate = 'x': "):
        made({"steps": -1, "rate": "x"})


def test_layers_defaults_paper_encoder_option_given() -> None:
    assert made({}) == Small()
    assert (made({}, "realiad").steps, made({}, "realiad").rate, made({}, "realiad").batch_size) == (50, 0.25, 4)
    both = made({"steps": 7}, "realiad")
    assert (both.steps, both.rate) == (7, 0.25)
    assert made({}, encoder="other").encoder == "other"
    assert made({"encoder": "third"}, encoder="other").encoder == "third"


def test_the_papers_values_for_a_setting_lie_over_those_for_a_dataset() -> None:
    def found(dataset: str, setting: str, **given: Any) -> tuple[int, float]:
        made = configure(Fake, dataset, given, None, setting)  # type: ignore[arg-type]
        assert isinstance(made, Small)
        return made.steps, made.rate

    assert found("mvtec", "multi") == found("mvtec", "few-shot") == (10, 0.5)
    assert found("mvtec", "single") == (20, 0.5)
    assert found("realiad", "few-shot") == (50, 0.25)
    assert found("realiad", "single") == (20, 0.75)
    assert found("realiad", "single", rate=1.0) == (20, 1.0)
    assert Fake.overrides["realiad"] == {"steps": 50, "rate": 0.25}, "no layer is changed"


def test_the_papers_values_for_a_dataset_are_dinomalys() -> None:
    here, there = (configure(Dinomaly, dataset, {}, None).model_dump() for dataset in ("mvtec", "realiad"))
    assert {key for key in here if here[key] != there[key]} == {"dropout", "steps"}
    assert (there["dropout"], there["steps"]) == (0.4, 50_000)


def test_merging_goes_key_by_key_and_changes_no_layer() -> None:
    suite = {"a": {"x": 1, "y": 1}, "b": {"x": 1}}
    line = {"a": {"y": 2}, "c": {"z": 3}}
    assert merge(suite, line) == {"a": {"x": 1, "y": 2}, "b": {"x": 1}, "c": {"z": 3}}
    assert merge(line, suite)["a"] == {"x": 1, "y": 1}
    assert suite == {"a": {"x": 1, "y": 1}, "b": {"x": 1}} and line == {"a": {"y": 2}, "c": {"z": 3}}
    assert merge() == {}


def test_fingerprints_follow_content_not_order() -> None:
    one = fingerprint({"a": 1, "b": [1.5, None], "c": {"x": 1, "y": 2}})
    assert one == fingerprint({"c": {"y": 2, "x": 1}, "b": [1.5, None], "a": 1})
    assert len(one) == 12 and set(one) <= set("0123456789abcdef")
    assert one == "01aefe97c228", "the same on every machine and in every version: names of recorded cells hang on it"
    changed = [{"a": 2}, {"a": 1.5}, {"a": "1"}, {"b": 1}, {"a": 1, "b": 1}, {"a": [1]}, {"a": None}]
    assert len({fingerprint(parts) for parts in [{"a": 1}, *changed]}) == 8


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(suites, "FOLDER", tmp_path)
    return tmp_path


def test_the_suites_that_ship_are_valid_and_name_what_exists() -> None:
    from bench.registry import DATASETS

    assert "demo" in suites.names() and suites.names() == sorted(suites.names())
    for name in suites.names():
        suite = load_suite(name)
        assert suite.title and set(suite.methods) <= set(METHODS.targets)
        assert set(suite.datasets) <= set(DATASETS.targets) and set(suite.set) <= set(suite.methods)
        for method, values in suite.set.items():
            for dataset in suite.datasets:
                configure(METHODS.load(method), dataset, values, suite.encoder)


def test_an_unknown_suite_is_refused_with_a_suggestion(folder: Path) -> None:
    (folder / "demo.toml").write_text("")
    (folder / "notes.txt").write_text("")
    assert suites.names() == ["demo"]
    with pytest.raises(UsageError, match=r"unknown suite 'dmo'\. Did you mean 'demo'\? Known: demo"):
        load_suite("dmo")


def test_a_suite_is_read_with_its_defaults(folder: Path) -> None:
    (folder / "s.toml").write_text('title = "T"\nmethods = ["m"]\ndatasets = ["d"]\n[set.m]\nsteps = 3\n')
    suite = load_suite("s")
    assert suite == Suite(title="T", methods=("m",), datasets=("d",), set={"m": {"steps": 3}})
    assert (suite.settings, suite.seeds, suite.protocol, suite.encoder) == (("multi",), (0,), "common", None)


HEAD = 'title = "T"\nmethods = ["m"]\ndatasets = ["d"]\n'


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"title =", "suite 's' is malformed"),
        (b"\xff\xfe", "suite 's' is malformed"),
        (b'title = "T"', "datasets = .*field required"),
        (HEAD.encode() + b"seads = [1]", r"no key 'seads'\. Did you mean 'seeds'\?"),
        (HEAD.encode() + b'seeds = ["one"]', r"seeds\.0 = 'one': input should be a valid integer"),
        (HEAD.encode() + b"set = 3", "set = 3: "),
        (HEAD.encode().replace(b'["m"]', b'"m"'), "methods = 'm': input should be a valid tuple"),
        (b'title = "T"\ndatasets = ["d"]', "expected either methods or variants"),
        (HEAD.encode() + b'[[variants]]\nname = "v"\nmethod = "m"', "expected either methods or variants"),
    ],
)
def test_a_malformed_suite_is_refused_with_the_place(folder: Path, content: bytes, message: str) -> None:
    (folder / "s.toml").write_bytes(content)
    with pytest.raises(UsageError, match=message):
        load_suite("s")


def test_a_suite_of_variants_names_their_methods(folder: Path) -> None:
    variants = "".join(f'[[variants]]\nname = "{name}"\nmethod = "{name[0]}"\n' for name in ("a1", "b1", "a2"))
    (folder / "s.toml").write_text(f'title = "T"\ndatasets = ["d"]\n{variants}set = {{ x = 1 }}\n')
    suite = load_suite("s")
    assert suite.every_method == ("a", "b") and suite.methods == ()
    assert [(one.name, one.set) for one in suite.variants] == [("a1", {}), ("b1", {}), ("a2", {"x": 1})]


keys = st.sampled_from(sorted(Dinomaly.Config.model_fields)) | st.text(max_size=8)
texts = st.text(max_size=20) | st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=4),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner, max_size=2),
    max_leaves=5,
).map(json.dumps)


@settings(max_examples=400, deadline=None)
@given(pair=st.text(max_size=30) | st.builds("dinomaly.{}={}".format, keys, texts))
def test_whatever_is_set_is_a_config_or_a_usage_error(pair: str) -> None:
    try:
        values = parse_set([pair])["dinomaly"]
        made = configure(Dinomaly, "mvtec", values, None)
    except UsageError:
        return
    # what was accepted can name a cell and be written to a record
    assert len(fingerprint(made.model_dump(mode="json"))) == 12
    assert Dinomaly.Config.model_validate_json(made.model_dump_json()) == made


@pytest.mark.parametrize("name", ["dinomaly-table2", "dual-student-table2"])
def test_tables_of_a_model_a_class_run_each_methods_official_length(name: str) -> None:
    suite = load_suite(name)
    assert suite.settings == ("single",)
    lengths = {}
    for method in ("rd4ad", "dinomaly"):
        kind = METHODS.load(method)
        config = configure(kind, "mvtec", suite.set.get(method, {}), suite.encoder, "single")
        lengths[method] = kind(config).steps(209)
    assert lengths == {"rd4ad": 2_800, "dinomaly": 5_000}
