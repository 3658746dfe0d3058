"""Regions of a class with what may decide whether they are found: area, contrast, place; and whether they were."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from PIL import Image
from scipy import ndimage

from bench.errors import BenchError
from bench.metrics import find_regions
from bench.metrics.thresholds import Normals
from bench.protocol import Protocol
from bench.report.figures.series import FigureSeries
from bench.store.evidence import EvidenceFiles, Lacking, protocol_of

RULE = "q0.99"
"""Of the highest pixels of normal test images: one in a hundred is a false alarm at most."""
AROUND = 8
"""Pixels at the evaluation size: what lies that near a region and in none is what it stands out from."""

Floats = npt.NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class DefectRegions:
    """Some regions, [R] each."""

    area: Floats
    """Share of the image, in (0, 1]."""
    contrast: Floats
    """Largest difference of a colour's mean to that of its surroundings, as a share of the whole range, in [0, 1]."""
    place: Floats
    """Distance of the centre from the image's nearest edge, 0 at the edge and 1 in the middle."""
    found: npt.NDArray[np.bool_]
    """Whether a pixel of it is above RULE's threshold."""


def joined(parts: list[DefectRegions]) -> DefectRegions:
    """Return the regions of several classes together."""
    names = ("area", "contrast", "place", "found")
    return DefectRegions(*(np.concatenate([getattr(part, name) for part in parts]) for name in names))


def regions_of(one: FigureSeries, dataset: str, cls: str, evidence: EvidenceFiles) -> DefectRegions | None:
    """Return the regions of a class; None where it has no masks or no normal image.

    Raises:
        Lacking: maps, masks or images are not at hand.
    """
    record = one.record_of(dataset, cls)
    if record.scores[cls].values.get("pixel/auroc") is None:
        return None
    maps, masks = np.asarray(evidence.maps(record, cls)), evidence.masks(record, cls)
    images = evidence.images(record)[cls]
    normal = maps[~images.labels]
    if not len(normal) or maps.shape != masks.shape:
        return None
    highest = normal.reshape(len(normal), -1).max(axis=1)
    normals = Normals(len(highest))
    normals.add(highest)
    regions = find_regions(masks)
    hottest = np.full(len(regions.areas), -np.inf)
    np.maximum.at(hottest, regions.index, maps[masks])
    places = np.flatnonzero(masks.any(axis=(1, 2)))
    from_files, samples = evidence.samples(record, [images.ids[place] for place in places])
    contrasts: list[float] = []
    distances: list[float] = []
    for place, sample in zip(places, samples, strict=True):
        try:
            picture = seen(from_files.read_image(sample), protocol_of(record))
        except BenchError as error:
            raise Lacking(str(error)) from error
        for contrast, distance in look(picture, masks[place]):
            contrasts.append(contrast)
            distances.append(distance)
    return DefectRegions(
        area=regions.areas / masks[0].size,
        contrast=np.array(contrasts),
        place=np.array(distances),
        found=hottest > normals.thresholds()[RULE],
    )


def seen(image: Image.Image, protocol: Protocol) -> Floats:
    """Return what the protocol's crop leaves of an image at the evaluation size: [S, S, 3] in [0, 1]."""
    (width, height), edge = image.size, (1 - protocol.crop) / 2
    box = (width * edge, height * edge, width * (1 - edge), height * (1 - edge))
    side = protocol.eval_size
    return np.asarray(image.convert("RGB").resize((side, side), Image.Resampling.BILINEAR, box)) / 255


def look(picture: Floats, mask: npt.NDArray[np.bool_]) -> list[tuple[float, float]]:
    """Return contrast and place of each 8-connected region of a mask, in the order of their first pixels.

    Args:
        picture: [S, S, 3] in [0, 1].
        mask: bool [S, S].
    """
    labelled, _ = ndimage.label(mask, structure=np.ones((3, 3)))
    side, found = len(mask), []
    for number, box in enumerate(ndimage.find_objects(labelled), start=1):
        part = tuple(slice(max(0, one.start - AROUND), min(side, one.stop + AROUND)) for one in box)
        own = labelled[part] == number
        near = ndimage.distance_transform_cdt(~own, metric="chessboard") <= AROUND
        around = near & ~mask[part]
        inside, outside = picture[part][own], picture[part][around]
        contrast = float(np.abs(inside.mean(axis=0) - outside.mean(axis=0)).max()) if len(outside) else 0.0
        rows, columns = np.nonzero(own)
        centre = np.array([rows.mean() + part[0].start, columns.mean() + part[1].start]) + 0.5
        found.append((contrast, float(2 * min(centre.min(), side - centre.max()) / side)))
    return found
