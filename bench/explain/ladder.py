"""The ladder from one number to another: what each rule moves, averaged over the orders in which rules can be changed.

Rules interact, so what one moves depends on which were changed before it. Averaged over all orders each gets its
Shapley value (Shapley, A Value for n-Person Games, 1953), and these add up to the whole difference.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import combinations
from math import factorial

MOST_RULES = 6
"""All subsets of so many are measured: 64."""


def contributions(rules: Sequence[str], value: Callable[[frozenset[str]], float]) -> dict[str, float]:
    """Return what each rule moves: its Shapley value.

    Args:
        rules: at most `MOST_RULES` names.
        value: the number with some of the rules changed; called once a subset.

    Returns:
        Rule -> its part; they add up to `value(all) - value(none)` but for rounding.
    """
    if len(rules) > MOST_RULES:
        raise ValueError(f"{len(rules)} rules, expected at most {MOST_RULES}")
    measured = {
        frozenset(some): value(frozenset(some)) for size in range(len(rules) + 1) for some in combinations(rules, size)
    }
    n = len(rules)
    parts = {}
    for rule in rules:
        without = [some for some in measured if rule not in some]
        parts[rule] = sum(
            factorial(len(some))
            * factorial(n - len(some) - 1)
            / factorial(n)
            * (measured[some | {rule}] - measured[some])
            for some in without
        )
    return parts
