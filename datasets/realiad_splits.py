"""Real-IAD's other official splits: single-view, and fully unsupervised ones with anomalous training images (FUIAD).

The pictures are Real-IAD's; other split files name them, `realiad_jsons_sv` and `realiad_jsons_fuiad_<rate>`, where the
rate is the share of anomalous training images that the owners state. Each is a dataset by its own name: their scores do
not compare with those of the multi-view split.
"""

from __future__ import annotations

from dataclasses import replace

from bench.api import Card

from ._split_json import SplitFiles
from .realiad import RealIAD

_BASE = RealIAD.card
_SAME = "The pictures are those of realiad; only the split files differ."


class SingleView(RealIAD):
    """Real-IAD's single-view split: the view from above alone."""

    files = SplitFiles(lists="realiad_jsons_sv")
    card = replace(
        _BASE,
        name="realiad_sv",
        title="Real-IAD, single-view",
        totals=None,
        notes=(_SAME, *_BASE.notes[2:]),
    )


class _Noisy(RealIAD):
    """Base of the splits with anomalous training images."""

    noisy = True


def _card(rate: str, words: str) -> Card:
    return replace(
        _BASE,
        name=f"realiad_fuiad_{rate.removesuffix('.0')}",
        title=f"Real-IAD, FUIAD {rate}",
        totals=None,
        notes=(
            _SAME,
            f"Fully unsupervised: {words}, as its owners chose them; records say how many there are of each class.",
            *_BASE.notes[1:],
        ),
    )


class Noisy0(_Noisy):
    """Real-IAD's FUIAD split without noise, which the noisy ones compare with."""

    files = SplitFiles(lists="realiad_jsons_fuiad_0.0")
    card = _card("0.0", "no anomalous image among the training images")


class Noisy10(_Noisy):
    """Real-IAD's FUIAD split of rate 0.1."""

    files = SplitFiles(lists="realiad_jsons_fuiad_0.1")
    card = _card("0.1", "anomalous images among the training images at a rate of 0.1")


class Noisy20(_Noisy):
    """Real-IAD's FUIAD split of rate 0.2."""

    files = SplitFiles(lists="realiad_jsons_fuiad_0.2")
    card = _card("0.2", "anomalous images among the training images at a rate of 0.2")


class Noisy40(_Noisy):
    """Real-IAD's FUIAD split of rate 0.4."""

    files = SplitFiles(lists="realiad_jsons_fuiad_0.4")
    card = _card("0.4", "anomalous images among the training images at a rate of 0.4")
