"""Disputes: what is found of one image, or of a class."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

Kind = Literal["twin", "near", "vanished", "cue", "wrong"]
KINDS: dict[Kind, str] = {
    "twin": "the same pixels in training and test, or under two labels",
    "near": "nearer to a training image than training images are to each other",
    "vanished": "anomalous, and no pixel of its mask is left at the evaluation size",
    "cue": "a plain number separates the labels of its class (bench data cues)",
    "wrong": "on the wrong side of the other label's median for every recorded method",
}
"""In the order in which they are listed."""
BY_DATA: tuple[Kind, ...] = ("twin", "near", "vanished")
"""Those that the data alone dispute a test image by. A cue is of a class, and says of no image that it is wrong."""


@dataclass(frozen=True, slots=True)
class Dispute:
    """One thing found."""

    kind: Kind
    cls: str
    image: str
    """Id of the sample; empty where it is of the whole class."""
    text: str
    """What was found, with its value and what it was held against."""
