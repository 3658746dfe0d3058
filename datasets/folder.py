"""Your own images, as they lie: MVTec AD's layout, folders of good and bad ones, or a table that lists them.

The root holds class folders, or is itself one class. A class is laid out (see `_own`) as

- train/good, test/good, test/<defect>, ground_truth/<defect>, in any case; train/ may hold the images itself;
- good/ and a folder for each kind of defect, or only bad/: which normal images are trained on is not stated, so a share
  of them is held for testing, the same on every machine, and the record says so;
- good/ alone, or the pictures themselves in the root: images are scored, but there is nothing to measure.

Normal images lie in `good`, `ok` or `normal`. A class with masks must have one for each anomalous image; one without is
scored by image only. A dataset may mix all of these.

Or a table lists them: any CSV file in the root with file names and labels (`filename,label[,mask][,split][,object]`,
see `_own_list`), or `split_csv/1cls.csv` in VisA's columns (see `_split_csv`). Where there is a list, it decides.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import cache
from pathlib import Path

from bench.api import Card, Finding, Sample
from bench.names import composed

from ._listing import SYSTEM, contents, is_text, pictures_below, printable, subfolders
from ._own import NORMALS, OwnClassReader, layout_of, split_of, trains
from ._own_list import find_list, read_list
from ._split_csv import CsvDataset, is_listed


class Folder(CsvDataset):
    """Any files of the user's own; the classes are sub-folders, the root itself, or the list's objects."""

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
            "Lay your images out as good/* and bad/*, also by class (<class>/good/*, <class>/bad/*); or, with a split "
            "of your own, as <class>/train/good/*, <class>/test/good/*, <class>/test/<defect>/* and, for pixel scores, "
            "<class>/ground_truth/<defect>/<image name>_mask.png (or a folder <image name> of several masks). Or list "
            "them in a CSV file with the columns filename,label (good or bad) and, where you have them, mask, split "
            "(train or test) and object (the class)."
        ),
        notes=(
            "Mask pixels count as anomalous where they are not zero; put a threshold to soft (anti-aliased or JPEG) "
            "masks first.",
        ),
    )
    normals = NORMALS
    reader = OwnClassReader

    @classmethod
    def folders(cls, root: Path) -> dict[str, Path]:
        """Return the class folders under `root`, or `root` itself where it is one class, named after its folder.

        A root with train/ or test/ is one class, unless these hold nothing to train on and class folders beside do.
        Then they are no class either, which good/ in a stray test/ would make of it, and what they hold is told.
        """
        own = layout_of(root)
        there = [path for path in subfolders(root) if is_text(path.name) and layout_of(path) in ("split", "kinds")]
        strays = [path for path in there if split_of(path) and layout_of(path) == "kinds"]
        if len(strays) < len(there):
            there = [path for path in there if path not in strays]
        inside = {composed(path.name): path for path in there}
        if own == "kinds" or (own == "split" and (trains(root) or not any(map(trains, inside.values())))):
            return {composed(root.resolve().name): root}
        return inside or ({composed(root.resolve().name): root} if own == "images" else {})

    @classmethod
    def layout(cls) -> str:
        """Return in words what is expected."""
        return "good/ and bad/, or train/ and test/, there or in class folders, or a CSV file with filename and label"

    @classmethod
    def is_at(cls, folder: Path) -> bool:
        """Whether the folder holds a list of images, or classes in any of the layouts."""
        return bool(find_list(folder)) or super().is_at(folder)

    def inspect(self) -> tuple[tuple[Sample, ...], tuple[Finding, ...]]:
        """See `CsvDataset.inspect`; reads any other list, and tells the pictures that lie in no class."""
        if is_listed(self.root):
            return super().inspect()
        lists = find_list(self.root)
        if len(lists) > 1:
            text = f"{' and '.join(path.name for path in lists)} list images. Expected one such table; move the others"
            return (), (Finding("", "layout", lists[1].name, text),)
        if lists:
            return self._listed(Path(lists[0].name), *read_list(lists[0], self.root), cache(self._below))
        samples, findings = super().inspect()
        if self.root in self.folders(self.root).values():
            return samples, findings
        return samples, (*findings, *self._in_no_class())

    def _below(self) -> dict[str, Path | None]:
        """Return bare file name -> the one picture of that name below the root, None for several."""
        found: dict[str, Path | None] = {}
        for path in pictures_below(self.root):
            found[composed(path.name)] = None if composed(path.name) in found else path
        return found

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
                count = "" if len(pictures) == 1 else f"the first of {len(pictures)} pictures that are "
                text = f"{printable(pictures[0])}: {count}not read, in no class"
                where = printable(pictures[0].relative_to(self.root))
                yield Finding("", "unread", where, f"{text}. Expected {self.layout()}", stops=False)
