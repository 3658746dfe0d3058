"""Print how fast and how exact the metrics are, beside what else computes them: make speed

Each size of a class is measured in one process, bench's engine again after every other one, and the best time of each
is shown: on a busy machine only ratios from such a run can be compared. scikit-learn is always there; ADEval,
torchmetrics and anomalib take part where they are installed (pip install --no-deps ADEval torchmetrics
lightning-utilities; anomalib brings many packages and is better tried in a virtual environment of its own).
"""

from __future__ import annotations

import argparse
import ctypes
import importlib.util
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import numpy.typing as npt
from scipy import ndimage

from bench.metrics import SEVEN, Accumulator, evaluate_class
from bench.metrics.workers import thread_count

SLOW = 5.0
"""Seconds; what takes longer is run once."""
CHUNK = 64
"""Images given to the accumulator at a time."""


@dataclass(frozen=True)
class Class:
    """One class: blobs of higher scores in smooth noise, three images of four anomalous, 2 to 3 percent of pixels."""

    maps: npt.NDArray[np.float32]
    masks: npt.NDArray[np.bool_]
    image_scores: npt.NDArray[np.float32]


def make_class(images: int, size: int = 256, seed: int = 0) -> Class:
    rng = np.random.default_rng(seed)
    maps = np.empty((images, size, size), dtype=np.float32)
    masks = np.zeros(maps.shape, dtype=np.bool_)
    grid = np.linspace(0, 27, size, dtype=np.float32)[:, None]
    bilinear = np.maximum(1 - np.abs(grid - np.arange(28, dtype=np.float32)), 0)
    y, x = np.indices((size, size), dtype=np.float32)
    for image, (scores, mask) in enumerate(zip(maps, masks, strict=True)):
        scores[:] = bilinear @ rng.gamma(2.0, size=(28, 28)).astype(np.float32) @ bilinear.T
        for _ in range(rng.integers(1, 6) if image % 4 else 0):
            (down, right), (height, width) = rng.uniform(10, size - 10, 2), rng.uniform(5, 26, 2)
            distance = ((y - np.float32(down)) / np.float32(height)) ** 2 + (
                (x - np.float32(right)) / np.float32(width)
            ) ** 2
            mask |= distance < 1
            scores += np.float32(rng.uniform(0.5, 6)) * np.exp(-distance)
        scores[:] = ndimage.uniform_filter(scores, 5)
    return Class(maps, masks, np.array([scores.max() for scores in maps]))


Values = Mapping[str, float | None]


def bench(given: Class) -> Values:
    return evaluate_class(given.maps, given.masks, given.image_scores)


def bench_in_chunks(given: Class) -> Values:
    accumulator = Accumulator()
    for start in range(0, len(given.maps), CHUNK):
        part = slice(start, start + CHUNK)
        accumulator.update(given.maps[part], given.masks[part], given.image_scores[part])
    return accumulator.compute()


def scikit_learn(given: Class) -> Values:
    from sklearn.metrics import average_precision_score, precision_recall_curve, roc_auc_score

    labels, scores = given.masks.ravel(), given.maps.ravel()
    precision, recall, _ = precision_recall_curve(labels, scores)
    with np.errstate(invalid="ignore"):
        f1 = np.nanmax(2 * precision * recall / (precision + recall))
    return {
        "pixel/auroc": float(roc_auc_score(labels, scores)),
        "pixel/ap": float(average_precision_score(labels, scores)),
        "pixel/f1max": float(f1),
    }


def exact_aupro(given: Class, limit: float = 0.3) -> Values:
    """The definition of MVTec AD's evaluation: one threshold a score, all pixels sorted, regions one by one."""
    worth = np.zeros(given.maps.shape, dtype=np.float64)
    regions = 0
    for mask, value in zip(given.masks, worth, strict=True):
        labelled, count = ndimage.label(mask, structure=np.ones((3, 3)))
        for region in range(1, count + 1):
            inside = labelled == region
            value[inside] = 1 / inside.sum()
        regions += count
    scores = given.maps.ravel()
    order = np.argsort(scores)[::-1]
    ascending = scores[order]
    last_of_ties = np.append(ascending[1:] != ascending[:-1], True)
    normal = ~given.masks.ravel()
    fpr = np.cumsum(normal[order])[last_of_ties] / normal.sum()
    overlap = np.cumsum(worth.ravel()[order])[last_of_ties] / regions
    fpr, overlap = np.append(0, fpr), np.append(0, overlap)
    inside = fpr <= limit
    fpr, overlap = np.append(fpr[inside], limit), np.append(overlap[inside], np.interp(limit, fpr, overlap))
    return {"pixel/aupro@0.3": float(np.trapezoid(overlap, fpr) / limit)}


def adeval(given: Class) -> Values:
    if not hasattr(np, "trapz"):  # ADEval 1.1.0 was written for NumPy before 2.4
        np.trapz = np.trapezoid  # type: ignore[attr-defined]
    from adeval import auroc_aupr_aupro

    auroc, ap, aupro = auroc_aupr_aupro(given.maps, given.masks.view(np.uint8))
    return {"pixel/auroc": auroc, "pixel/ap": ap, "pixel/aupro@0.3": aupro}


def torchmetrics(given: Class) -> Values:
    import torch
    from torchmetrics.functional.classification import (
        binary_auroc,
        binary_average_precision,
        binary_precision_recall_curve,
    )

    scores, labels = torch.from_numpy(given.maps).flatten(), torch.from_numpy(given.masks).flatten().long()
    precision, recall, _ = binary_precision_recall_curve(scores, labels)
    return {
        "pixel/auroc": float(binary_auroc(scores, labels)),
        "pixel/ap": float(binary_average_precision(scores, labels)),
        "pixel/f1max": float((2 * precision * recall / (precision + recall)).nan_to_num().max()),
    }


def anomalib(given: Class) -> Values:
    import torch
    from anomalib.metrics.aupro import _AUPRO
    from anomalib.metrics.auroc import _AUROC
    from anomalib.metrics.f1_score import _F1Max

    maps, masks = torch.from_numpy(given.maps), torch.from_numpy(given.masks).long()
    values: Values = {}
    for name, metric in (("pixel/auroc", _AUROC()), ("pixel/f1max", _F1Max()), ("pixel/aupro@0.3", _AUPRO())):
        metric.update(maps, masks)
        values[name] = float(metric.compute())
    return values


ENGINES: Mapping[str, Callable[[Class], Values]] = {
    "bench, all seven": bench,
    "bench, in chunks": bench_in_chunks,
    "ADEval, 3 binned": adeval,
    "exact AUPRO by sorting": exact_aupro,
    "scikit-learn, 3 calls": scikit_learn,
    "torchmetrics, 3 exact": torchmetrics,
    "anomalib, 3 of the seven": anomalib,
}
NEEDS = {adeval: "adeval", torchmetrics: "torchmetrics", anomalib: "anomalib"}


@dataclass
class Row:
    seconds: list[float] = field(default_factory=list)
    off: float = 0.0
    """Largest difference of a value from bench's."""
    bytes_beyond: int | None = None


def measure(images: int, engines: Mapping[str, Callable[[Class], Values]], repeats: int) -> dict[str, Row]:
    given = make_class(images)
    share = given.masks.mean()
    print(
        f"\n{images} maps of 256 x 256 = {given.maps.size / 1e6:.1f} million pixels, {share:.1%} anomalous", flush=True
    )
    rows = {name: Row() for name in engines}
    for engine in engines.values():
        engine(make_class(18))  # imports, compilation
    expected = bench(given)
    for repeat in range(repeats):
        for name, engine in engines.items():
            if repeat and min(rows[name].seconds) > SLOW:
                continue
            timed(bench, given, rows["bench, all seven"])
            found = timed(engine, given, rows[name])
            differences = [abs(found[metric] - expected[metric]) for metric in SEVEN if metric in found]
            rows[name].off = max(rows[name].off, *differences)
    first = min(rows["bench, all seven"].seconds)
    print(f"{'':24}{'seconds':>9}{'x bench':>9}{'GB above inputs':>17}{'largest difference':>20}{'runs':>6}")
    for name, row in rows.items():
        memory = "-" if row.bytes_beyond is None else f"{row.bytes_beyond / 1e9:.2f}"
        best = min(row.seconds)
        print(f"{name:24}{best:9.3f}{best / first:9.1f}{memory:>17}{row.off:20.1e}{len(row.seconds):6}", flush=True)
    field_names = [name for name in ("scikit-learn, 3 calls", "exact AUPRO by sorting") if name in rows]
    if len(field_names) == 2:
        field_seconds = sum(min(rows[name].seconds) for name in field_names)
        print(f"{'both exact ones together':24}{field_seconds:9.3f}{field_seconds / first:9.1f}")
    beyond = rows["bench, all seven"].bytes_beyond
    if beyond is not None:
        rest = (beyond - 24 * int(given.masks.sum())) / given.maps.size
        print(f"bench takes {rest:.2f} bytes a pixel and 24 a positive above its inputs")
    return rows


def timed(engine: Callable[[Class], Values], given: Class, row: Row) -> Values:
    before = None if row.seconds else forget_peak()
    start = time.perf_counter()
    found = engine(given)
    row.seconds.append(time.perf_counter() - start)
    if before is not None:
        row.bytes_beyond = resident("VmHWM") - before
    return found


def forget_peak() -> int | None:
    """Reset the process's peak memory and return what it has now, in bytes; None where that cannot be done."""
    try:
        ctypes.CDLL(None).malloc_trim(0)  # freed memory that is kept for later would not be seen to be taken again
        Path("/proc/self/clear_refs").write_text("5")
    except (OSError, AttributeError):
        return None
    return resident("VmRSS")


def resident(name: str) -> int:
    status = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) * 1024 for line in status if line.startswith(f"{name}:"))


def measure_start(images: int = 83) -> None:
    """Time fresh processes, from the command to the first value, without and with compiled kernels on disk."""
    given = make_class(images)
    code = (
        "import numpy as np\n"
        "from bench.metrics import evaluate_class\n"
        "print(evaluate_class(np.load('maps.npy'), np.load('masks.npy'), np.load('image_scores.npy')))\n"
    )
    with tempfile.TemporaryDirectory() as folder:
        for name in ("maps", "masks", "image_scores"):
            np.save(Path(folder) / f"{name}.npy", getattr(given, name))
        environment = {name: value for name, value in os.environ.items() if name != "NUMBA_CACHE_DIR"}
        environment["BENCH_CACHE"] = str(Path(folder) / "cache")
        seconds = []
        for _ in range(4):
            start = time.perf_counter()
            command = [sys.executable, "-c", code]
            subprocess.run(command, check=True, cwd=folder, env=environment, stdout=subprocess.DEVNULL)
            seconds.append(time.perf_counter() - start)
    print(
        f"\nfresh process to the values of {images} maps: {min(seconds[1:]):.2f} s, the first time {seconds[0]:.2f} s"
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--images", type=int, nargs="+", default=[83, 400, 2000], help="sizes of a class")
    parser.add_argument("--repeats", type=int, default=5, help=f"runs of what takes less than {SLOW:g} s")
    parser.add_argument(
        "--without", nargs="+", default=[], help="leave out engines whose name starts with one of these"
    )
    chosen = parser.parse_args()
    print(f"threads of bench: {thread_count()}, NumPy {np.__version__}, load before {os.getloadavg()[0]:.1f}")
    engines = {}
    for name, engine in ENGINES.items():
        package = NEEDS.get(engine)
        if package and not importlib.util.find_spec(package):
            print(f"{name}: {package} is not installed")
        elif not name.startswith(tuple(chosen.without)) or engine is bench:
            engines[name] = engine
    measure_start()
    for images in chosen.images:
        measure(images, engines, chosen.repeats)


if __name__ == "__main__":
    main()
