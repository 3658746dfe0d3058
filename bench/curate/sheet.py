"""Contact sheets of a dataset: normal images, and what its owners call defective (`bench data sheet`).

A class takes a row of normal training images, then its defect types: each example twice, as it is, and with the masked
area tinted and outlined. The outline lies outside the area, so that a defect of three pixels stays visible. A semantic
class takes a row of training and one of test images.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from PIL import Image, ImageChops, ImageDraw, ImageFilter, ImageFont, ImageOps

from bench.api import Dataset, Sample, by_class
from bench.errors import UsageError
from bench.loading.masks import Mask

COLUMNS = 8
THUMB = 208
"""Side of an image's square cell in pixels."""
_GAP = 10
_CAPTION = 24
_TITLE = 58
_MARGIN = 24
_PAPER, _INK, _FAINT, _RULE = (255, 255, 255), (24, 24, 27), (100, 100, 110), (210, 210, 216)
_MARK = (255, 0, 72)
_CELL_FILL = (240, 240, 243)


@dataclass(frozen=True, slots=True)
class _Cell:
    caption: str
    sample: Sample
    marked: bool = False


def contact_sheet(
    dataset: Dataset,
    classes: Sequence[str] = (),
    normals: int = COLUMNS,
    examples: int = 2,
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> Image.Image:
    """Draw the sheet.

    Args:
        dataset: located and intact.
        classes: which, in this order; all of them where empty.
        normals: normal training images a class, at most.
        examples: examples a defect type, at most, spread over its files.
        progress: called as progress(done, total) after each class.

    Returns:
        Mode RGB, about 1,800 pixels wide, as high as the classes need.

    Raises:
        UsageError: a class that the dataset does not have.
        DatasetError: the dataset, an image or a mask cannot be read.
    """
    groups = by_class(dataset.samples())
    unknown = [cls for cls in classes if cls not in groups]
    if unknown:
        raise UsageError(
            f"{dataset.card.name} has no class '{unknown[0]}' at {dataset.root}. There: {', '.join(groups)}"
        )
    chosen = list(classes) or list(groups)
    strips = []
    for cls in chosen:
        strips.append(_class_strip(dataset, cls, groups[cls], normals, examples))
        progress(len(strips), len(chosen))
    sheet = Image.new("RGB", (strips[0].width, sum(strip.height for strip in strips)), _PAPER)
    top = 0
    for strip in strips:
        sheet.paste(strip, (0, top))
        top += strip.height
    return sheet


def outline(image: Image.Image, mask: Mask) -> Image.Image:
    """Return the image with the masked area tinted and a line drawn round it.

    Args:
        image: mode RGB, W x H, already at the size it is looked at.
        mask: bool [h, w] over the same picture, at any size.
    """
    # any pixel that the mask touches is marked: a nearest resize would lose what is thinner than a screen pixel
    share = Image.fromarray(mask.astype(np.float32), "F").resize(image.size, Image.Resampling.BOX)
    area = Image.fromarray(((np.asarray(share) > 0) * 255).astype(np.uint8), "L")
    tinted = Image.composite(Image.blend(image, Image.new("RGB", image.size, _MARK), 0.22), image, area)
    near = area.filter(ImageFilter.MaxFilter(3))
    line = ImageChops.subtract(near.filter(ImageFilter.MaxFilter(5)), near)
    return Image.composite(Image.new("RGB", image.size, _MARK), tinted, line)


def _class_strip(dataset: Dataset, cls: str, samples: Sequence[Sample], normals: int, examples: int) -> Image.Image:
    rows = _rows(samples, normals, examples, dataset.card.kind == "semantic")
    width = 2 * _MARGIN + COLUMNS * THUMB + (COLUMNS - 1) * _GAP
    strip = Image.new("RGB", (width, _TITLE + len(rows) * (THUMB + _CAPTION + _GAP) + _MARGIN), _PAPER)
    draw = ImageDraw.Draw(strip)
    draw.line((_MARGIN, 8, width - _MARGIN, 8), fill=_RULE, width=2)
    draw.text((_MARGIN, 18), cls, fill=_INK, font=ImageFont.load_default(24))
    facts = ", ".join(_facts(samples, dataset.card.kind == "semantic"))
    draw.text((width - _MARGIN, 24), facts, fill=_FAINT, font=ImageFont.load_default(16), anchor="ra")
    top = _TITLE
    for row in rows:
        for column, cell in enumerate(row):
            _draw_cell(strip, draw, dataset, cell, (_MARGIN + column * (THUMB + _GAP), top))
        top += THUMB + _CAPTION + _GAP
    return strip


def _facts(samples: Sequence[Sample], semantic: bool) -> Iterator[str]:
    kinds = [(sample.split, sample.label) for sample in samples]
    yield f"{kinds.count(('train', 0))} train"
    if val := sum(split == "val" for split, _ in kinds):
        yield f"{val} validation"
    yield f"{kinds.count(('test', 0))} test{'' if semantic else ' normal'}"
    if not semantic:
        yield f"{kinds.count(('test', 1))} test anomalous"
    if unlabelled := sum(split == "unlabelled" for split, _ in kinds):
        yield f"{unlabelled} unlabelled"


def _rows(samples: Sequence[Sample], normals: int, examples: int, semantic: bool) -> list[list[_Cell]]:
    """Arrange a class: normal images, then each defect type; of a semantic class training images, then test images."""
    train = [sample for sample in samples if sample.split == "train" and not sample.label]
    word = "train" if semantic else "normal"
    cells = [_Cell(f"{word} {_stem(sample)}", sample) for sample in _spread(train, normals)]
    if semantic:
        test = [sample for sample in samples if sample.split == "test"]
        cells += [_Cell(f"test {_stem(sample)}", sample) for sample in _spread(test, normals)]
    rows = [cells[start : start + COLUMNS] for start in range(0, len(cells), COLUMNS)]
    defects: dict[str, list[Sample]] = {}
    for sample in samples:
        if sample.label:
            defects.setdefault(sample.defect, []).append(sample)
    shown: list[_Cell] = []
    for defect, found in sorted(defects.items()):
        for sample in _spread(found, examples):
            shown.append(_Cell(f"{defect} {_stem(sample)}", sample))
            if sample.masks:
                shown.append(_Cell("its mask", sample, marked=True))
    return rows + list(_filled(shown))


def _filled(cells: Sequence[_Cell]) -> Iterator[list[_Cell]]:
    """Break cells into rows without parting an image from its marked twin."""
    row: list[_Cell] = []
    for index, cell in enumerate(cells):
        pair = index + 1 < len(cells) and cells[index + 1].marked
        if len(row) + (2 if pair else 1) > COLUMNS and not cell.marked:
            yield row
            row = []
        row.append(cell)
    if row:
        yield row


def _draw_cell(
    strip: Image.Image, draw: ImageDraw.ImageDraw, dataset: Dataset, cell: _Cell, at: tuple[int, int]
) -> None:
    image = ImageOps.contain(dataset.read_image(cell.sample), (THUMB, THUMB), Image.Resampling.LANCZOS)
    if cell.marked:
        image = outline(image, dataset.read_mask(cell.sample))
    left, top = at
    draw.rectangle((left, top, left + THUMB - 1, top + THUMB - 1), fill=_CELL_FILL)
    strip.paste(image, (left + (THUMB - image.width) // 2, top + (THUMB - image.height) // 2))
    # a frame, since bright images would melt into the paper
    draw.rectangle((left, top, left + THUMB - 1, top + THUMB - 1), outline=_RULE)
    font = ImageFont.load_default(15)
    draw.text(
        (left, top + THUMB + 4), _fitting(draw, cell.caption, font), fill=_FAINT if cell.marked else _INK, font=font
    )


def _fitting(draw: ImageDraw.ImageDraw, text: str, font: ImageFont.FreeTypeFont | ImageFont.ImageFont) -> str:
    if draw.textlength(text, font=font) <= THUMB:
        return text
    while text and draw.textlength(text + "…", font=font) > THUMB:
        text = text[:-1]
    return text + "…"


def _spread(samples: Sequence[Sample], count: int) -> list[Sample]:
    """Choose `count` samples evenly over the list, the same ones every time."""
    if len(samples) <= count:
        return list(samples)
    return [samples[index * len(samples) // count] for index in range(count)]


def _stem(sample: Sample) -> str:
    return sample.id.rpartition("/")[2]
