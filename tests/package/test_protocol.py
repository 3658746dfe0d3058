from __future__ import annotations

from dataclasses import fields, replace
from typing import Literal

import pytest

from bench.errors import UsageError
from bench.method import resolve
from bench.metrics.ids import parse_all
from bench.protocol import AD2, COMMON, SEVEN, SUMMARIES, Protocol
from bench.registry import METHODS

Dinomaly = METHODS.load("dinomaly")
DualStudent = METHODS.load("dual_student")
KINDS: tuple[Literal["industrial", "semantic"], ...] = ("industrial", "semantic")

OTHER = {
    "name": "other",
    "version": 2,
    "crop": 0.875,
    "eval_size": 224,
    "mask_rule": "dinomaly",
    "label_rule": "mask",
    "own_size": True,
    "metrics": SEVEN[:-1],
    "checkpoint": "best",
}


def test_the_hash_covers_every_rule_and_no_metric() -> None:
    assert OTHER.keys() == {field.name for field in fields(Protocol)}, "a new field needs another value here"
    others = {name: replace(COMMON, **{name: value}) for name, value in OTHER.items()}  # type: ignore[arg-type]
    assert others.pop("metrics").hash() == COMMON.hash()
    assert len({other.hash() for other in others.values()} | {COMMON.hash()}) == len(OTHER)
    assert replace(COMMON).hash() == COMMON.hash()


def test_the_identity_covers_metrics_too() -> None:
    others = [replace(COMMON, **{name: value}) for name, value in OTHER.items()]  # type: ignore[arg-type]
    assert len({other.identity() for other in others} | {COMMON.identity()}) == len(OTHER) + 1
    assert replace(COMMON, metrics=SEVEN[::-1]).identity() != COMMON.identity()


def test_the_hash_of_the_common_protocol_stands() -> None:
    # records already written are compared by it: a change of `common` needs a new version and a new line here
    assert (COMMON.version, COMMON.hash()) == (1, "64feccec323e")


def test_the_identity_of_the_common_protocol_stands() -> None:
    # cells finished under record schema 1 are found by names that this is part of
    assert COMMON.identity() == "6bcc1835d585"


def test_rules_are_what_records_carry() -> None:
    assert {*AD2.rules(), "metrics"} == OTHER.keys()
    assert {*AD2.rules()} - {*COMMON.rules()} == {"own_size"}, "older records know no later rule"


def test_names_resolve_for_a_method() -> None:
    for kind in KINDS:
        assert resolve("common", DualStudent, kind) is COMMON
        assert resolve("paper", Dinomaly, kind) is Dinomaly.paper
    assert resolve("ad2", Dinomaly, "industrial") is AD2
    assert set(SUMMARIES) == {"common", "ad2", "paper"}
    with pytest.raises(
        UsageError, match=r"unknown protocol 'papers'.*Known: common, ad2, paper\. See: bench ls protocols"
    ):
        resolve("papers", Dinomaly, "industrial")


def test_a_papers_recipe_may_be_another_on_semantic_sets() -> None:
    """Dual student's: from 448 pixels cropped to 392 on industrial sets, resized to 392 and whole on semantic ones."""
    industrial, semantic = (resolve("paper", DualStudent, kind) for kind in KINDS)
    assert (industrial.resize_for(392), semantic.resize_for(392)) == (448, 392)
    assert semantic.name == industrial.name and semantic.hash() != industrial.hash()
    assert {**semantic.rules(), "crop": industrial.crop} == industrial.rules()


def test_the_resize_before_the_crop() -> None:
    assert Dinomaly.paper.resize_for(392) == 448
    assert Dinomaly.paper.resize_for(448) == 512
    for size in (1, 64, 255, 256, 392, 518):
        assert COMMON.resize_for(size) == size
        assert Dinomaly.paper.resize_for(size) >= size


@pytest.mark.parametrize("name", METHODS.names())
def test_papers_protocols_are_named_apart_and_measure_what_exists(name: str) -> None:
    paper = METHODS.load(name).paper
    assert paper.name == f"paper:{name}" and paper.hash() != COMMON.hash()
    assert 0 < paper.crop <= 1 and paper.eval_size > 0
    assert [str(metric) for metric in parse_all(paper.metrics)] == list(paper.metrics)
