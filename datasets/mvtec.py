"""MVTec AD: 15 industrial objects and textures with pixel masks (Bergmann et al., CVPR 2019).

A root that holds only some of the 15 classes gives those; a run that asks for others is refused when it is planned, and
records say how many of the 15 a mean covers. Grid, screw and zipper are grey images.
"""

from __future__ import annotations

from bench.api import Card, Counts

from ._tree import TreeDataset

_COUNTS = {
    "carpet": Counts(280, 28, 89),
    "grid": Counts(264, 21, 57),
    "leather": Counts(245, 32, 92),
    "tile": Counts(230, 33, 84),
    "wood": Counts(247, 19, 60),
    "bottle": Counts(209, 20, 63),
    "cable": Counts(224, 58, 92),
    "capsule": Counts(219, 23, 109),
    "hazelnut": Counts(391, 40, 70),
    "metal_nut": Counts(220, 22, 93),
    "pill": Counts(267, 26, 141),
    "screw": Counts(320, 41, 119),
    "toothbrush": Counts(60, 12, 30),
    "transistor": Counts(213, 60, 40),
    "zipper": Counts(240, 32, 119),
}
"""In the order of the paper's tables: five textures, then ten objects."""


class MVTec(TreeDataset):
    """MVTec AD as distributed: one folder a class, with train/, test/ and ground_truth/ inside."""

    card = Card(
        name="mvtec",
        title="MVTec AD",
        kind="industrial",
        classes=tuple(_COUNTS),
        counts=_COUNTS,
        masks="pixel",
        licence="CC BY-NC-SA 4.0 (no commercial use)",
        citation=(
            "P. Bergmann, M. Fauser, D. Sattlegger, C. Steger: MVTec AD - A Comprehensive Real-World Dataset for "
            "Unsupervised Anomaly Detection. CVPR 2019, pp. 9592-9600."
        ),
        source=(
            "Get it from https://www.mvtec.com/company/research/datasets/mvtec-ad (registration form, 4.9 GB) and "
            "unpack the archive."
        ),
        notes=(
            "3,629 training images; 467 normal and 1,258 anomalous test images.",
            "700 to 1,024 pixels a side; grid, screw and zipper are grey and read as RGB.",
            "A root with only some of the classes is read as it is.",
        ),
    )
    aliases = ("mvtec", "mvtec_ad", "mvtec_anomaly_detection", "mvtec-ad")
    complete = False
