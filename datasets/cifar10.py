"""CIFAR-10: 60,000 photographs of 32 x 32 pixels in 10 classes, image-level only (Krizhevsky, 2009).

Read from the Python version's pickles, of which nothing is executed. Samples of the set in the same files, with fewer
images in each, are read as well; `bench data verify` says how many are missing.
"""

from __future__ import annotations

from bench.api import Card, Counts, Download

from ._cifar import Cifar
from ._semantic import half_splits

_CLASSES = ("airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck")


class Cifar10(Cifar):
    """CIFAR-10 as distributed: data_batch_1 to data_batch_5 and test_batch."""

    card = Card(
        name="cifar10",
        title="CIFAR-10",
        kind="semantic",
        classes=_CLASSES,
        counts=dict.fromkeys(_CLASSES, Counts(5000, 1000, 0)),
        masks="none",
        licence="none stated by the authors; use in research is customary",
        citation="A. Krizhevsky: Learning Multiple Layers of Features from Tiny Images. Technical report, 2009.",
        source=(
            "Get the Python version (163 MiB) with 'bench data get cifar10', or from "
            "https://www.cs.toronto.edu/~kriz/cifar.html and unpack it."
        ),
        notes=(
            "50,000 training and 10,000 test images, 32 x 32 pixels; no masks, image-level scores only.",
            "Splits A to D (UniAD): train on five classes' training images, test on all 10,000 test images.",
        ),
        splits=half_splits(_CLASSES),
        downloads=(
            Download(
                "https://www.cs.toronto.edu/~kriz/cifar-10-python.tar.gz",
                sha256="6d958be074577803d12ecdefd02955f39262c83c16fe9348329d7fe0b5c001ce",
                bytes=170_498_071,
                unpack="tar",
            ),
        ),
    )
    aliases = ("cifar-10-batches-py", "cifar10", "cifar-10")
    held = "the pickles data_batch_1 to data_batch_5 and test_batch"
    files = (("test_batch", "test"), *((f"data_batch_{number}", f"train/{number}") for number in range(1, 6)))
    labels_key = "labels"
    meta = ("batches.meta", "label_names")
