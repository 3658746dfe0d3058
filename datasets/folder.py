"""Your own images in MVTec AD's layout, or listed in a file: any classes, with or without masks.

The root holds class folders, or is itself one class (train/ and test/ directly inside). Normal images lie in `good`,
`ok` or `normal`; every other folder of test/ is a defect type. A class with a ground_truth folder must have a mask for
each anomalous image; one without is scored by image only. A dataset may mix both.

Or the root holds `split_csv/1cls.csv` in VisA's columns, which names classes, splits, labels, images and masks in
whatever folders they are; see `_split_csv`. A class whose anomalous images name masks must name one for each.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from bench.api import Card, Finding, Sample
from bench.names import composed

from ._listing import SYSTEM, contents, has_images, is_text, pictures_below, printable, subfolders
from ._split_csv import CsvDataset, is_listed
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
        """Return the class folders under `root`, or `root` itself where it is one class, named after its folder.

        A root with train/ or test/ is one class, unless these hold nothing to train on and class folders beside do.
        """
        inside = super().folders(root)
        if looks_like_class(root) and (cls._trains(root) or not any(map(cls._trains, inside.values()))):
            return {composed(root.resolve().name): root}
        return inside

    @classmethod
    def _trains(cls, folder: Path) -> bool:
        return any(kind.name.lower() in cls.normals and has_images(kind) for kind in subfolders(folder / "train"))

    def inspect(self) -> tuple[tuple[Sample, ...], tuple[Finding, ...]]:
        """See `CsvDataset.inspect`; tells the pictures that lie in no class, too."""
        samples, findings = super().inspect()
        if is_listed(self.root) or self.root in self.folders(self.root).values():
            return samples, findings
        return samples, (*findings, *self._in_no_class())

    def _in_no_class(self) -> Iterator[Finding]:
        here, classes = contents(self.root), self.folders(self.root)
        others = [
            path
            for path in here.folders
            # those that would be classes but for their names are told as such
            if composed(path.name) not in classes and path.name.lower() not in SYSTEM and is_text(path.name)
        ]
        for pictures in ((*here.images, *here.strange), *map(pictures_below, others)):
            if pictures:
                text = f"{printable(pictures[0])}: the first of {len(pictures)} not read, in no class"
                where = printable(pictures[0].relative_to(self.root))
                yield Finding("", "unread", where, f"{text}. Expected {self.layout()}", stops=False)
