"""Scores that papers print, as data: every result table of the papers that bench reproduces, one row a number.

    >>> from bench.published import MEAN, lookup
    >>> [(score.value, score.where) for score in lookup("dinomaly", "mvtec", MEAN, "pixel/ap")][:1]
    [('69.3', 'dinomaly_cvpr2025 table 1')]

Values are the printed digits, in percent. Two rows compare only where their protocols do: see protocols.toml.
"""

from __future__ import annotations

from bench.published.read import (
    MEAN,
    Computed,
    Paper,
    PaperTable,
    Score,
    lookup,
    method_names,
    papers,
    protocols,
    read,
    scores,
)

__all__ = [
    "MEAN",
    "Computed",
    "Paper",
    "PaperTable",
    "Score",
    "lookup",
    "method_names",
    "papers",
    "protocols",
    "read",
    "scores",
]
