"""Labelled: images in one folder, and a table that says what they are. An example of a layout of one's own.

labels.csv has a line an image: file,class,split,defect,mask. `split` is train or test, `defect` is good for a normal
image, `mask` is empty or a file whose non-zero pixels are anomalous. Paths are relative to the table.
"""

from __future__ import annotations

import csv
from pathlib import Path
from typing import cast

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
        """Return the data root, which has to hold the table."""
        if data_root is None or not (data_root / TABLE).is_file():
            raise DatasetError(f"labelled: no {TABLE} in {data_root}. Expected --data-root DIR with one")
        return data_root

    def samples(self) -> tuple[Sample, ...]:
        """Read the table; no image is opened."""
        path = self.root / TABLE
        with path.open(encoding="utf-8", newline="") as file:
            rows = list(csv.DictReader(file))
        found = []
        for line, row in enumerate(rows, start=2):
            if any(row.get(column) is None for column in COLUMNS) or row["split"] not in ("train", "test"):
                raise DatasetError(f"{path}, line {line}: {row}. Expected {','.join(COLUMNS)}, split train or test")
            image = self.root / row["file"]
            found.append(
                Sample(
                    id=Path(row["file"]).with_suffix("").as_posix(),
                    cls=row["class"],
                    split=cast("Split", row["split"]),
                    label=int(row["defect"] != "good"),
                    defect=row["defect"],
                    image=image,
                    masks=(self.root / row["mask"],) if row["mask"] else (),
                )
            )
        return tuple(sorted(found, key=lambda sample: (sample.cls, sample.id)))
