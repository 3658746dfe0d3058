"""Real-IAD Variety: 160 products, each object seen by five cameras (Real-IAD's authors, 2025).

    realiadvariety_1024/<class>/{OK|NG/<defect>}/...          (or realiadvariety_raw)
    realiadvariety_jsons/Real-IAD_Variety_jsons/<class>.json

Files are those of Real-IAD. A view that its split file calls defective and gives no mask counts as normal, as in
Dinomaly2's code: the defect is not seen in it. The challenge's subset is `realiad_challenge`.
"""

from __future__ import annotations

from dataclasses import replace

from ._split_json import SplitFiles
from .realiad import RealIAD


class RealIADVariety(RealIAD):
    """Real-IAD Variety as distributed; the root is the folder with the class folders (`realiadvariety_1024`)."""

    files = SplitFiles("realiadvariety_jsons", "Real-IAD_Variety_jsons", unmarked="normal")
    card = replace(
        RealIAD.card,
        name="realiad_variety",
        title="Real-IAD Variety",
        classes=(),
        totals=None,
        citation=(
            "W. Zhu, C. Wang, B.-B. Gao et al.: Real-IAD Variety: Pushing Industrial Anomaly Detection Dataset to a "
            "Modern Era. 2025."
        ),
        source=(
            "Ask for it at https://huggingface.co/datasets/Real-IAD/Real-IAD_Variety and unpack the classes into "
            "realiadvariety_1024 (or _raw) and the split files into realiadvariety_jsons beside it."
        ),
        notes=(
            "160 classes, 19,955 training and 178,995 test images, all five views counted.",
            "A view of a defective object without a mask counts as normal, as in Dinomaly2's code.",
            "Twenty training objects a class: made for few-shot settings, too.",
            "A root with only some of the classes is read as it is.",
        ),
    )
    aliases = (
        *("real-iad_variety", "real_iad_variety", "realiad_variety"),
        *("realiadvariety_1024", "realiadvariety_raw"),
    )
