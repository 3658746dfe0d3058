"""GoodsAD: 484 supermarket goods in six kinds of packing (Zhang et al., RA-L 2024)."""

from __future__ import annotations

from bench.api import Card, Counts

from ._tree import TreeDataset

_COUNTS = {
    "drink_bottle": Counts(733, 356, 425),
    "drink_can": Counts(234, 147, 147),
    "food_bottle": Counts(1014, 243, 361),
    "food_box": Counts(432, 146, 251),
    "food_package": Counts(540, 253, 230),
    "cigarette_box": Counts(183, 183, 246),
}


class GoodsAD(TreeDataset):
    """GoodsAD as distributed: MVTec AD's layout."""

    card = Card(
        name="goodsad",
        title="GoodsAD",
        kind="industrial",
        classes=tuple(_COUNTS),
        counts=_COUNTS,
        masks="pixel",
        licence="none stated by its authors",
        citation=(
            "J. Zhang, R. Ding, M. Ban, L. Dai: PKU-GoodsAD: A Supermarket Goods Dataset for Unsupervised Anomaly "
            "Detection and Segmentation. IEEE Robotics and Automation Letters 9(3) (2024), pp. 2008-2015."
        ),
        source="Get it through the links at https://github.com/jianzhang96/GoodsAD and unpack the archives.",
        notes=(
            "3,136 training images; 1,328 normal and 1,660 anomalous test images of 3,000 pixels a side.",
            "A class holds many products: the first three digits of a file's name say which.",
            "A root with only some of the classes is read as it is.",
        ),
    )
    aliases = ("goodsad", "goods_ad", "pku-goodsad")
    complete = False
