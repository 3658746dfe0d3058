"""template_dataset: say in one line what its pictures show (bench ls datasets prints this line).

As it stands: a folder a class, in it `images/`, `masks/` of the anomalous ones, and a `split.json` that says which
images are trained on, and of those to test what is wrong with each:

    DIR/cups/images/0001.png    DIR/cups/masks/0009.png    DIR/cups/split.json
    {"train": ["0001", "0002"], "test": {"0008": "good", "0009": "scratch"}}
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from PIL import Image

from bench import regular
from bench.api import Card, Dataset, Sample, Split
from bench.errors import DatasetError

NAME = "template_dataset"
LAYOUT = "a folder a class, with images/, masks/ and a split.json"


class TemplateDataset(Dataset):
    """Classes that a split.json lists."""

    card = Card(
        name=NAME,
        title="TemplateDataset",
        kind="industrial",
        classes=(),  # in the paper's order; empty where the folders alone say them
        counts={},  # class -> Counts(train, good, bad) as published; bench data verify compares them with the files
        masks="pixel",
        licence="say which",
        citation="say which paper describes it",
        source="Say where it is had, in words that a person can follow.",
    )

    @classmethod
    def locate(cls, data_root: Path | None) -> Path:
        """Return the folder that holds the classes: the data root, or the folder of the dataset's name inside of it."""
        if data_root is None or not data_root.is_dir():
            raise DatasetError(f"{NAME}: no folder {data_root}. Expected --data-root DIR with {LAYOUT}")
        for folder in (data_root, data_root / NAME):
            if any(folder.glob("*/split.json")):
                return folder
        found = ", ".join(sorted(path.name for path in data_root.iterdir() if path.is_dir())) or "no folders"
        raise DatasetError(f"{NAME} is not at {data_root}: found {found}. Expected {LAYOUT}")

    def samples(self) -> tuple[Sample, ...]:
        """Read every split.json; no image is opened."""
        return tuple(sample for split in sorted(self.root.glob("*/split.json")) for sample in self._read(split))

    def _read(self, split: Path) -> list[Sample]:
        try:
            said = json.loads(regular.read_text(split))
            trained, tested = [str(stem) for stem in said["train"]], dict(said["test"])
        except (OSError, ValueError, KeyError, TypeError) as error:
            expected = '{"train": [image, ...], "test": {image: defect, ...}}'
            raise DatasetError(f"{split}: {type(error).__name__}: {error}. Expected {expected}") from error
        found = [self._sample(split.parent, "train", stem, "good") for stem in trained]
        found += [self._sample(split.parent, "test", stem, str(defect)) for stem, defect in tested.items()]
        return sorted(found, key=lambda sample: sample.id)

    def _sample(self, folder: Path, split: Split, stem: str, defect: str) -> Sample:
        image, mask = folder / "images" / f"{stem}.png", folder / "masks" / f"{stem}.png"
        bad = defect != "good"  # by the dataset's own word, never by a mask
        if bad and not mask.is_file():
            raise DatasetError(
                f"{image} is anomalous ({defect}), but there is no mask {mask}. "
                f"List all that is wrong with: bench data verify {NAME} --root {self.root}"
            )
        return Sample(
            id=f"{folder.name}/{split}/{stem}",  # unique, and the same on every machine
            cls=folder.name,
            split=split,
            label=int(bad),
            defect=defect,
            image=image,
            masks=(mask,) if bad else (),
        )


def miniature(root: Path) -> tuple[Sample, ...]:
    """Write a few small files in the dataset's layout, and return what has to be read of them, in order.

    The contract tests call it: pytest tests/contract/test_datasets.py --plugin FILE -k template_dataset
    """
    return tuple(sample for cls in ("cups", "plates") for sample in sorted(_class(root / cls), key=lambda one: one.id))


def _class(folder: Path) -> Iterator[Sample]:
    trained, tested = ("0001", "0002", "0003"), {"0004": "good", "0005": "good", "0006": "scratch"}
    for kind in ("images", "masks"):
        (folder / kind).mkdir(parents=True)
    (folder / "split.json").write_text(json.dumps({"train": trained, "test": tested}), encoding="utf-8")
    draw = np.random.default_rng(len(folder.name))
    for stem in (*trained, *tested):
        defect = tested.get(stem, "good")
        image, mask = folder / "images" / f"{stem}.png", folder / "masks" / f"{stem}.png"
        Image.fromarray(draw.integers(0, 256, (40, 48, 3), dtype=np.uint8)).save(image)
        area = np.zeros((40, 48), np.uint8)
        area[10:20, 15:30] = 255
        masks = (mask,) if defect != "good" else ()
        for path in masks:
            Image.fromarray(area).save(path)
        split: Split = "test" if stem in tested else "train"
        name = f"{folder.name}/{split}/{stem}"
        yield Sample(name, folder.name, split, len(masks), defect, image, masks=masks)
