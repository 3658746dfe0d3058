"""Uni-Medical: brain, liver and retina as one multi-class set, of BMAD's images (Zhang et al., ViTAD 2023).

It comes in MVTec AD's layout, with the one kind of defect `Ungood`.
"""

from __future__ import annotations

from bench.api import Card

from ._tree import TreeDataset


class UniMedical(TreeDataset):
    """Uni-Medical as ADer distributes it: MVTec AD's layout."""

    card = Card(
        name="uni_medical",
        title="Uni-Medical",
        kind="industrial",
        classes=("brain", "liver", "retinal"),
        counts={},
        masks="pixel",
        licence="CC BY-NC-SA 4.0 (no commercial use), as BMAD, whose images it holds",
        citation=(
            "J. Bao, H. Sun, H. Deng, Y. He, Z. Zhang, X. Li: BMAD: Benchmarks for Medical Anomaly Detection. CVPR "
            "Workshops 2024; as one set in J. Zhang, X. Chen, Y. Wang, C. Wang, Y. Liu, X. Li, M.-H. Yang, D. Tao: "
            "Exploring Plain ViT Reconstruction for Multi-class Unsupervised Anomaly Detection. 2023."
        ),
        source="Get it through the link at https://github.com/zhangzjn/ADer (data/README.md) and unpack the archive.",
        notes=("A root with only some of the classes is read as it is.",),
    )
    aliases = ("medical", "uni-medical", "uni_medical")
    complete = False
