"""Fashion-MNIST: 70,000 grey pictures of clothes, 28 x 28 pixels, in 10 classes, image-level only (Xiao et al., 2017).

Read from the four idx files, gzipped as distributed, or unpacked; where both are there, the gzipped ones count. They
may lie as torchvision puts them (FashionMNIST/raw) or as Debian's package dataset-fashion-mnist does. MNIST's files
have the same names and sizes: `bench data verify` tells them apart, since MNIST's classes differ in size.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from bench.api import Card, Counts, Download
from bench.errors import DatasetError
from bench.loading import idx

from ._arrays import ArrayDataset, ArrayFile, Images
from ._listing import is_file
from ._semantic import half_splits

SIDE = 28

_CLASSES = ("t-shirt", "trouser", "pullover", "dress", "coat", "sandal", "shirt", "sneaker", "bag", "ankle_boot")
_SERVER = "http://fashion-mnist.s3-website.eu-central-1.amazonaws.com"
_FOLDER = "FashionMNIST/raw"


class FashionMNIST(ArrayDataset):
    """Fashion-MNIST as distributed: {train,t10k}-{images-idx3,labels-idx1}-ubyte.gz."""

    card = Card(
        name="fmnist",
        title="Fashion-MNIST",
        kind="semantic",
        classes=_CLASSES,
        counts=dict.fromkeys(_CLASSES, Counts(6000, 1000, 0)),
        masks="none",
        licence="MIT",
        citation=(
            "H. Xiao, K. Rasul, R. Vollgraf: Fashion-MNIST: a Novel Image Dataset for Benchmarking Machine Learning "
            "Algorithms. arXiv:1708.07747, 2017."
        ),
        source=(
            "Get the four files (29 MiB) with 'bench data get fmnist', from "
            "https://github.com/zalandoresearch/fashion-mnist, or with 'apt-get install dataset-fashion-mnist' and "
            "the root /usr/share/datasets."
        ),
        notes=(
            "60,000 training and 10,000 test images, 28 x 28 pixels, grey, read as RGB; no masks.",
            "'t-shirt' is the owners' 'T-shirt/top', 'ankle_boot' their 'Ankle boot'.",
            "Splits A to D: train on five classes' training images, test on all 10,000 test images.",
            "Debian's files have the owners' content, but other checksums (no file name in the gzip header).",
        ),
        splits=half_splits(_CLASSES),
        downloads=(
            Download(
                f"{_SERVER}/train-images-idx3-ubyte.gz",
                sha256="3aede38d61863908ad78613f6a32ed271626dd12800ba2636569512369268a84",
                bytes=26_421_880,
                folder=_FOLDER,
            ),
            Download(
                f"{_SERVER}/train-labels-idx1-ubyte.gz",
                sha256="a04f17134ac03560a47e3764e11b92fc97de4d1bfaf8ba1a3aa29af54cc90845",
                bytes=29_515,
                folder=_FOLDER,
            ),
            Download(
                f"{_SERVER}/t10k-images-idx3-ubyte.gz",
                sha256="346e55b948d973a97e58d2351dde16a484bd415d4595297633bb08f03db6a073",
                bytes=4_422_102,
                folder=_FOLDER,
            ),
            Download(
                f"{_SERVER}/t10k-labels-idx1-ubyte.gz",
                sha256="67da17c76eaffca5446c3361aaab5c3cd6d1c2608764d35dfb1850b086bf8dd5",
                bytes=5_148,
                folder=_FOLDER,
            ),
        ),
    )
    aliases = ("fashionmnist", "fashion-mnist", "fmnist", "raw")

    @classmethod
    def is_at(cls, folder: Path) -> bool:
        """Return whether one of the two image files is there."""
        return any(is_file(_file(folder, split, "images-idx3")) for split in ("train", "t10k"))

    @classmethod
    def layout(cls) -> str:
        """See `FileDataset.layout`."""
        return "train-images-idx3-ubyte.gz, train-labels-idx1-ubyte.gz and the same two of t10k"

    def parts(self) -> Sequence[ArrayFile]:
        """See `ArrayDataset.parts`."""
        return [
            ArrayFile("test", "test", _file(self.root, "t10k", "images-idx3")),
            ArrayFile("train", "train", _file(self.root, "train", "images-idx3")),
        ]

    def labels(self, part: ArrayFile) -> Sequence[int]:
        """See `ArrayDataset.labels`; of the image file the header alone is read."""
        found = idx.shape(part.path)
        if found[1:] != (SIDE, SIDE):
            raise DatasetError(f"{part.path}: its header says {found}. Expected images of {SIDE} x {SIDE} pixels")
        path = _file(self.root, part.path.name.partition("-")[0], "labels-idx1")
        labels = idx.read(path)
        if labels.shape != found[:1]:
            raise DatasetError(f"{path}: labels {labels.shape} for {found[0]} images. Expected one an image")
        numbers: list[int] = labels.tolist()
        return numbers

    def decode(self, path: Path) -> Images:
        """Return uint8 [N, 28, 28]."""
        return idx.read(path)


def _file(folder: Path, split: str, what: str) -> Path:
    """Return the gzipped file, or the plain one where only that is there."""
    plain = folder / f"{split}-{what}-ubyte"
    zipped = plain.with_name(f"{plain.name}.gz")
    return plain if is_file(plain) and not is_file(zipped) else zipped
