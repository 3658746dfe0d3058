"""Datasets in MVTec AD's layout whose single defects are found once enough of them is (MVTec LOCO AD, AutoVI).

Each class's `defects_config.json` says by kind of defect how much that is, a share of its area or a number of pixels;
the pixels of a mask file hold the number of its kind.
"""

from __future__ import annotations

import json
import math
from functools import cached_property
from pathlib import Path

from bench import regular
from bench.api import Sample, SingleDefect
from bench.errors import DatasetError
from bench.loading.masks import read_one_kind

from ._tree import TreeDataset

_MOST_BYTES = 1 << 20
_EXPECTED = "Expected as distributed: a list of objects with pixel_value, saturation_threshold and relative_saturation"


class SaturatedTree(TreeDataset):
    """Base of the datasets whose authors score single defects by saturated overlap (sPRO)."""

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
