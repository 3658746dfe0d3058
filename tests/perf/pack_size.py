"""Size of a reproduction pack's pixel ranks for a cell of Real-IAD's size, by the share of an anomalous image that is
anomalous. Its thirty classes have 63,256 normal and 51,329 anomalous test images; one class of the mean size is made
(smooth noise, defects of many sizes that score higher by a little), and counted thirty times.

Run with: python tests/perf/pack_size.py [--share 0.01]...
"""

from __future__ import annotations

import argparse
import tempfile
from pathlib import Path

import numpy as np
from scipy import ndimage

from bench.metrics.arrays import pixel_evidence
from bench.packs.pixel_ranks import SUFFIX, save

CLASSES, NORMAL, ANOMALOUS, SIDE = 30, 63256 // 30, 51329 // 30, 256


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--share", type=float, action="append", help="anomalous share of an anomalous image (0.01)")
    for share in parser.parse_args().share or [0.003, 0.01, 0.03]:
        rng = np.random.default_rng(0)
        rows, columns = np.mgrid[:SIDE, :SIDE]
        maps = np.empty((NORMAL + ANOMALOUS, SIDE, SIDE), np.float32)
        masks = np.zeros(maps.shape, bool)
        for index, one in enumerate(maps):
            one[:] = ndimage.zoom(rng.standard_normal((16, 16)), SIDE / 16, order=1)
            if index >= NORMAL:
                radius = SIDE * np.sqrt(share / np.pi) * np.exp(rng.normal(0, 0.6) - 0.36)  # the mean area is the share
                row, column = rng.uniform(0, SIDE, 2)
                masks[index] = (rows - row) ** 2 + (columns - column) ** 2 <= max(radius, 1) ** 2
                one += 4 * np.exp(-((rows - row) ** 2 + (columns - column) ** 2) / (2 * (1.2 * radius + 4) ** 2))
        found = pixel_evidence(maps, masks)
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / f"class{SUFFIX}"
            save(path, found.ranks, found.regions)
            size, pixels = path.stat().st_size, int(masks.sum())
        print(
            f"anomalous images {masks.sum() / (ANOMALOUS * SIDE * SIDE):.1%} anomalous: {pixels:,} pixels a class, "
            f"{size / pixels:.2f} bytes a pixel, {CLASSES} classes {CLASSES * size / 1e6:.0f} MB"
        )


if __name__ == "__main__":
    main()
