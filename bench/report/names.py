"""How metrics, methods and datasets are called in tables."""

from __future__ import annotations

from functools import cache

from bench.protocol import SEVEN

MAD = "mad"
"""Mean of the seven metrics, as papers define mAD."""

HEADINGS = {
    "image/auroc": "I-AUROC",
    "image/ap": "I-AP",
    "image/f1max": "I-F1max",
    "pixel/auroc": "P-AUROC",
    "pixel/ap": "P-AP",
    "pixel/f1max": "P-F1max",
    "pixel/aupro@0.3": "AUPRO",
    "sample/auroc": "S-AUROC",
    "sample/ap": "S-AP",
    "sample/f1max": "S-F1max",
    MAD: "mAD",
}
GROUPS = {"image": "Image level", "pixel": "Pixel level", "sample": "Object level"}
COLUMNS = (*SEVEN, MAD)
"""The columns of an overview."""


def heading(metric: str) -> str:
    """Return a metric's column heading: I-AUROC for image/auroc, AUPRO:grid200 for a variant, I-AUROC logical."""
    base, colon, variant = metric.partition(":")
    if base.startswith("image/") and variant:
        # image level has no variants, but families of defects, see bench.run.extras
        return f"{HEADINGS.get(base, base)} {'mean of families' if variant == 'mean' else variant}"
    return f"{HEADINGS.get(base, base)}{colon}{variant}"


def group(metric: str) -> str:
    """Return the heading over the metrics of one level; empty for mAD."""
    return GROUPS.get(metric.partition("/")[0], "")


def base(metric: str) -> str:
    """Return a metric id without its variant."""
    return metric.partition(":")[0]


@cache
def dataset_title(name: str) -> str:
    """Return what a dataset's card calls it; the name itself where bench does not have the dataset."""
    from bench.registry import DATASETS

    if name not in DATASETS.targets:
        return name
    card = DATASETS.load(name).card
    # one of the user's own has the reader's card, and a name of its own
    return card.title if card.name == name else name


def method_title(name: str) -> str:
    """Return a method's name as papers print it; the name itself where none does."""
    from bench.published import method_names

    return method_names().get(name, name)
