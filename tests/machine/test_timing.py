from __future__ import annotations

import time
from itertools import repeat

import pytest

from bench.machine import timing


def test_each_second_counts_once_in_the_innermost_phase(monkeypatch: pytest.MonkeyPatch) -> None:
    now = 0.0
    monkeypatch.setattr(timing.time, "perf_counter", lambda: now)
    watch = timing.Stopwatch()
    with watch.phase("metrics"):
        now += 2
        for _ in range(2):
            with watch.phase("inference"):
                now += 10
                with watch.phase("train"):
                    now += 100
            now += 3
    with pytest.raises(KeyError), watch.phase("metrics"):
        now += 0.5
        raise KeyError
    assert watch.seconds == {"metrics": 8.5, "inference": 20.0, "train": 200.0}
    assert sum(watch.seconds.values()) == now
    assert watch.joules == {}


def test_each_joule_counts_once_too_and_what_nobody_counts_is_left_out() -> None:
    counts = iter([100.0, 110.0, 130.0, 135.0, None, 200.0])
    watch = timing.Stopwatch(lambda: next(counts))
    with watch.phase("metrics"), watch.phase("inference"):
        pass
    assert watch.joules == {"metrics": 15.0, "inference": 20.0}
    with watch.phase("train"):
        pass
    assert watch.joules == {"metrics": 15.0, "inference": 20.0} and watch.seconds.keys() == {"train", *watch.joules}


def test_calls_are_timed_one_by_one_and_the_first_are_left_out() -> None:
    waits = [0.2, 0.2, 0.2, 0.002, 0.002, 0.002]
    found = timing.one_by_one(time.sleep, waits, seconds=10)
    assert len(found) == 3 and all(0.002 <= one < 0.1 for one in found)
    assert len(timing.one_by_one(time.sleep, [0.001] * 50, seconds=10)) == 50 - timing.WARM


def test_the_time_that_is_given_is_kept_but_for_the_fewest() -> None:
    seen: list[float] = []

    def call(wait: float) -> None:
        seen.append(wait)
        time.sleep(wait)

    timing.one_by_one(call, repeat(0.01), seconds=0)
    assert len(seen) == timing.FEWEST
    timing.one_by_one(call, repeat(0.01), seconds=0.2)
    assert 2 * timing.FEWEST < len(seen) <= timing.FEWEST + 21
    assert timing.one_by_one(call, [], seconds=1) == []
