"""Your own images in MVTec AD's layout: any classes, with or without masks.

The root holds class folders, or is itself one class (train/ and test/ directly inside). Normal images lie in `good`,
`ok` or `normal`; every other folder of test/ is a defect type. A class with a ground_truth folder must have a mask for
each anomalous image; one without is scored by image only. A dataset may mix both.
"""

from __future__ import annotations

from pathlib import Path

from bench.api import Card

from ._tree import TreeDataset, looks_like_class


class Folder(TreeDataset):
    """Any tree of the user's own; its classes are its sub-folders that hold train/ and test/."""

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
            "scores, <class>/ground_truth/<defect>/<image name>_mask.png."
        ),
        notes=("Mask pixels count as anomalous where they are not zero.",),
    )
    normals = ("good", "ok", "normal")

    @classmethod
    def folders(cls, root: Path) -> dict[str, Path]:
        """Return the class folders under `root`, or `root` itself where it is one class, named after its folder."""
        if looks_like_class(root):
            return {root.resolve().name: root}
        return super().folders(root)
