from __future__ import annotations

import threading
import weakref
from collections.abc import Iterator

import pytest

from bench.machine.prefetch import Beforehand, one_behind


class Item:
    """Something that can be seen to be gone."""


def test_what_is_expected_is_made_in_a_thread_and_what_is_not_by_the_caller() -> None:
    threads: dict[str, threading.Thread] = {}

    def work(key: str) -> str:
        threads[key] = threading.current_thread()
        return key.upper()

    made = Beforehand(work)
    assert made.take("a") == "A" and threads["a"] is threading.current_thread()
    made.expect("b")
    assert made.take("b") == "B" and threads["b"] is not threading.current_thread()
    made.expect("c")
    assert made.take("d") == "D" and threads["d"] is threading.current_thread()
    assert made.take("c") == "C" and threads["c"] is threading.current_thread(), "an expectation that failed is over"


def test_an_error_of_the_thread_is_raised_where_the_result_is_taken() -> None:
    made: Beforehand[int, float] = Beforehand(lambda key: 1 / key)
    made.expect(0)
    with pytest.raises(ZeroDivisionError):
        made.take(0)
    made.expect(0)
    assert made.take(2) == 0.5, "the error of what is not wanted any more is nobody's"


def test_one_behind_keeps_the_order_and_draws_the_next_while_the_last_is_worked_on() -> None:
    drawn = [threading.Event() for _ in range(5)]

    def items() -> Iterator[int]:
        for number in range(4):
            drawn[number].set()
            yield number
        drawn[4].set()

    def work(number: int) -> int:
        # would wait for ever if the next item were drawn only after this one is done
        assert drawn[number + 1].wait(60)
        return number * 10

    assert list(one_behind(work, items())) == [0, 10, 20, 30]
    assert list(one_behind(work, [])) == []


def test_one_behind_holds_two_items_at_most() -> None:
    alive: list[weakref.ref[Item]] = []
    most = 0

    def items() -> Iterator[Item]:
        nonlocal most
        for _ in range(6):
            made = Item()
            alive.append(weakref.ref(made))
            most = max(most, sum(reference() is not None for reference in alive))
            yield made
            del made

    assert len(list(one_behind(id, items()))) == 6
    assert 1 <= most <= 2


def test_one_behind_stops_at_an_error_of_the_work() -> None:
    drawn = []

    def items() -> Iterator[int]:
        for number in range(9):
            drawn.append(number)
            yield number

    with pytest.raises(ZeroDivisionError):
        list(one_behind(lambda number: 1 / (number - 1), items()))
    assert drawn == [0, 1, 2], "item 2 was being drawn while item 1 failed, and item 3 never"
