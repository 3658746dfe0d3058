from __future__ import annotations

from bench.store.apart import apart


def test_few_facts_tell_configurations_apart() -> None:
    # the rate goes with the steps and says nothing more
    found = apart([{"steps": 1, "rate": 0.1, "size": 8}, {"steps": 2, "rate": 0.2, "size": 8}])
    assert found == [{"steps": 1}, {"steps": 2}]


def test_a_second_fact_stands_where_the_first_is_not_enough() -> None:
    found = apart([{"a": 1, "b": 1}, {"a": 1, "b": 2}, {"a": 2, "b": 1}])
    assert found == [{"a": 1, "b": 1}, {"a": 1, "b": 2}, {"a": 2, "b": 1}]


def test_what_one_lacks_is_not_said_of_it() -> None:
    assert apart([{}, {"dropout": None}]) == [{}, {"dropout": None}]


def test_numbers_and_texts_differ_and_lists_compare() -> None:
    assert apart([{"a": [1, 2]}, {"a": [1, 2]}]) == [{}, {}]
    assert apart([{"a": 1}, {"a": "1"}]) == [{"a": 1}, {"a": "1"}]
    assert apart([{"a": 1}]) == [{}]
