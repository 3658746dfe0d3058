from __future__ import annotations

import pytest

from bench.machine import timing


def test_each_second_counts_once_in_the_innermost_phase(monkeypatch: pytest.MonkeyPatch) -> None:
    now = 0.0
    monkeypatch.setattr(timing.time, "perf_counter", lambda: now)
    watch = timing.Stopwatch({"train": 1.0})
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
    assert watch.seconds == {"metrics": 8.5, "inference": 20.0, "train": 201.0}
    assert sum(watch.seconds.values()) == now + 1.0
