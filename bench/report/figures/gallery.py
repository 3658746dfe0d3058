"""The gallery: input, truth, map and overlay of the images that a method does worst on, on one colour scale a method.

Colours run from the median of normal pixels (dark) over their 99.9 % quantile (the middle) to as far again beyond it,
so what is brighter than the middle is hotter than nearly all that the method says of normal images.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
from PIL import Image

from bench.errors import BenchError
from bench.metrics import Undefined, find_regions, image_aupro, rank
from bench.report.figures.drawing import Figure, canvas
from bench.report.figures.heat import Heat, heat
from bench.report.figures.series import FigureSeries
from bench.stats import Images
from bench.store.evidence import EvidenceFiles, Lacking, protocol_of
from bench.store.record import Record

if TYPE_CHECKING:
    from matplotlib.figure import Figure as Canvas

Pixels = npt.NDArray[np.uint8]
MISSES, FALSE_ALARMS = 4, 2
SIDE = 192
"""Longest side of a picture in pixels."""
PANELS = ("input", "truth", "map", "overlay")


@dataclass(frozen=True, slots=True)
class GalleryImage:
    """One image, four times: uint8 [h, w, 3] each, in the order of PANELS."""

    id: str
    title: str
    """Class and kind of defect."""
    why: str
    """What went wrong, in a few words."""
    tiles: tuple[Pixels, ...]
    panels: tuple[str, ...] = PANELS
    """What stands above each."""


@dataclass(frozen=True, slots=True)
class Gallery:
    """The shots of one method on one dataset, worst misses first, then worst false alarms; or why there are none."""

    name: str
    title: str
    caption: str = ""
    shots: tuple[GalleryImage, ...] = ()
    absent: str = ""
    dataset: str = ""

    def figure(self) -> Figure:
        """Return the gallery as a figure, for papers."""
        return Figure(self.name, self.title, self.caption, _drawing(self.shots), self.absent, self.dataset)


@dataclass(frozen=True, slots=True)
class _Candidate:
    badness: tuple[float, float]
    cls: str
    index: int
    why: str


def gallery(one: FigureSeries, dataset: str, evidence: EvidenceFiles) -> Gallery:
    """Return the images that one configuration's first seed is worst on."""
    name = f"gallery-{dataset}-{one.place}"
    title = f"Hardest images, {one.label}"
    try:
        found = one.images(dataset, evidence)
        hot = heat(one, dataset, found, evidence)
        low, high = hot.scale
        misses: list[_Candidate] = []
        alarms: list[_Candidate] = []
        for cls, images in found.items():
            misses += _misses(cls, images, hot.of_class(cls), one.record_of(dataset, cls), evidence)
            alarms += _false_alarms(cls, images)
        worst = [*_worst(misses, MISSES), *_worst(alarms, FALSE_ALARMS)]
        shots = tuple(_shot(item, found, hot, one.record_of(dataset, item.cls), evidence) for item in worst)
    except (Lacking, BenchError) as lacking:
        return Gallery(name, title, absent=str(lacking), dataset=dataset)
    if not shots:
        return Gallery(name, title, absent="there is no test image that is missed or falsely reported", dataset=dataset)
    # an image is missed where a normal one scores as high, which then is a false alarm
    nothing = "" if alarms else "Nothing is missed: these images come closest to it. "
    caption = (
        f"{nothing}Dark is the median of this method's normal pixels ({low:.3g}), the middle of the scale their 99.9 % "
        f"quantile ({(low + high) / 2:.3g}). The outline is the truth; what a centre crop left out is not coloured."
    )
    return Gallery(name, title, caption, shots, dataset=dataset)


def _misses(
    cls: str, images: Images, maps: npt.NDArray[Any] | None, record: Record, evidence: EvidenceFiles
) -> list[_Candidate]:
    """Return all anomalous images, by how many normal ones score as high, then by how badly defects are located."""
    normal = images.scores[~images.labels]
    located = np.full(len(images.ids), np.nan)
    if maps is not None and record.scores[cls].values.get("pixel/auroc") is not None:
        # without masks at hand, or of too many images, the scores alone say what is missed
        with suppress(Undefined, Lacking):
            masks = evidence.masks(record, cls)
            ranks = rank(np.asarray(maps).ravel(), masks.ravel(), "pixel")
            located = image_aupro(masks, ranks, find_regions(masks))
    found = []
    for index in np.flatnonzero(images.labels).tolist():
        share = float(np.mean(normal >= images.scores[index])) if len(normal) else 0.0
        pro = float(located[index])
        words = [f"{share:.0%} of normal images score as high"] if share else ["scores above all normal images"]
        words += [f"AUPRO {pro:.2f}"] if not np.isnan(pro) else []
        badness = (share, 0.0 if np.isnan(pro) else 1 - pro)
        found.append(_Candidate(badness, cls, index, f"{'miss' if share else 'detected'}: {', '.join(words)}"))
    return found


def _false_alarms(cls: str, images: Images) -> list[_Candidate]:
    """Return normal images that score as high as an anomalous one, by how many of these."""
    anomalous = images.scores[images.labels]
    found = []
    for index in np.flatnonzero(~images.labels).tolist():
        share = float(np.mean(anomalous <= images.scores[index])) if len(anomalous) else 0.0
        if share:
            why = f"false alarm: scores as high as {share:.0%} of anomalous images"
            found.append(_Candidate((share, float(images.scores[index])), cls, index, why))
    return found


def _worst(found: Sequence[_Candidate], count: int) -> list[_Candidate]:
    return sorted(found, key=lambda item: item.badness, reverse=True)[:count]


def _shot(
    item: _Candidate,
    found: dict[str, Images],
    hot: Heat,
    record: Record,
    evidence: EvidenceFiles,
) -> GalleryImage:
    images = found[item.cls]
    dataset, (sample,) = evidence.samples(record, [images.ids[item.index]])
    image = dataset.read_image(sample)
    factor = SIDE / max(image.size)
    size = (max(1, round(image.width * factor)), max(1, round(image.height * factor)))
    picture = np.asarray(image.resize(size, Image.Resampling.LANCZOS))
    level = uncropped(hot.of(item.cls, item.index), size, record)
    mask = np.zeros(size[::-1], dtype=np.bool_)
    panels: tuple[str, ...] = PANELS
    if images.labels[item.index] and not sample.masks:
        panels = tuple("no mask" if panel == "truth" else panel for panel in PANELS)
    elif images.labels[item.index]:
        native = Image.fromarray(dataset.read_mask(sample).astype(np.uint8) * 255)
        mask = np.asarray(native.resize(size, Image.Resampling.BOX)) > 0
    defect = images.defects[item.index] if images.defects else ""
    title = f"{item.cls}, {defect}" if defect else item.cls
    low, high = hot.scale
    return GalleryImage(sample.id, title, item.why, _tiles(picture, mask, (level - low) / (high - low)), panels)


def uncropped(anomaly: npt.NDArray[Any], size: tuple[int, int], record: Record) -> npt.NDArray[np.float32]:
    """Return a map laid over the whole image of `size` (width, height): float32 [h, w], NaN where the crop cut away."""
    protocol, kept = protocol_of(record), record.input_size
    resized = protocol.resize_for(kept)
    start = round((resized - kept) / 2.0)
    left, right = (round(size[0] * edge / resized) for edge in (start, start + kept))
    top, bottom = (round(size[1] * edge / resized) for edge in (start, start + kept))
    inside = Image.fromarray(np.asarray(anomaly, dtype=np.float32))
    inside = inside.resize((right - left, bottom - top), Image.Resampling.BILINEAR)
    whole = np.full(size[::-1], np.nan, dtype=np.float32)
    whole[top:bottom, left:right] = np.asarray(inside)
    return whole


def _tiles(picture: Pixels, mask: npt.NDArray[np.bool_], heat: npt.NDArray[Any]) -> tuple[Pixels, ...]:
    grey = picture.mean(axis=2, keepdims=True)
    truth = np.where(mask[..., None], 245, grey * 0.28)
    coloured = np.where(np.isnan(heat)[..., None], grey * 0.28, _colours(heat))
    over = overlay(picture, heat)
    over[_outline(mask)] = (64, 224, 208)
    return *(np.clip(tile, 0, 255).astype(np.uint8) for tile in (picture, truth + 0 * picture, coloured)), over


def overlay(picture: Pixels, heat: npt.NDArray[Any]) -> Pixels:
    """Return a picture with a map over it, the stronger the hotter.

    Args:
        picture: uint8 [h, w, 3].
        heat: [h, w], 0 where the colour scale begins and 1 where it ends; NaN where there is no map.
    """
    weight = np.where(np.isnan(heat), 0, 0.15 + 0.65 * _level(heat))[..., None]
    mixed = picture * (1 - weight) + _colours(heat) * weight
    return np.asarray(np.clip(mixed, 0, 255), dtype=np.uint8)


def _level(heat: npt.NDArray[Any]) -> npt.NDArray[Any]:
    return np.where(np.isnan(heat), 0, np.clip(heat, 0, 1))


def _colours(heat: npt.NDArray[Any]) -> npt.NDArray[Any]:
    from matplotlib import colormaps

    return np.asarray(colormaps["inferno"](_level(heat))[..., :3] * 255)


def _outline(mask: npt.NDArray[np.bool_]) -> npt.NDArray[np.bool_]:
    """Return the pixels just outside a mask."""
    grown = mask.copy()
    for axis in (0, 1):
        for step in (1, -1):
            moved = np.roll(mask, step, axis)
            # nothing comes in from the other side
            edge = 0 if step == 1 else -1
            moved[(edge, slice(None)) if axis == 0 else (slice(None), edge)] = False
            grown |= moved
    return grown & ~mask


def _drawing(shots: Sequence[GalleryImage]) -> Callable[[], Canvas] | None:
    if not shots:
        return None

    def draw() -> Canvas:
        whole = canvas(6.6, 1.95 * len(shots) + 0.2)
        axes = whole.subplots(len(shots), len(PANELS), squeeze=False)
        for row, shot in zip(axes, shots, strict=True):
            for ax, tile, name in zip(row, shot.tiles, shot.panels, strict=True):
                ax.imshow(tile)
                ax.set_axis_off()
                if row is axes[0] or name not in PANELS:
                    ax.set_title(name)
            below = row[0].annotate(f"{shot.title}. {shot.why}", (0, -0.03), xycoords="axes fraction", va="top")
            # it runs below all four pictures, and the layout would make the first column as wide as it
            below.set_in_layout(False)
        return whole

    return draw
