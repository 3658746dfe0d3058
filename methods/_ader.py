"""What ADer's recipes share: epochs as iterations, and the evaluation that its tables were made with.

Code: github.com/zhangzjn/ADer, read at commit 902937a. Its evaluation differs from the protocol here where that would
not be a measurement, or is not offered:
- It takes an image's label from the resized mask, so that a defect that vanishes in the resize counts as normal; here
  the dataset's own label holds.
- ViTAD's paper reports the epoch of ten with the best pixel AUROC on the test set; here the last weights count.
- Its pixel F1-max (21 thresholds) and AUPRO (100) are taken over as the variants that they are. Since June 2024 it runs
  ADEval's histograms for pixel AUROC, AP and AUPRO instead; the papers' own tables are older.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from bench.protocol import Protocol

TRAIN_IMAGES = {
    "mvtec": 3629,
    "visa": 8659,
    "realiad": 36_465,
    "mvtec_loco": 1778,
    "btad": 1799,
    "mpdd": 888,
    "medical": 13_339,
}
"""Normal training images of all classes, by dataset; lengths of training follow from them."""


def iterations(dataset: str, epochs: int, batch_size: int) -> int:
    """Return the iterations of so many epochs, each dropping its last incomplete batch."""
    return TRAIN_IMAGES[dataset] // batch_size * epochs


def lengths(epochs: int, batch_size: int) -> Mapping[str, Mapping[str, Any]]:
    """Return `steps` by dataset, as `Method.overrides` takes them, for every dataset but the default MVTec-AD."""
    return {
        dataset: {"steps": iterations(dataset, epochs, batch_size)} for dataset in TRAIN_IMAGES if dataset != "mvtec"
    }


def protocol(method: str) -> Protocol:
    """Return ADer's evaluation: whole image, 256 x 256, masks resized bilinearly and cut at one half."""
    return Protocol(
        name=f"paper:{method}",
        version=1,
        crop=1.0,
        eval_size=256,
        mask_rule="ader",
        label_rule="dataset",
        metrics=(
            "image/auroc",
            "image/ap",
            "image/f1max",
            "pixel/auroc",
            "pixel/ap",
            "pixel/f1max:grid21",
            "pixel/aupro@0.3:grid100",
        ),
        checkpoint="last",
    )
