"""Ground-truth masks: reading them at native size, and reducing them to the evaluation size by a protocol's rule."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from PIL import Image

from bench.errors import DatasetError
from bench.loading import modes
from bench.loading.decoding import decode, peek_size
from bench.protocol import Protocol
from bench.sample import Sample

Mask = npt.NDArray[np.bool_]
FRAMED = 0.95
"""Share of a mask's outermost pixels from which on its border is called marked all round."""


@dataclass(frozen=True, slots=True)
class MaskTraits:
    """What of a mask file may surprise whoever drew it."""

    share: float
    """Share of the picture that is marked."""
    framed: bool
    """Whether the picture's border is marked all round, as it is where a mask marks what is normal."""
    marked: int
    """Pixels that are not black."""
    upper: int
    """Pixels above half of the greatest value: what a threshold there would mark."""
    levels: int
    """Different values above zero; a drawn mask has one, or one a kind of defect."""
    lossy: bool
    """Whether its format changes values."""
    orientation: int
    """EXIF orientation that viewers apply and bench does not."""
    frames: int
    """Pictures in the file, of which the first is read; 2 stands for any more."""


def read_union(sample: Sample, seen: Callable[[Path, MaskTraits], None] = lambda path, traits: None) -> Mask:
    """Return the anomalous area of a sample at its image's size: the union of its mask files.

    A normal sample's mask is all False at the size of its image. Every non-zero value counts, since some datasets
    store class indices 1..9 instead of 255 (VisA).

    Args:
        sample: gives the files.
        seen: told of each mask file's traits.

    Returns:
        bool [H, W], True = anomalous.

    Raises:
        DatasetError: a mask cannot be read or has another size than the image (`Sample.scaled_masks`: other
            proportions), or an anomalous sample has no mask (its dataset or class is image-level only).
    """
    if sample.label and not sample.masks:
        raise DatasetError(
            f"{sample.id}: anomalous, but it comes without a pixel mask. Expected a mask file; image-level data has no "
            "pixel scores."
        )
    width, height = peek_size(sample.image)
    union = np.zeros((height, width), dtype=np.bool_)
    for path in sample.masks:
        mask, traits = look(path)
        seen(path, traits)
        if not fits(mask.shape, union.shape, sample.scaled_masks):
            expected = "the same proportions" if sample.scaled_masks else "equal sizes"
            raise DatasetError(
                f"{path}: mask of {mask.shape[1]}x{mask.shape[0]} pixels, but its image {sample.image} has "
                f"{width}x{height}. Expected {expected}. List every such file with: bench data verify NAME --root DIR"
            )
        if sample.scaled_masks:
            mask = mask[_below_centres(len(mask), height)[:, None], _below_centres(mask.shape[1], width)]
        union |= mask
    return union


def fits(mask: tuple[int, ...], image: tuple[int, ...], scaled: bool) -> bool:
    """Whether a mask of some (H, W) can be an image's: of its size, or `scaled` of its proportions, up to rounding."""
    if not scaled:
        return mask == image
    return abs(mask[0] * image[1] - mask[1] * image[0]) <= max(image)


def read_one_kind(path: Path) -> tuple[Mask, int]:
    """Return a mask, bool [H, W], and the one value that its marked pixels have: the number of a kind of defect.

    Raises:
        DatasetError: the file cannot be read as an image, marks nothing, or has pixels of several values.
    """
    values = _values(decode(path).image, path)
    kinds = np.unique(values[values != 0]).tolist()
    if len(kinds) != 1 or kinds[0] != int(kinds[0]):
        shown = ", ".join(map(str, kinds[:4])) or "nothing but 0"
        raise DatasetError(f"{path}: found {shown}, expected one value above 0, the number of a kind of defect")
    return values != 0, int(kinds[0])


class AlphaError(DatasetError):
    """A mask's transparency and its colours show different areas."""


def read_mask_file(path: Path) -> Mask:
    """Return bool [H, W]: where the file's colour is not black; raises as `look`."""
    return look(path)[0]


def look(path: Path, sums: bool = False) -> tuple[Mask, MaskTraits]:
    """Read a mask, bool [H, W]: every pixel counts whose colour is not black, whatever the file's mode.

    Palette files count by their colours, so a palette that puts black last reads the same. CMYK and the like are
    converted first. Alpha is no colour; where it shows another area than the colours do the mask is refused.

    Args:
        path: the file.
        sums: check a PNG's checksums as well.

    Raises:
        AlphaError: colours and alpha contradict each other.
        DatasetError: the file cannot be read as an image, or holds a value that is no number.
    """
    picture = decode(path, sums)
    values = _values(picture.image, path)
    mask: Mask = values != 0
    _check_alpha(mask, modes.alpha(picture.image), path)
    levels, upper = _levels(values)
    border = np.concatenate([mask[0], mask[-1], mask[:, 0], mask[:, -1]])
    return mask, MaskTraits(
        share=float(mask.mean()),
        framed=float(border.mean()) >= FRAMED,
        marked=int(mask.sum()),
        upper=upper,
        levels=levels,
        lossy=picture.lossy,
        orientation=picture.orientation,
        frames=picture.frames,
    )


def _values(image: Image.Image, path: Path) -> npt.NDArray[Any]:
    """Return numbers [H, W] that are zero where the picture is black: the greatest of its colour channels."""
    if image.mode == "LAB":  # what has no lightness is black; converted, rounding would make it nearly black
        return np.asarray(image.getchannel("L"))
    if image.mode == "LA":
        return np.asarray(image.getchannel("L"))
    if image.mode not in ("1", "L") and not modes.is_wide(image):
        greatest: npt.NDArray[np.uint8] = np.asarray(modes.to_rgb(image)).max(axis=2)
        return greatest
    values = np.asarray(image)
    if values.dtype.kind == "f" and not np.isfinite(values).all():
        raise DatasetError(f"{path}: a value that is no finite number. Expected a mask, 0 where there is no defect")
    if values.dtype != np.bool_ and values.min() < 0:
        raise DatasetError(f"{path}: a value of {values.min():g}. Expected a mask, 0 where there is no defect")
    return values


def _check_alpha(marked: Mask, alpha: npt.NDArray[np.uint8] | None, path: Path) -> None:
    if alpha is None or (alpha == alpha[0, 0]).all():
        return
    advice = "Expected the defect in the colours, not black, on black; flatten the mask onto black"
    clear = float((alpha == 0).mean())
    if marked.all() or not marked.any():
        what = "all" if marked.all() else "nothing"
        shape = f"its shape is in the alpha channel alone ({clear:.1%} transparent)"
        raise AlphaError(f"{path}: its colours mark {what}; {shape}. {advice}")
    if (marked & (alpha == 0)).any():
        hidden = "part of which is transparent and looks empty"
        raise AlphaError(f"{path}: its colours mark {marked.mean():.1%} of it, {hidden}. {advice}")


def _levels(values: npt.NDArray[Any]) -> tuple[int, int]:
    if values.dtype == np.bool_:
        marked = int(values.sum())
        return min(marked, 1), marked
    greatest = values.max()
    if values.dtype == np.uint8:
        counts = np.bincount(values.ravel(), minlength=256)
        return int((counts[1:] > 0).sum()), int(counts[int(greatest) // 2 + 1 :].sum())
    return int((np.unique(values) != 0).sum()), int((values > greatest / 2).sum())


def to_evaluation(mask: Mask, protocol: Protocol, input_size: int) -> Mask:
    """Reduce a native mask to the pixels that maps are compared on.

    Args:
        mask: bool [H, W] at native size.
        protocol: gives the crop, the evaluation size S and the rule (`Protocol.mask_rule`).
        input_size: side of the network's input in pixels, which fixes where the centre crop falls.

    Returns:
        bool [S, S] over the same region of the image that the network saw.
    """
    if not mask.any():
        return np.zeros((protocol.eval_size, protocol.eval_size), dtype=np.bool_)
    if protocol.mask_rule == "area":
        return _by_area(mask, protocol, input_size)
    if protocol.mask_rule in ("ader", "full"):
        return _by_ader(mask, protocol, 127 if protocol.mask_rule == "ader" else 254)
    if protocol.mask_rule == "nearest":
        return _by_nearest(mask, protocol, input_size)
    return _by_dinomaly(mask, protocol, input_size)


def _by_area(mask: Mask, protocol: Protocol, input_size: int) -> Mask:
    """Mark evaluation pixels of which at least half the area is anomalous; exact, in integers.

    A mean in floating point would decide exact halves by its rounding, and with it whole rows of a straight edge.
    """
    resized = protocol.resize_for(input_size)
    offset = _crop_offset(resized, input_size)
    rows = _bin_sums(mask, resized, offset, input_size, protocol.eval_size)
    sums = _bin_sums(np.ascontiguousarray(rows.T), resized, offset, input_size, protocol.eval_size).T
    full = (mask.shape[0] * input_size) * (mask.shape[1] * input_size)
    half: Mask = 2 * sums >= full
    return half


def _bin_sums(
    values: npt.NDArray[np.bool_] | npt.NDArray[np.int64], resized: int, offset: int, kept: int, bins: int
) -> npt.NDArray[np.int64]:
    """Integrate along axis 0 over `bins` equal bins of the kept region, in units of 1 / (resized * bins) of a row.

    The bins' edges are length * (offset + i * kept / bins) / resized: fractions with the one denominator
    resized * bins, hence integers in that unit. Returns int64 [bins, ...]; a full bin sums to length * kept.
    """
    length = values.shape[0]
    unit = resized * bins
    edges = length * (offset * bins + np.arange(bins + 1, dtype=np.int64) * kept)
    whole, part = np.divmod(edges, unit)
    # counts of a bool mask fit int32, which halves the memory of a 5000x5000 one
    total = np.zeros((length + 1, *values.shape[1:]), dtype=np.int32 if values.dtype == np.bool_ else np.int64)
    np.cumsum(values, axis=0, out=total[1:])
    # the last edge may be the image's own border, where no row follows and `part` is 0
    integral = total[whole].astype(np.int64) * unit + values[np.minimum(whole, length - 1)] * part[:, None]
    sums: npt.NDArray[np.int64] = np.diff(integral, axis=0)
    return sums


def _by_dinomaly(mask: Mask, protocol: Protocol, input_size: int) -> Mask:
    """Dinomaly's official chain; any trace of a soft edge counts, so masks grow slightly.

    Masks are 0 and 255 here, whatever greys the file holds; the official code resizes the greys. No pixel differs where
    a file holds 0 and 255 alone.
    """
    cropped = _resized(mask, protocol, input_size)
    index = nearest_index(input_size, protocol.eval_size)
    nonzero: Mask = cropped[np.ix_(index, index)] > 0
    return nonzero


def _by_ader(mask: Mask, protocol: Protocol, above: int) -> Mask:
    """ADer's official chain, which resizes images and masks to the evaluation size alike; greys as in Dinomaly's."""
    marked: Mask = _resized(mask, protocol, protocol.eval_size) > above
    return marked


def _resized(mask: Mask, protocol: Protocol, kept: int) -> npt.NDArray[np.uint8]:
    """Return the mask as 0 to 255, resized bilinearly and cropped to `kept` pixels a side."""
    resized = protocol.resize_for(kept)
    image = Image.fromarray(mask.astype(np.uint8) * 255, "L").resize((resized, resized), Image.Resampling.BILINEAR)
    offset = _crop_offset(resized, kept)
    return np.asarray(image)[offset : offset + kept, offset : offset + kept]


def _by_nearest(mask: Mask, protocol: Protocol, input_size: int) -> Mask:
    """Take the native pixel below each evaluation pixel's centre, as Pillow's nearest resize does; in integers."""
    resized, size = protocol.resize_for(input_size), protocol.eval_size
    centres = 2 * size * _crop_offset(resized, input_size) + (2 * np.arange(size, dtype=np.int64) + 1) * input_size
    rows, columns = (length * centres // (2 * size * resized) for length in mask.shape)
    return mask[np.ix_(rows, columns)]


def nearest_index(source: int, target: int) -> npt.NDArray[np.int64]:
    """Return int64 [target]: which source pixel torch's `interpolate(mode="nearest")` reads for each target pixel.

    It is the legacy floor rule, not `nearest-exact`; torch computes it in float32, which matters for some sizes.
    """
    scale = np.float32(source) / np.float32(target)
    index = np.floor(np.arange(target, dtype=np.float32) * scale).astype(np.int64)
    inside: npt.NDArray[np.int64] = np.minimum(index, source - 1)
    return inside


def _below_centres(source: int, target: int) -> npt.NDArray[np.int64]:
    """Return int64 [target]: which of `source` pixels lies below the centre of each of `target`, exactly."""
    index: npt.NDArray[np.int64] = (2 * np.arange(target, dtype=np.int64) + 1) * source // (2 * target)
    return index


def _crop_offset(size: int, crop: int) -> int:
    """Return where a centre crop begins, rounded as torchvision's `CenterCrop` does."""
    return round((size - crop) / 2.0)
