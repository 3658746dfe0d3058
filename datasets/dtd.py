"""DTD: 5,640 pictures of textures that methods paint defects with; nothing is trained or tested on it by itself."""

from __future__ import annotations

from pathlib import Path

from bench.api import Card, Counts, Download, Finding, Sample
from bench.names import composed

from ._base import FileDataset
from ._listing import contents, subfolders

_CLASSES = (
    *("banded", "blotchy", "braided", "bubbly", "bumpy", "chequered", "cobwebbed", "cracked", "crosshatched"),
    *("crystalline", "dotted", "fibrous", "flecked", "freckled", "frilly", "gauzy", "grid", "grooved", "honeycombed"),
    *("interlaced", "knitted", "lacelike", "lined", "marbled", "matted", "meshed", "paisley", "perforated", "pitted"),
    *("pleated", "polka-dotted", "porous", "potholed", "scaly", "smeared", "spiralled", "sprinkled", "stained"),
    *("stratified", "striped", "studded", "swirly", "veined", "waffled", "woven", "wrinkled", "zigzagged"),
)


class DTD(FileDataset):
    """The Describable Textures Dataset as distributed: images/<texture>/<texture>_<number>.jpg."""

    card = Card(
        name="dtd",
        title="DTD",
        kind="auxiliary",
        classes=_CLASSES,
        counts=dict.fromkeys(_CLASSES, Counts(120, 0, 0)),
        masks="none",
        licence="for research purposes",
        citation=(
            "M. Cimpoi, S. Maji, I. Kokkinos, S. Mohamed, A. Vedaldi: Describing Textures in the Wild. CVPR 2014, "
            "pp. 3606-3613."
        ),
        source=(
            "Get dtd-r1.0.1.tar.gz at https://www.robots.ox.ac.uk/~vgg/data/dtd and unpack it, or: bench data get dtd"
        ),
        notes=("All images count, whichever of its ten splits they are in: none is tested on.",),
        downloads=(Download("https://www.robots.ox.ac.uk/~vgg/data/dtd/download/dtd-r1.0.1.tar.gz", unpack="tar"),),
    )
    aliases = ("dtd", "images")

    @classmethod
    def is_at(cls, folder: Path) -> bool:
        """Whether the folder holds folders of textures: most of them, since MVTec AD has a class `grid` too."""
        return 2 * sum(path.name in _CLASSES for path in subfolders(folder)) > len(_CLASSES)

    @classmethod
    def layout(cls) -> str:
        """Return in words which folders are expected."""
        return "texture folders (banded, blotchy, braided, ...) with images inside"

    def inspect(self) -> tuple[tuple[Sample, ...], tuple[Finding, ...]]:
        """Return every image, and which textures are not there."""
        samples: list[Sample] = []
        findings: list[Finding] = []
        for name in _CLASSES:
            folder = self.root / name
            here = contents(folder)
            found = {f"{name}/train/good/{composed(path.stem)}": path for path in here.images}
            samples += (Sample(one, name, "train", 0, "good", path) for one, path in sorted(found.items()))
            if here.trouble:
                text = f"{folder}: cannot be looked into ({here.trouble}). Expected a readable folder"
                findings.append(Finding(name, "unreadable", name, text))
            elif not found:
                findings.append(Finding(name, "layout", name, f"{name}: no image. Expected 120 in {folder}"))
        return tuple(samples), tuple(findings)
