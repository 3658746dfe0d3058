"""Unusual images and masks, read but perhaps not as they look: told by `bench data verify` and by a run.

None of this changes a pixel. It is found in what decoding shows anyway (`Traits` of images, `MaskTraits` of masks),
gathered by class, and told as findings; rules that need all of a class, such as that no image uses the upper bits, are
applied at the end.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TypeVar

from bench.loading.images import PLAIN, Traits
from bench.loading.masks import MaskTraits
from bench.sample import Finding, Sample

MASKS_OF_NORMAL = 0.5
"""Share of the images above which a class's masks, on average, are taken to mark what is normal."""
SOFT = 1.25
"""A class's masks are called soft where they mark so many times the area that a threshold at half would leave."""
SOFT_LEVELS = 8
"""A mask with fewer values marks kinds of defects by numbers rather than edges by shades."""
UPPER_BITS = 1 << 14
"""Images of 16 bits are called dark where no value of a class reaches a quarter of the range: 12-bit data, or less."""
_TITLES = {
    "orientation": "files with an EXIF orientation, which is not applied",
    "frames": "files of several pictures, of which the first is read",
    "transparent": "images with transparent pixels, whose colours are read",
    "low-bits": "16-bit images that use the lower bits alone, of which the high byte is read",
    "lossy-mask": "masks in a lossy format, of which every value above zero counts",
    "soft-mask": "masks with soft edges, of which every value above zero counts",
    "wide-mask": "masks that mark most of their images",
    "unread": "places with pictures that are not read",
    "unreadable": "folders that cannot be looked into",
    "empty-mask": "masks that are all zero, counted as normal pixels",
}
_told: set[str] = set()
K = TypeVar("K")


@dataclass(slots=True)
class _Class:
    deep: int = 0
    """Images of more than 8 bits."""
    peak: int = 0
    """Greatest value among them."""
    example: Path | None = None
    masks: list[tuple[Path, float, bool]] = field(default_factory=list)
    """File, marked share, whether its border is marked all round."""
    soft: int = 0
    """Masks of many shades."""
    marked: int = 0
    """Pixels that they mark."""
    upper: int = 0
    """Pixels that they would mark by a threshold at half."""


class Surprises:
    """Gathers what is read otherwise than it looks, image by image and mask by mask, in one thread."""

    def __init__(self, root: Path) -> None:
        """Begin with nothing; findings name files relative to `root`."""
        self._root = root
        self._classes: dict[str, _Class] = {}
        self._findings: list[Finding] = []

    def image(self, sample: Sample, traits: Traits) -> None:
        """Take in an image that was decoded."""
        if traits == PLAIN:
            return
        path = sample.image
        if traits.orientation != 1:
            text = f"EXIF orientation {traits.orientation}, which viewers apply and bench does not"
            self._find(sample.cls, "orientation", path, f"{text}. Expected upright pixels; turn it, masks likewise")
        if traits.frames > 1:
            self._find(
                sample.cls, "frames", path, "several pictures in one file, of which the first is read. Expected one"
            )
        if traits.transparent:
            text = f"{traits.transparent:.1%} of its pixels are transparent, yet their colours are read. "
            self._find(sample.cls, "transparent", path, f"{text}Expected an opaque image; flatten it")
        if traits.peak is not None:
            own = self._classes.setdefault(sample.cls, _Class())
            own.deep += 1
            if own.example is None or traits.peak > own.peak:
                own.peak, own.example = traits.peak, path

    def mask(self, sample: Sample, path: Path, found: MaskTraits) -> None:
        """Take in a mask that was decoded."""
        cls = sample.cls
        own = self._classes.setdefault(cls, _Class())
        own.masks.append((path, found.share, found.framed))
        if found.orientation != 1:
            text = f"EXIF orientation {found.orientation}, which viewers apply and bench does not"
            self._find(cls, "orientation", path, f"{text}. Expected upright pixels, as its image's")
        if found.frames > 1:
            self._find(cls, "frames", path, "several pictures in one file, of which the first is read. Expected one")
        if found.lossy:
            text = "a mask in a lossy format, whose edges grow by what compression adds"
            self._find(cls, "lossy-mask", path, f"{text}. Expected PNG, BMP or TIFF of 0 and 255; threshold it first")
        elif found.levels >= SOFT_LEVELS:
            own.soft += 1
            own.marked += found.marked
            own.upper += found.upper

    def empty(self, sample: Sample) -> None:
        """Take in an anomalous image whose masks mark nothing."""
        text = f"all zero, though {sample.image} is anomalous. Expected the defect in it"
        self._find(sample.cls, "empty-mask", sample.masks[0], f"{text}; its pixels count as normal")

    @property
    def empties(self) -> dict[str, int]:
        """Class -> anomalous images whose masks mark nothing."""
        return dict(Counter(finding.cls for finding in self._findings if finding.kind == "empty-mask"))

    def findings(self) -> list[Finding]:
        """Return what was found, with what holds for whole classes."""
        of_classes = [finding for cls, own in self._classes.items() for finding in self._of_class(cls, own)]
        return [*self._findings, *of_classes]

    def _of_class(self, cls: str, own: _Class) -> Iterator[Finding]:
        if own.deep and own.peak < UPPER_BITS:
            bits, levels = max(own.peak.bit_length(), 1), (own.peak >> 8) + 1
            text = (
                f"class '{cls}': no value of its {own.deep} images of 16 bits is above {own.peak:,} of 65,535: "
                f"{bits}-bit data? {levels} grey levels are left of it, such as in {own.example}. Expected the whole "
                f"range; multiply by {1 << 16 - bits} or convert to 8 bit"
            )
            yield Finding(cls, "low-bits", cls, text, stops=False)
        if own.marked > SOFT * own.upper:
            text = (
                f"class '{cls}': {own.soft} masks have soft edges; any value above zero counts, which marks "
                f"{own.marked / max(own.upper, 1):.2f} times the area above half. Expected 0 and 255; threshold them"
            )
            yield Finding(cls, "soft-mask", cls, text, stops=False)
        yield from self._wide(cls, own.masks)

    def _wide(self, cls: str, masks: Sequence[tuple[Path, float, bool]]) -> Iterator[Finding]:
        shares = [share for _, share, _ in masks]
        mean = sum(shares) / len(shares) if shares else 0.0
        if masks and (mean > MASKS_OF_NORMAL or all(framed for _, _, framed in masks)):
            text = f"class '{cls}': its {len(masks)} masks mark {mean:.1%} of their images on average"
            if all(framed for _, _, framed in masks):
                text += ", and the whole border of each"
            yield Finding(
                cls, "wide-mask", cls, f"{text}. Expected the defect alone above zero; inverted?", stops=False
            )
            return
        for path, share, framed in masks:
            if framed and share > MASKS_OF_NORMAL:
                text = f"{path}: it marks {share:.1%} of its image and all of the border. Expected the defect alone"
                yield Finding(cls, "wide-mask", _relative(path, self._root), f"{text}; inverted?", stops=False)

    def _find(self, cls: str, kind: str, path: Path, text: str) -> None:
        self._findings.append(Finding(cls, kind, _relative(path, self._root), f"{path}: {text}", stops=False))


def tell(findings: Iterable[Finding], say: Callable[[str], None], advice: str) -> None:
    """Say in a line a class and kind what was found, once a process: a sweep's cells read the same files.

    Args:
        findings: that stop nothing.
        say: takes a line.
        advice: the command that lists all of them.
    """
    groups = _grouped(findings, lambda finding: (finding.cls, finding.kind)).items()
    lines = [
        f"{kind}: {found[0].text}" + (f" (and {len(found) - 1} more)" if len(found) > 1 else "")
        for (_, kind), found in groups
    ]
    fresh = [line for line in lines if line not in _told]
    for line in fresh:
        say(line)
    if fresh:
        say(f"this stops nothing; list all with: {advice}")
    _told.update(fresh)


def notes(findings: Iterable[Finding]) -> tuple[str, ...]:
    """Return what a reader of scores has to know, a sentence a kind of finding, with how many each class has."""
    return tuple(
        _TITLES[kind] + "".join(f"{', ' if place else ': '}{cls} {count}" for place, (cls, count) in enumerate(counts))
        for kind, found in _grouped(findings, lambda finding: finding.kind).items()
        if kind in _TITLES
        for counts in [[(cls, count) for cls, count in Counter(one.cls for one in found).items() if cls]]
    )


def _grouped(findings: Iterable[Finding], key: Callable[[Finding], K]) -> dict[K, list[Finding]]:
    groups: dict[K, list[Finding]] = {}
    for finding in findings:
        groups.setdefault(key(finding), []).append(finding)
    return groups


def _relative(path: Path, root: Path) -> str:
    return path.relative_to(root).as_posix() if path.is_relative_to(root) else path.as_posix()
