"""3CAD: eight metal parts of computers and phones from real production lines (Yang et al., AAAI 2025)."""

from __future__ import annotations

from bench.api import Card, Counts

from ._tree import TreeDataset


class ThreeCAD(TreeDataset):
    """3CAD as distributed: MVTec AD's layout."""

    card = Card(
        name="3cad",
        title="3CAD",
        kind="industrial",
        classes=(
            *("Aluminum_Camera_Cover", "Aluminum_Ipad", "Aluminum_Middle_Frame", "Aluminum_New_Ipad"),
            *("Aluminum_New_Middle_Frame", "Aluminum_Pc", "Copper_Stator", "Iron_Stator"),
        ),
        counts={},
        totals=Counts(10493, 5084, 11462),
        masks="pixel",
        licence="none stated by its authors",
        citation=(
            "E. Yang, P. Xing, H. Sun, W. Guo, Y. Ma, Z. Li, D. Zeng: 3CAD: A Large-Scale Real-World 3C Product "
            "Dataset for Unsupervised Anomaly Detection. AAAI 2025."
        ),
        source="Get it through the link at https://github.com/EnquanYang2022/3CAD and unpack the archive.",
        notes=(
            "10,493 training images; 5,084 normal and 11,462 anomalous test images over all classes.",
            "Two archives are about that differ in the language of the defects' names; records keep the names, so "
            "their fingerprints of the data differ, too.",
            "A root with only some of the classes is read as it is.",
        ),
    )
    aliases = ("3cad",)
    complete = False
