"""MVTec LOCO AD: logical and structural anomalies, several masks an image (Bergmann et al., IJCV 2022).

An image's masks are the files of the folder `ground_truth/<type>/<image>/`, one an independent defect; their pixels
hold the defect type's number of `defects_config.json`, which need not be 255. The anomalous area is the union of all of
them, any non-zero value (loaders that read only `000.png`, or whichever file the system lists first, score another
task). Validation images are kept apart: they are neither trained on nor tested. Each defect has its family, `logical`
or `structural`, so that both can be scored against all normal images, as the authors do, besides all together. Single
defects count as found once as much of them is as `defects_config.json` says (sPRO).
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from functools import cached_property
from pathlib import Path
from typing import ClassVar

from bench import regular
from bench.api import Card, Counts, Sample, SingleDefect
from bench.errors import DatasetError
from bench.loading.masks import read_one_kind

from ._tree import TreeDataset

_MOST_BYTES = 1 << 20
_EXPECTED = "Expected as distributed: a list of objects with pixel_value, saturation_threshold and relative_saturation"
_COUNTS = {
    "breakfast_box": Counts(351, 102, 83 + 90, val=62),
    "juice_bottle": Counts(335, 94, 142 + 94, val=54),
    "pushpins": Counts(372, 138, 91 + 81, val=69),
    "screw_bag": Counts(360, 122, 137 + 82, val=60),
    "splicing_connectors": Counts(360, 119, 108 + 85, val=60),
}
"""As distributed; anomalous images are logical + structural ones."""


class MVTecLoco(TreeDataset):
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
    metrics = tuple(f"pixel/auspro@{limit}" for limit in ("0.01", "0.05", "0.1", "0.3", "1"))
    """The limits that the authors' evaluation prints; their tables have 0.05."""

    def read_defects(self, sample: Sample) -> tuple[SingleDefect, ...] | None:
        """Return each of the sample's mask files with the area that `defects_config.json` says is enough.

        None where the class has no such file.

        Raises:
            DatasetError: the file or a mask cannot be read, or the file lacks the mask's kind of defect.
        """
        path = self.root / sample.cls / "defects_config.json"
        if path not in self._kinds:
            self._kinds[path] = _saturations(path)
        kinds = self._kinds[path]
        if kinds is None:
            return None
        found = []
        for file in sample.masks:
            mask, kind = read_one_kind(file)
            if kind not in kinds:
                raise DatasetError(
                    f"{file}: kind of defect {kind}, of which {path} says nothing. Expected both as distributed"
                )
            threshold, relative = kinds[kind]
            area = int(mask.sum())
            # as the authors' evaluation: a share of the area, rounded down, or a number of pixels
            enough = math.floor(threshold * area) if relative else threshold
            found.append(SingleDefect(mask, float(min(max(enough, 1), area))))
        return tuple(found)

    @cached_property
    def _kinds(self) -> dict[Path, dict[int, tuple[float, bool]] | None]:
        """What was read of each class's file: kind of defect -> (saturation threshold, whether it is a share)."""
        return {}


def _saturations(path: Path) -> dict[int, tuple[float, bool]] | None:
    if not path.exists():
        return None
    try:
        entries = json.loads(regular.read_bytes(path, _MOST_BYTES))
        kinds = {
            int(entry["pixel_value"]): (float(entry["saturation_threshold"]), bool(entry["relative_saturation"]))
            for entry in entries
        }
    except (OSError, ValueError, TypeError, KeyError, RecursionError) as error:
        raise DatasetError(f"{path}: {type(error).__name__}: {error}. {_EXPECTED}") from error
    if not all(math.isfinite(threshold) and threshold > 0 for threshold, _ in kinds.values()):
        raise DatasetError(f"{path}: a saturation threshold that is no positive number. {_EXPECTED}")
    return kinds
