"""Rankings against the worked example and the critical values in Demsar (JMLR 2006)."""

from __future__ import annotations

from math import sqrt

import pytest
from scipy.stats import chi2

from bench.errors import UsageError
from bench.stats import complete, nemenyi_distance, rank_methods, wilcoxon_holm
from bench.stats.ranking import Ranking, holm

# table 6 there: AUC of C4.5 and three variants of it on fourteen data sets
C45 = (0.763, 0.599, 0.954, 0.628, 0.882, 0.936, 0.661, 0.583, 0.775, 1.000, 0.940, 0.619, 0.972, 0.957)
WITH_M = (0.768, 0.591, 0.971, 0.661, 0.888, 0.931, 0.668, 0.583, 0.838, 1.000, 0.962, 0.666, 0.981, 0.978)
WITH_CF = (0.771, 0.590, 0.968, 0.654, 0.886, 0.916, 0.609, 0.563, 0.866, 1.000, 0.965, 0.614, 0.9751, 0.946)
WITH_BOTH = (0.798, 0.569, 0.967, 0.657, 0.898, 0.931, 0.685, 0.625, 0.875, 1.000, 0.962, 0.669, 0.975, 0.970)
DEMSAR = {
    name: {f"set {place}": value for place, value in enumerate(column)}
    for name, column in {"C4.5": C45, "+m": WITH_M, "+cf": WITH_CF, "+m+cf": WITH_BOTH}.items()
}


def test_the_worked_example_of_the_source() -> None:
    found = rank_methods(DEMSAR)
    assert dict(zip(found.methods, found.ranks, strict=True)) == pytest.approx(
        {"C4.5": 3.143, "+m": 2.000, "+cf": 2.893, "+m+cf": 1.964}, abs=5e-4
    )
    # the source leaves the correction for ties out, which can only raise the statistic
    uncorrected = 12 * 14 / (4 * 5) * (sum(rank**2 for rank in found.ranks) - 4 * 5**2 / 4)
    assert uncorrected == pytest.approx(9.28, abs=5e-3) and found.statistic > uncorrected
    assert found.p == pytest.approx(float(chi2.sf(found.statistic, 3)))
    assert found.distance == pytest.approx(1.25, abs=5e-3)
    assert nemenyi_distance(4, 14, 0.1) == pytest.approx(1.12, abs=6e-3)
    # nothing is further apart than 1.25, so all four form one group
    assert found.groups == ((0, 3),)


@pytest.mark.parametrize(
    ("methods", "q05", "q10"),
    [(2, 1.960, 1.645), (3, 2.343, 2.052), (5, 2.728, 2.459), (8, 3.031, 2.780), (10, 3.164, 2.920)],
)
def test_critical_values_are_those_of_the_source(methods: int, q05: float, q10: float) -> None:
    factor = sqrt(methods * (methods + 1) / (6 * 30))
    assert nemenyi_distance(methods, 30) / factor == pytest.approx(q05, abs=2e-3)
    assert nemenyi_distance(methods, 30, 0.1) / factor == pytest.approx(q10, abs=2e-3)


def test_groups_are_the_widest_runs() -> None:
    made = Ranking(("a", "b", "c", "d", "e"), (1.0, 1.8, 2.4, 4.0, 4.5), 9, (), 1.0, 0.01, 1.0, 0.05)
    assert made.groups == ((0, 1), (1, 2), (3, 4))
    assert Ranking(("a", "b"), (1.0, 2.0), 9, (), 1.0, 0.01, 0.5, 0.05).groups == ()


def test_incomplete_blocks_are_named_and_not_counted() -> None:
    scores = {"a": {"x": 0.9, "y": 0.8, "z": 0.7}, "b": {"x": 0.8, "y": None, "z": 0.6}, "c": {"x": 0.7, "z": 0.5}}
    blocks = complete(scores)
    assert blocks.names == ("x", "z") and blocks.left_out == ("y",)
    found = rank_methods(scores)
    assert found.blocks == 2 and found.left_out == ("y",) and found.ranks == (1.0, 2.0, 3.0)


def test_methods_that_always_tie_do_not_differ() -> None:
    same = {name: {"x": 1.0, "y": 1.0, "z": 1.0} for name in "abc"}
    found = rank_methods(same)
    assert found.ranks == (2.0, 2.0, 2.0) and (found.statistic, found.p) == (0.0, 1.0)
    assert set(wilcoxon_holm(same).values()) == {1.0}


def test_digits_that_nobody_prints_make_no_rank() -> None:
    scores = {"a": {"x": 0.90001, "y": 0.8}, "b": {"x": 0.90002, "y": 0.7}, "c": {"x": 0.5, "y": 0.5}}
    assert rank_methods(scores).ranks == (1.5, 1.5, 3.0)
    assert rank_methods(scores, decimals=3).ranks == (1.25, 1.75, 3.0)


def test_holm_steps_down() -> None:
    # 4 x 0.01, then 3 x 0.03 before 2 x 0.04, which must not fall below it
    assert holm([0.04, 0.01, 0.5, 0.03]) == pytest.approx([0.09, 0.04, 0.5, 0.09])
    assert holm([0.9, 0.8]) == [1.0, 1.0]


def test_wilcoxon_finds_a_constant_advantage() -> None:
    scores = {
        "good": {str(place): 0.9 + place / 1000 for place in range(12)},
        "bad": {str(place): 0.8 + place / 900 for place in range(12)},
        "same": {str(place): 0.8 + place / 900 for place in range(12)},
    }
    found = wilcoxon_holm(scores)
    # 2 / 2^12 exactly for one pair, times three
    assert found["good", "bad"] == pytest.approx(3 * 2 / 2**12)
    assert found["bad", "same"] == 1.0


def test_too_little_to_rank_is_refused() -> None:
    with pytest.raises(UsageError, match="2 methods"):
        rank_methods({"a": {"x": 1.0, "y": 0.5}, "b": {"x": 0.5, "y": 1.0}})
    with pytest.raises(UsageError, match="1 classes"):
        rank_methods({name: {"x": 1.0} for name in "abc"})
    with pytest.raises(UsageError, match="1 methods"):
        wilcoxon_holm({"a": {"x": 1.0, "y": 0.5}})
