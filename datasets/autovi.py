"""AutoVI: six parts on Renault's assembly lines, with missing, wrong and loose ones (Carvalho et al., 2024).

MVTec AD's layout, but the mask of an image is the file `0000.png` of a folder `ground_truth/<defect>/<image>/`. Single
defects count as found once enough of them is (sPRO), as MVTec LOCO AD's, where a class has a `defects_config.json`.
"""

from __future__ import annotations

from bench.api import Card, Counts, Download

from ._saturation import SaturatedTree

_COUNTS = {
    "engine_wiring": Counts(285, 285, 322),
    "pipe_clip": Counts(195, 196, 141),
    "pipe_staple": Counts(198, 199, 127),
    "tank_screw": Counts(318, 318, 95),
    "underbody_pipes": Counts(161, 161, 184),
    "underbody_screw": Counts(373, 374, 18),
}
"""As the paper counts them."""
_SHA256 = {
    "engine_wiring": "252590d3249f7fbdf83a7e9b735ef0df175adc218460247e9a63bef1c03d420c",
    "pipe_clip": "955bb17b3a471e23979f46f998a4723acd00cf3afc4d5edf0578dfb6ea80d6c3",
    "pipe_staple": "fb9287f2cc86d660310e9886fdebbe2bd17269e853e29d06d708c6a996df1b18",
    "tank_screw": "48d7193164b36de03cc10c9f7b1b64ea98a0ce7aa57867c8f1d96341c497b4b0",
    "underbody_pipes": "fc1e53336d46fb2317d71e95c011bac012b609f2898fdb02780c920c19a113c7",
    "underbody_screw": "3e9bf6a43033a22c7c9f927a43c392a3b037d22580a27a48d379d4504d9cc6cf",
}


class AutoVI(SaturatedTree):
    """AutoVI as distributed: an archive a class, each with train/, test/ and ground_truth/ inside."""

    card = Card(
        name="autovi",
        title="AutoVI",
        kind="industrial",
        classes=tuple(_COUNTS),
        counts=_COUNTS,
        masks="pixel",
        licence="CC BY-NC-SA 4.0 (no commercial use)",
        citation=(
            "P. Carvalho, M. Lafou, A. Durupt, A. Leblanc, Y. Grandvalet: The Automotive Visual Inspection Dataset "
            "(AutoVI): A Genuine Industrial Production Dataset for Unsupervised Anomaly Detection. 2024."
        ),
        source="Get the six archives of https://zenodo.org/records/10459003 and unpack them into one folder.",
        notes=(
            "1,530 training images; 1,533 normal and 887 anomalous test images by the paper. Others count 1,523, 1,521 "
            "and 878 in an archive of release 1.0.0: pipe_clip and pipe_staple differ.",
            "Masks are the union of all files of an image, any non-zero value.",
            "A root with only some of the classes is read as it is.",
        ),
        downloads=tuple(
            Download(
                f"https://zenodo.org/records/10459003/files/{cls}.zip?download=1",
                sha256=digest,
                unpack="zip",
                folder="AutoVI",
            )
            for cls, digest in _SHA256.items()
        ),
    )
    aliases = ("autovi",)
    complete = False
