"""Labelled: images in one folder, and a table that says what they are. An example of a layout of one's own.

labels.csv has a line an image: file,class,split,defect,mask. `split` is train or test, `defect` is good for a normal
image, `mask` is empty or a file whose non-zero pixels are anomalous. Paths are relative to the table.
"""

from __future__ import annotations

import csv
from pathlib import Path
from typing import cast

from PIL import Image

from bench.api import Card, Dataset, Sample, Split
from bench.errors import DatasetError

TABLE = "labels.csv"
COLUMNS = ("file", "class", "split", "defect", "mask")


class Labelled(Dataset):
    """Whatever lies beside a labels.csv."""

    card = Card(
        name="labelled",
        title="images with a labels.csv",
        kind="industrial",
        classes=(),  # known from the files alone
        counts={},
        masks="optional",
        licence="yours",
        citation="none",
        source=f"Put your images below a folder with a {TABLE}: {','.join(COLUMNS)}",
    )

    @classmethod
    def locate(cls, data_root: Path | None) -> Path:
        """Return the folder that holds the table: the data root, or the folder `labelled` inside of it."""
        if data_root is None or not data_root.is_dir():
            raise DatasetError(f"labelled: no folder {data_root}. Expected --data-root DIR with a {TABLE}")
        for folder in (data_root, data_root / "labelled"):
            if (folder / TABLE).is_file():
                return folder
        found = ", ".join(sorted(path.name for path in data_root.iterdir() if path.is_dir())) or "no folders"
        raise DatasetError(f"labelled is not at {data_root}: found {found}. Expected a {TABLE}")

    def samples(self) -> tuple[Sample, ...]:
        """Read the table; no image is opened."""
        path = self.root / TABLE
        with path.open(encoding="utf-8", newline="") as file:
            rows = list(csv.DictReader(file))
        found = []
        for line, row in enumerate(rows, start=2):
            if any(row.get(column) is None for column in COLUMNS) or row["split"] not in ("train", "test"):
                raise DatasetError(f"{path}, line {line}: {row}. Expected {','.join(COLUMNS)}, split train or test")
            mask = self.root / row["mask"] if row["mask"] else None
            if mask is not None and not mask.is_file():
                image = self.root / row["file"]
                raise DatasetError(f"{path}, line {line}: no mask {mask} of {image}. See: bench data verify labelled")
            found.append(
                Sample(
                    id=Path(row["file"]).with_suffix("").as_posix(),
                    cls=row["class"],
                    split=cast("Split", row["split"]),
                    label=int(row["defect"] != "good"),
                    defect=row["defect"],
                    image=self.root / row["file"],
                    masks=(mask,) if mask is not None else (),
                )
            )
        return tuple(sorted(found, key=lambda sample: (sample.cls, sample.id)))


def miniature(root: Path) -> tuple[Sample, ...]:
    """Write six small images with their table, and return what has to be read of them: the contract tests' material."""
    rows, found = [COLUMNS], []
    for place, (split, defect) in enumerate([("train", "good")] * 3 + [("test", "good")] + [("test", "dent")] * 2):
        one, bad = f"cups/{place}", defect != "good"
        mask = root / f"{one}_mask.png" if bad else None
        root.joinpath("cups").mkdir(exist_ok=True, parents=True)
        Image.new("RGB", (48, 40), (9 * place, 90, 90)).save(root / f"{one}.png")
        if mask is not None:
            area = Image.new("L", (48, 40))
            area.paste(255, (10, 10, 20, 25))
            area.save(mask)
        rows.append((f"{one}.png", "cups", split, defect, f"{one}_mask.png" if bad else ""))
        known = cast("Split", split)
        masks = (mask,) if mask is not None else ()
        found.append(Sample(one, "cups", known, int(bad), defect, root / f"{one}.png", masks=masks))
    with root.joinpath(TABLE).open("w", encoding="utf-8", newline="") as file:
        csv.writer(file).writerows(rows)
    return tuple(found)
