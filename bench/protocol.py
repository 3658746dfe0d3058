"""Evaluation protocols: what a score means. Frozen, named, versioned, hashed; loads no torch.

`common` is the fair comparison: every method is scored on the same pixels by the same rules; `ad2` likewise, at the
images' own sizes. `paper` stands for each method's own published recipe (`Method.paper`). Scores of two protocols are
never comparable; records carry the hash of the rules, and beside it the list of metrics, to which one can be added
without a number changing its meaning.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Literal

from bench.errors import UsageError
from bench.registry import did_you_mean

SEVEN = (
    "image/auroc",
    "image/ap",
    "image/f1max",
    "pixel/auroc",
    "pixel/ap",
    "pixel/f1max",
    "pixel/aupro@0.3",
)
"""The field's seven metrics; their unweighted mean is mAD."""

MaskRule = Literal["area", "dinomaly", "ader", "nearest", "full"]
LabelRule = Literal["dataset", "mask"]


@dataclass(frozen=True, slots=True)
class Protocol:
    """Everything between the files and the number that is not the method itself; defaults are those of `common`."""

    name: str
    version: int = 1
    crop: float = 1.0
    """Share of the resized image's side that the centre crop keeps; 1 scores the whole image."""
    eval_size: int = 256
    """Maps and masks are compared at eval_size x eval_size pixels."""
    mask_rule: MaskRule = "area"
    """`area`: any non-zero native value is anomalous, and an evaluation pixel counts as anomalous when at least half
    of its area is. `dinomaly`: bilinear resize of the 0/255 mask, crop, nearest to the evaluation size, then > 0.
    `ader`: bilinear resize of the 0/255 mask to the evaluation size, then > 0.5. `full`: likewise, then only where all
    of it is 255. `nearest`: the native pixel below an evaluation pixel's centre, any non-zero value."""
    label_rule: LabelRule = "dataset"
    """Image labels. `dataset`: the dataset's own statement. `mask`: as that, but an anomalous image whose mask has no
    pixel left at the evaluation size is normal, as in ADer's code; an image without a mask keeps its label."""
    own_size: bool = False
    """Maps of eval_size are resized bilinearly to the image's own size and compared with its mask as drawn."""
    metrics: tuple[str, ...] = SEVEN
    """What every finished record of this protocol holds; no rule, so not in the hash."""
    checkpoint: Literal["last"] = "last"
    """Which weights are scored; the last, since choosing by the test set is not a measurement."""

    def rules(self) -> dict[str, Any]:
        """Return every field but the metrics by name, as records carry them."""
        rules = self._facts()
        del rules["metrics"]
        return rules

    def _facts(self) -> dict[str, Any]:
        facts = asdict(self)
        # a later rule: left out where it does not hold, so that older protocols keep their hashes
        if not self.own_size:
            del facts["own_size"]
        return facts

    def hash(self) -> str:
        """Return 12 hex digits over the rules: two records compare only when these agree."""
        return hash_of(self.rules())

    def identity(self) -> str:
        """Return 12 hex digits over rules and metrics: what a cell's fingerprint is made of.

        A finished cell holds its protocol's own metrics, so they are part of which cell it is; metrics that a run adds
        are not. Record schema 1 used this as the hash, and its finished cells are still found under their names.
        """
        return hash_of(self._facts())

    def resize_for(self, input_size: int) -> int:
        """Return the side that images are resized to before the centre crop of `input_size`."""
        return round(input_size / self.crop)


def from_facts(rules: Mapping[str, Any], metrics: Sequence[str]) -> Protocol:
    """Return the protocol that a record carries. Raises ValueError for one of an unknown shape."""
    from pydantic import TypeAdapter

    return TypeAdapter(Protocol).validate_python({**rules, "metrics": metrics})


def hash_of(rules: Mapping[str, Any]) -> str:
    """Return 12 hex digits over named values: as JSON with sorted keys, no spaces, and nothing but ASCII."""
    text = json.dumps(rules, sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()[:12]


COMMON = Protocol("common")
AD2 = Protocol("ad2", eval_size=512, own_size=True, metrics=(*SEVEN[:-1], "pixel/aupro@0.05"))
"""As MVTec AD 2's authors score (Heckler-Kram et al., 2025): every image at its own size, AUPRO up to 5 % of false
positives. SegF1 stands beside it where thresholds are set (`--calibrate`)."""

SHARED = {protocol.name: protocol for protocol in (COMMON, AD2)}
"""Those that score every method by the same rules."""
SUMMARIES = {
    "common": "the fair comparison: whole image, 256x256 maps, native masks, exact metrics, last checkpoint",
    "ad2": "as MVTec AD 2: images at their own sizes, AUPRO up to 0.05; SegF1 with --calibrate",
    "paper": "each method's own published recipe: its crop, mask rule, image score and metric variants",
}


def check(name: str) -> None:
    """Raise UsageError, with the nearest name, unless there is a protocol called `name`."""
    if name not in SUMMARIES:
        raise UsageError(
            f"unknown protocol '{name}'.{did_you_mean(name, SUMMARIES)} Known: {', '.join(SUMMARIES)}. "
            "See: bench ls protocols"
        )
