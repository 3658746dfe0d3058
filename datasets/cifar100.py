"""CIFAR-100 by its 20 coarse classes: 60,000 photographs of 32 x 32 pixels, image-level only (Krizhevsky, 2009).

As everywhere in this field a class is one of the 20 superclasses, numbered as in the file's own `coarse_labels`; tables
that derive them from the fine labels are wrong in places. Read from the pickles, of which nothing is executed.
"""

from __future__ import annotations

from bench.api import Card, Counts, Download

from ._cifar import Cifar
from ._semantic import half_splits

_CLASSES = (
    "aquatic_mammals",
    "fish",
    "flowers",
    "food_containers",
    "fruit_and_vegetables",
    "household_electrical_devices",
    "household_furniture",
    "insects",
    "large_carnivores",
    "large_man-made_outdoor_things",
    "large_natural_outdoor_scenes",
    "large_omnivores_and_herbivores",
    "medium_mammals",
    "non-insect_invertebrates",
    "people",
    "reptiles",
    "small_mammals",
    "trees",
    "vehicles_1",
    "vehicles_2",
)


class Cifar100(Cifar):
    """CIFAR-100 as distributed: the files train and test."""

    card = Card(
        name="cifar100",
        title="CIFAR-100 (20 coarse classes)",
        kind="semantic",
        classes=_CLASSES,
        counts=dict.fromkeys(_CLASSES, Counts(2500, 500, 0)),
        masks="none",
        licence="none stated by the authors; use in research is customary",
        citation="A. Krizhevsky: Learning Multiple Layers of Features from Tiny Images. Technical report, 2009.",
        source=(
            "Get the Python version (161 MiB) with 'bench data get cifar100', or from "
            "https://www.cs.toronto.edu/~kriz/cifar.html and unpack it."
        ),
        notes=(
            "50,000 training and 10,000 test images, 32 x 32 pixels; no masks, image-level scores only.",
            "Classes are the 20 coarse ones, in the file's order. Splits over the 100 fine ones are another task.",
            "Splits A to D: train on ten classes' training images, test on all 10,000 test images.",
        ),
        splits=half_splits(_CLASSES),
        downloads=(
            Download(
                "https://www.cs.toronto.edu/~kriz/cifar-100-python.tar.gz",
                sha256="85cd44d02ba6437773c5bbd22e183051d648de2e7d6b014e1ef29b855ba677a7",
                bytes=169_001_437,
                unpack="tar",
            ),
        ),
    )
    aliases = ("cifar-100-python", "cifar100", "cifar-100")
    held = "the pickles train and test"
    files = (("test", "test"), ("train", "train"))
    labels_key = "coarse_labels"
    meta = ("meta", "coarse_label_names")
