"""Your own images in MVTec AD's layout, or listed in a file: any classes, with or without masks.

The root holds class folders, or is itself one class (train/ and test/ directly inside). Normal images lie in `good`,
`ok` or `normal`; every other folder of test/ is a defect type. A class with a ground_truth folder must have a mask for
each anomalous image; one without is scored by image only. A dataset may mix both.

Or the root holds `split_csv/1cls.csv` in VisA's columns, which names classes, splits, labels, images and masks in
whatever folders they are; see `_split_csv`. A class whose anomalous images name masks must name one for each.
"""

from __future__ import annotations

from pathlib import Path

from bench.api import Card

from ._split_csv import CsvDataset
from ._tree import looks_like_class


class Folder(CsvDataset):
    """Any files of the user's own; the classes are sub-folders that hold train/ and test/, or the list's objects."""

    card = Card(
        name="folder",
        title="Own images",
        kind="industrial",
        classes=(),
        counts={},
        masks="optional",
        licence="your own",
        citation="your own",
        source=(
            "Lay your images out as <class>/train/good/*, <class>/test/good/*, <class>/test/<defect>/* and, for pixel "
            "scores, <class>/ground_truth/<defect>/<image name>_mask.png (or a folder <image name> of several masks). "
            "Or list them in split_csv/1cls.csv with the columns object,split,label,image,mask."
        ),
        notes=(
            "Mask pixels count as anomalous where they are not zero; put a threshold to soft (anti-aliased or JPEG) "
            "masks first.",
        ),
    )
    normals = ("good", "ok", "normal")

    @classmethod
    def folders(cls, root: Path) -> dict[str, Path]:
        """Return the class folders under `root`, or `root` itself where it is one class, named after its folder."""
        if looks_like_class(root):
            return {root.resolve().name: root}
        return super().folders(root)
