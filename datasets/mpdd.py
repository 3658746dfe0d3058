"""MPDD: painted metal parts photographed under varying poses and light (Jezek et al., ICUMT 2021)."""

from __future__ import annotations

from bench.api import Card, Counts

from ._tree import TreeDataset

_COUNTS = {
    "bracket_black": Counts(289, 32, 47),
    "bracket_brown": Counts(185, 26, 51),
    "bracket_white": Counts(110, 30, 30),
    "connector": Counts(128, 30, 14),
    "metal_plate": Counts(54, 26, 71),
    "tubes": Counts(122, 32, 69),
}


class MPDD(TreeDataset):
    """MPDD as distributed: MVTec AD's layout."""

    card = Card(
        name="mpdd",
        title="MPDD",
        kind="industrial",
        classes=tuple(_COUNTS),
        counts=_COUNTS,
        masks="pixel",
        licence="none stated by its authors",
        citation=(
            "S. Jezek, M. Jonak, R. Burget, P. Dvorak, M. Skotak: Deep learning-based defect detection of metal "
            "parts: evaluating current methods in complex conditions. ICUMT 2021, pp. 66-71."
        ),
        source="Get it through the link at https://github.com/stepanje/MPDD and unpack the archive.",
        notes=(
            "888 training images; 176 normal and 282 anomalous test images.",
            "A root with only some of the classes is read as it is.",
        ),
    )
    aliases = ("mpdd",)
    complete = False
