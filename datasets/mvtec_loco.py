"""MVTec LOCO AD: logical and structural anomalies, several masks an image (Bergmann et al., IJCV 2022).

An image's masks are the files of the folder `ground_truth/<type>/<image>/`, one an independent defect; their pixels
hold the defect type's number of `defects_config.json`, which need not be 255. The anomalous area is the union of all of
them, any non-zero value (loaders that read only `000.png`, or whichever file the system lists first, score another
task). Validation images are kept apart: they are neither trained on nor tested. Each defect has its family, `logical`
or `structural`, so that both can be scored against all normal images, as the authors do, besides all together. Single
defects count as found once as much of them is as `defects_config.json` says (sPRO).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar

from bench.api import Card, Counts

from ._saturation import SaturatedTree

_COUNTS = {
    "breakfast_box": Counts(351, 102, 83 + 90, val=62),
    "juice_bottle": Counts(335, 94, 142 + 94, val=54),
    "pushpins": Counts(372, 138, 91 + 81, val=69),
    "screw_bag": Counts(360, 122, 137 + 82, val=60),
    "splicing_connectors": Counts(360, 119, 108 + 85, val=60),
}
"""As distributed; anomalous images are logical + structural ones."""


class MVTecLoco(SaturatedTree):
    """MVTec LOCO AD as distributed: one folder a class, with train/, validation/, test/ and ground_truth/ inside."""

    card = Card(
        name="mvtec_loco",
        title="MVTec LOCO AD",
        kind="industrial",
        classes=tuple(_COUNTS),
        counts=_COUNTS,
        masks="pixel",
        licence="CC BY-NC-SA 4.0 (no commercial use)",
        citation=(
            "P. Bergmann, K. Batzner, M. Fauser, D. Sattlegger, C. Steger: Beyond Dents and Scratches: Logical "
            "Constraints in Unsupervised Anomaly Detection and Localization. IJCV 130 (2022), pp. 947-969."
        ),
        source=(
            "Get it from https://www.mvtec.com/company/research/datasets/mvtec-loco (registration form) and unpack "
            "the archive."
        ),
        notes=(
            "As distributed: 1,778 training and 305 validation images; 575 normal, 561 logical and 432 structural test "
            "images.",
            "The paper counts 1,772 training and 304 validation images: 354 and 59 of splicing_connectors, where the "
            "archive holds 360 and 60. The test images agree.",
            "Masks are the union of all files of an image (1,246 files for 993 images), any non-zero value.",
            "Validation images are neither trained on nor tested.",
            "A root with only some of the classes is read as it is.",
        ),
    )
    aliases = ("mvtec_loco_anomaly_detection", "mvtec_loco", "mvtec-loco", "mvtec_loco_ad", "loco")
    families: ClassVar[Mapping[str, str]] = {
        "logical_anomalies": "logical",
        "structural_anomalies": "structural",
    }
    complete = False
