"""Miniatures of the semantic sets: pickles as Python 2 wrote them, idx files plain and gzipped, nested folders."""

from __future__ import annotations

import gzip
import struct
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from bench.api import Sample, Split
from bench.registry import DATASETS

Row = tuple[str, int, Path]
"""Name of the part, row in the file, file."""


def python2_pickle(value: Any) -> bytes:
    """Pickle with protocol 2 as Python 2 and its NumPy do: byte strings as `str`, an array by `_reconstruct`."""
    return b"\x80\x02" + _python2(value) + b"."


def _python2(value: Any) -> bytes:
    if isinstance(value, bytes):
        return (b"U" + bytes([len(value)]) if len(value) < 256 else b"T" + struct.pack("<i", len(value))) + value
    if isinstance(value, int):
        return b"J" + struct.pack("<i", value)
    if isinstance(value, list):
        return b"](" + b"".join(map(_python2, value)) + b"e"
    if isinstance(value, dict):
        return b"}(" + b"".join(_python2(part) for pair in value.items() for part in pair) + b"u"
    assert value.dtype == np.uint8
    made = b"cnumpy.core.multiarray\n_reconstruct\ncnumpy\nndarray\nK\x00\x85U\x01b\x87R"
    kind = b"cnumpy\ndtype\nU\x02u1K\x00K\x01\x87R(K\x03U\x01|NNNJ\xff\xff\xff\xffJ\xff\xff\xff\xffK\x00tb"
    shape = b"(" + b"".join(map(_python2, value.shape)) + b"t"
    return made + b"(K\x01" + shape + kind + b"\x89" + _python2(value.tobytes()) + b"tb"


def idx_bytes(values: np.ndarray) -> bytes:
    """Return an array as an idx file."""
    return bytes((0, 0, 8, values.ndim)) + struct.pack(f">{values.ndim}I", *values.shape) + values.tobytes()


def pixels(part: str, count: int, *shape: int) -> np.ndarray:
    """Return uint8 [count, *shape], others for every part."""
    return np.random.default_rng(list(part.encode())).integers(0, 256, (count, *shape), dtype=np.uint8)


def samples_of(name: str, rows: dict[int, list[Row]]) -> tuple[Sample, ...]:
    """Return what must be read: all labelled 0, in the order of classes, then of ids."""
    found = []
    for label, cls in enumerate(DATASETS.load(name).card.classes):
        for part, row, file in sorted(rows[label]):
            split: Split = "test" if part == "test" else "train"
            found.append(Sample(f"{cls}/{part}/{row:05}", cls, split, 0, "good", file, member=str(row)))
    return tuple(found)


def write_cifar10(root: Path, each: int = 2) -> tuple[Sample, ...]:
    """Five training batches and a test batch; fewer images a batch than the original's 10,000."""
    home = root / "cifar-10-batches-py"
    home.mkdir(parents=True)
    classes = DATASETS.load("cifar10").card.classes
    rows: dict[int, list[Row]] = {label: [] for label in range(10)}
    for file, part in [(f"data_batch_{number}", f"train/{number}") for number in range(1, 6)] + [
        ("test_batch", "test")
    ]:
        labels = [(3 * row) % 10 for row in range(10 * each)]
        content = {b"batch_label": b"a batch", b"labels": labels, b"data": pixels(part, len(labels), 3072)}
        (home / file).write_bytes(python2_pickle({**content, b"filenames": [b"x.png"] * len(labels)}))
        for row, label in enumerate(labels):
            rows[label].append((part, row, home / file))
    names = [name.encode() for name in classes]
    (home / "batches.meta").write_bytes(python2_pickle({b"num_cases_per_batch": 10 * each, b"label_names": names}))
    return samples_of("cifar10", rows)


def write_cifar100(root: Path) -> tuple[Sample, ...]:
    """Fine labels that must not be read beside the coarse ones that must."""
    home = root / "cifar-100-python"
    home.mkdir(parents=True)
    rows: dict[int, list[Row]] = {label: [] for label in range(20)}
    for part in ("test", "train"):
        coarse = [(7 * row) % 20 for row in range(40)]
        content = {b"fine_labels": [99 - row for row in range(40)], b"coarse_labels": coarse}
        (home / part).write_bytes(python2_pickle({**content, b"data": pixels(part, 40, 3072)}))
        for row, label in enumerate(coarse):
            rows[label].append((part, row, home / part))
    names = [name.encode() for name in DATASETS.load("cifar100").card.classes]
    (home / "meta").write_bytes(python2_pickle({b"coarse_label_names": names, b"fine_label_names": [b"apple"]}))
    return samples_of("cifar100", rows)


def write_fmnist(root: Path, folder: str = "FashionMNIST/raw", zipped: bool = True) -> tuple[Sample, ...]:
    """The four idx files."""
    home = root / folder
    home.mkdir(parents=True)
    rows: dict[int, list[Row]] = {label: [] for label in range(10)}
    for word, part in (("train", "train"), ("t10k", "test")):
        labels = np.array([(7 * row) % 10 for row in range(30)], np.uint8)
        for what, values in (("images-idx3", pixels(part, 30, 28, 28)), ("labels-idx1", labels)):
            content = idx_bytes(values)
            name = f"{word}-{what}-ubyte{'.gz' if zipped else ''}"
            (home / name).write_bytes(gzip.compress(content) if zipped else content)
        file = home / f"{word}-images-idx3-ubyte{'.gz' if zipped else ''}"
        for row, label in enumerate(labels.tolist()):
            rows[label].append((part, row, file))
    return samples_of("fmnist", rows)


def write_view(root: Path, nested: bool = True) -> tuple[Sample, ...]:
    """Each tree inside another folder of its name; unlabelled pictures beside them; one image of another size."""
    samples: list[Sample] = []
    rng = np.random.default_rng(0)
    for cls in DATASETS.load("view").card.classes:
        parts: tuple[tuple[Split, str], ...] = (("test", "seg_test"), ("train", "seg_train"))
        for split, outer in parts:
            folder = root / outer / (outer if nested else ".") / cls
            folder.mkdir(parents=True)
            for number in (10, 9):
                file = folder / f"{number}.jpg"
                side = 15 if number == 9 else 11
                Image.fromarray(rng.integers(0, 256, (side, 15, 3), dtype=np.uint8)).save(file)
                samples.append(Sample(f"{cls}/{split}/{number}", cls, split, 0, "good", file))
    unlabelled = root / "seg_pred" / "seg_pred" / "3.jpg"
    unlabelled.parent.mkdir(parents=True)
    Image.new("RGB", (15, 15)).save(unlabelled)
    return tuple(samples)
