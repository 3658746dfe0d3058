"""The half-splits of the semantic sets, where a class is a kind of thing and a split says which classes are normal.

The samples of such a set are all labelled 0, `good`, in the training and test parts as distributed; the setting of a
run says which classes are normal.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence


def half_splits(classes: Sequence[str]) -> Mapping[str, tuple[str, ...]]:
    """Return which classes are normal in the splits A to D: first half, second half, even and odd places.

    Source: You et al., UniAD, NeurIPS 2022, for CIFAR-10; later papers apply the same rule to the other sets.
    """
    half = len(classes) // 2
    return {
        "A": tuple(classes[:half]),
        "B": tuple(classes[half:]),
        "C": tuple(classes[::2]),
        "D": tuple(classes[1::2]),
    }
