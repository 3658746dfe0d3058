"""What .ci/run decides by the metrics' speed."""

from __future__ import annotations

from pathlib import Path

import pytest
from perf import regression

from bench.checks import speed


def test_an_alarm_takes_the_same_benchmark_in_every_try() -> None:
    runs = [{"a": 1.0, "b": 1.0}, {"a": 1.1, "b": 1.0}, {"a": 3.0, "b": 1.0}, {"a": 1.0, "b": 3.0}]
    # a slow run is one after each of the three others
    assert regression.alarms(runs, 1.0, 1) == (6, 12)
    # two slow runs, but of different benchmarks
    assert regression.alarms(runs, 1.0, 2) == (0, 24)
    # twice the same one, in both orders, after each of three
    assert regression.alarms([*runs, runs[2]], 1.0, 2) == (6, 60)


def test_what_was_not_timed_is_too_slow() -> None:
    assert set(regression.slower({"a": 1.0, "b": 2.0}, {"a": 1.9}, 1.0)) == {"b"}


@pytest.mark.parametrize(("later", "code"), [([3.0, 1.2], 0), ([3.0, 3.0, 3.0], 1)])
def test_a_busy_moment_is_tried_again_and_a_regression_stays(
    later: list[float], code: int, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    times = iter([{"a": 1.0, "b": 1.0}, *({"a": one, "b": 1.0} for one in later)])
    monkeypatch.setattr(speed, "read", lambda path: next(times))
    monkeypatch.setattr(regression, "timed", lambda out: out)
    assert regression.compare(Path()) == code
    assert capsys.readouterr().out.count("a: 3.00 times the recorded time") == later.count(3.0)
