"""BTAD: three industrial products with body and surface defects (Mishra et al., ISIE 2021).

Images are bmp (01, 03) or png (02), masks png (01, 02) or bmp (03), so files are paired by stem whatever they end in.
Some masks mark only a few pixels and vanish when they are reduced: the label is the folder's, `ok` or `ko`.
"""

from __future__ import annotations

from bench.api import Card, Counts, Download

from ._tree import TreeDataset

_COUNTS = {
    "01": Counts(400, 21, 49),
    "02": Counts(399, 30, 200),
    "03": Counts(1000, 400, 41),
}


class BTAD(TreeDataset):
    """BTAD as distributed: MVTec AD's layout with the words `ok` and `ko`."""

    card = Card(
        name="btad",
        title="BTAD",
        kind="industrial",
        classes=tuple(_COUNTS),
        counts=_COUNTS,
        masks="pixel",
        licence="none stated by its authors",
        citation=(
            "P. Mishra, R. Verk, D. Fornasier, C. Piciarelli, G. L. Foresti: VT-ADL: A Vision Transformer Network for "
            "Image Anomaly Detection and Localization. ISIE 2021."
        ),
        source="Get https://avires.dimi.uniud.it/papers/btad/btad.zip and unpack it.",
        notes=(
            "1,799 training images; 451 normal and 290 anomalous test images.",
            "About 11 of the 290 masks mark less than 50 pixels in one piece.",
            "A root with only some of the classes is read as it is.",
        ),
        downloads=(
            Download(
                "https://avires.dimi.uniud.it/papers/btad/btad.zip",
                sha256="461c9387e515bfed41ecaae07c50cf6b10def647b36c9e31d239ab2736b10d2a",
                unpack="zip",
                folder="btad",
            ),
        ),
    )
    aliases = ("btech_dataset_transformed", "btad", "btech")
    normals = ("ok",)
    complete = False
